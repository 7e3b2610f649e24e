from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from upkeep.data.kinds import Column
from upkeep.errors import ModelError
from upkeep.models.frame import to_frame

COLUMNS = (
    Column(name="n", kind="numeric"),
    Column(name="c", kind="categorical"),
    Column(name="d", kind="datetime"),
)


def test_kinds_and_nulls() -> None:
    noon = dt.datetime(2024, 1, 2, 12, tzinfo=dt.UTC)
    rows = pa.table({"d": [noon, None], "c": pa.array(["x", None]).dictionary_encode(), "n": [1, None], "z": [0, 0]})
    frame = to_frame(rows, COLUMNS)
    assert list(frame.columns) == ["n", "c", "d"]
    assert [str(kind) for kind in frame.dtypes] == ["float64", "object", "datetime64[us, UTC]"]
    assert frame["d"][0] == noon
    assert frame.isna().to_numpy().tolist() == [[False] * 3, [True] * 3]
    assert frame["c"].tolist()[0] == "x"
    assert isinstance(frame["c"].tolist()[1], float)  # NaN as pandas' users expect it, not None


def test_infinity_is_null() -> None:
    frame = to_frame(pa.table({"n": [np.inf, -np.inf, 2.5]}), COLUMNS[:1])
    assert np.isnan(frame["n"][:2]).all()
    assert frame["n"][2] == 2.5


def test_no_rows_have_the_same_types() -> None:
    empty = pa.table({"n": pa.array([], pa.float64()), "c": pa.array([], pa.string()), "d": pa.array([], pa.string())})
    assert [str(kind) for kind in to_frame(empty, COLUMNS).dtypes] == ["float64", "object", "datetime64[us, UTC]"]


def test_every_problem_is_told_at_once() -> None:
    twice = pa.Table.from_arrays([pa.array([1.0]), pa.array([1.0]), pa.array(["soon"])], names=["n", "n", "d"])
    with pytest.raises(ModelError) as caught:
        to_frame(twice, COLUMNS)
    messages = [problem.message for problem in caught.value.problems]
    assert messages == [
        "column n is there more than once",
        "column c is missing",
        "column d holds 'soon', which is not datetime",
    ]
