"""A spec inferred from data is one that load() and check() take, and says what it guessed."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from upkeep.data import infer as inference
from upkeep.data import sample as sampling
from upkeep.data import tidy_yaml
from upkeep.data.infer import Inferred, infer, single_column_auc
from upkeep.data.tidy_yaml import render
from upkeep.errors import DataError
from upkeep.spec.check import check
from upkeep.spec.load import parse
from upkeep.spec.model import ObjectStore

ROWS = 3000


def flights(rows: int = ROWS, seed: int = 0) -> dict[str, Any]:
    """Columns of made-up flights over a hundred days."""
    random = np.random.default_rng(seed)
    start = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    delay = random.normal(0, 30, rows).round(1)
    return {
        "flight_id": np.arange(rows) * 7 + 100,
        "departure": [start + dt.timedelta(minutes=int(m)) for m in np.sort(random.integers(0, 100 * 1440, rows))],
        "distance": random.integers(50, 3000, rows),
        "temperature": random.normal(60, 10, rows),
        "carrier": random.choice(["AA", "BB", "CC"], rows),
        "zip": random.choice([10115, 20095, 50667, 80331], rows),
        "weekend": random.random(rows) < 0.3,
        "year": np.full(rows, 2024),
        "note": [f"a note of some words {index}" for index in range(rows)],
        "empty": pa.nulls(rows),
        "arrival_delay": delay,
        "late": np.where(delay > 15, "yes", "no"),
    }


def write_parquet(path: Path, columns: dict[str, Any], row_group_size: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def write_csv(path: Path, columns: dict[str, Any], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    lists = {
        name: values.to_pylist() if isinstance(values, pa.Array) else list(values) for name, values in columns.items()
    }
    opened: Any = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "wt", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(lists)
        writer.writerows(zip(*lists.values(), strict=True))
    return path


def checked(inferred: Inferred) -> Any:
    """The spec that the rendered YAML gives; it must be good, and the same as ``inferred.spec``."""
    text = render(inferred)
    parsed = parse(text.encode(), "upkeep.yaml")
    assert parsed.spec is not None, text + "\n".join(map(str, parsed.problems))
    errors = [p for p in check(parsed.spec, parsed.positions, {}, imports=False) if p.severity == "error"]
    assert errors == [], text
    assert yaml.safe_load(text) == inferred.spec
    return parsed.spec


@pytest.mark.parametrize("name", ["flights.parquet", "flights.csv", "flights.csv.gz"])
def test_a_file_becomes_a_spec(tmp_path: Path, name: str) -> None:
    write = write_parquet if name.endswith(".parquet") else write_csv
    inferred = infer(write(tmp_path / name, flights()), target="late")
    spec = checked(inferred)
    assert spec.name == "flights"
    assert spec.data.source == str(tmp_path / name)
    assert spec.data.target.column == "late"
    assert spec.data.target.positive == "yes"
    assert spec.data.target.classes == ("no", "yes")
    assert spec.data.id == "flight_id"
    assert spec.data.time == "departure"
    assert spec.data.period == "week"
    assert spec.data.split.group == "day"
    assert spec.data.features.numeric == ("distance", "temperature")
    assert spec.data.features.categorical == ("carrier", "zip", "weekend")
    assert spec.data.slices == ("carrier", "zip", "weekend")
    assert [candidate.name for candidate in spec.candidates] == ["boosting", "logistic"]
    assert inferred.left_out == {
        "year": "always 2024",
        "note": "3,000 different values: free text",
        "empty": "no value at all",
        "arrival_delay": "it tells late almost perfectly by itself (AUC 1.000): it may be a result of it",
    }


def test_every_guess_is_said(tmp_path: Path) -> None:
    inferred = infer(write_parquet(tmp_path / "f.parquet", flights()), target="late")
    said = "\n".join(inferred.guesses)
    for word in (
        "id:",
        "time:",
        "period:",
        "split:",
        "target:",
        "slices:",
        "year is left out",
        "arrival_delay",
        "zip:",
    ):
        assert word in said
    text = render(inferred)
    assert "# positive: by its name" in text
    assert "# the rows span 100 days" in text
    assert "#   year: always 2024" in text
    assert "3,000 rows" in text
    assert all(len(line) <= 120 for line in text.splitlines())
    assert len(text.splitlines()) < 45


def test_ranges_have_slack_and_a_sign_only_where_it_is_sure(tmp_path: Path) -> None:
    columns = {
        "y": [0, 1] * 100,
        "amount": np.linspace(0.01, 90, 200),
        "temperature": np.linspace(20, 90, 200),
        "loss": np.linspace(-400, -10, 200),
        "hour": np.arange(200) % 24,
        "hit_rate": np.linspace(0.1, 0.8, 200),
        "rain": np.linspace(0, 0.9, 200),
        "flag": [0, 1, 1, 0] * 50,
    }
    spec = checked(infer(write_parquet(tmp_path / "a.parquet", columns), target="y"))
    rules = {name: (rule.min, rule.max) for name, rule in spec.data.columns.items()}
    assert rules["amount"] == (0, 200)
    assert rules["temperature"] == (-50, 200)
    assert rules["loss"] == (-1000, 500)
    assert rules["hour"] == (0, 23)
    assert rules["hit_rate"] == (0, 1)
    assert rules["rain"] == (0, 2)
    assert rules["flag"] == (0, 1)


def test_the_range_is_that_of_all_rows_not_of_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SAMPLE_ROWS", 100)
    x = np.full(10_000, 5.0)
    x[1::2] = 7.5
    x[5001] = 1_000_000
    path = write_parquet(tmp_path / "a.parquet", {"x": x, "y": np.arange(10_000) // 3 % 2}, row_group_size=500)
    inferred = infer(path, target="y")
    assert checked(inferred).data.columns["x"].max == 2_000_000
    assert "10,000 rows" in inferred.seen
    assert "looked at" in inferred.seen


def test_a_large_csv_is_thinned_over_its_whole_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SAMPLE_ROWS", 500)
    rows = 20_000
    columns = {
        "x": np.arange(rows) * 1.5,
        "half": ["a"] * (rows // 2) + ["b"] * (rows // 2),
        "y": np.arange(rows) // 7 % 2,
    }
    sample = sampling.take_sample(str(write_csv(tmp_path / "a.csv", columns)), ObjectStore())
    assert sample.rows == rows
    assert 500 <= sample.table.num_rows <= 1000
    assert set(sample.table.column("half").to_pylist()) == {"a", "b"}


def test_folders_of_periods(tmp_path: Path) -> None:
    for month in ("2024-01", "2024-02", "2024-03"):
        write_parquet(tmp_path / "data" / f"period={month}" / "part-0.parquet", flights(500))
    (tmp_path / "data" / "_SUCCESS").write_text("")
    inferred = infer(tmp_path / "data", target="late", name="My Flights v2!")
    spec = checked(inferred)
    assert spec.data.period == "month"
    assert spec.data.source == str(tmp_path / "data")
    assert spec.name == "my-flights"
    assert "1,500 rows in 3 files" in inferred.seen
    assert spec.data.id is None  # the same ids in each file


@pytest.mark.parametrize(
    ("periods", "unit"),
    [
        (["2024-01-01"], "day"),
        (["2024-W01"], "week"),
        (["2024-Q1", "2024Q2"], "quarter"),
        (["2024"], "year"),
        (["a"], None),
    ],
)
def test_the_unit_of_period_folders(periods: list[str], unit: str | None) -> None:
    assert inference._period_unit(periods) == unit


def test_delimiter_and_encoding_are_found(tmp_path: Path) -> None:
    columns = {"größe": ["1,5", "2,5", "ü"] * 40, "y": [0, 1, 1, 0] * 30, "z": [1, 2, 3] * 40}
    path = write_csv(tmp_path / "a.csv", columns, delimiter=";", encoding="cp1252")
    inferred = infer(path, target="y")
    spec = checked(inferred)
    assert (spec.data.delimiter, spec.data.encoding) == (";", "cp1252")
    assert "größe" in spec.data.features.categorical
    assert any("cp1252 is a guess" in guess for guess in inferred.guesses)


def test_a_few_odd_values_do_not_make_a_number_text(tmp_path: Path) -> None:
    values = [str(index % 90) for index in range(300)]
    values[7] = "n.k."
    inferred = infer(
        write_csv(tmp_path / "a.csv", {"x": values, "code": ["01", "02"] * 150, "y": [0, 1, 1] * 100}), target="y"
    )
    spec = checked(inferred)
    assert spec.data.features.numeric == ("x",)
    assert spec.data.features.categorical == ("code",)
    assert any("'n.k.'" in guess for guess in inferred.guesses)


@pytest.mark.parametrize(
    ("labels", "positive", "expected"),
    [
        (["good", "bad", "good", "good"], None, "bad"),
        (["a", "b", "b", "b"], None, "a"),
        ([True, False, True, True], None, True),
        ([0, 1, 1, 1], None, 1),
        ([1.0, 2.0, 1.0, 1.0], None, 2),
        ([0, 1, 1, 1], "0", 0),
        ([True, False, True, True], "false", False),
        ([0, 1, 2, 1], None, None),
    ],
)
def test_the_positive_class(tmp_path: Path, labels: list[Any], positive: Any, expected: Any) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"x": np.arange(200) % 37 + 0.5, "y": labels * 50})
    spec = checked(infer(path, target="y", positive=positive))
    assert spec.data.target.positive == expected
    assert type(spec.data.target.positive) is type(expected)


def test_customers_that_come_back_are_held_out_whole(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    columns = {"customer_id": np.arange(900) % 300, "x": random.random(900), "y": random.integers(0, 2, 900)}
    inferred = infer(write_parquet(tmp_path / "a.parquet", columns), target="y")
    spec = checked(inferred)
    assert spec.data.split.group == "customer_id"
    assert "customer_id" not in spec.data.features.all
    assert "3.0 rows each" in inferred.left_out["customer_id"]


def test_few_rows_a_day_are_not_held_out_by_day(tmp_path: Path) -> None:
    spec = checked(infer(write_parquet(tmp_path / "a.parquet", flights(300)), target="late"))
    assert spec.data.split.group is None


def test_a_suspicious_column_is_named_and_stays(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 2000)
    columns = {"strong": y + random.normal(0, 0.5, 2000), "weak": random.random(2000), "y": y}
    inferred = infer(write_parquet(tmp_path / "a.parquet", columns), target="y")
    assert checked(inferred).data.features.numeric == ("strong", "weak")
    assert any(guess.startswith("strong: tells y well by itself") for guess in inferred.guesses)
    assert not any(guess.startswith("weak: tells") for guess in inferred.guesses)


def test_long_data_gets_an_incremental_candidate(tmp_path: Path) -> None:
    spec = checked(infer(write_parquet(tmp_path / "a.parquet", flights(12_000)), target="late"))
    assert [candidate.name for candidate in spec.candidates] == ["boosting", "logistic", "online"]


def test_columns_of_other_types_are_left_out(tmp_path: Path) -> None:
    columns = {
        "y": [0, 1] * 50,
        "x": np.arange(100) % 9 * 1.5,
        "list": pa.array([[1, 2]] * 100),
        "_row": np.arange(100),
        "decimal": pa.array(np.arange(100) % 7).cast(pa.decimal128(19, 0)),
        "words": pa.array(["a", "b"] * 50).dictionary_encode(),
        "infinite": [float("inf"), 1.0, 2.5, 7.0] * 25,
        "day": pa.array([dt.date(2024, 1, 1), dt.date(2024, 5, 1)] * 50),
    }
    inferred = infer(write_parquet(tmp_path / "a.parquet", columns), target="y")
    spec = checked(inferred)
    assert set(inferred.left_out) >= {"list", "_row"}
    assert "decimal" in spec.data.features.numeric
    assert spec.data.time == "day"
    assert any("infinity" in guess for guess in inferred.guesses)


# --- the AUC of one column


def test_auc_is_the_share_of_pairs_in_order() -> None:
    random = np.random.default_rng(1)
    scores = random.integers(0, 20, 300).astype(float)
    positive = random.random(300) < 0.1 + 0.03 * scores
    ones, zeros = scores[positive][:, None], scores[~positive][None, :]
    by_pairs = ((ones > zeros) + 0.5 * (ones == zeros)).mean()
    assert inference._auc(scores, positive) == pytest.approx(by_pairs, abs=1e-12)


def test_single_column_auc_knows_chance_from_knowledge() -> None:
    random = np.random.default_rng(2)
    labels = random.integers(0, 3, 4000)
    assert single_column_auc(labels, labels) == 1.0
    noise = single_column_auc(random.integers(0, 256, 4000), labels)
    assert noise is not None
    assert abs(noise - 0.5) < 0.05
    assert single_column_auc(labels[:50], labels[:50]) is None
    assert single_column_auc(labels, np.full(4000, -1)) is None


# --- what cannot be used


def test_bad_input_is_a_clear_error(tmp_path: Path) -> None:
    def refused(path: Path | str, target: str = "y", **more: Any) -> str:
        with pytest.raises(DataError) as caught:
            infer(path, target=target, **more)
        (problem,) = caught.value.problems
        assert problem.fix
        return problem.message

    def file(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    good = {"x": np.arange(100) % 7 * 1.5, "y": [0, 1] * 50}
    parquet = write_parquet(tmp_path / "good.parquet", good)
    assert "not there" in refused(tmp_path / "none.csv")
    assert "no such file or folder" in refused(tmp_path / "none")
    assert "no format" in refused(file("a.txt", b"x,y\n"))
    (tmp_path / "folder").mkdir()
    assert "no data files" in refused(tmp_path / "folder")
    assert "empty" in refused(file("empty.csv", b""))
    assert "no rows" in refused(file("header.csv", b"x,y\n"))
    assert "more than one column named x" in refused(file("twice.csv", b"x,x,y\n1,2,3\n"))
    assert "damaged" in refused(file("cut.parquet", parquet.read_bytes()[:-50]))
    assert "there is no column Y2" in refused(parquet, "Y2")
    assert refused(parquet, "Y").endswith("there are x, y")
    assert "begin with _" in refused(write_parquet(tmp_path / "0.parquet", {**good, "_y": [0, 1] * 50}), "_y")
    assert "one class only, 0" in refused(write_parquet(tmp_path / "1.parquet", {**good, "y": [0] * 100}))
    assert "no value at all" in refused(write_parquet(tmp_path / "2.parquet", {**good, "y": pa.nulls(100)}))
    assert "number with decimals" in refused(write_parquet(tmp_path / "3.parquet", {**good, "y": np.arange(100) / 7}))
    assert "holds times" in refused(write_parquet(tmp_path / "4.parquet", {**good, "y": [dt.date(2024, 1, 1)] * 100}))
    many = write_parquet(tmp_path / "5.parquet", {"x": np.arange(300) % 7, "y": np.arange(300)})
    assert "300 different values" in refused(many)
    assert "no label of y" in refused(parquet, positive="late")
    assert "no column is left" in refused(write_parquet(tmp_path / "6.parquet", {"x": [1] * 100, "y": [0, 1] * 50}))
    three = write_parquet(tmp_path / "7.parquet", {"x": np.arange(300) % 7 * 1.5, "y": np.arange(300) % 3})
    assert "for two classes" in refused(three, positive=1)


def test_files_that_do_not_agree_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "d" / "a.parquet", {"x": ["a", "b"], "y": [0, 1]})
    write_parquet(tmp_path / "d" / "b.parquet", {"x": [1, 2], "y": [0, 1]})
    with pytest.raises(DataError, match="do not agree on a column's type"):
        infer(tmp_path / "d", target="y")


# --- laws

NAMES = st.text(min_size=1, max_size=12).filter(lambda name: name.encode("utf-8", "ignore").decode() == name)
TEXTS = NAMES | st.sampled_from(
    ["yes", "no", "on", "null", "~", "1e4", "010", "1:30", "a: b", "a #b", "- a", "#", "2024-01-01", "<<"]
)


@given(TEXTS)
@settings(max_examples=150)
def test_a_rendered_scalar_is_read_back_by_any_yaml(text: str) -> None:
    assert yaml.safe_load(f"- {tidy_yaml._scalar(text)}") == [text]
    read = parse(f"metadata: {{name: {tidy_yaml._scalar(text)}}}\n".encode(), "x")
    assert not any("valid YAML" in problem.message for problem in read.problems)


@given(st.lists(TEXTS, min_size=1, max_size=30))
@settings(max_examples=60)
def test_wrapped_lists_are_read_back(names: list[str]) -> None:
    text = "\n".join(tidy_yaml._wrapped(f"    numeric: {tidy_yaml._flow(names)}"))
    assert yaml.safe_load(text) == {"numeric": names}


@given(
    st.lists(NAMES, min_size=2, max_size=5, unique=True),
    st.lists(TEXTS, min_size=2, max_size=4, unique=True),
    st.integers(0, 2**16),
)
@settings(max_examples=25)
def test_any_table_gives_a_spec_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], words: list[str], seed: int
) -> None:
    random = np.random.default_rng(seed)
    rows = 60
    makers = [
        lambda: random.integers(-3, 3, rows),
        lambda: random.normal(0, 10.0 ** random.integers(-8, 12), rows),
        lambda: pa.array(random.choice(words, rows).tolist()),
        lambda: pa.array(random.random(rows) < 0.5),
        lambda: pa.array(random.integers(0, 10**9, rows), pa.timestamp("s")),
        lambda: pa.nulls(rows),
    ]
    columns = {name: makers[random.integers(len(makers))]() for name in names}
    columns[names[0]] = pa.array(random.choice(words[:2], rows).tolist())
    path = write_parquet(tmp_path_factory.mktemp("any") / "a.parquet", columns)
    try:
        inferred = infer(path, target=names[0])
    except DataError as error:
        assert error.problems[0].message
        return
    checked(inferred)


def test_numbers_and_times_in_forms_that_are_not_read_are_left_out_and_named(tmp_path: Path) -> None:
    columns = flights()
    columns["price"] = [f"{number % 90},50" for number in range(ROWS)]
    columns["turnover"] = [f"{1 + number % 7}.234,5" for number in range(ROWS)]
    columns["born"] = [f"{1 + number % 28}.01.1990" for number in range(ROWS)]
    columns["address"] = [f"10.1.20.{number % 200}" for number in range(ROWS)]
    inferred = infer(write_csv(tmp_path / "a.csv", columns, delimiter=";"), target="late")
    for name in ("price", "turnover"):
        assert inferred.left_out[name].startswith("numbers with a comma; write them with a decimal point, such as")
    assert "write 2024-01-31, such as 1.01.1990" in inferred.left_out["born"]
    assert "address" in inferred.spec["data"]["features"]["categorical"]


def test_who_has_rows_on_both_sides_of_a_split_by_day_is_told(tmp_path: Path) -> None:
    columns = flights() | {"customer_id": [f"c{number % 300}" for number in range(ROWS)]}
    inferred = infer(write_csv(tmp_path / "a.csv", columns), target="late")
    assert inferred.spec["data"]["split"]["group"] == "day"
    assert any("one customer_id has rows on both sides" in guess for guess in inferred.guesses)
