import itertools
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from tests.unit.data import make
from upkeep import records
from upkeep.data.collect import collect
from upkeep.data.prepared import Summary
from upkeep.errors import DataError
from upkeep.spec.model import ColumnRule, Split, Target

ALL = ("train", "validation", "held_out", "kept_out")
BOTH = (make.ONE, make.TWO)


def parts(prepared, column="id"):
    rows = prepared.table(parts=ALL, columns=[column, "_part"])
    return dict(zip(rows.column(0).to_pylist(), rows.column(1).to_pylist(), strict=True))


def fingerprints(prepared):
    return pq.read_table(prepared.path / "heldout.parquet")


def adds_up(summary):
    for counts in summary.periods:
        kept = counts.train + counts.validation + counts.held_out
        assert counts.read == counts.quarantined + counts.duplicates + kept + counts.kept_out
        assert sum(counts.by_class.values()) == kept


def test_the_folder(tmp_path):
    make.months(tmp_path / "data")
    model = make.spec(tmp_path / "data", time="time", candidates=BOTH)
    out = make.prepared(tmp_path, model)
    assert sorted(path.relative_to(out.path).as_posix() for path in out.path.rglob("*") if path.is_file()) == [
        "heldout.parquet",
        "quarantine.parquet",
        *(f"rows/period=2024-0{month}/part-00000.parquet" for month in (1, 2, 3)),
        "summary.json",
    ]
    assert out.schema.equals(
        pa.schema(
            {
                "size": pa.float64(), "weight": pa.float64(), "colour": pa.string(), "flag": pa.string(),
                "time": pa.timestamp("us", tz="UTC"), "id": pa.string(), "label": pa.string(),
                "_period": pa.string(), "_part": pa.string(), "_group": pa.uint64(), "_row": pa.uint64(),
            }
        )
    )  # fmt: skip
    assert [counts.period for counts in out.summary.periods] == ["2024-01", "2024-02", "2024-03"]
    assert [column.name for column in out.summary.columns] == ["size", "weight", "colour", "flag"]
    assert (out.summary.classes, out.summary.positive, out.summary.target) == (("no", "yes"), "yes", "label")
    assert out.summary.dataset == collect(model).digest
    assert pq.read_table(out.path / "quarantine.parquet").num_rows == 0
    assert {path.name for path in tmp_path.iterdir()} == {"data", "prepared"}
    adds_up(out.summary)
    assert records.read(Summary, out.path / "summary.json") == out.summary


def test_the_same_input_gives_the_same_bytes(tmp_path):
    make.months(tmp_path / "data")
    model = make.spec(tmp_path / "data")
    one, two = make.prepared(tmp_path, model), make.prepared(tmp_path, model, out=tmp_path / "again")
    for path in one.path.rglob("*.*"):
        assert path.read_bytes() == (two.path / path.relative_to(one.path)).read_bytes()


def test_csv_and_parquet_give_the_same_rows(tmp_path):
    rows = make.table(500)
    tables = []
    for ending in ("csv", "csv.gz", "parquet"):
        make.write(rows, tmp_path / ending / "2024-01" / f"a.{ending}")
        model = make.spec(tmp_path / ending, time="time", period="week", candidates=BOTH)
        tables.append(make.prepared(tmp_path, model, out=tmp_path / f"out-{ending}").table(parts=ALL))
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_key_has_one_part_for_ever(tmp_path_factory, data):
    """Whatever the file, the order, the format and the period; and adding data never moves a row."""
    tmp_path = tmp_path_factory.mktemp("law")
    rows = make.table(120)
    group = data.draw(st.sampled_from([None, "colour", "day"]))
    model = {"split": Split(group=group, same_content=False), "time": "time", "candidates": BOTH}
    make.write(rows, tmp_path / "one" / "all.parquet")
    expected = parts(make.prepared(tmp_path, make.spec(tmp_path / "one", **model), out=tmp_path / "a"))
    order = data.draw(st.permutations(range(120)))
    cut = data.draw(st.integers(1, 119))
    ending = data.draw(st.sampled_from(["csv", "csv.gz", "parquet"]))
    make.write(rows.take(order[:cut]), tmp_path / "two" / "period=b" / f"x.{ending}")
    make.write(rows.take(order[cut:]), tmp_path / "two" / "period=a" / f"y.{ending}")
    make.write(make.table(80, seed=9, first=500), tmp_path / "two" / "period=c" / "z.parquet")
    found = parts(make.prepared(tmp_path, make.spec(tmp_path / "two", **model), out=tmp_path / "b"))
    assert {key: part for key, part in found.items() if key in expected} == expected


def test_another_salt_gives_another_split(tmp_path):
    make.write(make.table(500), tmp_path / "data" / "a.parquet")
    one, two, named = (
        parts(make.prepared(tmp_path, make.spec(tmp_path / "data", **options), out=tmp_path / str(number)))
        for number, options in enumerate([{"split": Split(salt="one")}, {"split": Split(salt="two")}, {"name": "one"}])
    )
    assert one != two
    assert one == named


def test_groups_stay_together(tmp_path):
    make.write(make.table(2000), tmp_path / "data" / "a.parquet")
    out = make.prepared(tmp_path, make.spec(tmp_path / "data", time="time", split=Split(group="day"), candidates=BOTH))
    rows = out.table(parts=ALL, columns=["time", "_part"]).to_pylist()
    by_day = {}
    for row in rows:
        by_day.setdefault(row["time"].date(), set()).add(row["_part"])
    assert all(len(found) == 1 for found in by_day.values())
    assert len(by_day) == 31
    assert out.summary.group == "day"


def test_validation_only_where_there_is_a_choice(tmp_path):
    make.write(make.table(500), tmp_path / "data" / "a.parquet")
    alone = parts(make.prepared(tmp_path, make.spec(tmp_path / "data")))
    several = parts(make.prepared(tmp_path, make.spec(tmp_path / "data", candidates=BOTH)))
    assert "validation" not in alone.values()
    assert "validation" in several.values()
    assert {key for key, part in alone.items() if part == "held_out"} == {
        key for key, part in several.items() if part == "held_out"
    }


# --- guards


def test_a_held_out_row_that_comes_back_under_another_id_is_kept_out(tmp_path):
    rows = make.table(400)
    make.write(rows, tmp_path / "data" / "1.parquet")
    make.write(rows.set_column(0, "id", pa.array([f"new{n}" for n in range(400)])), tmp_path / "data" / "2.parquet")
    out = make.prepared(tmp_path, make.spec(tmp_path / "data"))
    found = parts(out)
    held = {key.removeprefix("new").removeprefix("r") for key, part in found.items() if part == "held_out"}
    for number in range(400):
        ways = {found[f"r{number}"], found[f"new{number}"]}
        assert ways <= ({"held_out", "kept_out"} if str(number) in held else {"train"})
    assert sum(counts.kept_out for counts in out.summary.periods) == list(found.values()).count("kept_out") > 0
    adds_up(out.summary)


def test_the_content_guard_can_be_turned_off(tmp_path):
    rows = make.table(400)
    make.write(rows, tmp_path / "data" / "1.parquet")
    make.write(rows.set_column(0, "id", pa.array([f"new{n}" for n in range(400)])), tmp_path / "data" / "2.parquet")
    model = make.spec(tmp_path / "data", split=Split(same_content=False))
    assert "kept_out" not in parts(make.prepared(tmp_path, model)).values()


@pytest.mark.parametrize("change", ["id", "content"])
def test_a_held_out_row_of_an_earlier_update_is_kept_out(tmp_path, change):
    """The earlier file is gone; the row comes back with another group, under its id or with its content."""
    rows = make.table(300)
    make.write(rows, tmp_path / "one" / "1.parquet")
    model = {"split": Split(group="colour", held_out=0.5, salt="b"), "time": "time"}
    before = make.prepared(tmp_path, make.spec(tmp_path / "one", **model), out=tmp_path / "a")
    held = {key for key, part in parts(before).items() if part == "held_out"}
    assert 0 < len(held) < 300
    back = rows.set_column(0, "id", pa.array([f"new{n}" for n in range(300)])) if change == "content" else rows
    if change == "id":
        back = back.set_column(2, "size", pa.array(np.arange(300.0)))
    fresh = make.table(300, seed=5, first=1000)
    model["split"] = Split(group="day", held_out=0.5, salt="b")
    make.write(pa.concat_tables([back, fresh]), tmp_path / "two" / "2.parquet")
    later = make.prepared(
        tmp_path, make.spec(tmp_path / "two", **model), out=tmp_path / "b", held_out_before=fingerprints(before)
    )
    found = parts(later)
    name = "new{}" if change == "content" else "r{}"
    for number in range(300):
        part = found[name.format(number)]
        assert part in (("held_out", "kept_out") if f"r{number}" in held else ("train", "held_out"))
    assert "kept_out" in found.values()
    assert all(found[f"r{number}"] != "kept_out" for number in range(1000, 1300))


@pytest.mark.parametrize("id", ["id", None])
def test_a_new_salt_holds_out_others_and_knows_those_of_before(tmp_path, id):
    make.write(make.table(300), tmp_path / "data" / "1.parquet")

    def with_salt(salt, **options):
        model = make.spec(tmp_path / "data", id=id, split=Split(held_out=0.3, salt=salt), candidates=BOTH)
        return make.prepared(tmp_path, model, out=tmp_path / salt, **options)

    before = with_salt("one")
    after = with_salt("two", held_out_before=fingerprints(before))
    first, second = parts(before, "size"), parts(after, "size")
    held = {key for key, part in first.items() if part == "held_out"}
    assert {key for key, part in second.items() if part == "held_out"} != held
    assert {second[key] for key in held} == {"held_out", "kept_out"}, "none is in training or validation"
    assert {second[key] for key in second.keys() - held} == {"train", "validation", "held_out"}


def test_without_an_id_or_a_group_changed_features_are_said_to_move_the_split(tmp_path):
    make.months(tmp_path / "data", 2)

    def told(**data):
        warnings = make.prepared(tmp_path, make.spec(tmp_path / "data", **data)).summary.warnings
        return [warning for warning in warnings if "neither an id nor a split group" in warning]

    (warning,) = told(id=None)
    assert "when the features change, other rows are" in warning
    assert told() == []
    assert told(id=None, time="time", split=Split(group="day")) == []
    assert told(id=None, split=Split(method="prequential")) == []


def test_without_an_id_the_content_is_the_key(tmp_path):
    rows = make.table(300)
    for name, order in (("one", range(300)), ("two", range(299, -1, -1))):
        make.write(rows.take(list(order)), tmp_path / name / f"{name}.csv")
    one, two = (
        parts(make.prepared(tmp_path, make.spec(tmp_path / name, id=None), out=tmp_path / f"out-{name}"), "size")
        for name in ("one", "two")
    )
    assert one == two
    assert set(one.values()) == {"train", "held_out"}


def test_the_same_row_twice_without_an_id_is_two_rows(tmp_path):
    rows = make.table(100)
    make.write(pa.concat_tables([rows, rows]), tmp_path / "data" / "a.parquet")
    out = make.prepared(tmp_path, make.spec(tmp_path / "data", id=None))
    assert out.count(parts=ALL) == 200
    places = out.table(parts=ALL, columns=["_row"]).column(0).to_pylist()
    assert len(set(places)) == 200


def test_conflicts_across_periods_and_three_times(tmp_path):
    rows = make.table(300)
    make.write(rows.slice(0, 200), tmp_path / "data" / "1.csv")
    other = make.replace_value(make.replace_value(rows.slice(200), "id", 0, "r5"), "id", 1, "r5")
    make.write(other, tmp_path / "data" / "2.csv")
    out = make.prepared(tmp_path, make.spec(tmp_path / "data"))
    refused = pq.read_table(out.path / "quarantine.parquet").to_pylist()
    assert [(row["_file"], row["_row_number"], row["_period"]) for row in refused] == [
        ("1.csv", 6, "1"), ("2.csv", 1, "2"), ("2.csv", 2, "2"),
    ]  # fmt: skip
    assert "2.csv row 2" in refused[0]["_reason"]
    assert all("1.csv row 6" in row["_reason"] for row in refused[1:])
    assert "r5" not in parts(out)
    adds_up(out.summary)


# --- the other methods


def test_prequential_holds_out_the_newest_period(tmp_path):
    make.months(tmp_path / "data")
    model = make.spec(tmp_path / "data", split=Split(method="prequential"), candidates=BOTH)
    for until, newest in ((None, "2024-03"), ("2024-02", "2024-02")):
        out = make.prepared(tmp_path, model, until=until)
        for counts in out.summary.periods:
            assert (counts.held_out > 0) == (counts.period == newest)
            assert (counts.train + counts.validation > 0) == (counts.period != newest)
    held = fingerprints(out)
    assert held.num_rows == 400
    later = make.prepared(tmp_path, model, held_out_before=held)
    assert later.summary.periods[1].kept_out == 0


def test_prequential_keeps_out_what_comes_again_in_the_newest_period(tmp_path):
    rows = make.table(300)
    make.write(rows, tmp_path / "data" / "1.parquet")
    make.write(
        rows.slice(0, 50).set_column(0, "id", pa.array([f"n{n}" for n in range(50)])), tmp_path / "data" / "2.csv"
    )
    out = make.prepared(tmp_path, make.spec(tmp_path / "data", split=Split(method="prequential")))
    assert [counts.kept_out for counts in out.summary.periods] == [50, 0]


def test_random_state_is_the_text_books_split(tmp_path):
    first, second = make.table(333), make.table(100, first=333)
    make.write(pa.concat_tables([first, first.slice(0, 5)]), tmp_path / "data" / "1.csv")
    make.write(second, tmp_path / "data" / "2.csv")
    model = make.spec(tmp_path / "data", id=None, split=Split(method="random_state", random_state=42))
    out = make.prepared(tmp_path, model)
    sizes = [*first.column("size").to_pylist(), *first.column("size").to_pylist()[:5]]
    train, test = train_test_split(sizes, test_size=0.2, random_state=42)
    assert sorted(out.table(parts=("held_out",), columns=["size"]).column(0).to_pylist()) == sorted(test)
    again = out.table(parts=("train",), periods=["1"], columns=["size"]).column(0).to_pylist()
    assert sorted(again) == sorted(train)
    assert out.summary.periods[1].train == 100
    assert out.count(parts=("kept_out",)) == 0


def test_random_state_counts_refused_rows_so_that_rules_do_not_move_rows(tmp_path):
    rows = make.table(300)
    make.write(rows, tmp_path / "data" / "1.csv")
    split = Split(method="random_state")
    whole = parts(make.prepared(tmp_path, make.spec(tmp_path / "data", split=split)))
    rules = {"weight": ColumnRule(max=2.5)}
    fewer = parts(make.prepared(tmp_path, make.spec(tmp_path / "data", split=split, columns=rules)))
    assert len(fewer) < 300
    assert all(whole[key] == part for key, part in fewer.items())


# --- periods cut from time


@pytest.mark.parametrize("ordered", [True, False])
def test_periods_cut_from_time(tmp_path, ordered):
    rows = make.table(3000, days=70)
    order = np.arange(3000) if ordered else np.random.default_rng(0).permutation(3000)
    rows = rows.take(order)
    make.write(rows.slice(0, 1800), tmp_path / "data" / "a.parquet")
    make.write(rows.slice(1800), tmp_path / "data" / "b.csv")
    model = make.spec(tmp_path / "data", time="time", period="month")
    out = make.prepared(tmp_path, model)
    assert out.periods == ("2024-01", "2024-02", "2024-03")
    for period in out.periods:
        times = out.table(parts=ALL, periods=[period], columns=["time"]).column(0).to_pylist()
        assert {time.strftime("%Y-%m") for time in times} == {period}
    numbers = {key: position for position, key in enumerate(rows.column("id").to_pylist())}
    for period in out.periods:
        ids = out.table(parts=ALL, periods=[period], columns=["id"]).column(0).to_pylist()
        assert [numbers[key] for key in ids] == sorted(numbers[key] for key in ids)
    adds_up(out.summary)
    early = make.prepared(tmp_path, model, until="2024-02")
    assert early.periods == ("2024-01", "2024-02")
    assert early.summary.periods == out.summary.periods[:2]


def test_random_state_needs_the_first_period_first(tmp_path):
    rows = make.table(300, days=70).take(np.random.default_rng(0).permutation(300))
    make.write(rows, tmp_path / "data" / "a.parquet")
    model = make.spec(tmp_path / "data", time="time", period="month", split=Split(method="random_state"))
    with pytest.raises(DataError, match="must come first"):
        make.prepared(tmp_path, model)


# --- labels and warnings


@pytest.mark.parametrize(
    ("labels", "target", "classes"),
    [
        (["0", "1"], Target(column="label", positive=1), (0, 1)),
        (["0", "1"], Target(column="label"), (0, 1)),
        (["0", "1"], Target(column="label", positive=True), (False, True)),
        (["0", "1"], Target(column="label", positive="1"), ("0", "1")),
        (["0", "1"], Target(column="label", positive=1, classes=(1, 0, 2)), (1, 0, 2)),
        ([False, True], Target(column="label", positive=True), (False, True)),
        ([0, 1], Target(column="label", positive=True), (False, True)),
    ],
)
def test_classes_are_of_the_specs_type(tmp_path, labels, target, classes):
    rows = make.table(200)
    column = pa.array([labels[value == "yes"] for value in rows.column("label").to_pylist()])
    make.write(rows.set_column(6, "label", column), tmp_path / "data" / "a.parquet")
    out = make.prepared(tmp_path, make.spec(tmp_path / "data", target=target))
    assert out.summary.classes == classes
    assert [type(label) for label in out.summary.classes] == [type(label) for label in classes]
    found = out.table(parts=ALL)
    assert [classes[code] for code in out.codes(found)] == found.column("label").to_pylist()


def test_warnings(tmp_path):
    make.months(tmp_path / "data", 1)
    (tmp_path / "data" / "readme.txt").write_text("x")
    warnings = make.prepared(tmp_path, make.spec(tmp_path / "data", split=Split(held_out=0.0))).summary.warnings
    assert len(warnings) == 2
    assert "readme.txt" in warnings[0]
    assert "No row is held out" in warnings[1]


def test_progress(tmp_path):
    make.months(tmp_path / "data", 2)
    steps = []
    make.prepared(tmp_path, make.spec(tmp_path / "data"), progress=lambda step, share: steps.append((step, share)))
    assert [step for step, _ in itertools.groupby(steps, key=lambda item: item[0])] == [
        "read period=2024-01/part-0.parquet", "read period=2024-02/part-0.parquet", "compare rows",
        "write 2024-01", "write 2024-02", "prepared",
    ]  # fmt: skip
    assert all(share is None or 0 <= share <= 1 for _, share in steps)


# --- memory

MEASURE = """
import resource, sys
from pathlib import Path
from tests.unit.data import make
from upkeep.data import prepare as module
from upkeep.data.collect import collect

module.MEMORY_LIMIT = "64MB"
folder = Path(sys.argv[1])
model = make.spec(folder, time="time", period="month")
module.prepare(model, collect(model), folder.with_name(folder.name + "-out"), environ={})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_rows(tmp_path):
    rows, rng = 100_000, np.random.default_rng(0)
    peaks = []
    for files in (1, 5):
        folder = tmp_path / str(files)
        for number in range(files):
            first = number * rows
            made = {name: rng.normal(size=rows) for name in ("size", "weight")}
            made |= {"colour": rng.choice(["red", "green"], rows), "flag": rng.random(rows) < 0.5}
            made |= {"id": np.arange(first, first + rows), "label": rng.choice(["no", "yes"], rows)}
            made["time"] = pa.array(np.arange(first, first + rows) * 20_000_000, pa.timestamp("us"))
            make.write(pa.table(made), folder / f"{number}.csv")
        done = subprocess.run([sys.executable, "-c", MEASURE, str(folder)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout) / 1024 / (1024 if sys.platform == "darwin" else 1))
    assert peaks[1] - peaks[0] < 30, f"{peaks} MB"
