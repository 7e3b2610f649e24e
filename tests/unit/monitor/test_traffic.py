"""Live requests from a data file, against a real server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.monitor.monitor_make import make_spec
from upkeep.errors import DataError, InputError, OutsideError
from upkeep.monitor.labels import label_rules, parse_labels
from upkeep.monitor.traffic import Traffic, gateway_url, is_labelled, rows_of, send
from upkeep.spec.model import LabelColumns, ModelSpec, Privacy


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    made = make_spec(tmp_path, columns=LabelColumns())
    for period, first in (("2026-01", 0), ("2026-02", 6)):
        folder = tmp_path / "data" / f"period={period}"
        folder.mkdir(parents=True)
        rows = "".join(
            f"l{n},{n}.5,north,2026-03-01,{'true' if n % 2 else 'false'},secret\n" for n in range(first, first + 6)
        )
        (folder / "rows.csv").write_text("loan,amount,region,asked,late,name\n" + rows)
    return replace(made, data=replace(made.data, source=str(tmp_path / "data"), period="month"))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    seen: list[tuple[str, dict[str, str], Any]]
    fail: frozenset[int]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        raise AssertionError("only predictions are asked for")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert isinstance(self.server, Server)
        self.server.seen.append((self.path, dict(self.headers.items()), body))
        number = len(self.server.seen)
        if number in self.server.fail:
            if number % 2:
                self.close_connection = True
                return
            self.answer(503)
        else:
            self.answer(200)

    def answer(self, status: int) -> None:
        self.send_response(status)
        chunked = len(self.server.seen) % 2  # type: ignore[attr-defined]
        self.send_header(*(("transfer-encoding", "chunked") if chunked else ("content-length", "2")))
        self.send_header("x-upkeep-version", "v3")
        self.end_headers()
        self.wfile.write(b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n" if chunked else b"{}")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(*fail: int) -> Iterator[tuple[str, Server]]:
    server = Server(("127.0.0.1", 0), Handler)
    server.seen, server.fail = [], frozenset(fail)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_rows_go_out_as_a_client_would_send_them(spec: ModelSpec, tmp_path: Path) -> None:
    with serving() as (url, server):
        done = send(spec, rows_of(spec, str(tmp_path / "data"), {}), url=url, rate=1000, most_seconds=10, label_delay=0)
    assert (done.sent, done.answered, done.lost, done.versions) == (12, 12, 0, {"v3": 12})
    path, headers, body = next(each for each in server.seen if each[2]["instances"][0]["loan"] == "l1")
    assert path == "/v1/models/loans:predict"
    assert headers["host"] == "loans.models.example"
    assert headers["ce-id"] == headers["x-request-id"]
    (sent,) = body["instances"]
    assert sent == {"amount": 1.5, "region": "north", "loan": "l1", "asked": "2026-03-01T00:00:00+00:00"}
    assert len({each[1]["ce-id"] for each in server.seen}) == 12
    assert done.labels == 12
    labels: dict[str, str] = {}
    for file in (tmp_path / "labels").iterdir():
        parsed = parse_labels(file.name, file.read_bytes(), label_rules(spec, (False, True)))
        assert parsed.refused == {}
        labels |= dict(zip(parsed.rows.column("id").to_pylist(), parsed.rows.column("label").to_pylist(), strict=True))
    assert labels == {f"l{n}": "true" if n % 2 else "false" for n in range(12)}


def test_lost_requests_are_counted_by_why(spec: ModelSpec, tmp_path: Path) -> None:
    with serving(3, 4) as (url, _):
        done = send(spec, rows_of(spec, "2026-02", {}), url=url, rate=1000, most_seconds=10, label_delay=0)
    assert (done.sent, done.answered, done.lost, done.labels) == (6, 4, 2, 4)
    assert done.statuses == {"200": 4, "503": 1, "connection lost": 1}
    summary = done.summary()
    assert summary["lost"] == 2 and summary["p50_ms"] > 0
    assert json.loads(json.dumps(summary)) == summary


def test_it_ends_by_rows_and_by_time(spec: ModelSpec, tmp_path: Path) -> None:
    ticks: list[int] = []
    with serving() as (url, _):
        done = send(spec, rows_of(spec, "2026-01", {}), url=url, rate=1000, most_seconds=10, most_rows=4,
                    label_share=0.0, tick=lambda traffic: ticks.append(traffic.sent))  # fmt: skip
        assert (done.sent, done.labels) == (4, 0) and ticks[-1] == 4
        done = send(spec, rows_of(spec, "2026-01", {}), url=url, rate=10, most_seconds=0.25, label_delay=0)
        assert 1 <= done.sent <= 3


def test_without_a_place_for_labels_none_are_written(spec: ModelSpec, tmp_path: Path) -> None:
    bare = replace(spec, monitoring=replace(spec.monitoring, labels=""))
    with serving() as (url, _):
        done = send(bare, rows_of(bare, "2026-01", {}), url=url, rate=1000, most_seconds=10)
    assert (done.answered, done.labels) == (6, 0)
    assert not (tmp_path / "labels").exists()


def test_without_data_id_the_label_names_the_request(spec: ModelSpec, tmp_path: Path) -> None:
    bare = replace(spec, data=replace(spec.data, id=None))
    with serving() as (url, server):
        done = send(bare, rows_of(bare, "2026-01", {}), url=url, rate=1000, most_seconds=10, most_rows=2, label_delay=0)
    assert done.labels == 2
    written = [json.loads(line) for file in (tmp_path / "labels").iterdir() for line in file.read_text().splitlines()]
    assert {each["request_id"] for each in written} == {each[1]["ce-id"] for each in server.seen}


def test_hashed_columns_go_out_as_the_model_learned_them(spec: ModelSpec, tmp_path: Path) -> None:
    hidden = replace(spec, data=replace(spec.data, privacy=Privacy(hash=("loan",))))
    rows = list(rows_of(hidden, "2026-01", {"UPKEEP_PRIVACY_KEY": "k"}))
    assert all(row.id is not None and len(row.id) == 32 for row in rows)
    assert b"l1" not in b"".join(row.body for row in rows)


def test_a_period_cut_from_the_time(spec: ModelSpec, tmp_path: Path) -> None:
    file = tmp_path / "flat" / "rows.csv"
    file.parent.mkdir()
    file.write_text("loan,amount,region,asked,late\na,1,n,2026-01-31,1\nb,inf,n,2026-02-01,0\n")
    flat = replace(spec, data=replace(spec.data, source=str(file.parent)))
    (only,) = rows_of(flat, "2026-02", {})
    assert only.id == "b" and json.loads(only.body)["instances"][0]["amount"] is None
    assert len(list(rows_of(flat, str(file), {}))) == 2


def test_what_is_not_there_is_told(spec: ModelSpec) -> None:
    with pytest.raises(DataError, match="2030-01 is no file"):
        next(rows_of(spec, "2030-01", {}))
    for url in ("ftp://x", "127.0.0.1:80", "http://", "http://x:no"):
        with pytest.raises(InputError, match="no http"):
            send(spec, iter(()), url=url, rate=1, most_seconds=1)
    with pytest.raises(OutsideError, match="nothing answers"):
        send(spec, iter(()), url="http://127.0.0.1:9", rate=1, most_seconds=1)
    with pytest.raises(OutsideError, match="no gateway"):
        gateway_url(spec)


@given(key=st.text(), share=st.floats(0, 1))
def test_labels_come_for_a_fixed_share(key: str, share: float) -> None:
    assert not is_labelled(key, 0.0) and is_labelled(key, 1.0)
    assert is_labelled(key, share) <= is_labelled(key, min(share + 0.1, 1.0))


def test_the_share_is_the_share() -> None:
    assert sum(is_labelled(str(number), 0.3) for number in range(10_000)) == pytest.approx(3000, rel=0.05)


def test_nothing_sent_is_a_summary_too() -> None:
    assert Traffic().summary()["per_second"] == 0.0
