from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upkeep import records
from upkeep.data.kinds import Column
from upkeep.drift import profile as profiles
from upkeep.drift.profile import Baseline, NumericProfile, NumericReference, Profile
from upkeep.errors import DataError, IntegrityError

COLUMNS = (Column(name="x", kind="numeric"), Column(name="c", kind="categorical"))
ODD = [0.0, -0.0, 1e300, -1e300, 5e-324, math.inf, -math.inf, math.nan, 1e16, 3.7e9]
floats = st.one_of(st.none(), st.sampled_from(ODD), st.floats(-100, 100), st.floats(allow_nan=True))
texts = st.one_of(st.none(), st.sampled_from(["a", "b", "", "new", "ü"]), st.text(max_size=3))
rows = st.lists(st.tuples(floats, texts), max_size=60)


def batch(values: list[tuple[float | None, str | None]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array([x for x, _ in values], pa.float64()), pa.array([c for _, c in values], pa.string())],
        names=["x", "c"],
    )


def cut(values: list[tuple[float | None, str | None]], at: list[int]) -> list[pa.RecordBatch]:
    ends = [0, *sorted(min(place, len(values)) for place in at), len(values)]
    return [batch(values[a:b]) for a, b in pairwise(ends)]


REFERENCE = profiles.make_reference(
    [batch([(float(i % 37) / 3 - 5, "abc"[i % 3]) for i in range(500)])],
    COLUMNS,
)


@settings(max_examples=60)
@given(rows, rows, st.lists(st.integers(0, 60), max_size=5), st.randoms(use_true_random=False))
def test_profiles_add_up_exactly(a, b, at, random):
    whole = profiles.profile([batch(a + b)], REFERENCE)
    parts = profiles.profile(cut(a, at), REFERENCE) + profiles.profile(cut(b, at), REFERENCE)
    assert parts == whole
    assert records.to_json(parts) == records.to_json(whole)
    mixed = a + b
    random.shuffle(mixed)
    assert profiles.profile(cut(mixed, at), REFERENCE) == whole


def test_profiles_of_many_rows_add_up_whatever_the_batches():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.lognormal(0, 3, 60_000), rng.normal(0, 1e-3, 20_000)])
    rng.shuffle(values)
    reference = profiles.make_reference([pa.record_batch({"x": values[:9000]})], COLUMNS[:1])
    whole = profiles.profile([pa.record_batch({"x": values})], reference)
    for size in (777, 8192, 65_536):
        pieces = [pa.record_batch({"x": values[i : i + size]}) for i in range(0, len(values), size)]
        assert profiles.profile(pieces, reference) == whole


def test_categories_past_the_cap_are_the_first_by_text_and_still_add_up(monkeypatch):
    monkeypatch.setattr(profiles, "OTHERS", 5)
    rng = np.random.default_rng(1)
    values = [(None, f"n{i}") for i in rng.integers(0, 40, 400)]
    whole = profiles.profile([batch(values)], REFERENCE)
    assert profiles.profile(cut(values, [7, 50, 51, 300]), REFERENCE) == whole
    column = whole.columns["c"]
    names = sorted({name for _, name in values})
    assert list(column.others) == names[:5]
    assert column.others == {name: sum(name == text for _, text in values) for name in names[:5]}
    assert column.rest == 400
    assert column.surely_lacks("a0") and not column.surely_lacks("zzz") and not column.surely_lacks(names[0])


@settings(max_examples=80)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=40), st.integers(-60, 40))
def test_sums_are_those_of_exact_arithmetic(values, exponent):
    ordered = np.sort(np.array(values, dtype=np.float64))
    center = 0.25
    total, squares = profiles.exact_sums(ordered, center, exponent)
    ks = []
    for value in ordered.tolist():
        with np.errstate(over="ignore"):
            units = float(np.float64(value - center) * math.ldexp(1.0, -exponent))
        near = abs(units) < profiles.RANGE
        ks.append(round(units) if near else round((Fraction(value) - Fraction(center)) / Fraction(2) ** exponent))
    assert total == sum(ks)
    assert squares == sum(k * k for k in ks)


def test_sums_of_the_largest_units_of_a_block_do_not_round():
    ordered = np.full(20_001, profiles.RANGE - 1)
    total, squares = profiles.exact_sums(ordered, 0.0, 0)
    k = int(profiles.RANGE) - 1
    assert (total, squares) == (20_001 * k, 20_001 * k * k)


def test_moments_bins_nulls_and_ends():
    values = np.random.default_rng(2).normal(3, 2, 5000)
    array = pa.array([*values.tolist(), None, math.nan, math.inf, -math.inf])
    reference = profiles.make_reference([pa.record_batch({"x": array})], COLUMNS[:1])
    column = profiles.profile([pa.record_batch({"x": array})], reference).columns["x"]
    how = reference.columns["x"]
    assert isinstance(column, NumericProfile) and isinstance(how, NumericReference)
    assert (column.nulls, column.infinite, column.rows) == (2, 2, 5002)
    assert (column.smallest, column.largest) == (values.min(), values.max())
    assert column.mean(how) == pytest.approx(values.mean(), abs=1e-7)
    assert column.deviation(how) == pytest.approx(values.std(), abs=1e-7)
    edges = np.array(how.edges)
    expected = np.bincount(
        np.searchsorted(edges, np.append(values, [math.inf, -math.inf]), side="left"), minlength=profiles.BINS
    )
    assert column.counts == tuple(expected.tolist())
    assert len(column.counts) == profiles.BINS == 128
    assert max(column.counts) < 2 * 5002 / 120


def test_a_column_of_few_values_has_an_edge_for_each():
    reference = profiles.make_reference([pa.record_batch({"x": [3, 1, 2, 2, None]})], COLUMNS[:1])
    how = reference.columns["x"]
    assert how.discrete and how.edges == (1.0, 2.0, 3.0)


@settings(max_examples=20)
@given(st.integers(1, 4000), st.lists(st.integers(0, 4000), max_size=6))
def test_the_reference_does_not_depend_on_the_batches(count, at):
    monkey = pytest.MonkeyPatch()
    monkey.setattr(profiles, "SAMPLE", 300)
    try:
        values = [(float(i * 7919 % 1009), f"k{i % 11}") for i in range(count)]
        whole = profiles.make_reference([batch(values)], COLUMNS)
        assert profiles.make_reference(cut(values, at), COLUMNS) == whole
        assert profiles.make_reference(cut(values, at), COLUMNS).digest == whole.digest
    finally:
        monkey.undo()


def test_the_vocabulary_is_the_most_frequent(monkeypatch):
    monkeypatch.setattr(profiles, "VOCABULARY", 3)
    values = ["z"] * 5 + ["y"] * 4 + ["a", "b", "c"]
    reference = profiles.make_reference([pa.record_batch({"c": values})], COLUMNS[1:])
    assert reference.columns["c"].vocabulary == ("z", "y", "a")
    column = profiles.profile([pa.record_batch({"c": values})], reference).columns["c"]
    assert (column.counts, column.rest, column.others) == ((5, 4, 1), 2, {"b": 1, "c": 1})


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["a", None, "b", "a"]),
        pa.array(["a", None, "b", "a"], pa.large_string()),
        pa.array(["a", None, "b", "a"]).dictionary_encode(),
        pa.array(["x", "a", None, "b", "a"]).dictionary_encode().slice(1),
        pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 3]), pa.array(["a", None, "b", "a"])),
    ],
)
def test_text_counts_the_same_however_arrow_holds_it(array):
    reference = profiles.make_reference([pa.record_batch({"c": ["a", "b"]})], COLUMNS[1:])
    column = profiles.profile_column(array, reference.columns["c"])
    assert (column.nulls, column.counts) == (1, (2, 1))


def test_a_time_is_measured_in_hours_of_its_day():
    times = pa.array([3_600_000_000 * 30, -3_600_000_000, None], pa.timestamp("us", "UTC"))
    assert profiles.numbers(times).tolist() == [6.0, 23.0]
    assert profiles.numbers(pa.array([5, None], pa.date32())).tolist() == [0.0]
    assert profiles.numbers(pa.array([7200], pa.time32("s"))).tolist() == [2.0]


def test_numbers_of_other_types_and_slices():
    assert profiles.numbers(pa.array([1, None, 3], pa.int32()).slice(1)).tolist() == [3.0]
    assert profiles.numbers(pa.array([True, False, None])).tolist() == [1.0, 0.0]
    kept = profiles.numbers(pa.array([1.0, None]), nulls=True)
    assert kept[0] == 1.0 and math.isnan(kept[1])
    with pytest.raises(DataError, match="not a number"):
        profiles.numbers(pa.array(["one"]), "x")


def test_records_come_back_as_they_were():
    values = [(1e300, "a"), (None, None), (-3.5, "new")]
    baseline = Baseline(REFERENCE, profiles.profile([batch(values)], REFERENCE))
    again = records.from_json(Baseline, records.to_json(baseline))
    assert again == baseline
    assert again.digest == baseline.digest
    assert records.from_json(Profile, records.to_json(baseline.profile)) + again.profile == (
        baseline.profile + baseline.profile
    )


def test_profiles_of_different_references_do_not_add_up():
    other = profiles.make_reference([batch([(1.0, "a")])], COLUMNS)
    with pytest.raises(DataError, match="different references"):
        profiles.profile([], REFERENCE) + profiles.profile([], other)
    with pytest.raises(IntegrityError):
        Baseline(REFERENCE, profiles.profile([], other))


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="no column c"):
        profiles.profile([pa.record_batch({"x": [1.0]})], REFERENCE)
    with pytest.raises(DataError) as refused:
        profiles.make_reference([pa.record_batch({"x": [1.0]})], COLUMNS)
    assert refused.value.problems[0].where.field == "c"


def test_columns_without_any_value():
    empty = [
        pa.RecordBatch.from_arrays(
            [pa.array([None] * 3, pa.float64()), pa.array([None] * 3, pa.string())], names=["x", "c"]
        )
    ]
    reference = profiles.make_reference(empty, COLUMNS)
    profile = profiles.profile(empty, reference)
    assert profile.columns["x"].rows == 0 and profile.columns["c"].nulls == 3
    assert profile.columns["x"].mean(reference.columns["x"]) is None


class FakePrepared:
    """What profiling asks of ``upkeep.data.prepared.Prepared``."""

    periods = ("2013-01", "2013-02")

    def batches(self, *, parts, periods=None, columns=None):
        for number, period in enumerate(self.periods):
            if periods is None or period in periods:
                for part in parts:
                    rows = batch([(float(number + i), part) for i in range(10)])
                    yield rows if columns is None else rows.select(columns)


def test_prepared_rows_by_period():
    prepared = FakePrepared()
    baseline = profiles.baseline_prepared(prepared, COLUMNS, periods=["2013-01"])
    assert baseline.profile.rows == 10
    assert baseline.reference.columns["c"].vocabulary == ("train",)
    by_period = profiles.profile_prepared(prepared, baseline.reference, ("train", "held_out"))
    assert list(by_period) == ["2013-01", "2013-02"]
    assert by_period["2013-02"].columns["c"].others == {"held_out": 10}
    assert profiles.profile_prepared(prepared, baseline.reference, ("train",), ["2013-01"])["2013-01"] == (
        baseline.profile
    )

    def extend(rows):
        doubled = pa.array([2 * x for x in rows.column("x").to_pylist()])
        return pa.RecordBatch.from_arrays([doubled], names=["p"])

    column = Column(name="p", kind="numeric")
    predicted = profiles.baseline_prepared(prepared, [column], ("held_out",), extend=extend)
    assert predicted.profile.columns["p"].largest == 20.0
