"""One suite for every cluster that a rollout may work on.

A harness stands for the world around the cluster: it applies manifests as the syncer would, and breaks a version. How
fast a cluster takes a broken version out of the traffic is no part of the contract.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from tests.contract.kubernetes_world import KubernetesWorld
from tests.e2e.cluster_make import Cluster as Machine
from tests.e2e.cluster_make import cluster as machine
from tests.e2e.cluster_make import wait_for
from tests.e2e.fake_up import fake_launch
from upkeep.errors import OutsideError
from upkeep.rollout.source import ReleaseSource
from upkeep.serving.cluster import Cluster, Live
from upkeep.serving.drivers import driver_of
from upkeep.serving.local.cluster import LocalCluster
from upkeep.serving.local.daemon import Daemon
from upkeep.serving.local.folder import Folder
from upkeep.spec.model import ModelSpec

ROWS = ({"a": 1.0, "b": 2.0}, {"a": -1.0, "b": 0.5})
REST = {"v1": 100, "v2": 0}


class Harness(Protocol):
    """What a cluster's own test brings."""

    cluster: Cluster
    spec: ModelSpec
    """A model with the versions v1 and v2."""
    unreleased: ModelSpec
    """A model that the cluster would serve, and that has no manifests yet."""
    unreachable: Cluster
    """The same kind of cluster, where nothing answers."""

    def apply(self, weights: Mapping[str, int]) -> str:
        """Commit manifests of these versions with these weights; the commit, which the syncer will apply."""
        ...

    def digest(self, version: str) -> str: ...

    def break_(self, version: str) -> None:
        """Make a version's server end, and not come back."""
        ...

    def mend(self, version: str) -> None: ...


class OneMachine:
    """The daemon and Envoy are the real ones; the model servers answer like the real one and start at once."""

    def __init__(self, root: Path) -> None:
        self._machine: Machine = machine(root)
        self.spec = self._machine.spec
        self.unreleased = replace(self.spec, metadata=replace(self.spec.metadata, name="other"))
        repository = str(root / "other.git")
        self.unreleased = replace(
            self.unreleased, rollout=replace(self.spec.rollout, repository=repository, path="models/other")
        )
        from upkeep.rollout.git import create_bare

        create_bare(Path(repository), "main", self._machine.environ)
        self._folder = Folder(self._machine.folder)
        self.cluster = LocalCluster(self._folder)
        self.unreachable = LocalCluster(Folder(root / "elsewhere"))
        self._daemon: Daemon | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        async def serve() -> None:
            sources = [ReleaseSource(self.spec), ReleaseSource(self.unreleased)]
            self._daemon = Daemon(sources, self._folder, launch_server=fake_launch, environ=self._machine.environ)
            await self._daemon.run()

        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(serve())
        self._loop.close()

    def stop(self) -> None:
        if self._daemon is not None:
            self._loop.call_soon_threadsafe(self._daemon.stop)
        self._thread.join(60)
        assert not self._thread.is_alive()

    def apply(self, weights: Mapping[str, int]) -> str:
        return self._machine.apply(weights)

    def digest(self, version: str) -> str:
        return self._machine.digest(version)

    def break_(self, version: str) -> None:
        self._machine.broken(version).touch()
        os.kill(self._machine.service(version)["upkeep"]["pid"], signal.SIGKILL)

    def mend(self, version: str) -> None:
        self._machine.broken(version).unlink()


@pytest.fixture(
    scope="module",
    params=["one machine", *(pytest.param(syncer, marks=pytest.mark.slow) for syncer in ("argocd", "flux"))],
)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    harness: OneMachine | KubernetesWorld
    if request.param == "one machine":
        harness = OneMachine(tmp_path_factory.mktemp("world"))
    else:
        harness = KubernetesWorld(request.getfixturevalue("kubeconfig"), request.param)
    harness.start()
    try:
        yield harness
    finally:
        harness.stop()


@pytest.fixture
def rested(world: Harness) -> Harness:
    """v1 at 100 %, v2 at 0 %, both ready, nothing forced."""
    wait_for("an answer", lambda: world.cluster.release(world.spec) is None)
    applied(world, REST)
    return world


def applied(world: Harness, weights: Mapping[str, int]) -> Live:
    commit = world.apply(weights)
    world.cluster.refresh(world.spec)

    def done() -> Live | None:
        live = world.cluster.live(world.spec)
        ready = {version for version, service in live.services.items() if service.ready}
        return live if live.commit == commit and live.weights == weights and ready == {*weights} else None

    found: Live = wait_for(f"{weights} is applied", done)
    return found


def test_live_tells_weights_services_and_the_applied_commit(rested: Harness) -> None:
    live = applied(rested, {"v1": 75, "v2": 25})
    assert {version: service.digest for version, service in live.services.items()} == {
        version: rested.digest(version) for version in ("v1", "v2")
    }
    assert all(service.version == version for version, service in live.services.items())
    assert not live.braked
    assert live.message == ""
    assert timedelta(0) <= datetime.now(UTC) - live.at < timedelta(minutes=1)


def test_a_version_that_git_does_not_name_any_more_goes(rested: Harness) -> None:
    live = applied(rested, {"v1": 100})
    assert {*live.services} == {"v1"}


def test_a_model_without_manifests_has_neither_weights_nor_services(rested: Harness) -> None:
    live = rested.cluster.live(rested.unreleased)
    assert live.weights is None
    assert dict(live.services) == {}
    assert live.commit is None


def test_a_probe_asks_the_version_that_it_names_whatever_the_weights(rested: Harness) -> None:
    for version in ("v1", "v2"):
        probe = rested.cluster.probe(rested.spec, version, ROWS)
        assert (probe.ok, probe.status) == (True, 200), probe.message


def test_a_probe_with_rows_that_the_model_refuses_is_not_ok(rested: Harness) -> None:
    probe = rested.cluster.probe(rested.spec, "v1", [{"nothing": 1}])
    assert (probe.ok, probe.status) == (False, 400)
    assert probe.message


def test_a_broken_version_is_not_ready_says_why_and_fails_its_probe(rested: Harness) -> None:
    rested.break_("v2")

    def broken() -> bool:
        service = rested.cluster.live(rested.spec).services["v2"]
        return not service.ready and bool(service.message)

    wait_for("v2 is not ready", broken)
    assert not rested.cluster.probe(rested.spec, "v2", ROWS).ok
    assert rested.cluster.live(rested.spec).services["v1"].ready
    assert rested.cluster.probe(rested.spec, "v1", ROWS).ok
    rested.mend("v2")
    wait_for("v2 is ready again", lambda: rested.cluster.live(rested.spec).services["v2"].ready)
    wait_for("v2 answers", lambda: rested.cluster.probe(rested.spec, "v2", ROWS).ok)


def test_the_brake_holds_over_commits_until_it_is_released(rested: Harness) -> None:
    cluster, spec = rested.cluster, rested.spec
    cluster.brake(spec, {"v1": 0, "v2": 100})
    for _ in range(2):
        live = cluster.live(spec)
        assert live.braked
        assert live.weights == {"v1": 0, "v2": 100}
        cluster.brake(spec, {"v1": 0, "v2": 100})  # again: nothing changes
    commit = rested.apply({"v1": 30, "v2": 70})
    wait_for("the commit", lambda: cluster.live(spec).commit == commit)
    assert cluster.live(spec).weights == {"v1": 0, "v2": 100}
    cluster.brake(spec, {"v1": 100, "v2": 0})
    assert cluster.live(spec).weights == {"v1": 100, "v2": 0}
    cluster.release(spec)
    wait_for("Git's weights", lambda: cluster.live(spec).weights == {"v1": 30, "v2": 70})
    assert not cluster.live(spec).braked
    cluster.release(spec)


def test_the_driver_of_the_spec_works_on_this_cluster(rested: Harness) -> None:
    facts = rested.cluster.facts(rested.spec)
    assert facts.place
    assert driver_of(rested.spec).refusals(rested.spec, facts) == ()


def test_where_nothing_answers_nothing_is_known(world: Harness) -> None:
    away, spec = world.unreachable, world.spec
    with pytest.raises(OutsideError):
        away.live(spec)
    with pytest.raises(OutsideError):
        away.brake(spec, REST)
    with contextlib.suppress(OutsideError):
        assert not away.probe(spec, "v1", ROWS).ok
    away.refresh(spec)
