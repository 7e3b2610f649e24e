"""The compiled pipeline, run step by step as KFP runs it: what knows the run, who holds the lock, what is cached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from upkeep.pipelines.compile import compile_pipeline

from tests.e2e.test_update import month
from upkeep import api, records
from upkeep.spec.load import canonical
from upkeep.update.record import UpdateRecord

ROOT = Path(__file__).parents[2]
SPEC = """\
metadata: {name: churn}
store: store
data:
  source: data
  period: month
  id: id
  target: {column: left, positive: true}
  features: {numeric: [age, spend], categorical: [plan]}
drift: {classifier_rows: 0}
candidates: [{name: logistic, strategy: retrain, estimator: sklearn.linear_model.LogisticRegression}]
gate: {resamples: 200}
"""


@pytest.mark.slow
def test_an_unchanged_update_costs_two_pods_and_new_bytes_are_seen(tmp_path: Path) -> None:
    month(tmp_path, "2026-01", slope=1.0, seed=1, rows=1500)
    (tmp_path / "upkeep.yaml").write_text(SPEC)
    spec = api.load_spec(tmp_path / "upkeep.yaml")
    registry = api.registry(spec)
    digest = registry.put_spec(canonical(spec))
    package = compile_pipeline(spec, tmp_path / "update.yaml")
    parameters = {"spec": f"{registry.store.uri}/churn/specs/{digest}.json", "spec_digest": digest}

    def run(name: str, **asked: bool) -> tuple[list[str], UpdateRecord]:
        """The steps that ran in pods, and what the update left."""
        words = [str(package), json.dumps({**parameters, **asked}), str(tmp_path / "kfp"), name]
        environment = {key: value for key, value in os.environ.items() if key != "UPKEEP_UPDATE"}
        done = subprocess.run(
            [sys.executable, "-m", "tests.e2e.kfp_pods", *words],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert registry.holder() is None, "the last step gives the lock back"
        ran = [line for line in done.stderr.splitlines() if line in ALL]
        return ran, records.from_json(UpdateRecord, registry.get_update(name, "record.json"))

    steps, record = run("run-1")
    assert (sorted(steps), record.update, record.outcome) == (sorted(ALL), "run-1", "first")
    steps, record = run("run-2")  # there is a champion now
    assert (sorted(steps), record.champion, record.outcome) == (sorted(ALL), "v1", "not_registered")
    steps, record = run("run-3")
    assert (steps, record.update, record.outcome) == (["collect", "deploy"], "run-3", "not_registered")
    month(tmp_path, "2026-01", slope=1.0, seed=2, rows=1500)  # other rows under the old name
    steps, record = run("run-4", accept_changed=True)
    assert sorted(steps) == sorted(ALL)


ALL = ("collect", "preprocess", "drift", "train", "evaluate", "deploy")
