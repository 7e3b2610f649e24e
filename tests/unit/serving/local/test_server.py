"""A server's life where the machine says no."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from upkeep.errors import OutsideError
from upkeep.serving.local import server as module
from upkeep.serving.local.folder import Folder
from upkeep.serving.local.process import Process
from upkeep.serving.local.server import Launch, Server
from upkeep.serving.local.wanted import WantedServer


def told(folder: Folder) -> str:
    """What it says after its first try."""

    async def run() -> str:
        said: asyncio.Queue[str] = asyncio.Queue()
        server = Server(
            WantedServer(version="v1", digest="1" * 64, service="tiny-v1", storage_uri="file:///models/1"),
            Launch(command=(sys.executable, "-c", "import time; time.sleep(60)"), environ={}),
            folder,
            model="tiny",
            changed=lambda: None,
            tell=said.put_nowait,
        )
        words = await asyncio.wait_for(said.get(), 20)
        await server.stop(5)
        return words

    return asyncio.run(run())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.make()
    return made


def raising(error: Exception) -> Callable[..., Any]:
    def raises(*_: Any) -> Any:
        raise error

    return raises


def test_a_server_that_cannot_be_written_down_is_ended(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Process] = []
    real = Process.spawn

    def spawn(*given: Any, **options: Any) -> Process:
        started.append(real(*given, **options))
        return started[-1]

    monkeypatch.setattr(Process, "spawn", spawn)
    monkeypatch.setattr(module, "write_json", raising(OSError(28, "No space left on device")))
    assert "No space left on device" in told(folder)
    assert [process.alive for process in started] == [False]


def test_a_machine_without_a_free_port_is_tried_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_port", raising(OutsideError("no free port was found", fix="end some")))
    assert "no free port was found" in told(folder)
