"""The payload log: what is put comes back, whatever it was; nothing blocks, nothing fails."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upkeep.errors import OutsideError
from upkeep.serving import payload
from upkeep.serving.payload import PayloadLog, read_events, read_line, without_columns
from upkeep.store import Store, open_store

NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC).timestamp()


def make(place: Path | Callable[[], Store], **options: Any) -> PayloadLog:
    return PayloadLog(place, service="m-v3", namespace="models", version="v3", **options)


def test_a_request_and_its_response_come_back(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.put("request", "r1", requested=NOON, at=NOON, body=b'{"instances": [{"a": 1}]}')
    log.put("response", "r1", requested=NOON, at=NOON + 0.25, body=b'{"predictions": []}')
    log.close()
    (file,) = tmp_path.rglob("*.jsonl")
    assert file.parent == tmp_path / "date=2026-03-01" / "hour=12"
    assert file.name.startswith(f"m-v3-{os.getpid()}-")
    line = orjson.loads(file.read_bytes().splitlines()[0])
    assert line == {
        "specversion": "1.0",
        "type": "org.kubeflow.serving.inference.request",
        "source": "/models/m-v3",
        "inferenceservicename": "m-v3",
        "namespace": "models",
        "component": "predictor",
        "endpoint": "",
        "upkeepversion": "v3",
        "id": "r1",
        "time": "2026-03-01T12:30:00.000000Z",
        "datacontenttype": "application/json",
        "data": {"instances": [{"a": 1}]},
    }
    request, response = read_events(tmp_path)
    assert (request.kind, request.id, request.version, request.service) == ("request", "r1", "v3", "m-v3")
    assert response.kind == "response" and response.id == "r1"
    assert response.time - request.time == timedelta(seconds=0.25)
    assert response.data == {"predictions": []}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(
    bodies=st.lists(
        st.binary(max_size=60) | JSON.map(lambda value: orjson.dumps(value, option=orjson.OPT_INDENT_2)), max_size=8
    )
)
def test_any_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = make(folder)
    for number, body in enumerate(bodies):
        log.put("request", f"é\n{number}", requested=NOON, at=NOON, body=body, is_json=None)
    log.close()
    events = list(read_events(folder))
    assert [event.id for event in events] == [f"é\n{number}" for number in range(len(bodies))]
    for event, body in zip(events, bodies, strict=True):
        assert event.data == (orjson.loads(body) if payload._is_json(body) else body)


def test_a_cut_line_and_nonsense_are_skipped(tmp_path: Path) -> None:
    log = make(tmp_path)
    for number in range(3):
        log.put("request", str(number), requested=NOON, at=NOON, body=b"{}")
    log.close()
    (file,) = tmp_path.rglob("*.jsonl")
    whole = file.read_bytes()
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        complete = whole[:cut].count(b"\n") + (whole[cut - 1 : cut + 1] == b"}\n")
        assert len(list(read_events(tmp_path))) == complete
    file.write_bytes(b"\n" + b"nonsense\n" + b"[]\n" + b'{"type": 3}\n' + whole)
    assert len(list(read_events(tmp_path))) == 3


@given(line=st.binary() | JSON.map(orjson.dumps))
def test_no_line_breaks_the_reader(line: bytes) -> None:
    read_line(line)


def test_a_late_response_lies_in_its_requests_hour(tmp_path: Path) -> None:
    log = make(tmp_path)
    for hours in range(5):
        moment = NOON + 3600 * hours
        log.put("request", str(hours), requested=moment, at=moment, body=b"{}")
    log.put("response", "late", requested=NOON, at=NOON + 3600, body=b"{}")
    log.close()
    assert [event.id for event in read_events(tmp_path)] == ["0", "late", "1", "2", "3", "4"]
    assert list(read_events(tmp_path / "nowhere")) == []


def test_a_full_queue_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    real = PayloadLog._write_waiting

    def held(self: PayloadLog) -> None:
        go.wait()
        real(self)

    monkeypatch.setattr(PayloadLog, "_write_waiting", held)
    log = make(tmp_path, most_events=3, most_bytes=100)
    for number in range(5):
        log.put("request", str(number), requested=NOON, at=NOON, body=b"{}")
    assert log.dropped == {"full": 2, "disk": 0}
    go.set()
    log.close()
    assert len(list(read_events(tmp_path))) == 3

    small = make(tmp_path / "small", most_bytes=10)
    small.put("request", "big", requested=NOON, at=NOON, body=b"x" * 11, is_json=False)
    assert small.dropped["full"] == 1
    small.close()


def test_a_disk_that_refuses_drops_and_counts_and_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    calls = []

    def short(descriptor: int, data: bytes) -> int:
        calls.append(1)
        if len(calls) == 1:
            return real(descriptor, bytes(data)[:10])
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(payload.os, "write", short)
    log = make(tmp_path)
    log.put("request", "lost", requested=NOON, at=NOON, body=b"{}")
    while not log.dropped["disk"]:
        threading.Event().wait(0.01)
    log.put("request", "kept", requested=NOON, at=NOON, body=b"{}")
    log.close()
    (file,) = tmp_path.rglob("*.jsonl")
    assert file.read_bytes().count(b"\n") == 1
    assert [event.id for event in read_events(tmp_path)] == ["kept"]

    (tmp_path / "file").write_text("in the way")
    blocked = make(tmp_path / "file")
    blocked.put("request", "1", requested=NOON, at=NOON, body=b"{}")
    blocked.close()
    assert blocked.dropped["disk"] == 1


def test_dropped_columns_are_nowhere_in_the_log(tmp_path: Path) -> None:
    log = make(tmp_path, drop=["tail"], columns=["a", "tail", "b"])
    bodies = [
        b'{"instances": [{"a": 1, "tail": "SECRET"}], "parameters": {"x": "SECRET"}}',
        b'{"instances": [[1, "SECRET", 2]]}',
        b'{"instances": [[1, "SECRET"]]}',
        b'{"id": "7", "inputs": [{"name": "a", "data": [1]}, {"name": "tail", "data": ["SECRET"]}]}',
        b'{"tail": "SECRET"}',
        b"SECRET, and no JSON",
        b'["SECRET"]',
    ]
    for body in bodies:
        log.put("request", "r", requested=NOON, at=NOON, body=body, is_json=None)
    log.close()
    (file,) = tmp_path.rglob("*.jsonl")
    assert b"SECRET" not in file.read_bytes()
    assert [event.data for event in read_events(tmp_path)] == [
        {"instances": [{"a": 1}]},
        {"instances": [[1, None, 2]]},
        None,
        {"id": "7", "inputs": [{"name": "a", "data": [1]}]},
        None,
        None,
        None,
    ]
    assert without_columns(b'{"instances": 3}', frozenset({"tail"}), ()) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": [{"name": ["SECRET"], "data": ["SECRET"]}]}',
        b'{"instances": [{"a": ' + b"[" * 300 + b'"SECRET"' + b"]" * 300 + b"}]}",
    ],
    ids=["a name that is a list", "deeper than can be written"],
)
def test_no_request_ends_the_log(tmp_path: Path, body: bytes) -> None:
    log = make(tmp_path, drop=["tail"], columns=["a", "tail"])
    log.put("request", "odd", requested=NOON, at=NOON, body=body)
    log.put("request", "next", requested=NOON, at=NOON, body=b'{"instances": [{"a": 1}]}')
    log.close()
    assert [(event.id, event.data) for event in read_events(tmp_path)] == [
        ("odd", None),
        ("next", {"instances": [{"a": 1}]}),
    ]


def in_store(store: Store) -> list[tuple[str, list[str]]]:
    """(hour, ids) of each object."""
    found = []
    for entry in sorted(store.list()):
        events = [read_line(line) for line in store.get(entry.key).splitlines()]
        found.append((entry.key.rpartition("/")[0], [event.id for event in events if event]))
    return found


def wait_for(seen: Callable[[], bool]) -> None:
    while not seen():
        threading.Event().wait(0.01)


def test_objects_hold_some_time_each_and_the_last_is_put_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "PART_BYTES", 1)
    store = open_store("memory://")
    log = make(lambda: store)
    log.put("request", "1", requested=NOON, at=NOON, body=b"{}")
    wait_for(lambda: len(in_store(store)) == 1)
    monkeypatch.setattr(payload, "PART_BYTES", 1 << 20)
    for name, moment in (("2", NOON), ("3", NOON + 3600), ("4", NOON)):
        log.put("request", name, requested=moment, at=moment, body=b"{}")
    log.close()
    assert in_store(store) == [
        ("date=2026-03-01/hour=12", ["1"]),
        ("date=2026-03-01/hour=12", ["2", "4"]),
        ("date=2026-03-01/hour=13", ["3"]),
    ]
    assert log.dropped == {"full": 0, "store": 0}


def test_what_a_store_refuses_is_put_later_under_the_same_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "PART_SECONDS", 0.0)
    store = open_store("memory://")
    tried: list[str] = []

    class Lame:
        """Keeps the first object, and says that it did not."""

        def put(self, key: str, data: bytes) -> None:
            tried.append(key)
            if len(tried) < 3:
                store.put(key, data)
                raise OutsideError("no answer")
            store.put(key, data)

    opened: list[int] = []

    def opens() -> Any:
        opened.append(1)
        if len(opened) == 1:
            raise OutsideError("no such host")
        return Lame()

    log = make(opens)
    log.put("request", "1", requested=NOON, at=NOON, body=b"{}")
    wait_for(lambda: len(tried) >= 1)
    log.put("request", "2", requested=NOON, at=NOON, body=b"{}")
    wait_for(lambda: len(tried) >= 3)
    log.close()
    assert [name for _, ids in in_store(store) for name in ids] == ["1", "2"]  # once each
    assert log.dropped == {"full": 0, "store": 0}


def test_what_never_gets_into_a_store_is_counted_and_holds_no_more_memory_than_it_may() -> None:
    def opens() -> Store:
        raise OutsideError("no such host")

    log = make(opens, most_bytes=1000)
    for number in range(9):
        log.put("request", str(number), requested=NOON, at=NOON, body=b"{}")
    log.close()
    assert log.dropped == {"full": 0, "store": 9}
