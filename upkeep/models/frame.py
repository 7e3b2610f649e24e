"""Raw columns as a model's first step takes them: the same for training, evaluation and serving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upkeep.data.kinds import Column, to_kind
from upkeep.errors import ModelError, Problem, Where


def to_frame(rows: Any, columns: Sequence[Column]) -> Any:
    """The columns as a ``pandas.DataFrame``, in their order, whatever types ``rows`` (a ``pa.Table`` or batch) has.

    numeric: float64, null and infinity are NaN. categorical: object of str, null is NaN. datetime: datetime64[us, UTC],
    null is NaT. Other columns of ``rows`` are left out.

    Raises :class:`ModelError` naming every column that is missing or holds a value its kind cannot read.
    """
    import pandas as pd

    arrays = to_arrays(rows, columns)
    return pd.DataFrame(
        {column.name: _pandas_column(arrays[column.name], column) for column in columns},
        index=pd.RangeIndex(rows.num_rows),
    )


def to_arrays(rows: Any, columns: Sequence[Column]) -> dict[str, Any]:
    """The columns as ``pa.Array`` of their kind (:func:`upkeep.data.kinds.arrow_type`), by name.

    Raises :class:`ModelError` as :func:`to_frame` does.
    """
    problems: list[Problem] = []
    arrays: dict[str, Any] = {}
    for column in columns:
        found = rows.schema.get_all_field_indices(column.name)
        if len(found) != 1:
            what = "is missing" if not found else "is there more than once"
            fix = f"send all of: {', '.join(other.name for other in columns)}"
            problems.append(Problem(f"column {column.name} {what}", Where(field=column.name), fix))
            continue
        array, unreadable = to_kind(rows.column(found[0]), column.kind)
        if pc.any(unreadable).as_py():
            row = int(np.argmax(unreadable.to_numpy(zero_copy_only=False)))
            value = str(rows.column(found[0])[row].as_py())[:80]
            message = f"column {column.name} holds {value!r}, which is not {column.kind}"
            where = Where(field=column.name, row=row + 1)
            problems.append(Problem(message, where, f"send {EXPECTED[column.kind]}, or null"))
            continue
        arrays[column.name] = array
    if problems:
        raise ModelError(problems=tuple(problems))
    return arrays


EXPECTED = {"numeric": "a number", "categorical": "text", "datetime": "an ISO 8601 time"}


def _pandas_column(array: pa.Array, column: Column) -> Any:
    import pandas as pd

    if column.kind == "numeric":
        numbers = array.to_numpy(zero_copy_only=False)  # null is NaN
        finite = np.isfinite(numbers)
        return numbers if finite.all() else np.where(finite, numbers, np.nan)
    if column.kind == "categorical":
        texts = array.to_pandas(deduplicate_objects=True)
        if array.null_count:
            texts = texts.where(array.is_valid().to_numpy(zero_copy_only=False), np.nan)
        return texts.astype(object)
    microseconds = array.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False)
    return pd.Series(microseconds.astype("datetime64[us]")).dt.tz_localize("UTC")
