"""One model's metrics with intervals, and two models' differences on the same rows.

Counted metrics (accuracy, precision, recall, F1) are resampled (:mod:`upkeep.evaluation.resampling`): rows as joint
outcomes, groups whole. Log loss is a mean: with groups it is resampled with them, for rows its interval is Student's
t of the (paired) row losses. ROC AUC has no cheap sums; its interval comes from placement values: DeLong, DeLong &
Clarke-Pearson (Biometrics 44, 1988) for rows, summed within groups for groups (Obuchowski, Biometrics 53, 1997), with
t quantiles either way. More classes than two: the same of the mean of one-against-the-rest areas.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from upkeep.evaluation.answers import Rows
from upkeep.evaluation.metrics import (
    COMPARED,
    Codes,
    Floats,
    Margins,
    counted,
    number,
    placements,
    row_losses,
    scored_classes,
    sign,
)
from upkeep.evaluation.resampling import (
    LEAST_UNITS,
    MOST_UNITS,
    Resampled,
    Statistic,
    Units,
    around,
    cells,
    group_codes,
    resample,
)
from upkeep.evaluation.result import Difference, Interval, Paired, RowSet


class Sample:
    """Rows with the answers of one or two models, ready to be asked for metrics and intervals.

    With one model an interval is of its metric, with two of the second minus the first, in the better direction.
    Everything random follows from ``seed``.
    """

    def __init__(self, rows: Rows, models: Sequence[str], *, resamples: int, seed: int) -> None:
        self.rows = rows
        self.models = tuple(models)
        self.classes = len(rows.classes)
        self._resamples = resamples
        self._seed = seed

    @functools.cached_property
    def _grouping(self) -> tuple[npt.NDArray[np.intp], int, int] | None:
        return None if self.rows.groups is None else group_codes(self.rows.groups, self._seed)

    @property
    def groups(self) -> int | None:
        """How many groups the rows come from; None: rows stand for themselves."""
        return None if self._grouping is None else self._grouping[2]

    @functools.cached_property
    def _losses(self) -> list[Floats]:
        return [row_losses(self.rows.truth, self.rows.answers[model].probabilities) for model in self.models]

    @functools.cached_property
    def _resampled(self) -> Resampled:
        return resample(self._units(), self._resamples, self._seed)

    def _units(self) -> Units:
        """Sums of a unit: rows of each class; then for each model, answers and right answers of each class, loss."""
        if self._grouping is not None:
            return self._grouped_units(*self._grouping[:2])
        classes = self.classes
        joint = self.rows.truth.astype(np.intp)
        for model in self.models:
            joint = joint * classes + self.rows.answers[model].predicted

        def sums_of(outcomes: npt.NDArray[np.intp]) -> Floats:
            answers = []
            rest = outcomes
            for _ in self.models:
                rest, answer = np.divmod(rest, classes)
                answers.append(answer)
            one = np.eye(classes)
            columns = [one[rest]]
            for answer in reversed(answers):
                columns += [one[answer], one[answer] * (answer == rest)[:, None], np.zeros((len(outcomes), 1))]
            return np.concatenate(columns, axis=1)

        if classes ** (len(self.models) + 1) > MOST_UNITS and len(np.unique(joint)) > MOST_UNITS:
            return self._grouped_units(*group_codes(np.arange(len(joint)), self._seed)[:2])
        return cells(joint, sums_of)

    def _grouped_units(self, unit: npt.NDArray[np.intp], units: int) -> Units:
        classes = self.classes

        def count(codes: Codes, where: npt.NDArray[np.bool_] | None = None) -> Floats:
            joint = unit * classes + codes
            joint = joint if where is None else joint[where]
            return np.bincount(joint, minlength=units * classes).reshape(units, classes).astype(np.float64)

        truth = self.rows.truth
        columns = [count(truth)]
        for model, losses in zip(self.models, self._losses, strict=True):
            predicted = self.rows.answers[model].predicted
            columns += [
                count(predicted),
                count(predicted, predicted == truth),
                np.bincount(unit, weights=losses, minlength=units).astype(np.float64)[:, None],
            ]
        return Units(np.concatenate(columns, axis=1), np.ones(units, np.int64), columns[0].sum(axis=1))

    def _statistic(self, metric: str, position: int) -> Statistic:
        classes, positive = self.classes, self.rows.positive
        start = classes + position * (2 * classes + 1)

        def of(sums: Floats) -> Floats:
            truth = sums[..., :classes]
            if metric == "log_loss":
                with np.errstate(divide="ignore", invalid="ignore"):
                    mean: Floats = sums[..., start + 2 * classes] / truth.sum(axis=-1)
                return mean
            said, right = sums[..., start : start + classes], sums[..., start + classes : start + 2 * classes]
            return counted(metric, Margins(truth, said, right), positive)

        return of

    @functools.cached_property
    def _areas(self) -> list[tuple[float | None, Floats]]:
        return [_area(self.rows, model) for model in self.models]

    def value(self, metric: str, model: str) -> float | None:
        """The metric of one of the models; None where it is not defined."""
        position = self.models.index(model)
        if metric == "roc_auc":
            return self._areas[position][0]
        if not len(self.rows):
            return None
        if metric == "log_loss":
            return float(self._losses[position].mean())
        return number(self._statistic(metric, position)(self._resampled.total[None, :])[0])

    def interval(self, metric: str, confidence: float) -> Interval | None:
        """The metric's interval (one model) or its difference's (two); None: not defined, or too few units."""
        if len(self.rows) < LEAST_UNITS:
            return None
        if metric == "roc_auc":
            return self._area_interval(confidence)
        if metric == "log_loss" and self._grouping is None:
            values = self._losses[0] if len(self.models) == 1 else self._losses[0] - self._losses[1]
            error = float(values.std(ddof=1)) / math.sqrt(len(values))
            return around(float(values.mean()), error, confidence, len(values) - 1)
        if len(self.models) == 1:
            return self._resampled.interval(self._statistic(metric, 0), confidence)
        first, second = self._statistic(metric, 0), self._statistic(metric, 1)
        better = sign(metric)
        return self._resampled.interval(lambda sums: better * (second(sums) - first(sums)), confidence)

    def _area_interval(self, confidence: float) -> Interval | None:
        areas = [area for area, _ in self._areas]
        if any(area is None for area in areas):
            return None
        influences = [influence for _, influence in self._areas]
        one = len(areas) == 1
        estimate = float(areas[0] or 0) if one else float(areas[1] or 0) - float(areas[0] or 0)
        influence = influences[0] if one else influences[1] - influences[0]
        if self._grouping is None:
            return self._delong(estimate, influence, confidence)
        unit, units, _ = self._grouping
        if units < LEAST_UNITS:
            return None
        by_group = np.bincount(unit, weights=influence, minlength=units)
        sizes = np.bincount(unit, minlength=units).astype(np.float64)
        error = math.sqrt(units / (units - 1) * float(by_group @ by_group))
        return around(estimate, error, confidence, float(sizes.sum() ** 2 / (sizes @ sizes)) - 1)

    def _delong(self, estimate: float, influence: Floats, confidence: float) -> Interval | None:
        scored = scored_classes(self.rows.answers[self.models[0]].probabilities, self.rows.positive)
        if len(scored) > 1:
            rows = len(influence)
            return around(estimate, math.sqrt(rows / (rows - 1) * float(influence @ influence)), confidence, rows - 1)
        positive = self.rows.truth == scored[0][0]
        sides = [influence[positive], influence[~positive]]
        if min(len(side) for side in sides) < LEAST_UNITS:
            return None
        variance = sum(len(side) / (len(side) - 1) * float(side @ side) for side in sides)
        return around(estimate, math.sqrt(variance), confidence, min(len(side) for side in sides) - 1)

    def difference(self, metric: str, confidence: float) -> Difference:
        """Second minus first, as a record."""
        champion, candidate = (self.value(metric, model) for model in self.models)
        defined = champion is not None and candidate is not None
        return Difference(
            metric=metric,
            champion=champion,
            candidate=candidate,
            difference=self.interval(metric, confidence) if defined else None,
            confidence=confidence,
        )


def _area(rows: Rows, model: str) -> tuple[float | None, Floats]:
    """The ROC AUC, and what each row adds to its deviation: (placement - AUC) ÷ rows of its side."""
    areas, total = [], np.zeros(len(rows))
    for code, scores in scored_classes(rows.answers[model].probabilities, rows.positive):
        is_class = rows.truth == code
        positives = int(is_class.sum())
        if 0 < positives < len(rows):
            area, values = placements(is_class, scores)
            total += (values - area) / np.where(is_class, positives, len(rows) - positives)
            areas.append(area)
    return (float(np.mean(areas)), total / len(areas)) if areas else (None, total)


def mcnemar(only_first_right: int, only_second_right: int) -> float:
    """McNemar's exact two-sided p: a binomial test that either model is as often the only one that is right."""
    from scipy.stats import binomtest

    discordant = only_first_right + only_second_right
    return float(binomtest(only_first_right, discordant, 0.5).pvalue) if discordant else 1.0


def paired(
    rows: Rows,
    row_set: RowSet,
    *,
    confidence: float,
    resamples: int,
    seed: int,
    champion: str = "champion",
    candidate: str = "candidate",
    metrics: Sequence[str] = COMPARED,
) -> Paired:
    """Champion and candidate on the same rows: differences with intervals, and who was right where.

    ``mcnemar_p`` supposes independent rows, so it is None where rows come in groups.
    """
    sample = Sample(rows, (champion, candidate), resamples=resamples, seed=seed)
    right = {model: rows.answers[model].predicted == rows.truth for model in sample.models}
    both = int((right[champion] & right[candidate]).sum())
    only_champion = int(right[champion].sum()) - both
    only_candidate = int(right[candidate].sum()) - both
    return Paired(
        row_set=row_set,
        periods=rows.present,
        rows=len(rows),
        groups=sample.groups,
        differences=tuple(sample.difference(metric, confidence) for metric in metrics),
        both_right=both,
        only_champion_right=only_champion,
        only_candidate_right=only_candidate,
        both_wrong=len(rows) - both - only_champion - only_candidate,
        mcnemar_p=mcnemar(only_champion, only_candidate) if len(rows) and sample.groups is None else None,
    )
