"""A SavedModel as a base: a body that does not learn, taken out of it only where nothing but arithmetic is in it."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.tensorflow import keras_make as make
from tests.tensorflow.test_keras_file import config_edited, edited
from upkeep.errors import IntegrityError, ModelError
from upkeep.models import keras_file
from upkeep.models.folder import folder_digest, load, read_manifest
from upkeep.models.keras_graph import check_saved_model, open_saved_model, read_graph
from upkeep.models.keras_runtime import keras, quiet, tensorflow
from upkeep.registry.verify import verify_served
from upkeep.spec.model import Features, Lora, TrainedLayers
from upkeep.training.task import TrainingResult
from upkeep.training.train import train

NUMBERS = Features(numeric=("size", "weight"))
ROWS = pa.table({"size": [0.5, 3.0, -2.0], "weight": [1.0, -1.0, 0.0]})


def save(folder: Path, body: Callable[..., Any], *names: str, **parts: Any) -> Path:
    """A SavedModel of ``body`` with a vector of float32 a name."""
    tf = tensorflow()
    module = tf.Module()
    for name, part in parts.items():
        setattr(module, name, part)
    columns = names or ("size", "weight")
    signature = [tf.TensorSpec((None,), tf.float32, name=name) for name in columns]
    module.serve = tf.function(body, input_signature=signature, autograph=False)
    with quiet():
        tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return folder


def plain(folder: Path) -> Path:
    tf = tensorflow()
    weights = tf.Variable(np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32))
    return save(folder, lambda size, weight: {"body": tf.tanh(tf.stack([size, weight], 1) @ weights)}, w=weights)


def adapt(root: Path, base: Path, features: Features = NUMBERS, **fields: Any) -> TrainingResult:
    settings = {"base": str(base), "digest": folder_digest(base), "epochs": 8, **fields}
    return train(make.task(root, make.tuned(**settings), features=features), root / "model", root / "state")


@pytest.mark.parametrize("keep", ["whole", "delta"])
def test_a_layer_learns_on_top_of_it(tmp_path: Path, keep: str) -> None:
    base = plain(tmp_path / "base")
    chosen = TrainedLayers(last=1) if keep == "delta" else TrainedLayers()
    result = adapt(tmp_path, base, keep=keep, train=chosen)
    assert result.curve[-1].loss < result.curve[0].loss
    assert result.params["trained_parameters"] == 3 * 2 + 2
    assert "the base is a graph, which does not learn: the layer on top of it does" in result.notes
    model = tmp_path / "model"
    assert read_manifest(model).format == ("delta" if keep == "delta" else "keras")
    wanted = load(model).predict_proba(ROWS)
    assert verify_served(model, ROWS, wanted, tolerance=1e-9).ok  # without the SavedModel, in a fresh process
    tf = tensorflow()
    loaded = tf.saved_model.load(str(base))
    body = loaded.serve(tf.constant([0.5, 3, -2]), tf.constant([1.0, -1, 0]))["body"].numpy()
    last = load(model).model.layers[-1]  # type: ignore[attr-defined]
    logits = body @ last.kernel.numpy() + last.bias.numpy()
    np.testing.assert_allclose(wanted, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), atol=1e-6)


def test_the_same_base_gives_the_same_bytes_and_new_columns_come_in_beside_it(tmp_path: Path) -> None:
    base = plain(tmp_path / "base")
    digests = set()
    for name in ("one", "two"):
        result = adapt(tmp_path / name, base, make.FEATURES, new_features="add", epochs=1)
        assert any("colour, flag, time: they come in beside it" in note for note in result.notes)
        digests.add(folder_digest(tmp_path / name / "model"))
    assert len(digests) == 1


def test_a_keras_network_that_was_exported_is_one_too(tmp_path: Path) -> None:
    K = keras()
    K.utils.set_random_seed(1)
    inputs = {name: K.Input((1,), name=name, dtype="float32") for name in ("size", "weight")}
    hidden = K.layers.Dense(4, activation="gelu")(K.layers.Concatenate()(list(inputs.values())))
    hidden = K.layers.Dropout(0.1)(K.layers.BatchNormalization()(hidden))
    with quiet():
        K.Model(inputs, hidden).export(str(tmp_path / "base"), verbose=False)
    assert adapt(tmp_path, tmp_path / "base", epochs=1).params["trained_parameters"] == 4 * 2 + 2


def test_it_is_pinned_takes_the_datas_columns_and_has_no_layer_to_adapt(tmp_path: Path) -> None:
    base = plain(tmp_path / "base")
    with pytest.raises(IntegrityError, match="hash to"):
        adapt(tmp_path, base, digest="0" * 64)
    with pytest.raises(ModelError, match="takes weight, which the features do not have"):
        adapt(tmp_path, base, Features(numeric=("size",)))
    with pytest.raises(ModelError, match="takes size as float64, and the column is categorical"):
        adapt(tmp_path, base, Features(numeric=("weight",), categorical=("size",)))
    with pytest.raises(Exception, match="no layer query with weights"):
        adapt(tmp_path, base, train=TrainedLayers(lora=Lora(rank=1)))


def _reads(tf: Any, *_: Any) -> Any:
    return tf.strings.length(tf.io.read_file("/etc/passwd"))


def _writes(tf: Any, *_: Any) -> Any:
    with tf.control_dependencies([tf.io.write_file("/tmp/upkeep-was-here", "x")]):
        return tf.constant(0)


def _calls_python(tf: Any, *_: Any) -> Any:
    return tf.numpy_function(lambda: np.int32(0), [], tf.int32)


def _loops(tf: Any, *_: Any) -> Any:
    return tf.while_loop(lambda i: i < 3, lambda i: i + 1, [0])[0]


def _hides_it_in_a_branch(tf: Any, size: Any) -> Any:
    return tf.cond(tf.reduce_sum(size) > 1e9, lambda: _reads(tf), lambda: 0)


def _hides_it_in_a_function(tf: Any, *_: Any) -> Any:
    return tf.function(lambda: _reads(tf), autograph=False)()


@pytest.mark.parametrize(
    ("evil", "says"),
    [
        (_reads, "ReadFile"),
        (_writes, "WriteFile"),
        (_calls_python, "PyFunc"),
        (_loops, "While"),
        (_hides_it_in_a_branch, "ReadFile"),
        (_hides_it_in_a_function, "ReadFile"),
    ],
)
def test_a_graph_that_does_more_than_arithmetic_is_refused_before_it_is_loaded(
    evil: Callable[..., Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tf = tensorflow()

    def body(size: Any, weight: Any) -> Any:
        return {"body": tf.stack([size, weight], 1) + tf.cast(evil(tf, size), tf.float32)}

    save(tmp_path / "base", body)
    monkeypatch.setattr(tf.saved_model, "load", lambda *_, **__: pytest.fail("TensorFlow was asked"))
    with pytest.raises(ModelError, match=says):
        adapt(tmp_path, tmp_path / "base")


def test_tables_and_files_are_refused(tmp_path: Path) -> None:
    tf = tensorflow()
    words = tmp_path / "words.txt"
    words.write_text("a\nb\n")
    keys, values = tf.constant(["a", "b"]), tf.constant([0.0, 1.0])
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), -1.0)

    def asks(size: Any, weight: Any) -> Any:
        return {"body": tf.stack([size, weight + table.lookup(tf.constant("a"))], 1)}

    save(tmp_path / "table", asks, table=table)
    save(tmp_path / "asset", lambda size, weight: {"body": tf.stack([size, weight], 1)},
         asset=tf.saved_model.Asset(str(words)))  # fmt: skip
    for name in ("table", "asset"):
        with pytest.raises(ModelError, match="a table or a file beside its variables"):
            check_saved_model(tmp_path / name)


def test_what_is_damaged_old_or_answers_otherwise_is_told(tmp_path: Path) -> None:
    tf = tensorflow()
    base = plain(tmp_path / "base")
    (base / "saved_model.pb").write_bytes(b"\xff\xff torn")
    with pytest.raises(ModelError, match="no readable SavedModel"):
        open_saved_model(base)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        given = tf.compat.v1.placeholder(tf.float32, (None,), "size")
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "old"), {"size": given}, {"out": given * 2})
    with pytest.raises(ModelError, match="none of TensorFlow 2"):
        open_saved_model(tmp_path / "old")
    two = save(tmp_path / "two", lambda size, weight: {"a": size[:, None], "b": weight[:, None]})
    with pytest.raises(ModelError, match="one vector of floats"):
        open_saved_model(two)


def test_a_keras_file_with_such_a_graph_is_refused_before_keras_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorflow.core.framework import graph_pb2

    adapt(tmp_path, plain(tmp_path / "base"), epochs=1)
    graph = graph_pb2.GraphDef()
    graph.node.add(name="evil", op="ReadFile")
    evil = base64.b64encode(zlib.compress(graph.SerializeToString())).decode()
    file = tmp_path / "model" / "model.keras"
    whole = file.read_bytes()

    def change(text: Any) -> Callable[[dict[str, Any]], None]:
        def edit(config: dict[str, Any]) -> None:
            found = json.dumps(config)
            (layer,) = [each for each in config["config"]["layers"] if each["config"]["name"] == "graph"]
            layer["config"]["graph"] = text
            assert json.dumps(config) != found

        return edit

    monkeypatch.setattr(keras().saving, "load_model", lambda *_, **__: pytest.fail("Keras was asked"))
    for text, says in ((evil, "ReadFile"), ("no base64", "no graph"), (None, "no graph"), ("eJw=", "no graph")):
        file.write_bytes(edited(whole, config_edited(change(text))))
        with pytest.raises(ModelError, match=says):
            keras_file.load(file)
    with pytest.raises(ModelError, match="ReadFile"):
        read_graph(evil)
