"""A rollout's whole world on a real API server: Git, a syncer, KServe, a gateway, Prometheus and a clock.

The controller's code is the real one, all of it: git, the API server's client, the source of counters, the store. Only
time is the test's own: traffic, the syncer and KServe go on when :meth:`RolloutWorld.wait` says so.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.contract.kubernetes_world import KubernetesWorld
from tests.e2e.cluster_make import wait_for
from tests.unit.rollout.analysis.test_sources import Prometheus
from upkeep.rollout.analysis.sources import PrometheusSource
from upkeep.rollout.connect import noter
from upkeep.rollout.controller import Effect, Model, Told, effects, tick
from upkeep.rollout.events import Event
from upkeep.rollout.git import GitRepository, Tree, create_bare
from upkeep.rollout.release import NewVersion, Released, propose, read_release, release_folder
from upkeep.rollout.state import State
from upkeep.serving.kubernetes.brake import braked_path
from upkeep.serving.kubernetes.cluster import KubernetesCluster
from upkeep.serving.kubernetes.paths import LEASES, path
from upkeep.serving.manifests import ServedVersion
from upkeep.spec.model import Webhook
from upkeep.store import open_store

ENVIRON = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1"}
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
EVERYTHING = ("proposed", "moved", "promoted", "rolled_back", "held", "paused", "problem", "failing")


class _Counters(Prometheus):
    """Its answers are of the world's own time."""

    now = 0.0

    def vector(self, query: str) -> dict[str, Any]:
        self.scraped = str(self.now)
        found = super().vector(query)
        for each in found["data"]["result"]:
            each["value"][0] = self.now
            name = each["metric"].get("envoy_cluster_name", "")
            each["metric"] = {"envoy_cluster_name": name.replace("flight-delays", "tiny")} if name else {}
        return found


class RolloutWorld(KubernetesWorld):
    """``bad``: version → the share of its requests that fail."""

    def __init__(self, kubeconfig: Path, folder: Path, syncer: str) -> None:
        super().__init__(kubeconfig, syncer)
        self.now = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
        self.bad: dict[str, float] = {}
        self.rate = 2000.0
        self.posted: list[Event] = []
        self.random = np.random.default_rng(7)
        self.prometheus = _Counters()
        self.counts: dict[str, list[int]] = {}
        repository = folder / "models.git"
        environ = ENVIRON | {"HOME": str(folder)}
        create_bare(repository, "main", environ)
        self.git = GitRepository(str(repository), environ=environ, timeout=60)
        hook = Webhook(url="https://hook.example/x", events=EVERYTHING)  # type: ignore[arg-type]
        self.spec = replace(
            self.spec,
            rollout=replace(
                self.spec.rollout, repository=str(repository), path="models/tiny", bake=30.0, webhooks=(hook,)
            ),
        )
        self.cluster = KubernetesCluster(self._api, place="the test's cluster", now=lambda: self.now)
        self.model = Model(
            spec=self.spec,
            repository=self.git,
            cluster=self.cluster,
            store=open_store(str(folder / "store")),
            counters=PrometheusSource(self.prometheus.url),
            labels=None,
            versions=self,
            post=lambda _, event: self.posted.append(event),
            note=noter(self.spec, self.cluster),
        )
        # time is moved by hand: nothing goes on by itself but what answers
        self._threads = [
            threading.Thread(target=each.serve_forever, kwargs={"poll_interval": 0.05})
            for each in (self._gateway, self.prometheus)
        ]

    def stop(self) -> None:
        self.prometheus.shutdown()
        self.prometheus.server_close()
        super().stop()
        self.git.close()

    def make_leases(self) -> None:
        """Let the API server know a kind of this name, which takes anything: it has no built-in ones."""
        served = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": ANYTHING}}
        names = {"plural": "leases", "singular": "lease", "kind": "Lease", "listKind": "LeaseList"}
        group = "coordination.k8s.io"
        made = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": f"leases.{group}",
                "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
            },
            "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [served]},
        }
        where = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        self._api.apply(f"{where}/leases.{group}", made, "test")
        wait_for("leases are served", lambda: self._api.get(path(LEASES, self.namespace)))

    # --- what happens ----------------------------------------------------------------------------------------------

    def propose(self, number: int, champion: str | None) -> None:
        new = NewVersion(served=self.served(f"v{number}"), verdict="pass", evidence="e" * 64)
        propose(self.spec, new, expected_champion=champion, repository=self.git, now=lambda: self.now)
        self.wait(5)

    def wait(self, seconds: float) -> None:
        """Traffic flows by the live route; then the syncer applies Git, and KServe starts what it says."""
        live = self.cluster.live(self.spec).weights or {}
        for version, weight in live.items():
            counted = self.counts.setdefault(version, [0, 0, 0])
            n = int(self.random.poisson(self.rate * seconds * weight / 100)) if weight else 0
            counted[0] += n
            counted[1] += int(self.random.binomial(n, self.bad.get(version, 0.002)))
            counted[2] += int(self.random.binomial(n, 0.005))
        self.now += timedelta(seconds=seconds)
        self.prometheus.now = self.now.timestamp()
        for at, name in enumerate(("requests", "failed", "slow")):
            setattr(self.prometheus, name, {version: str(each[at]) for version, each in self.counts.items()})
        self._pull()
        self._sync()
        self._kserve()

    def _pull(self) -> None:
        tree = self.git.read("main", release_folder(self.spec))
        files = [yaml.safe_load(data) for name, data in tree.files.items() if name.endswith(".yaml")]
        self._desired = {
            (each["kind"], each["metadata"]["name"]): each
            for each in files
            if each["kind"] in ("HTTPRoute", "InferenceService")
        }
        self._commit = tree.commit or ""

    def merge(self, branch: str) -> None:
        """As a host does it: a merge commit of a person's, past the rules that bind pushes."""
        said = (("NAME", "Ann"), ("EMAIL", "ann@example.com"), ("DATE", self.now.isoformat()))
        who = {f"GIT_{role}_{part}": text for role in ("AUTHOR", "COMMITTER") for part, text in said}

        def git(*words: str) -> str:
            command = ["git", f"--git-dir={self.spec.rollout.repository}", *words]
            return subprocess.run(command, env=ENVIRON | who, check=True, capture_output=True, text=True).stdout.strip()

        tree = git("merge-tree", "--write-tree", "main", branch)
        made = git("commit-tree", tree, "-p", "main", "-p", branch, "-m", f"Merge {branch}")
        git("update-ref", "refs/heads/main", made)
        git("update-ref", "-d", f"refs/heads/{branch}")

    def protect(self) -> None:
        """Let nobody push to main any more."""
        hook = Path(self.spec.rollout.repository) / "hooks" / "update"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text('#!/bin/sh\n[ "$1" != refs/heads/main ] || { echo "protected branch" >&2; exit 1; }\n')
        hook.chmod(0o755)

    def unprotect(self) -> None:
        (Path(self.spec.rollout.repository) / "hooks" / "update").unlink()

    def approve(self, *weights: float) -> None:
        """Ask for a merge before these weights are left."""
        way = "pull_request" if weights else "command"
        self.spec = replace(self.spec, rollout=replace(self.spec.rollout, approve=weights, approve_by=way))
        self.model = replace(self.model, spec=self.spec)

    def look(self) -> Told:
        return tick(self.model, self.now)

    def run(
        self,
        look: Callable[[], Told | None] | None = None,
        most: int = 300,
        until: Callable[[Told], bool] = lambda told: told.rests,
    ) -> None:
        """Look again and again until it rests."""
        for _ in range(most):
            told = (look or self.look)()
            if told is not None and until(told):
                self.wait(5)  # the last commit is applied, too
                return
            self.wait(told.next_look if told else 1.0)
        raise AssertionError(f"no rest after {most} looks: {self.state}")

    @property
    def released(self) -> Released:
        tree: Tree = self.git.read("main", release_folder(self.spec))
        found = read_release(self.spec, tree)
        assert found is not None
        return found

    @property
    def state(self) -> State:
        return self.released.state

    @property
    def subjects(self) -> list[str]:
        """Of all commits, the oldest first."""
        history = list(self.git.history("main", release_folder(self.spec)))
        return [each.subject.partition(": ")[2] for each in reversed(history)]

    @property
    def route(self) -> dict[str, Any]:
        """The live one."""
        return self._api.get(braked_path(self.spec))

    # --- Versions --------------------------------------------------------------------------------------------------

    def missing(self, version: str, digest: str) -> Sequence[str]:
        return [] if digest == self.digest(version) else ["another"]

    def served(self, version: str) -> ServedVersion:
        return ServedVersion(version=version, digest=self.digest(version), update="u")

    def rows(self, version: str) -> Sequence[Mapping[str, Any]]:
        return [{"a": 1.0, "b": 2.0}]


class Killed:
    """Looks that are killed after each kind of effect, the first time that it comes in a phase."""

    def __init__(self, world: RolloutWorld) -> None:
        self.world = world
        self.at: list[str] = []

    def __call__(self) -> Told | None:
        world = self.world
        phase = world.state.phase
        look = effects(world.model, world.now)
        while True:
            try:
                effect: Effect = next(look)
            except StopIteration as end:
                told: Told = end.value
                return told
            effect.run()
            place = f"{phase}: {effect.name}"
            if place not in self.at:
                self.at.append(place)
                return None
