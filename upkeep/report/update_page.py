"""The page of an update: what came in, what was compared, what was decided and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from upkeep.data.dataset import period_order
from upkeep.data.prepared import Summary
from upkeep.evaluation.result import (
    Attributions,
    CurvePoint,
    Evaluation,
    FairnessResult,
    Forgetting,
    Importance,
    Interval,
    Paired,
    Scores,
    SliceResult,
    TextAttribution,
)
from upkeep.report import bars, headline, plots, words
from upkeep.report.drift_page import DriftParts, drift_parts
from upkeep.report.render import render
from upkeep.report.view import UpdateView
from upkeep.training.task import TrainingResult

MAX_CLASSES = 12
"""Confusion matrices of more classes are told by their most frequent confusions."""
MANY = 12
"""Longer lists fold."""
DRAWN = 60
"""Periods whose forgetting is shown; all stand in the update's ``evaluation.json``."""
MARKED = 0.05
"""A token with less than this share of its text's largest part is not marked."""
_SLICE_ORDER = {"worse": 0, "better": 1, "same": 2}


@dataclass(frozen=True)
class DataParts:
    summary: Summary
    totals: dict[str, int]
    reasons: tuple[tuple[str, int], ...]
    """Why rows were refused, most frequent first."""
    classes: tuple[str, ...]
    rows_plot: Markup
    classes_plot: Markup | None


@dataclass(frozen=True)
class Confusion:
    who: str
    rows: int
    table: tuple[tuple[str, tuple[tuple[int, float, bool], ...]], ...]
    """True class → (count, share of the class, right) a predicted class; empty: too many classes."""
    worst: tuple[tuple[str, str, int], ...]
    """True class, predicted class, count: the most frequent confusions."""


@dataclass(frozen=True)
class FairnessColumn:
    column: str
    results: tuple[FairnessResult, ...]
    asked: bool
    """The gate has a limit for one of the measures."""
    same_groups: bool
    """All measures judged the same groups."""
    by_group: dict[str, dict[str, float | None]]
    scale: bars.Scale


@dataclass(frozen=True)
class TrainingParts:
    """How one network learned."""

    result: TrainingResult
    best: int | None
    """The epoch whose weights were kept, where rows were watched."""
    loss: Markup | None
    accuracy: Markup | None


@dataclass(frozen=True)
class ForgettingParts:
    found: Forgetting
    scale: bars.Scale
    limit: float | None
    """What the gate allows to be lost, below zero; None: it was not asked, or not of this candidate."""
    plot: Markup | None
    matrix: tuple[tuple[str, tuple[tuple[float | None, bool], ...]], ...]
    """Round → (score, learned by then) a period."""
    columns: tuple[str, ...]
    """The periods of the matrix."""


@dataclass(frozen=True)
class Token:
    text: str
    value: float
    strength: float
    """Its size against the text's largest, in [0, 1]."""
    joined: bool

    @property
    def speaks(self) -> str:
        """for, against or neither."""
        return "neither" if self.strength < MARKED else "for" if self.value > 0 else "against"


@dataclass(frozen=True)
class ShownText:
    found: TextAttribution
    tokens: tuple[Token, ...]
    strongest: tuple[Token, ...]
    """The largest, at most six."""


@dataclass(frozen=True)
class AttributionParts:
    found: Attributions
    name: str
    meaning: str
    sizes: dict[str, float]
    """Column → mean of the absolute parts."""
    scale: bars.Scale
    texts: tuple[ShownText, ...]


@dataclass(frozen=True)
class EvaluationParts:
    evaluation: Evaluation
    classes: tuple[str, ...]
    primary: str | None
    """The row set that single pictures (confusion, ROC, calibration) are of."""
    scores: dict[str, Scores]
    """``champion``, ``candidate`` → scores on the primary row set."""
    paired: tuple[tuple[Paired, bars.Scale, dict[str, float]], ...]
    """With the scale of its bars and metric → the least difference asked."""
    alone: tuple[tuple[str, Scores, bars.Scale], ...]
    """Without a comparison: row set → the candidate's scores."""
    validation_scale: bars.Scale | None
    validation_metrics: tuple[str, ...]
    confusion: tuple[Confusion, ...]
    roc: Markup | None
    calibration: Markup | None
    by_period: Markup | None
    forgetting: tuple[ForgettingParts, ...]
    slices: tuple[SliceResult, ...]
    small_slices: tuple[SliceResult, ...]
    slice_scale: bars.Scale
    slice_limit: float | None
    fairness: tuple[FairnessColumn, ...]
    """Those with a limit first."""
    importance: tuple[Importance, ...]
    importance_scale: bars.Scale
    attributed: tuple[AttributionParts, ...]
    by_rows: Markup | None
    by_periods: Markup | None
    by_age: Markup | None


def data_parts(summary: Summary) -> DataParts:
    """The data summary's totals, reasons and plots."""
    totals = {
        name: sum(getattr(period, name) for period in summary.periods)
        for name in ("read", "quarantined", "duplicates", "train", "validation", "held_out", "kept_out")
    }
    totals["read"] += summary.undated
    totals["quarantined"] += summary.undated
    reasons = Counter(summary.undated_reasons or {})
    for period in summary.periods:
        reasons.update(period.reasons)
    classes = tuple(words.label(label) for label in summary.classes)
    second = classes[1] if len(classes) == 2 else None
    positive = second if summary.positive is None else words.label(summary.positive)
    return DataParts(
        summary=summary,
        totals=totals,
        reasons=tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        classes=classes,
        rows_plot=plots.rows_by_period(summary.periods) if summary.periods else Markup(),
        classes_plot=plots.classes_by_period(summary.periods, classes, positive)
        if any(period.by_class for period in summary.periods)
        else None,
    )


def _confusion(who: str, scores: Scores, classes: Sequence[str]) -> Confusion:
    rows = []
    pairs = []
    for true, counts in enumerate(scores.confusion):
        total = sum(counts)
        rows.append(
            (
                classes[true],
                tuple((n, n / total if total else 0.0, true == predicted) for predicted, n in enumerate(counts)),
            )
        )
        pairs += [
            (classes[true], classes[predicted], n) for predicted, n in enumerate(counts) if n and true != predicted
        ]
    worst = tuple(sorted(pairs, key=lambda pair: -pair[2])[:MANY])
    few = len(scores.confusion) <= MAX_CLASSES
    return Confusion(who=who, rows=scores.rows, table=tuple(rows) if few else (), worst=() if few else worst)


def _asked(view: UpdateView, row_set: str) -> dict[str, float]:
    """Metric → the least difference that the gate asked for on these rows."""
    if view.gate is None:
        return {}
    metric = str(view.gate.better.metric)
    return {"new": {metric: view.gate.better.by}, "old": {metric: -view.gate.old.worse_by_at_most}}.get(row_set, {})


def _training(result: TrainingResult) -> TrainingParts:
    watched = [epoch for epoch in result.curve if epoch.watched is not None]
    return TrainingParts(
        result=result,
        best=min(watched, key=lambda epoch: epoch.watched or 0.0).number if watched else None,
        loss=plots.training(result.curve, result.candidate),
        accuracy=plots.training_accuracy(result.curve, result.candidate),
    )


def _forgetting(view: UpdateView, found: Forgetting, metric: str) -> ForgettingParts:
    asked = view.gate.forgetting if view.gate and found.row_set == "held_out" else None
    limit = -asked.worse_by_at_most if asked else None
    rounds = found.matrix.rounds if found.row_set == "held_out" else ()
    matrix = rounds[-MANY:]
    columns = sorted({period for one in matrix for period in one.scores}, key=period_order)[-MANY:]
    return ForgettingParts(
        found=found,
        scale=bars.interval_scale([one.change for one in found.periods], [limit]),
        limit=limit,
        plot=plots.forgetting(found.periods[-DRAWN:], metric, found.candidate),
        matrix=tuple(
            (f"round {number}", tuple((one.scores.get(period), period in one.periods) for period in columns))
            for number, one in enumerate(matrix, start=len(rounds) - len(matrix) + 1)
        ),
        columns=tuple(columns),
    )


def _fairness(results: Sequence[FairnessResult]) -> tuple[FairnessColumn, ...]:
    columns = []
    for column in dict.fromkeys(found.column for found in results):
        own = tuple(found for found in results if found.column == column)
        intervals = [interval for found in own for interval in (found.candidate, found.champion)]
        columns.append(
            FairnessColumn(
                column=column,
                results=own,
                asked=any(found.limit is not None for found in own),
                same_groups=len({(found.judged, found.too_small) for found in own}) == 1,
                by_group=next((found.by_group for found in own if found.by_group), {}),
                scale=bars.interval_scale(intervals, [found.limit for found in own]),
            )
        )
    return tuple(sorted(columns, key=lambda found: not found.asked))


def _primary(evaluation: Evaluation) -> str | None:
    """The newest rows where there are any: they are what the update is for."""
    known = evaluation.scores.get("candidate") or evaluation.scores.get("champion") or {}
    return next((name for name in ("new", "all", "old", "validation") if name in known), None)


def _own_intervals(scores: Scores) -> list[Interval]:
    return [found for name, found in scores.intervals.items() if name not in words.LOWER_IS_BETTER]


def _curve(points: Sequence[CurvePoint], title: str, x: str, metric: str, who: str = "candidate") -> Markup | None:
    return plots.curve(points, title, x, metric, who=who)


def evaluation_parts(view: UpdateView, evaluation: Evaluation) -> EvaluationParts:
    """The evaluation sorted for the page, with its scales and plots."""
    classes = tuple(words.label(label) for label in evaluation.classes)
    primary = _primary(evaluation)
    scores = {
        who: evaluation.scores[who][primary]
        for who in ("champion", "candidate")
        if primary and primary in evaluation.scores.get(who, {})
    }
    paired = []
    for found in evaluation.paired:
        asked = _asked(view, found.row_set)
        scale = bars.interval_scale(
            [d.difference for d in found.differences if d.metric not in words.LOWER_IS_BETTER], asked.values()
        )
        paired.append((found, scale, asked))
    alone: tuple[tuple[str, Scores, bars.Scale], ...] = ()
    if not evaluation.paired:
        alone = tuple(
            (name, found, bars.interval_scale(_own_intervals(found)))
            for name, found in evaluation.scores.get("candidate", {}).items()
        )
    metric = evaluation.metric
    validations = [c.validation for c in evaluation.candidates if c.validation]
    spreads = [found.intervals.get(metric) for found in validations]
    clear = [found for found in evaluation.slices if found.finding != "insufficient"]
    limit = -view.gate.slices.worse_by_at_most if view.gate else None
    curves = evaluation.curves
    return EvaluationParts(
        evaluation=evaluation,
        classes=classes,
        primary=primary,
        scores=scores,
        paired=tuple(paired),
        alone=alone,
        validation_scale=bars.interval_scale(spreads) if any(spreads) else None,
        validation_metrics=tuple(
            name
            for name in words.METRIC_NAMES
            if name != metric and any(v.metrics.get(name) is not None for v in validations)
        ),
        confusion=tuple(_confusion(who, found, classes) for who, found in scores.items() if found.confusion),
        roc=plots.roc(scores),
        calibration=plots.calibration(scores),
        by_period=plots.by_period(evaluation.by_period, metric, view.new_periods),
        forgetting=tuple(_forgetting(view, found, metric) for found in evaluation.forgetting),
        slices=tuple(sorted(clear, key=_slice_order)),
        small_slices=tuple(found for found in evaluation.slices if found.finding == "insufficient"),
        slice_scale=bars.interval_scale([found.difference for found in clear], [limit]),
        slice_limit=limit,
        fairness=_fairness(evaluation.fairness),
        importance=(*sorted(evaluation.importance, key=lambda found: -_importance(found)), *_others(evaluation)),
        attributed=tuple(map(_attributed, evaluation.attributions)),
        importance_scale=bars.scale(
            [
                pair[0] + side * pair[1]
                for found in evaluation.importance
                for pair in (found.champion, found.candidate)
                if pair
                for side in (-1, 1)
            ]
        ),
        by_rows=_curve(curves.by_rows, "By training rows", "training rows", metric) if curves else None,
        by_periods=_curve(curves.by_periods, "By training periods", "newest periods learned from", metric)
        if curves
        else None,
        by_age=_curve(curves.by_age, "By the champion’s age", "periods since it learned", metric, "champion")
        if curves
        else None,
    )


def _slice_order(found: SliceResult) -> tuple[int, float, str, str]:
    estimate = found.difference.estimate if found.difference else 0.0
    return (_SLICE_ORDER.get(found.finding, 3), estimate, found.column, found.value)


def _importance(found: Importance) -> float:
    known = found.candidate or found.champion
    return known[0] if known else 0.0


def _others(evaluation: Evaluation) -> list[Importance]:
    """Columns that only attributions know of."""
    known = {found.column for found in evaluation.importance}
    names = dict.fromkeys(one.column for found in evaluation.attributions for one in found.columns)
    return [Importance(column=name, champion=None, candidate=None) for name in names if name not in known]


def _attributed(found: Attributions) -> AttributionParts:
    return AttributionParts(
        found=found,
        name=words.METHOD_NAMES.get(found.method, found.method),
        meaning=words.METHOD_MEANINGS.get(found.method, ""),
        sizes={one.column: one.size for one in found.columns},
        scale=bars.scale([one.size for one in found.columns]),
        texts=tuple(map(_text, found.texts)),
    )


def _text(found: TextAttribution) -> ShownText:
    most = max((abs(token.value) for token in found.tokens), default=0.0) or 1.0
    tokens = tuple(
        Token(token.text, token.value, round(abs(token.value) / most, 2), token.joined) for token in found.tokens
    )
    strong = [token for token in tokens if token.strength >= MARKED]
    return ShownText(found, tokens, tuple(sorted(strong, key=lambda token: -token.strength)[:6]))


def _facts(view: UpdateView) -> list[tuple[str, str, str]]:
    """The few figures under the verdict: title, value, and what belongs to it."""
    found = []
    evaluation = view.evaluation
    difference = headline.key_difference(view)
    if difference:
        row_set, key = difference
        name = f"{words.metric_name(key.metric)} on {words.ROW_SETS[row_set]}"
        found.append((name, f"{words.number(key.champion)} → {words.number(key.candidate)}", "champion → candidate"))
        found.append(
            (
                "Difference",
                words.signed(key.difference.estimate) if key.difference else words.UNKNOWN,
                f"{words.level(key.confidence)} interval {words.signed(key.difference.low)} to "
                f"{words.signed(key.difference.high)}"
                if key.difference
                else "",
            )
        )
    elif evaluation:
        primary = _primary(evaluation)
        scores = evaluation.scores.get("candidate", {}).get(primary or "")
        if scores:
            spread = scores.intervals.get(evaluation.metric)
            found.append(
                (
                    f"{words.metric_name(evaluation.metric)} on {words.ROW_SETS.get(primary or '', primary)}",
                    words.number(scores.metrics.get(evaluation.metric)),
                    f"95 % interval {words.number(spread.low)} to {words.number(spread.high)}" if spread else "",
                )
            )
    if view.data:
        read = sum(period.read for period in view.data.periods) + view.data.undated
        refused = sum(period.quarantined for period in view.data.periods) + view.data.undated
        found.append(("Rows read", words.count(read), f"{words.count(refused)} refused"))
    if view.drift:
        drifted = sum(column.finding == "drift" for column in view.drift.columns if column.role == "feature")
        decays = view.drift.decay is not None and view.drift.decay.finding == "decay"
        moved = f"{words.plural(drifted, 'feature')} past the limit" + ("; the champion decays" if decays else "")
        found.append(("Drift", words.finding_word(view.drift.finding), moved))
    if view.release:
        found.append(
            (
                "Registered as",
                view.release.version or "not registered",
                "proposed in Git" if view.release.commit else "nothing proposed",
            )
        )
    return found


def update_page(view: UpdateView) -> str:
    """The update as one self-contained HTML page.

    Nothing is loaded, nothing runs: no script, no font, no picture from elsewhere. The same view always gives the
    same text. What is not known is said to be so.
    """
    drift: DriftParts | None = drift_parts(view.drift) if view.drift else None
    return render(
        "update.html",
        v=view,
        head=headline.headline(view),
        deciding=headline.deciding_reasons(view),
        facts=_facts(view),
        data=data_parts(view.data) if view.data else None,
        d=drift,
        e=evaluation_parts(view, view.evaluation) if view.evaluation else None,
        learned=[_training(result) for result in view.training if result.curve],
        took=words.elapsed(view.started, view.finished),
        many=MANY,
        drawn=DRAWN,
        meanings=words.ROW_SET_MEANINGS,
        row_sets=words.ROW_SETS,
        cases=words.CASES,
        fairness_names=words.FAIRNESS_NAMES,
        fairness_meanings=words.FAIRNESS_MEANINGS,
        lower_is_better=words.LOWER_IS_BETTER,
        params=_params,
    )


def _params(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items()))
