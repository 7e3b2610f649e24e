"""A network is met by the rest of Upkeep as any other model: verify, importance, the server, a whole update."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest

import upkeep
from tests.tensorflow import keras_make as make
from tests.unit.data import make as data
from tests.unit.serving.server.server_process import running
from upkeep.evaluation.importance import permutation_importance
from upkeep.models.folder import folder_digest, load
from upkeep.registry.verify import verify_served
from upkeep.training.train import train


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("everywhere")
    train(make.task(root, make.tuned(epochs=10)), root / "model", root / "state")
    return root


def test_verify_and_importance(world: Path) -> None:
    prepared = make.task(world, make.tuned()).prepared
    predictor = load(world / "model")
    columns = [column.name for column in predictor.manifest.columns]
    rows = prepared.table(parts=("held_out",), columns=[*columns, "label"])
    verified = verify_served(world / "model", rows, predictor.predict_proba(rows))
    assert (verified.ok, verified.largest_difference) == (True, 0.0)
    (size, *others) = permutation_importance(
        rows, prepared.codes(rows), {"net": (predictor.predict_proba, columns)}, "accuracy", 1, repeats=3
    )
    assert size.column == "size"
    assert others


def test_the_server_answers_as_the_folder_does(world: Path) -> None:
    predictor = load(world / "model")
    rows = make.task(world, make.tuned()).prepared.table(
        parts=("held_out",), columns=[column.name for column in predictor.manifest.columns]
    )
    asked = [{**row, "time": row["time"].isoformat()} for row in rows.slice(0, 5).to_pylist()]
    asked.append({"size": None, "weight": None, "colour": "never seen", "flag": None, "time": None})
    digest = folder_digest(world / "model")
    with running("--model-dir", str(world / "model"), digest=digest) as server:
        answer = httpx.post(f"{server.url}/v1/models/flight-delays:predict", json={"instances": asked}, timeout=60)
    assert answer.status_code == 200, answer.text
    given = np.array([row["probabilities"]["yes"] for row in answer.json()["predictions"]])
    np.testing.assert_allclose(given[:5], predictor.predict_proba(rows.slice(0, 5))[:, 1], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_an_update_with_networks_and_an_ensemble_across_kinds(tmp_path: Path) -> None:
    data.months(tmp_path / "data", count=2, rows=300)
    (tmp_path / "upkeep.yaml").write_text(
        """\
metadata: {name: toy}
data:
  source: data
  id: id
  target: {column: label, positive: "yes"}
  features: {numeric: [size, weight], categorical: [colour]}
candidates:
  - {name: net, strategy: fine_tune, network: {hidden: [6]}, optimizer: {rate: 0.02}, batch_rows: 64}
  - {name: line, strategy: retrain, estimator: sklearn.linear_model.LogisticRegression}
  - {name: both, strategy: ensemble, members: [net, line], method: stacking}
gate: {better: {metric: accuracy}, min_rows: 20, resamples: 200}
"""
    )
    record = upkeep.run(tmp_path / "upkeep.yaml")
    assert (record.verdict.verdict, record.version) == ("pass", "v1")
    assert record.chosen in ("net", "line", "both")
    assert upkeep.verify(upkeep.load_spec(tmp_path / "upkeep.yaml"), "v1") == ()
