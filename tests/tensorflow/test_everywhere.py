"""A network is met by the rest of Upkeep as any other model: verify, importance, the server, a whole update."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest
from click.testing import CliRunner

import upkeep
from tests.tensorflow import keras_make as make
from tests.unit.data import make as data
from tests.unit.serving.server.server_process import running
from upkeep.cli.main import upkeep as commands
from upkeep.evaluation.importance import permutation_importance
from upkeep.models.folder import folder_digest, load
from upkeep.models.keras_folder import save_keras
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


def test_the_server_answers_as_a_delta_does(tmp_path: Path) -> None:
    from tests.tensorflow.test_delta import ROWS, trained

    model = trained(tmp_path, epochs=1) / "model"
    base = shutil.move(model / "base", tmp_path / "models" / folder_digest(model / "base"))
    digest = folder_digest(model)
    environ = {"UPKEEP_MODELS": str(Path(base).parent)}
    with running("--model-dir", str(model), digest=digest, environ=environ) as server:
        asked = {"instances": ROWS.to_pylist()}
        answer = httpx.post(f"{server.url}/v1/models/flight-delays:predict", json=asked, timeout=60)
    assert answer.status_code == 200, answer.text
    given = np.array([row["probabilities"]["yes"] for row in answer.json()["predictions"]])
    shutil.move(base, model / "base")
    np.testing.assert_allclose(given, load(model).predict_proba(ROWS)[:, 1], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_versions_that_are_deltas(tmp_path: Path) -> None:
    data.months(tmp_path / "data", count=2, rows=300)
    save_keras(tmp_path / "base", make.network(), make.manifest())
    spec = tmp_path / "upkeep.yaml"
    spec.write_text(
        f"""\
metadata: {{name: toy}}
data:
  source: data
  id: id
  target: {{column: label, positive: "yes"}}
  features: {{numeric: [size], categorical: [colour]}}
candidates:
  - name: net
    strategy: fine_tune
    base: base
    digest: {folder_digest(tmp_path / "base")}
    train: {{lora: {{rank: 1, layers: [hidden]}}}}
    keep: delta
    optimizer: {{rate: 0.05}}
    batch_rows: 64
gate: {{better: {{metric: accuracy}}, min_rows: 20, resamples: 200}}
"""
    )
    assert upkeep.run(spec).version == "v1"
    assert upkeep.verify(spec, "v1") == ()
    show = ["versions", "show", "v1", "--spec", str(spec)]
    text = CliRunner().invoke(commands, show).output
    told = json.loads(CliRunner().invoke(commands, [*show, "--output", "json"]).output)
    assert told["base"] == folder_digest(tmp_path / "base")
    assert told["base"] in text.replace("\n", "").replace(" ", "")
    assert told["size_bytes"] < 5000
