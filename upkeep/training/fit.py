"""Fit a pipeline, and tell what goes wrong in the spec's words."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from upkeep.errors import ModelError, SpecError, UpkeepError, Where
from upkeep.spec.model import Incremental, Retrain
from upkeep.training.estimators import make_estimator
from upkeep.training.preprocessing import build_pipeline, inlier_rows
from upkeep.training.rows import Rows, labels, require_two_classes
from upkeep.training.task import TrainingTask


def candidate_field(task: TrainingTask) -> str:
    """Where the candidate stands in the spec: ``candidates[boosting]``."""
    return f"candidates[{task.candidate.name}]"


def make_pipeline(task: TrainingTask, params: dict[str, Any]) -> Any:
    """The candidate's unfitted pipeline with ``params`` over the spec's own."""
    assert isinstance(task.candidate, Retrain | Incremental)
    estimator = make_estimator(
        task.candidate.estimator,
        {**task.candidate.params, **params},
        seed=task.seed,
        allowed=task.spec.estimators,
        where=candidate_field(task),
    )
    return build_pipeline(task.columns, task.spec.preprocess, estimator, seed=task.seed)


def without_outliers(task: TrainingTask, rows: Rows, notes: list[str]) -> Rows:
    """The rows that stay under ``outliers: {action: drop}``; how many went is noted."""
    inside = inlier_rows(rows.frame, task.columns, task.spec.preprocess, seed=task.seed)
    if inside is None or inside.all():
        return rows
    notes.append(f"{int((~inside).sum())} of {len(rows)} training rows were dropped as outliers")
    return rows.take(inside)


def fit(task: TrainingTask, pipeline: Any, rows: Rows, notes: list[str]) -> Any:
    """The pipeline, fitted on ``rows``. Raises :class:`DataError` where there is nothing to tell apart."""
    classes = task.prepared.summary.classes
    require_two_classes(rows, classes, task.candidate.name)
    with telling(task, notes):
        return pipeline.fit(rows.frame, labels(classes, rows.codes))


@contextmanager
def telling(task: TrainingTask, notes: list[str]) -> Iterator[None]:
    """What scikit-learn warns of becomes a note, what it refuses an error that names the spec's key."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except UpkeepError:
            raise
        except MemoryError as error:
            raise ModelError(
                "there is not enough memory to train this candidate",
                where=Where(field=candidate_field(task)),
                fix="narrow its window, lower preprocess.max_categories, or use strategy: incremental",
            ) from error
        except (ValueError, TypeError, AttributeError, ArithmeticError, LookupError) as error:
            raise _refusal(task, error) from error
        finally:
            for warning in caught:
                note = f"{warning.category.__name__}: {' '.join(str(warning.message).split())[:300]}"
                if note not in notes:
                    notes.append(note)


def _refusal(task: TrainingTask, error: Exception) -> UpkeepError:
    from sklearn.utils._param_validation import InvalidParameterError

    where = Where(field=candidate_field(task))
    message = " ".join(str(error).split())[:400]
    if isinstance(error, InvalidParameterError):
        return SpecError(message, where=where, fix="correct the candidate's params")
    if "NaN" in message or "missing values" in message:
        return ModelError(
            f"{task.candidate.name}: the estimator does not take nulls: {message}",
            where=where,
            fix="set preprocess.impute_numeric: median, or choose an estimator that takes nulls "
            "(HistGradientBoostingClassifier)",
        )
    return ModelError(
        f"{task.candidate.name} cannot be trained: {message}",
        where=where,
        fix="check the candidate's params against the estimator's own page, and the preprocess section",
    )
