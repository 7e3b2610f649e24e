"""A whole small world for the controller: Git, cluster, traffic, store and clock, all in memory, moved by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from upkeep.errors import ConflictError, OutsideError
from upkeep.rollout.analysis.ledger import Labels
from upkeep.rollout.controller import Model, Told, effects, tick
from upkeep.rollout.events import Event
from upkeep.rollout.git import Commit, Tree
from upkeep.rollout.release import NewVersion, propose, read_release
from upkeep.rollout.state import State
from upkeep.serving.cluster import Facts, Live, Probe, ServiceStatus
from upkeep.serving.counters import Counts, Snapshot
from upkeep.serving.manifests import ServedVersion
from upkeep.spec.model import ModelSpec, Webhook
from upkeep.store import Store, open_store

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@dataclass
class Git:
    """:class:`upkeep.rollout.git.Repository` in memory, with its history."""

    commits: list[Commit] = field(default_factory=list)
    url: str = "memory"
    before_push: Callable[[], None] = lambda: None
    pushes: int = 0
    branches: dict[str, dict[str, bytes | None]] = field(default_factory=dict)
    """Branch → what its commit changes of the files of its base."""
    messages: dict[str, str] = field(default_factory=dict)
    bases: dict[str, dict[str, bytes | None]] = field(default_factory=dict)

    def read(self, branch: str, folder: str = "") -> Tree:
        if not self.commits:
            return Tree(None, {})
        newest = self.commits[-1]
        return Tree(newest.id, dict(newest.files))

    def commit_and_push(
        self, branch: str, base: str | None, changes: Mapping[str, bytes | None], message: str, when: datetime
    ) -> str:
        self.before_push()
        if base != (self.commits[-1].id if self.commits else None):
            raise ConflictError("somebody else pushed first")
        self.pushes += 1
        return self.add(changes, message, when, "upkeep <upkeep@localhost>")

    def add(self, changes: Mapping[str, bytes | None], message: str, when: datetime, author: str) -> str:
        files = dict(self.commits[-1].files) if self.commits else {}
        for path, content in changes.items():
            if content is None:
                files.pop(path, None)
            else:
                files[path] = content
        subject, _, rest = message.partition("\n")
        last = rest.strip().split("\n\n")[-1]
        trailers = dict(line.split(": ", 1) for line in last.splitlines() if line.startswith("Upkeep-"))
        identity = f"{len(self.commits) + 1:040x}"
        self.commits.append(
            Commit(id=identity, when=when, author=author, subject=subject, trailers=trailers, files=files)
        )
        return identity

    def push_aside(
        self, branch: str, base: str, changes: Mapping[str, bytes | None], message: str, when: datetime
    ) -> str:
        (stood,) = [each.files for each in self.commits if each.id == base]
        self.branches[branch], self.messages[branch] = dict(changes), message
        self.bases[branch] = {path: stood.get(path) for path in changes}
        return f"aside of {base}"

    def remove_branch(self, branch: str) -> None:
        self.branches.pop(branch, None)

    def merge(self, branch: str, when: datetime) -> str:
        """A person merges it; it is gone then. Raises :class:`ConflictError` where main changed the same files."""
        now = self.commits[-1].files
        if any(now.get(path) != content for path, content in self.bases[branch].items()):
            raise ConflictError("it cannot be merged")
        return self.add(self.branches.pop(branch), f"Merge {branch}\n", when, "Ann <ann@example.com>")

    def check_push(self, branch: str, base: str | None, when: datetime) -> None:
        self.before_push()

    def history(self, branch: str, folder: str) -> Iterator[Commit]:
        return iter(reversed(list(self.commits)))

    def revert(self, when: datetime) -> str:
        """``git revert`` of the newest commit."""
        newest, before = self.commits[-1], self.commits[-2]
        changes: dict[str, bytes | None] = {path: None for path in newest.files if path not in before.files}
        changes |= before.files
        message = f'Revert "{newest.subject}"\n\nThis reverts commit {newest.id}.\n'
        return self.add(changes, message, when, "Alex <alex@example.com>")


@dataclass
class World:
    """``bad``: version → the share of its requests that fail; ``rate``: requests a second."""

    spec: ModelSpec
    now: datetime = START
    rate: float = 50.0
    bad: dict[str, float] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)
    lag: float = 1.0
    """Seconds until the cluster applies a commit."""
    git: Git = field(default_factory=Git)
    store: Store = field(default_factory=lambda: open_store("memory://"))
    posted: list[Event] = field(default_factory=list)
    away: set[str] = field(default_factory=set)
    """What cannot be reached: cluster, counters, git."""
    unready: set[str] = field(default_factory=set)
    unwell: set[str] = field(default_factory=set)
    """Versions that are ready, and answer 500."""
    vanished: set[str] = field(default_factory=set)
    labels: Callable[[State], Labels] | None = None

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(7)
        self.counts: dict[str, Counts] = {}
        self.epoch = "1"
        self.applied: str | None = None
        self.weights: dict[str, int] = {}
        self.services: dict[str, ServedVersion] = {}
        self.forced: dict[str, int] | None = None
        self.refreshes = 0
        self.lost = 0
        self.model = Model(
            spec=self.spec,
            repository=self.git,
            cluster=self,
            store=self.store,
            counters=_Counters(self),
            labels=_Labels(self) if self.labels is not None else None,
            versions=self,
            post=self.post,
        )

    # --- what happens

    def propose(self, number: int, champion: str | None) -> None:
        served = ServedVersion(version=f"v{number}", digest=f"{number:064x}", update=f"update-{number}")
        new = NewVersion(served=served, verdict="pass", evidence="e" * 64)
        propose(self.spec, new, expected_champion=champion, repository=self.git, now=lambda: self.now)

    def wait(self, seconds: float) -> None:
        """Time passes: traffic flows, the cluster follows Git."""
        self.now += timedelta(seconds=seconds)
        newest = self.git.commits[-1] if self.git.commits else None
        if newest is not None and newest.id != self.applied and "sync" not in self.away:
            age = (self.now - newest.when).total_seconds()
            before = max(0.0, min(seconds, self.lag - (age - seconds)))
            self._traffic(before)
            if age >= self.lag:
                self._apply(newest)
            self._traffic(seconds - before)
        else:
            self._traffic(seconds)

    def _apply(self, commit: Commit) -> None:
        try:
            released = read_release(self.spec, Tree(commit.id, commit.files))
        except Exception:
            return
        if released is not None:
            self.applied = commit.id
            self.weights = dict(released.state.weights)
            self.services = dict(released.versions)

    def _traffic(self, seconds: float) -> None:
        weights = self.forced or self.weights
        for version, weight in weights.items():
            n = int(self.random.poisson(self.rate * seconds * weight / 100)) if weight else 0
            if not n:
                continue
            if version not in self.services:
                self.lost += n
                continue
            failed = int(self.random.binomial(n, self.bad.get(version, 0.002)))
            slow = int(self.random.binomial(n, self.slow.get(version, 0.005)))
            was = self.counts.get(version, Counts(requests=0, failed=0, slow=0, active=0))
            self.counts[version] = Counts(
                requests=was.requests + n, failed=was.failed + failed, slow=was.slow + slow, active=0
            )

    def look(self) -> Told:
        return tick(self.model, self.now)

    def run(self, *, most: float = 7200, until: Callable[[Told], bool] = lambda told: told.rests) -> Told:
        """Look again and again until it rests; the last look."""
        end = self.now + timedelta(seconds=most)
        while True:
            told = self.look()
            if until(told):
                return told
            if self.now >= end:
                raise AssertionError(f"no rest after {most} s: {told.message} ({told.state})")
            self.wait(told.next_look)

    @property
    def state(self) -> State:
        newest = self.git.commits[-1]
        released = read_release(self.spec, Tree(newest.id, newest.files))
        assert released is not None
        return released.state

    @property
    def subjects(self) -> list[str]:
        return [commit.subject.partition(": ")[2] for commit in self.git.commits]

    # --- Cluster

    def facts(self, spec: ModelSpec) -> Facts:
        return Facts(place="a small world", drivers=frozenset({"route"}))

    def live(self, spec: ModelSpec) -> Live:
        if "cluster" in self.away:
            raise OutsideError("the cluster does not answer", fix="see that it runs")
        services = {
            version: ServiceStatus(version=version, digest=served.digest, ready=version not in self.unready)
            for version, served in self.services.items()
        }
        return Live(
            weights=dict(self.forced or self.weights) or None,
            services=services,
            commit=self.applied,
            at=self.now,
            braked=self.forced is not None,
        )

    def probe(self, spec: ModelSpec, version: str, rows: Sequence[Mapping[str, Any]]) -> Probe:
        if version in self.unwell:
            return Probe(ok=False, status=500, message="it answered 500")
        return Probe(ok=True, status=200)

    def refresh(self, spec: ModelSpec) -> None:
        self.refreshes += 1

    def brake(self, spec: ModelSpec, weights: Mapping[str, int]) -> None:
        self.forced = dict(weights)

    def release(self, spec: ModelSpec) -> None:
        self.forced = None

    # --- Versions

    def missing(self, version: str, digest: str) -> Sequence[str]:
        return ["model.skops"] if version in self.vanished else []

    def served(self, version: str) -> ServedVersion:
        number = int(version[1:])
        return ServedVersion(version=version, digest=f"{number:064x}", update=f"update-{number}")

    def rows(self, version: str) -> Sequence[Mapping[str, Any]]:
        return [{"x": 0.0}]

    def post(self, webhook: Webhook, event: Event) -> None:
        self.posted.append(event)


@dataclass
class _Counters:
    world: World

    def read(self, spec: ModelSpec) -> Snapshot:
        if "counters" in self.world.away:
            raise OutsideError("Prometheus does not answer", fix="see that it runs")
        return Snapshot(at=self.world.now, epoch=self.world.epoch, versions=dict(self.world.counts))


@dataclass
class _Labels:
    world: World

    def read(self, spec: ModelSpec, state: State, cursor: Mapping[str, str], now: datetime) -> Labels:
        assert self.world.labels is not None
        return self.world.labels(state)


def crash_after(model: Model, now: datetime, count: int) -> bool:
    """A look that is killed after ``count`` effects; whether it came to that."""
    for number, effect in enumerate(effects(model, now)):
        if number == count:
            return True
        effect.run()
    return False


def quick(spec: ModelSpec, **rollout: Any) -> ModelSpec:
    """The spec with a rollout of minutes, and everyone told."""
    everything = ("proposed", "moved", "promoted", "rolled_back", "held", "paused", "problem", "failing")
    hook = Webhook(url="https://hook.example/x", events=everything)  # type: ignore[arg-type]
    return replace(spec, rollout=replace(spec.rollout, **({"bake": 60.0, "webhooks": (hook,)} | rollout)))
