"""``custom``: the user's own function makes the estimator, and is held to the same contract as everyone.

The function takes one :class:`CustomTask` and returns a fitted scikit-learn classifier::

    def make(task: CustomTask) -> Pipeline:
        model = task.pipeline(RandomForestClassifier(random_state=task.seed, **task.params))
        return model.fit(task.X, task.y)

What it returns must take a ``pandas.DataFrame`` of the raw columns (nulls and unseen categories too), have
``predict_proba``, and answer with labels of the data. Its own classes and functions, if any, must be importable and
listed in the spec's ``estimators``, since nothing else is loaded again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from upkeep.data.kinds import Column
from upkeep.errors import ModelError, SpecError, UpkeepError, Where
from upkeep.models.folder import class_positions
from upkeep.models.skops_file import resolve
from upkeep.spec.model import Custom, Label, Preprocess
from upkeep.training.estimators import plain_params, plain_value
from upkeep.training.fit import candidate_field, telling
from upkeep.training.preprocessing import build_pipeline
from upkeep.training.retrain import Fitted
from upkeep.training.rows import Rows, labels, read_rows, require_two_classes
from upkeep.training.task import Progress, TrainingTask


@dataclass(frozen=True, kw_only=True)
class CustomTask:
    """What a custom function is given: training rows and nothing else."""

    X: Any
    """``pandas.DataFrame`` of the raw feature columns: numeric float64, categorical object (str, NaN for null),
    datetime datetime64[us, UTC]."""
    y: npt.NDArray[Any]
    """The labels, str, bool or int64, shape (rows,)."""
    groups: npt.NDArray[np.uint64]
    """The split key's hash, shape (rows,): rows of one group belong on one side of any split of your own."""
    periods: npt.NDArray[np.object_]
    """Each row's period, shape (rows,)."""
    columns: tuple[Column, ...]
    classes: tuple[Label, ...]
    positive: Label | None
    params: dict[str, Any]
    """The candidate's ``params``."""
    seed: int
    """Use it for everything random: the same inputs must give the same model."""
    preprocess: Preprocess
    progress: Progress

    def pipeline(self, estimator: Any) -> Any:
        """An unfitted Pipeline of the spec's own preprocessing and ``estimator``, from raw columns on."""
        return build_pipeline(self.columns, self.preprocess, estimator, seed=self.seed)


def custom(task: TrainingTask, notes: list[str]) -> Fitted:
    """Call the function on all training rows, and check what comes back."""
    task.progress("reading training rows", 0.0)
    return fit_custom(task, read_rows(task.prepared), notes)


def fit_custom(task: TrainingTask, rows: Rows, notes: list[str]) -> Fitted:
    """Call the function on these rows. Raises :class:`ModelError` when what it does breaks the contract."""
    assert isinstance(task.candidate, Custom)
    summary, name = task.prepared.summary, task.candidate.function
    where = Where(field=f"{candidate_field(task)}.function")
    require_two_classes(rows, summary.classes, task.candidate.name)
    try:
        function = resolve(name)
    except ModelError as error:
        fix = "correct the path, and install the package or put its folder on PYTHONPATH"
        raise SpecError(error.problems[0].message, where=where, fix=fix) from error
    given = CustomTask(
        X=rows.frame,
        y=labels(summary.classes, rows.codes),
        groups=rows.groups,
        periods=rows.periods,
        columns=task.columns,
        classes=summary.classes,
        positive=summary.positive,
        params=dict(task.candidate.params),
        seed=task.seed,
        preprocess=task.spec.preprocess,
        progress=task.progress,
    )
    task.progress(f"{name} learns from {len(rows):,} rows", 0.1)
    with telling(task, notes):
        try:
            estimator = function(given)
        except UpkeepError:
            raise
        except Exception as error:
            raise ModelError(
                f"{name} failed: {type(error).__name__}: {str(error)[:300]}",
                where=where,
                fix="correct the function; call it in a test of your own with an upkeep.training.custom.CustomTask",
            ) from error
    if estimator is None or isinstance(estimator, type) or not hasattr(estimator, "fit"):
        raise ModelError(
            f"{name} returned a {type(estimator).__name__}, not a fitted scikit-learn estimator",
            where=where,
            fix="end the function with: return pipeline.fit(task.X, task.y)",
        )
    if not hasattr(estimator, "classes_"):
        raise ModelError(
            f"{name} returned an estimator that is not fitted, or no classifier", where=where, fix="fit it"
        )
    class_positions(estimator, summary.classes, where)
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    shown = plain_params(last) if hasattr(last, "get_params") else {}
    params = {**shown, **{key: plain_value(value) for key, value in task.candidate.params.items()}}
    return Fitted(estimator, params, len(rows), rows.period_names(task.prepared.periods))
