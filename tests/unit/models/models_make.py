"""Small fitted models for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from upkeep.data.kinds import Column
from upkeep.models.folder import save_sklearn
from upkeep.models.manifest import Manifest

COLUMNS = (Column(name="a", kind="numeric"), Column(name="b", kind="numeric"))


def frame(rows: int = 120, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"a": rng.normal(size=rows), "b": rng.normal(size=rows)})


def labels(data: pd.DataFrame, names: tuple[Any, ...] = ("no", "yes")) -> Any:
    return np.array(names)[np.digitize(data["a"], np.linspace(-0.5, 0.5, len(names) - 1))]


def manifest(classes: tuple[Any, ...] = ("no", "yes"), columns: tuple[Column, ...] = COLUMNS) -> Manifest:
    return Manifest(format="sklearn", columns=columns, classes=classes, positive=None, libraries={})


def model(folder: Path, estimator: Any = None, classes: tuple[Any, ...] = ("no", "yes"), seed: int = 0) -> Any:
    data = frame(seed=seed)
    fitted = (LogisticRegression() if estimator is None else estimator).fit(data, labels(data, classes))
    save_sklearn(folder, fitted, manifest(classes))
    return fitted


class NotTrusted(LogisticRegression):  # type: ignore[misc]
    """An estimator that no allow-list names."""
