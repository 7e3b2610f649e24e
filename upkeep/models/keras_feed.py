"""From Arrow rows to what a Keras model takes: the same for training, evaluation and serving.

A model has one input a raw column, shape (rows, 1), called like the column: numbers as floats (NaN is null), text as
strings, times as int64 microseconds (:mod:`upkeep.models.keras_layers` says what stands for null).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upkeep.data.kinds import Column, Kind
from upkeep.errors import ModelError, Where
from upkeep.models.frame import to_arrays
from upkeep.models.keras_runtime import tensorflow

DTYPES: Mapping[Kind, str] = {"numeric": "float64", "categorical": "string", "datetime": "int64"}
"""The type of a column's input in a model that Upkeep builds."""
Parts = dict[str, Any]
"""Input name → a numpy array; for text two, ``<name>/codes`` and ``<name>/texts``: each row's position among the
batch's different texts. Strings cross into TensorFlow once for each text, not for each row."""


def input_name(column: str) -> str:
    """A column's input: Keras allows no ``/`` in a name."""
    return column.replace("%", "%25").replace("/", "%2F")


def taken(model: Any, columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns that the model takes, in their order.

    Raises :class:`ModelError` where it wants an input that is no column, or one that cannot hold the column's kind.
    """
    by_input = {input_name(column.name): column for column in columns}
    wanted = {tensor.name: str(tensor.dtype) for tensor in model.inputs}
    strange = [name for name in wanted if name not in by_input]
    if strange:
        raise ModelError(
            f"the model takes {', '.join(strange)}, which the features do not have",
            where=Where(field="data.features"),
            fix=f"add the columns, or choose a base that takes some of {', '.join(sorted(by_input))}",
        )
    for name, dtype in wanted.items():
        kind = by_input[name].kind
        is_text, is_time = dtype == "string", dtype == "int64"
        if is_text != (kind == "categorical") or (kind == "datetime" and not is_time):
            raise ModelError(
                f"the model takes {name} as {dtype}, and the column is {kind}",
                where=Where(field="data.features"),
                fix="list the column under the kind that the model takes",
            )
    return tuple(column for column in columns if input_name(column.name) in wanted)


def parts(rows: Any, columns: Sequence[Column]) -> Parts:
    """A batch's columns (``pa.Table`` or batch) as numpy arrays. Raises :class:`ModelError` as ``to_arrays`` does."""
    from upkeep.models.keras_layers import NULL_TEXT, NULL_TIME

    out: Parts = {}
    arrays = to_arrays(rows, columns)
    for column in columns:
        name, array = input_name(column.name), arrays[column.name]
        if column.kind == "categorical":
            coded = pc.fill_null(array, NULL_TEXT).dictionary_encode()
            out[f"{name}/codes"] = coded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
            texts = [text.encode() for text in coded.dictionary.to_pylist()] or [b""]
            out[f"{name}/texts"] = np.array(texts, dtype=object)
        elif column.kind == "numeric":
            numbers = array.to_numpy(zero_copy_only=False)  # null is NaN
            out[name] = np.where(np.isfinite(numbers), numbers, np.nan)
        else:
            times = pc.fill_null(array.cast(pa.timestamp("us")).cast(pa.int64()), NULL_TIME)
            out[name] = times.to_numpy(zero_copy_only=False)
    return out


def tensors(given: Parts) -> dict[str, Any]:
    """:func:`parts` as the model's inputs, each of shape (rows, 1); runs inside a graph as well."""
    tf = tensorflow()
    out = {}
    for name, value in given.items():
        plain, _, what = name.partition("/")
        if what == "codes":
            out[plain] = tf.expand_dims(tf.gather(given[f"{plain}/texts"], value), 1)
        elif not what:
            out[plain] = tf.expand_dims(value, 1)
    return out


def signature(columns: Sequence[Column]) -> dict[str, Any]:
    """The ``tf.TensorSpec`` of each of :func:`parts`."""
    tf = tensorflow()
    out = {}
    for column in columns:
        name = input_name(column.name)
        if column.kind == "categorical":
            out[f"{name}/codes"] = tf.TensorSpec((None,), tf.int32)
            out[f"{name}/texts"] = tf.TensorSpec((None,), tf.string)
        else:
            out[name] = tf.TensorSpec((None,), DTYPES[column.kind])
    return out
