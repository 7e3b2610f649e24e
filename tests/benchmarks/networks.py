"""What the benches of networks share: a prepared folder of made rows, and tasks on it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from upkeep import records
from upkeep.data.kinds import Column
from upkeep.data.prepared import SUMMARY, PeriodCounts, Prepared, Summary, period_folder
from upkeep.spec.model import Data, Features, FineTune, Metadata, ModelSpec, Network, Optimizer, Target
from upkeep.training.task import TrainingTask

NUMERIC = ("distance", "hour", "temp", "precip", "visib", "wind_speed")
CATEGORICAL = {"carrier": 16, "origin": 3, "dest": 105}
"""And how many there are."""
ROW_GROUP = 65_536
"""Rows; as prepare writes them."""


def make(folder: Path, *, rows: int, periods: int, held_out: float = 0.0) -> None:
    """A prepared folder as prepare writes one (snappy): six random numbers, three categories, a label they decide."""
    counts = []
    each = rows // periods
    for number in range(periods):
        period = f"2024-{number + 1:02d}"
        path = folder / "rows" / period_folder(period) / "part-00000.parquet"
        path.parent.mkdir(parents=True)
        rng = np.random.default_rng(number)
        texts = [*CATEGORICAL, "_period", "_part"]
        taught = 0
        writer = None
        for start in range(0, each, ROW_GROUP):
            size = min(ROW_GROUP, each - start)
            columns: dict[str, Any] = {name: rng.normal(size=size) for name in NUMERIC}
            for name, different in CATEGORICAL.items():
                known = pa.array([f"{name[:2].upper()}{place}" for place in range(different)])
                columns[name] = known.take(pa.array(rng.integers(0, different, size)))
            chance = 1 / (1 + np.exp(1.0 - columns["distance"] - columns["hour"]))
            apart = rng.random(size) < held_out
            taught += size - int(apart.sum())
            columns |= {
                "delayed": rng.random(size) < chance,
                "_period": pa.repeat(pa.scalar(period), size),
                "_part": pa.array(["train", "held_out"]).take(pa.array(apart.astype(np.int8))),
                "_group": rng.integers(0, 2**63, size).astype(np.uint64),
                "_row": rng.integers(0, 2**63, size).astype(np.uint64),
            }
            table = pa.table(columns)
            writer = writer or pq.ParquetWriter(path, table.schema, use_dictionary=texts)
            writer.write_table(table)
        if writer is not None:
            writer.close()
        counts.append(
            PeriodCounts(
                period=period, read=each, quarantined=0, duplicates=0, train=taught, validation=0,
                held_out=each - taught, kept_out=0, reasons={}, by_class={},
            )
        )  # fmt: skip
    summarize(folder, counts)


def summarize(folder: Path, counts: Sequence[PeriodCounts]) -> None:
    columns = [*((name, "numeric") for name in NUMERIC), *((name, "categorical") for name in CATEGORICAL)]
    summary = Summary(
        dataset="0" * 64,
        periods=tuple(counts),
        classes=(False, True),
        columns=tuple(Column(name=name, kind=kind) for name, kind in columns),  # type: ignore[arg-type]
        target="delayed",
        positive=True,
        group=None,
    )
    records.write(folder / SUMMARY, summary)


def task(folder: Path, **fields: Any) -> TrainingTask:
    """A fine-tuning from nothing on the folder; ``fields``: of the candidate."""
    candidate = FineTune(
        name="network", strategy="fine_tune",
        **{"network": Network(hidden=(64, 32)), "optimizer": Optimizer(rate=0.001), **fields},
    )  # fmt: skip
    data = Data(
        source=str(folder),
        target=Target(column="delayed", positive=True),
        features=Features(numeric=NUMERIC, categorical=tuple(CATEGORICAL)),
    )
    spec = ModelSpec(metadata=Metadata(name="bench"), data=data, candidates=(candidate,))
    return TrainingTask(candidate=candidate, spec=spec, prepared=Prepared(folder), seed=1)


def show(values: Sequence[float], form: str = ".2f") -> str:
    """The median and the spread."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def size_of(folder: Path) -> int:
    """Bytes of the rows."""
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))
