"""From Arrow rows to what a Keras model takes: the same for training, evaluation and serving.

A model has one input a raw column, shape (rows, 1), called like the column: numbers as floats (NaN is null), text as
strings, times as int64 microseconds (:mod:`upkeep.models.keras_layers` says what stands for null).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from upkeep.data.kinds import Column, Kind, to_kind
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
    from upkeep.models.keras_layers import NULL_TIME

    ready = {column.name for column in columns if _is_ready(rows.schema, column)}
    arrays = to_arrays(rows, [column for column in columns if column.name not in ready])
    out: Parts = {}
    for column in columns:
        name = input_name(column.name)
        array = _whole(rows.column(column.name)) if column.name in ready else arrays[column.name]
        if column.kind == "categorical":
            out[f"{name}/codes"], out[f"{name}/texts"] = _coded(array)
        elif column.kind == "numeric":
            numbers = array.to_numpy(zero_copy_only=False)  # null is NaN
            finite = np.isfinite(numbers)
            out[name] = numbers if finite.all() else np.where(finite, numbers, np.nan)
        else:
            times = pc.fill_null(array.cast(pa.timestamp("us")).cast(pa.int64()), NULL_TIME)
            out[name] = times.to_numpy(zero_copy_only=False)
    return out


def _is_ready(schema: pa.Schema, column: Column) -> bool:
    """Whether there is nothing to convert row by row: numbers, and text, whose different values alone are looked at."""
    found = schema.get_all_field_indices(column.name)
    if len(found) != 1:
        return False
    there = schema.field(found[0]).type
    if column.kind == "categorical":
        there = there.value_type if pa.types.is_dictionary(there) else there
        return bool(pa.types.is_string(there))
    return column.kind == "numeric" and bool(pa.types.is_float64(there))


def _whole(array: Any) -> Any:
    if not isinstance(array, pa.ChunkedArray):
        return array
    return array.unify_dictionaries().combine_chunks() if array.num_chunks else pa.array([], array.type)


def _coded(array: Any) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.object_]]:
    """Each row's position among the texts, and the texts as bytes; null is a text of its own."""
    from upkeep.models.keras_layers import NULL_TEXT

    coded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    known, _ = to_kind(coded.dictionary, "categorical")
    texts = [NULL_TEXT.encode() if text is None else text.encode() for text in known.to_pylist()]
    places = coded.indices
    if places.null_count or not texts:
        places = pc.fill_null(places, len(texts))
        texts.append(NULL_TEXT.encode())
    return places.to_numpy(zero_copy_only=False).astype(np.int32, copy=False), np.array(texts, dtype=object)


def tensors(given: Parts) -> dict[str, Any]:
    """:func:`parts`, or a batch of :func:`blocks`, as the model's inputs, each of shape (rows, 1); runs inside a graph
    as well."""
    tf = tensorflow()
    out = {}
    for name, value in given.items():
        plain, _, what = name.partition("/")
        column = value if len(value.shape) == 2 else tf.expand_dims(value, 1)
        if what == "codes":
            out[plain] = tf.gather(given[f"{plain}/texts"], column)
        elif not what:
            out[plain] = column
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


def blocks(given: Parts, batch_rows: int) -> Parts:
    """:func:`parts` cut into batches: large arrays, which cross into TensorFlow at once.

    Each array of rows, of shape (batches × ``batch_rows``,), becomes one of shape (batches, ``batch_rows``, 1); texts
    stay.
    """
    return {
        name: value if name.endswith("/texts") else value.reshape(-1, batch_rows, 1) for name, value in given.items()
    }


def block_signature(columns: Sequence[Column], placed: Collection[str] = ()) -> dict[str, Any]:
    """The ``tf.TensorSpec`` of each of :func:`blocks`; ``placed``: inputs that :func:`places` were found of."""
    tf = tensorflow()
    out = {}
    for name, spec in signature(columns).items():
        plain, _, what = name.partition("/")
        if plain not in placed:
            out[name] = spec if what == "texts" else tf.TensorSpec((None, None, 1), spec.dtype)
        elif what == "codes":
            out[plain] = tf.TensorSpec((None, None, 1), tf.int64)
    return out


def places(given: Parts, lookups: Mapping[str, Any]) -> Parts:
    """:func:`parts` with each text's place in the place of the text, int64: looked up once for each different text.

    ``lookups``: input name → what gives the places of texts (a ``StringLookup``).
    """
    out = dict(given)
    for name, lookup in lookups.items():
        codes, texts = out.pop(f"{name}/codes"), out.pop(f"{name}/texts")
        found = pa.array(np.asarray(lookup(tensorflow().constant(texts)), dtype=np.int64))
        out[name] = found.take(pa.array(codes)).to_numpy()
    return out
