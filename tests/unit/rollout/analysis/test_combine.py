"""Many metrics, one verdict: what fails, what is waited for, and how seldom the whole errs."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkeep.evaluation.result import VerdictName
from upkeep.records import from_json, to_json
from upkeep.rollout.analysis.combine import combine, e_bh
from upkeep.rollout.analysis.result import Analysis, MetricEvidence
from upkeep.rollout.analysis.sequential import Block, TwoArm
from upkeep.rollout.analysis.thresholds import Reading, judge
from upkeep.spec.model import Threshold


def evidence(
    metric: str = "errors",
    *,
    slice: str = "",
    e: float = 1.0,
    weight: float = 1.0,
    verdict: VerdictName = "insufficient",
    required: bool = True,
) -> MetricEvidence:
    base = TwoArm(margin=0.02, alpha_fail=0.01 * weight).evidence(metric, slice=slice, required=required)
    return replace(base, e_fail=e, verdict=verdict, text=f"{metric} said so")


def test_everything_required_must_pass() -> None:
    errors, latency = evidence(verdict="pass", weight=0.5), evidence("latency", verdict="pass", weight=0.5)
    passed = combine([errors, latency], rollback=0.01)
    assert passed.verdict == "pass"
    assert passed.summary == "not worse than the champion by more than the margin: errors, latency"
    waits = combine([errors, replace(latency, verdict="insufficient")], rollback=0.01)
    assert (waits.verdict, waits.reasons) == ("insufficient", ("latency said so",))
    aside = combine([errors, replace(latency, verdict="insufficient", required=False)], rollback=0.01)
    assert aside.verdict == "pass"
    assert from_json(Analysis, to_json(passed)) == passed


def test_nothing_passes_where_nothing_is_required() -> None:
    assert combine([], rollback=0.01).verdict == "insufficient"
    assert combine([evidence(verdict="pass", required=False)], rollback=0.01).verdict == "insufficient"


def test_evidence_that_no_metric_has_alone_takes_the_canary_back() -> None:
    together = [evidence(name, e=120.0, weight=0.5) for name in ("errors", "latency")]
    result = combine(together, rollback=0.01)
    assert (result.verdict, result.e_rollback, result.rollback_at) == ("fail", pytest.approx(120.0), 100.0)
    assert combine([together[0], replace(together[1], e_fail=1.0)], rollback=0.01).verdict == "insufficient"


def test_one_metric_suffices_at_its_own_weight() -> None:
    state = TwoArm(margin=0.02, alpha_fail=0.005)
    while state.fail_peak < math.log(100):
        state = state.update(Block(canary_n=10, canary_bad=1, champion_n=90, champion_bad=4))
    halves = [state.evidence("errors"), TwoArm(margin=0.02, alpha_fail=0.005).evidence("latency")]
    assert 100 <= state.e_fail < 200  # enough for one metric, not for one of two
    assert combine(halves, rollback=0.01).verdict == "insufficient"
    while state.fail_peak < math.log(200):
        state = state.update(Block(canary_n=10, canary_bad=1, champion_n=90, champion_bad=4))
    result = combine([state.evidence("errors"), halves[1]], rollback=0.01)
    assert result.verdict == "fail"
    assert result.summary == "worse than the champion: errors"


def test_a_fixed_limit_takes_back_and_must_be_kept() -> None:
    limit = Threshold(metric="errors", at_most=0.01, min_requests=10)
    passed = evidence(verdict="pass")
    missed = combine([passed, judge(limit, [Reading(value=0.02, n=50)])], rollback=0.01)
    assert (missed.verdict, missed.summary) == ("fail", "a fixed limit was missed: errors")
    assert combine([passed, judge(limit, [Reading(value=0.0, n=50)])], rollback=0.01).verdict == "pass"
    assert combine([passed, judge(limit, [])], rollback=0.01).verdict == "insufficient"
    alone = combine([judge(limit, [Reading(value=0.0, n=50)])], rollback=0.01)
    assert (alone.verdict, alone.e_rollback) == ("pass", None)


def test_guilty_slices_are_named() -> None:
    shares = (1 / 2, 1 / 6, 1 / 6, 1 / 6)
    metrics = [
        evidence(verdict="pass", weight=shares[0]),
        evidence("errors", slice="origin=EWR", e=5000.0, weight=shares[1], required=False),
        evidence("errors", slice="origin=JFK", e=0.3, weight=shares[2], required=False),
        evidence("errors", slice="origin=LGA", e=160.0, weight=shares[3], required=False),
    ]
    result = combine(metrics, rollback=0.01)
    assert result.verdict == "fail"
    assert result.guilty == ("errors origin=EWR", "errors origin=LGA")
    assert result.summary.endswith("; worse in errors origin=EWR, errors origin=LGA")


def test_parts_beyond_the_whole_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to more than"):
        combine([evidence(), evidence("latency")], rollback=0.01)


values = st.lists(st.floats(0, 1e6), max_size=12)


@given(e_values=values, alpha=st.sampled_from([0.01, 0.05]))
def test_e_bh_is_benjamini_hochberg_on_the_inverse(e_values: list[float], alpha: float) -> None:
    """Against a slow reading of the definition; and more evidence never clears a slice."""
    n = len(e_values)
    rejected = e_bh(e_values, alpha)
    ranked = sorted(e_values, reverse=True)
    k = max((k for k in range(1, n + 1) if ranked[k - 1] >= n / (alpha * k) * (1 + 1e-12)), default=0)
    assert len(rejected) >= k
    assert all(e_values[at] * len(rejected) * alpha >= n for at in rejected)
    assert set(rejected) <= set(e_bh([each * 2 for each in e_values], alpha))


def test_the_whole_errs_as_seldom_as_promised() -> None:
    """Two dependent metrics and six slices of an equal canary, 80 rollouts: the mean of dependent e-processes."""
    rng = np.random.default_rng(5)
    shares = (1 / 3, 1 / 3, *(1 / 18,) * 6)
    wrong = 0
    for _ in range(80):
        states = [TwoArm(margin=0.02, prior=0.05, alpha_fail=0.01 * share) for share in shares]
        failed = False
        for _ in range(10):
            canary, champion = rng.binomial(8, 0.05, 6), rng.binomial(70, 0.05, 6)
            parts = [
                Block(canary_n=8, canary_bad=int(a), champion_n=70, champion_bad=int(b))
                for a, b in zip(canary, champion, strict=True)
            ]
            whole = sum(parts, Block())
            states = [state.update(block) for state, block in zip(states, [whole, whole, *parts], strict=True)]
            metrics = [
                state.evidence("errors", slice=f"a={at}" if at > 1 else "", required=at < 2)
                for at, state in enumerate(states)
            ]
            failed = failed or combine(metrics, rollback=0.01).verdict == "fail"
        wrong += failed
    assert wrong <= 0.01 * 80 + 3 * math.sqrt(0.01 * 80)
