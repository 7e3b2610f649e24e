"""``retrain``: train anew, on all training rows or on a window of the newest periods."""

from __future__ import annotations

from typing import Any, NamedTuple

from upkeep.spec.model import Retrain
from upkeep.training.estimators import plain_params
from upkeep.training.fit import fit, make_pipeline, without_outliers
from upkeep.training.preprocessing import ESTIMATOR
from upkeep.training.rows import Rows, read_rows
from upkeep.training.search import search
from upkeep.training.task import TrainingTask, Trial


class Fitted(NamedTuple):
    """A fitted estimator that takes raw columns, and what it came from."""

    pipeline: Any
    params: dict[str, Any]
    rows: int
    periods: tuple[str, ...]
    trials: tuple[Trial, ...] = ()


def window(task: TrainingTask) -> tuple[str, ...]:
    """The newest ``window`` periods that have training rows, or all of them; oldest first."""
    assert isinstance(task.candidate, Retrain)
    periods = tuple(
        period for period in task.prepared.periods if task.prepared.count(parts=("train",), periods=[period])
    )
    return periods[-task.candidate.window :] if task.candidate.window else periods


def retrain(task: TrainingTask, notes: list[str]) -> Fitted:
    """Read the window's rows, search where the spec asks for it, and fit."""
    assert isinstance(task.candidate, Retrain)
    task.progress("reading training rows", 0.0)
    rows = without_outliers(task, read_rows(task.prepared, periods=window(task)), notes)
    params: dict[str, Any] = {}
    trials: tuple[Trial, ...] = ()
    if task.candidate.search is not None:
        params, trials = search(task, task.candidate.search, rows, notes)
    return fit_rows(task, rows, params, notes, trials)


def fit_rows(
    task: TrainingTask, rows: Rows, params: dict[str, Any], notes: list[str], trials: tuple[Trial, ...] = ()
) -> Fitted:
    """Fit the candidate's pipeline on these rows."""
    pipeline = make_pipeline(task, params)
    task.progress(f"learning from {len(rows):,} rows", 0.5 if trials else 0.1)
    fit(task, pipeline, rows, notes)
    return Fitted(
        pipeline,
        plain_params(pipeline.named_steps[ESTIMATOR]),
        len(rows),
        rows.period_names(task.prepared.periods),
        trials,
    )
