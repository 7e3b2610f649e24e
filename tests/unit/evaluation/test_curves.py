"""The answers to "how much data" and "how often": they follow the data, and say so when the data cannot tell."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.evaluation.evaluation_fakes import Rows, answers, binary_rows
from upkeep.evaluation.curves import Curves, Portion, Portioned, curves, trend
from upkeep.evaluation.result import Interval

PERIODS = tuple(f"2013-{month:02}" for month in range(1, 10))


def held_out(rows: int = 9000, groups: bool = False, seed: int = 0) -> tuple[Rows, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(rows) < 0.4
    made = binary_rows(truth, rng.integers(0, 300, rows) if groups else None)
    period = np.sort(rng.integers(0, 9, rows)).astype(np.uint8)
    return replace(made, periods=PERIODS, period=period), rng.random(rows)


def right_with(rows: Rows, luck: np.ndarray, chance: np.ndarray | float) -> np.ndarray:
    """Scores of a model that is right with this chance; models share their luck, as real ones do."""
    return np.where(luck < chance, rows.truth, 1 - rows.truth).astype(float)


def run(
    by_share: dict[float, float],
    per_period: float,
    *,
    newest: float = 0.8,
    whole: float = 0.8,
    until: str | None = None,
    groups: bool = False,
    seconds: float = 1000,
) -> tuple[Curves, list[Portion]]:
    rows, luck = held_out(groups=groups)
    now = iter(range(10_000))
    asked: list[Portion] = []
    rows = replace(rows, answers={"candidate": answers(right_with(rows, luck, whole))})
    if until is not None:
        age = np.maximum(rows.period.astype(int) - PERIODS.index(until), 0)
        rows.answers["champion"] = answers(right_with(rows, luck, whole - per_period * age))

    def retrain(portion: Portion) -> Portioned | None:
        asked.append(portion)
        if portion.periods is None:
            return Portioned(
                answers=answers(right_with(rows, luck, by_share[portion.share])), rows=int(portion.share * 8000)
            )
        if portion.periods[-1] == PERIODS[-1]:
            return Portioned(answers=answers(right_with(rows, luck, newest)), rows=1000)
        age = np.maximum(rows.period.astype(int) - PERIODS.index(portion.periods[-1]), 0)
        return Portioned(answers=answers(right_with(rows, luck, whole - per_period * age)), rows=1000)

    made = curves(
        rows,
        np.flatnonzero(rows.period >= 5),
        Portioned(answers=rows.answers["candidate"], rows=8000),
        PERIODS,
        "accuracy",
        worth=0.02,
        retrain=retrain,
        champion_until=until,
        seed=0,
        seconds=seconds,
        clock=lambda: float(next(now)),
    )
    return made, asked


GROWING = {0.125: 0.6, 0.25: 0.66, 0.5: 0.73}
FLAT = {0.125: 0.7, 0.25: 0.8, 0.5: 0.8}


def test_more_rows_still_help_when_the_last_doubling_did() -> None:
    made, _ = run(GROWING, 0.0)
    assert [point.x for point in made.by_rows] == [1000, 2000, 4000, 8000]
    assert made.by_rows[0].score.estimate < made.by_rows[-1].score.estimate
    assert made.by_rows[0].rows == (held_out()[0].period >= 5).sum()  # on the rows that stand for what is to come
    assert "More rows still help" in made.more_data
    assert "instead of 4,000 (0.5 of them) brings +0.0" in made.more_data


def test_the_smallest_number_of_rows_that_is_as_good_is_named() -> None:
    made, _ = run(FLAT, 0.0)
    assert "2,000 rows are not told apart from all" in made.more_data


@pytest.mark.parametrize(
    ("newest", "sentence"),
    [(0.85, "Old periods hurt"), (0.8, "are not told apart from all"), (0.7, "Old periods still help")],
)
def test_old_periods_help_or_hurt(newest: float, sentence: str) -> None:
    made, _ = run(FLAT, 0.0, newest=newest)
    assert [point.x for point in made.by_periods] == [1, 2, 4, 8, 9]
    assert sentence in made.more_data


@pytest.mark.parametrize("groups", [False, True])
def test_a_model_that_ages_says_how_often_to_update(groups: bool) -> None:
    made, asked = run(FLAT, 0.02, groups=groups)
    assert Portion(periods=PERIODS[:3]) in asked  # the stand-in stopped after a third of the periods
    assert [point.x for point in made.by_age] == [1, 2, 3, 4, 5, 6]
    assert made.by_age[0].label == "2013-04"
    assert "builds up in about 1 period" in made.more_often
    assert "stopped at 2013-03" in made.more_often


def test_an_old_champion_is_aged_itself() -> None:
    made, asked = run(FLAT, 0.02, until="2013-04")
    assert [point.label for point in made.by_age] == list(PERIODS[4:])
    assert "The champion (learned until 2013-04)" in made.more_often
    assert all(portion.periods is None or portion.periods[-1] == PERIODS[-1] for portion in asked)


def test_a_model_that_does_not_age_says_so() -> None:
    made, _ = run(FLAT, 0.0)
    assert "updating less often is enough" in made.more_often or "not beyond doubt" in made.more_often


def test_a_slope_within_the_noise_is_not_called_ageing() -> None:
    made, _ = run(FLAT, 0.001)
    assert "builds up" not in made.more_often


def test_with_too_few_later_periods_it_says_that_it_cannot_say() -> None:
    rows, luck = held_out(600)
    rows = replace(rows, answers={"candidate": answers(right_with(rows, luck, 0.8))})
    made = curves(
        rows, np.arange(600), Portioned(answers=rows.answers["candidate"], rows=10), PERIODS[:2], "accuracy",
        worth=0.01, retrain=None, champion_until=None, seed=0, clock=lambda: 0.0,
    )  # fmt: skip
    assert "cannot say" in made.more_often
    assert made.more_data.startswith("Not measured")
    assert made.by_age == ()


def test_no_training_is_begun_after_the_time_is_up() -> None:
    made, asked = run(FLAT, 0.0, seconds=2.5)
    assert len(asked) == 2
    assert "stopped after 2 s" in made.more_data


def interval(estimate: float, half: float) -> Interval:
    return Interval(estimate=estimate, low=estimate - half, high=estimate + half)


@settings(max_examples=50)
@given(slope=st.floats(-0.05, 0.05), level=st.floats(-0.2, 0.2), ages=st.integers(3, 12))
def test_a_line_is_found(slope: float, level: float, ages: int) -> None:
    found = trend([(age, interval(level + slope * age, 0.02)) for age in range(1, ages + 1)])
    assert found.estimate == pytest.approx(slope, abs=1e-9)
    assert found.low < slope < found.high


def test_the_trends_interval_holds_the_truth() -> None:
    held = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        losses = [(age, interval(0.01 * age + rng.normal() * 0.02, 1.96 * 0.01)) for age in range(1, 7)]
        found = trend(losses)  # the periods scatter by twice what their own intervals say
        held += found.low <= 0.01 <= found.high
    assert 0.90 <= held / 300 <= 0.99
