"""The row function of an update runs on Spark as it is, split anywhere: the same rows, parts and fingerprints."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.unit.data import make
from upkeep.data.collect import collect
from upkeep.data.prepare import row_function
from upkeep.data.read import read_batches
from upkeep.data.validate import label_type


def signed(batch: Any) -> Any:
    """Spark has no unsigned integers: the same 64 bits."""
    columns = [column.view(pa.int64()) if pa.types.is_uint64(column.type) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def in_any_order(table: Any) -> list[tuple[Any, ...]]:
    """Rows but for their numbers, of which Spark's partitions know nothing."""
    return sorted(map(repr, table.drop_columns(["_row_number"]).to_pylist()))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_row_function_is_the_same_on_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed: the row function was not tried on Spark")
    types = pytest.importorskip("pyspark.sql.pandas.types")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    spec = make.spec(make.months(tmp_path / "data", 1))
    (file,) = collect(spec, until=None, previous=()).files
    read = list(read_batches(file, spec))
    function = row_function(spec, file, label_type(spec.data.target, read[0].column(spec.data.target.column)), {})
    here = pa.Table.from_batches([signed(function(batch)) for batch in read])

    def mapped(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            yield signed(function(batch))

    builder = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
    spark = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    try:
        rows = spark.createDataFrame(pa.Table.from_batches(read)).repartition(3)
        there = rows.mapInArrow(mapped, types.from_arrow_schema(here.schema)).toArrow()
    finally:
        spark.stop()
    assert there.num_rows == here.num_rows > 0
    assert in_any_order(there) == in_any_order(here)
