from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from upkeep.data.kinds import Column
from upkeep.drift.decay import decay, effective_rows
from upkeep.drift.two_sample import density_ratio, expected_loss


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


def chance(x):
    return 0.08 + 0.3 / (1 + np.exp(-2 * x))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        pytest.param(lambda x: ratio(x, 0.8), lambda x: np.full_like(x, 0.5), id="the expected loss is wrong"),
        pytest.param(np.ones_like, chance, id="the weights are wrong"),
    ],
)
def test_one_of_the_two_may_be_wrong(weights, expected):
    """Doubly robust: either carries the old error over to the new inputs; with both wrong it is far off."""
    found = []
    for seed in range(20):
        (x, old), (moved, new) = world(3000, seed), world(3000, seed + 999, shift=0.8)
        found.append(
            decay(
                old, new, seed=0, weights=weights(x), resamples=300,
                reference_expected=expected(x), current_expected=expected(moved),
            )
        )  # fmt: skip
    assert abs(np.mean([one.unexplained_rise for one in found])) < 0.006
    assert sum(one.unexplained_low <= 0 <= one.unexplained_high for one in found) >= 17
    assert sum(one.concept_drift == "yes" for one in found) <= 2
    assert np.mean([one.rise for one in found]) > 0.05


def test_both_estimated_from_the_rows_keep_to_the_truth():
    """As drift does it: density ratio and expected loss learned from the samples."""
    columns = [Column(name=name, kind="numeric") for name in "ab"]
    rises, wrong = [], 0
    for seed in range(6):
        sides = [world(1200, seed), world(1200, seed + 999, shift=0.6)]
        rng = np.random.default_rng(seed)
        old, new = (pa.table({"a": x, "b": rng.normal(size=len(x))}) for x, _ in sides)
        expected = expected_loss(old, new, columns, sides[0][1], seed=0)
        assert expected is not None
        assert all(((part >= 0) & (part <= 1)).all() for part in expected)
        found = decay(
            sides[0][1], sides[1][1], seed=0, weights=density_ratio(old, new, columns, seed=0), resamples=300,
            reference_expected=expected[0], current_expected=expected[1],
        )  # fmt: skip
        rises.append(found.unexplained_rise)
        wrong += found.concept_drift == "yes"
    assert abs(np.mean(rises)) < 0.015
    assert wrong <= 2


def test_no_loss_at_all_is_expected_to_stay_so():
    columns = [Column(name="a", kind="numeric")]
    rows = pa.table({"a": np.arange(100.0)})
    expected = expected_loss(rows, rows, columns, np.zeros(100), seed=0)
    assert expected is not None
    assert not expected[0].any() and not expected[1].any()
    assert expected_loss(rows[:49], rows, columns, np.zeros(49), seed=0) is None


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
    assert found.reason.endswith("no decay beyond 0.01.")
    assert decay(old, new, seed=0, resamples=200, least_rise=0.001).finding == "decay"


def test_few_rows_do_not_rule_decay_out():
    old, new = (np.repeat([1.0, 0.0], counts) for counts in ((20, 280), (28, 272)))
    found = decay(old, new, seed=0, resamples=500)
    assert found.finding == "stable" and found.high > 0.01
    assert found.reason.endswith("no decay beyond 0.01 is shown, and none is ruled out.")


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
