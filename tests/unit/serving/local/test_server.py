"""A server's life where the machine says no."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.data import make
from tests.unit.serving.local import fake_server
from upkeep.errors import OutsideError
from upkeep.serving.local import server as module
from upkeep.serving.local.folder import Folder
from upkeep.serving.local.process import Process, started
from upkeep.serving.local.server import Launch, Server, Watch, launch
from upkeep.serving.local.wanted import WantedServer
from upkeep.spec.model import Rollout, Webhook


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


FAKE = Launch(
    command=(sys.executable, fake_server.__file__, "--model-name", "tiny", "--storage-uri", "file:///nowhere"),
    environ={"UPKEEP_VERSION": "v1"},
)


class Life:
    """What a server's readiness was, in order: (ready, message, pid)."""

    def __init__(self, folder: Folder, watch: Watch, launch: Launch = FAKE) -> None:
        self.seen: list[tuple[bool, str, int | None]] = []
        self.turned = asyncio.Event()
        wanted = WantedServer(version="v1", digest="1" * 64, service="tiny-v1", storage_uri="file:///nowhere")
        self.server = Server(
            wanted, launch, folder, model="tiny", changed=self.changed, tell=lambda words: None, watch=watch
        )

    def changed(self) -> None:
        self.seen.append((self.server.ready, self.server.message, self.server.pid))
        self.turned.set()

    async def until(self, ready: bool) -> None:
        async with asyncio.timeout(30):
            while self.server.ready is not ready:
                self.turned.clear()
                await self.turned.wait()


def test_a_server_that_lives_and_does_not_answer_is_started_again(folder: Folder) -> None:
    async def run() -> None:
        life = Life(folder, Watch(every=0.02, timeout=0.5, grace=0.1))
        try:
            await life.until(True)
            hung = life.server.pid
            assert hung is not None
            os.kill(hung, signal.SIGSTOP)
            await life.until(False)
            assert life.seen[-1] == (False, "its server lives, but does not answer", hung)  # traffic leaves it first
            await life.until(True)
            why = "its server was ended by SIGKILL: it did not answer 3 times in a row"
            assert (False, why, hung) in life.seen
            assert life.server.pid not in (None, hung)
            assert life.server.restarts == 1
            assert started(hung) is None
        finally:
            await life.server.stop(5)

    asyncio.run(run())


def test_a_servers_process_holds_none_of_the_others_secrets() -> None:
    spec = replace(
        make.spec("data"), rollout=Rollout(webhooks=(Webhook(url="https://example.com", secret_env="HOOK"),))
    )
    secrets = dict.fromkeys(("UPKEEP_GIT_TOKEN", "UPKEEP_PRIVACY_KEY", "UPKEEP_KFP_TOKEN", "HOOK"), "s3cr3t")
    wanted = WantedServer(version="v1", digest="1" * 64, service="tiny-v1", storage_uri="file:///models/1")
    given = launch(spec, wanted, secrets | {"AWS_SECRET_ACCESS_KEY": "its own", "": ""}).environ
    assert "s3cr3t" not in given.values()
    assert given["AWS_SECRET_ACCESS_KEY"] == "its own"


def test_a_server_that_never_becomes_ready_is_started_again(folder: Folder) -> None:
    hangs = Launch(command=(sys.executable, "-c", "import time; time.sleep(60)"), environ={})

    async def run() -> None:
        life = Life(folder, Watch(start=0.2, grace=5.0), hangs)
        try:
            async with asyncio.timeout(30):
                while not life.server.restarts:
                    life.turned.clear()
                    await life.turned.wait()
            ready, message, hung = life.seen[0]
            assert (ready, message.endswith("it was not ready within 0.2 s")) == (False, True), message
            assert hung is not None
            assert started(hung) is None
        finally:
            await life.server.stop(5)

    asyncio.run(run())


def test_an_answer_between_two_misses_is_a_life_sign(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [True, *[False, False, True] * 3]

    async def run() -> None:
        asked = asyncio.Event()

        async def says(*_: Any) -> bool:
            if len(answers) == 0:
                asked.set()
            return answers.pop(0) if answers else True

        monkeypatch.setattr(Server, "_answers", says)
        life = Life(folder, Watch(every=0.01))
        try:
            await asyncio.wait_for(asked.wait(), 30)
            assert [ready for ready, *_ in life.seen] == [True]
            assert life.server.restarts == 0
        finally:
            await life.server.stop(5)

    asyncio.run(run())
