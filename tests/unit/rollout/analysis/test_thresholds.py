"""Fixed limits: three-valued, and never a pass in doubt."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkeep.records import to_json
from upkeep.rollout.analysis.thresholds import Reading, judge
from upkeep.spec.model import Threshold

LIMIT = Threshold(metric="accuracy", at_least=0.78, failures=2, min_requests=100)
GOOD, BAD = Reading(value=0.8, n=100), Reading(value=0.7, n=100)
FEW, UNKNOWN, NAN = Reading(value=0.7, n=99), Reading(value=None, n=500), Reading(value=math.nan, n=500)


@pytest.mark.parametrize(
    ("readings", "verdict"),
    [
        ([], "insufficient"),
        ([GOOD], "pass"),
        ([BAD], "insufficient"),
        ([BAD, GOOD], "pass"),
        ([BAD, BAD], "fail"),
        ([BAD, BAD, GOOD], "fail"),
        ([BAD, GOOD, BAD], "insufficient"),
        ([BAD, UNKNOWN, BAD], "fail"),
        ([GOOD, FEW], "insufficient"),
        ([GOOD, UNKNOWN], "insufficient"),
        ([GOOD, NAN], "insufficient"),
        ([FEW, FEW, FEW], "insufficient"),
        ([Reading(value=0.78, n=100)], "pass"),
        ([Reading(value=math.inf, n=100)], "insufficient"),
    ],
)
def test_windows_in_a_row(readings: list[Reading], verdict: str) -> None:
    assert judge(LIMIT, readings).verdict == verdict


def test_at_most_and_words() -> None:
    limit = Threshold(metric="errors", at_most=0.01, over=60.0)
    kept = judge(limit, [Reading(value=0.002, n=500)])
    assert (kept.verdict, kept.text) == ("pass", "errors at most 1.00% over 60 s: 0.20%")
    missed = judge(limit, [Reading(value=0.03, n=500)])
    assert (missed.verdict, missed.text) == ("fail", "errors at most 1.00% over 60 s: missed in 1 window in a row")
    assert judge(limit, [Reading(value=0.0, n=3)]).text.endswith("only 3 in the newest window, 100 needed")
    assert judge(limit, [UNKNOWN]).text.endswith("not known")
    assert judge(limit, []).text.endswith("no window yet")
    assert judge(LIMIT, [BAD]).text.endswith("70.00%, missed")


readings = st.lists(st.builds(Reading, value=st.none() | st.floats(allow_nan=True), n=st.integers(0, 300)), max_size=8)


@given(given_readings=readings, failures=st.integers(1, 3))
def test_a_pass_needs_a_known_newest_window_that_keeps_the_limit(given_readings: list[Reading], failures: int) -> None:
    result = judge(Threshold(metric="errors", at_most=0.1, failures=failures), given_readings)
    to_json(result)
    if result.verdict == "pass":
        newest = given_readings[-1]
        assert newest.value is not None and newest.value <= 0.1 and newest.n >= 100
    if result.verdict == "fail":
        assert sum(each.value is not None and each.value > 0.1 and each.n >= 100 for each in given_readings) >= failures
