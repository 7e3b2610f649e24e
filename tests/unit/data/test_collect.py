import hashlib
import shutil

import pytest

from tests.unit.data import make
from upkeep import records
from upkeep.data.collect import collect
from upkeep.data.dataset import Dataset, period_order
from upkeep.errors import DataError, InputError


def test_period_folders(tmp_path):
    make.months(tmp_path)
    make.write(make.table(7), tmp_path / "region=a" / "period=2023%2F12" / "x.csv")
    found = collect(make.spec(tmp_path))
    assert [(file.period, file.rows) for file in found.files] == [
        ("2023/12", None), ("2024-01", 400), ("2024-02", 400), ("2024-03", 400),
    ]  # fmt: skip
    file = found.files[1]
    data = (tmp_path / file.name).read_bytes()
    assert (file.name, file.format) == ("period=2024-01/part-0.parquet", "parquet")
    assert (file.digest, file.size) == (hashlib.sha256(data).hexdigest(), len(data))


def test_a_single_file_and_a_file_address(tmp_path):
    path = make.write(make.table(7), tmp_path / "rows.csv.gz")
    (file,) = collect(make.spec(path)).files
    assert (file.name, file.period, file.format, file.uri) == ("rows.csv.gz", "rows", "csv.gz", str(path))
    assert collect(make.spec(f"file://{path}")).digest == collect(make.spec(path)).digest


def test_each_file_is_a_period_without_folders_and_time(tmp_path):
    for name in ("10.csv", "9.parquet", "sub/1.csv"):
        make.write(make.table(7), tmp_path / name)
    assert [file.period for file in collect(make.spec(tmp_path)).files] == ["9", "10", "sub/1"]
    dated = collect(make.spec(tmp_path, time="time", period="month"))
    assert [file.period for file in dated.files] == [None] * 3
    assert [file.period for file in collect(make.spec(tmp_path, time="time")).files] == ["9", "10", "sub/1"]


def test_until(tmp_path):
    make.months(tmp_path)
    assert [file.period for file in collect(make.spec(tmp_path), until="2024-02").files] == ["2024-01", "2024-02"]


@pytest.mark.parametrize(
    "until", ["2024-2", "2024-13", "2024-02-01", "24-02", "2024-02 ", "Feb", "2024-W02", "²024-02"]
)
def test_until_that_is_no_period_of_the_unit(tmp_path, until):
    make.months(tmp_path)
    with pytest.raises(InputError, match=r"is no month\n.*like 2024-03; the newest .* 2024-02, 2024-03"):
        collect(make.spec(tmp_path, period="month"), until=until)
    with pytest.raises(InputError, match=r"has no period .*\n.*2024-01, 2024-02, 2024-03"):
        collect(make.spec(tmp_path), until=until)


@pytest.mark.parametrize(
    ("unit", "good", "bad"),
    [
        ("day", "2024-02-29", "2023-02-29"),
        ("week", "2020-W53", "2021-W53"),
        ("month", "2024-12", "2024-00"),
        ("quarter", "2024-Q4", "2024-Q5"),
        ("year", "2024", "0000"),
    ],
)
def test_until_where_periods_are_cut_from_the_time(tmp_path, unit, good, bad):
    path = make.write(make.table(7), tmp_path / "rows.csv")
    spec = make.spec(path, time="time", period=unit)
    assert collect(spec, until=good).until == good
    with pytest.raises(InputError, match=f"'{bad}' is no {unit}"):
        collect(spec, until=bad)


def test_until_a_period_of_the_data_that_is_not_of_the_unit(tmp_path):
    make.write(make.table(7), tmp_path / "period=start" / "x.csv")
    assert len(collect(make.spec(tmp_path, period="month"), until="start").files) == 1


def test_ignored_files_are_named(tmp_path):
    make.months(tmp_path, 1)
    for name in ("_SUCCESS", "period=2024-01/.part.crc", "_temporary/a.parquet", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = collect(make.spec(tmp_path))
    assert len(found.files) == 1
    assert found.ignored == ("_SUCCESS", "_temporary/a.parquet", "notes.txt", "period=2024-01/.part.crc")


def test_the_digest_is_of_the_content(tmp_path):
    make.months(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one, two = (collect(make.spec(tmp_path / name)) for name in ("one", "two"))
    assert one.digest == two.digest
    (tmp_path / "two" / "_SUCCESS").touch()
    assert collect(make.spec(tmp_path / "two")).digest == one.digest
    assert collect(make.spec(tmp_path / "two"), until="2024-02").digest != one.digest
    assert records.from_json(Dataset, records.to_json(one)) == one


def test_previous_files_that_are_gone_or_the_same_are_no_problem(tmp_path):
    make.months(tmp_path)
    before = collect(make.spec(tmp_path))
    shutil.rmtree(tmp_path / "period=2024-01")
    assert len(collect(make.spec(tmp_path), previous=[before]).files) == 2


def test_each_changed_file_is_a_problem(tmp_path):
    make.months(tmp_path)
    before = collect(make.spec(tmp_path))
    for month in ("01", "03"):
        make.write(make.table(9), tmp_path / f"period=2024-{month}" / "part-0.parquet")
    with pytest.raises(DataError) as error:
        collect(make.spec(tmp_path), previous=[before])
    assert len(error.value.problems) == 2


def test_periods_sort_as_people_count():
    assert sorted(["10", "9", "2024-Q2", "2024-10", "2024-9", "a", ""], key=period_order) == [
        "", "9", "10", "2024-9", "2024-10", "2024-Q2", "a",
    ]  # fmt: skip
