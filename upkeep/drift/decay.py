"""Does the champion get worse, and is it the world that changed or only the inputs?

Its loss on new held-out rows is compared with its loss on the held-out rows of the periods it learned from. Where the
inputs alone moved, the old losses carried over to the new inputs show the same rise; what rises beyond that is concept
drift. They are carried over twice: by a model of the loss given the inputs, and, for what that model misses, by
weighting (importance weighting under covariate shift, Shimodaira 2000). Of the two estimates one may be off: the
doubly robust estimator (Robins, Rotnitzky & Zhao 1994) is right if either is, and where both are fitted on other rows
than those they are used on, errors of theirs do not reach the interval to first order (double machine learning,
Chernozhukov et al. 2018), so resampling with both as fitted gives its width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from upkeep.drift.result import Decay

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[Any]

LEAST_RISE = 0.01
"""A smaller rise of the error is not decay, however certain."""
LEAST_EFFECTIVE = 100
"""Effective rows below which the reweighting says nothing."""
LEAST_GROUPS = 5
CLIP = 20.0
"""No row weighs more than this many times the mean."""
MOST_GROUPS = 1000
"""More independent groups are merged at random: their sums are as independent, and resampling stays quick."""
RESAMPLES = 1000


@dataclass(frozen=True)
class _Side:
    """Sums by group, (groups,) each."""

    loss: Floats
    rows: Floats
    weighted_residual: Floats
    """Of loss less expected loss."""
    weight: Floats


def decay(
    reference_loss: Floats,
    current_loss: Floats,
    *,
    seed: int,
    weights: Floats | None = None,
    reference_expected: Floats | None = None,
    current_expected: Floats | None = None,
    reference_groups: Groups | None = None,
    current_groups: Groups | None = None,
    least_rise: float = LEAST_RISE,
    min_rows: int = 200,
    resamples: int = RESAMPLES,
) -> Decay:
    """The rise of the champion's error, with a 95 % bootstrap interval, and how much of it the inputs explain.

    ``reference_loss`` (n,) and ``current_loss`` (m,): each row's loss on held-out rows (0 right, 1 wrong; or any other
    loss, with a ``least_rise`` of its unit). ``weights`` (n,): :func:`upkeep.drift.two_sample.density_ratio` of the
    reference rows; None leaves concept drift ``insufficient``. ``…_expected`` (n,) and (m,): the loss that each row's
    inputs let one expect by the reference rows (:func:`upkeep.drift.two_sample.expected_loss`), both or neither:
    without them the weights alone carry the reference error over, and the interval takes them as known. Whole groups
    are resampled where given (rows of a day share its weather).

    The interval is the expanded percentile interval (Hesterberg 2015, "What teachers should know about the
    bootstrap"), which keeps its word with few groups too.
    """
    n, m = len(reference_loss), len(current_loss)
    finite = bool(np.all(np.isfinite(reference_loss)) and np.all(np.isfinite(current_loss)))
    if reference_groups is None or current_groups is None:
        reference_groups = current_groups = None
    few_groups = any(
        groups is not None and len(np.unique(groups)) < LEAST_GROUPS for groups in (reference_groups, current_groups)
    )
    if not finite or min(n, m) < min_rows or few_groups:
        if not finite:
            reason = "Some losses are no numbers, so decay cannot be judged."
        elif few_groups:
            reason = f"Fewer than {LEAST_GROUPS} groups of held-out rows on a side: too few to judge decay by."
        else:
            reason = f"Too few labelled held-out rows to judge decay by: {n:,} old and {m:,} new, {min_rows:,} needed."
        return _undecided(reason, n, m, reference_loss, current_loss)
    rng = np.random.default_rng(seed)
    clipped, effective = _clip(weights, n)
    if reference_expected is None or current_expected is None:
        reference_expected, current_expected = np.zeros(n), np.zeros(m)
    missed, left = reference_loss - reference_expected, current_loss - current_expected
    old = _sums(reference_loss, missed, reference_groups, clipped, rng)
    new = _sums(current_loss, left, current_groups, None, rng)
    before, after = float(reference_loss.mean()), float(current_loss.mean())
    explained = None
    if clipped is not None:
        carried = float(current_expected.mean()) + float(clipped @ missed / clipped.sum())
        explained = min(max(carried, float(reference_loss.min())), float(reference_loss.max()))
    old_means, old_missed = _resample(old, rng, resamples)
    new_means, new_left = _resample(new, rng, resamples)
    smaller = min(len(old.rows), len(new.rows))
    low, high = _interval(new_means - old_means, smaller)
    rise = after - before
    decays = rise >= least_rise and low > 0
    interval = f"{rise:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}"
    said = f"The champion's error went from {before:.3f} to {after:.3f} ({interval})"
    unexplained = unexplained_low = unexplained_high = None
    if explained is not None:
        unexplained = after - explained
        unexplained_low, unexplained_high = _interval(new_left - old_missed, smaller)
    concept: Any = "no"
    if not decays:
        doubt = "" if high < least_rise else " is shown, and none is ruled out"
        reason = f"{said}: no decay beyond {least_rise:g}{doubt}."
    elif explained is None or unexplained is None or unexplained_low is None or unexplained_high is None:
        concept = "insufficient"
        reason = f"{said}. Whether the change of the inputs explains it was not looked at."
    elif effective is None or effective < LEAST_EFFECTIVE:
        concept = "insufficient"
        reason = (
            f"{said}. Too few old rows resemble the new ones to say whether the change of the inputs explains it "
            f"({effective or 0:.0f} effective rows, {LEAST_EFFECTIVE} needed)."
        )
    else:
        beyond = (
            f"{unexplained:+.3f} beyond what the change of the inputs explains "
            f"({unexplained_low:+.3f} to {unexplained_high:+.3f})"
        )
        concept = "yes" if unexplained_low > 0 and unexplained >= least_rise else "no"
        reason = f"{said}, {beyond}: " + (
            "the world changed, not only the inputs." if concept == "yes" else "the change of the inputs may be all."
        )
    return Decay(
        finding="decay" if decays else "stable",
        concept_drift=concept,
        reason=reason,
        reference_error=before,
        current_error=after,
        rise=rise,
        low=low,
        high=high,
        explained_error=explained,
        unexplained_rise=unexplained,
        unexplained_low=unexplained_low,
        unexplained_high=unexplained_high,
        effective_rows=effective,
        reference_rows=n,
        current_rows=m,
    )


def effective_rows(weights: Floats) -> float:
    """Kish's effective sample size: (Σ w)² / Σ w²."""
    return float(weights.sum() ** 2 / (weights @ weights))


def _clip(weights: Floats | None, rows: int) -> tuple[Floats | None, float | None]:
    if weights is None or len(weights) != rows or not np.all(np.isfinite(weights)) or weights.sum() <= 0:
        return None, None
    clipped = np.minimum(weights / weights.mean(), CLIP)
    return clipped, effective_rows(clipped)


def _sums(
    loss: Floats, residual: Floats, groups: Groups | None, weights: Floats | None, rng: np.random.Generator
) -> _Side:
    places = np.arange(len(loss)) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(places.max()) + 1
    if count > MOST_GROUPS:
        places = (rng.permutation(count) % MOST_GROUPS)[places]
        count = MOST_GROUPS
    weight = np.ones(len(loss)) if weights is None else weights

    def total(values: Floats) -> Floats:
        sums = np.zeros(count)
        np.add.at(sums, places, values)
        return sums

    return _Side(
        loss=total(loss),
        rows=total(np.ones(len(loss))),
        weighted_residual=total(residual * weight),
        weight=total(weight),
    )


def _resample(side: _Side, rng: np.random.Generator, resamples: int) -> tuple[Floats, Floats]:
    """The mean loss and the weighted mean residual of each resample of whole groups, (resamples,)."""
    count = len(side.rows)
    sums = np.stack([side.loss, side.rows, side.weighted_residual, side.weight], axis=1)
    drawn = np.empty((resamples, 4))
    for turn in range(resamples):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        drawn[turn] = times @ sums
    with np.errstate(divide="ignore", invalid="ignore"):
        return drawn[:, 0] / drawn[:, 1], drawn[:, 2] / drawn[:, 3]


def _interval(values: Floats, groups: int) -> tuple[float, float]:
    from scipy.special import ndtr, stdtrit

    values = values[np.isfinite(values)]
    reach = float(stdtrit(groups - 1, 0.975)) * np.sqrt(groups / (groups - 1))
    tail = float(ndtr(-reach))
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _undecided(reason: str, n: int, m: int, reference_loss: Floats, current_loss: Floats) -> Decay:
    def mean(loss: Floats) -> float | None:
        return float(loss.mean()) if len(loss) and np.all(np.isfinite(loss)) else None

    return Decay(
        finding="insufficient",
        concept_drift="insufficient",
        reason=reason,
        reference_error=mean(reference_loss),
        current_error=mean(current_loss),
        rise=None,
        low=None,
        high=None,
        explained_error=None,
        unexplained_rise=None,
        unexplained_low=None,
        unexplained_high=None,
        effective_rows=None,
        reference_rows=n,
        current_rows=m,
    )
