"""Small tables and specs for tests: ``from tests.unit.data import make``."""

from __future__ import annotations

import datetime as dt
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from upkeep.data.collect import collect
from upkeep.data.prepare import prepare
from upkeep.data.prepared import Prepared
from upkeep.spec.model import (
    Candidate,
    Data,
    Features,
    Limits,
    Metadata,
    ModelSpec,
    Retrain,
    Split,
    Target,
)

ONE = Retrain(name="one", strategy="retrain", estimator="sklearn.linear_model.LogisticRegression")
TWO = Retrain(name="two", strategy="retrain", estimator="sklearn.tree.DecisionTreeClassifier")


def table(rows: int = 400, *, seed: int = 0, first: int = 0, start: str = "2024-01-01", days: int = 31) -> pa.Table:
    """id (``r0`` …), time, size and weight (float), colour (string), flag (bool), label (``no``/``yes``).

    ``label`` depends on ``size`` and ``colour``. Ids count from ``first``; times fall in ``days`` from ``start``.
    """
    rng = np.random.default_rng(seed)
    size, weight = rng.normal(size=rows), rng.exponential(size=rows)
    colour = rng.choice(["red", "green", "blue"], rows)
    chance = 1 / (1 + np.exp(-(1.5 * size + (colour == "red"))))
    began = dt.datetime.fromisoformat(start).replace(tzinfo=dt.UTC)
    seconds = np.sort(rng.integers(0, days * 86_400, rows))
    return pa.table(
        {
            "id": [f"r{first + number}" for number in range(rows)],
            "time": pa.array(
                [began + dt.timedelta(seconds=int(second)) for second in seconds], pa.timestamp("us", tz="UTC")
            ),
            "size": size,
            "weight": weight,
            "colour": colour,
            "flag": rng.random(rows) < 0.3,
            "label": np.where(rng.random(rows) < chance, "yes", "no"),
        }
    )


def spec(
    source: Path | str,
    *,
    candidates: Sequence[Candidate] = (ONE,),
    split: Split | None = None,
    target: Target | None = None,
    features: Features | None = None,
    name: str = "toy",
    **data: Any,
) -> ModelSpec:
    """A spec for :func:`table`'s columns; keywords are fields of :class:`upkeep.spec.model.Data`."""
    fields: dict[str, Any] = {"id": "id", "slices": ("colour",), "limits": Limits(bad_rows=0.2), **data}
    return ModelSpec(
        metadata=Metadata(name=name),
        data=Data(
            source=str(source),
            target=target or Target(column="label", positive="yes"),
            features=features or Features(numeric=("size", "weight"), categorical=("colour", "flag")),
            split=split or Split(),
            **fields,
        ),
        candidates=tuple(candidates),
    )


def write(rows: pa.Table, path: Path) -> Path:
    """``rows`` as what the name's ending says: .parquet, .csv or .csv.gz; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".parquet"):
        pq.write_table(rows, path)
        return path
    buffer = pa.BufferOutputStream()
    plain = [rows.column(name).cast(pa.string()) if pa.types.is_timestamp(rows.schema.field(name).type)
             else rows.column(name) for name in rows.column_names]  # fmt: skip
    pyarrow.csv.write_csv(pa.table(dict(zip(rows.column_names, plain, strict=True))), buffer)
    data = buffer.getvalue().to_pybytes()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


def months(folder: Path, count: int = 3, rows: int = 400) -> Path:
    """``period=2024-01/part-0.parquet`` and so on, with ids that go on from month to month."""
    for month in range(count):
        made = table(rows, seed=month, first=month * rows, start=f"2024-{month + 1:02}-01", days=28)
        write(made, folder / f"period=2024-{month + 1:02}" / "part-0.parquet")
    return folder


def prepared(tmp_path: Path, model: ModelSpec, **options: Any) -> Prepared:
    """Collect and prepare; options are :func:`upkeep.data.prepare.prepare`'s, and ``until``."""
    until, environ = options.pop("until", None), options.pop("environ", {})
    out = options.pop("out", tmp_path / "prepared")
    prepare(model, collect(model, until=until, previous=(), environ=environ), out, environ=environ, **options)
    return Prepared(out)


def replace_value(rows: pa.Table, column: str, row: int, value: Any) -> pa.Table:
    """The table with one value changed; ``row`` from 0."""
    values = rows.column(column).to_pylist()
    values[row] = value
    index = rows.column_names.index(column)
    return rows.set_column(index, column, pa.array(values, rows.schema.field(column).type))
