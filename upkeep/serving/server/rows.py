"""Requests to raw columns, and probabilities to answers: pure, for v1 and v2.

Values are brought to their column's kind here, request by request, exactly as :mod:`upkeep.data.kinds` does it for
training: what is wrong with a request is found before its rows meet others'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from upkeep.data.kinds import Column, Kind, arrow_type, to_kind
from upkeep.errors import InputError, Where
from upkeep.models.frame import EXPECTED
from upkeep.spec.model import Label

MOST_ROWS: Final = 10_000

Probabilities = npt.NDArray[np.float64]


class Refusal(InputError):  # noqa: N818 (what it is, not what went wrong)
    """A request that is not answered, with its HTTP status."""

    def __init__(self, message: str, *, status: int = 400, field: str = "", row: int | None = None, fix: str = ""):
        super().__init__(message, where=Where(field=field, row=row), fix=fix)
        self.status = status

    @property
    def words(self) -> str:
        """One line for the caller."""
        (problem,) = self.problems
        place = f" (row {problem.where.row})" if problem.where.row is not None else ""
        return f"{problem.message}{place}" + (f"; {problem.fix}" if problem.fix else "")


@dataclass(frozen=True)
class Rows:
    """A request's rows, as columns."""

    columns: tuple[list[Any], ...]
    """In the manifest's order: floats, texts, or microseconds since the epoch; null is None."""
    count: int


def table(columns: Sequence[Column], parts: Sequence[Rows]) -> pa.Table:
    """The rows of all ``parts``, one after another, in the types of the columns' kinds."""
    arrays = []
    for place, column in enumerate(columns):
        values = parts[0].columns[place]
        if len(parts) > 1:
            values = [value for part in parts for value in part.columns[place]]
        arrays.append(pa.array(values, arrow_type(column.kind)))
    return pa.table(arrays, names=[column.name for column in columns])


def example(columns: Sequence[Column]) -> Rows:
    """Two rows that any model of these columns should answer."""
    values: dict[Kind, Any] = {"numeric": [0.0, 1.0], "categorical": ["a", "b"], "datetime": [0, 86_400_000_000]}
    return Rows(tuple(list(values[column.kind]) for column in columns), 2)


def read(document: Any, columns: Sequence[Column], most_rows: int = MOST_ROWS) -> Rows:
    """The rows of a v1 (``instances``) or v2 (``inputs``) document. Raises :class:`Refusal`."""
    if not isinstance(document, dict):
        raise Refusal("the request is no JSON object", fix=_SHAPE)
    if not isinstance(document.get("parameters", {}), dict | None):
        raise Refusal("`parameters` is no object", fix="leave it out")
    if "instances" in document:
        return _read_v1(document["instances"], columns, most_rows)
    if "inputs" in document:
        return _read_v2(document["inputs"], columns, most_rows)
    raise Refusal("the request has neither `instances` (v1) nor `inputs` (v2)", fix=_SHAPE)


_SHAPE = 'send {"instances": [{"column": value, …}, …]}'


def _read_v1(instances: Any, columns: Sequence[Column], most_rows: int) -> Rows:
    if not isinstance(instances, list):
        raise Refusal("`instances` is no list", fix=_SHAPE)
    _check_count(len(instances), most_rows)
    width = len(columns)
    rows = instances
    for place, row in enumerate(instances):
        if type(row) is dict:
            continue
        if type(row) is not list:
            raise Refusal(f"a row is {_show(row)}, not an object or a list", row=place + 1, fix=_SHAPE)
        if len(row) != width:
            names = ", ".join(column.name for column in columns)
            message = f"a row has {len(row)} values, and the model takes {width}"
            raise Refusal(message, row=place + 1, fix=f"send them in this order: {names}; or send objects")
        if rows is instances:
            rows = list(instances)
        rows[place] = {column.name: value for column, value in zip(columns, row, strict=True)}
    values = []
    for column in columns:
        name = column.name
        try:
            raw = [row[name] for row in rows]
        except KeyError:
            place = next(place for place, row in enumerate(rows) if name not in row)
            raise _missing(column, columns, row=place + 1) from None
        values.append(_as_kind(column, raw))
    return Rows(tuple(values), len(rows))


def _read_v2(inputs: Any, columns: Sequence[Column], most_rows: int) -> Rows:
    if not isinstance(inputs, list) or not all(type(tensor) is dict for tensor in inputs):
        raise Refusal("`inputs` is no list of tensors", fix="send one tensor a column: name, shape, datatype, data")
    tensors: dict[str, Any] = {}
    for tensor in inputs:
        name = tensor.get("name")
        if not isinstance(name, str):
            raise Refusal("a tensor has no name", fix="name each tensor like its column")
        if name in tensors:
            raise Refusal(f"tensor {name} is there more than once", field=name, fix="send one tensor a column")
        tensors[name] = tensor
    count: int | None = None
    values = []
    for column in columns:
        if column.name not in tensors:
            raise _missing(column, columns)
        tensor = tensors[column.name]
        data, shape, datatype = tensor.get("data"), tensor.get("shape"), tensor.get("datatype")
        if not isinstance(data, list):
            raise Refusal(f"tensor {column.name} has no list `data`", field=column.name, fix="send the values as JSON")
        data = [value[0] if type(value) is list and len(value) == 1 else value for value in data]
        check_tensor(column.name, shape, datatype, len(data))
        fits = _DATATYPES[datatype]
        for place, value in enumerate(data):
            if value is not None and type(value) not in fits:
                message = f"tensor {column.name} holds {_show(value)}, which is not {datatype}"
                raise Refusal(message, field=column.name, row=place + 1)
        if count is not None and len(data) != count:
            raise Refusal(f"tensor {column.name} has {len(data)} rows, others {count}", field=column.name)
        count = len(data)
        _check_count(count, most_rows)
        values.append(_as_kind(column, data))
    return Rows(tuple(values), count or 0)


def check_tensor(name: str, shape: Any, datatype: Any, values: int) -> None:
    """Whether a column's tensor is one: ``[rows]`` or ``[rows, 1]``, of a known type. Raises :class:`Refusal`."""
    if not isinstance(datatype, str) or datatype not in _DATATYPES:
        known = "FP64, INT64, BOOL or BYTES"
        raise Refusal(f"tensor {name} has the datatype {_show(datatype)}", field=name, fix=f"send {known}")
    whole = isinstance(shape, list) and all(type(size) is int for size in shape)
    if not whole or shape not in ([values], [values, 1]):
        message = f"tensor {name} has the shape {_show(shape)} and {values} values"
        raise Refusal(message, field=name, fix="send [rows] or [rows, 1]")


_WHOLE = frozenset({int})
_DATATYPES: Mapping[str, frozenset[type]] = {
    "BOOL": frozenset({bool}),
    "BYTES": frozenset({str}),
    **{f"{sign}INT{bits}": _WHOLE for sign in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": frozenset({float, int}) for bits in (16, 32, 64)},
}


def _check_count(count: int, most_rows: int) -> None:
    if count > most_rows:
        raise Refusal(f"{count} rows are too many", status=413, fix=f"send at most {most_rows} in one request")


def _missing(column: Column, columns: Sequence[Column], row: int | None = None) -> Refusal:
    names = ", ".join(other.name for other in columns)
    fix = f"send all of: {names}; null where a value is unknown"
    return Refusal(f"column {column.name} is missing", field=column.name, row=row, fix=fix)


_NONE = type(None)
_READY: Mapping[Kind, frozenset[type]] = {
    "numeric": frozenset({float, _NONE}),
    "categorical": frozenset({str, _NONE}),
    "datetime": frozenset({_NONE}),
}


def _as_kind(column: Column, values: list[Any]) -> list[Any]:
    """The values as :func:`upkeep.data.kinds.to_kind` brings them to the column's kind. Raises :class:`Refusal`."""
    ready = _READY[column.kind]
    types = set(map(type, values))
    if types <= ready:
        return values
    quick = _QUICK[column.kind]
    brought = []
    for row, value in enumerate(values, start=1):
        kind = type(value)
        if kind in ready:
            brought.append(value)
        else:
            brought.append(quick[kind](value) if kind in quick else _slow(column, value, row))
    return brought


_QUICK: Mapping[Kind, Mapping[type, Callable[[Any], Any]]] = {
    "numeric": {int: float, bool: float},
    "categorical": {int: str, bool: {True: "true", False: "false"}.__getitem__},
    "datetime": {},
}


def _slow(column: Column, value: Any, row: int) -> Any:
    try:
        converted, unreadable = to_kind(pa.array([value]), column.kind)
        if column.kind == "datetime":
            converted = converted.cast(pa.int64())
        if not pc.any(unreadable).as_py():
            answer = converted[0].as_py()
            if not isinstance(answer, float) or math.isfinite(answer):
                return answer
    except (ValueError, OverflowError, TypeError, pa.ArrowException):
        pass
    message = f"column {column.name} holds {_show(value)}, which is not {column.kind}"
    raise Refusal(message, field=column.name, row=row, fix=f"send {EXPECTED[column.kind]}, or null")


def _show(value: Any) -> str:
    """A value a client sent, short."""
    try:
        text = repr(value)
    except RecursionError:
        text = "a value of very many levels"
    return text if len(text) <= 80 else text[:77] + "…"


# --- answers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Answerer:
    """Writes answers of one version."""

    model: str
    version: str
    classes: tuple[Label, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(str(label) for label in self.classes)

    def v1(self, probabilities: Probabilities) -> dict[str, Any]:
        """``{"predictions": [{"label": …, "probabilities": {…}}, …], …}``."""
        names, classes = self.names, self.classes
        labels = probabilities.argmax(axis=1).tolist()
        predictions = [
            {"label": classes[label], "probabilities": dict(zip(names, row, strict=True))}
            for label, row in zip(labels, probabilities.tolist(), strict=True)
        ]
        return {"predictions": predictions, "model_name": self.model, "model_version": self.version}

    def v2(self, probabilities: Probabilities, identity: str) -> dict[str, Any]:
        """The v2 response: ``label``, shape [rows], and ``probabilities``, shape [rows, classes]."""
        rows = len(probabilities)
        labels: list[Any] = [self.classes[label] for label in probabilities.argmax(axis=1).tolist()]
        datatype = self.label_type
        if datatype == "BYTES":
            labels = [str(label) for label in labels]
        return {
            "model_name": self.model,
            "model_version": self.version,
            "id": identity,
            "outputs": [
                {"name": "label", "shape": [rows], "datatype": datatype, "data": labels},
                {
                    "name": "probabilities",
                    "shape": [rows, len(self.classes)],
                    "datatype": "FP64",
                    # v2 has no lists in parameters: the classes, in the order of the columns, as JSON
                    "parameters": {"classes": orjson.dumps(list(self.classes)).decode()},
                    "data": probabilities.ravel().tolist(),
                },
            ],
        }

    @property
    def label_type(self) -> str:
        """The v2 datatype of ``label``."""
        kinds = {type(label) for label in self.classes}
        return {bool: "BOOL", int: "INT64"}.get(cast(Any, kinds.pop()), "BYTES") if len(kinds) == 1 else "BYTES"
