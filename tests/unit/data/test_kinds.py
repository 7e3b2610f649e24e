import datetime as dt
import decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upkeep.data.kinds import arrow_type, guess_kind, to_kind

NOON = dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)


def read(values, kind, type=None):
    array, unreadable = to_kind(pa.array(values, type), kind)
    assert array.type == arrow_type(kind)
    assert len(array) == len(unreadable) == len(values)
    assert unreadable.null_count == 0
    return array.to_pylist(), unreadable.to_pylist()


@pytest.mark.parametrize(
    ("values", "numbers", "unreadable"),
    [
        ([1, None, -3], [1.0, None, -3.0], [False] * 3),
        ([True, False, None], [1.0, 0.0, None], [False] * 3),
        ([1.5, float("nan"), float("inf")], [1.5, None, float("inf")], [False] * 3),
        ([decimal.Decimal("1.25")], [1.25], [False]),
        (["1", " 2.5 ", "+3", "-.5e1", "1."], [1.0, 2.5, 3.0, -5.0, 1.0], [False] * 5),
        (["", "  ", "nan", None], [None] * 4, [False] * 4),
        (["inf", "-Infinity", "x"], [float("inf"), float("-inf"), None], [False, False, True]),
        (["1_000", "0x10", "1,5", "12 apples", "1"], [None] * 4 + [1.0], [True] * 4 + [False]),
        (["True", "FALSE", "1"], [1.0, 0.0, 1.0], [False] * 3),
        ([b"1.5", b"\xff"], [1.5, None], [False, True]),
        ([[1], None], [None, None], [True, False]),
        ([NOON], [None], [True]),
        ([None], [None], [False]),
        ([], [], []),
    ],
)
def test_numbers(values, numbers, unreadable):
    assert read(values, "numeric") == (numbers, unreadable)


@pytest.mark.parametrize(
    ("values", "texts", "unreadable"),
    [
        (["a", " b", "", " ", None], ["a", " b", None, None, None], [False] * 5),
        (["a", "\r", "\t "], ["a", None, None], [False] * 3),
        ([7, None], ["7", None], [False] * 2),
        ([7.0, 2.5, float("nan")], ["7", "2.5", None], [False] * 3),
        ([True, False, None], ["true", "false", None], [False] * 3),
        (["True", "FALSE", "true", "Truely"], ["true", "false", "true", "Truely"], [False] * 4),
        ([b"caf\xc3\xa9", b"\xff"], ["café", None], [False, True]),
        ([dt.date(2024, 2, 29)], ["2024-02-29"], [False]),
        ([{"a": 1}], [None], [True]),
    ],
)
def test_categories(values, texts, unreadable):
    assert read(values, "categorical") == (texts, unreadable)


@pytest.mark.parametrize(
    ("values", "moments", "unreadable"),
    [
        (["2024-02-29T12:00:00Z"], [NOON], [False]),
        (["2024-02-29 12:00", None, ""], [NOON, None, None], [False] * 3),
        (["2024-02-29T14:00:00+02:00", "2024-02-29T12:00:00"], [NOON, NOON], [False] * 2),
        (
            ["2023-02-29", "yesterday", "20240229", "2024-02-29"],
            [None] * 3 + [NOON.replace(hour=0)],
            [True] * 3 + [False],
        ),
        ([dt.date(2024, 2, 29)], [NOON.replace(hour=0)], [False]),
        ([NOON.replace(tzinfo=None)], [NOON], [False]),
        ([20240229], [None], [True]),
    ],
)
def test_dates(values, moments, unreadable):
    assert read(values, "datetime") == (moments, unreadable)


def test_nanoseconds_are_cut():
    array = pa.array([1], pa.timestamp("ns", tz="Europe/Zurich"))
    assert to_kind(array, "datetime")[0].to_pylist() == [dt.datetime(1970, 1, 1, tzinfo=dt.UTC)]


def test_dictionaries_and_chunks():
    encoded = pa.array(["1", "x", None, "1"]).dictionary_encode()
    assert [part.to_pylist() for part in to_kind(encoded, "numeric")] == [
        [1.0, None, None, 1.0],
        [False, True, False, False],
    ]
    chunked = pa.chunked_array([pa.array(["a"]), pa.array(["b"])])
    assert to_kind(chunked, "categorical")[0].to_pylist() == ["a", "b"]
    assert len(to_kind(pa.chunked_array([], pa.string()), "numeric")[0]) == 0


@given(st.lists(st.floats(allow_nan=False) | st.none()))
def test_text_of_a_number_reads_as_the_number(numbers):
    text = pa.array([None if number is None else repr(number) for number in numbers], pa.string())
    assert to_kind(text, "numeric")[0].to_pylist() == numbers


@settings(max_examples=60)
@given(st.lists(st.text() | st.none(), max_size=8), st.sampled_from(["numeric", "categorical", "datetime"]))
def test_one_bad_value_costs_one_value(values, kind):
    together, bad = to_kind(pa.array(values, pa.string()), kind)
    for position, value in enumerate(values):
        alone, alone_bad = to_kind(pa.array([value], pa.string()), kind)
        assert together[position] == alone[0]
        assert bad[position] == alone_bad[0]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "numeric"),
        (["1", None, "2.5"], "numeric"),
        (["1", "x"], "categorical"),
        (["2024-01-01", None], "datetime"),
        ([dt.date(2024, 1, 1)], "datetime"),
        ([True], "categorical"),
        (["true", "false"], "categorical"),
        ([None], "categorical"),
        ([b"x"], "categorical"),
    ],
)
def test_guess(values, kind):
    assert guess_kind(pa.array(values)) == kind
