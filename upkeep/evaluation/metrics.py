"""Quality of answers: counts in one pass, and every metric from counts, probabilities or ranks.

Classes are codes: 0 … classes - 1, in the order of ``Evaluation.classes``, as unsigned integers (uint8 or uint16).
``positive`` is the code of the positive class: precision, recall, F1, ROC AUC, Brier score and calibration are then
of that class against the rest. Without it they are averages over the classes (macro), as in scikit-learn.
A metric that is not defined on the rows at hand is None (NaN inside arrays), never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]

COUNTED = ("accuracy", "precision", "recall", "f1")
"""Metrics that follow from how often each class was, was said, and was said rightly."""
COMPARED = (*COUNTED, "roc_auc", "log_loss")
"""The metrics that have intervals and differences; the gate's metric is one of them."""
LOWER_IS_BETTER = ("log_loss",)

CLIP = float(np.finfo(np.float64).eps)
"""Probabilities are clipped to [CLIP, 1] before the logarithm (scikit-learn's epsilon for float64)."""
BINS = 10
"""Calibration: bins of equal width over [0, 1]."""
ROC_POINTS = 200
_CHUNK = 1 << 15  # rows at a time: the int64 scratch of a chunk stays in the processor's cache


def sign(metric: str) -> float:
    """+1 where more is better, -1 for log_loss: what turns a difference into the better direction."""
    return -1.0 if metric in LOWER_IS_BETTER else 1.0


def code_type(values: int) -> type[np.uint8] | type[np.uint16] | type[np.uint32]:
    """The smallest unsigned type for codes 0 … values - 1."""
    return np.uint8 if values <= 1 << 8 else np.uint16 if values <= 1 << 16 else np.uint32


def confusion_counts(
    truth: Codes, predicted: Codes, classes: int, slices: Sequence[tuple[Codes, int]] = ()
) -> tuple[npt.NDArray[np.int64], list[npt.NDArray[np.int64]]]:
    """Confusion counts of all rows, and of every value of every slice column, in one pass.

    ``truth`` and ``predicted``: codes, shape (rows,). ``slices``: for each slice column its codes, shape (rows,), and
    how many values it has. Returns counts[true, predicted], shape (classes, classes), and for each slice column
    counts[value, true, predicted], shape (values, classes, classes). Scratch memory does not grow with the rows.
    Raises ``ValueError`` when a code is out of range or lengths differ.
    """
    rows = len(truth)
    cells = classes * classes
    for codes, values in [(truth, classes), (predicted, classes), *slices]:
        if len(codes) != rows:
            raise ValueError(f"{len(codes)} codes for {rows} rows")
        if rows and (int(codes.max()) >= values or int(codes.min()) < 0):
            raise ValueError(f"a code lies outside 0 … {values - 1}")
    whole = np.zeros(cells, np.int64)
    by_slice = [np.zeros(values * cells, np.int64) for _, values in slices]
    answer = np.empty(min(_CHUNK, rows), np.intp)
    combined = np.empty_like(answer)
    for start in range(0, rows, _CHUNK):
        stop = min(start + _CHUNK, rows)
        size = stop - start
        np.multiply(truth[start:stop], classes, out=answer[:size], casting="unsafe", dtype=np.intp)
        np.add(answer[:size], predicted[start:stop], out=answer[:size], casting="unsafe", dtype=np.intp)
        if not slices:
            whole += np.bincount(answer[:size], minlength=cells)
        for (codes, values), counts in zip(slices, by_slice, strict=True):
            np.multiply(codes[start:stop], cells, out=combined[:size], casting="unsafe", dtype=np.intp)
            np.add(combined[:size], answer[:size], out=combined[:size])
            np.add(counts, np.bincount(combined[:size], minlength=values * cells), out=counts)
    shaped = [counts.reshape(values, classes, classes) for (_, values), counts in zip(slices, by_slice, strict=True)]
    return (shaped[0].sum(axis=0) if shaped else whole.reshape(classes, classes)), shaped


@dataclass(frozen=True)
class Margins:
    """What the counted metrics need of a confusion matrix; leading axes (resamples, groups, slices) are free."""

    truth: Floats
    """Rows of each class, shape (…, classes)."""
    said: Floats
    """Rows answered as each class, shape (…, classes)."""
    right: Floats
    """Rows answered rightly as each class, shape (…, classes)."""

    @staticmethod
    def of(confusion: npt.NDArray[Any]) -> Margins:
        """From counts[…, true, predicted]."""
        counts = np.asarray(confusion, np.float64)
        return Margins(counts.sum(axis=-1), counts.sum(axis=-2), np.diagonal(counts, axis1=-2, axis2=-1))


def _ratio(top: Floats, bottom: Floats) -> Floats:
    result = np.full(np.broadcast(top, bottom).shape, np.nan)
    np.divide(top, bottom, out=result, where=bottom > 0)
    return result


def counted(metric: str, margins: Margins, positive: int | None) -> Floats:
    """One of :data:`COUNTED` for each leading index of ``margins``; NaN where it is not defined.

    Precision is not defined where nothing was answered as the class, recall where no row is of it, F1 where neither.
    A macro average runs over the classes that occur as truth or as answer; a class whose own ratio is not defined
    counts 0 there (scikit-learn's ``zero_division=0``), or a model could gain by never naming a hard class.
    """
    if metric == "accuracy":
        return _ratio(margins.right.sum(axis=-1), margins.truth.sum(axis=-1))
    if metric not in COUNTED:
        raise ValueError(f"{metric} does not follow from counts")
    top = 2 * margins.right if metric == "f1" else margins.right
    bottom = {"precision": margins.said, "recall": margins.truth, "f1": margins.said + margins.truth}[metric]
    if positive is not None:
        return _ratio(top[..., positive], bottom[..., positive])
    occurs = (margins.truth + margins.said) > 0
    return _ratio(np.nan_to_num(_ratio(top, bottom)).sum(axis=-1), occurs.sum(axis=-1).astype(np.float64))


def number(value: Any) -> float | None:
    """``value`` as a float; None for None, NaN and infinity."""
    return float(value) if value is not None and math.isfinite(value) else None


def placements(positive: npt.NDArray[np.bool_], scores: npt.NDArray[Any]) -> tuple[float, Floats]:
    """The ROC AUC, and each row's placement value: the share of the other class that it is ranked rightly against.

    Mid-ranks, so that ties count one half (Mann–Whitney). NaN and zeros when a class is missing. O(n log n): Sun & Xu,
    "Fast Implementation of DeLong's Algorithm", IEEE Signal Processing Letters 21(11), 2014.
    """
    from scipy.stats import rankdata

    positives = int(positive.sum())
    negatives = len(positive) - positives
    values = np.zeros(len(positive))
    if not positives or not negatives:
        return math.nan, values
    overall = rankdata(scores)
    values[positive] = (overall[positive] - rankdata(scores[positive])) / negatives
    values[~positive] = 1 - (overall[~positive] - rankdata(scores[~positive])) / positives
    return float(values[positive].mean()), values


def scored_classes(probabilities: npt.NDArray[Any], positive: int | None) -> list[tuple[int, npt.NDArray[Any]]]:
    """Which classes the ROC AUC is of, each with its scores: the positive one, or all (the second of two)."""
    if positive is not None:
        return [(positive, probabilities[:, positive])]
    if probabilities.shape[1] == 2:
        return [(1, probabilities[:, 1])]
    return [(code, probabilities[:, code]) for code in range(probabilities.shape[1])]


def roc_auc(truth: Codes, probabilities: npt.NDArray[Any], positive: int | None) -> float | None:
    """The area under the ROC curve; for more classes the mean of one against the rest, over the classes that occur.

    ``probabilities``: shape (rows, classes). None when no class is there together with another.
    """
    areas = []
    for code, scores in scored_classes(probabilities, positive):
        is_class = truth == code
        if is_class.any() and not is_class.all():
            areas.append(placements(is_class, scores)[0])
    return float(np.mean(areas)) if areas else None


def row_losses(truth: Codes, probabilities: npt.NDArray[Any]) -> Floats:
    """Each row's log loss: minus the natural logarithm of the true class's probability, clipped from below."""
    chosen = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    losses: Floats = -np.log(np.clip(chosen, CLIP, 1.0))
    return losses


def brier(truth: Codes, probabilities: npt.NDArray[Any], positive: int | None) -> float | None:
    """The Brier score: of the positive class in [0, 1]; without one, summed over the classes, halved for two."""
    if not len(truth):
        return None
    if positive is not None:
        return float(np.mean((probabilities[:, positive] - (truth == positive)) ** 2))
    total = sum(
        float(np.sum((probabilities[:, code] - (truth == code)) ** 2)) for code in range(probabilities.shape[1])
    )
    return total / len(truth) / (2 if probabilities.shape[1] == 2 else 1)


def calibration(
    truth: Codes, predicted: Codes, probabilities: npt.NDArray[Any], positive: int | None
) -> tuple[tuple[float, float, int], ...]:
    """(mean probability, observed share, rows) of each of ten bins of equal width that has rows.

    Of the positive class; without one, of the answer given (top-label: Guo et al., ICML 2017).
    """
    if not len(truth):
        return ()
    if positive is not None:
        scores, outcome = probabilities[:, positive], truth == positive
    else:
        scores, outcome = probabilities[np.arange(len(truth)), predicted], truth == predicted
    bins = np.minimum((scores * BINS).astype(np.intp), BINS - 1)
    rows = np.bincount(bins, minlength=BINS)
    means = np.bincount(bins, weights=scores, minlength=BINS)
    shares = np.bincount(bins, weights=outcome, minlength=BINS)
    return tuple((float(means[i] / rows[i]), float(shares[i] / rows[i]), int(rows[i])) for i in range(BINS) if rows[i])


def expected_calibration_error(bins: Sequence[tuple[float, float, int]]) -> float | None:
    """The mean distance of probability and observed share over bins, weighted by rows (Naeini et al., AAAI 2015)."""
    rows = sum(size for _, _, size in bins)
    return sum(abs(mean - share) * size for mean, share, size in bins) / rows if rows else None


def roc_points(truth: Codes, scores: npt.NDArray[Any], positive: int) -> tuple[tuple[float, float, float], ...]:
    """(false-positive rate, true-positive rate, threshold) from (0, 0) to (1, 1), at most 200 points.

    A row is answered as positive when its score is at or above the threshold; the first threshold lies just above 1.
    Empty when a class is missing.
    """
    is_positive = truth == positive
    positives = int(is_positive.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return ()
    order = np.argsort(-scores, kind="stable")
    sorted_scores = scores[order]
    hits = np.cumsum(is_positive[order])
    ends = np.append(np.flatnonzero(np.diff(sorted_scores)), len(truth) - 1)  # last row of each distinct score
    if len(ends) > ROC_POINTS - 1:
        ends = ends[np.linspace(0, len(ends) - 1, ROC_POINTS - 1).round().astype(np.intp)]
    points = [(0.0, 0.0, math.nextafter(1.0, 2.0))]
    points += [
        (float((end + 1 - hits[end]) / negatives), float(hits[end] / positives), float(sorted_scores[end]))
        for end in ends
    ]
    return tuple(points)


def all_metrics(
    truth: Codes, predicted: Codes, probabilities: npt.NDArray[Any], confusion: npt.NDArray[Any], positive: int | None
) -> dict[str, float | None]:
    """Every metric of ``Scores.metrics``. ``probabilities``: shape (rows, classes); ``confusion``: of the same rows."""
    margins = Margins.of(confusion)
    result: dict[str, float | None] = {name: number(counted(name, margins, positive)) for name in COUNTED}
    result["roc_auc"] = roc_auc(truth, probabilities, positive)
    result["log_loss"] = float(row_losses(truth, probabilities).mean()) if len(truth) else None
    result["brier"] = brier(truth, probabilities, positive)
    result["expected_calibration_error"] = expected_calibration_error(
        calibration(truth, predicted, probabilities, positive)
    )
    return result
