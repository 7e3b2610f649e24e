"""Numbers and sentences as a reader sees them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkeep.evaluation.result import Interval
from upkeep.report import words


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (words.number(0.12345), "0.123"),
        (words.number(-0.5), "−0.500"),
        (words.number(0.00012), "1.2e−04"),
        (words.number(-0.0), "0.000"),
        (words.number(123456.7), "123,457"),
        (words.number(None), "not known"),
        (words.signed(0.0421), "+0.042"),
        (words.signed(-0.0001), "0.000"),
        (words.count(1234567), "1,234,567"),
        (words.count(None), "not known"),
        (words.percent(0.1234), "12.3 %"),
        (words.p_value(0.0004), "< 0.001"),
        (words.p_value(0.0341), "0.034"),
        (words.p_value(None), "not known"),
        (words.size(999), "999 bytes"),
        (words.size(411_902), "411.9 kB"),
        (words.size(None), "not known"),
        (words.seconds(4.21), "4.2 s"),
        (words.seconds(77), "1 min 17 s"),
        (words.seconds(3_840), "1 h 4 min"),
        (words.moment("2013-05-01T04:00:00+00:00"), "2013-05-01 04:00:00 UTC"),
        (words.moment("2013-05-01T04:00:00Z"), "2013-05-01 04:00:00 UTC"),
        (words.moment("2013-05-01T04:00:00+02:00"), "2013-05-01 04:00:00 UTC+0200"),
        (words.moment("soon"), "soon"),
        (words.moment(None), "not known"),
        (words.elapsed("2013-05-01T04:00:00+00:00", "2013-05-01T04:01:17+00:00"), 77.0),
        (words.elapsed("2013-05-01T04:00:00+00:00", "2013-05-01T04:01:17"), None),
        (words.elapsed(None, "2013-05-01T04:01:17"), None),
        (words.plural(1, "row"), "1 row"),
        (words.plural(2_000, "class", "classes"), "2,000 classes"),
        (words.listing("abc"), "a, b and c"),
        (words.listing("abcdefgh", limit=4), "a, b, c and 5 more"),
        (words.listing([]), ""),
        (words.span(["2013-01"]), "2013-01"),
        (words.span(["2013-01", "2013-02"]), "2013-01 to 2013-02 (2 periods)"),
        (words.interval(Interval(estimate=0.1, low=-0.05, high=0.25), sign=True), "+0.100 (−0.050 to +0.250)"),
        (words.label(True), "true"),
        (words.label(0), "0"),
        (words.metric_meaning("recall", True), "Of the rows that truly are “true”, the share that was found."),
        (words.clean("a\x00b\ud800c"), "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"),
    ],
)
def test_said(said: object, wanted: object) -> None:
    assert said == wanted


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_says_its_sign_and_about_its_value(value: float) -> None:
    text = words.number(value)
    read = float(text.replace(",", "").replace(words.MINUS, "-"))
    assert read == pytest.approx(value, rel=0.06, abs=0.00051)
    assert (words.MINUS in text.split("e")[0]) == (read < 0)
    if read:
        assert math.copysign(1, read) == math.copysign(1, value)


@given(st.text(), st.integers(5, 60))
def test_what_is_shortened_fits_on_one_line(text: str, width: int) -> None:
    short = words.shorten(text, width)
    assert len(short) <= width
    assert len(short.splitlines()) <= 1
    short.encode()


def test_items_come_back_in_their_order() -> None:
    read_back = {"brier": 1, "f1": 2, "mine": 3, "accuracy": 4}
    assert list(words.in_order(read_back).items()) == [("accuracy", 4), ("f1", 2), ("brier", 1), ("mine", 3)]
    assert list(words.in_order({"candidate": 1, "champion": 2})) == ["champion", "candidate"]
