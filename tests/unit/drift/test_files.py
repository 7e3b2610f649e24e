from __future__ import annotations

import datetime as dt
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.somebody import somebody_else
from upkeep import records
from upkeep.drift.files import compare
from upkeep.drift.result import DriftReport
from upkeep.errors import AccessError, DataError
from upkeep.spec.model import Drift

QUICK = Drift(classifier_rows=0)


def rows(count, seed, *, mean=0.0, letters=("a", "b", "c")):
    rng = np.random.default_rng(seed)
    start = dt.datetime(2013, 1 + seed, 1, tzinfo=dt.UTC)
    return pa.table(
        {
            "amount": rng.normal(mean, 1, count),
            "items": rng.integers(0, 9, count),
            "city": rng.choice(letters, count),
            "member": rng.random(count) < 0.5,
            "when": pa.array([start + dt.timedelta(minutes=37 * i) for i in range(count)], pa.timestamp("us", "UTC")),
        }
    )


@pytest.fixture
def files(tmp_path):
    def write(name, table, **options):
        path = tmp_path / name
        if path.suffix == ".csv":
            pyarrow.csv.write_csv(table, path)
        else:
            pq.write_table(table, path, **options)
        return str(path)

    return write


def found(report):
    return {column.column: column.finding for column in report.columns}


def test_two_parquet_files(files):
    a, b = files("a.parquet", rows(1200, 0)), files("b.parquet", rows(900, 1, mean=0.8, letters=("a", "z")))
    report = compare(a, b, QUICK)
    assert found(report) == {
        "amount": "drift",
        "city": "drift",
        "items": "stable",
        "member": "stable",
        "when": "stable",
    }
    assert (report.finding, report.reference_rows, report.current_rows) == ("drift", 1200, 900)
    assert report.reference == a and report.periods == () and report.two_sample is None
    assert "2 of 5 columns moved" in report.summary and "city" in report.summary
    assert records.from_json(DriftReport, records.to_json(report)) == report
    same = compare(a, a, QUICK)
    assert same.finding == "stable" and all(column.effect == 0 for column in same.columns)


def test_row_groups_and_batches_change_nothing(files, monkeypatch):
    table, other = rows(1500, 0), rows(1000, 1, mean=0.1)
    whole = compare(files("a.parquet", table), files("b.parquet", other), QUICK)
    monkeypatch.setattr("upkeep.drift.files.BATCH", 97)
    monkeypatch.setattr("upkeep.drift.files.KEPT_ROWS", 100)
    cut = compare(
        files("a.parquet", table, row_group_size=130, use_dictionary=False),
        files("b.parquet", other, row_group_size=333),
        QUICK,
    )
    assert cut == whole


def test_csv_gives_the_same_as_parquet(files):
    table, other = rows(700, 0), rows(600, 1, mean=0.5)
    by_csv = compare(files("a.csv", table), files("b.csv", other), QUICK)
    by_parquet = compare(files("a.parquet", table), files("b.parquet", other), QUICK)
    assert by_csv.columns == by_parquet.columns
    mixed = compare(files("a.parquet", table), files("b.csv", other), QUICK)
    assert mixed.columns == by_parquet.columns


def test_the_classifier_looks_at_all_columns(files):
    a, b = files("a.parquet", rows(800, 0)), files("b.csv", rows(700, 0, mean=1.0))
    report = compare(a, b, Drift())
    assert report.two_sample is not None and report.two_sample.finding == "drift"
    assert report.two_sample.top_columns[0][0] == "amount"
    assert report == compare(a, b, Drift())


def test_exact_kolmogorov_smirnov(files):
    from scipy.stats import ks_2samp

    one, other = rows(800, 0), rows(700, 1, mean=0.3)
    report = compare(files("a.parquet", one), files("b.parquet", other), Drift(classifier_rows=0, exact_ks=True))
    (amount,) = [column for column in report.columns if column.column == "amount"]
    expected = ks_2samp(one.column("amount").to_numpy(), other.column("amount").to_numpy())
    assert (amount.statistics["ks"], amount.p_value) == (expected.statistic, expected.pvalue)


def test_columns_that_cannot_be_compared_are_reported(files):
    old = rows(300, 0).append_column("gone", pa.array([1.0] * 300)).append_column("list", pa.array([[1]] * 300))
    new = rows(300, 1).append_column("fresh", pa.array([1.0] * 300)).append_column("list", pa.array([[1]] * 300))
    new = new.set_column(1, "items", pa.array(["one"] * 300))
    report = compare(files("a.parquet", old), files("b.parquet", new), QUICK)
    reasons = {column.column: column.reason for column in report.columns if column.finding == "insufficient"}
    assert reasons == {
        "gone": "The column is missing in the current file.",
        "fresh": "The column is missing in the reference file.",
        "list": "A column of type list<element: int64> cannot be compared.",
        "items": "The column is numeric in the reference and categorical now.",
    }
    assert "Not judged: " in report.summary
    with pytest.raises(DataError, match="no column that could be compared"):
        compare(files("c.parquet", pa.table({"x": [1]})), files("d.parquet", pa.table({"y": [1]})), QUICK)


def test_a_column_of_nulls_takes_the_other_sides_kind(files):
    old, new = rows(400, 0), rows(400, 1)
    new = new.set_column(0, "amount", pa.nulls(400))
    report = compare(files("a.parquet", old), files("b.parquet", new), QUICK)
    assert found(report)["amount"] == "drift"
    both = compare(files("b.parquet", new), files("c.parquet", new), QUICK)
    assert found(both)["amount"] == "insufficient"


def test_bad_files_are_explained(files, tmp_path):
    good = files("good.parquet", rows(300, 0))
    whole = (tmp_path / "good.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.parquet").write_bytes(b"")
    broken = bytearray(whole)
    broken[200:3000] = b"\xff" * 2800
    (tmp_path / "broken.parquet").write_bytes(bytes(broken))
    (tmp_path / "empty.csv").write_bytes(b"")
    for name in ("cut.parquet", "empty.parquet", "broken.parquet", "none.parquet", "none.csv", "empty.csv", "odd.xls"):
        with pytest.raises(DataError) as refused:
            compare(good, str(tmp_path / name), QUICK)
        problem = refused.value.problems[0]
        assert name in str(problem.where) and problem.fix
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    with pytest.raises(DataError, match="twice"):
        compare(files("twice.parquet", twice), good, QUICK)


def test_a_file_that_may_not_be_read(files, tmp_path):
    path = files("secret.parquet", rows(300, 0))
    (tmp_path / "secret.parquet").chmod(0)
    with somebody_else(tmp_path), pytest.raises(AccessError):
        compare(path, path, QUICK)


def test_no_rows_are_insufficient(files):
    a, b = files("a.parquet", rows(300, 0)), files("b.parquet", rows(300, 0).slice(0, 0))
    assert compare(a, b, Drift()).finding == "insufficient"
    assert compare(b, a, QUICK).finding == "insufficient"


def test_it_imports_neither_pandas_nor_scikit_learn(files):
    a, b = files("a.parquet", rows(500, 0)), files("b.parquet", rows(500, 1))
    code = (
        "import sys; from upkeep.drift.files import compare; from upkeep.spec.model import Drift; "
        f"compare({a!r}, {b!r}, Drift(classifier_rows=0)); "
        "print([name for name in ('pandas', 'sklearn', 'scipy.stats') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
