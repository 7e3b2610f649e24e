"""The gate: every rule, every case, and the law that a missing number never lets anything through."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upkeep.evaluation.gate import Evidence, gate
from upkeep.evaluation.result import (
    Cost,
    Difference,
    FairnessResult,
    Forgetting,
    Interval,
    Paired,
    PeriodChange,
    Reason,
    Round,
    Rounds,
    Scores,
    SliceResult,
    Verdict,
)
from upkeep.spec.model import Better, Budgets, Fairness, ForgettingRule, Gate, OldRows, SliceRule

RULES = Gate(
    better=Better(metric="f1", by=0.005, confidence=0.95),
    at_least={"recall": 0.5, "log_loss": 0.7},
    old=OldRows(worse_by_at_most=0.02),
    slices=SliceRule(worse_by_at_most=0.05, min_rows=100),
    forgetting=ForgettingRule(worse_by_at_most=0.02),
    fairness=(Fairness(column="origin", equal_opportunity_difference=0.1),),
    budgets=Budgets(latency_ms=20, size_mb=50),
    min_rows=200,
)
METRICS = ("accuracy", "precision", "recall", "f1", "roc_auc", "log_loss")


def interval(estimate: float, half: float = 0.02) -> Interval:
    return Interval(estimate=estimate, low=estimate - half, high=estimate + half)


def pair(gap: float = 0.05, half: float = 0.02, rows: int = 1000, row_set: str = "new") -> Paired:
    return Paired(
        row_set=row_set,  # type: ignore[arg-type]
        periods=("2013-04",),
        rows=rows,
        groups=30,
        differences=tuple(
            Difference(
                metric=metric, champion=0.4, candidate=0.4 + gap, difference=interval(gap, half), confidence=0.95
            )
            for metric in METRICS
        ),
        both_right=700,
        only_champion_right=40,
        only_candidate_right=90,
        both_wrong=170,
        mcnemar_p=None,
    )


def scores(rows: int = 2000, **metrics: float | None) -> Scores:
    known = {"accuracy": 0.8, "precision": 0.6, "recall": 0.6, "f1": 0.6, "roc_auc": 0.8, "log_loss": 0.4}
    return Scores(
        rows=rows, positives=500, metrics=known | metrics, intervals={},
        confusion=((1, 2), (3, 4)), calibration=(), roc=()
    )  # fmt: skip


def slice_of(gap: float | None, *, value: str = "AA", rows: int = 500, finding: str | None = None) -> SliceResult:
    difference = None if gap is None else interval(gap)
    found = "insufficient" if difference is None else "better" if difference.low > 0 else "same"
    found = "worse" if difference is not None and difference.high < 0 else found
    return SliceResult(
        column="carrier", value=value, rows=rows, positives=50, finding=finding or found, reason="because",  # type: ignore[arg-type]
        champion={}, candidate={}, difference=difference,
    )  # fmt: skip


def gap_of(estimate: float, half: float = 0.02, *, limit: float | None = 0.1, **changes: Any) -> FairnessResult:
    result = FairnessResult(
        column="origin", measure="equal_opportunity_difference", finding="note", reason="",
        candidate=interval(estimate, half), champion=interval(0.2), limit=limit, judged=("EWR", "JFK"),
        too_small=("LGA",),
        by_group={},
    )  # fmt: skip
    return replace(result, **changes)


def forgot(*gaps: float | None, half: float = 0.02, rows: int = 500, **changes: Any) -> Forgetting:
    """One old period a gap, and the new one after them."""
    periods = tuple(
        PeriodChange(
            period=f"2013-0{number}", known_before=number <= len(gaps), rows=rows, groups=30, before=0.5,
            after=0.5 + (gap or 0.0), change=None if gap is None else interval(gap, half),
        )
        for number, gap in enumerate((*gaps, 0.1), start=1)
    )  # fmt: skip
    one = Round(model="m", state="s", periods=("2013-01",), scores={"2013-01": 0.5}, rows={"2013-01": 500})
    found = Forgetting(
        candidate="boosting", row_set="held_out", went_on_from="where it last stood",
        from_base=False, failed="", confidence=0.975,
        together=0.95, periods=periods, missing=(), matrix=Rounds(metric="f1", rounds=(one,), chance={"2013-01": 0.0}),
        backward=-0.01, backward_over=1, forward=0.2, forward_over=1,
    )  # fmt: skip
    return replace(found, **changes)


GOOD = Evidence(
    case="champion",
    champion="v2",
    candidate="boosting",
    decision=pair(),
    old=pair(0.0, row_set="old"),
    scores=scores(),
    slices=(slice_of(0.03), slice_of(None, value="OO", rows=29)),
    fairness=(gap_of(0.05),),
    cost=Cost(latency_ms_p50=2.0, latency_ms_p95=5.0, rows_per_second=1e5, size_bytes=1_000_000),
    went_on=True,
    forgetting=forgot(0.0, -0.01),
)


def found(verdict: Verdict, rule: str) -> Reason:
    (reason,) = [reason for reason in verdict.reasons if reason.rule == rule]
    return reason


def test_a_better_candidate_passes_and_the_reasons_carry_the_numbers() -> None:
    verdict = gate(RULES, GOOD)
    assert verdict.verdict == "pass"
    assert "boosting passes against v2. F1 0.400 → 0.450 on 1,000 new held-out rows in 30 groups" in verdict.summary
    assert {reason.rule for reason in verdict.reasons if reason.finding == "pass"} == {
        "gate.better",
        "gate.old.worse_by_at_most",
        "gate.forgetting",
        "gate.at_least.recall",
        "gate.at_least.log_loss",
        "gate.fairness[origin].equal_opportunity_difference",
        "gate.budgets.latency_ms",
        "gate.budgets.size_mb",
    }
    small = found(verdict, "gate.slices[carrier=OO]")
    assert small.finding == "note"  # too small to judge: said, and neither held against it nor called fair
    assert "LGA" in found(verdict, "gate.fairness[origin].equal_opportunity_difference").text


@pytest.mark.parametrize(
    ("changes", "rule", "finding"),
    [
        ({"decision": pair(-0.05)}, "gate.better", "fail"),
        ({"decision": pair(0.0, 0.0)}, "gate.better", "fail"),
        ({"decision": pair(0.004, 0.001)}, "gate.better", "fail"),
        ({"decision": pair(0.02, 0.03)}, "gate.better", "insufficient"),
        ({"decision": pair(rows=199)}, "gate.better", "insufficient"),
        ({"decision": None}, "gate.better", "insufficient"),
        ({"decision": replace(pair(), differences=())}, "gate.better", "insufficient"),
        ({"decision": replace(pair(), only_champion_right=0, only_candidate_right=5)}, "gate.better", "insufficient"),
        ({"old": pair(-0.03)}, "gate.old.worse_by_at_most", "fail"),
        ({"old": pair(-0.01, 0.05)}, "gate.old.worse_by_at_most", "pass"),
        ({"old": pair(rows=100)}, "gate.old.worse_by_at_most", "insufficient"),
        ({"old": None}, "gate.old.worse_by_at_most", "insufficient"),
        ({"old": None, "old_expected": False}, "gate.old.worse_by_at_most", "note"),
        ({"forgetting": forgot(0.0, -0.05)}, "gate.forgetting[2013-02]", "fail"),
        ({"forgetting": forgot(0.0, -0.05, half=0.04)}, "gate.forgetting[2013-02]", "insufficient"),
        ({"forgetting": forgot(0.0, -0.01, half=0.04)}, "gate.forgetting", "pass"),
        ({"forgetting": forgot(0.0, None)}, "gate.forgetting[2013-02]", "insufficient"),
        ({"forgetting": forgot(0.0, 0.0, rows=99)}, "gate.forgetting[2013-01, 2013-02]", "insufficient"),
        ({"forgetting": forgot(0.0, missing=("2012-12",))}, "gate.forgetting[2012-12]", "insufficient"),
        ({"forgetting": forgot()}, "gate.forgetting", "insufficient"),
        ({"forgetting": forgot(0.0, failed="its bytes are gone")}, "gate.forgetting", "insufficient"),
        ({"forgetting": forgot(0.0, row_set="validation")}, "gate.forgetting", "insufficient"),
        ({"forgetting": forgot(0.0, together=0.9)}, "gate.forgetting[2013-01]", "insufficient"),
        ({"forgetting": None}, "gate.forgetting", "insufficient"),
        ({"forgetting": None, "went_on": False}, "gate.forgetting", "note"),
        ({"forgetting": forgot(from_base=True), "went_on": False}, "gate.forgetting", "note"),
        ({"scores": scores(recall=0.49)}, "gate.at_least.recall", "fail"),
        ({"scores": scores(recall=None)}, "gate.at_least.recall", "insufficient"),
        ({"scores": scores(rows=50)}, "gate.at_least.recall", "insufficient"),
        ({"scores": scores(log_loss=0.71)}, "gate.at_least.log_loss", "fail"),
        ({"slices": (slice_of(-0.08),)}, "gate.slices[carrier=AA]", "fail"),
        ({"slices": (slice_of(-0.06),)}, "gate.slices[carrier=AA]", "note"),
        ({"slices": (slice_of(None, finding="same"),)}, "gate.slices[carrier=AA]", "insufficient"),
        ({"fairness": (gap_of(0.15),)}, "gate.fairness[origin].equal_opportunity_difference", "fail"),
        ({"fairness": (gap_of(0.11),)}, "gate.fairness[origin].equal_opportunity_difference", "insufficient"),
        ({"fairness": (gap_of(0.09),)}, "gate.fairness[origin].equal_opportunity_difference", "pass"),
        ({"fairness": ()}, "gate.fairness[origin].equal_opportunity_difference", "insufficient"),
        (
            {"fairness": (gap_of(0.01, judged=("EWR",)),)},
            "gate.fairness[origin].equal_opportunity_difference",
            "insufficient",
        ),
        ({"cost": replace(GOOD.cost or Cost(latency_ms_p50=0, latency_ms_p95=0, rows_per_second=0, size_bytes=0),
                          latency_ms_p95=21.0)}, "gate.budgets.latency_ms", "fail"),
        ({"cost": None}, "gate.budgets.latency_ms", "insufficient"),
        ({"cost": Cost(latency_ms_p50=1, latency_ms_p95=1, rows_per_second=1, size_bytes=0)}, "gate.budgets.size_mb",
         "insufficient"),
    ],
)  # fmt: skip
def test_each_rule_alone(changes: dict[str, Any], rule: str, finding: str) -> None:
    verdict = gate(RULES, replace(GOOD, **changes))
    assert found(verdict, rule).finding == finding
    assert verdict.verdict == ("pass" if finding in ("pass", "note") else finding)


def test_a_failure_outweighs_what_is_not_known() -> None:
    verdict = gate(RULES, replace(GOOD, decision=None, scores=scores(recall=0.1)))
    assert verdict.verdict == "fail"
    assert "recall is 0.100" in verdict.summary


def test_an_interval_of_less_confidence_than_asked_does_not_count() -> None:
    weak = replace(pair(), differences=tuple(replace(one, confidence=0.9) for one in pair().differences))
    assert gate(RULES, replace(GOOD, decision=weak)).verdict == "insufficient"


def test_the_first_version_has_only_its_own_rules() -> None:
    first = Evidence(
        case="first", champion=None, candidate="boosting", scores=scores(), fairness=GOOD.fairness, cost=GOOD.cost
    )
    verdict = gate(RULES, first)
    assert verdict.verdict == "pass"
    assert "gate.better" not in {reason.rule for reason in verdict.reasons}
    assert gate(RULES, replace(first, scores=scores(rows=150))).verdict == "insufficient"
    assert gate(RULES, replace(first, scores=scores(f1=None))).verdict == "insufficient"
    assert gate(RULES, replace(first, scores=scores(recall=0.2))).verdict == "fail"
    assert gate(Gate(), replace(first, scores=None)).verdict == "insufficient"
    against = Gate(fairness=(Fairness(column="origin", equal_opportunity_difference=0, not_worse_than_champion=True),))
    assert gate(against, first).verdict == "pass"


@pytest.mark.parametrize("case", ["champion_unreadable", "changed_features", "changed_classes", "adopted_unknown"])
def test_a_champion_that_cannot_be_asked_is_insufficient_and_says_what_to_do(case: str) -> None:
    evidence = replace(
        GOOD, case=case, cannot_compare="Champion v2 cannot be asked. Do this.", decision=None, old=None, slices=()
    )  # type: ignore[arg-type]
    verdict = gate(RULES, evidence)
    assert verdict.verdict == "insufficient"
    assert "Do this." in verdict.summary
    assert verdict.case == case


@pytest.mark.parametrize("case", ["changed_features", "changed_classes", "adopted_unknown"])
def test_a_changed_champion_that_can_be_asked_is_compared(case: str) -> None:
    evidence = replace(GOOD, case=case, notes=("The features changed.",))  # type: ignore[arg-type]
    verdict = gate(RULES, evidence)
    assert verdict.verdict == "pass"
    assert found(verdict, "champion").finding == "note"


def test_without_a_candidate_nothing_passes() -> None:
    verdict = gate(RULES, replace(GOOD, candidate=None, failed=("Candidate boosting failed: no memory",)))
    assert verdict.verdict == "insufficient"
    assert "no memory" in verdict.reasons[0].text


def test_a_gap_that_is_not_worse_than_the_champions() -> None:
    rules = Gate(fairness=(Fairness(column="origin", equal_opportunity_difference=0.02, not_worse_than_champion=True),))
    unfair = gap_of(0.3, limit=0.02, against_champion=True)
    for change, expected in ((interval(-0.01), "pass"), (interval(0.1), "fail"), (interval(0.03), "insufficient")):
        evidence = replace(GOOD, fairness=(replace(unfair, change=change),))
        assert gate(rules, evidence).verdict == expected
    assert gate(rules, replace(GOOD, fairness=(unfair,))).verdict == "insufficient"


def numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every number in a record."""
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield path
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from numbers(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from numbers(item, (*path, key))
    elif isinstance(value, tuple):
        for position, item in enumerate(value):
            yield from numbers(item, (*path, position))


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    head, rest = path[0], path[1:]
    if dataclasses.is_dataclass(value):
        return replace(value, **{head: put(getattr(value, head), rest, new)})  # type: ignore[type-var]
    if isinstance(value, dict):
        return value | {head: put(value[head], rest, new)}
    return (*value[:head], put(value[head], rest, new), *value[head + 1 :])


DECIDES_NOTHING = {
    "matrix", "backward", "backward_over", "forward", "forward_over",
    "positives", "both_right", "both_wrong", "confusion", "latency_ms_p50", "rows_per_second", "groups",
}  # fmt: skip


def decides(path: tuple[Any, ...]) -> bool:
    """Whether the gate has a rule that goes by this number."""
    if any(part in DECIDES_NOTHING for part in path):
        return False
    if path[0] == "fairness" and "champion" in path:
        return False
    if path[:2] == ("forgetting", "periods") and path[2] == 2:  # a new period: nothing of it can be forgotten
        return False
    if path[0] in ("decision", "old") and "differences" in path:
        return METRICS[path[2]] == RULES.better.metric
    if path[0] == "old" and path[1].startswith("only_"):
        return False
    if path[0] == "scores" and "metrics" in path:
        return path[-1] in RULES.at_least
    return True


PATHS = [path for path in numbers(GOOD) if decides(path)]


@settings(max_examples=200)
@given(path=st.sampled_from(PATHS), new=st.sampled_from([None, math.nan, math.inf, -math.inf]))
def test_a_missing_number_never_passes(path: tuple[Any, ...], new: float | None) -> None:
    assert gate(RULES, GOOD).verdict == "pass"
    assert gate(RULES, put(GOOD, path, new)).verdict != "pass", path


@settings(max_examples=200)
@given(
    path=st.sampled_from(list(numbers(GOOD))),
    new=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.integers(-5, 5)),
)
def test_no_number_brings_the_gate_down(path: tuple[Any, ...], new: float | None) -> None:
    assert gate(RULES, put(GOOD, path, new)).verdict in ("pass", "fail", "insufficient")


@settings(max_examples=200)
@given(
    estimate=st.floats(-0.2, 0.2),
    half=st.floats(0, 0.2),
    rows=st.integers(0, 1000),
    by=st.floats(0, 0.1),
)
def test_better_passes_exactly_when_enough_better_beyond_doubt_on_enough_rows(
    estimate: float, half: float, rows: int, by: float
) -> None:
    rules = Gate(better=Better(metric="f1", by=by))
    evidence = Evidence(
        case="champion", champion="v1", candidate="one", decision=pair(estimate, half, rows),
        old=pair(0.0, row_set="old"),
    )  # fmt: skip
    expected = rows >= 200 and estimate > 0 and estimate >= by and estimate - half > 0
    assert (gate(rules, evidence).verdict == "pass") == expected


@settings(max_examples=100)
@given(worse=st.floats(0, 0.3), estimate=st.floats(-0.3, 0.3))
def test_a_worse_candidate_never_does_better_at_the_gate(worse: float, estimate: float) -> None:
    def passes(gap: float) -> bool:
        return gate(RULES, replace(GOOD, decision=pair(gap), old=pair(gap, row_set="old"))).verdict == "pass"

    assert passes(estimate) or not passes(estimate - worse)
