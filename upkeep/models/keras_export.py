"""A network for other programs: a TensorFlow SavedModel with a signature on raw columns, or a ``.keras`` file.

The signature ``serving_default`` takes one vector a column, called like the column (:func:`signature_names`): numbers
as float64 (NaN is null), text as string, times as int64 microseconds since 1970 UTC; what stands for null in these two
:mod:`upkeep.models.keras_layers` says. It answers with ``probabilities``, float64, shape (rows, classes), and
``label``, the likeliest class.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from upkeep.errors import InputError, ModelError, Where
from upkeep.models import keras_feed, keras_file
from upkeep.models.keras_folder import KerasPredictor
from upkeep.models.keras_runtime import quiet, tensorflow
from upkeep.models.manifest import Predictor

SIGNATURE = "serving_default"


def export_saved_model(predictor: Predictor, out: Path) -> None:
    """Write a SavedModel to the new folder ``out``. Raises :class:`ModelError` where it is no network, or cannot be
    written so; :class:`InputError` where ``out`` is there."""
    network = _network(predictor)
    _require_new(out)
    tf = tensorflow()
    module = tf.Module()
    module.model = network.model
    module.beneath = [layer.beneath for layer in network.model.layers if hasattr(layer, "beneath")]
    classes = tf.constant(_labels(network))

    names = signature_names([column.name for column in network.columns])

    def answer(*values: Any) -> dict[str, Any]:
        given = {
            keras_feed.input_name(column.name): tf.where(tf.math.is_finite(value), value, float("nan"))
            if column.kind == "numeric"
            else value
            for column, value in zip(network.columns, values, strict=True)
        }
        answers = tf.cast(network.model(keras_feed.tensors(given), training=False), tf.float64)
        probabilities = answers / tf.reduce_sum(answers, axis=1, keepdims=True)
        return {"probabilities": probabilities, "label": tf.gather(classes, tf.argmax(probabilities, axis=1))}

    signature = [
        tf.TensorSpec((None,), keras_feed.DTYPES[column.kind], name=name)
        for column, name in zip(network.columns, names, strict=True)
    ]
    try:
        with quiet():
            serve = tf.function(answer, autograph=False).get_concrete_function(*signature)
            tf.saved_model.save(module, str(out), signatures={SIGNATURE: serve})
    except (AssertionError, ValueError, TypeError, tf.errors.OpError) as error:
        raise ModelError(
            f"this network cannot be written as a SavedModel: {str(error)[:300]}",
            where=Where(file=str(out)),
            fix="export it as keras",
        ) from error


def export_keras(predictor: Predictor, out: Path) -> None:
    """Write one whole ``.keras`` file to the new path ``out``. Raises as :func:`export_saved_model` does."""
    network = _network(predictor)
    _require_new(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(keras_file.dump(network.model))


def signature_names(columns: Sequence[str]) -> tuple[str, ...]:
    """What a signature calls the columns: TensorFlow takes letters, digits and ``_``, so all else becomes ``_``.

    Raises :class:`ModelError` where two would be called alike.
    """
    names = tuple(re.sub(r"[^A-Za-z0-9_]", "_", column) for column in columns)
    alike = [column for column, name in zip(columns, names, strict=True) if names.count(name) > 1]
    if alike:
        raise ModelError(
            f"a signature would call {' and '.join(alike)} alike",
            where=Where(field="data.features"),
            fix="rename one of the columns",
        )
    return names


def _labels(network: KerasPredictor) -> list[Any]:
    labels = list(network.manifest.classes)
    whole = all(isinstance(label, int) and not isinstance(label, bool) for label in labels)
    return labels if whole else [str(label) for label in labels]


def _network(predictor: Predictor) -> KerasPredictor:
    if isinstance(predictor, KerasPredictor):
        return predictor
    raise ModelError(
        f"this is a {predictor.manifest.format} model, and only networks are exported",
        fix="the model server that comes with Upkeep serves every kind; its bytes are below `models/` in the store",
    )


def _require_new(out: Path) -> None:
    if out.exists():
        raise InputError("something is there already", where=Where(file=str(out)), fix="name a new place")
