"""``incremental``: go on with ``partial_fit`` from where this candidate last stood.

Its state is that of :mod:`upkeep.training.state`, and ``pipeline.skops``: the fitted pipeline, optimizer and all.

Only rows it has not learned yet are new, whichever file or period brings them. The preprocessing is fitted once, on
the rows of the first time, and stays as it was: to learn new categories and scales, train anew. A state that no longer
fits (other columns, classes or parameters, or learned rows that are held out by now or equal one that is) is left, and
the candidate starts anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from upkeep.errors import SpecError, UpkeepError, Where
from upkeep.models import skops_file
from upkeep.spec.model import Incremental
from upkeep.training.estimators import plain_params
from upkeep.training.fit import candidate_field, make_pipeline, telling, without_outliers
from upkeep.training.preprocessing import ESTIMATOR, FEATURES
from upkeep.training.retrain import Fitted
from upkeep.training.rows import Rows, labels, read_rows, require_two_classes
from upkeep.training.state import Hashes, State, settings_digest, take_up, write_state
from upkeep.training.task import TrainingTask

PIPELINE = "pipeline.skops"


def incremental(task: TrainingTask, notes: list[str], state_out: Path) -> tuple[Fitted, bool]:
    """Learn the new rows, and leave the new state in ``state_out``; with whether it went on from an old one."""
    assert isinstance(task.candidate, Incremental)
    task.progress("reading training rows", 0.0)
    rows = read_rows(task.prepared)
    pipeline, state, learned = _continue(task, notes)
    new = ~np.isin(rows.keys, learned)
    warm = pipeline is not None
    if pipeline is None:
        pipeline = learn_anew(task, rows, notes)
    elif new.any():
        chosen = without_outliers(task, rows.take(new), notes)
        with telling(task, notes):
            _learn(task, pipeline, _with_rehearsal(task, rows, chosen, ~new, state.rounds), state.rounds)
    else:
        notes.append("there are no new rows to learn from; it goes on as it was")
    learned = np.union1d(learned, rows.keys[new])
    periods = dict.fromkeys((*state.periods, *rows.take(new).period_names(task.prepared.periods)))
    state = State(
        settings=state.settings,
        rounds=state.rounds + (1 if new.any() else 0),
        periods=tuple(periods),
    )
    write_state(state_out, state, learned)
    (state_out / PIPELINE).write_bytes(skops_file.dump(pipeline))
    params = plain_params(pipeline.named_steps[ESTIMATOR])
    return Fitted(pipeline, params, len(learned), state.periods), warm


def learn_anew(task: TrainingTask, rows: Rows, notes: list[str]) -> Any:
    """A pipeline that has learned these rows and nothing before: preprocessing fitted, then ``partial_fit``."""
    pipeline = make_pipeline(task, {})
    _require_partial_fit(task, pipeline)
    rows = without_outliers(task, rows, notes)
    require_two_classes(rows, task.prepared.summary.classes, task.candidate.name)
    with telling(task, notes):
        _fit_features(pipeline, rows)
        _learn(task, pipeline, (rows,), 0)
    return pipeline


def _continue(task: TrainingTask, notes: list[str]) -> tuple[Any | None, State, Hashes]:
    """The pipeline, state and learned rows to go on from; no pipeline: it starts anew, and why is noted."""
    assert isinstance(task.candidate, Incremental)
    settings = settings_digest(task, [task.candidate.estimator, task.candidate.params])
    fresh = State(settings=settings, rounds=0, periods=()), np.zeros(0, dtype=np.uint64)
    found = take_up(task, settings, notes)
    if found is None or task.state is None:
        return None, *fresh
    try:
        pipeline = skops_file.load(task.state / PIPELINE, allowed=task.spec.estimators)
    except UpkeepError as error:
        notes.append(f"it started anew: its last state cannot be loaded ({error.problems[0].message[:200]})")
        return None, *fresh
    return pipeline, *found


def _require_partial_fit(task: TrainingTask, pipeline: Any) -> None:
    estimator = pipeline.named_steps[ESTIMATOR]
    if not hasattr(estimator, "partial_fit"):
        raise SpecError(
            f"{type(estimator).__name__} has no partial_fit: it cannot go on from where it stood",
            where=Where(field=f"{candidate_field(task)}.estimator"),
            fix="use strategy: retrain, or an estimator such as sklearn.linear_model.SGDClassifier",
        )


def _fit_features(pipeline: Any, rows: Rows) -> None:
    if pipeline.named_steps[FEATURES] != "passthrough":
        pipeline.named_steps[FEATURES].fit(rows.frame)


def _with_rehearsal(
    task: TrainingTask, rows: Rows, new: Rows, old: npt.NDArray[np.bool_], rounds: int
) -> tuple[Rows, ...]:
    """The new rows, and beside them a seeded sample of old ones: ``rehearsal`` × as many as there are new."""
    assert isinstance(task.candidate, Incremental)
    known = np.flatnonzero(old)
    count = min(len(known), round(task.candidate.rehearsal * len(new)))
    if count == 0:
        return (new,)
    rng = np.random.default_rng([task.seed, rounds, 0x2E4EA25])
    return new, rows.take(np.sort(rng.choice(known, count, replace=False)))


def _learn(task: TrainingTask, pipeline: Any, lesson: tuple[Rows, ...], rounds: int) -> None:
    """``epochs`` passes of ``partial_fit`` over the lesson, shuffled anew for each, in batches."""
    assert isinstance(task.candidate, Incremental)
    import pandas as pd

    candidate, classes = task.candidate, task.prepared.summary.classes
    frame = pd.concat([part.frame for part in lesson], ignore_index=True)
    y = labels(classes, np.concatenate([part.codes for part in lesson]))
    features, estimator = pipeline.named_steps[FEATURES], pipeline.named_steps[ESTIMATOR]
    X = frame if features == "passthrough" else features.transform(frame)
    known = np.unique(np.array(list(classes)))
    for epoch in range(candidate.epochs):
        order = np.random.default_rng([task.seed, rounds, epoch]).permutation(len(y))
        for start in range(0, len(order), candidate.batch_rows):
            batch = order[start : start + candidate.batch_rows]
            rows = X.iloc[batch] if features == "passthrough" else X[batch]
            estimator.partial_fit(rows, y[batch], classes=known)
        task.progress(f"learning from {len(y):,} rows", (epoch + 1) / candidate.epochs)
