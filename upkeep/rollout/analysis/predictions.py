"""Does the canary answer otherwise than the champion, on the same traffic? No label is needed to ask.

One class's share of the answers is compared, and not its goodness: more of it is as suspicious as less. Against "the
shares are no more than δ apart" stands the mean of two e-processes, one against p_c − p_b ≤ δ and one against
p_b − p_c ≤ δ, each that of :mod:`upkeep.rollout.analysis.sequential`: a mean of e-processes is one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from upkeep.rollout.analysis.result import MetricEvidence
from upkeep.rollout.analysis.sequential import (
    FAIL_START,
    Block,
    OpenBlock,
    fail_bets,
    guard,
    log_growth,
    log_sum,
    pooled_rate,
)

UNIT = "answers"
HEARD = 100
"""Answers of the champion of which the most frequent is the class that is compared from then on."""
_START: tuple[float, ...] = tuple(FAIL_START.tolist())


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Both shares so far. Every method gives a new state; it is stored as it is."""

    margin: float
    """δ: how far the shares may be apart, in (0, 1)."""
    alpha: float
    """How likely a canary whose shares are no farther apart is taken back: its part of the rollout's."""
    answer: str = ""
    """The class whose share is compared; empty: not chosen yet."""
    heard: dict[str, int] = field(default_factory=dict)
    """The champion's answers that choose it. They are not compared: the choice must not know what it is tried on."""
    closed: Block = field(default_factory=Block)
    """Answers of the blocks so far; ``bad`` are those that say the class."""
    open: tuple[OpenBlock, ...] = ()
    more: tuple[float, ...] = _START
    """Log wealth against "says it at most δ more often", a bet each."""
    fewer: tuple[float, ...] = _START
    fail_peak: float = 0.0
    """The highest log e-value so far."""

    def observe(self, weight: int, canary: Mapping[str, int], champion: Mapping[str, int]) -> Predictions:
        """Add answers (class → how many) to requests that were made at ``weight`` per cent."""
        if not self.answer:
            heard = {name: self.heard.get(name, 0) + champion.get(name, 0) for name in {*self.heard, *champion}}
            enough = sum(heard.values()) >= HEARD
            return replace(self, heard=heard, answer=max(sorted(heard), key=lambda name: heard[name]) if enough else "")
        waiting = {each.weight: each.block for each in self.open}
        block = waiting.pop(weight, Block()) + Block(
            canary_n=sum(canary.values()),
            canary_bad=canary.get(self.answer, 0),
            champion_n=sum(champion.values()),
            champion_bad=champion.get(self.answer, 0),
        )
        done = bool(block.canary_n and block.champion_n)
        if not done and block != Block():
            waiting[weight] = block
        state = replace(self, open=tuple(OpenBlock(weight=each, block=waiting[each]) for each in sorted(waiting)))
        return state._bet(block) if done else state

    def _bet(self, block: Block) -> Predictions:
        # The second row is the same for "says something else": fewer of one is more of the rest.
        n_c, n_b = (np.full(2, n, np.float64) for n in (block.canary_n, block.champion_n))
        x_c = np.array([block.canary_bad, block.canary_n - block.canary_bad], np.float64)
        x_b = np.array([block.champion_bad, block.champion_n - block.champion_bad], np.float64)
        before = self.closed
        rate = pooled_rate(np.array([before.champion_n], np.float64), np.array([before.champion_bad], np.float64), 0.5)
        centre, margin = np.concatenate([rate, 1 - rate]), np.full(2, self.margin)
        bets = fail_bets(n_c / (n_c + n_b), centre, margin)
        logs = np.array([self.more, self.fewer]) + log_growth(1, n_c, x_c, n_b, x_b, centre, margin, bets)
        state = replace(self, closed=before + block, more=tuple(map(float, logs[0])), fewer=tuple(map(float, logs[1])))
        return replace(state, fail_peak=max(self.fail_peak, state.log_fail))

    @property
    def log_fail(self) -> float:
        """The log e-value now: the mean of both sides'."""
        return float(log_sum(np.array([*self.more, *self.fewer]))) - math.log(2)

    def evidence(self) -> MetricEvidence:
        """As a record; it can only fail, never pass."""
        seen = sum((each.block for each in self.open), self.closed)
        canary, champion = seen.canary_rate, seen.champion_rate
        failed = self.fail_peak >= -math.log(self.alpha)
        if canary is None or champion is None:
            text = "predictions: no answers of both yet"
        else:
            text = (
                f"predictions: {self.answer} in {canary:.2%} of {seen.canary_n:,} answers, champion {champion:.2%} of "
                f"{seen.champion_n:,}: " + ("more than " if failed else "not shown to be more than ")
                + f"{self.margin:.2%} apart"
            )  # fmt: skip
        return guard(
            "predictions",
            UNIT,
            seen,
            margin=self.margin,
            log_fail=self.log_fail,
            alpha=self.alpha,
            failed=failed,
            text=text,
        )
