"""Gaps between groups against fairlearn, and intervals that do not find unfairness in noise."""

from dataclasses import replace

import fairlearn.metrics as reference
import numpy as np
import pytest

from tests.unit.evaluation.evaluation_fakes import Rows, binary_rows
from upkeep.evaluation.fairness import MEASURES, fairness_results
from upkeep.evaluation.result import FairnessResult
from upkeep.spec.model import Fairness


def people(seed: int, rows: int = 4000, *, shift: float = 0.0, days: int | None = None, small: int = 20) -> Rows:
    """Three groups alike, but for ``shift`` in the first one's chance of a positive answer; and a tiny fourth."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, rows).astype(np.uint8)
    group[:small] = 3
    truth = rng.random(rows) < 0.4
    chance = np.where(truth, 0.7, 0.2) + shift * (group == 0)
    said = rng.random(rows) < chance
    old = rng.random(rows) < np.where(truth, 0.7, 0.2)
    made = binary_rows(
        truth, rng.integers(0, days, rows) if days else None, candidate=said.astype(float), champion=old.astype(float)
    )
    return replace(made, slices={"origin": (group, ("EWR", "JFK", "LGA", "OO"))})


def measured(rows: Rows, rule: Fairness, seed: int = 0, champion: str | None = "champion") -> dict[str, FairnessResult]:
    results = fairness_results(rows, [rule], ["origin"], resamples=300, seed=seed, champion=champion)
    return {result.measure: result for result in results}


@pytest.mark.parametrize("shift", [0.0, 0.15])
def test_estimates_are_fairlearns_over_the_judged_groups(shift: float) -> None:
    rows = people(0, shift=shift)
    codes, values = rows.slices["origin"]
    big = codes != 3
    said = rows.answers["candidate"].predicted[big]
    results = measured(rows, Fairness(column="origin"))
    for measure in MEASURES:
        theirs = getattr(reference, measure)(rows.truth[big], said, sensitive_features=np.array(values)[codes[big]])
        found = results[measure].candidate
        assert found is not None
        assert found.estimate == pytest.approx(theirs)
        assert found.low <= found.estimate <= found.high
        assert results[measure].finding == "note"  # no limit was set
    frame = reference.MetricFrame(
        metrics=reference.selection_rate, y_true=rows.truth, y_pred=rows.answers["candidate"].predicted,
        sensitive_features=np.array(values)[codes],
    )  # fmt: skip
    by_group = results[MEASURES[0]].by_group
    assert by_group["JFK"]["selection_rate"] == pytest.approx(frame.by_group["JFK"])


def test_a_group_too_small_is_listed_and_never_judged() -> None:
    results = measured(people(1), Fairness(column="origin", demographic_parity_difference=0.1, min_rows=100))
    parity = results["demographic_parity_difference"]
    assert parity.finding == "pass"
    assert set(parity.judged) == {"EWR", "JFK", "LGA"}
    assert parity.too_small == ("OO",)
    assert "OO" not in parity.by_group


def test_a_rate_among_positives_needs_positives() -> None:
    rows = people(2)
    codes, _ = rows.slices["origin"]
    truth = np.where(codes == 0, 0, rows.truth).astype(np.uint8)  # a large group without positives
    results = measured(replace(rows, truth=truth), Fairness(column="origin"))
    assert "EWR" in results["demographic_parity_difference"].judged
    assert "EWR" in results["equal_opportunity_difference"].too_small


def test_fewer_than_two_groups_is_insufficient() -> None:
    rule = Fairness(column="origin", demographic_parity_difference=0.5, equal_opportunity_difference=0.5, min_rows=3000)
    results = measured(people(3), rule)
    assert results["demographic_parity_difference"].finding == "insufficient"
    assert results["demographic_parity_difference"].judged == ()
    assert results["demographic_parity_difference"].reason.endswith("needs: 3,000 rows")
    assert results["equal_opportunity_difference"].reason.endswith("needs: 3,000 rows, 600 of them positive")
    assert results["equalized_odds_difference"].reason.endswith("needs: 3,000 rows, 600 of them of either class")
    assert results["equalized_odds_difference"].finding == "note"


def test_without_a_positive_class_or_the_column_it_is_insufficient() -> None:
    rule = Fairness(column="origin", demographic_parity_difference=0.5)
    assert measured(replace(people(4), positive=None), rule)["demographic_parity_difference"].finding == "insufficient"
    assert measured(replace(people(4), slices={}), rule)["demographic_parity_difference"].finding == "insufficient"


@pytest.mark.parametrize("days", [None, 50, 12])
def test_a_real_gap_fails_and_its_absence_passes(days: int | None) -> None:
    rule = Fairness(column="origin", demographic_parity_difference=0.1)
    assert measured(people(5, shift=0.28, days=days), rule)["demographic_parity_difference"].finding == "fail"
    assert measured(people(5, shift=0.0, days=days), rule)["demographic_parity_difference"].finding == "pass"


def test_the_change_against_the_champion_is_what_counts_when_asked() -> None:
    rule = Fairness(column="origin", demographic_parity_difference=0.05, not_worse_than_champion=True)
    worse = measured(people(6, shift=0.28), rule)["demographic_parity_difference"]
    assert worse.finding == "fail"
    assert worse.change is not None
    assert worse.change.low > 0.05
    rows = people(6, shift=0.28)
    same = replace(rows, answers={"candidate": rows.answers["candidate"], "champion": rows.answers["candidate"]})
    alike = measured(same, rule)["demographic_parity_difference"]
    assert alike.finding == "pass"
    assert alike.change is not None
    assert alike.change.low == alike.change.high == 0
    assert measured(rows, rule, champion=None)["demographic_parity_difference"].finding == "insufficient"


def test_noise_between_many_small_groups_is_not_called_unfair() -> None:
    """Twenty groups alike, 100 rows each: the largest gap is large, and its low end above 0 in at most one run of ten.

    The plain percentile interval of the largest gap lies above 0 in every run.
    """
    found = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        rows = binary_rows(rng.random(2000) < 0.5, candidate=(rng.random(2000) < 0.5).astype(float))
        values = tuple(f"g{i:02}" for i in range(20))
        rows = replace(rows, slices={"origin": (np.arange(2000).astype(np.uint8) % 20, values)})
        gap = measured(rows, Fairness(column="origin"), seed, None)["demographic_parity_difference"].candidate
        assert gap is not None
        assert gap.estimate > 0.05
        found += gap.low > 0
    assert found <= 6
