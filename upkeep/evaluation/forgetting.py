"""What a candidate that goes on learning forgot, period by period, and the matrix of all its rounds.

``incremental`` and ``fine_tune`` candidates go on from a model that knew something already. Both answer the same rows,
which neither has learned from, and are compared row by row on each period (:mod:`upkeep.evaluation.paired`). The old
periods' intervals hold together at the level asked for: each is at 1 − (1 − level) ÷ periods (Bonferroni), so that of
many periods one does not look forgotten by luck.

The measures over rounds are those of Lopez-Paz & Ranzato, "Gradient Episodic Memory for Continual Learning" (2017),
section 2.2, with periods for tasks: ``R[i][j]`` is the metric on period j after round i of learning.

- backward transfer: the mean of ``R[T][j] − R[i(j)][j]`` over the periods learned before the last round T, where i(j)
  is the round that learned j first (as far back as rounds are known). Below zero: forgetting.
- forward transfer: the mean of ``R[i(j)−1][j] − b[j]`` over the periods learned after the first round: how good it was
  at j before it had learned it, against ``b``, an answer that knows only how frequent each class is.

Both are in the better direction, for log loss too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from upkeep.evaluation.answers import Rows
from upkeep.evaluation.importance import metric_of
from upkeep.evaluation.inputs import Before
from upkeep.evaluation.metrics import sign
from upkeep.evaluation.paired import Sample
from upkeep.evaluation.result import Forgetting, PeriodChange, Round, Rounds
from upkeep.spec.model import MetricName

BEFORE = "before"
"""The name under which the model that was gone on from answers."""
MOST_RESAMPLES = 20_000
WHOLE = 24
"""Rounds that are kept whole. Of older ones, the cells that the measures need: a year of days would be 365² cells."""


def forgetting(
    rows: Rows,
    *,
    candidate: str,
    before: Before | None,
    this: Round,
    known: Rounds | None,
    metric: MetricName,
    confidence: float,
    resamples: int,
    seed: int,
    row_set: str = "held_out",
    answers: str = "candidate",
) -> Forgetting:
    """What ``candidate`` forgot on ``rows``, where it answers as ``answers``, and the model before as ``before``.

    ``this``: the round that just ended; its scores are filled in here. ``before`` None: it began. ``known``: its
    earlier rounds. Without answers of the model before (it could not be asked) nothing is compared.
    """
    parts = {period: rows.in_periods(period.__eq__) for period in rows.present}

    def scores(model: str) -> dict[str, float | None]:
        return {
            period: metric_of(metric, part.truth, part.answers[model].probabilities, part.positive)
            for period, part in parts.items()
        }

    sizes = {period: len(part) for period, part in parts.items()}
    asked = before is not None and BEFORE in rows.answers
    old = [period for period in parts if before is not None and period in before.periods]
    level = 1 - (1 - confidence) / max(len(old), 1)
    changes: list[PeriodChange] = []
    if asked and before is not None:
        drawn = min(MOST_RESAMPLES, max(resamples, math.ceil(20 / (1 - level))))
        for period, part in parts.items():
            sample = Sample(part, (BEFORE, answers), resamples=drawn, seed=seed)
            found = sample.difference(metric, level)
            changes.append(
                PeriodChange(
                    period=period,
                    known_before=period in before.periods,
                    rows=len(part),
                    groups=sample.groups,
                    before=found.champion,
                    after=found.candidate,
                    change=found.difference,
                )
            )
    rounds: tuple[Round, ...] = ()
    if before is not None:
        rounds = _until(before, known, metric)
        if asked:
            gone_on = Round(model=before.model, state=before.state, periods=before.periods, scores={}, rows={})
            last = rounds[-1] if rounds else gone_on
            last = replace(last, periods=before.periods)
            rounds = (*rounds[:-1], _scored(last, scores(BEFORE), sizes))
    this = _scored(this, scores(answers), sizes)
    if not rounds or this.model != rounds[-1].model:
        rounds = (*rounds, this)
    chance = dict(known.chance) if known and known.metric == metric else {}
    chance |= _chance(rows, parts, metric)
    matrix = thinned(Rounds(metric=metric, rounds=rounds, chance=chance))
    (back, back_over), (ahead, ahead_over) = backward(matrix), forward(matrix)
    return Forgetting(
        candidate=candidate,
        row_set="held_out" if row_set == "held_out" else "validation",
        went_on_from=before.name if before else "",
        from_base=before is not None and before.base,
        failed="" if before is None or asked else before.failed or "it gave no answer on these rows",
        confidence=level,
        together=confidence,
        periods=tuple(changes),
        missing=tuple(period for period in before.periods if period not in parts) if before else (),
        matrix=matrix,
        backward=back,
        backward_over=back_over,
        forward=ahead,
        forward_over=ahead_over,
    )


def _until(before: Before, known: Rounds | None, metric: str) -> tuple[Round, ...]:
    """The rounds up to the model that was gone on from; none where they do not lead there or are of another metric."""
    if known is None or known.metric != metric:
        return ()
    for number, one in reversed(list(enumerate(known.rounds))):
        if one.model == before.model or (before.state and one.state == before.state):
            return known.rounds[: number + 1]
    return ()


def _scored(one: Round, scores: dict[str, float | None], rows: dict[str, int]) -> Round:
    """The round with these cells, in the place of those it had for the same periods."""
    return replace(one, scores={**one.scores, **scores}, rows={**one.rows, **rows})


def _chance(rows: Rows, parts: dict[str, Rows], metric: str) -> dict[str, float | None]:
    """What the answer scores that knows only how frequent each class is among all these rows."""
    if not len(rows):
        return {}
    shares = np.bincount(rows.truth, minlength=len(rows.classes)) / len(rows)
    return {
        period: metric_of(metric, part.truth, np.tile(shares, (len(part), 1)), part.positive)
        for period, part in parts.items()
    }


def _learned_in(matrix: Rounds) -> dict[str, int]:
    """Period → the place of the first round that had learned it."""
    found: dict[str, int] = {}
    for number, one in enumerate(matrix.rounds):
        for period in one.periods:
            found.setdefault(period, number)
    return found


def thinned(matrix: Rounds) -> Rounds:
    """Rounds before the newest :data:`WHOLE` with no more than what the measures need: the periods that they learned
    themselves, and the scores on these and on those that the next round learned."""
    learned = _learned_in(matrix)
    rounds = []
    for number, one in enumerate(matrix.rounds):
        if number < len(matrix.rounds) - WHOLE:
            keep = {period for period, first in learned.items() if first in (number, number + 1)}
            rounds.append(
                replace(
                    one,
                    periods=tuple(period for period in one.periods if learned[period] == number),
                    scores={period: score for period, score in one.scores.items() if period in keep},
                    rows={period: rows for period, rows in one.rows.items() if period in keep},
                )
            )
        else:
            rounds.append(one)
    return replace(matrix, rounds=tuple(rounds))


def backward(matrix: Rounds) -> tuple[float | None, int]:
    """Backward transfer, and over how many periods; None where no earlier period has both of its scores."""
    last = len(matrix.rounds) - 1
    return _mean(
        matrix,
        [period for period, number in _learned_in(matrix).items() if number < last],
        lambda period, learned: (matrix.rounds[last].scores.get(period), matrix.rounds[learned].scores.get(period)),
    )


def forward(matrix: Rounds) -> tuple[float | None, int]:
    """Forward transfer, and over how many periods; None where no later period has both of its scores."""
    return _mean(
        matrix,
        [period for period, number in _learned_in(matrix).items() if number > 0],
        lambda period, learned: (matrix.rounds[learned - 1].scores.get(period), matrix.chance.get(period)),
    )


def _mean(
    matrix: Rounds, periods: Sequence[str], pair: Callable[[str, int], tuple[float | None, float | None]]
) -> tuple[float | None, int]:
    learned = _learned_in(matrix)
    gaps = [
        sign(matrix.metric) * (score - other)
        for score, other in (pair(period, learned[period]) for period in periods)
        if score is not None and other is not None
    ]
    return (float(np.mean(gaps)), len(gaps)) if gaps else (None, 0)
