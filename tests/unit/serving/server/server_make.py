"""A small model of flights, and rows for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from sklearn.ensemble import HistGradientBoostingClassifier

from upkeep.data.kinds import Column
from upkeep.models.folder import load, save_sklearn
from upkeep.models.frame import to_frame
from upkeep.models.manifest import Manifest, Predictor
from upkeep.spec.model import Preprocess
from upkeep.training.preprocessing import build_pipeline

COLUMNS = (
    Column(name="carrier", kind="categorical"),
    Column(name="distance", kind="numeric"),
    Column(name="departure", kind="datetime"),
)


def table(rows: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "carrier": rng.choice(["UA", "AA", "DL"], rows),
            "distance": rng.integers(80, 3000, rows).astype(float),
            "departure": [f"2026-03-{day:02d}T12:00:00Z" for day in rng.integers(1, 29, rows)],
        }
    )


ROWS = table(4, seed=1)


def flights_model(folder: Path) -> Predictor:
    """Train, save and load it."""
    data = table(300)
    pipeline = build_pipeline(COLUMNS, Preprocess(), HistGradientBoostingClassifier(max_iter=5, random_state=0), seed=0)
    pipeline.fit(to_frame(data, COLUMNS), data["distance"].to_numpy() > 1500)
    manifest = Manifest(format="sklearn", columns=COLUMNS, classes=(False, True), positive=True, libraries={})
    save_sklearn(folder, pipeline, manifest)
    return load(folder)
