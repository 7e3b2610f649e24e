import numpy as np
import pyarrow as pa
import pytest

from tests.unit.data import make
from upkeep.data.prepared import Prepared, period_folder
from upkeep.errors import DataError

ALL = ("train", "validation", "held_out", "kept_out")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    make.months(folder / "data")
    return make.prepared(folder, make.spec(folder / "data", candidates=(make.ONE, make.TWO)))


def test_batches_come_by_period_file_and_row(prepared):
    ids = [value for batch in prepared.batches(parts=ALL, columns=["id"]) for value in batch.column(0).to_pylist()]
    assert ids == [f"r{number}" for number in range(1200)]


def test_batches_are_small_and_none_is_empty(prepared):
    sizes = [batch.num_rows for batch in prepared.batches(parts=("held_out",), batch_rows=50)]
    assert sum(sizes) == prepared.count(parts=("held_out",))
    assert 0 < min(sizes) <= max(sizes) <= 50


def test_parts_and_periods_are_chosen(prepared):
    for parts in (("train",), ("train", "validation"), ALL, ()):
        for periods in (None, ["2024-02"], ["2024-03", "2024-01"], []):
            table = prepared.table(parts=parts, periods=periods, columns=["_part", "_period"])
            assert table.num_rows == prepared.count(parts=parts, periods=periods)
            assert set(table.column("_part").to_pylist()) <= set(parts)
            assert set(table.column("_period").to_pylist()) <= set(periods if periods is not None else prepared.periods)


def test_columns_come_in_the_order_asked_for(prepared):
    table = prepared.table(parts=("train",), columns=["label", "_row", "size"])
    assert table.schema == pa.schema({"label": pa.string(), "_row": pa.uint64(), "size": pa.float64()})


def test_an_empty_table_has_the_schema(prepared):
    assert prepared.table(parts=("train",), periods=[]).schema == prepared.schema
    assert prepared.table(parts=("train",)).schema == prepared.schema


def test_codes(prepared):
    table = prepared.table(parts=ALL, columns=["label"])
    codes = prepared.codes(table)
    assert codes.dtype == np.int64
    assert [prepared.summary.classes[code] for code in codes] == table.column(0).to_pylist()
    assert prepared.codes(pa.table({"label": ["other", None, "yes"]})).tolist() == [-1, -1, 1]
    (batch, *_) = prepared.batches(columns=["label"])
    assert prepared.codes(batch).tolist() == prepared.codes(pa.Table.from_batches([batch])).tolist()


def test_no_such_folder(tmp_path):
    with pytest.raises(DataError, match="no prepared folder"):
        Prepared(tmp_path)


def test_a_period_may_be_called_anything():
    assert period_folder("a/b=c") == "period=a%2Fb%3Dc"
