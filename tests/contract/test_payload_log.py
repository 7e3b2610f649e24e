"""The payload log of the real server process, in each kind of place, as the monitor reads it."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from tests.unit.serving.server.server_make import ROWS, flights_model
from tests.unit.serving.server.server_process import SECONDS, running
from upkeep.models.folder import folder_digest
from upkeep.monitor.payloads import log_files, read_lines, sweep
from upkeep.serving.payload import read_line
from upkeep.spec.model import ObjectStore
from upkeep.store import open_store


def test_what_was_answered_is_there_when_the_server_has_ended(tmp_path: Path, place: tuple[str, ObjectStore]) -> None:
    flights_model(tmp_path / "model")
    uri, settings = f"{place[0]}/payloads", place[1]
    environ = {"AWS_ENDPOINT_URL": settings.endpoint} if settings.endpoint else {}
    words = ("--model-dir", str(tmp_path / "model"), "--payloads", uri)
    with running(*words, digest=folder_digest(tmp_path / "model"), environ=environ) as server:
        for name in ("one", "two"):
            answer = httpx.post(
                f"{server.url}/v1/models/flight-delays:predict",
                json={"instances": ROWS.to_pylist()},
                headers={"ce-id": name},
            )
            assert answer.status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SECONDS) == 0
    store, now = open_store(uri, settings, make=False), datetime.now(UTC)
    events = [
        read_line(line)
        for key, _ in log_files(store, now - timedelta(days=1), now)
        for line, _ in read_lines(store, key, 0)
    ]
    kept = [(event.kind, event.id, event.version) for event in events if event]
    assert kept == [(kind, name, "v12") for name in ("one", "two") for kind in ("request", "response")]
    assert len(sweep(store, now + timedelta(hours=2), timedelta(0))) == len(log_files(store)) + 1 == 1
