"""``upkeep up``: makes what runs on this machine what Git says, until it is told to stop.

It keeps no truth in memory. Killed at any time, it leaves Envoy and the servers running as they were; started again, it
finds them, reads Git, and goes on. One place changes what runs: :meth:`Daemon._reconcile`, whenever a commit, a server,
the gateway or a brake changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from upkeep import records
from upkeep.errors import InputError, Problem, UpkeepError, Where, known
from upkeep.serving.drivers import driver_of
from upkeep.serving.local.envoy import LOOPBACK, ModelRoute, cluster_name
from upkeep.serving.local.folder import Folder, read_json, write_json
from upkeep.serving.local.gateway import Gateway
from upkeep.serving.local.process import Process, trim
from upkeep.serving.local.server import Launch, Server, Watch, launch
from upkeep.serving.local.shares import shares
from upkeep.serving.local.status import ModelState, ServiceState, cluster_status
from upkeep.serving.local.wanted import FACTS, Manifests, Source, Wanted, WantedServer, read_wanted
from upkeep.serving.manifests import version_number
from upkeep.spec.model import ModelSpec

_LOOK_HERE = 0.5
_LOOK_AWAY = 5.0
"""Seconds between two looks at a repository on this machine, and at one elsewhere."""
_WATCH = 0.05
"""Seconds between two looks at the wake file and the brakes."""
_CHORES = 10.0
_SETTLE = 5.0
_GRACE = 5.0
"""Seconds beyond a request's timeout that a server gets to end."""

LaunchServer = Callable[[ModelSpec, WantedServer, Mapping[str, str]], Launch]


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What a model's folder in the cluster remembers: the newest manifests that made sense."""

    wanted: Wanted
    trusted: tuple[str, ...]
    """Versions that a commit gave traffic, as long as they run."""


@dataclass
class _Model:
    source: Source
    wanted: Wanted | None = None
    trusted: frozenset[str] = frozenset()
    problem: UpkeepError | None = None
    """Why the newest commit is not what is wanted."""
    away: UpkeepError | None = None
    """Why the repository cannot be read."""
    gateway_problem: str = ""
    brake: dict[str, int] | None = None
    obeyed: dict[str, int] | None = None
    """The brake that the gateway was told."""
    applied: str | None = None
    """The commit that the gateway serves."""
    weights: dict[str, int] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)
    """By version: wanted ones, and those that still answer what is under way."""
    ending: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    seen: str | None = None
    looked: bool = False
    look: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def spec(self) -> ModelSpec:
        return self.source.spec


class Daemon:
    """One cluster's life. ``tell`` is given a line for people at each event."""

    def __init__(
        self,
        sources: Sequence[Source],
        folder: Folder,
        *,
        port: int | None = None,
        tell: Callable[[str], None] = lambda _: None,
        launch_server: LaunchServer | None = None,
        environ: Mapping[str, str] | None = None,
        watch: Watch = Watch(),  # noqa: B008
    ) -> None:
        names = [source.spec.name for source in sources]
        if len(set(names)) != len(names):
            raise InputError(f"two specs have the same name: {', '.join(sorted(names))}", fix="give each model its own")
        for source in sources:
            refused = driver_of(source.spec).refusals(source.spec, FACTS)
            if refused:
                raise InputError(problems=refused)
        self._folder = folder
        self._environ = dict(os.environ if environ is None else environ)
        self._models = {source.spec.name: _Model(source) for source in sources}
        self._tell = tell
        self._launch = launch_server or self._launch_real
        self._watch = watch
        self._changed = asyncio.Event()
        self._stop = asyncio.Event()
        self._gateway = Gateway(
            folder, port=port, latencies={s.spec.rollout.latency for s in sources}, environ=self._environ
        )
        self._has_gateway = False

    def stop(self) -> None:
        """End everything in good order. May be called from a signal's handler in the loop."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until :meth:`stop`, SIGINT or SIGTERM. Raises :class:`RefusedError` when another daemon has the
        folder, and :class:`UpkeepError` when the gateway cannot start."""
        self._folder.make()
        lock = self._folder.hold()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(ValueError, RuntimeError):  # not the main thread
                loop.add_signal_handler(number, self.stop)
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._recover()
            await self._gateway.start(self._tell)
            self._has_gateway = True
            tasks = [
                asyncio.create_task(work)
                for work in (
                    self._keep_gateway(),
                    self._watch_files(),
                    self._reconcile_on_change(),
                    self._do_chores(),
                    *(self._follow(model) for model in self._models.values()),
                )
            ]
            stop = asyncio.create_task(self._stop.wait())
            await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            for task in tasks:
                if task.done():
                    task.result()  # a bug: it ends the daemon, and what serves goes on serving
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._end()
        finally:
            for model in self._models.values():
                model.source.close()
            os.close(lock)

    async def _end(self) -> None:
        """The gateway first: it takes no new requests, and waits for those under way. Then the servers."""
        longest = max(model.spec.rollout.timeout for model in self._models.values())
        await self._gateway.stop(longest)
        ending = [task for model in self._models.values() for task in model.ending.values()]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await asyncio.gather(
            *(s.stop(longest + _GRACE) for model in self._models.values() for s in model.servers.values())
        )
        self._folder.status.unlink(missing_ok=True)
        self._tell("stopped")

    # --- what others tell us ---------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Take up what an earlier daemon left, before the gateway is touched: traffic goes on as it was."""
        for name, model in self._models.items():
            path = self._folder.applied / f"{name}.json"
            if path.exists():
                try:
                    applied = records.read(Applied, path)
                except UpkeepError as error:
                    self._tell(str(error))
                    continue
                model.wanted, model.trusted = applied.wanted, frozenset(applied.trusted)
                self._start_servers(model)
            model.brake = self._folder.read_brake(name)
        found = [server.settled.wait() for model in self._models.values() for server in model.servers.values()]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*found), _SETTLE)
        ours = {server.wanted.service for model in self._models.values() for server in model.servers.values()}
        for record in self._folder.servers.glob("*.json"):
            if record.stem not in ours and (left := Process.adopt(read_json(record))):
                await left.stop(_GRACE)
            if record.stem not in ours:
                record.unlink(missing_ok=True)
        self._changed.set()

    async def _follow(self, model: _Model) -> None:
        """Read the repository whenever its branch moved."""
        pause = _LOOK_HERE if model.source.local else _LOOK_AWAY
        while True:
            model.look.clear()
            await self._look(model)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(model.look.wait(), pause)

    async def _look(self, model: _Model) -> None:
        try:
            head = await asyncio.to_thread(model.source.head)
            if head != model.seen:
                self._accept(model, await asyncio.to_thread(model.source.read))
            self._away(model, None)
            if not model.looked:
                model.looked = True
                self._changed.set()
        except Exception as error:
            found = known(error)
            if found is None:
                raise
            self._away(model, found)

    def _accept(self, model: _Model, manifests: Manifests) -> None:
        """Make a commit what is wanted, if it makes sense; else keep what was, and say why."""
        model.seen = manifests.commit
        short = (manifests.commit or "")[:12]
        try:
            wanted = read_wanted(model.spec.name, manifests)
            if wanted is None:
                if model.wanted is not None:
                    raise InputError(
                        "the model's manifests are gone from the branch; what served goes on",
                        where=Where(manifests.folder or manifests.commit or ""),
                        fix="take them back from an earlier commit, or end it with `upkeep down`",
                    )
                return
            self._check(model, wanted)
        except UpkeepError as error:
            self._problem(model, error, at=short)
            return
        self._problem(model, None)
        model.wanted = wanted
        self._tell(f"{model.spec.name}: commit {short}: " + _shown(wanted.weights))
        self._start_servers(model)
        self._changed.set()

    def _check(self, model: _Model, wanted: Wanted) -> None:
        for version, server in wanted.servers.items():
            running = model.servers.get(version)
            if running is not None and running.wanted != server:
                raise InputError(
                    f"{version} runs with the digest {running.wanted.digest[:12]}, and would be "
                    f"{server.digest[:12]}: a version's bytes never change",
                    where=Where(f"{version}.yaml"),
                    fix="register them as a new version",
                )
        for other in self._models.values():
            both = set(wanted.hosts) & set(other.wanted.hosts) if other is not model and other.wanted else set()
            if both:
                raise InputError(
                    f"the host {min(both)} is {other.spec.name}'s already",
                    where=Where(field="serving.host"),
                    fix="give each model a host of its own",
                )

    def _problem(self, model: _Model, problem: UpkeepError | None, at: str = "") -> None:
        if str(problem) == str(model.problem):
            return
        model.problem = problem
        if problem is not None:
            self._tell(f"{model.spec.name}: commit {at} is not applied: {problem}")
        self._changed.set()

    def _away(self, model: _Model, away: UpkeepError | None) -> None:
        if str(away) == str(model.away):
            return
        model.away = away
        said = f"the repository cannot be read: {away}" if away is not None else "the repository can be read again"
        self._tell(f"{model.spec.name}: {said}")
        self._changed.set()

    async def _watch_files(self) -> None:
        woken = self._folder.read_wake()
        while True:
            await asyncio.sleep(_WATCH)
            if (now := self._folder.read_wake()) != woken:
                woken = now
                for model in self._models.values():
                    model.look.set()
            for name, model in self._models.items():
                brake = self._folder.read_brake(name)
                if brake != model.brake:
                    model.brake = brake
                    self._tell(f"{name}: the brake " + (f"forces {_shown(brake)}" if brake else "is released"))
                    self._changed.set()

    async def _keep_gateway(self) -> None:
        pause = 0.0
        while True:
            began = asyncio.get_running_loop().time()
            how = await self._gateway.ended()
            self._has_gateway = False
            self._changed.set()
            if asyncio.get_running_loop().time() - began > 60:
                pause = 0.0
            self._tell(f"the gateway {how}; it starts again")
            await asyncio.sleep(pause)
            pause = min(10.0, 2 * pause + 0.5)
            while not self._has_gateway:
                try:
                    await self._gateway.start(self._tell)
                    self._has_gateway = True
                except (UpkeepError, OSError) as error:
                    self._tell(f"the gateway does not start: {known(error)}")
                    await asyncio.sleep(pause)
                    pause = min(10.0, 2 * pause + 0.5)
            self._changed.set()

    async def _do_chores(self) -> None:
        while True:
            await asyncio.sleep(_CHORES)
            with contextlib.suppress(Exception):
                for log in self._folder.logs.glob("*.log"):
                    if log.name != "access.log":
                        trim(log)
                await self._gateway.rotate()

    # --- what we make of it ----------------------------------------------------------------------------------------

    async def _reconcile_on_change(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._reconcile()
            except Exception as error:
                found = known(error)
                if found is None:
                    raise
                for model in self._models.values():
                    model.gateway_problem = str(found)
                self._tell(str(found))
                with contextlib.suppress(OSError):
                    self._write_status()
                await asyncio.sleep(0.2)
                self._changed.set()

    async def _reconcile(self) -> None:
        """Send traffic where it should go now, then end what has no traffic any more."""
        if not self._has_gateway:
            self._write_status()
            return
        tables, ports = [], dict[str, int | None]()
        weights: dict[str, dict[str, int]] = {}
        for name, model in self._models.items():
            if model.wanted is None:
                continue
            weights[name] = self._shares(model)
            routed = {v: w for v, w in weights[name].items() if v in model.wanted.servers or w}
            tables.append(
                ModelRoute(
                    model=name,
                    hosts=model.wanted.hosts,
                    weights=routed,
                    timeout=model.spec.rollout.timeout,
                )
            )
            for version in sorted({*routed, *model.servers}, key=version_number):
                server = model.servers.get(version)
                port = server.port if server is not None and server.ready else None
                for pinned in (False, True):
                    ports[cluster_name(name, version, pinned=pinned)] = port
        wanted = {name: model.wanted for name, model in self._models.items()}
        brakes = {name: self._forced(model) for name, model in self._models.items()}
        await self._gateway.apply(ports, tables)
        for name, given in weights.items():
            model = self._models[name]
            if model.weights != given:
                self._tell(f"{name}: traffic goes {_shown(given)}")
            model.weights, model.gateway_problem, model.obeyed = given, "", brakes[name]
            applied = wanted[name]
            assert applied is not None
            self._remember(model, applied)
            self._end_servers(model, applied)
        self._write_status()

    def _shares(self, model: _Model) -> dict[str, int]:
        """Version → per cent now: the brake's or Git's weights, and none to a server that is not there."""
        assert model.wanted is not None
        said = dict(model.wanted.weights)
        if forced := self._forced(model):
            there = model.wanted.servers
            said = dict.fromkeys(said, 0) | {version: weight for version, weight in forced.items() if version in there}
        leaving = (version for version in model.servers if version not in said and version not in model.ending)
        return shares(
            {**dict.fromkeys(leaving, 0), **said},
            ready=[version for version, server in model.servers.items() if server.ready],
            trusted=model.trusted,
        )

    def _forced(self, model: _Model) -> dict[str, int] | None:
        """The brake's weights, where they can be obeyed: what gets traffic by them must be there."""
        if model.brake is None or model.wanted is None:
            return None
        there = {version: weight for version, weight in model.brake.items() if version in model.wanted.servers}
        return model.brake if sum(there.values()) == sum(model.brake.values()) == 100 else None

    def _remember(self, model: _Model, wanted: Wanted) -> None:
        had = {version for version, weight in wanted.weights.items() if weight}
        trusted = frozenset((model.trusted | had) & ({*model.servers} | {*wanted.servers}))
        if model.applied == wanted.commit and trusted == model.trusted:
            return
        model.applied, model.trusted = wanted.commit, trusted
        records.write(
            self._folder.applied / f"{model.spec.name}.json", Applied(wanted=wanted, trusted=tuple(sorted(trusted)))
        )

    def _start_servers(self, model: _Model) -> None:
        assert model.wanted is not None
        for version, wanted in model.wanted.servers.items():
            if version in model.ending and not model.servers[version].stopping:
                model.ending.pop(version).cancel()
            if version in model.servers:
                continue  # one that is being stopped comes back once it has ended
            model.servers[version] = Server(
                wanted,
                self._launch(model.spec, wanted, self._environ),
                self._folder,
                model=model.spec.name,
                changed=self._changed.set,
                tell=self._tell,
                watch=self._watch,
            )

    def _end_servers(self, model: _Model, wanted: Wanted) -> None:
        for version, server in model.servers.items():
            # a commit that came while the gateway was told of the last one may want it again
            again = model.wanted is not None and version in model.wanted.servers
            unused = version not in wanted.servers and not again and not model.weights.get(version)
            if unused and version not in model.ending:
                self._tell(f"{server.wanted.service} leaves: it gets no new requests")
                model.ending[version] = asyncio.create_task(self._drain(model, version, server))

    async def _drain(self, model: _Model, version: str, server: Server) -> None:
        """Let a server answer what is under way, then end it."""
        names = [cluster_name(model.spec.name, version, pinned=pinned) for pinned in (False, True)]
        timeout = model.spec.rollout.timeout
        end = asyncio.get_running_loop().time() + timeout + _GRACE
        await asyncio.sleep(0.5)  # a request that chose its server before the route changed is on its way there
        while asyncio.get_running_loop().time() < end:
            with contextlib.suppress(UpkeepError):
                if not await self._gateway.active(names):
                    break
            await asyncio.sleep(0.1)
        await server.stop(timeout + _GRACE)
        del model.servers[version], model.ending[version]
        self._tell(f"{server.wanted.service} has ended")
        if model.wanted is not None:
            self._start_servers(model)
        self._changed.set()

    def _launch_real(self, spec: ModelSpec, wanted: WantedServer, environ: Mapping[str, str]) -> Launch:
        return launch(spec, wanted, environ)

    # --- what we say -----------------------------------------------------------------------------------------------

    def _write_status(self) -> None:
        states = [
            ModelState(
                model=name,
                namespace=model.spec.serving.namespace,
                looked=model.looked,
                commit=model.applied,
                hosts=model.wanted.hosts if model.wanted else (),
                git_weights=dict(model.wanted.weights) if model.wanted else {},
                weights=model.weights,
                brake=model.obeyed,
                problems=self._problems(model),
                services=tuple(_service(model, version) for version in sorted(model.servers, key=version_number)),
            )
            for name, model in self._models.items()
        ]
        gateway = f"http://{LOOPBACK}:{self._gateway.port}" if self._has_gateway else ""
        write_json(self._folder.status, cluster_status(states, pid=os.getpid(), gateway=gateway, at=datetime.now(UTC)))

    def _problems(self, model: _Model) -> tuple[Problem, ...]:
        problems = [problem for error in (model.problem, model.away) if error for problem in error.problems]
        if model.gateway_problem:
            problems.append(Problem(model.gateway_problem))
        if not self._has_gateway:
            problems.append(Problem("the gateway does not run; it is started again"))
        if model.wanted is None:
            return tuple(problems)
        if model.brake is not None and model.obeyed is None:
            problems.append(Problem(f"the brake cannot be obeyed: {_shown(model.brake)} are not all here"))
        weights = model.obeyed or model.wanted.weights
        for version, weight in weights.items():
            server = model.servers.get(version)
            if weight and (server is None or not server.ready):
                why = server.message if server is not None else "it is not there"
                goes = _shown({v: w for v, w in model.weights.items() if w})
                then = "its requests fail" if model.weights.get(version) else f"until it does, traffic goes {goes}"
                problems.append(Problem(f"{version} does not answer ({why}); {then}"))
        return tuple(problems)


def _service(model: _Model, version: str) -> ServiceState:
    server = model.servers[version]
    return ServiceState(
        version=version,
        digest=server.wanted.digest,
        service=server.wanted.service,
        ready=server.ready,
        refused=server.refused,
        message=server.message,
        since=server.since,
        restarts=server.restarts,
        pid=server.pid,
        port=server.port,
        leaving=version in model.ending,
    )


def _shown(weights: Mapping[str, int]) -> str:
    return ", ".join(f"{version} {weight} %" for version, weight in weights.items())
