"""What a column of a table seems to hold, whatever its type says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from upkeep.data.kinds import Kind, to_kind

ODD_VALUES = 0.02
"""A text column with at most this share of values that are no numbers (or times) is one of numbers (or times)."""

Shape = Literal["boolean", "integer", "number", "time", "text", "empty", "other"]


@dataclass(frozen=True)
class Shaped:
    """A column, read as what its values are."""

    name: str
    shape: Shape
    values: Any
    """pa.Array: bool, int64, float64, timestamp[us, UTC] or string by ``shape``; null where it cannot be read."""
    valid: int
    distinct: int
    odd: int = 0
    """Values that are not of the shape."""
    odd_example: str = ""


def shaped(name: str, array: Any) -> Shaped:
    """``array`` (Arrow, chunked or not) of a file of any kind; text is read as numbers or times where it holds them."""
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_null(kind):
        return Shaped(name, "empty", array, 0, 0)
    if pa.types.is_boolean(kind):
        return _made(name, "boolean", array)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _made(name, "time", to_kind(array, "datetime")[0])
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _numbers(name, to_kind(array, "numeric")[0])
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _text(name, array.cast(pa.string()))
    return Shaped(name, "other", array, len(array) - array.null_count, 0)


def as_text(name: str, array: Any) -> Shaped:
    """``array`` as words, whatever it seems to hold."""
    return _made(name, "text", to_kind(array, "categorical")[0])


def _made(name: str, shape: Shape, values: Any, odd: int = 0, odd_example: str = "") -> Shaped:
    valid = len(values) - values.null_count
    if valid == 0:
        return Shaped(name, "empty", values, 0, 0)
    return Shaped(name, shape, values, valid, pc.count_distinct(values).as_py(), odd, odd_example)


def _numbers(name: str, values: Any, odd: int = 0, odd_example: str = "") -> Shaped:
    """Float64 ``values``; infinities are odd, and integers where all are whole."""
    finite = pc.fill_null(pc.is_finite(values), False)
    infinite = len(values) - values.null_count - pc.sum(finite).as_py() if len(values) else 0
    if infinite:
        values = pc.if_else(finite, values, pa.scalar(None, pa.float64()))
        odd, odd_example = odd + infinite, odd_example or "infinity"
    whole = pc.all(pc.equal(pc.floor(values), values)).as_py() is not False
    small = pc.all(pc.less(pc.abs(values), 2.0**53)).as_py() is not False
    if whole and small:
        return _made(name, "integer", values.cast(pa.int64()), odd, odd_example)
    return _made(name, "number", values, odd, odd_example)


def _text(name: str, values: Any) -> Shaped:
    values = to_kind(values, "categorical")[0]
    valid = len(values) - values.null_count
    if valid == 0:
        return Shaped(name, "empty", values, 0, 0)
    # Each different value is read once: text repeats, and reading times is slow.
    encoded = values.dictionary_encode()
    words, counts = encoded.dictionary, np.bincount(np.asarray(encoded.indices.drop_null()))
    if pc.all(pc.is_in(words, pa.array(["true", "false"]))).as_py():
        return _made(name, "boolean", pc.equal(values, "true"))
    if not pc.any(pc.match_substring_regex(words, r"^0\d")).as_py():  # 01234 is a code
        read, odd, example = _read_as("numeric", words, counts)
        if odd <= ODD_VALUES * valid:
            return _numbers(name, read.take(encoded.indices), odd, example)
    read, odd, example = _read_as("datetime", words, counts)
    if odd <= ODD_VALUES * valid:
        return _made(name, "time", read.take(encoded.indices), odd, example)
    return _made(name, "text", values)


def _read_as(kind: Kind, words: Any, counts: npt.NDArray[np.int64]) -> tuple[Any, int, str]:
    """(``words`` as ``kind``, how many rows cannot be read, an example of them)."""
    head = words.slice(0, 1000)
    _, unreadable = to_kind(head, kind)
    if unreadable.true_count > 0.5 * len(head):
        return words, int(counts.sum()), ""
    read, unreadable = to_kind(words, kind)
    mask = unreadable.to_numpy(zero_copy_only=False)
    wrong = words.filter(unreadable)
    return read, int(counts[mask].sum()), str(wrong[0].as_py()) if len(wrong) else ""
