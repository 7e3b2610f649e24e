"""The real process: what it counts and keeps, and how it ends."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import httpx
import orjson

from tests.unit.serving.server.server_make import ROWS, flights_model
from tests.unit.serving.server.server_process import SECONDS, running, start
from upkeep.models.folder import folder_digest
from upkeep.serving.payload import read_events
from upkeep.serving.server.run import _bind


def test_it_counts_and_keeps_what_it_answered_and_answers_what_is_in_flight_before_it_ends_with_0(
    tmp_path: Path,
) -> None:
    flights_model(tmp_path / "model")
    digest = folder_digest(tmp_path / "model")
    body = {"instances": ROWS.to_pylist()}
    log = tmp_path / "log"
    with running("--model_dir", str(tmp_path / "model"), "--payloads", str(log), digest=digest) as server:
        for identity in ("one", "two", "three"):
            answer = httpx.post(f"{server.url}/v1/models/flight-delays:predict", json=body, headers={"ce-id": identity})
            assert (answer.status_code, answer.headers["x-request-id"]) == (200, identity)
        page = httpx.get(f"{server.url}/metrics").text
        labels = f'digest="{digest[:12]}",model="flight-delays"'
        assert f'upkeep_server_rows_total{{{labels},version="v12"}} 12.0' in page
        assert f'upkeep_server_payload_dropped_total{{{labels},reason="full",version="v12"}} 0.0' in page

        address, written = httpx.URL(server.url), orjson.dumps(body)
        with socket.create_connection((address.host, address.port or 0), timeout=SECONDS) as client:
            head = (
                "POST /v1/models/flight-delays:predict HTTP/1.1\r\nHost: x\r\nce-id: four\r\n"
                f"Content-Length: {len(written)}\r\n\r\n"
            )
            client.sendall(head.encode() + written[:10])
            httpx.get(f"{server.url}/metrics")  # answered: by now the server has seen the head
            server.process.send_signal(signal.SIGTERM)
            end = time.monotonic() + SECONDS
            while not refuses(address):
                assert time.monotonic() < end
                time.sleep(0.02)
            client.sendall(written[10:])
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")
        assert server.process.wait(SECONDS) == 0
    events = list(read_events(log))
    kept = [(event.kind, event.id, event.version) for event in events]
    names = ("one", "two", "three", "four")
    assert kept == [(kind, name, "v12") for name in names for kind in ("request", "response")]
    assert events[0].data == body


def refuses(address: httpx.URL) -> bool:
    """Whether nobody listens there any more."""
    with socket.socket() as probe:
        return probe.connect_ex((address.host, address.port or 0)) != 0


def test_bytes_that_are_not_the_digest_s_end_it_with_3_and_the_reason(tmp_path: Path) -> None:
    flights_model(tmp_path / "model")
    process = start("--model-dir", str(tmp_path / "model"), digest="0" * 64)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 3
    assert "not what was registered" in said and "Traceback" not in said


def test_a_port_that_was_taken_listens_already() -> None:
    with _bind("127.0.0.1", 0) as listener:
        socket.create_connection(listener.getsockname(), timeout=SECONDS).close()
