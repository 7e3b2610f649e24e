"""What is exported answers as before, in a process that knows nothing of Upkeep."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from tests.contract.strategies import backbone
from tests.tensorflow import keras_make as make
from tests.unit.models.models_make import model as sklearn_model
from upkeep.data.kinds import Column
from upkeep.errors import InputError, ModelError
from upkeep.models import keras_delta, keras_file
from upkeep.models.folder import folder_digest, load
from upkeep.models.keras_export import export_keras, export_saved_model, signature_names
from upkeep.models.keras_folder import save_keras
from upkeep.spec.model import Features, Lora, TrainedLayers
from upkeep.training.train import train

ROWS = pa.table(
    {
        "size": [0.5, None, float("inf"), -2.0],
        "weight": [None, 1.0, 2.0, 3.0],
        "colour": ["red", None, "never seen", "green"],
        "flag": ["true", "false", None, "true"],
        "time": pa.array([0, None, 86_400_000_000, 5], pa.timestamp("us", tz="UTC")),
    }
)
ALONE = """\
import sys
import numpy as np, tensorflow as tf
if sys.argv[4:]: import tensorflow_text
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
given = np.load(sys.argv[2], allow_pickle=True).item()
kinds = serve.structured_input_signature[1]
out = serve(**{name: tf.constant(values, kinds[name].dtype) for name, values in given.items()})
np.savez(sys.argv[3], **{name: value.numpy().astype("U") if name == "label" else value for name, value in out.items()})
assert not [name for name in sys.modules if name.startswith("upkeep")]
"""


def columns(rows: pa.Table) -> dict[str, list[object]]:
    """As another program would send them."""
    from upkeep.models.keras_layers import NULL_TEXT, NULL_TIME

    null = {"string": NULL_TEXT, "double": float("nan")}
    return {
        name: [null.get(str(rows[name].type), NULL_TIME) if value is None else value for value in _plain(rows[name])]
        for name in rows.column_names
    }


def _plain(column: pa.ChunkedArray) -> list[object]:
    return (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()


def alone(folder: Path, rows: pa.Table, work: Path, *more: str) -> dict[str, npt.NDArray[np.generic]]:
    np.save(work / "given.npy", np.array(columns(rows), dtype=object), allow_pickle=True)
    arguments = [str(folder), str(work / "given.npy"), str(work / "out.npz"), *more]
    done = subprocess.run([sys.executable, "-c", ALONE, *arguments], cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(np.load(work / "out.npz"))


def test_a_saved_model_takes_raw_columns_by_name(tmp_path: Path) -> None:
    train(make.task(tmp_path, make.tuned(epochs=1)), tmp_path / "model", tmp_path / "state")
    predictor = load(tmp_path / "model")
    export_saved_model(predictor, tmp_path / "out" / "3")
    answers = alone(tmp_path / "out" / "3", ROWS, tmp_path)
    wanted = predictor.predict_proba(ROWS)
    np.testing.assert_allclose(answers["probabilities"], wanted, rtol=0, atol=1e-12)
    assert answers["label"].tolist() == [("no", "yes")[place] for place in wanted.argmax(axis=1)]
    with pytest.raises(InputError, match="there already"):
        export_saved_model(predictor, tmp_path / "out" / "3")


def test_a_delta_that_reads_text_is_exported_whole(tmp_path: Path) -> None:
    backbone(tmp_path / "preset", ["red", "green", "blue"])
    candidate = make.tuned(
        base=str(tmp_path / "preset"), digest=folder_digest(tmp_path / "preset"), text="colour", epochs=1,
        train=TrainedLayers(lora=Lora(rank=1)), keep="delta",
    )  # fmt: skip
    task = make.task(tmp_path, candidate, features=Features(numeric=("size",), categorical=("colour",)))
    train(task, tmp_path / "model", tmp_path / "state")
    predictor, rows = load(tmp_path / "model"), ROWS.select(["size", "colour"])
    export_saved_model(predictor, tmp_path / "1")
    wanted = predictor.predict_proba(rows)
    answers = alone(tmp_path / "1", rows, tmp_path, "with tensorflow_text")
    np.testing.assert_allclose(answers["probabilities"], wanted, rtol=0, atol=1e-6)
    export_keras(predictor, tmp_path / "v1.keras")
    save_keras(tmp_path / "whole", keras_file.load(tmp_path / "v1.keras"), predictor.manifest)
    np.testing.assert_array_equal(load(tmp_path / "whole").predict_proba(rows), wanted)
    assert (tmp_path / "v1.keras").stat().st_size > 2 * (tmp_path / "model" / keras_delta.DELTA).stat().st_size


def test_whole_numbers_stay_labels_and_other_kinds_are_told(tmp_path: Path) -> None:
    save_keras(tmp_path / "m", make.network(3), make.manifest((10, 20, 30)))
    export_saved_model(load(tmp_path / "m"), tmp_path / "1")
    rows = ROWS.select(["size", "colour"]).take([0, 3])
    assert set(alone(tmp_path / "1", rows, tmp_path)["label"]) <= {"10", "20", "30"}
    sklearn_model(tmp_path / "s")
    with pytest.raises(ModelError, match="sklearn model, and only networks"):
        export_saved_model(load(tmp_path / "s"), tmp_path / "2")
    assert not (tmp_path / "2").exists()


def test_no_two_columns_are_called_alike() -> None:
    assert signature_names(["a b", "c_1"]) == ("a_b", "c_1")
    with pytest.raises(ModelError, match="a b and a-b alike"):
        signature_names(["a b", "a-b"])


def test_names_that_are_no_words_of_python_are_taken(tmp_path: Path) -> None:
    from dataclasses import replace

    from upkeep.models.keras_feed import input_name
    from upkeep.models.keras_runtime import keras

    K = keras()
    odd = K.Input((1,), name=input_name("km/h (max)"), dtype="float64")
    answers = K.layers.Dense(2, activation="softmax")(odd)
    column = Column(name="km/h (max)", kind="numeric")
    manifest = replace(make.manifest(), columns=(column,))
    save_keras(tmp_path / "m", K.Model({odd.name: odd}, answers), manifest)
    rows = pa.table({column.name: [1.0, 2.0]})
    export_saved_model(load(tmp_path / "m"), tmp_path / "1")
    given = rows.rename_columns(["km_h__max_"])
    np.testing.assert_allclose(
        alone(tmp_path / "1", given, tmp_path)["probabilities"],
        load(tmp_path / "m").predict_proba(rows),
        rtol=0,
        atol=1e-12,
    )
