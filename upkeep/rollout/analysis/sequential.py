"""Tests that may be looked at at any time: is the canary worse than the champion, is it not worse by the margin?

An outcome is bad (1) or good (0). An e-process is a wealth that a gambler makes by betting against a hypothesis: while
the hypothesis is true it is expected not to grow, so the chance that it *ever* reaches 1/α is at most α (Ville 1939).
Looking every ten seconds therefore adds no false alarm, and one may wait for more evidence at will.

Two arms (:class:`TwoArm`), with canary c and champion b, in blocks of simultaneous outcomes: with n outcomes of which
x are bad, ρ = n_c/(n_c + n_b), centre m (any number fixed before the block) and a difference d,

    against p_c − p_b ≤ d:  (1 + λ(1−m−d)/ρ)^x_c (1 − λ(m+d)/ρ)^(n_c−x_c)
                            · (1 − λ(1−m)/(1−ρ))^x_b (1 + λm/(1−ρ))^(n_b−x_b)

and against p_c − p_b ≥ d the same with −λ. Given the counts n its expectation is
(1 + λ(p_c−m−d)/ρ)^n_c (1 − λ(p_b−m)/(1−ρ))^n_b ≤ (1 + λ(p_c−p_b−d))^n ≤ 1, by the weighted inequality of arithmetic
and geometric means; rates that change within the block change nothing, and rates that change between blocks do not
either as long as the hypothesis holds in each. λ may follow from earlier blocks and stays below the bet that can go
bankrupt; a mean over several λ is an e-process again. How much worse a bad canary is, nobody knows: the fail spreads
its bets over six sizes. A good one is as the champion: the pass bets what wins most then, and less in case the rate
was misjudged. The family is that of Turner, Ly & Grünwald (J. Stat. Plan. Inference 230, 2024), whose optimal factor
for a simple alternative it is, and of Waudby-Smith & Ramdas (J. R. Stat. Soc. B 86, 2024).

Pairs (:class:`Paired`): both models answered the same request; D is −1 where only the champion was right, 1 where only
the canary was. Against E[−D] ≤ d: ∏(1 − λ(D+d)); against E[−D] ≥ d: ∏(1 + λ(D+d)). On discordant pairs and d = 0 it
is McNemar's test, as a likelihood ratio of θ = (1+λ)/2 to 1/2.

The confidence sequence for canary minus champion holds every difference on a grid that its own e-process has not
refuted (Howard et al., Ann. Stat. 49, 2021). Its ends have the error rates of the decisions, so that they agree:
the lower end is at 0 or above exactly when the test of "not worse" has failed, the upper end at the margin or below
exactly when the step has passed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from upkeep.evaluation.result import VerdictName
from upkeep.rollout.analysis.result import MetricEvidence

Floats = npt.NDArray[np.float64]
Side = Literal[1, -1]
"""1: against "worse by at most d"; −1: against "worse by at least d"."""

FRACTIONS: Floats = np.array([0.003, 0.01, 0.05, 0.17, 0.4, 0.95])
"""The fail's bets, as shares of the largest: small ones find small differences, large ones great differences fast."""
FAIL_START: Floats = np.log([0.03, 0.07, 0.2, 0.3, 0.2, 0.2])
"""Log wealth on each before the first block; together 1."""
ODDS: Floats = np.array([0.01, 0.1, 1.2, 2.4])
"""The pass's bets, as multiples of the one that wins most when the canary is as the champion. The bolder ones tell it
best from a canary that is worse by half the margin, the timid ones survive where the rate was misjudged."""
PASS_START: Floats = np.log([0.05, 0.05, 0.45, 0.45])
PAIRED_FAIL: Floats = np.array([0.05, 0.1, 0.2, 0.35, 0.6, 0.9])
PAIRED_PASS: Floats = np.array([0.06, 0.1, 0.15, 0.25, 0.4])
"""The same for pairs; the wealth is spread evenly."""
PSEUDO = 50.0
"""How many outcomes the prior guess at the bad rate is worth."""
_SIZES = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.4)
GRID: tuple[float, ...] = (*(-size for size in reversed(_SIZES)), 0.0, *_SIZES)
"""The differences that the confidence sequence tells apart."""
_MOST = 690.0
"""Logarithms are cut here before exp: a record holds no infinity."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Outcomes of both arms in one stretch of time, at one traffic weight."""

    canary_n: int = 0
    canary_bad: int = 0
    champion_n: int = 0
    champion_bad: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.canary_bad <= self.canary_n and 0 <= self.champion_bad <= self.champion_n):
            raise ValueError(f"a block cannot have more bad outcomes than outcomes, or fewer than none: {self}")

    @property
    def canary_rate(self) -> float | None:
        return self.canary_bad / self.canary_n if self.canary_n else None

    @property
    def champion_rate(self) -> float | None:
        return self.champion_bad / self.champion_n if self.champion_n else None

    @property
    def difference(self) -> float | None:
        """Canary minus champion; None where an arm has no outcome."""
        canary, champion = self.canary_rate, self.champion_rate
        return None if canary is None or champion is None else canary - champion

    def __add__(self, other: Block) -> Block:
        return Block(
            canary_n=self.canary_n + other.canary_n,
            canary_bad=self.canary_bad + other.canary_bad,
            champion_n=self.champion_n + other.champion_n,
            champion_bad=self.champion_bad + other.champion_bad,
        )


@dataclass(frozen=True, kw_only=True)
class OpenBlock:
    """A block that waits for more outcomes."""

    weight: int
    """The canary's share of the traffic when the requests were made, per cent."""
    block: Block


# --- two arms ------------------------------------------------------------------------------------------------------


def largest_bet(side: Side, share: Floats, centre: Floats, difference: Floats) -> Floats:
    """The λ at which one outcome could take everything; arrays broadcast. ``share`` is ρ, in (0, 1)."""
    canary, champion = centre + difference, centre
    if side < 0:
        canary, champion = 1 - canary, 1 - champion
    # A centre beyond 0 or 1 cannot lose on that arm.
    return np.minimum(share / np.maximum(canary, 1e-12), (1 - share) / np.maximum(1 - champion, 1e-12))


def fail_bets(share: Floats, centre: Floats, difference: Floats) -> Floats:
    """λ against "worse by at most ``difference``", for each fraction on a new last axis; arrays broadcast."""
    bets: Floats = largest_bet(1, share, centre, difference)[..., None] * FRACTIONS
    return bets


def pass_bets(share: Floats, centre: Floats, difference: Floats, effect: Floats) -> Floats:
    """λ against "worse by at least ``difference``", for each of the odds on a new last axis; arrays broadcast.

    ``effect`` is the distance from there to the difference that is hoped for. To second order the wealth grows fastest
    at (mean win)/(mean square of the win) per unit of λ; a bet that would be too large is drawn in below the largest.
    """
    variance = centre * (1 - centre)
    best = effect / ((variance + effect**2) / share + variance / (1 - share))
    largest = largest_bet(-1, share, centre, difference)
    odds = (best / largest)[..., None] * ODDS
    bets: Floats = largest[..., None] * odds / (1 + odds)
    return bets


def log_growth(
    side: Side,
    canary_n: Floats,
    canary_bad: Floats,
    champion_n: Floats,
    champion_bad: Floats,
    centre: Floats,
    difference: Floats,
    bets: Floats,
) -> Floats:
    """The logarithm of what one block multiplies the e-process by, for each bet λ on the last axis.

    Arrays broadcast; each block needs an outcome of both arms.
    """
    share = canary_n / (canary_n + champion_n)
    on_canary, on_champion = side * bets / share[..., None], side * bets / (1 - share)[..., None]
    middle = (centre + difference)[..., None]
    centre = centre[..., None]
    growth: Floats = (
        canary_bad[..., None] * np.log1p(on_canary * (1 - middle))
        + (canary_n - canary_bad)[..., None] * np.log1p(-on_canary * middle)
        + champion_bad[..., None] * np.log1p(-on_champion * (1 - centre))
        + (champion_n - champion_bad)[..., None] * np.log1p(on_champion * centre)
    )
    return growth


def pooled_rate(n: Floats, bad: Floats, prior: Floats | float) -> Floats:
    """The centre m for the next block: the bad rate of both arms so far, drawn to ``prior``."""
    return (bad + PSEUDO * prior) / (n + PSEUDO)


def log_sum(logs: Floats) -> Floats:
    """log of the sum of exp(logs) over the last axis: the wealth of all bets together."""
    top = logs.max(axis=-1)
    total: Floats = top + np.log(np.exp(logs - top[..., None]).sum(axis=-1))
    return total


def _row(values: Floats) -> tuple[float, ...]:
    return tuple(values.tolist())


@dataclass(frozen=True, kw_only=True)
class TwoArm:
    """Canary and champion on live traffic, so far. Every method gives a new state; it is stored as it is.

    Outcomes belong to the weight at the time of their *request*, and must be independent of each other: where users
    stay with their arm, count one outcome a user (when five alike of each were all counted, 10 to 26 % of equal
    canaries were taken back).
    """

    margin: float
    """How much higher than the champion's the canary's bad rate may be to pass this step, in (0, 1)."""
    prior: float = 0.01
    """A guess at the bad rate, in (0, 1). It moves power, never validity."""
    least: int = 1
    """A block closes with so many outcomes of each arm: 1 for errors and latency, 10 for labels."""
    alpha_fail: float = 0.01
    """How likely this metric takes a good canary back: its part of the rollout's, where there are several."""
    alpha_pass: float = 0.05
    """How likely a canary that is worse by the margin passes."""
    closed: Block = Block()
    """The sum of the closed blocks of the whole rollout."""
    open: tuple[OpenBlock, ...] = ()
    fail: tuple[float, ...] = _row(FAIL_START)
    """Log wealth against "not worse", a bet each; never reset."""
    passing: tuple[float, ...] = _row(PASS_START)
    """Log wealth against "worse by the margin", a bet each; reset at each step."""
    above: tuple[tuple[float, ...], ...] = (_row(FAIL_START),) * len(GRID)
    """The lower end's wealths: against "worse by at most d" for each d of the grid."""
    below: tuple[tuple[float, ...], ...] = (_row(PASS_START),) * len(GRID)
    """The upper end's, against "worse by at least d"; reset at each step."""
    fail_peak: float = 0.0
    """The highest log e-value so far."""
    pass_peak: float = 0.0
    """The highest since the step began."""
    lower: float = -1.0
    upper: float = 1.0

    def __post_init__(self) -> None:
        for name in ("margin", "prior", "alpha_fail", "alpha_pass"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be above 0 and below 1, not {getattr(self, name)}")
        if self.least < 1:
            raise ValueError(f"a block needs an outcome of each arm: least must be 1 or more, not {self.least}")

    @property
    def seen(self) -> Block:
        """Every outcome so far, those of open blocks too."""
        return sum((each.block for each in self.open), self.closed)

    @property
    def e_fail(self) -> float:
        """The e-value against "the canary is not worse", now."""
        return _exp(float(log_sum(np.array(self.fail))))

    @property
    def e_pass(self) -> float:
        """The e-value against "the canary is worse by the margin or more", now."""
        return _exp(float(log_sum(np.array(self.passing))))

    @property
    def verdict(self) -> VerdictName:
        """Of this metric alone."""
        return _verdict(self)

    def begin(self, margin: float) -> TwoArm:
        """The state at the start of a step: what speaks for a pass is gathered anew, against the step's own margin."""
        fresh = TwoArm(margin=margin)
        return replace(self, margin=margin, passing=fresh.passing, below=fresh.below, pass_peak=0.0, upper=fresh.upper)

    def observe(self, weight: int, outcomes: Block) -> TwoArm:
        """Add outcomes whose requests were made at ``weight`` per cent; their block closes once it has enough."""
        waiting = {each.weight: each.block for each in self.open}
        block = waiting.pop(weight, Block()) + outcomes
        done = min(block.canary_n, block.champion_n) >= self.least
        if not done and block != Block():
            waiting[weight] = block
        rest = tuple(OpenBlock(weight=each, block=waiting[each]) for each in sorted(waiting))
        state = replace(self, open=rest)
        return state.update(block) if done else state

    def update(self, block: Block) -> TwoArm:
        """Bet on a closed block. Raises ``ValueError`` where an arm has no outcome."""
        if not (block.canary_n and block.champion_n):
            raise ValueError(f"a block closes with an outcome of both arms, not as {block}")
        closed = self.closed
        centre = pooled_rate(
            np.array([closed.canary_n + closed.champion_n], np.float64),
            np.array([closed.canary_bad + closed.champion_bad], np.float64),
            self.prior,
        )
        n_c, bad_c, n_b, bad_b = np.array(
            [[block.canary_n], [block.canary_bad], [block.champion_n], [block.champion_bad]], np.float64
        )
        share = n_c / (n_c + n_b)
        # Zero and the margin come first: the decisions themselves. Beyond them the decisions' own bets are taken, so
        # that a difference farther off is refuted no later.
        above_at, below_at = np.array((0.0, *GRID)), np.array((self.margin, *GRID))
        above_bets = fail_bets(share, centre, np.maximum(above_at, 0.0))
        effect = np.where(below_at < self.margin, np.maximum(np.abs(below_at), _SIZES[0]), self.margin)
        below_bets = pass_bets(share, centre, np.minimum(below_at, self.margin), effect)
        counts = (n_c, bad_c, n_b, bad_b)
        above = np.array((self.fail, *self.above)) + log_growth(1, *counts, centre, above_at, above_bets)
        below = np.array((self.passing, *self.below)) + log_growth(-1, *counts, centre, below_at, below_bets)
        log_above, log_below = log_sum(above), log_sum(below)
        return replace(
            self,
            closed=closed + block,
            fail=_row(above[0]),
            passing=_row(below[0]),
            above=tuple(_row(row) for row in above[1:]),
            below=tuple(_row(row) for row in below[1:]),
            fail_peak=max(self.fail_peak, float(log_above[0])),
            pass_peak=max(self.pass_peak, float(log_below[0])),
            lower=max(self.lower, _lower(above_at, log_above, self.alpha_fail)),
            upper=min(self.upper, _upper(below_at, log_below, self.alpha_pass)),
        )

    def evidence(
        self, metric: str, *, slice: str = "", unit: str = "requests", required: bool = True
    ) -> MetricEvidence:
        """The state as a record."""
        seen = self.seen
        return _evidence(
            metric=metric,
            slice=slice,
            unit=unit,
            counts=seen,
            state=self,
            required=required,
        )


# --- pairs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Requests that both models answered, with known labels."""

    both_right: int = 0
    both_wrong: int = 0
    only_champion: int = 0
    """Only the champion was right: D = −1."""
    only_canary: int = 0
    """Only the canary was right: D = 1."""

    def __post_init__(self) -> None:
        if min(self.both_right, self.both_wrong, self.only_champion, self.only_canary) < 0:
            raise ValueError(f"a count cannot be below 0: {self}")

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(
            both_right=self.both_right + other.both_right,
            both_wrong=self.both_wrong + other.both_wrong,
            only_champion=self.only_champion + other.only_champion,
            only_canary=self.only_canary + other.only_canary,
        )

    @property
    def n(self) -> int:
        return self.both_right + self.both_wrong + self.only_champion + self.only_canary


def log_paired_above(minus: Floats, zero: Floats, plus: Floats, difference: Floats) -> Floats:
    """log e against E[−D] ≤ d from the counts of D = −1, 0, 1; arrays broadcast, d in (−1, 1)."""
    # At d ≤ 0 the bets of d = 0, so that the wealth falls as d rises.
    bets = PAIRED_FAIL / (1 + np.maximum(difference, 0.0))[..., None]
    return _log_paired(-bets, minus, zero, plus, difference)


def log_paired_below(minus: Floats, zero: Floats, plus: Floats, difference: Floats, margin: float) -> Floats:
    """log e against E[−D] ≥ d from the counts of D = −1, 0, 1; arrays broadcast, d in (−1, 1)."""
    bets = PAIRED_PASS / (1 - np.minimum(difference, margin))[..., None]
    return _log_paired(bets, minus, zero, plus, difference)


def _log_paired(bets: Floats, minus: Floats, zero: Floats, plus: Floats, difference: Floats) -> Floats:
    at = difference[..., None]
    logs = (
        minus[..., None] * np.log1p(bets * (at - 1))
        + zero[..., None] * np.log1p(bets * at)
        + plus[..., None] * np.log1p(bets * (at + 1))
    )
    return log_sum(logs - math.log(bets.shape[-1]))


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Both models on the same labelled requests, so far. The wealths follow from the counts: order does not matter.

    Only requests that neither model learned from may count, each once, with its first label.
    """

    margin: float
    """How much higher than the champion's the canary's share of wrong answers may be to pass, in (0, 1)."""
    alpha_fail: float = 0.01
    """How likely this metric takes a good canary back: its part of the rollout's, where there are several."""
    alpha_pass: float = 0.05
    """How likely a canary that is worse by the margin passes."""
    pairs: Pairs = Pairs()
    """Of the whole rollout."""
    before: Pairs = Pairs()
    """Those of them from before the margin was set: they do not speak for a pass."""
    fail_peak: float = 0.0
    """The highest log e-value so far, of those that were looked at."""
    pass_peak: float = 0.0
    lower: float = -1.0
    upper: float = 1.0

    def __post_init__(self) -> None:
        for name in ("margin", "alpha_fail", "alpha_pass"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be above 0 and below 1, not {getattr(self, name)}")

    @property
    def e_fail(self) -> float:
        """The e-value against "the canary is not worse", now."""
        return _exp(float(log_paired_above(*_three(self.pairs), np.array([0.0]))[0]))

    @property
    def e_pass(self) -> float:
        """The e-value against "the canary is worse by the margin or more", now."""
        since = self._since
        return _exp(float(log_paired_below(*_three(since), np.array([self.margin]), self.margin)[0]))

    @property
    def _since(self) -> Pairs:
        now, before = self.pairs, self.before
        return Pairs(
            both_right=now.both_right - before.both_right,
            both_wrong=now.both_wrong - before.both_wrong,
            only_champion=now.only_champion - before.only_champion,
            only_canary=now.only_canary - before.only_canary,
        )

    @property
    def verdict(self) -> VerdictName:
        """Of this metric alone."""
        return _verdict(self)

    def begin(self, margin: float) -> Paired:
        """The state at the start of a step. Pairs do not depend on the weight of the traffic: with the same margin the
        evidence goes on, with another it is gathered anew."""
        if margin == self.margin:
            return self
        return replace(self, margin=margin, before=self.pairs, pass_peak=0.0, upper=1.0)

    def update(self, pairs: Pairs) -> Paired:
        """Add a batch of pairs, and look."""
        state = replace(self, pairs=self.pairs + pairs)
        above_at, below_at = np.array((0.0, *GRID)), np.array((self.margin, *GRID))
        log_above = log_paired_above(*_three(state.pairs), above_at)
        log_below = log_paired_below(*_three(state._since), below_at, self.margin)
        return replace(
            state,
            fail_peak=max(self.fail_peak, float(log_above[0])),
            pass_peak=max(self.pass_peak, float(log_below[0])),
            lower=max(self.lower, _lower(above_at, log_above, self.alpha_fail)),
            upper=min(self.upper, _upper(below_at, log_below, self.alpha_pass)),
        )

    def evidence(self, metric: str, *, slice: str = "", unit: str = "pairs", required: bool = True) -> MetricEvidence:
        """The state as a record."""
        pairs = self.pairs
        counts = Block(
            canary_n=pairs.n,
            canary_bad=pairs.both_wrong + pairs.only_champion,
            champion_n=pairs.n,
            champion_bad=pairs.both_wrong + pairs.only_canary,
        )
        return _evidence(metric=metric, slice=slice, unit=unit, counts=counts, state=self, required=required)


def _three(pairs: Pairs) -> tuple[Floats, Floats, Floats]:
    zero = pairs.both_right + pairs.both_wrong
    minus, none, plus = (np.array([each], np.float64) for each in (pairs.only_champion, zero, pairs.only_canary))
    return minus, none, plus


def guard(
    metric: str, unit: str, seen: Block, *, margin: float, log_fail: float, alpha: float, failed: bool, text: str
) -> MetricEvidence:
    """The record of a metric that can only fail, never pass. ``log_fail``: log of the e-value now."""
    return MetricEvidence(
        metric=metric,
        unit=unit,
        canary_n=seen.canary_n,
        canary_bad=seen.canary_bad,
        champion_n=seen.champion_n,
        champion_bad=seen.champion_bad,
        canary_rate=seen.canary_rate,
        champion_rate=seen.champion_rate,
        difference=seen.difference,
        lower=None,
        upper=None,
        margin=margin,
        e_fail=_exp(log_fail),
        e_pass=None,
        fail_at=1 / alpha,
        pass_at=None,
        required=False,
        verdict="fail" if failed else "insufficient",
        text=text,
    )


# --- what both share -----------------------------------------------------------------------------------------------


def step_margin(margin: float, next_weight: int) -> float:
    """The margin of a step for what is measured on live traffic: ``margin`` is the harm accepted over all traffic, and
    at the coming weight (per cent, 1 to 100) only that share of the traffic can be harmed. Pairs take the margin as it
    is: they cost no traffic."""
    if not 0 < next_weight <= 100:
        raise ValueError(f"the coming weight must be in 1 to 100, not {next_weight}")
    return min(margin * 100 / next_weight, 0.5)


def _verdict(state: TwoArm | Paired) -> VerdictName:
    if state.fail_peak >= -math.log(state.alpha_fail):
        return "fail"
    return "pass" if state.pass_peak >= -math.log(state.alpha_pass) else "insufficient"


def _lower(at: Floats, logs: Floats, alpha: float) -> float:
    """The largest difference up to which every one is refuted."""
    order = np.argsort(at, kind="stable")
    refuted = np.logical_and.accumulate(logs[order] >= -math.log(alpha))
    return float(at[order][refuted].max(initial=-1.0))


def _upper(at: Floats, logs: Floats, alpha: float) -> float:
    """The smallest difference from which on every one is refuted."""
    return -_lower(-at, logs, alpha)


def _exp(log: float) -> float:
    return math.exp(min(log, _MOST))


def _evidence(
    *,
    metric: str,
    slice: str,
    unit: str,
    counts: Block,
    state: TwoArm | Paired,
    required: bool,
) -> MetricEvidence:
    canary, champion, difference = counts.canary_rate, counts.champion_rate, counts.difference
    known = canary is not None and champion is not None
    verdict = state.verdict
    name = f"{metric} of {slice}" if slice else metric
    return MetricEvidence(
        metric=metric,
        slice=slice,
        unit=unit,
        canary_n=counts.canary_n,
        canary_bad=counts.canary_bad,
        champion_n=counts.champion_n,
        champion_bad=counts.champion_bad,
        canary_rate=canary,
        champion_rate=champion,
        difference=difference,
        lower=state.lower if known else None,
        upper=state.upper if known else None,
        margin=state.margin,
        e_fail=state.e_fail,
        e_pass=_exp(state.pass_peak),
        fail_at=1 / state.alpha_fail,
        pass_at=1 / state.alpha_pass,
        required=required,
        verdict=verdict,
        text=_text(name, unit, counts, canary, champion, state, verdict),
    )


def _text(
    name: str,
    unit: str,
    counts: Block,
    canary: float | None,
    champion: float | None,
    state: TwoArm | Paired,
    verdict: VerdictName,
) -> str:
    if canary is None or champion is None:
        side = "neither" if canary is None and champion is None else "canary" if canary is None else "champion"
        return f"{name}: no outcome of {'either' if side == 'neither' else 'the ' + side} yet"
    rates = f"{name}: {canary:.2%} bad of {counts.canary_n:,} {unit}, champion {champion:.2%}"
    rates += "" if unit == "pairs" else f" of {counts.champion_n:,}"
    if verdict == "fail":
        return f"{rates}: worse"
    bound = f"worse by at most {state.upper:.2%}" if state.upper < 1 else "how much worse is not bounded yet"
    return f"{rates}: {bound}, {state.margin:.2%} allowed"
