"""Train one candidate, whatever its strategy: a model folder, and the state that it may go on from."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from upkeep.errors import ModelError, Where
from upkeep.models.folder import BASE, SklearnPredictor, class_positions, load, save_sklearn
from upkeep.models.manifest import Predictor
from upkeep.spec.model import Custom, Ensemble, FineTune, Incremental, Retrain
from upkeep.training.custom import custom, fit_custom
from upkeep.training.ensemble import ensemble
from upkeep.training.fit import candidate_field, without_outliers
from upkeep.training.incremental import incremental, learn_anew
from upkeep.training.retrain import Fitted, fit_rows, retrain, window
from upkeep.training.rows import read_rows
from upkeep.training.task import Epoch, TrainingResult, TrainingTask, Trial

__all__ = ["TrainingResult", "TrainingTask", "Trial", "refit", "train"]

SAMPLE_ROWS = 256
"""Rows on which a model that was just written must answer as it did before."""
NETWORK_TOLERANCE = 1e-4
"""Of float32, when low-rank adapters are merged into the weights."""


def train(task: TrainingTask, out: Path, state_out: Path) -> TrainingResult:
    """Train ``task.candidate`` on training rows alone, and write the model to ``out``, which must be new or empty.

    ``state_out``: the candidate's new state, for :attr:`TrainingTask.state` of the next update; only incremental and
    fine_tune candidates leave one. The same task gives the same bytes in both. Raises :class:`SpecError` for
    parameters the estimator does not take, :class:`DataError` where the rows teach nothing, :class:`ModelError` where
    the candidate fails or what was written does not answer as what was trained.
    """
    started = time.process_time()
    notes: list[str] = []
    warm = False
    curve: tuple[Epoch, ...] = ()
    if isinstance(task.candidate, Ensemble):
        params, rows = ensemble(task, notes, out)
        fitted = Fitted(None, params, rows, task.prepared.periods)
        load(out, allowed=task.spec.estimators)
    elif isinstance(task.candidate, FineTune):
        from upkeep.models.keras_folder import write_delta, write_keras  # TensorFlow is an extra
        from upkeep.training.keras.distribute import on_devices
        from upkeep.training.keras.fine_tune import fine_tune, require_tensorflow

        require_tensorflow(task)
        with on_devices(task.candidate.devices):
            tuned = fine_tune(task, notes, state_out)
        fitted = Fitted(None, tuned.params, tuned.rows, tuned.periods, tuned.trials)
        warm, curve = tuned.warm, tuned.curve
        if task.candidate.keep == "delta":
            write_delta(out, tuned.data, state_out / BASE, task.manifest())
            shutil.copytree(state_out / BASE, out / BASE)
        else:
            write_keras(out, tuned.data, task.manifest())
        _verify(task, tuned.predictor, out, tolerance=NETWORK_TOLERANCE)
    else:
        if isinstance(task.candidate, Retrain):
            fitted = retrain(task, notes)
        elif isinstance(task.candidate, Incremental):
            fitted, warm = incremental(task, notes, state_out)
        else:
            fitted = custom(task, notes)
        save_sklearn(out, fitted.pipeline, task.manifest())
        positions = class_positions(fitted.pipeline, task.manifest().classes, Where())
        _verify(task, SklearnPredictor(task.manifest(), fitted.pipeline, positions), out, tolerance=1e-12)
    task.progress("trained", 1.0)
    return TrainingResult(
        candidate=task.candidate.name,
        strategy=task.candidate.strategy,
        params=fitted.params,
        seed=task.seed,
        rows=fitted.rows,
        periods=fitted.periods,
        seconds=time.process_time() - started,
        trials=fitted.trials,
        warm_started=warm,
        curve=curve,
        notes=tuple(notes),
    )


def refit(
    task: TrainingTask,
    *,
    params: dict[str, Any] | None = None,
    periods: tuple[str, ...] | None = None,
    fraction: float = 1.0,
) -> tuple[Predictor, int] | None:
    """The same kind of candidate, trained from nothing on fewer training rows, in memory: a point of a learning curve.
    Also how many rows it learned from.

    ``periods``: of these only (None: the candidate's own window); ``fraction``: of the split groups. ``params`` of
    an earlier search, used in place of another search. An incremental candidate learns all these rows at once.
    None for an ensemble: its members would have to be trained too.
    """
    if isinstance(task.candidate, Ensemble):
        return None
    notes: list[str] = []
    if isinstance(task.candidate, FineTune):
        from upkeep.training.keras.fine_tune import tune_anew

        searched = {name: (params or {})[name] for name in _space(task.candidate) if name in (params or {})}
        return tune_anew(task, searched, periods=periods, fraction=fraction, notes=notes)
    if periods is None and isinstance(task.candidate, Retrain):
        periods = window(task)
    rows = read_rows(task.prepared, periods=periods, fraction=fraction)
    if isinstance(task.candidate, Custom):
        pipeline = fit_custom(task, rows, notes).pipeline
    elif isinstance(task.candidate, Incremental):
        pipeline = learn_anew(replace(task, state=None), rows, notes)
    else:
        searched = {name: (params or {})[name] for name in _space(task.candidate) if name in (params or {})}
        pipeline = fit_rows(task, without_outliers(task, rows, notes), searched, notes).pipeline
    manifest = task.manifest()
    positions = class_positions(pipeline, manifest.classes, Where(field=candidate_field(task)))
    return SklearnPredictor(manifest, pipeline, positions), len(rows)


def _space(candidate: Retrain | FineTune) -> tuple[str, ...]:
    return tuple(candidate.search.space) if candidate.search else ()


def _verify(task: TrainingTask, trained: Predictor, out: Path, *, tolerance: float) -> None:
    """What was written loads by our allow-list, and answers as what was trained."""
    written = load(out, allowed=task.spec.estimators)
    names = [column.name for column in task.columns]
    batch = next(task.prepared.batches(parts=("train",), columns=names, batch_rows=SAMPLE_ROWS))
    rows = pa.Table.from_batches([batch])
    if not np.allclose(written.predict_proba(rows), trained.predict_proba(rows), rtol=0, atol=tolerance):
        raise ModelError(
            f"{task.candidate.name} answers otherwise after it was written and loaded again",
            where=Where(field=candidate_field(task)),
            fix="the model keeps something that its file does not; choose another",
        )
