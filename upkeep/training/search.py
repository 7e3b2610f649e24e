"""A search for parameters with Optuna, within a budget, on training rows alone."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from upkeep.errors import DataError, ModelError, UpkeepError, Where
from upkeep.models.folder import class_positions
from upkeep.spec.model import Label, MetricName, Search, SearchSpace
from upkeep.training.estimators import plain_value
from upkeep.training.fit import candidate_field, fit, make_pipeline, telling
from upkeep.training.rows import Rows
from upkeep.training.task import TrainingTask, Trial

MAX_ROWS = 50_000
"""Trials see at most this many rows, drawn by seed; the candidate itself is then trained on all."""

Metric = Callable[[npt.NDArray[np.int64], npt.NDArray[np.float64]], float | None]
Folds = list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]
Report = Callable[[int, float], None]
"""``report(step, score)`` while a trial goes on: ends it where it is worse than half of those before at that step."""
CrossValidate = Callable[[TrainingTask, dict[str, Any], Rows, Folds, Metric, Report], float | None]
"""The mean score of one set of parameters over the folds; None: not defined on any."""


def search(
    task: TrainingTask,
    settings: Search,
    rows: Rows,
    notes: list[str],
    *,
    cross_validate: CrossValidate | None = None,
) -> tuple[dict[str, Any], tuple[Trial, ...]]:
    """The best parameters found, and every trial. ``cross_validate``: by default, fits the candidate's pipeline.

    TPE (Bergstra et al., NeurIPS 2011), seeded, scored by the gate's metric over :func:`make_folds`. Within the
    budget of trials the outcome depends on the inputs alone; where the seconds run out first, on the machine too, and
    a note says so. Raises :class:`ModelError` when no trial succeeds.
    """
    import optuna

    rng = np.random.default_rng([task.seed, 0x5EA6C4])
    if len(rows) > MAX_ROWS:
        notes.append(f"the search looked at {MAX_ROWS:,} of {len(rows):,} training rows")
        rows = rows.take(np.sort(rng.choice(len(rows), MAX_ROWS, replace=False)))
    folds = make_folds(rows, settings.folds)
    summary = task.prepared.summary
    metric = metric_of(task.spec.gate.better.metric, summary.classes, summary.positive)
    maximize = task.spec.gate.better.metric != "log_loss"
    trials: list[Trial] = []

    def objective(trial: Any) -> float:
        params = {name: _suggest(trial, name, space) for name, space in settings.space.items()}
        started = time.process_time()

        def report(step: int, score: float) -> None:
            trial.report(score, step)
            if trial.should_prune():
                raise optuna.TrialPruned("it was ended early: worse than half of the trials before it")

        try:
            score, failed = (cross_validate or _cross_validate)(task, params, rows, folds, metric, report), ""
        except optuna.TrialPruned as error:
            score, failed = None, str(error)
        except UpkeepError as error:
            score, failed = None, error.problems[0].message
        seconds = time.process_time() - started
        shown = {name: plain_value(value) for name, value in params.items()}
        trials.append(Trial(number=trial.number, params=shown, score=score, seconds=seconds, failed=failed))
        trial.set_user_attr("params", params)
        task.progress(f"search: trial {trial.number + 1} of {settings.trials}", 0.5 * len(trials) / settings.trials)
        if score is None:
            raise optuna.TrialPruned(failed)
        return score

    ends = time.monotonic() + settings.seconds

    def stop_in_time(study: Any, _: Any) -> None:  # optuna's own timeout may end before the first trial
        if time.monotonic() >= ends:
            study.stop()

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(
                direction="maximize" if maximize else "minimize",
                sampler=optuna.samplers.TPESampler(seed=task.seed),
                pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
            )
            study.optimize(objective, n_trials=settings.trials, callbacks=[stop_in_time])
    finally:
        optuna.logging.set_verbosity(level)
    if all(trial.score is None for trial in trials):
        raise ModelError(
            f"no trial of the search succeeded; the first said: {trials[0].failed}",
            where=Where(field=f"{candidate_field(task)}.search"),
            fix="correct the space, or the candidate's params",
        )
    if len(trials) < settings.trials:
        notes.append(f"the search ended after {len(trials)} of {settings.trials} trials: its time was up")
    best: dict[str, Any] = study.best_trial.user_attrs["params"]
    return best, tuple(trials)


def make_folds(rows: Rows, count: int) -> Folds:
    """Train and test positions a fold: whole periods are left out where there are enough of them, else whole groups
    of the split key. Raises :class:`DataError` when there is one group only."""
    from sklearn.model_selection import GroupKFold

    _, by_period = np.unique(rows.periods.astype(str), return_inverse=True)
    _, by_group = np.unique(rows.groups, return_inverse=True)
    units = by_period if by_period.max(initial=-1) + 1 >= count else by_group
    count = min(count, int(units.max(initial=-1)) + 1)
    if count < 2:
        raise DataError(
            "a search needs rows of two periods or two groups at least, to leave some out",
            where=Where(field="data.split.group"),
            fix="add data, or remove the candidate's search",
        )
    return list(GroupKFold(count).split(np.zeros(len(units)), groups=units))


def _cross_validate(
    task: TrainingTask,
    params: dict[str, Any],
    rows: Rows,
    folds: Folds,
    metric: Metric,
    report: Report,  # noqa: ARG001 - a pipeline is fitted at once
) -> float | None:
    classes = task.prepared.summary.classes
    scores = []
    for train, test in folds:
        warned: list[str] = []  # the final fit warns of the same, and is heard
        pipeline = fit(task, make_pipeline(task, params), rows.take(train), warned)
        held = rows.take(test)
        positions = class_positions(pipeline, classes, Where(field=candidate_field(task)))
        probabilities = np.zeros((len(held), len(classes)))
        with telling(task, warned):
            probabilities[:, positions] = pipeline.predict_proba(held.frame)
        score = metric(held.codes, probabilities)
        if score is not None:
            scores.append(score)
    return float(np.mean(scores)) if scores else None


def metric_of(name: MetricName, classes: Sequence[Label], positive: Label | None) -> Metric:
    """The gate's metric of codes, shape (rows,), and probabilities, shape (rows, classes); None: not defined there.

    For two classes with a positive one, that one's; else the macro average.
    """
    import sklearn.metrics as m

    target = classes.index(positive) if positive is not None and len(classes) == 2 else None
    every = list(range(len(classes)))

    def by_answer(codes: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]) -> float:
        answers = probabilities.argmax(axis=1)
        if name == "accuracy":
            return float(m.accuracy_score(codes, answers))
        score = {"precision": m.precision_score, "recall": m.recall_score, "f1": m.f1_score}[name]
        if target is None:
            return float(score(codes, answers, labels=every, average="macro", zero_division=0.0))
        return float(score(codes == target, answers == target, zero_division=0.0))

    def by_probability(codes: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]) -> float | None:
        if name == "log_loss":
            likelihood = probabilities[np.arange(len(codes)), codes]
            return float(-np.log(np.clip(likelihood, 1e-15, 1.0)).mean())
        wanted = every if len(classes) > 2 else [target if target is not None else 1]
        truths = [codes == one for one in wanted]
        areas = [
            m.roc_auc_score(t, probabilities[:, one])
            for one, t in zip(wanted, truths, strict=True)
            if 0 < t.sum() < len(t)
        ]
        return float(np.mean(areas)) if areas else None

    return by_probability if name in ("log_loss", "roc_auc") else by_answer


def _suggest(trial: Any, name: str, space: SearchSpace) -> Any:
    if space.choices is not None:
        return space.choices[trial.suggest_categorical(name, range(len(space.choices)))]  # any value may be a choice
    assert space.low is not None
    assert space.high is not None
    if space.integer:
        return trial.suggest_int(name, int(space.low), int(space.high), log=space.log)
    return trial.suggest_float(name, space.low, space.high, log=space.log)
