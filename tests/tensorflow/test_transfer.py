"""A base adapted to other classes or other columns starts from all that it knows of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from tests.tensorflow import keras_make as make
from upkeep.data.kinds import Column
from upkeep.errors import ModelError
from upkeep.models.folder import folder_digest, load, read_manifest
from upkeep.models.keras_folder import save_keras
from upkeep.models.keras_runtime import keras
from upkeep.spec.model import Features, Lora, Optimizer, TrainedLayers
from upkeep.training.task import TrainingResult
from upkeep.training.train import train

TWO = Features(numeric=("size",), categorical=("colour",))
ROWS = pa.table(
    {
        "size": [0.5, 3.0, -2.0],
        "colour": ["red", "never seen", "green"],
        "weight": [1.0, None, -3.0],
        "flag": ["true", None, "false"],
        "time": pa.array([0, None, 5], pa.timestamp("us", tz="UTC")),
    }
)
STILL: dict[str, Any] = {"max_steps": 1, "optimizer": Optimizer(rate=1e-12)}
"""What training starts from, as a version."""


def adapt(
    root: Path, classes: tuple[str, ...], *, features: Features = TWO, model: Any = None, **fields: Any
) -> TrainingResult:
    save_keras(root / "base", model if model is not None else make.network(len(classes)), make.manifest(classes))
    candidate = make.tuned(base=str(root / "base"), digest=folder_digest(root / "base"), **fields)
    return train(make.task(root, candidate, features=features), root / "model", root / "state")


def answers(folder: Path) -> npt.NDArray[np.float64]:
    return load(folder).predict_proba(ROWS)


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("classes", "kept"),
    [(("yes", "no"), [1, 0]), (("yes", "maybe", "no"), [2, 0]), (("no", "perhaps", "yes"), [0, 2])],
)
def test_classes_go_by_name(tmp_path: Path, classes: tuple[str, ...], kept: list[int]) -> None:
    """Another order is mapped; of more classes the data's are kept, and their probabilities keep their ratio."""
    result = adapt(tmp_path, classes, **STILL)
    known = answers(tmp_path / "base")[:, kept]
    wanted = known / known.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answers(tmp_path / "model"), wanted, rtol=0, atol=1e-6)
    assert "what the base knows of no, yes went along" in result.notes
    assert not [note for note in result.notes if "new layer" in note]


def test_classes_that_are_new_start_beside_those_that_it_knows(tmp_path: Path) -> None:
    result = adapt(tmp_path, ("maybe", "no", "perhaps"), **STILL)
    assert "the base answers otherwise: it got a new layer for 2 classes" in result.notes
    assert "what the base knows of no went along" in result.notes
    old = load(tmp_path / "base").model.get_layer("last").kernel.numpy()  # type: ignore[attr-defined]
    new = load(tmp_path / "model").model.layers[-1].kernel.numpy()  # type: ignore[attr-defined]
    np.testing.assert_allclose(new[:, 0], old[:, 1], rtol=0, atol=1e-6)
    assert not [column for column in old.T if np.allclose(column, new[:, 1])]


def test_a_base_of_other_classes_lends_what_is_below_its_answer(tmp_path: Path) -> None:
    result = adapt(tmp_path, ("cat", "dog"), epochs=5, train=TrainedLayers(last=1))
    assert not [note for note in result.notes if "went along" in note]
    assert result.curve[-1].loss < result.curve[0].loss
    for layer in ("embed", "hidden"):
        np.testing.assert_array_equal(
            load(tmp_path / "base").model.get_layer(layer).get_weights()[0],  # type: ignore[attr-defined]
            load(tmp_path / "model").model.get_layer(layer).get_weights()[0],  # type: ignore[attr-defined]
        )


def test_an_answer_that_is_no_probability_is_replaced(tmp_path: Path) -> None:
    K = keras()
    base = make.network()
    model = K.Model(base.inputs, K.layers.Dense(2, name="logits")(base.layers[-1].input))
    model = K.Model({tensor.name: tensor for tensor in model.inputs}, model.outputs[0])
    result = adapt(tmp_path, ("no", "yes"), model=model, epochs=1)
    assert "the base answers otherwise: it got a new layer for 2 classes" in result.notes


def test_new_columns_are_left_out_unless_the_spec_adds_them(tmp_path: Path) -> None:
    ignored = adapt(tmp_path / "ignored", ("no", "yes"), features=make.FEATURES, **STILL)
    assert "the base does not take weight, flag, time: it goes without" in ignored.notes
    added = adapt(tmp_path / "added", ("no", "yes"), features=make.FEATURES, new_features="add", **STILL)
    assert "the base does not take weight, flag, time: they come in beside it" in added.notes
    base = answers(tmp_path / "added" / "base")
    for name in ("ignored", "added"):
        np.testing.assert_allclose(answers(tmp_path / name / "model"), base, rtol=0, atol=1e-6)


def test_new_columns_learn_to_count_with_other_classes_and_in_a_delta(tmp_path: Path) -> None:
    chosen = TrainedLayers(lora=Lora(rank=1, layers=("hidden",)))
    adapt(
        tmp_path, ("yes", "no"), features=make.FEATURES, new_features="add", train=chosen, keep="delta", epochs=5
    )  # fmt: skip
    model = tmp_path / "model"
    assert read_manifest(model).format == "delta"
    other = ROWS.set_column(2, "weight", pa.array([5.0, 5.0, 5.0]))
    assert np.abs(load(model).predict_proba(other) - answers(model)).max() > 1e-4
    start = load(model / "base").predict_proba(ROWS)
    np.testing.assert_allclose(start, answers(tmp_path / "base")[:, ::-1], rtol=0, atol=1e-6)
    again = make.tuned(base=str(model), digest=folder_digest(model), new_features="add", **STILL)
    task = make.task(tmp_path, again, features=make.FEATURES)
    assert not [note for note in train(task, tmp_path / "m2", tmp_path / "s2").notes if "does not take" in note]


def test_new_columns_may_come_twice(tmp_path: Path) -> None:
    middle = Features(numeric=("size", "weight"), categorical=("colour",))
    adapt(tmp_path / "first", ("no", "yes"), features=middle, new_features="add", epochs=1)
    model = tmp_path / "first" / "model"
    candidate = make.tuned(base=str(model), digest=folder_digest(model), new_features="add", **STILL)
    train(make.task(tmp_path, candidate, features=make.FEATURES), tmp_path / "m", tmp_path / "s")
    np.testing.assert_allclose(answers(tmp_path / "m"), answers(model), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("features", "says"),
    [
        (Features(numeric=("size",)), "takes colour, which the features do not have"),
        (Features(numeric=("weight",), categorical=("colour",)), "takes size, which the features do not have"),
        (Features(categorical=("size", "colour")), "takes size as float32, and the column is categorical"),
    ],
)
def test_columns_that_are_gone_or_of_another_kind_are_refused(tmp_path: Path, features: Features, says: str) -> None:
    with pytest.raises(ModelError, match=says) as raised:
        adapt(tmp_path, ("no", "yes"), features=features)
    assert raised.value.problems[0].where.field == "data.features"
    assert not (tmp_path / "model").exists()


def test_a_champion_gets_new_columns_too(tmp_path: Path) -> None:
    save_keras(tmp_path / "champion", make.network(), make.manifest())
    candidate = make.tuned(base="champion", network=None, new_features="add", **STILL)
    task = make.task(tmp_path, candidate, features=make.FEATURES, members={"champion": tmp_path / "champion"})
    result = train(task, tmp_path / "model", tmp_path / "state")
    assert "the base does not take weight, flag, time: they come in beside it" in result.notes
    assert load(tmp_path / "model").manifest.columns[0] == Column(name="size", kind="numeric")
    np.testing.assert_allclose(answers(tmp_path / "model"), answers(tmp_path / "champion"), rtol=0, atol=1e-6)
