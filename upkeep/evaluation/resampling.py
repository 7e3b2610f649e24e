"""Intervals by resampling what is independent: rows, or the split groups (days, customers) that rows come in.

All a statistic needs of the rows is a few sums, so rows are first gathered into *units*, each with its sums:

- rows are independent: one unit for each joint outcome (true class, champion's answer, candidate's answer) that
  occurs, with the number of rows that have it. Drawing n rows with replacement is drawing the numbers of rows in the
  outcomes from a multinomial: the same distribution, at a cost of resamples × outcomes instead of resamples × rows;
- groups are independent: one unit a group. Whole groups are drawn (the cluster bootstrap: Davison & Hinkley,
  *Bootstrap Methods and their Application*, 1997, §3.8). Past :data:`MOST_UNITS` groups they are first put together
  at random into that many (Wolter, *Introduction to Variance Estimation*, 2007, ch. 2): cost stays bounded.

The interval is the percentile interval, widened as Hesterberg proposes ("What Teachers Should Know About the
Bootstrap", The American Statistician 69(4), 2015, §4.2): its tails are Φ(−√(n/(n−1)) · t(n−1)), which undoes the
narrowness of a bootstrap of n units. Below :data:`FEW_UNITS` units a bootstrap is too coarse even so; there the
interval is estimate ± t(n−1) × the jackknife's standard error (Efron & Tibshirani, *An Introduction to the Bootstrap*,
1993, ch. 11). Groups of unequal size count as fewer: n is then Kish's effective number (Σ size)² / Σ size².
Below :data:`LEAST_UNITS` groups or rows there is no interval: that is ``insufficient``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from upkeep.evaluation.metrics import Floats
from upkeep.evaluation.result import Interval

LEAST_UNITS = 5
FEW_UNITS = 30
MOST_UNITS = 2000
UNDEFINED_RESAMPLES = 0.01
"""With more resamples than this share in which the statistic is not defined, there is no interval."""
_DRAWN_AT_ONCE = 1 << 21  # numbers of a block of draws: 16 MB

Statistic = Callable[[Floats], Floats]
"""From sums, shape (…, sums), to the statistic, shape (…,); NaN where it is not defined."""


@dataclass(frozen=True)
class Units:
    sums: Floats
    """What one unit adds to the total, shape (units, sums)."""
    times: npt.NDArray[np.int64]
    """How often the unit occurs, shape (units,)."""
    sizes: Floats
    """Rows of one unit, shape (units,)."""
    compare_sizes: bool = True
    """Units of unequal size count as fewer (groups; not rows)."""

    @property
    def number(self) -> int:
        return int(self.times.sum())

    @property
    def effective(self) -> float:
        """Kish's effective number of units."""
        if not self.compare_sizes:
            return float(self.number)
        total = float((self.sizes * self.times).sum())
        squares = float((self.sizes**2 * self.times).sum())
        return total * total / squares if squares else 0.0

    @property
    def total(self) -> Floats:
        result: Floats = self.times @ self.sums
        return result


def cells(codes: npt.NDArray[np.intp], sums_of: Callable[[npt.NDArray[np.intp]], Floats]) -> Units:
    """Units of independent rows: ``codes`` names each row's outcome, ``sums_of`` gives an outcome's sums."""
    outcomes, times = np.unique(codes, return_counts=True)
    return Units(sums_of(outcomes), times.astype(np.int64), np.ones(len(outcomes)), compare_sizes=False)


def group_codes(groups: npt.NDArray[Any], seed: int) -> tuple[npt.NDArray[np.intp], int, int]:
    """(code of each row's unit, number of units, number of groups); groups are put together past MOST_UNITS."""
    names, codes = np.unique(groups, return_inverse=True)
    number = len(names)
    if number <= MOST_UNITS:
        return codes.astype(np.intp), number, number
    shuffled = np.random.default_rng(seed).permutation(number) % MOST_UNITS
    return shuffled[codes].astype(np.intp), MOST_UNITS, number


@dataclass(frozen=True)
class Resampled:
    """Totals of the sums: as observed, and in each resample; any statistic of them then has an interval."""

    units: Units
    total: Floats
    """Shape (sums,)."""
    draws: Floats | None
    """Shape (resamples, sums); None with few units, where the jackknife is used."""

    def interval(self, statistic: Statistic, confidence: float) -> Interval | None:
        """The statistic's estimate and two-sided interval; None when it is not defined or there are too few units."""
        estimate = float(statistic(self.total[None, :])[0])
        if not math.isfinite(estimate) or self.units.number < LEAST_UNITS:
            return None
        freedom = max(self.units.effective - 1, 1.0)
        if self.draws is None:
            error = self._jackknife(statistic)
            if error is None:
                return None
            half = student(confidence, freedom) * error
            return Interval(estimate=estimate, low=estimate - half, high=estimate + half)
        values = statistic(self.draws)
        defined = values[np.isfinite(values)]
        if len(defined) < (1 - UNDEFINED_RESAMPLES) * len(values):
            return None
        tail = widened_tail(confidence, freedom)
        low, high = np.quantile(defined, (tail, 1 - tail))
        return Interval(estimate=estimate, low=float(low), high=float(high))

    def _jackknife(self, statistic: Statistic) -> float | None:
        units = self.units
        without = statistic(self.total - units.sums)
        if not np.isfinite(without).all():
            return None
        mean = float(units.times @ without) / units.number
        spread = float(units.times @ (without - mean) ** 2)
        return math.sqrt((units.number - 1) / units.number * spread)


def draw(units: Units, resamples: int, seed: int) -> Floats:
    """Totals, shape (resamples, sums), of as many units as there are, drawn with replacement."""
    rng = np.random.default_rng(seed)
    draws = np.empty((resamples, units.sums.shape[1]))
    block = max(1, _DRAWN_AT_ONCE // len(units.times))
    shares = units.times / units.number
    for start in range(0, resamples, block):
        stop = min(start + block, resamples)
        draws[start:stop] = rng.multinomial(units.number, shares, size=stop - start) @ units.sums
    return draws


def resample(units: Units, resamples: int, seed: int) -> Resampled:
    """Draw ``resamples`` times, unless there are so few units that the jackknife is used."""
    draws = None if units.effective < FEW_UNITS else draw(units, resamples, seed)
    return Resampled(units, units.total, draws)


def student(confidence: float, freedom: float) -> float:
    """The two-sided quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf((1 + confidence) / 2, freedom))


def widened_tail(confidence: float, freedom: float) -> float:
    """The share below the lower end of the widened percentile interval (Hesterberg 2015); freedom = n - 1."""
    from scipy.stats import norm

    return float(norm.cdf(-math.sqrt((freedom + 1) / freedom) * student(confidence, freedom)))


def around(estimate: float, error: float, confidence: float, freedom: float) -> Interval:
    """estimate ± t × error."""
    half = student(confidence, max(freedom, 1.0)) * error
    return Interval(estimate=estimate, low=estimate - half, high=estimate + half)
