"""The geometry of the small bars inside tables: where a value lies on a scale that all rows of a table share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from upkeep.evaluation.result import Interval

WIDTH = 200
"""Of a bar's viewBox."""
MARGIN = 6


@dataclass(frozen=True)
class Scale:
    """From ``low`` to ``high``, linear; values outside are drawn at the edge."""

    low: float
    high: float

    def x(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(MARGIN + share * (WIDTH - 2 * MARGIN), 1)

    def beyond(self, value: float) -> bool:
        """The value lies outside the scale."""
        return not self.low <= value <= self.high


def scale(values: Iterable[float | None], *, zero: bool = True) -> Scale:
    """A scale with round ends that holds every value, and zero unless told otherwise."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if zero or not known:
        known.append(0.0)
    low, high = min(known), max(known)
    if high - low < 1e-12:
        low, high = low - 0.01, high + 0.01
    step = 10 ** math.floor(math.log10((high - low) / 2))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 8)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return Scale(
        round(math.floor(low / step + 1e-9) * step, digits), round(math.ceil(high / step - 1e-9) * step, digits)
    )


def interval_scale(intervals: Iterable[Interval | None], limits: Iterable[float | None] = ()) -> Scale:
    """A scale for intervals and the limits they are held against."""
    ends = [end for found in intervals if found is not None for end in (found.low, found.estimate, found.high)]
    return scale([*ends, *limits])
