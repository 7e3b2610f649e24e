"""Small rows, predictors and prepared folders for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from upkeep import records
from upkeep.data.kinds import Column
from upkeep.data.prepared import SUMMARY, PeriodCounts, Prepared, Summary, period_folder
from upkeep.evaluation.answers import Answers, Rows
from upkeep.models.manifest import Manifest
from upkeep.spec.model import Data, Features, Gate, Metadata, ModelSpec, Retrain, Split, Target


def answers(scores: npt.ArrayLike) -> Answers:
    """Two classes; the scores are the second one's probabilities."""
    positive = np.asarray(scores, dtype=np.float64)
    probabilities = np.stack([1 - positive, positive], axis=1)
    return Answers(probabilities.argmax(axis=1).astype(np.uint8), probabilities)


def binary_rows(
    truth: npt.ArrayLike, groups: npt.ArrayLike | None = None, positive: int | None = 1, **scores: npt.ArrayLike
) -> Rows:
    truth = np.asarray(truth, dtype=np.uint8)
    return Rows(
        classes=(False, True),
        positive=positive,
        truth=truth,
        periods=("p1",),
        period=np.zeros(len(truth), np.uint8),
        groups=None if groups is None else np.asarray(groups, np.uint64),
        answers={name: answers(values) for name, values in scores.items()},
    )


@dataclass
class FakePredictor:
    """Probability of the last class: a function of the table; other classes share the rest."""

    positive: Callable[[pa.Table], npt.NDArray[np.float64]]
    classes: tuple[bool | str | int, ...] = (False, True)
    columns: tuple[str, ...] = ("x", "noise")
    asked: int = 0

    @property
    def manifest(self) -> Manifest:
        return Manifest(
            format="sklearn",
            columns=tuple(Column(name=name, kind="numeric") for name in self.columns),
            classes=self.classes,
            positive=None,
            libraries={},
        )

    def predict_proba(self, rows: pa.Table) -> npt.NDArray[np.float64]:
        self.asked += rows.num_rows
        positive = np.clip(self.positive(rows), 0.0, 1.0)
        others = len(self.classes) - 1
        return np.column_stack([*[(1 - positive) / others] * others, positive])


def knows(strength: float, column: str = "x") -> Callable[[pa.Table], npt.NDArray[np.float64]]:
    """A model that sees ``x`` as well as ``strength`` says (0: answers by the noise column)."""

    def positive(rows: pa.Table) -> npt.NDArray[np.float64]:
        x = rows.column(column).to_numpy()
        noise = rows.column("noise").to_numpy()
        return 1 / (1 + np.exp(-3 * (strength * x + (1 - strength) * noise)))

    return positive


def prepared_folder(
    path: Path,
    *,
    periods: Sequence[str] = ("2013-01", "2013-02", "2013-03", "2013-04"),
    rows: int = 1500,
    days: int = 40,
    group: str | None = "day",
    drop: Sequence[str] = (),
    seed: int = 0,
) -> Prepared:
    """A prepared folder: y is what ``x`` says, mostly; slice ``place`` has a large, a middle and a tiny value."""
    rng = np.random.default_rng(seed)
    counts = []
    for period in periods:
        x, noise = rng.normal(size=rows), rng.normal(size=rows)
        day = rng.integers(0, days, rows).astype(np.uint64) + np.uint64(1000 * (1 + list(periods).index(period)))
        part = np.array(["train", "train", "train", "validation", "held_out"])[
            (day * np.uint64(7) % np.uint64(5)).astype(int)
        ]
        table = pa.table(
            {
                "x": x,
                "noise": noise,
                "place": pa.array(rng.choice(["EWR", "JFK", "OO"], rows, p=[0.7, 0.295, 0.005])),
                "y": (x + rng.normal(size=rows) * 0.5) > 0.4,
                "_period": pa.array([period] * rows),
                "_part": pa.array(part),
                "_group": day if group else rng.integers(0, 2**63, rows).astype(np.uint64),
                "_row": rng.integers(0, 2**63, rows).astype(np.uint64),
            }
        ).drop_columns(list(drop))
        folder = path / "rows" / period_folder(period)
        folder.mkdir(parents=True)
        pq.write_table(table, folder / "part-00000.parquet")
        counts.append(
            PeriodCounts(
                period=period,
                read=rows,
                quarantined=0,
                duplicates=0,
                train=int((part == "train").sum()),
                validation=int((part == "validation").sum()),
                held_out=int((part == "held_out").sum()),
                kept_out=0,
                reasons={},
                by_class={},
            )
        )
    records.write(
        path / SUMMARY,
        Summary(
            dataset="d",
            periods=tuple(counts),
            classes=(False, True),
            columns=tuple(Column(name=name, kind="numeric") for name in ("x", "noise") if name not in drop),
            target="y",
            positive=True,
            group=group,
        ),
    )
    return Prepared(path)


def model_spec(gate: Gate | None = None, *, method: str = "hash", slices: Sequence[str] = ("place",)) -> ModelSpec:
    return ModelSpec(
        metadata=Metadata(name="flights"),
        data=Data(
            source="unused",
            target=Target(column="y", positive=True),
            features=Features(numeric=("x", "noise")),
            slices=tuple(slices),
            split=Split(group="day", method=method),  # type: ignore[arg-type]
        ),
        candidates=(Retrain(name="one", strategy="retrain", estimator="unused"),),
        gate=gate or Gate(resamples=300),
    )
