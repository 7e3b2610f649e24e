"""One model on one set of rows, as a record."""

from __future__ import annotations

import numpy as np

from upkeep.evaluation.answers import Rows
from upkeep.evaluation.metrics import COMPARED, all_metrics, calibration, confusion_counts, roc_points
from upkeep.evaluation.paired import Sample
from upkeep.evaluation.result import Interval, Scores

CONFIDENCE = 0.95


def score(rows: Rows, model: str, *, resamples: int, seed: int, curves: bool = True) -> Scores:
    """Every metric of ``model`` on ``rows``, with intervals; without ``curves``, no calibration and no ROC points."""
    answers = rows.answers[model]
    confusion, _ = confusion_counts(rows.truth, answers.predicted, len(rows.classes))
    sample = Sample(rows, (model,), resamples=resamples, seed=seed)
    intervals = {metric: sample.interval(metric, CONFIDENCE) for metric in COMPARED}
    positive = rows.positive if rows.positive is not None else 1 if len(rows.classes) == 2 else None
    return Scores(
        rows=len(rows),
        positives=None if rows.positive is None else int((rows.truth == rows.positive).sum()),
        metrics=all_metrics(rows.truth, answers.predicted, answers.probabilities, confusion, rows.positive),
        intervals={name: _bounded(name, interval) for name, interval in intervals.items() if interval is not None},
        confusion=tuple(tuple(int(count) for count in line) for line in confusion),
        calibration=calibration(rows.truth, answers.predicted, answers.probabilities, rows.positive) if curves else (),
        roc=roc_points(rows.truth, answers.probabilities[:, positive], positive)
        if curves and positive is not None and len(rows.classes) == 2
        else (),
    )


def _bounded(metric: str, interval: Interval) -> Interval:
    """No share lies outside [0, 1], no loss below 0, whatever t says."""
    top = np.inf if metric == "log_loss" else 1.0
    low, high = max(interval.low, 0.0), min(interval.high, float(top))
    return Interval(estimate=interval.estimate, low=min(low, interval.estimate), high=max(high, interval.estimate))
