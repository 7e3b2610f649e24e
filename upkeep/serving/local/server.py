"""One model server process: started, watched, started again when it dies, ended in good order."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from upkeep.errors import UpkeepError, known
from upkeep.serving.local.envoy import LOOPBACK
from upkeep.serving.local.folder import Folder, read_json, write_json
from upkeep.serving.local.gateway import free_port
from upkeep.serving.local.process import Process, last_words
from upkeep.serving.local.wanted import WantedServer
from upkeep.serving.payload import server_options
from upkeep.spec.model import ModelSpec

_POLL = 0.05
_LONGEST_WAIT = 30.0
"""Seconds before a server that dies again and again is started once more."""
_WELL_AFTER = 60.0
"""A server that was ready for so long starts again at once."""
_INPUT_ERROR = 2


@dataclass(frozen=True, kw_only=True)
class Watch:
    """How a server is watched: one that lives and does not answer is as good as dead."""

    start: float = 900.0
    """Seconds that it may take to be ready: it fetches its model, and loads it."""
    every: float = 5.0
    """Seconds between two questions."""
    timeout: float = 2.0
    """Seconds that it may take to answer one."""
    misses: int = 3
    """So many in a row, and it is ended and started again."""
    grace: float = 5.0
    """Seconds between SIGTERM and SIGKILL."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How a version's server is started."""

    command: tuple[str, ...]
    """Without the port."""
    environ: Mapping[str, str]


def launch(spec: ModelSpec, wanted: WantedServer, environ: Mapping[str, str]) -> Launch:
    """The model server's command line."""
    privacy = spec.data.privacy
    options = {
        "--model-name": spec.name,
        "--storage-uri": wanted.storage_uri,
        "--service": wanted.service,
        **server_options(spec),
        "--allow": ",".join(spec.estimators),
    }
    given = {"UPKEEP_VERSION": wanted.version, "UPKEEP_DIGEST": wanted.digest}
    if spec.object_store.endpoint:
        given["AWS_ENDPOINT_URL"] = spec.object_store.endpoint
    if spec.object_store.region:
        given["AWS_REGION"] = spec.object_store.region
    words = (word for name, value in options.items() if value for word in (name, value))
    # The secrets of others are nothing that a process with a client's requests in it should hold.
    others = {privacy.key, "UPKEEP_KFP_TOKEN", spec.rollout.pull_request.token_env}
    others |= {webhook.secret_env for webhook in spec.rollout.webhooks}
    kept = {name: value for name, value in environ.items() if not name.startswith("UPKEEP_GIT_") and name not in others}
    return Launch(command=(sys.executable, "-m", "upkeep.serving.server", *words), environ=kept | given)


class Server:
    """The server of one version. ``changed`` is called whenever ``ready`` or ``message`` changes."""

    def __init__(
        self,
        wanted: WantedServer,
        launch: Launch,
        folder: Folder,
        *,
        model: str,
        changed: Callable[[], None],
        tell: Callable[[str], None],
        watch: Watch = Watch(),
    ) -> None:
        self.wanted = wanted
        self.ready = False
        self.stopping = False
        self.refused = False
        """It cannot serve what its manifest says: waiting does not help."""
        self.message = "it starts"
        self.since = datetime.now(UTC)
        """When ``ready`` changed last."""
        self.restarts = 0
        self.port: int | None = None
        self.settled = asyncio.Event()
        """It is known whether a server of an earlier daemon serves this already."""
        self._launch = launch
        self._folder = folder
        self._record = folder.servers / f"{wanted.service}.json"
        self._log = folder.logs / f"{wanted.service}.log"
        self._model = model
        self._changed = changed
        self._tell = tell
        self._watch = watch
        self._process: Process | None = None
        self._task = asyncio.create_task(self._run())

    @property
    def pid(self) -> int | None:
        return self._process.identity.pid if self._process is not None else None

    async def stop(self, grace: float) -> None:
        """End it: SIGTERM, and SIGKILL after ``grace`` seconds."""
        self.stopping = True
        self._say(False, "it is stopped")
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._process is not None:
            await self._process.stop(grace)
        self._record.unlink(missing_ok=True)

    async def _run(self) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                began = loop.time()
                was_ready = False
                try:
                    was_ready = await self._live(client)
                except (OSError, UpkeepError) as error:
                    self._say(False, f"its server cannot be started: {known(error)}")
                failures = 0 if was_ready and loop.time() - began >= _WELL_AFTER else failures + 1
                pause = 0.0 if was_ready and failures <= 1 else min(_LONGEST_WAIT, 2.0 ** (failures - 1))
                self._tell(f"{self.wanted.service}: {self.message}; it starts again in {pause:g} s")
                self.settled.set()
                await asyncio.sleep(pause)
                self.restarts += 1

    async def _live(self, client: httpx.AsyncClient) -> bool:
        """One process's life, from its start to its end: whether it was ever ready."""
        process = await self._adopt()
        if process is None:
            process = self._start()
            self.settled.set()
        ended = asyncio.create_task(process.wait())
        why = ""
        try:
            was_ready = await self._until_ready(client, ended)
            if was_ready:
                self.refused = False
                self._say(True, "")
                self.settled.set()
                self._tell(f"{self.wanted.service} is ready")
                if await self._until_silent(client, ended):
                    self._say(False, "its server lives, but does not answer")
                    await process.stop(self._watch.grace)
                    why = f"it did not answer {self._watch.misses} times in a row"
            elif not ended.done():
                await process.stop(self._watch.grace)
                why = f"it was not ready within {self._watch.start:g} s"
            how = await ended
        finally:
            ended.cancel()
        self.refused = not was_ready and process.code == _INPUT_ERROR
        if not was_ready:
            why = why or last_words(self._log)
        if not why and how.endswith("SIGKILL"):
            why = "perhaps no memory was left"
        self._say(False, f"its server {how}" + (f": {why}" if why else ""))
        return was_ready

    async def _adopt(self) -> Process | None:
        """The server of an earlier daemon, if it is this very one; another that stands in its place is ended."""
        record: Any = read_json(self._record)
        process = Process.adopt(record)
        if process is None:
            return None
        self._process = process
        if record.get("command") == list(self._launch.command) and record.get("digest") == self.wanted.digest:
            self.port = int(record["port"])
            self._tell(f"{self.wanted.service}: the server of before still runs")
            return process
        await process.stop(10.0)
        return None

    def _start(self) -> Process:
        self.port = free_port()
        self._process = Process.spawn(
            [*self._launch.command, "--host", LOOPBACK, "--http-port", str(self.port)],
            log=self._log,
            environ=self._launch.environ,
            cwd=self._folder.root,
        )
        record = {"port": self.port, "command": list(self._launch.command), "digest": self.wanted.digest}
        try:
            write_json(self._record, {**self._process.record, **record})
        except OSError:
            self._process.signal(signal.SIGKILL)  # nobody would find it again
            raise
        return self._process

    async def _until_ready(self, client: httpx.AsyncClient, ended: asyncio.Task[str]) -> bool:
        """Whether it became ready; False: it ended first, or took too long."""
        late = asyncio.get_running_loop().time() + self._watch.start
        while not ended.done() and asyncio.get_running_loop().time() < late:
            if await self._answers(client, 5.0):
                return not ended.done()
            await asyncio.wait([ended], timeout=_POLL)
        return False

    async def _until_silent(self, client: httpx.AsyncClient, ended: asyncio.Task[str]) -> bool:
        """Whether it lives and has stopped answering; False: it ended first."""
        missed = 0
        while missed < self._watch.misses:
            await asyncio.wait([ended], timeout=self._watch.every)
            if ended.done():
                return False
            missed = 0 if await self._answers(client, self._watch.timeout) else missed + 1
        return not ended.done()

    async def _answers(self, client: httpx.AsyncClient, timeout: float) -> bool:
        """Whether it says within ``timeout`` seconds that it is ready; this asks for no prediction."""
        try:
            answer = await client.get(f"http://{LOOPBACK}:{self.port}/v1/models/{self._model}", timeout=timeout)
            return answer.status_code == 200 and answer.json().get("ready") in (True, "True")
        except (httpx.HTTPError, ValueError):
            return False

    def _say(self, ready: bool, message: str) -> None:
        if ready != self.ready:
            self.since = datetime.now(UTC)
        self.ready, self.message = ready, message
        self._changed()
