"""Rollouts of tiny models on the real one-machine cluster, for tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from tests.e2e.cluster_make import UPKEEP, Cluster, cluster, tiny_model
from upkeep import api
from upkeep.data.kinds import Column
from upkeep.models.digest import folder_digest
from upkeep.models.folder import save_sklearn
from upkeep.models.manifest import Manifest
from upkeep.registry.card import Card, Trained
from upkeep.rollout.history import Entry
from upkeep.rollout.release import NewVersion, Serving, propose, serving_now
from upkeep.rollout.state import State
from upkeep.serving.manifests import ServedVersion

SPEC = """\
metadata: {name: tiny}
store: store
data:
  source: data.csv
  target: {column: y, positive: true}
  features: {numeric: [a, b]}
candidates:
  - {name: logistic, strategy: retrain, estimator: sklearn.linear_model.LogisticRegression}
rollout:
  timeout: 1s
  latency: 2s
  margin: {errors: 10%, latency: 20%}
  every: 300ms
  bake: 2s
  steps: [STEPS]
"""


def failing_model(store: Path) -> str:
    """A model that is ready (it knows the values 0 and 1), and cannot answer any other value; its digest."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"a": rng.integers(0, 2, 200).astype(float), "b": rng.integers(0, 2, 200).astype(float)})
    pipeline = make_pipeline(OrdinalEncoder(categories=[[0.0, 1.0], [0.0, 1.0]]), LogisticRegression())
    pipeline.fit(rows, rows["a"] > 0)
    columns = (Column(name="a", kind="numeric"), Column(name="b", kind="numeric"))
    models = store / "tiny" / "models"
    manifest = Manifest(format="sklearn", columns=columns, classes=(False, True), positive=True, libraries={})
    save_sklearn(models / "new", pipeline, manifest)
    digest = folder_digest(models / "new")
    (models / "new").rename(models / digest)
    return digest


class Rollouts:
    """A cluster, and challengers to roll out on it."""

    def __init__(self, root: Path, steps: str = "25%") -> None:
        self.cluster: Cluster = cluster(root)
        self.cluster.spec_file.write_text(SPEC.replace("STEPS", steps))
        self.cluster.environ |= {
            f"GIT_{role}_{part}": text
            for role in ("AUTHOR", "COMMITTER")
            for part, text in (("NAME", "Alex"), ("EMAIL", "alex@example.com"))
        }
        self.spec = api.load_spec(self.cluster.spec_file)

    def release(self, number: int, champion: str | None, *, fails: bool = False) -> None:
        """Register a version, and propose it as an update does."""
        registry = api.registry(self.spec)
        store = self.cluster.root / "store"
        digest = failing_model(store) if fails else tiny_model(store, number)
        registry.put_model(store / "tiny" / "models" / digest)
        trained = Trained(
            candidate="logistic", strategy="retrain", params={}, seed=0, rows=200, periods=(), until=None, seconds=0.1
        )
        card = Card(
            model="tiny", version=f"v{number}", digest=digest, size_bytes=1, created="2026-03-01T00:00:00+00:00",
            update=f"u{number}", dataset=None, rows={}, spec="0" * 64, code={}, trained=trained, scores={},
            verdict=None, champion=champion, parents=(), profile=None, drift=None,
        )  # fmt: skip
        assert registry.register(card).version == f"v{number}"
        served = ServedVersion(version=f"v{number}", digest=digest, update=f"u{number}")
        propose(self.spec, NewVersion(served=served, verdict="pass"), expected_champion=champion)

    def run(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        """``upkeep rollout …``, as a user runs it."""
        return subprocess.run(
            [UPKEEP, "rollout", command, "--spec", str(self.cluster.spec_file), *options],
            env=self.cluster.environ,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def watch_killed(self) -> None:
        """A controller that is killed at every effect, until nothing is under way."""
        module = "tests.e2e.rollout_killed"
        subprocess.run(
            [sys.executable, "-m", module, str(self.cluster.spec_file), str(self.cluster.root / "killed")],
            env=self.cluster.environ,
            cwd=Path(__file__).parents[2],
            timeout=240,
            check=True,
        )

    @property
    def killed(self) -> list[str]:
        """Where it was killed: ``phase: effect``."""
        return (self.cluster.root / "killed").read_text().splitlines()

    def history(self) -> list[Entry]:
        return list(api.history(self.spec))

    @property
    def serving(self) -> Serving:
        return serving_now(self.spec)

    @property
    def state(self) -> State:
        return api.rollout_status(self.spec).state
