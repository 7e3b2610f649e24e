"""The canary alone, once it has all traffic: is it worse than the champion was, by more than the margin?

With the champion at 0 % there is no second arm to compare with at the same time. What is left is the champion's rate
while it had traffic: with x of n bad, p_b is below an upper confidence bound u except with probability α/2
(Clopper & Pearson, Biometrika 26, 1934). Against H0: p_c ≤ q, q = u + δ, the wealth

    E = weighted mean over f of (1 + λ(1−q))^x_c · (1 − λq)^(n_c−x_c),  λ = f/q

is a non-negative martingale or less, so P(ever E ≥ 2/α) ≤ α/2 (Ville 1939; Waudby-Smith & Ramdas, JRSS B 86, 2024), and
both together err with at most α. The margin pays for what a comparison in time cannot see: that the hours differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from upkeep.rollout.analysis.result import MetricEvidence
from upkeep.rollout.analysis.sequential import FAIL_START, FRACTIONS, Block, guard, log_sum


@dataclass(frozen=True, kw_only=True)
class OneArm:
    """Counts alone: the wealth follows from them."""

    margin: float
    champion: Block
    """The champion's outcomes of the whole rollout (its side of the block); where there were none, those before it."""
    alpha: float
    canary_n: int = 0
    canary_bad: int = 0
    fail_peak: float = 0.0
    """The highest log e-value so far, of those that were looked at."""

    def update(self, n: int, bad: int) -> OneArm:
        """Add outcomes of the canary."""
        if not 0 <= bad <= n:
            raise ValueError(f"{bad} bad outcomes of {n}")
        state = replace(self, canary_n=self.canary_n + n, canary_bad=self.canary_bad + bad)
        return replace(state, fail_peak=max(self.fail_peak, state.log_fail))

    @property
    def limit(self) -> float | None:
        """q; None: the champion has no outcome to compare with, or q is no rate below 1."""
        n, bad = self.champion.champion_n, self.champion.champion_bad
        if not n:
            return None
        from scipy.special import betaincinv

        upper = float(betaincinv(bad + 1, n - bad, 1 - self.alpha / 2)) if bad < n else 1.0
        limit = upper + self.margin
        return limit if limit < 1 else None

    @property
    def log_fail(self) -> float:
        """log of half the e-value: so that 1/alpha is where it fails."""
        limit = self.limit
        if limit is None:
            return 0.0
        bets = FRACTIONS / limit
        logs = FAIL_START + self.canary_bad * np.log1p(bets * (1 - limit))
        logs = logs + (self.canary_n - self.canary_bad) * np.log1p(-bets * limit)
        return float(log_sum(logs)) - math.log(2)

    def evidence(self, metric: str) -> MetricEvidence:
        """As a record; it can only fail, never pass."""
        seen, limit = replace(self.champion, canary_n=self.canary_n, canary_bad=self.canary_bad), self.limit
        canary, champion = seen.canary_rate, seen.champion_rate
        if canary is None or champion is None or limit is None:
            text = f"{metric} since it has all traffic: nothing to compare yet"
        else:
            text = (
                f"{metric} since it has all traffic: {canary:.2%} bad of {self.canary_n:,} requests, the champion had "
                f"{champion:.2%} of {seen.champion_n:,}; up to {limit:.2%} is allowed"
            )
        return guard(
            metric,
            "requests",
            seen,
            margin=self.margin,
            log_fail=self.log_fail,
            alpha=self.alpha,
            failed=self.fail_peak >= -math.log(self.alpha),
            text=text,
        )
