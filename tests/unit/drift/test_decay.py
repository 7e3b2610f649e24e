from __future__ import annotations

import numpy as np
import pytest

from upkeep.drift.decay import decay, effective_rows


def world(rows, seed, *, shift=0.0, flipped=0.0):
    """Inputs, the loss of a champion that errs more for greater inputs, and the share of labels flipped since."""
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1, rows)
    chance = 0.08 + 0.3 / (1 + np.exp(-2 * x))
    return x, (rng.random(rows) < chance * (1 - flipped) + (1 - chance) * flipped).astype(float)


def ratio(x, shift):
    return np.exp(shift * x - shift**2 / 2)


def test_no_change_is_seldom_called_decay():
    alarms = 0
    for seed in range(60):
        x, old = world(1500, seed)
        found = decay(old, world(1500, seed + 999)[1], seed=0, weights=np.ones_like(x), resamples=300)
        alarms += found.finding == "decay"
        assert found.concept_drift == "no" or found.finding == "decay"
    assert alarms <= 6  # 2.5 % of 60 is 1.5


def test_a_change_of_the_inputs_alone_is_not_concept_drift():
    answers = []
    for seed in range(40):
        x, old = world(3000, seed)
        found = decay(old, world(3000, seed + 999, shift=0.8)[1], seed=0, weights=ratio(x, 0.8), resamples=300)
        answers.append((found.finding, found.concept_drift))
        assert found.explained_error > found.reference_error
    assert answers.count(("decay", "yes")) <= 4
    assert answers.count(("decay", "no")) >= 35


def test_flipped_labels_are_concept_drift():
    for seed in range(10):
        x, old = world(3000, seed)
        found = decay(
            old, world(3000, seed + 999, shift=0.5, flipped=0.15)[1], seed=0, weights=ratio(x, 0.5), resamples=300
        )
        assert (found.finding, found.concept_drift) == ("decay", "yes")
        assert 0 < found.unexplained_low <= found.unexplained_rise <= found.unexplained_high
        assert found.unexplained_rise < found.rise


def test_too_few_effective_rows_are_insufficient():
    x, old = world(2000, 0)
    found = decay(old, world(2000, 1, shift=4.0)[1], seed=0, weights=ratio(x, 4.0), resamples=300)
    assert found.finding == "decay" and found.concept_drift == "insufficient"
    assert found.effective_rows < 100 and "effective rows" in found.reason


def test_decay_without_weights_leaves_concept_drift_open():
    found = decay(world(1000, 0)[1], world(1000, 1, flipped=0.3)[1], seed=0)
    assert (found.finding, found.concept_drift, found.explained_error) == ("decay", "insufficient", None)


def test_few_rows_few_groups_or_broken_losses_are_insufficient():
    loss = world(1000, 0)[1]
    assert decay(loss, loss[:50], seed=0).finding == "insufficient"
    assert decay(loss, np.array([]), seed=0).current_error is None
    days = np.arange(1000) % 3
    assert decay(loss, loss, seed=0, reference_groups=days, current_groups=days).finding == "insufficient"
    broken = loss.copy()
    broken[0] = np.nan
    found = decay(broken, loss, seed=0)
    assert found.finding == "insufficient" and "no numbers" in found.reason


def test_a_tiny_certain_rise_is_not_decay():
    rng = np.random.default_rng(0)
    old, new = ((rng.random(400_000) < share).astype(float) for share in (0.2, 0.205))
    found = decay(old, new, seed=0, resamples=200)
    assert found.low > 0 and found.finding == "stable"
    assert decay(old, new, seed=0, resamples=200, least_rise=0.001).finding == "decay"


def days(count, seed, spread):
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(count), 50)
    chance = np.clip(0.25 + rng.normal(0, spread, count), 0.02, 0.9)[group]
    return (rng.random(len(group)) < chance).astype(float), group


def test_rows_that_share_a_day_make_the_interval_wide():
    (old, old_days), (new, new_days) = days(25, 1, 0.12), days(12, 2, 0.12)
    by_row = decay(old, new, seed=0)
    by_day = decay(old, new, seed=0, reference_groups=old_days, current_groups=new_days)
    assert by_day.high - by_day.low > 2 * (by_row.high - by_row.low)
    assert by_day == decay(old, new, seed=0, reference_groups=old_days, current_groups=new_days)


def test_the_interval_by_days_covers_no_change():
    hits = 0
    for seed in range(150):
        (old, old_days), (new, new_days) = days(20, seed, 0.1), days(10, seed + 5000, 0.1)
        found = decay(old, new, seed=0, reference_groups=old_days, current_groups=new_days, resamples=300)
        hits += found.low <= 0 <= found.high
    assert hits / 150 >= 0.9


def test_kishs_effective_rows():
    assert effective_rows(np.ones(50)) == 50
    assert effective_rows(np.array([1.0, 0, 0, 0])) == 1
    assert effective_rows(np.array([3.0, 1.0])) == pytest.approx(1.6)
