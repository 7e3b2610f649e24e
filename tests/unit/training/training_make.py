"""Tasks for tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.unit.data import make
from upkeep.spec.model import Candidate, ModelSpec, Preprocess, Retrain
from upkeep.training.task import TrainingTask

LOGISTIC = "sklearn.linear_model.LogisticRegression"


def retrain(estimator: str = LOGISTIC, **fields: Any) -> Retrain:
    return Retrain(name="one", strategy="retrain", estimator=estimator, **fields)


def spec(folder: Path, *candidates: Candidate, months: int = 3, rows: int = 150, **fields: Any) -> ModelSpec:
    """A spec over fresh months of data; ``fields`` are the spec's own."""
    source = folder / "data"
    if not source.exists():
        make.months(source, months, rows)
    return replace(make.spec(source, candidates=candidates or (retrain(),)), **fields)


def task(folder: Path, *candidates: Candidate, **fields: Any) -> TrainingTask:
    """A task for the first candidate."""
    model = spec(folder, *candidates, **fields)
    prepared = make.prepared(folder, model)
    return TrainingTask(candidate=model.candidates[0], spec=model, prepared=prepared, seed=1)


PLAIN = Preprocess(impute_numeric="none", scale="none")
