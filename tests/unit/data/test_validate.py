import pyarrow as pa
import pytest

from tests.unit.data import make
from upkeep.data.layout import ROW_NUMBER, UNREADABLE
from upkeep.data.validate import clean, label_type, to_labels
from upkeep.spec.model import ColumnRule, Target

GOOD = {"size": 1.0, "weight": 2.0, "colour": "red", "flag": True, "id": "a", "label": "yes"}


def reasons(rules=None, rows=(), **options):
    model = make.spec("x", columns=rules or {}, **options)
    filled = [{**GOOD, **row} for row in rows]
    batch = pa.RecordBatch.from_pylist(filled)
    batch = batch.append_column(ROW_NUMBER, pa.array(range(1, len(filled) + 1), pa.int64()))
    batch = batch.append_column(UNREADABLE, pa.nulls(len(filled), pa.string()))
    return clean(model.data, "string")(batch).column("_reason").to_pylist()


def test_a_good_row_has_no_reason():
    assert reasons(rows=[{}]) == [None]


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        (ColumnRule(min=0), [-0.5, 0.0, None], ["size is below 0", None, None]),
        (ColumnRule(max=1e6), [1e6, 2e6, None], [None, "size is above 1e+06", None]),
        (ColumnRule(required=True), [None, 1.0], ["size is null", None]),
        (ColumnRule(values=(1, 2), unknown="quarantine"), [1.0, 3.0], [None, "size is none of the known values"]),
        (ColumnRule(values=(1, 2)), [3.0], [None]),
        (ColumnRule(max=1), [float("inf")], ["size is infinite; size is above 1"]),
        (ColumnRule(required=True), [float("nan")], ["size is null"]),
    ],
)  # fmt: skip
def test_rules_of_numbers(rule, values, expected):
    assert reasons({"size": rule}, [{"size": value} for value in values]) == expected


@pytest.mark.parametrize(
    ("values", "known", "expected"),
    [
        (["red", "Red", None], ("red",), [None, "colour is none of the known values", None]),
        ([True, False], (True,), [None, "colour is none of the known values"]),
        (["True", "true"], (True,), [None, None]),
        ([1, 2], (1,), [None, "colour is none of the known values"]),
    ],
)
def test_rules_of_categories(values, known, expected):
    rule = ColumnRule(values=known, unknown="quarantine")
    assert reasons({"colour": rule}, [{"colour": value} for value in values]) == expected


def test_several_reasons_are_joined():
    rules = {"size": ColumnRule(min=0), "colour": ColumnRule(required=True)}
    rows = [{"size": -1.0, "colour": None, "label": None}, {"size": -1.0}, {"label": None}, {}]
    assert reasons(rules, rows) == [
        "size is below 0; colour is null; label is null", "size is below 0", "label is null", None,
    ]  # fmt: skip


def test_an_unreadable_value_that_is_required_has_one_reason():
    assert reasons({"size": ColumnRule(required=True)}, [{"size": "x"}, {"size": ""}]) == [
        "size is not a number", "size is null",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "sample", "expected"),
    [
        (Target(column="y", positive=True), ["1", "0"], "bool"),
        (Target(column="y", positive=1), [True], "int64"),
        (Target(column="y", classes=("1", "2")), [1, 2], "string"),
        (Target(column="y"), ["1", "0"], "int64"),
        (Target(column="y"), ["true", "False"], "bool"),
        (Target(column="y"), ["1", "x"], "string"),
        (Target(column="y"), [1.0, 2.0], "int64"),
        (Target(column="y"), [True, None], "bool"),
        (Target(column="y"), [None], "string"),
        (Target(column="y"), [1, 0], "int64"),
    ],
)
def test_label_type(target, sample, expected):
    assert label_type(target, pa.array(sample)) == expected


@pytest.mark.parametrize(
    ("values", "kind", "labels", "unreadable"),
    [
        (["1", "true", "FALSE", "2", ""], "bool", [True, True, False, None, None], [False] * 3 + [True, False]),
        ([1, 0, 2], "bool", [True, False, None], [False, False, True]),
        (["1", "1.5", "x", None], "int64", [1, None, None, None], [False, True, True, False]),
        ([2**60 + 1], "int64", [2**60 + 1], [False]),
        ([1.0, 1e300, float("inf")], "int64", [1, None, None], [False, True, True]),
        (["True", " a", " "], "string", ["True", " a", None], [False] * 3),
        ([1, None], "string", ["1", None], [False] * 2),
        ([True], "string", ["true"], [False]),
    ],
)  # fmt: skip
def test_labels(values, kind, labels, unreadable):
    found, bad = to_labels(pa.array(values), kind)
    assert found.to_pylist() == labels
    assert bad.to_pylist() == unreadable
