"""What people deliver: for each, a clear error or a quarantine, nothing lost, nothing half-written."""

import errno
import gzip
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.somebody import somebody_else
from tests.unit.data import make
from upkeep.data import prepare as prepare_module
from upkeep.data.collect import collect
from upkeep.data.prepare import prepare
from upkeep.data.prepared import Prepared
from upkeep.errors import AccessError, DataError, OutsideError, SpecError
from upkeep.spec.model import ColumnRule, Features, Limits, Split, Target


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    return path


def refused(tmp_path, model, **options):
    """The message of the DataError; and nothing is left but, at most, the quarantine."""
    with pytest.raises(DataError) as error:
        make.prepared(tmp_path, model, **options)
    left = {path.name for path in tmp_path.iterdir()} - {"data"}
    assert left <= {"prepared"}
    if "prepared" in left:
        assert [path.name for path in (tmp_path / "prepared").iterdir()] == ["quarantine.parquet"]
    assert all(problem.fix for problem in error.value.problems)
    return str(error.value)


def quarantine(tmp_path):
    return pq.read_table(tmp_path / "prepared" / "quarantine.parquet").to_pylist()


def with_value(folder, column, value, *, row=7, name="a.parquet", rows=200):
    return make.write(make.replace_value(make.table(rows), column, row, value), folder / name)


def as_text(rows):
    columns = {name: rows.column(name).cast(pa.string()) for name in rows.column_names}
    return pa.table(columns)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_empty_file(tmp_path, folder, name):
    (folder / name).write_bytes(b"")
    assert "the file is empty" in refused(tmp_path, make.spec(folder))


def test_empty_gzip(tmp_path, folder):
    (folder / "a.csv.gz").write_bytes(gzip.compress(b""))
    assert "the file is empty" in refused(tmp_path, make.spec(folder))


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_header_only(tmp_path, folder, name):
    make.write(make.table(5).slice(0, 0), folder / name)
    assert "no rows" in refused(tmp_path, make.spec(folder))


def test_wrong_delimiter(tmp_path, folder):
    path = make.write(make.table(5), folder / "a.csv")
    path.write_bytes(path.read_bytes().replace(b",", b";"))
    message = refused(tmp_path, make.spec(folder))
    assert "a semicolon" in message
    assert "data.delimiter: ';'" in message


def test_wrong_encoding(tmp_path, folder):
    rows = make.replace_value(make.table(300), "colour", 250, "rosé")
    path = make.write(rows, folder / "a.csv")
    path.write_bytes(path.read_bytes().decode().encode("cp1252"))
    message = refused(tmp_path, make.spec(folder))
    assert "data.encoding" in message
    assert "a.csv" in message
    out = make.prepared(tmp_path, make.spec(folder, encoding="cp1252"))
    assert "rosé" in out.table(parts=("train", "held_out"), columns=["colour"]).column(0).to_pylist()


def test_utf16(tmp_path, folder):
    path = make.write(make.table(300), folder / "a.csv")
    path.write_bytes(path.read_bytes().decode().encode("utf-16"))
    assert "utf-16" in refused(tmp_path, make.spec(folder))
    assert make.prepared(tmp_path, make.spec(folder, encoding="utf-16")).summary.periods[0].read == 300


def test_unknown_encoding(tmp_path, folder):
    make.write(make.table(5), folder / "a.csv")
    assert "there is no encoding klingon" in refused(tmp_path, make.spec(folder, encoding="klingon"))


@pytest.mark.parametrize("keep", [0.3, 0.98])
def test_truncated_gzip(tmp_path, folder, keep):
    path = make.write(make.table(20_000), folder / "a.csv.gz")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    assert "cut off" in refused(tmp_path, make.spec(folder))


def test_gzip_that_is_none(tmp_path, folder):
    make.write(make.table(5), folder / "a.csv").rename(folder / "a.csv.gz")
    assert "not gzip" in refused(tmp_path, make.spec(folder))


@pytest.mark.parametrize("keep", [0.0001, 0.5, 0.999])
def test_truncated_parquet(tmp_path, folder, keep):
    path = make.write(make.table(2_000), folder / "a.parquet")
    path.write_bytes(path.read_bytes()[: max(int(path.stat().st_size * keep), 1)])
    assert "cut off" in refused(tmp_path, make.spec(folder))


def test_parquet_with_damaged_pages(tmp_path, folder):
    path = make.write(make.table(2_000), folder / "a.parquet")
    data = bytearray(path.read_bytes())
    data[4:4000] = os.urandom(3996)
    path.write_bytes(data)
    assert "a.parquet" in refused(tmp_path, make.spec(folder))


def test_duplicate_columns(tmp_path, folder):
    (folder / "a.csv").write_text("id,size,size,label\n1,2,3,yes\n")
    assert "more than one column named size" in refused(tmp_path, make.spec(folder))
    (folder / "a.csv").unlink()
    pq.write_table(pa.table([[1], [2]], names=["size", "size"]), folder / "a.parquet")
    assert "more than one column named size" in refused(tmp_path, make.spec(folder))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_missing_target(tmp_path, folder, name):
    rows = make.table(50)
    make.write(
        rows.rename_columns([{"label": "Lable"}.get(column, column) for column in rows.column_names]), folder / name
    )
    message = refused(tmp_path, make.spec(folder))
    assert "label" in message
    assert "did you mean Lable?" in message


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_spec_that_names_columns_that_are_not(tmp_path, folder, name):
    make.write(make.table(50), folder / name)
    model = make.spec(folder, features=Features(numeric=("siz", "height"), categorical=("colour",)))
    message = refused(tmp_path, model)
    assert "siz, height" in message
    assert "siz: did you mean size?" in message


def test_a_label_the_spec_does_not_list(tmp_path, folder):
    with_value(folder, "label", "maybe")
    model = make.spec(folder, target=Target(column="label", positive="yes", classes=("no", "yes")))
    out = make.prepared(tmp_path, model)
    (row,) = quarantine(tmp_path)
    assert row["label"] == "maybe"
    assert "data.target.classes does not list" in row["_reason"]
    assert out.summary.classes == ("no", "yes")


def test_a_new_label(tmp_path, folder):
    """Without a list of classes it is a new class; what follows from it is the gate's to say."""
    with_value(folder, "label", "maybe")
    assert make.prepared(tmp_path, make.spec(folder)).summary.classes == ("maybe", "no", "yes")


def test_a_label_that_is_null(tmp_path, folder):
    with_value(folder, "label", None)
    make.prepared(tmp_path, make.spec(folder))
    assert [row["_reason"] for row in quarantine(tmp_path)] == ["label is null"]


def test_one_class_only(tmp_path, folder):
    rows = make.table(100)
    make.write(rows.set_column(6, "label", pa.array(["yes"] * 100)), folder / "a.parquet")
    assert "the same label, yes" in refused(tmp_path, make.spec(folder))


def test_a_positive_class_that_no_row_has(tmp_path, folder):
    make.write(make.table(100), folder / "a.parquet")
    message = refused(tmp_path, make.spec(folder, target=Target(column="label", positive="Yes")))
    assert "the labels are no, yes" in message


def test_a_number_as_target(tmp_path, folder):
    rows = make.table(3000)
    make.write(rows.set_column(6, "label", pa.array(np.arange(3000))), folder / "a.parquet")
    assert "looks like a number or an id" in refused(tmp_path, make.spec(folder, target=Target(column="label")))


@pytest.mark.parametrize("nothing", [pa.nulls(100), pa.nulls(100, pa.float64()), pa.nulls(100, pa.string())])
def test_a_column_all_null(tmp_path, folder, nothing):
    rows = make.table(100)
    make.write(rows.set_column(2, "size", nothing), folder / "a.parquet")
    message = refused(tmp_path, make.spec(folder))
    assert "size" in message
    assert "no value in any training row" in message


def test_a_column_all_null_in_one_period(tmp_path, folder):
    make.months(folder, 1)
    rows = make.table(100, first=1000)
    make.write(rows.set_column(2, "size", pa.nulls(100, pa.float64())), folder / "period=2024-02" / "a.parquet")
    warnings = make.prepared(tmp_path, make.spec(folder)).summary.warnings
    assert warnings == ("size has no value in any training row of period 2024-02.",)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_infinite_values(tmp_path, folder, name):
    with_value(folder, "size", float("-inf"), name=name)
    make.prepared(tmp_path, make.spec(folder))
    (row,) = quarantine(tmp_path)
    assert (row["size"], row["_reason"], row["_file"], row["_row_number"]) == ("-inf", "size is infinite", name, 8)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_mixed_types_in_a_column(tmp_path, folder, name):
    rows = as_text(make.table(200))
    make.write(make.replace_value(rows, "size", 7, "about 3"), folder / name)
    out = make.prepared(tmp_path, make.spec(folder))
    (row,) = quarantine(tmp_path)
    assert (row["size"], row["_reason"], row["id"]) == ("about 3", "size is not a number", "r7")
    assert out.schema.field("size").type == pa.float64()
    assert out.summary.periods[0].quarantined == 1


def test_dates_that_are_none(tmp_path, folder):
    rows = as_text(make.table(200))
    rows = make.replace_value(rows, "time", 3, "2024-02-31 10:00")
    make.write(make.replace_value(rows, "time", 5, None), folder / "a.csv")
    out = make.prepared(tmp_path, make.spec(folder, time="time", period="month"))
    assert [(row["time"], row["_reason"], row["_period"]) for row in quarantine(tmp_path)] == [
        ("2024-02-31 10:00", "time is not a date", None),
        (None, "time is null", None),
    ]
    assert out.summary.undated == 2
    assert out.summary.undated_reasons == {"time is not a date": 1, "time is null": 1}
    assert out.summary.periods[0].read == 198


def test_an_id_that_is_null(tmp_path, folder):
    with_value(folder, "id", None)
    make.prepared(tmp_path, make.spec(folder))
    assert [row["_reason"] for row in quarantine(tmp_path)] == ["id is null"]


def test_a_split_key_that_is_null(tmp_path, folder):
    with_value(folder, "colour", None)
    make.prepared(tmp_path, make.spec(folder, split=Split(group="colour")))
    assert [row["_reason"] for row in quarantine(tmp_path)] == ["colour is null"]


def test_ids_twice_with_different_content(tmp_path, folder):
    rows = make.replace_value(make.table(200), "id", 9, "r2")
    make.write(rows, folder / "a.parquet")
    out = make.prepared(tmp_path, make.spec(folder))
    first, second = quarantine(tmp_path)
    assert first["_reason"] == "id is also that of a.parquet row 10, with other content"
    assert second["_reason"] == "id is also that of a.parquet row 3, with other content"
    assert first["size"] == str(rows.column("size")[2])
    counts = out.summary.periods[0]
    assert (counts.quarantined, counts.reasons) == (2, {"id comes twice with different content": 2})
    assert out.count(parts=("train", "held_out", "kept_out")) == 198


def test_ids_twice_with_the_same_content(tmp_path, folder):
    rows = make.table(200)
    make.write(rows, folder / "a.parquet")
    make.write(pa.concat_tables([rows.slice(5, 3), make.table(50, first=200)]), folder / "b.parquet")
    out = make.prepared(tmp_path, make.spec(folder))
    assert quarantine(tmp_path) == []
    assert [counts.duplicates for counts in out.summary.periods] == [0, 3]
    ids = out.table(parts=("train", "held_out", "kept_out"), columns=["id"]).column(0).to_pylist()
    assert len(ids) == len(set(ids)) == 250


def test_ten_thousand_categories(tmp_path, folder):
    rows = make.table(20_000)
    make.write(rows.set_column(4, "colour", pa.array([f"c{n % 10_000}" for n in range(20_000)])), folder / "a.parquet")
    out = make.prepared(tmp_path, make.spec(folder))
    colours = out.table(parts=("train", "held_out", "kept_out"), columns=["colour"]).column(0)
    assert len(colours.unique()) == 10_000


def test_ten_thousand_values_that_are_known(tmp_path, folder):
    rows = make.table(20_000)
    make.write(rows.set_column(4, "colour", pa.array([f"c{n}" for n in range(20_000)])), folder / "a.parquet")
    rule = ColumnRule(values=tuple(f"c{number}" for number in range(10_000)), unknown="quarantine")
    message = refused(tmp_path, make.spec(folder, columns={"colour": rule}))
    assert "10,000 of 20,000 rows" in message
    assert len(quarantine(tmp_path)) == 10_000


def test_a_period_that_is_already_there_with_other_bytes(tmp_path, folder):
    make.months(folder)
    before = collect(make.spec(folder), until=None, previous=())
    changed = make.write(make.table(30), folder / "period=2024-02" / "part-0.parquet")
    with pytest.raises(DataError) as error:
        collect(make.spec(folder), until=None, previous=[before])
    message = str(error.value)
    now = collect(make.spec(folder), until=None, previous=())
    assert str(changed) in message
    assert before.files[1].digest in message
    assert now.files[1].digest in message
    assert "new file" in message
    assert collect(make.spec(folder), until=None, previous=[before], accept_changed=True) == now


def test_a_file_that_changes_after_it_was_collected(tmp_path, folder):
    make.months(folder)
    dataset = collect(make.spec(folder), until=None, previous=())
    make.write(make.table(30), folder / "period=2024-02" / "part-0.parquet")
    with pytest.raises(DataError, match="changed after it was collected"):
        prepare(make.spec(folder), dataset, tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()


@pytest.mark.parametrize("text", ["r1000,1,2", "r1000,1,2,3,red,true,no,and,more"])
def test_ragged_rows(tmp_path, folder, text):
    path = make.write(make.table(200).drop_columns(["time"]), folder / "a.csv")
    lines = path.read_text().splitlines()
    lines.insert(4, text)
    path.write_text("\n".join(lines) + "\n")
    out = make.prepared(tmp_path, make.spec(folder))
    (row,) = quarantine(tmp_path)
    assert row["_reason"] == f"the row has {text.count(',') + 1} fields where the header has 6"
    assert (row["_row_number"], row["size"]) == (4, None)
    assert out.summary.periods[0].read == 201


def test_row_numbers_after_ragged_rows(tmp_path, folder):
    rows = make.replace_value(make.table(30_000), "size", 20_000, float("inf")).drop_columns(["time"])
    path = make.write(rows, folder / "a.csv")
    lines = path.read_text().splitlines()
    lines[5:5] = ["x"]
    lines[15_000:15_000] = ["x", "y"]
    path.write_text("\n".join(lines) + "\n")
    make.prepared(tmp_path, make.spec(folder))
    numbers = {row["_row_number"]: row["_reason"] for row in quarantine(tmp_path)}
    assert list(numbers.values()).count("size is infinite") == 1
    assert numbers[20_004] == "size is infinite"
    assert {5, 15_000, 15_001} < set(numbers)


def test_a_quote_that_is_never_closed(tmp_path, folder):
    path = make.write(make.table(100_000), folder / "a.csv")
    lines = path.read_text().splitlines()
    lines[5] = '"' + lines[5].replace('"', "")
    path.write_text("\n".join(line if n <= 5 else line.replace('"', "") for n, line in enumerate(lines)))
    assert "a.csv" in refused(tmp_path, make.spec(folder))


def test_byte_order_mark_and_windows_line_ends(tmp_path, folder):
    plain = make.write(make.table(100), folder / "a.csv")
    expected = make.prepared(tmp_path, make.spec(folder))
    plain.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\r\n"))
    found = make.prepared(tmp_path, make.spec(folder), out=tmp_path / "other")
    assert found.table(parts=("train",)).equals(expected.table(parts=("train",)))


def test_a_nested_column(tmp_path, folder):
    rows = make.table(10)
    make.write(rows.set_column(2, "size", pa.array([[1.0]] * 10)), folder / "a.parquet")
    assert "a feature is one value" in refused(tmp_path, make.spec(folder))


def test_too_many_bad_rows(tmp_path, folder):
    make.months(folder, 2, rows=200)
    rows = make.table(100, first=1000)
    for row in (3, 4, 5):
        rows = make.replace_value(rows, "size", row, float("inf"))
    make.write(make.replace_value(rows, "colour", 5, None), folder / "period=2024-03" / "a.parquet")
    rules = {"colour": ColumnRule(required=True)}
    message = refused(tmp_path, make.spec(folder, limits=Limits(bad_rows=0.02), columns=rules))
    assert "3 of 100 rows of period 2024-03 were refused (3.0%, the limit is 2.0%)" in message
    assert "3 × size is infinite (as in period=2024-03/a.parquet, row 4)" in message
    assert "1 × colour is null (as in period=2024-03/a.parquet, row 6)" in message
    assert len(quarantine(tmp_path)) == 3
    with pytest.raises(DataError, match="refused"):
        Prepared(tmp_path / "prepared")


def test_too_many_rows_without_a_time(tmp_path, folder):
    rows = as_text(make.table(100))
    make.write(
        rows.set_column(1, "time", pa.array(["soon"] * 60 + rows.column("time").to_pylist()[60:])), folder / "a.csv"
    )
    message = refused(tmp_path, make.spec(folder, time="time", period="month"))
    assert "60 of 100 rows of all files belong to no period" in message


def test_no_training_rows(tmp_path, folder):
    make.write(make.table(100), folder / "a.parquet")
    assert "no row is left to train on" in refused(tmp_path, make.spec(folder, split=Split(held_out=1.0)))


def test_rows_that_are_all_alike(tmp_path, folder):
    rows = make.table(400)
    model = make.spec(folder, features=Features(categorical=("flag",)))
    make.write(rows, folder / "a.parquet")
    assert "data.split.same_content" in refused(tmp_path, model)


def test_no_data(tmp_path, folder):
    assert "the source holds no data" in refused(tmp_path, make.spec(folder))
    (folder / "README.md").write_text("soon")
    assert "ignored: README.md" in refused(tmp_path, make.spec(folder))
    assert "the source is not there" in refused(tmp_path, make.spec(tmp_path / "elsewhere"))
    assert "no format" in refused(tmp_path, make.spec(folder / "README.md"))


def test_no_data_that_early(tmp_path, folder):
    make.months(folder)
    assert "up to period 2023-12" in refused(tmp_path, make.spec(folder, period="month"), until="2023-12")


def test_files_beside_period_folders(tmp_path, folder):
    make.months(folder)
    make.write(make.table(5), folder / "late.parquet")
    assert "late.parquet" in refused(tmp_path, make.spec(folder))


def test_a_spec_that_contradicts_itself(tmp_path, folder):
    make.write(make.table(50), folder / "a.parquet")
    with pytest.raises(SpecError) as error:
        make.prepared(tmp_path, make.spec(folder, id="label", features=Features(numeric=("size", "label", "size"))))
    assert len(error.value.problems) == 3


@pytest.mark.parametrize("place", ["keys.parquet", "quarantine.parquet", "part-00000.parquet"])
def test_a_full_disk(tmp_path, folder, monkeypatch, place):
    make.months(folder)
    make.prepared(tmp_path, make.spec(folder))
    before = sorted(tmp_path.rglob("*"))
    real = pq.ParquetWriter

    def full(path, *args, **options):
        if str(path).endswith(place):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(prepare_module.pq, "ParquetWriter", full)
    with pytest.raises(OutsideError, match="the disk is full") as error:
        make.prepared(tmp_path, make.spec(folder))
    assert str(tmp_path / "prepared") in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
def test_a_disk_that_fills_up_in_the_middle(tmp_path, folder, monkeypatch):
    make.months(folder)
    real = pq.ParquetWriter

    def full(path, *args, **options):
        return real("/dev/full" if str(path).endswith("00001.parquet") else path, *args, **options)

    monkeypatch.setattr(prepare_module.pq, "ParquetWriter", full)
    with pytest.raises(OutsideError, match="the disk is full"):
        make.prepared(tmp_path, make.spec(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_no_permission_to_write(tmp_path, folder, monkeypatch):
    make.months(folder)
    real = prepare_module.Path.mkdir

    def denied(self, *args, **options):
        if self.name == ".prepared.partial":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, *args, **options)

    monkeypatch.setattr(prepare_module.Path, "mkdir", denied)
    with pytest.raises(AccessError, match="may not be written"):
        make.prepared(tmp_path, make.spec(folder))


@pytest.mark.parametrize("call", ["stream_digest", "read_batches"])
def test_no_permission_to_read(tmp_path, folder, monkeypatch, call):
    make.months(folder)
    dataset = collect(make.spec(folder), until=None, previous=())

    def denied(path, mode):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("upkeep.data.read.pa.OSFile", denied)
    with pytest.raises(AccessError, match="may not be read"):
        collect(make.spec(folder), until=None, previous=())
    with pytest.raises(AccessError, match="may not be read"):
        prepare(make.spec(folder), dataset, tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()


def test_a_folder_that_is_write_protected(tmp_path, folder):
    make.months(folder)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    make.prepared(tmp_path, make.spec(folder))  # everything is imported by now
    with somebody_else(tmp_path), pytest.raises(AccessError):
        make.prepared(tmp_path, make.spec(folder), out=closed / "prepared")


@pytest.mark.parametrize("at", ["read", "compare", "write"])
@pytest.mark.parametrize("before", [False, True])
def test_interrupted(tmp_path, folder, at, before):
    """Ctrl-C leaves what was there."""
    make.months(folder)
    if before:
        make.prepared(tmp_path, make.spec(folder))
    there = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def interrupt(step, share):
        if step.startswith(at) and (share is None or share > 0.3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make.prepared(tmp_path, make.spec(folder), progress=interrupt)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == there


def test_what_a_killed_run_left_is_cleared_away(tmp_path, folder):
    make.months(folder)
    (tmp_path / ".prepared.partial").mkdir()
    (tmp_path / ".prepared.partial" / "junk").write_text("half")
    make.prepared(tmp_path, make.spec(folder))
    assert {path.name for path in tmp_path.iterdir()} == {"data", "prepared"}


def test_a_fault_of_many_periods_is_told_once(tmp_path, folder):
    make.months(folder, 2, rows=200)
    for month, bad in (("2024-03", 4), ("2024-05", 50)):
        rows = make.table(100, first=int(month[-1]) * 1000)
        for row in range(bad):
            rows = make.replace_value(rows, "size", row, float("inf"))
        make.write(rows, folder / f"period={month}" / "a.parquet")
    message = refused(tmp_path, make.spec(folder, limits=Limits(bad_rows=0.02)))
    assert message.count("were refused") == 1
    assert "54 of 200 rows of 2 periods, 2024-03 to 2024-05, were refused (27.0%, the limit is 2.0% in each)" in message
    assert "54 × size is infinite (as in period=2024-03/a.parquet, row 1)" in message
