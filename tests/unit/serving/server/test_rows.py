"""What a request's rows become: the very frame that training would have made of them, or a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.serving.server.server_make import COLUMNS, ROWS
from upkeep.data.kinds import Column
from upkeep.errors import ModelError
from upkeep.models.frame import to_frame
from upkeep.serving.server.rows import Answerer, Refusal, example, read, table

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.none()
TEXTS = st.text(max_size=8) | st.sampled_from(
    ["1", " 2.5", "-3e4", "True", "FALSE", "", " ", "2026-03-01", "12:00", "inf"]
)
MOMENTS = st.datetimes().map(lambda moment: moment.isoformat())
VALUES = st.one_of(
    st.lists(NUMBERS, min_size=1, max_size=5),
    st.lists(st.integers(-(2**62), 2**62) | st.none(), min_size=1, max_size=5),
    st.lists(st.booleans() | st.none(), min_size=1, max_size=5),
    st.lists(TEXTS | st.none(), min_size=1, max_size=5),
    st.lists(MOMENTS | st.none(), min_size=1, max_size=5),
)


@settings(max_examples=300)
@given(values=VALUES, kind=st.sampled_from(["numeric", "categorical", "datetime"]))
def test_a_value_means_what_it_means_in_training(values: list[Any], kind: Any) -> None:
    columns = (Column(name="x", kind=kind),)
    try:
        expected = to_frame(pa.table({"x": pa.array(values)}), columns)
    except ModelError:
        expected = None
    try:
        rows = read({"instances": [{"x": value} for value in values]}, columns)
    except Refusal as refusal:
        # infinity as text is a number in a file, and none in a request
        assert expected is None or "inf" in refusal.words.lower()
        return
    assert expected is not None
    pd.testing.assert_frame_equal(to_frame(table(columns, [rows]), columns), expected)


def test_requests_side_by_side_are_one_table() -> None:
    one = read({"instances": ROWS.slice(0, 1).to_pylist()}, COLUMNS)
    three = read({"instances": [list(row.values()) for row in ROWS.slice(1).to_pylist()]}, COLUMNS)
    pd.testing.assert_frame_equal(to_frame(table(COLUMNS, [one, three]), COLUMNS), to_frame(ROWS, COLUMNS))


def test_v2_gives_the_same_rows_as_v1() -> None:
    carriers = [[text] for text in ROWS["carrier"].to_pylist()]
    inputs = [
        {
            "name": "id",
            "shape": [4],
            "datatype": "INT64",
            "data": [1, 2, 3, 4],
        },  # a column that the model does not know
        {"name": "departure", "shape": [4], "datatype": "BYTES", "data": ROWS["departure"].to_pylist()},
        {
            "name": "carrier",
            "shape": [4, 1],
            "datatype": "BYTES",
            "data": carriers,
        },
        {"name": "distance", "shape": [4], "datatype": "FP64", "data": ROWS["distance"].to_pylist()},
    ]
    assert read({"inputs": inputs}, COLUMNS) == read({"instances": ROWS.to_pylist()}, COLUMNS)


GOOD = {"carrier": "UA", "distance": 1400, "departure": None}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "no JSON object"),
        ({}, "neither `instances`"),
        ({"instances": 3}, "`instances` is no list"),
        ({"instances": [3]}, "a row is 3"),
        ({"instances": [GOOD], "parameters": 3}, "`parameters`"),
        ({"instances": [["UA", 1]]}, "has 2 values, and the model takes 3"),
        ({"instances": [GOOD, {"carrier": "UA", "departure": None}]}, "column distance is missing (row 2)"),
        ({"instances": [GOOD | {"distance": "far"}]}, "column distance holds 'far', which is not numeric (row 1)"),
        ({"instances": [GOOD | {"distance": [1]}]}, "which is not numeric"),
        ({"instances": [GOOD | {"distance": "NaN is null", "carrier": {}}]}, "which is not categorical"),
        ({"instances": [GOOD | {"distance": "Infinity"}]}, "which is not numeric"),
        ({"instances": [GOOD | {"departure": 3}]}, "column departure holds 3, which is not datetime"),
        ({"instances": [GOOD] * 11}, "11 rows are too many"),
        ({"inputs": 3}, "no list of tensors"),
        ({"inputs": [{}]}, "no name"),
        ({"inputs": [{"name": "a"}, {"name": "a"}]}, "more than once"),
        ({"inputs": []}, "column carrier is missing"),
        ({"inputs": [{"name": "carrier", "data": 3}]}, "no list `data`"),
        ({"inputs": [{"name": "carrier", "data": [], "shape": [0], "datatype": "TEXT"}]}, "datatype 'TEXT'"),
        ({"inputs": [{"name": "carrier", "data": ["a"], "shape": [2], "datatype": "BYTES"}]}, "shape [2] and 1 values"),
        (
            {"inputs": [{"name": "carrier", "data": [1], "shape": [1], "datatype": "BYTES"}]},
            "is not BYTES",
        ),
        ({"inputs": [{"name": "carrier", "data": ["a"], "shape": "1", "datatype": "BYTES"}]}, "shape '1'"),
        ({"inputs": [{"name": "carrier", "data": ["a"], "shape": [1], "datatype": []}]}, "datatype []"),
    ],
    ids=str,
)
def test_what_is_no_request_is_refused_with_its_reason(document: Any, words: str) -> None:
    with pytest.raises(Refusal) as caught:
        read(document, COLUMNS, most_rows=10)
    assert words in caught.value.words
    assert caught.value.status == (413 if "too many" in words else 400)


def test_the_example_has_every_kind() -> None:
    frame = to_frame(table(COLUMNS, [example(COLUMNS)]), COLUMNS)
    assert len(frame) == 2 and not frame.isna().any().any()


@pytest.mark.parametrize(
    ("classes", "datatype", "labels"),
    [
        ((False, True), "BOOL", [True, False]),
        ((3, 4), "INT64", [4, 3]),
        (("no", "yes"), "BYTES", ["yes", "no"]),
        (("no", 1), "BYTES", ["1", "no"]),
    ],
)
def test_answers_carry_labels_in_their_own_type(classes: Any, datatype: str, labels: list[Any]) -> None:
    answerer = Answerer(model="m", version="v2", classes=classes)
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5]])
    v1 = answerer.v1(probabilities)
    assert [row["label"] for row in v1["predictions"]] == [classes[1], classes[0]]
    assert v1["predictions"][0]["probabilities"] == {str(classes[0]): 0.25, str(classes[1]): 0.75}
    assert v1["model_version"] == "v2"
    label, spread = answerer.v2(probabilities, "7")["outputs"]
    assert (label["datatype"], label["data"]) == (datatype, labels)
    assert spread["data"] == [0.25, 0.75, 0.5, 0.5] and spread["shape"] == [2, 2]
    assert orjson.loads(spread["parameters"]["classes"]) == list(classes)
