from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upkeep.rollout.analysis.predictions import HEARD, Predictions


def test_the_champions_most_frequent_answer_is_compared_and_not_by_what_chose_it() -> None:
    state = Predictions(margin=0.05, alpha=0.001)
    state = state.observe(5, {"a": 9}, {"a": 20, "b": HEARD - 21})
    assert state.answer == ""
    state = state.observe(5, {"a": 9}, {"c": 1})
    assert (state.answer, state.evidence().canary_n) == ("b", 0)
    state = state.observe(5, {"a": 9, "b": 1}, {"b": 3, "c": 1})
    found = state.evidence()
    assert (found.canary_bad, found.canary_n, found.champion_bad, found.champion_n) == (1, 10, 3, 4)


def test_one_arm_alone_is_no_evidence_and_waits_for_the_other() -> None:
    state = Predictions(margin=0.05, alpha=0.001, answer="a")
    state = state.observe(5, {}, {"b": 50}).observe(25, {"a": 5}, {})
    assert (state.log_fail, len(state.open)) == (pytest.approx(0), 2)
    state = state.observe(5, {"a": 5}, {})
    assert state.log_fail > 0
    assert [each.weight for each in state.open] == [25]


@pytest.mark.parametrize("apart", [-0.05, 0.0, 0.05])
@pytest.mark.parametrize("rate", [0.06, 0.5])
def test_shares_within_the_margin_are_taken_back_as_seldom_as_was_said(rate: float, apart: float) -> None:
    random = np.random.default_rng(round(1000 * rate + 100 * apart))
    failed = 0
    for _ in range(200):
        state = Predictions(margin=0.05, alpha=0.05, answer="a")
        for _ in range(40):
            canary, champion = random.binomial(20, rate + apart), random.binomial(80, rate)
            state = state.observe(20, {"a": canary, "b": 20 - canary}, {"a": champion, "b": 80 - champion})
        failed += state.evidence().verdict == "fail"
    assert failed <= 18  # 10 are to be expected at most; more than 18 come by chance in 1 of 200


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30)), max_size=8))
def test_more_of_one_class_is_fewer_of_the_other(blocks: list[tuple[int, int, int, int]]) -> None:
    one, other = (Predictions(margin=0.1, alpha=0.01, answer=name) for name in ("a", "b"))
    for a, b, c, d in blocks:
        one, other = (each.observe(50, {"a": a, "b": b}, {"a": c, "b": d}) for each in (one, other))
    assert one.log_fail == pytest.approx(other.log_fail)
    assert np.isfinite(one.log_fail)
