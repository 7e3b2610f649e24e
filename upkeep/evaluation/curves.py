"""How much data does this model need, and how often should it be updated? Answered by training on less and on older.

``retrain`` trains the chosen candidate's recipe on a portion of its training rows. Every model is asked about the same
held-out rows, and compared with the model of all rows, paired, so that a hard month does not look like a bad model.
The curves inform; the gate does not read them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from upkeep.data.dataset import period_order
from upkeep.evaluation.answers import Answers, Rows
from upkeep.evaluation.metrics import Codes
from upkeep.evaluation.paired import Sample
from upkeep.evaluation.resampling import student
from upkeep.evaluation.result import CurvePoint, Curves, Interval

CONFIDENCE = 0.95
RESAMPLES = 500
SHARES = (0.125, 0.25, 0.5)
NEWEST = (1, 2, 4, 8)
LEAST_AGES = 3


@dataclass(frozen=True, kw_only=True)
class Portion:
    """Which of the training rows a model of the curves learns from."""

    share: float = 1.0
    """Of the split keys (whole groups), chosen by their hash."""
    periods: tuple[str, ...] | None = None
    """Only these; None: those that the candidate itself learned from."""


@dataclass(frozen=True, kw_only=True)
class Portioned:
    """A model trained on a portion, ready to be asked about the held-out rows."""

    answers: Answers
    """On the held-out rows, in their order."""
    rows: int
    """Training rows it learned from."""


class Retrain(Protocol):
    def __call__(self, portion: Portion) -> Portioned | None:
        """None when it cannot be trained on so little."""
        ...


def curves(
    rows: Rows,
    recent: Codes,
    whole: Portioned,
    periods: Sequence[str],
    metric: str,
    *,
    worth: float,
    retrain: Retrain | None,
    champion_until: str | None,
    seed: int,
    seconds: float = 60.0,
    clock: Callable[[], float],
) -> Curves:
    """Learning curves by rows and by periods, and the loss with age.

    ``rows``: all held-out rows, answered by ``candidate`` and, where it can be asked, by ``champion``. ``recent``: the
    indices of those that stand for the traffic to come (the rows that decide); the learning curves are scored on them,
    ageing on all. ``whole``: the chosen candidate itself. ``periods``: those it learned from, oldest first.
    ``worth``: a difference of the metric that matters to the owner (``gate.better.by``, or 0.01). No training is begun
    after ``seconds`` of ``clock``. ``retrain`` None: none at all, and the champion alone tells of age.
    """
    deadline = clock() + seconds
    maker = _Maker(retrain, deadline, clock)
    judge = _Judge(rows.take(recent), recent, metric, seed)
    by_rows, said_rows = _by_rows(judge, whole, maker)
    by_age, more_often = _by_age(
        _Judge(rows, np.arange(len(rows)), metric, seed), periods, maker, worth=worth, champion_until=champion_until
    )
    by_periods, said_periods = _by_periods(judge, whole, periods, maker)
    if retrain is None:
        said_rows = "Not measured: explain.curves is 0, so that nothing was trained on less."
    elif maker.out_of_time:
        said_periods = f"{said_periods} Measuring stopped after {seconds:.0f} s; some points are missing.".strip()
    return Curves(
        by_rows=by_rows,
        by_periods=by_periods,
        by_age=by_age,
        more_data=" ".join(text for text in (said_rows, said_periods) if text),
        more_often=more_often,
    )


@dataclass
class _Maker:
    """Trains while there is time."""

    retrain: Retrain | None
    deadline: float
    clock: Callable[[], float]
    out_of_time: bool = False

    def __call__(self, portion: Portion) -> Portioned | None:
        if self.retrain is None:
            return None
        if self.clock() > self.deadline:
            self.out_of_time = True
            return None
        return self.retrain(portion)


@dataclass(frozen=True)
class _Judge:
    """Scores answers on some of the held-out rows."""

    rows: Rows
    which: Codes
    """Their places among all held-out rows, which answers are of."""
    metric: str
    seed: int

    def score(self, answers: Answers) -> Interval | None:
        return self._sample({"model": answers}).interval(self.metric, CONFIDENCE)

    def gain(self, less: Answers, more: Answers) -> Interval | None:
        """What ``more`` has over ``less``, in the better direction."""
        return self._sample({"less": less, "more": more}).difference(self.metric, CONFIDENCE).difference

    def _sample(self, answers: dict[str, Answers]) -> Sample:
        here = {name: answer.take(self.which) for name, answer in answers.items()}
        rows = replace(self.rows, answers=here, slices={})
        return Sample(rows, tuple(here), resamples=RESAMPLES, seed=self.seed)

    def at(self, period: str) -> _Judge:
        here = np.flatnonzero(self.rows.period == self.rows.periods.index(period))
        return replace(self, rows=self.rows.take(here), which=self.which[here])

    def point(self, x: float, label: str, answers: Answers) -> tuple[CurvePoint, ...]:
        score = self.score(answers)
        return () if score is None else (CurvePoint(x=x, label=label, score=score, rows=len(self.rows)),)


def _range(gap: Interval) -> str:
    return f"{gap.estimate:+.3f} (95% interval {gap.low:+.3f} to {gap.high:+.3f})"


def _by_rows(judge: _Judge, whole: Portioned, make: _Maker) -> tuple[tuple[CurvePoint, ...], str]:
    points: tuple[CurvePoint, ...] = ()
    gains: list[tuple[float, int, Interval]] = []
    for share in sorted(SHARES, reverse=True):  # the half first: it answers the question
        made = make(Portion(share=share))
        if made is None:
            continue
        points = judge.point(made.rows, f"{share:.3g} of the rows", made.answers) + points
        gain = judge.gain(made.answers, whole.answers)
        if gain is not None:
            gains.append((share, made.rows, gain))
    points += judge.point(whole.rows, "all rows", whole.answers)
    if not gains:
        return points, "The data cannot say how much is needed: no smaller model could be compared on these rows."
    share, number, gain = gains[0]
    start = (
        f"{judge.metric}: training on all {whole.rows:,} rows instead of {number:,} ({share:.3g} of them) "
        f"brings {_range(gain)}."
    )
    if gain.low > 0:
        return points, f"{start} More rows still help; another doubling should bring about as much, or less."
    enough = [(size, other) for _, size, other in gains if other.low <= 0]
    smallest, other = min(enough, key=lambda pair: pair[0])
    return points, (
        f"{start} That the last rows help is not beyond doubt; {smallest:,} rows are not told apart from all of them, "
        f"which bring {_range(other)} over those."
    )


def _by_periods(
    judge: _Judge, whole: Portioned, periods: Sequence[str], make: _Maker
) -> tuple[tuple[CurvePoint, ...], str]:
    if len(periods) < 2:
        return (), ""
    points: tuple[CurvePoint, ...] = ()
    gains: list[tuple[int, Interval]] = []
    for number in sorted((n for n in NEWEST if n < len(periods)), reverse=True):
        made = make(Portion(periods=tuple(periods[-number:])))
        if made is None:
            continue
        label = f"newest {number} of {len(periods)} periods"
        points = judge.point(number, label, made.answers) + points
        gain = judge.gain(made.answers, whole.answers)
        if gain is not None:
            gains.append((number, gain))
    points += judge.point(len(periods), "all periods", whole.answers)
    if not gains:
        return points, ""
    worse = [(number, gain) for number, gain in gains if gain.high < 0]
    if worse:
        number, gain = worse[-1]
        return points, (
            f"Old periods hurt: all {len(periods)} instead of the newest {number} bring {_range(gain)}; "
            f"set the candidate's window to {number}."
        )
    alike = [(number, gain) for number, gain in gains if gain.low <= 0]
    if alike:
        number, gain = alike[-1]
        return points, f"The newest {number} of {len(periods)} periods are not told apart from all: {_range(gain)}."
    number, gain = gains[0]
    return points, f"Old periods still help: all {len(periods)} instead of the newest {number} bring {_range(gain)}."


def _by_age(
    judge: _Judge, learned: Sequence[str], make: _Maker, *, worth: float, champion_until: str | None
) -> tuple[tuple[CurvePoint, ...], str]:
    """The champion, where it is old enough; otherwise a stand-in: the same recipe, stopped at an earlier period."""
    rows, metric = judge.rows, judge.metric
    present = rows.present
    ages = _after(present, champion_until) if champion_until is not None else []
    old: Answers | None = rows.answers.get("champion")
    who = f"The champion (learned until {champion_until})"
    if old is None or len(ages) < LEAST_AGES:
        stop = max(1, len(learned) // 3)
        later = _after(present, learned[stop - 1]) if learned else []
        made = make(Portion(periods=tuple(learned[:stop]))) if len(later) >= LEAST_AGES else None
        if made is not None:
            old, ages, who = made.answers, later, f"The same recipe, stopped at {learned[stop - 1]}"
    points: tuple[CurvePoint, ...] = ()
    losses: list[tuple[int, Interval]] = []
    for age, period in enumerate(ages, start=1):
        if old is None:
            break
        here = judge.at(period)
        points += here.point(age, period, old)
        loss = here.gain(old, rows.answers["candidate"])
        if loss is not None:
            losses.append((age, loss))
    if len(losses) < LEAST_AGES:
        return points, (
            f"The data cannot say yet: a model's ageing can be seen in {len(losses)} later "
            f"{'period' if len(losses) == 1 else 'periods'}, and {LEAST_AGES} are the least."
        )
    slope = trend(losses)
    first, last = losses[0][1], losses[-1][1]
    start = (
        f"{who} is behind the new model, on the same rows, by {first.estimate:.3f} {metric} at 1 period of age and "
        f"{last.estimate:.3f} at {losses[-1][0]}: {_range(slope)} more a period."
    )
    if slope.low > 0:
        periods = max(1, math.floor(worth / slope.estimate))
        soonest, latest = max(1, math.floor(worth / slope.high)), max(1, math.floor(worth / slope.low))
        return points, (
            f"{start} A loss of {worth:g} builds up in about {periods} {'period' if periods == 1 else 'periods'} "
            f"(between {soonest} and {latest}): update that often."
        )
    if slope.high < worth / losses[-1][0]:
        return points, f"{start} It does not lose {worth:g} in {losses[-1][0]} periods: updating less often is enough."
    return points, f"{start} Whether age costs anything is not beyond doubt; watch decay, and update when it shows."


def _after(periods: Sequence[str], until: str) -> list[str]:
    return [period for period in periods if period_order(period) > period_order(until)]


def trend(losses: Sequence[tuple[int, Interval]]) -> Interval:
    """How much the loss grows a period: weighted least squares, 95 % interval with t(n - 2) quantiles.

    Weights are 1 ÷ variance, the variance that of each period's interval plus what the scatter about the line shows
    beyond it (at least nothing): few periods, or periods that differ among themselves, give a wide interval. Periods
    are taken as independent.
    """
    x = np.array([age for age, _ in losses], dtype=float)
    y = np.array([loss.estimate for _, loss in losses])
    normal = student(CONFIDENCE, 1e9)
    own = np.maximum(np.array([(loss.high - loss.low) / 2 / normal for _, loss in losses]), 1e-9) ** 2
    extra = 0.0
    for _ in range(20):  # converges in a few rounds: the scatter that own variances do not explain
        weights = 1 / (own + extra)
        middle = weights @ x / weights.sum()
        spread = weights @ (x - middle) ** 2
        slope = float(weights @ ((x - middle) * y) / spread)
        level = float(weights @ y / weights.sum())
        residuals = y - level - slope * (x - middle)
        extra = max(0.0, float(residuals @ residuals) / (len(x) - 2) - float(own.mean()))
    half = student(CONFIDENCE, len(x) - 2) * math.sqrt(1 / float(spread))
    return Interval(estimate=slope, low=slope - half, high=slope + half)
