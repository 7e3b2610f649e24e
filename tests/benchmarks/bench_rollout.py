"""Canary analyses in simulation: Argo Rollouts', Flagger's and Kayenta's ways and a z-test beside Upkeep's own.

``python tests/benchmarks/bench_rollout.py [--rollouts N] [--paths N]``. Prints a Markdown section. Every rollout of a
cell runs at once in NumPy. Upkeep's figures come from :mod:`upkeep.rollout.analysis.sequential` itself: ``Arms`` only
keeps many of its states side by side (tests/unit/rollout/analysis/test_twin.py holds it to ``TwoArm``).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from upkeep.rollout.analysis.sequential import (
    FAIL_START,
    PASS_START,
    Side,
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
PARTS = {0.004: "errors and latency", 0.0016: "the same, accuracy, pairs and slices"}
"""Errors' part of the chance to roll back, beside which other metrics."""
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

    @property
    def held(self) -> float:
        """The share that was undecided after :data:`LONGEST`."""
        return float((~self.promoted & ~self.back).mean())

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
    alike: int = 1
    """Requests of one user, who stays with an arm, in a row; their outcomes are the same."""
    once: bool = False
    """Count one outcome a user."""


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
        alike = scenario.alike if isinstance(scenario, Errors) else 1
        answered = rng.poisson(scenario.rate * weight * seconds / alike)
        self.exposure[at] += answered * alike
        counts = np.zeros((len(at), len(self.steps), 4))
        before, self.now = self.now, self.now + seconds
        if isinstance(scenario, Errors):
            row = np.arange(len(at)), self.step[at]
            champion = rng.poisson(scenario.rate * (1 - weight) * seconds / alike)
            counts[(*row, 0)], counts[(*row, 1)] = answered, rng.binomial(answered, scenario.canary)
            counts[(*row, 2)], counts[(*row, 3)] = champion, rng.binomial(champion, scenario.champion)
            return counts if scenario.once else counts * alike
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


def upkeep_live(scenario: Scenario, n: int, rng: np.random.Generator, *, alpha: float = 0.01) -> Rollouts:
    """Two arms on live traffic, a look every ten seconds; ``alpha``: this metric's part of the chance to roll back."""
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
        end.back(at[arms.fail_peak[at] >= -math.log(alpha)])
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
    equal = np.zeros(n)
    while (at := end.going()).size and traffic.now < LONGEST:
        total[at] += traffic.look(at, every).sum(axis=1)
        end.back(at[_z(total[at], equal[at]) > 1.6449])
        done[at] += 1
        full = at[(done[at] >= looks) & ~end.is_back[at]]
        done[full] = 0
        end.forward(full)
    return end.rollouts()


def _z(counts: Floats, difference: Floats) -> Floats:
    """Canary minus champion minus ``difference``, in standard errors; 0 where it is not defined."""
    n_c, bad_c, n_b, bad_b = counts.T
    with np.errstate(divide="ignore", invalid="ignore"):
        rate_c, rate_b = bad_c / n_c, bad_b / n_b
        pooled = (bad_c + bad_b) / (n_c + n_b)
        spread = np.where(
            difference == 0,
            pooled * (1 - pooled) * (1 / n_c + 1 / n_b),
            rate_c * (1 - rate_c) / n_c + rate_b * (1 - rate_b) / n_b,
        )
        z: Floats = (rate_c - rate_b - difference) / np.sqrt(spread)
    return np.nan_to_num(z, nan=0.0, posinf=0.0, neginf=0.0)


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


# --- how often the tests err, when one looks for ever --------------------------------------------------------------


def endless_arms(
    side: Side,
    champion: float,
    margin: float,
    counts: tuple[int, int],
    looks: int,
    paths: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """(share of null paths on which the test ever errs, the same of a z-test of the same size at each look).

    ``side`` 1: an equal canary, failed; −1: a canary worse by just the margin, passed. ``counts``: outcomes of canary
    and champion at each look.
    """
    canary = champion + (margin if side < 0 else 0.0)
    alpha = 0.01 if side > 0 else 0.05
    total, logs = np.zeros((paths, 4)), np.tile(FAIL_START if side > 0 else PASS_START, (paths, 1))
    peak, z_peak = np.zeros(paths), np.zeros(paths)
    n_c, n_b = (np.full(paths, float(each)) for each in counts)
    share = np.full(paths, counts[0] / sum(counts))
    difference = np.full(paths, 0.0 if side > 0 else margin)
    for _ in range(looks):
        bad_c, bad_b = rng.binomial(counts[0], canary, paths), rng.binomial(counts[1], champion, paths)
        centre = pooled_rate(total[:, 0] + total[:, 2], total[:, 1] + total[:, 3], 0.01 if champion < 0.1 else 0.2)
        at = share, centre, difference
        bets = fail_bets(*at) if side > 0 else pass_bets(*at, difference)
        logs += log_growth(side, n_c, bad_c, n_b, bad_b, centre, difference, bets)
        total += np.stack([n_c, bad_c, n_b, bad_b], axis=1)
        peak = np.maximum(peak, log_sum(logs))
        z_peak = np.maximum(z_peak, side * _z(total, difference))
    critical = 2.3263 if side > 0 else 1.6449
    return float((peak >= -math.log(alpha)).mean()), float((z_peak > critical).mean())


def endless_pairs(
    side: Side, disagree: float, batch: int, looks: int, paths: int, rng: np.random.Generator
) -> tuple[float, float]:
    """The same for pairs, with a z-test (McNemar's, without continuity correction) beside."""
    worse = POINTS if side < 0 else 0.0
    alpha = 0.01 if side > 0 else 0.05
    chances = np.array([(disagree + worse) / 2, 1 - disagree, (disagree - worse) / 2])
    counts, peak, z_peak = np.zeros((paths, 3)), np.zeros(paths), np.zeros(paths)
    zero, margin = np.zeros(paths), np.full(paths, POINTS)
    for _ in range(looks):
        counts += rng.multinomial(batch, chances, paths)
        three = counts[:, 0], counts[:, 1], counts[:, 2]
        log = log_paired_above(*three, zero) if side > 0 else log_paired_below(*three, margin, POINTS)
        peak = np.maximum(peak, log)
        n = counts.sum(axis=1)
        mean, square = (counts[:, 0] - counts[:, 2]) / n, (counts[:, 0] + counts[:, 2]) / n
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (mean - worse) / np.sqrt((square - mean**2) / n)
        z_peak = np.maximum(z_peak, np.nan_to_num(side * z, nan=0.0, posinf=0.0, neginf=0.0))
    critical = 2.3263 if side > 0 else 1.6449
    return float((peak >= -math.log(alpha)).mean()), float((z_peak > critical).mean())


# --- the page ------------------------------------------------------------------------------------------------------

Policy = Callable[[Scenario, int, np.random.Generator], Rollouts]
ON_ERRORS: dict[str, Policy] = {
    "Argo Rollouts, success ≥ .95, failureLimit 0": partial(argo, least=0.95),
    "Argo Rollouts, success ≥ .99, failureLimit 0": partial(argo, least=0.99),
    "Flagger, success ≥ 99 %, threshold 5": partial(flagger, least=0.99),
    "z-test at each look (5 %, each minute)": z_test,
    "Kayenta, 50 points a step": kayenta,
    "**Upkeep**": upkeep_live,
}
ON_QUALITY: dict[str, Policy] = {
    "Argo Rollouts, accuracy ≥ .78 over 5 min, 3 times": partial(argo, least=0.78, count=3, every=300.0),
    "Flagger, accuracy ≥ .78 over 10 min, threshold 5": partial(flagger, least=0.78, every=600.0, steps=STEPS),
    "z-test every 10 min (5 %)": partial(z_test, every=600.0, looks=12),
    "Kayenta, 50 points a step": kayenta,
    "**Upkeep**, two arms, live only": upkeep_live,
    "**Upkeep**, paired, live at 5 %": upkeep_paired,
    "**Upkeep**, paired, from a backlog at 0 %": upkeep_backlog,
}


def percent(share: float) -> str:
    """``0.1 %``; small shares keep two digits."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def pair(values: tuple[float, float], digits: int = 0) -> str:
    return "–" if math.isnan(values[0]) else f"{values[0]:,.{digits}f}/{values[1]:,.{digits}f}"


def bad_cell(done: Rollouts) -> str:
    promoted = f"promoted {percent(done.passed)}; " if done.passed else ""
    held = f"; held {percent(done.held)}" if done.held else ""
    return promoted + pair(done.exposed()) + held


def equal_cell(done: Rollouts) -> str:
    held = f"; held {percent(done.held)}" if done.held else ""
    return f"{percent(done.taken_back)}; {pair(done.time(), 1)}{held}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate canary analyses; print a Markdown section.")
    parser.add_argument("--rollouts", type=int, default=2000, help="of each cell")
    parser.add_argument("--paths", type=int, default=10_000, help="null paths of each error rate")
    given = parser.parse_args()
    n, paths, began = given.rollouts, given.paths, time.perf_counter()
    seeds = np.random.SeedSequence(20260301)

    def run(policy: Policy, scenario: Scenario, times: int = 1) -> Rollouts:
        return policy(scenario, n * times, np.random.default_rng(seeds.spawn(1)[0]))

    errors: dict[str, dict[float, Rollouts]] = {
        name: {
            canary: run(policy, Errors(canary), 2 if policy is upkeep_live else 1)
            for canary in (0.002, 0.01, 0.05, 0.5)
        }
        for name, policy in ON_ERRORS.items()
    }
    quality: dict[str, dict[float, Rollouts]] = {
        name: {worse: run(policy, Quality(worse)) for worse in (0.0, 0.03, 0.05, 0.15)}
        for name, policy in ON_QUALITY.items()
    }
    at_margin = {
        "errors": run(upkeep_live, Errors(0.002 + HARM), 2),
        "accuracy, two arms": run(upkeep_live, Quality(POINTS)),
        "accuracy, pairs": run(upkeep_paired, Quality(POINTS), 2),
    }
    noisy = {name: run(policy, Errors(0.015, 0.015)) for name, policy in ON_ERRORS.items()}
    slow = {name: run(policy, Errors(0.01, rate=0.5)) for name, policy in ON_ERRORS.items()}
    sticky = {once: run(upkeep_live, Errors(0.002, alike=5, once=once)) for once in (False, True)}
    half_day = round(12 * 3600 / LOOK)
    kinds: list[tuple[str, Callable[[Side, np.random.Generator], tuple[float, float]]]] = [
        (
            "two arms, errors .2 %, 50 requests/s, canary at 50 %",
            lambda side, rng: endless_arms(side, 0.002, HARM, (250, 250), half_day, paths, rng),
        ),
        (
            "two arms, errors .2 %, 50 requests/s, canary at 5 %",
            lambda side, rng: endless_arms(side, 0.002, step_margin(HARM, 25), (25, 475), half_day, paths, rng),
        ),
        (
            "two arms, accuracy .8, blocks of 10 labels",
            lambda side, rng: endless_arms(side, 0.2, POINTS, (10, 10), half_day, paths, rng),
        ),
        ("pairs, 15 % disagree, 14 a look", lambda side, rng: endless_pairs(side, 0.15, 14, half_day, paths, rng)),
    ]
    endless = {name: [test(side, np.random.default_rng(seeds.spawn(1)[0])) for side in (1, -1)] for name, test in kinds}
    parts = {
        alpha: {canary: run(partial(upkeep_live, alpha=alpha), Errors(canary), 2) for canary in (0.01, 0.05, 0.5)}
        for alpha in PARTS
    }
    print(page(errors, quality, at_margin, noisy, slow, sticky, endless, parts, n, paths, time.perf_counter() - began))


def page(
    errors: dict[str, dict[float, Rollouts]],
    quality: dict[str, dict[float, Rollouts]],
    at_margin: dict[str, Rollouts],
    noisy: dict[str, Rollouts],
    slow: dict[str, Rollouts],
    sticky: dict[bool, Rollouts],
    endless: dict[str, list[tuple[float, float]]],
    parts_of: dict[float, dict[float, Rollouts]],
    n: int,
    paths: int,
    seconds: float,
) -> str:
    ours, live, backlog = (
        errors["**Upkeep**"],
        quality["**Upkeep**, paired, live at 5 %"],
        quality["**Upkeep**, paired, from a backlog at 0 %"],
    )
    fails, passes = (max(each[side][0] for each in endless.values()) for side in (0, 1))
    pairs = _two(_known(backlog[0.0].pairs))
    false = max(ours[0.002].taken_back, live[0.0].taken_back, backlog[0.0].taken_back)
    promoted = max(each.passed for each in at_margin.values())

    def asked(what: str, most: str, measured: str, met: bool) -> list[str]:
        return [what, most, measured, "yes" if met else "**no**"]

    def exposure(what: str, done: Rollouts, most: tuple[float, float]) -> list[str]:
        found = done.exposed()
        return asked(what, pair(most), pair(found), found[0] <= most[0] and found[1] <= most[1])

    targets = [
        asked(
            "false roll-back of an equal canary, whole rollout (the worst kind)", "1 %", percent(false), false <= 0.01
        ),
        asked(
            "promotion of a canary worse by just the margin (the worst kind)",
            "5 %",
            percent(promoted),
            promoted <= 0.05,
        ),
        exposure("exposure, errors 50 %", ours[0.5], (30, 40)),
        exposure("exposure, errors 5 %", ours[0.05], (100, 220)),
        exposure("exposure, errors 1 %", ours[0.01], (1000, 4200)),
        asked("promotion of a canary with 1 % errors", "0.1 %", percent(ours[0.01].passed), ours[0.01].passed <= 0.001),
        exposure("exposure, paired quality −.03", live[0.03], (500, 950)),
        exposure("exposure, paired quality −.05", live[0.05], (250, 430)),
        exposure("exposure, paired quality −.15", live[0.15], (70, 100)),
        asked(
            "a good rollout at 50 requests/s without labels, 95th percentile",
            "10 min",
            f"{ours[0.002].time()[1]:.1f} min",
            ours[0.002].time()[1] <= 10,
        ),
        asked(
            "verdict on an equal canary from a backlog",
            "2,500/7,000 pairs",
            pair(pairs) + " pairs",
            pairs[0] <= 2500 and pairs[1] <= 7000,
        ),
        asked(f"endless looking, {paths:,} null paths: fail (the worst kind)", "1 %", percent(fails), fails <= 0.01),
        asked(f"endless looking, {paths:,} null paths: pass (the worst kind)", "5 %", percent(passes), passes <= 0.05),
    ]
    parts = [
        "## Canary analysis in simulation",
        (
            f"{n:,} rollouts a cell (Upkeep on errors: {2 * n:,}), {paths:,} null paths an error rate, one core, "
            f"{seconds:.0f} s. Median/95th percentile; exposure: requests that a bad canary answered before it was "
            "taken back. The construction and its defaults: [analysis](explanation/analysis.md)."
        ),
        table(["what was asked", "at most", "measured", "met"], targets),
        "**Errors.** Champion 0.2 %, 50 requests/s, steps 5, 25, 50 % (Flagger: 5 % more at a time). Margin 0.5 %.",
        table(
            ["policy", "equal canary: false roll-back; minutes to promote", "1 %: exposure", "5 %", "50 %"],
            [
                [name, equal_cell(cells[0.002]), *(bad_cell(cells[each]) for each in (0.01, 0.05, 0.5))]
                for name, cells in errors.items()
            ],
        ),
        (
            "**Upkeep with several metrics.** They share the 1 %; what follows is errors alone, with the part that a "
            "rollout gives it by default: "
            + "; ".join(
                f"{PARTS[alpha]} ({percent(alpha)}): "
                + ", ".join(f"{percent(canary)} {bad_cell(done)}" for canary, done in cells.items())
                for alpha, cells in parts_of.items()
            )
            + "."
        ),
        (
            "**The same on other days.** An equal canary where both fail 1.5 %; a canary with 1 % errors (champion "
            "0.2 %) at one request in two seconds."
        ),
        table(
            ["policy", "both 1.5 %: false roll-back; minutes", "0.5 requests/s, 1 %: exposure"],
            [[name, equal_cell(noisy[name]), bad_cell(slow[name])] for name in errors],
        ),
        (
            "**Quality.** Champion's accuracy 0.80, margin 0.02, 5 requests/s, 30 % labelled after a mean of 10 "
            "minutes, 15 % of the answers differ. Paired: to the verdict."
        ),
        table(
            ["policy", "equal canary: false roll-back; minutes", "−.03: exposure", "−.05", "−.15"],
            [
                [name, equal_cell(cells[0.0]), *(bad_cell(cells[each]) for each in (0.03, 0.05, 0.15))]
                for name, cells in quality.items()
            ],
        ),
        "**Worse by just the margin.** What Upkeep promotes of it, and exposure else: "
        + "; ".join(f"{name} {bad_cell(done)}" for name, done in at_margin.items())
        + ".",
        (
            "**Looking for ever.** A look every ten seconds for twelve hours: how often each errs at least once. "
            "α is 1 % for a fail of an equal canary, 5 % for a pass of one that is worse by just the margin."
        ),
        table(
            ["evidence", "false fail", "z-test, 1 %", "false pass", "z-test, 5 %"],
            [[name, *(percent(rate) for both in rates for rate in both)] for name, rates in endless.items()],
        ),
        (
            "**Users who stay with their arm.** Five requests each with the same outcome, equal canary (0.2 %): false "
            f"roll-back {percent(sticky[False].taken_back)} when every request counts, "
            f"{percent(sticky[True].taken_back)} when each user counts once (then {pair(sticky[True].time(), 1)} "
            "minutes to promote)."
        ),
    ]
    return "\n\n".join(parts)


def _known(values: Floats | None) -> Floats:
    assert values is not None
    return values


if __name__ == "__main__":
    main()
