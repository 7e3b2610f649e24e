"""Answered rows from the log's lines: v1, v2 and other servers' forms; pairs; files; what is swept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.monitor.monitor_make import NOON, lines, make_spec, row, write_log
from upkeep.data.kinds import to_kind
from upkeep.monitor import payloads
from upkeep.monitor.payloads import Answers, Pairing, hour_of, log_files, read_answers, sweep, wanted
from upkeep.serving.payload import Event, PayloadLog, read_line
from upkeep.store import Store, open_store


def event(kind: Any, data: Any, *, id: str = "r1", version: str = "v1", service: str = "loans-v1") -> Event:
    return Event(id=id, kind=kind, time=NOON, service=service, namespace="models", version=version, data=data)


def answered(request: Any, response: Any, **changes: Any) -> list[dict[str, Any]]:
    answers = Answers(wanted(make_spec(Path("/nowhere"))))
    answers.add(event("request", request, **changes), event("response", response, **changes))
    batch = answers.take()
    assert len(answers) == 0 and batch.schema == answers.wanted.schema
    return batch.to_pylist()  # type: ignore[no-any-return]


SAID = {"predictions": [{"label": True, "probabilities": {"False": 0.2, "True": 0.8}}]}


def test_v1() -> None:
    (found,) = answered({"instances": [row("a", 2.0)]}, SAID)
    assert found == {
        "_key": "a", "_by_id": True, "_whole": True, "_request": "r1", "_row": 0, "_time": NOON, "_version": "v1",
        "_predicted": "true", "_probability": 0.8, "amount": 2.0, "region": "north", "asked": None, "loan": "a",
    }  # fmt: skip


def test_v2_says_the_same() -> None:
    tensors = [
        {"name": "amount", "shape": [2, 1], "datatype": "FP64", "data": [[2.0], [3.0]]},
        {"name": "region", "shape": [2], "datatype": "BYTES", "data": ["north", "south"]},
        {"name": "loan", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]},
    ]
    outputs = [
        {"name": "label", "shape": [2], "datatype": "BOOL", "data": [True, False]},
        {"name": "probabilities", "shape": [2, 2], "datatype": "FP64", "data": [0.2, 0.8, 0.9, 0.1],
         "parameters": {"classes": "[false,true]"}},
    ]  # fmt: skip
    first, second = answered({"inputs": tensors}, {"outputs": outputs})
    assert [first[name] for name in ("_key", "_predicted", "amount", "region")] == ["a", "true", 2.0, "north"]
    assert [second[name] for name in ("_key", "_predicted", "amount", "region")] == ["b", "false", 3.0, "south"]
    assert (first["_whole"], second["_whole"]) == (True, True)
    assert second["_row"] == 1
    # `False` of v1 and `false` of v2's JSON are one class
    assert (first["_probability"], second["_probability"]) == (0.8, 0.1)


def test_a_row_that_is_a_list_is_in_the_models_order() -> None:
    (found,) = answered({"instances": [[2.0, "north"]]}, SAID)
    assert (found["amount"], found["region"], found["_whole"], found["_by_id"]) == (2.0, "north", True, False)
    (found,) = answered({"instances": [[2.0]]}, SAID)
    assert (found["amount"], found["_whole"]) == (None, False)


def test_another_servers_bare_labels_and_kserves_own_agent() -> None:
    (found,) = answered({"instances": [row("a")]}, {"predictions": [1]}, version="", service="loans-v12")
    assert (found["_predicted"], found["_probability"], found["_version"]) == ("1", None, "v12")
    (found,) = answered({"instances": [row("a")]}, {"predictions": [1]}, version="", service="loans")
    assert found["_version"] == ""


def test_a_body_that_was_not_kept_leaves_the_answer() -> None:
    (found,) = answered(None, SAID)
    assert (found["_key"], found["_predicted"], found["_whole"], found["amount"]) == ("r1", "true", False, None)


@pytest.mark.parametrize(
    "response",
    [None, b"\xff", [], {}, {"predictions": "x"}, {"predictions": []}, {"predictions": [{"label": None}]},
     {"predictions": [{"label": [1]}]}, {"outputs": [{"name": "label"}]}, {"outputs": [3]},
     {"predictions": [True, True]}],
)  # fmt: skip
def test_a_response_that_says_nothing_is_counted(response: Any) -> None:
    answers = Answers(wanted(make_spec(Path("/nowhere"))))
    answers.add(event("request", {"instances": [row("a")]}), event("response", response))
    assert (len(answers), answers.unreadable) == (0, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["instances", "inputs", "predictions", "outputs", "name", "data", "label",
                                       "probabilities", "amount", "loan", "parameters", "classes"]), inner),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=100)
@given(request=JSON, response=JSON | st.lists(JSON, min_size=1, max_size=2).map(lambda some: {"predictions": some}))
def test_no_body_breaks_the_reader(request: Any, response: Any) -> None:
    answers = Answers(wanted(make_spec(Path("/nowhere"))))
    answers.add(event("request", request), event("response", response))
    rows = len(answers)
    assert answers.take().num_rows == rows


@settings(max_examples=60)
@given(
    values=st.lists(
        st.none()
        | st.booleans()
        | st.integers(-(2**60), 2**60)
        | st.floats(allow_nan=False, width=32)
        | st.text(max_size=4),
        min_size=1,
        max_size=4,
    )
)
def test_values_are_what_training_makes_of_them(values: list[Any]) -> None:
    """Each as :func:`to_kind` brings a column of its own type to its kind."""
    rows = [row("a") | {"amount": value, "region": value} for value in values]
    found = answered({"instances": rows}, {"predictions": [True] * len(rows)})
    for value, each in zip(values, found, strict=True):
        assert each["region"] == to_kind(pa.array([value]), "categorical")[0][0].as_py()
        assert each["amount"] == to_kind(pa.array([value]), "numeric")[0][0].as_py()


# --- pairs ---------------------------------------------------------------------------------------------------------


def test_one_id_again_goes_with_the_newest_request() -> None:
    pairing = Pairing()
    first, second = (event("request", number) for number in (1, 2))
    assert pairing.add(first, b"", NOON) is None  # it failed: its client tries again
    assert pairing.add(second, b"", NOON) is None
    pair = pairing.add(event("response", "x"), b"", NOON)
    assert pair is not None and pair[0] is second
    assert [half.event for half in pairing.halves()] == [first]


def test_services_do_not_mix() -> None:
    pairing = Pairing()
    pairing.add(event("request", 1, service="loans-v1"), b"", NOON)
    assert pairing.add(event("response", 1, service="loans-v2"), b"", NOON) is None


def test_what_waits_too_long_and_too_much_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    pairing = Pairing()
    for number in range(5):
        pairing.add(event("request", 1, id=str(number)), b"", NOON + timedelta(hours=number))
    pairing.forget(NOON + payloads.PATIENCE + timedelta(hours=1))
    assert [half.event.id for half in pairing.halves()] == ["2", "3", "4"]
    monkeypatch.setattr(payloads, "MOST_WAITING", 1)
    pairing.forget(NOON)
    assert [half.event.id for half in pairing.halves()] == ["4"]


# --- files ---------------------------------------------------------------------------------------------------------


def test_what_the_server_writes_is_read(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    log = PayloadLog(tmp_path / "log", service="loans-v3", namespace="models", version="v3")
    for number in range(10):
        at = NOON.timestamp() + number
        log.put("request", f"r{number}", requested=at, at=at, body=orjson.dumps({"instances": [row(str(number))]}))
        log.put("response", f"r{number}", requested=at, at=at + 0.1, body=orjson.dumps(SAID))
    log.close()
    found = [
        batch
        for batch, _ in read_answers(
            open_store(str(tmp_path / "log")), wanted(spec), marks={}, pairing=Pairing(), now=NOON
        )
    ]
    table = pa.Table.from_batches(found)
    assert table.column("_key").to_pylist() == [str(number) for number in range(10)]
    assert set(table.column("_version").to_pylist()) == {"v3"}


def test_of_a_log_of_objects_only_the_days_that_may_be_new_are_listed(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    store = open_store("memory://")
    listed: list[str] = []

    class Listing:
        uri = store.uri
        open = staticmethod(store.open)

        def list(self, prefix: str = "") -> Any:
            listed.append(prefix)
            return store.list(prefix)

    def logged(name: str, at: datetime) -> None:
        log = PayloadLog(lambda: store, service="loans-v3", namespace="models", version="v3")
        moment = at.timestamp()
        log.put("request", name, requested=moment, at=moment, body=orjson.dumps({"instances": [row(name)]}))
        log.put("response", name, requested=moment, at=moment, body=orjson.dumps(SAID))
        log.close()

    marks: dict[str, int] = {}

    def read(now: datetime) -> list[str]:
        keys: list[str] = []
        listed.clear()
        since = now - timedelta(days=30)
        answers = read_answers(
            cast(Store, Listing()), wanted(spec), marks=marks, pairing=Pairing(), now=now, since=since
        )
        for batch, new in answers:
            keys += batch.column("_key").to_pylist()
            marks.update(new)
        return keys

    logged("a", NOON - timedelta(days=3))
    assert (read(NOON), len(listed)) == (["a"], 32)
    logged("b", NOON)
    logged("late", NOON - timedelta(days=3, hours=2))
    assert sorted(read(NOON)) == ["b", "late"] and len(listed) == 6
    assert read(NOON + timedelta(hours=1)) == [] and len(listed) == 3


def test_an_hour_at_a_time_and_only_what_is_new(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    store = open_store(str(tmp_path / "log"))
    write_log(tmp_path, lines("r1", [row("a")], [True]))
    write_log(tmp_path, lines("r2", [row("b")], [True], at=NOON + timedelta(hours=1)), at=NOON + timedelta(hours=1))
    (tmp_path / "log" / "other.jsonl").write_text("no hour\n")
    marks: dict[str, int] = {}
    pairing = Pairing()

    def read(**options: Any) -> list[str]:
        keys = []
        for batch, new in read_answers(store, wanted(spec), marks=marks, pairing=pairing, now=NOON, **options):
            keys += batch.column("_key").to_pylist()
            marks.update(new)
        return keys

    assert read(since=NOON + timedelta(hours=2)) == ["b"]
    assert read() == ["a"]
    assert read() == []
    late, later = lines("r3", [row("c")], [True])
    write_log(tmp_path, [late])
    assert read() == []
    write_log(tmp_path, [later], name="another process")
    assert read() == ["c"]
    assert [hour_of(key) for key, _ in log_files(store)] == [NOON, NOON, NOON + timedelta(hours=1)]


def test_names_that_are_no_hours() -> None:
    assert hour_of("date=2026-03-01/hour=12/a.jsonl") == NOON
    for name in ("a.jsonl", "date=2026-03-01/hour=25/a.jsonl", "date=2026-13-01/hour=01/a.jsonl",
                 "date=2026-03-01/hour=12/deep/a.jsonl", "date=2026-03-01/hour=12/a.txt"):  # fmt: skip
        assert hour_of(name) is None


def test_sweeping_takes_whole_old_hours_and_nothing_else(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    old = write_log(tmp_path, lines("r1", [row("a")], [True]))
    young = write_log(
        tmp_path, lines("r2", [row("b")], [True], at=NOON + timedelta(hours=5)), at=NOON + timedelta(hours=5)
    )
    other = tmp_path / "log" / "notes.txt"
    other.write_text("a person's")
    store = open_store(spec.monitoring.payloads.source)
    keep = timedelta(hours=2)
    assert sweep(store, NOON + timedelta(hours=2, minutes=59), keep) == ()
    assert sweep(store, NOON + timedelta(hours=3), keep, dry_run=True) == ("date=2026-03-01/hour=12/one.jsonl",)
    assert old.exists()
    assert sweep(store, NOON + timedelta(hours=3), keep) == ("date=2026-03-01/hour=12/one.jsonl",)
    assert not old.parent.exists() and young.exists() and other.exists()


def test_times_know_their_zone() -> None:
    line = lines("r1", [row("a")], [True], at=datetime(2026, 3, 1, 13, tzinfo=UTC))[0]
    found = read_line(line)
    assert found is not None and found.time == NOON + timedelta(hours=1)
