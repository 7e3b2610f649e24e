import datetime as dt
import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.data import make
from upkeep.data.collect import collect
from upkeep.data.layout import ROW_NUMBER, UNREADABLE
from upkeep.data.read import format_of, open_table_batches, read_batches
from upkeep.errors import DataError
from upkeep.spec.model import Features

ENDINGS = ["csv", "csv.gz", "parquet"]


def batches(model, **options):
    return [batch for file in collect(model).files for batch in read_batches(file, model, **options)]


@pytest.mark.parametrize("ending", ENDINGS)
def test_reads_the_columns_the_spec_uses(tmp_path, ending):
    rows = make.table(30)
    path = make.write(rows, tmp_path / f"a.{ending}")
    (batch,) = batches(make.spec(path))
    assert batch.schema.names == ["size", "weight", "colour", "flag", "id", "label", ROW_NUMBER, UNREADABLE]
    assert batch.column(ROW_NUMBER).to_pylist() == list(range(1, 31))
    assert batch.column("colour").to_pylist() == rows.column("colour").to_pylist()
    assert [float(value) for value in batch.column("size").to_pylist()] == rows.column("size").to_pylist()


@pytest.mark.parametrize("ending", ENDINGS)
def test_streams(tmp_path, ending):
    path = make.write(make.table(150_000), tmp_path / f"a.{ending}")
    found = batches(make.spec(path))
    assert len(found) > 1
    numbers = [number for batch in found for number in batch.column(ROW_NUMBER).to_pylist()]
    assert numbers == list(range(1, 150_001))


def test_large_row_groups_come_in_small_batches(tmp_path):
    pq.write_table(make.table(10_000), tmp_path / "a.parquet", row_group_size=10_000)
    assert {batch.num_rows for batch in batches(make.spec(tmp_path), batch_rows=1000)} == {1000}


def test_delimiters_quotes_line_breaks_and_nulls(tmp_path):
    (tmp_path / "a.csv").write_text('id;size;label;note\n1;NA;"a;b";x\n2;"NA";"two\nlines";\n\n3;;"";"say ""hi"""\n')
    model = make.spec(tmp_path, delimiter=";", slices=("note",), features=Features(numeric=("size",)))
    (batch,) = batches(model)
    assert batch.column("size").to_pylist() == [None, "NA", None]
    assert batch.column("label").to_pylist() == ["a;b", "two\nlines", ""]
    assert batch.column("note").to_pylist() == ["x", None, 'say "hi"']
    assert batch.column(ROW_NUMBER).to_pylist() == [1, 2, 3]


def test_gzip_of_several_members(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"id,size,label\n") + gzip.compress(b"1,2,yes\n"))
    model = make.spec(tmp_path, slices=(), features=Features(numeric=("size",)))
    assert [batch.num_rows for batch in batches(model)] == [1]


def test_plain_files(tmp_path):
    rows = make.table(100)
    for ending in ENDINGS:
        path = make.write(rows, tmp_path / f"a.{ending}")
        found = pa.Table.from_batches(open_table_batches(str(path)))
        assert found.column_names == rows.column_names
        assert found.num_rows == 100
        chosen = pa.Table.from_batches(open_table_batches(str(path), ["label", "size"]))
        assert chosen.column_names == ["label", "size"]
    assert found.column("time")[0].as_py() >= dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def test_plain_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="not there"):
        list(open_table_batches(str(tmp_path / "a.csv")))
    with pytest.raises(DataError, match="no format"):
        list(open_table_batches(str(tmp_path / "a.xlsx")))
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(DataError, match=r"row 2: the row has 1 field where the header has 2"):
        list(open_table_batches(str(tmp_path / "a.csv")))


def test_formats():
    assert [format_of(name) for name in ("a.CSV", "b.csv.gz", "c.parquet", "d.gz", "e")] == [
        "csv", "csv.gz", "parquet", None, None,
    ]  # fmt: skip
