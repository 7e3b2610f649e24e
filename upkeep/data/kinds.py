"""The kinds of columns, and how a column is brought to its kind: the same for data, training and serving."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["numeric", "categorical", "datetime"]

_NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$|^[+-]?([iI][nN][fF]([iI][nN][iI][tT][yY])?|[nN][aA][nN])$"


@dataclass(frozen=True, kw_only=True)
class Column:
    name: str
    kind: Kind


def arrow_type(kind: Kind) -> Any:
    """The Arrow type a column of this kind has: float64, string or timestamp[us, UTC]."""
    import pyarrow as pa

    return {"numeric": pa.float64(), "categorical": pa.string(), "datetime": pa.timestamp("us", tz="UTC")}[kind]


def to_kind(array: Any, kind: Kind) -> tuple[Any, Any]:
    """The column as its kind, and a mask of the values that could not be read as that kind.

    ``array``: a ``pa.Array`` or ``pa.ChunkedArray`` of any type. Returns ``(converted, unreadable)``: a ``pa.Array``
    of :func:`arrow_type` and a ``pa.BooleanArray`` without nulls, both as long as ``array``. An unreadable value is
    null in ``converted``. Empty and blank text, and NaN, are null in every kind.

    - numeric: numbers, booleans (0 and 1), and text of either; infinities are kept.
    - categorical: text as it is; booleans, and the text True and FALSE, as ``true`` and ``false``; whole numbers
      without a decimal point, whatever their type.
    - datetime: timestamps, dates, and ISO 8601 text; without a zone they are UTC. Numbers are not dates.
    """
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
        if isinstance(array, pa.ChunkedArray):  # no chunk at all, or more than one fits
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], type=array.type)
    if pa.types.is_dictionary(array.type):
        values, unreadable = to_kind(array.dictionary, kind)
        bad = unreadable.take(array.indices).fill_null(False)
        return values.take(array.indices), bad
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), arrow_type(kind)), _none(len(array))
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        array, undecodable = _decode(array)
        converted, bad = to_kind(array, kind)
        import pyarrow.compute as pc

        return converted, pc.or_(bad, undecodable)
    if pa.types.is_nested(array.type):
        return pa.nulls(len(array), arrow_type(kind)), array.is_valid()
    return {"numeric": _to_numeric, "categorical": _to_categorical, "datetime": _to_datetime}[kind](array)


def guess_kind(array: Any) -> Kind:
    """The kind that a column's values speak for: its type, or for text what every value can be read as.

    A column without any value is categorical; so are booleans.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_temporal(kind) and not pa.types.is_duration(kind) and not pa.types.is_time(kind):
        return "datetime"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "numeric"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        text = array.cast(pa.string())
        candidates: tuple[Kind, ...] = ("numeric", "datetime")
        for candidate in candidates:
            converted, unreadable = to_kind(text, candidate)
            words = pc.any(pc.is_in(pc.utf8_lower(text), pa.array(["true", "false"]))).as_py()
            if converted.null_count < len(converted) and not pc.any(unreadable).as_py() and not words:
                return candidate
    return "categorical"


def _none(length: int) -> Any:
    import numpy as np
    import pyarrow as pa

    return pa.array(np.zeros(length, dtype=bool))


def _unreadable(before: Any, after: Any) -> Any:
    """Values that were there and are gone."""
    import pyarrow.compute as pc

    if before.null_count == after.null_count:
        return _none(len(before))
    return pc.and_(before.is_valid(), after.is_null())


def _decode(array: Any) -> tuple[Any, Any]:
    import pyarrow as pa

    try:
        return array.cast(pa.string()), _none(len(array))
    except pa.ArrowInvalid:
        pass
    texts: list[str | None] = []
    for value in array.to_pylist():
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            texts.append(None)
    decoded = pa.array(texts, pa.string())
    return decoded, _unreadable(array, decoded)


def _blank_to_null(array: Any) -> Any:
    """Blank text is null; other text is as it was."""
    import pyarrow as pa
    import pyarrow.compute as pc

    blank = pc.equal(pc.binary_length(pc.ascii_trim_whitespace(array)), 0)
    if not pc.any(blank).as_py():
        return array
    return pc.if_else(blank, pa.scalar(None, pa.string()), array)


def _to_numeric(array: Any) -> tuple[Any, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(array.type):
        numbers = array.cast(pa.float64())
        return _nan_to_null(numbers), _none(len(array))
    if pa.types.is_integer(array.type) or pa.types.is_decimal(array.type):
        return array.cast(pa.float64(), safe=False), _none(len(array))
    if pa.types.is_boolean(array.type):
        return array.cast(pa.int8()).cast(pa.float64()), _none(len(array))
    if not pa.types.is_string(array.type):
        return pa.nulls(len(array), pa.float64()), array.is_valid()
    text = _blank_to_null(array)
    try:
        return _nan_to_null(text.cast(pa.float64())), _none(len(array))
    except pa.ArrowInvalid:
        pass
    stripped = pc.utf8_lower(pc.utf8_trim_whitespace(text))
    words = pc.index_in(stripped, pa.array(["false", "true"])).cast(pa.float64())
    readable = pc.match_substring_regex(stripped, _NUMBER)
    unsigned = pc.replace_substring_regex(stripped, r"^\+", "")  # Arrow reads no leading plus
    numbers = pc.if_else(readable, unsigned, pa.scalar(None, pa.string())).cast(pa.float64())
    numbers = pc.coalesce(numbers, words)
    return _nan_to_null(numbers), _unreadable(text, numbers)


def _nan_to_null(numbers: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    nan = pc.is_nan(numbers)
    return pc.if_else(nan, pa.scalar(None, pa.float64()), numbers) if pc.any(nan).as_py() else numbers


def _to_categorical(array: Any) -> tuple[Any, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(array.type):
        text = _blank_to_null(array)
        words = pa.array(["True", "TRUE", "False", "FALSE"])
        is_word = pc.is_in(text, words)
        if pc.any(is_word).as_py():
            text = pc.if_else(is_word, pc.utf8_lower(text), text)
        return text, _none(len(array))
    if pa.types.is_boolean(array.type):
        return pc.if_else(array, "true", "false"), _none(len(array))
    if pa.types.is_floating(array.type):
        numbers = _nan_to_null(array.cast(pa.float64()))
        whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), 2.0**63))
        as_integer = pc.if_else(whole, numbers, pa.scalar(None, pa.float64())).cast(pa.int64(), safe=False)
        return pc.coalesce(as_integer.cast(pa.string()), numbers.cast(pa.string())), _none(len(array))
    try:
        return array.cast(pa.string()), _none(len(array))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.nulls(len(array), pa.string()), array.is_valid()


def _to_datetime(array: Any) -> tuple[Any, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    utc = arrow_type("datetime")
    if pa.types.is_timestamp(array.type):
        return _to_microseconds(array, utc), _none(len(array))
    if pa.types.is_date(array.type):
        return array.cast(pa.timestamp("us"), safe=False).cast(utc), _none(len(array))
    if not pa.types.is_string(array.type):
        return pa.nulls(len(array), utc), array.is_valid()
    text = _blank_to_null(array)
    for wanted in (pa.timestamp("us"), utc):
        try:
            return text.cast(wanted).cast(utc), _none(len(array))
        except pa.ArrowInvalid:
            continue
    text = pc.utf8_trim_whitespace(text)
    unique = text.dictionary_encode()
    moments = pa.array([_read_moment(value) for value in unique.dictionary.to_pylist()], utc)
    converted = moments.take(unique.indices)
    return converted, _unreadable(_blank_to_null(text), converted)


def _to_microseconds(array: Any, utc: Any) -> Any:
    import pyarrow as pa

    if array.type.tz is None:
        return array.cast(pa.timestamp("us"), safe=False).cast(utc)
    return array.cast(utc, safe=False)


def _read_moment(text: str | None) -> dt.datetime | None:
    if not text:
        return None
    if len(text) < len("2013-01-01") or text[4] != "-":  # fromisoformat also reads 20130101 and 2013-W01
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
