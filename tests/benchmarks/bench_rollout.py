"""Canary analyses in simulation: Argo Rollouts', Flagger's and Kayenta's ways and a z-test beside Upkeep's own.

``python tests/benchmarks/bench_rollout.py [--rollouts N] [--paths N]``. Prints a Markdown section. Every rollout of a
cell runs at once in NumPy. Upkeep's figures come from :mod:`upkeep.rollout.analysis.sequential` itself: ``Arms`` only
keeps many of its states side by side (tests/unit/rollout/analysis/test_twin.py holds it to ``TwoArm``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from upkeep.rollout.analysis.sequential import (
    FAIL_START,
    PASS_START,
    fail_bets,
    log_growth,
    log_paired_above,
    log_paired_below,
    log_sum,
    pass_bets,
    pooled_rate,
    step_margin,
)

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.intp]

FAIL, PASS = -math.log(0.01), -math.log(0.05)
STEPS = np.array([0.05, 0.25, 0.5])
TENTHS = np.arange(1, 11) * 0.05
"""Flagger's usual way: 5 % more each time, up to 50 %."""
HARM = 0.005
"""The margin of errors over all traffic."""
POINTS = 0.02
"""The margin of accuracy."""
LOOK = 10.0
"""Seconds between two looks."""
LONGEST = 24 * 3600.0
"""A rollout that is undecided by then is held."""


@dataclass
class Rollouts:
    """How a cell's rollouts ended."""

    promoted: Flags
    back: Flags
    exposure: Floats
    """Requests that the canary answered up to the end."""
    minutes: Floats
    pairs: Floats | None = None

    @property
    def taken_back(self) -> float:
        return float(self.back.mean())

    @property
    def passed(self) -> float:
        return float(self.promoted.mean())

    def exposed(self) -> tuple[float, float]:
        """Median and 95th percentile over the rollouts that were taken back."""
        return _two(self.exposure[self.back])

    def time(self) -> tuple[float, float]:
        """The same of the minutes, over those that were promoted."""
        return _two(self.minutes[self.promoted])


def _two(values: Floats) -> tuple[float, float]:
    return tuple(np.percentile(values, [50, 95]).tolist()) if len(values) else (math.nan, math.nan)  # type: ignore[return-value]


class Arms:
    """Many :class:`~upkeep.rollout.analysis.sequential.TwoArm` side by side: the decisions alone."""

    def __init__(self, n: int, prior: float) -> None:
        self.prior = prior
        self.fail = np.tile(FAIL_START, (n, 1))
        self.passing = np.tile(PASS_START, (n, 1))
        self.fail_peak, self.pass_peak = np.zeros(n), np.zeros(n)
        self.n, self.bad = np.zeros(n), np.zeros(n)

    def begin(self, at: Ints) -> None:
        """A new step of the rollouts ``at``."""
        self.passing[at], self.pass_peak[at] = PASS_START, 0.0

    def update(self, at: Ints, block: Floats, margin: Floats) -> None:
        """Bet on a block of each rollout in ``at``: rows of canary n, canary bad, champion n, champion bad."""
        centre = pooled_rate(self.n[at], self.bad[at], self.prior)
        counts = (block[:, 0], block[:, 1], block[:, 2], block[:, 3])
        share, zero = block[:, 0] / (block[:, 0] + block[:, 2]), np.zeros(len(at))
        self.fail[at] += log_growth(1, *counts, centre, zero, fail_bets(share, centre, zero))
        self.passing[at] += log_growth(-1, *counts, centre, margin, pass_bets(share, centre, margin, margin))
        self.n[at] += block[:, 0] + block[:, 2]
        self.bad[at] += block[:, 1] + block[:, 3]
        self.fail_peak[at] = np.maximum(self.fail_peak[at], log_sum(self.fail[at]))
        self.pass_peak[at] = np.maximum(self.pass_peak[at], log_sum(self.passing[at]))


@dataclass(frozen=True)
class Errors:
    """Requests that fail at once."""

    canary: float
    champion: float = 0.002
    rate: float = 50.0
    """Requests a second."""


@dataclass(frozen=True)
class Quality:
    """Answers whose labels come later."""

    worse: float
    """By how much the canary's accuracy is below the champion's."""
    accuracy: float = 0.8
    rate: float = 5.0
    labelled: float = 0.3
    delay: float = 600.0
    """Mean seconds to the label; exponential."""
    disagree: float = 0.15


Scenario = Errors | Quality


class Traffic:
    """The outcomes that many rollouts see from one look to the next, by the weight at the time of the request."""

    def __init__(self, scenario: Scenario, n: int, rng: np.random.Generator, steps: Floats = STEPS) -> None:
        self.scenario, self.rng, self.steps = scenario, rng, steps
        self.step = np.zeros(n, np.intp)
        self.now = 0.0
        self.begun = np.full((n, len(steps) + 1), np.inf)
        self.begun[:, 0] = 0.0
        self.exposure = np.zeros(n)

    def move(self, at: Ints) -> None:
        """The next step of the rollouts ``at``."""
        self.step[at] += 1
        self.begun[at, self.step[at]] = self.now

    def look(self, at: Ints, seconds: float) -> Floats:
        """(rollout, step of the request, 4) counts that became known in the next ``seconds``."""
        scenario, rng = self.scenario, self.rng
        weight = self.steps[self.step[at]]
        answered = rng.poisson(scenario.rate * weight * seconds)
        self.exposure[at] += answered
        counts = np.zeros((len(at), len(self.steps), 4))
        before, self.now = self.now, self.now + seconds
        if isinstance(scenario, Errors):
            row = np.arange(len(at)), self.step[at]
            champion = rng.poisson(scenario.rate * (1 - weight) * seconds)
            counts[(*row, 0)], counts[(*row, 1)] = answered, rng.binomial(answered, scenario.canary)
            counts[(*row, 2)], counts[(*row, 3)] = champion, rng.binomial(champion, scenario.champion)
            return counts
        # A label's delay is independent of its outcome: arrivals of a step's requests are Poisson, too.
        begun = self.begun[at]
        expected = (self._arrived(begun, self.now) - self._arrived(begun, before)) * scenario.rate * scenario.labelled
        for first, share, wrong in (
            (0, self.steps, 1 - scenario.accuracy + scenario.worse),
            (2, 1 - self.steps, 1 - scenario.accuracy),
        ):
            counts[:, :, first] = rng.poisson(expected * share)
            counts[:, :, first + 1] = rng.binomial(counts[:, :, first].astype(np.int64), wrong)
        return counts

    def _arrived(self, begun: Floats, now: float) -> Floats:
        """Expected seconds' worth of each step's requests whose labels have come by ``now``."""
        assert isinstance(self.scenario, Quality)
        delay = self.scenario.delay
        start = np.minimum(begun[:, :-1], now)
        end = np.minimum(begun[:, 1:], now)
        arrived: Floats = (end - start) - delay * (np.exp(-(now - end) / delay) - np.exp(-(now - start) / delay))
        return arrived


# --- the policies --------------------------------------------------------------------------------------------------


def upkeep_live(scenario: Scenario, n: int, rng: np.random.Generator) -> Rollouts:
    """Two arms on live traffic, a look every ten seconds."""
    errors = isinstance(scenario, Errors)
    traffic = Traffic(scenario, n, rng)
    arms = Arms(n, prior=0.01 if errors else 0.2)
    waiting = np.zeros((n, len(STEPS), 4))
    coming = (*STEPS[1:], 1.0)
    margins = np.array([step_margin(HARM if errors else POINTS, round(100 * each)) for each in coming])
    least = 1 if errors else 10
    end = _Ends(n, traffic)
    while (at := end.going()).size and traffic.now < LONGEST:
        waiting[at] += traffic.look(at, LOOK)
        for step in range(len(STEPS)):
            whole = np.minimum(waiting[at, step, 0], waiting[at, step, 2]) >= least
            if whole.any():
                closed = at[whole]
                arms.update(closed, waiting[closed, step], margins[traffic.step[closed]])
                waiting[closed, step] = 0.0
        end.back(at[arms.fail_peak[at] >= FAIL])
        passed = at[(arms.pass_peak[at] >= PASS) & ~end.is_back[at]]
        end.forward(passed)
        arms.begin(passed)
    return end.rollouts()


def upkeep_paired(scenario: Scenario, n: int, rng: np.random.Generator) -> Rollouts:
    """Pairs from the champion's labelled requests, with the canary live at 5 % meanwhile, to the verdict."""
    assert isinstance(scenario, Quality)
    traffic = Traffic(scenario, n, rng, STEPS[:1])
    return _pairs(scenario, traffic, lambda at: traffic.look(at, LOOK)[:, 0, 2])


def upkeep_backlog(scenario: Scenario, n: int, rng: np.random.Generator, batch: int = 20) -> Rollouts:
    """Pairs from the champion's log, before the canary has any traffic; a look every 20 pairs."""
    assert isinstance(scenario, Quality)
    traffic = Traffic(scenario, n, rng, STEPS[:1])

    def next_pairs(at: Ints) -> Floats:
        traffic.now += LOOK
        return np.full(len(at), float(batch))

    return _pairs(scenario, traffic, next_pairs)


def _pairs(scenario: Quality, traffic: Traffic, next_pairs: Callable[[Ints], Floats]) -> Rollouts:
    rng, n = traffic.rng, len(traffic.step)
    chances = np.array(
        [
            (scenario.disagree + scenario.worse) / 2,
            1 - scenario.disagree,
            (scenario.disagree - scenario.worse) / 2,
        ]
    )
    end = _Ends(n, traffic)
    counts = np.zeros((n, 3))
    while (at := end.going()).size and traffic.now < LONGEST:
        counts[at] += rng.multinomial(next_pairs(at).astype(np.int64), chances)
        three = counts[at, 0], counts[at, 1], counts[at, 2]
        failed = log_paired_above(*three, np.zeros(len(at))) >= FAIL
        passed = log_paired_below(*three, np.full(len(at), POINTS), POINTS) >= PASS
        end.back(at[failed])
        end.forward(at[passed & ~failed])
    result = end.rollouts()
    result.pairs = counts.sum(axis=1)
    return result


def argo(
    scenario: Scenario, n: int, rng: np.random.Generator, *, least: float, count: int = 5, every: float = 60.0
) -> Rollouts:
    """Argo Rollouts: ``count`` measurements a step, the good share over the last five minutes; failureLimit 0."""
    traffic, end = Traffic(scenario, n, rng), None
    end = _Ends(n, traffic)
    window: list[Floats] = []
    done = np.zeros(n)
    while (at := end.going()).size and traffic.now < LONGEST:
        known = np.zeros((n, 2))
        known[at] = traffic.look(at, every).sum(axis=1)[:, :2]
        window = [*window, known][-max(1, round(300 / every)) :]
        total, bad = sum(window)[at].T  # type: ignore[index]
        # No data is an error, which is measured again.
        good = np.where(total > 0, 1 - bad / np.maximum(total, 1), np.nan)
        end.back(at[good < least])
        done[at] += good >= least
        full = at[(done[at] >= count) & ~end.is_back[at]]
        done[full] = 0
        end.forward(full)
    return end.rollouts()


def flagger(
    scenario: Scenario,
    n: int,
    rng: np.random.Generator,
    *,
    least: float,
    every: float = 60.0,
    steps: Floats = TENTHS,
    threshold: int = 5,
) -> Rollouts:
    """Flagger: the good share over the last interval; forward at each check that holds, back at the check after
    ``threshold`` that did not."""
    traffic = Traffic(scenario, n, rng, steps)
    end = _Ends(n, traffic)
    failures = np.zeros(n)
    while (at := end.going()).size and traffic.now < LONGEST:
        total, bad = traffic.look(at, every).sum(axis=1)[:, :2].T
        over = failures[at] >= threshold
        end.back(at[over])
        # No value halts the check, and is no failure.
        good = np.where(total > 0, 1 - bad / np.maximum(total, 1), np.nan)
        failures[at] += good < least
        end.forward(at[(good >= least) & ~over])
    return end.rollouts()


def z_test(scenario: Scenario, n: int, rng: np.random.Generator, *, every: float = 60.0, looks: int = 10) -> Rollouts:
    """A one-sided two-proportion z-test at 5 % on everything so far, at each look; forward after ``looks``."""
    traffic = Traffic(scenario, n, rng)
    end = _Ends(n, traffic)
    total, done = np.zeros((n, 4)), np.zeros(n)
    while (at := end.going()).size and traffic.now < LONGEST:
        total[at] += traffic.look(at, every).sum(axis=1)
        end.back(at[_z(total[at]) > 1.6449])
        done[at] += 1
        full = at[(done[at] >= looks) & ~end.is_back[at]]
        done[full] = 0
        end.forward(full)
    return end.rollouts()


def _z(counts: Floats) -> Floats:
    n_c, bad_c, n_b, bad_b = np.maximum(counts.T, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (bad_c + bad_b) / (n_c + n_b)
        z: Floats = (bad_c / n_c - bad_b / n_b) / np.sqrt(pooled * (1 - pooled) * (1 / n_c + 1 / n_b))
    return np.nan_to_num(z, nan=0.0)


def kayenta(scenario: Scenario, n: int, rng: np.random.Generator, *, points: int = 50) -> Rollouts:
    """Kayenta: ``points`` minutes a step, then Mann-Whitney's 98 % interval of the shift against a quarter of it."""
    traffic = Traffic(scenario, n, rng)
    end = _Ends(n, traffic)
    while (at := end.going()).size and traffic.now < LONGEST:
        series = np.empty((points, 2, len(at)))
        for minute in range(points):
            n_c, bad_c, n_b, bad_b = traffic.look(at, 60.0).sum(axis=1).T
            # The baseline is a copy of the champion with as much traffic as the canary.
            weight = traffic.steps[traffic.step[at]]
            both = np.array([bad_b, n_b - bad_b], np.int64)
            bad_b, good_b = rng.binomial(both, weight / (1 - weight))
            n_b = bad_b + good_b
            with np.errstate(invalid="ignore"):
                series[minute] = bad_c / n_c, bad_b / n_b
        high = np.array([_shifted(series[:, 0, each], series[:, 1, each]) for each in range(len(at))])
        end.back(at[high])
        end.forward(at[~high])
    return end.rollouts()


def _shifted(canary: Floats, champion: Floats) -> bool:
    """Whether Kayenta's classifier says "high": the shift's lower end above a quarter of its Hodges-Lehmann value."""
    canary, champion = canary[~np.isnan(canary)], champion[~np.isnan(champion)]
    differences = np.sort((canary[:, None] - champion[None, :]).ravel())
    count = len(differences)
    if not count:
        return False
    spread = 2.3263 * math.sqrt(count * (len(canary) + len(champion) + 1) / 12)
    lower = differences[max(0, math.floor(count / 2 - spread))]
    return bool(lower > 0.25 * abs(np.median(differences)))


class _Ends:
    """Which rollouts go on, and how the others ended."""

    def __init__(self, n: int, traffic: Traffic) -> None:
        self.traffic = traffic
        self.is_back, self.is_promoted = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        self.minutes = np.full(n, np.nan)

    def going(self) -> Ints:
        return np.flatnonzero(~(self.is_back | self.is_promoted))

    def back(self, at: Ints) -> None:
        self.is_back[at] = True
        self.minutes[at] = self.traffic.now / 60

    def forward(self, at: Ints) -> None:
        last = self.traffic.step[at] == len(self.traffic.steps) - 1
        self.is_promoted[at[last]] = True
        self.minutes[at[last]] = self.traffic.now / 60
        self.traffic.move(at[~last])

    def rollouts(self) -> Rollouts:
        return Rollouts(self.is_promoted, self.is_back, self.traffic.exposure, self.minutes)
