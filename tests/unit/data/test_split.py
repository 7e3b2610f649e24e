import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from upkeep.data.split import (
    Assign,
    HashSplit,
    choose_half,
    hash_content,
    hash_place,
    hash_values,
    period_of,
    random_state_held_out,
    seed,
    share,
)

SPLIT = HashSplit(held_out=0.2, validation=0.25)

GOLDEN_SEED = 9481268644971230488
GOLDEN_TEXT = [
    5218050887139623949,
    11325681677117527554,
    6711888291135556739,
    17295105053179172757,
    14055915829461911160,
    2136940939655924338,
]
GOLDEN_NUMBERS = [13540734667714000708, 15483941862225150228, 6135964040683956035]
GOLDEN_BOOLS = [12894694379349033287, 13540734667714000708]
GOLDEN_PLACES = [14509787364604709227, 6638340627580941782]
GOLDEN_CONTENT = [1877126397807429497]
GOLDEN_HELD_OUT = [True, True, False, False, False, False, False, False, False, False]
GOLDEN_VALIDATION = [False, False, False, False, False, False, False, False, False, False]
GOLDEN_HALF = [True, False, True, False, False, False, True, False, True, True]


def keys(values):
    return hash_values(pa.array(values, pa.string()), seed("group", "salt"))


def test_the_hash_never_changes():
    """A change here would put held-out rows into training, for every model that was ever trained."""
    assert seed("group", "salt") == GOLDEN_SEED
    assert keys(["", "a", "r12345678", "a longer key than sixteen bytes", "é", None]).tolist() == GOLDEN_TEXT
    assert hash_values(pa.array([0.0, 1.5, None]), 1).tolist() == GOLDEN_NUMBERS
    assert hash_values(pa.array([True, False]), 1).tolist() == GOLDEN_BOOLS
    assert hash_place("digest", np.array([1, 2])).tolist() == GOLDEN_PLACES
    assert hash_content({"b": pa.array(["x"]), "a": pa.array([1.0])}, "salt").tolist() == GOLDEN_CONTENT
    assert SPLIT.held_out_mask(keys(list("abcdefghij"))).tolist() == GOLDEN_HELD_OUT
    assert SPLIT.validation_mask(keys(list("abcdefghij"))).tolist() == GOLDEN_VALIDATION
    assert choose_half(keys(list("abcdefghij"))).tolist() == GOLDEN_HALF


@given(st.lists(st.text(max_size=40) | st.none(), min_size=1), st.randoms(use_true_random=False), st.integers(0, 5))
def test_a_value_has_one_hash_whatever_stands_beside_it(values, random, padding):
    whole = keys(values)
    order = list(range(len(values)))
    random.shuffle(order)
    shuffled = keys([values[position] for position in order])
    assert (shuffled == whole[order]).all()
    sliced = hash_values(pa.array(["pad"] * padding + values, pa.string()).slice(padding), seed("group", "salt"))
    assert (sliced == whole).all()
    encoded = hash_values(pa.array(values, pa.string()).dictionary_encode(), seed("group", "salt"))
    assert (encoded == whole).all()


def documented(value: bytes, seed: int) -> int:
    """The hash of the module's docstring, in plain integers."""
    whole, gamma = 2**64, 0x9E3779B97F4A7C15

    def mix(number):
        number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 % whole
        number = (number ^ number >> 27) * 0x94D049BB133111EB % whole
        return number ^ number >> 31

    result = mix((seed + gamma * (len(value) + 1)) % whole)
    for start in range(0, len(value), 8):
        word = int.from_bytes(value[start : start + 8], "little")
        result = mix(((result ^ word) + gamma) % whole)
    return result


@settings(max_examples=50)
@given(st.lists(st.text(max_size=40), min_size=1), st.integers(0, 2**64 - 1))
def test_the_hash_is_the_documented_one(values, seed):
    assert hash_values(pa.array(values, pa.string()), seed).tolist() == [
        documented(value.encode(), seed) for value in values
    ]


@given(st.sets(st.text(max_size=30), min_size=2, max_size=200))
def test_other_values_have_other_hashes(values):
    assert len(set(keys(sorted(values)).tolist())) == len(values)


def test_zeros_at_the_end_count():
    assert len(set(keys(["a", "a\0", "a\0\0", "", "\0"]).tolist())) == 5


def test_minus_zero_is_zero_and_null_is_not():
    hashes = hash_values(pa.array([0.0, -0.0, None]), 1)
    assert hashes[0] == hashes[1] != hashes[2]


def test_content_depends_on_each_column_and_its_name():
    one, two = pa.array(["x"]), pa.array(["y"])
    hashes = {hash_content(columns, "s")[0] for columns in (
        {"a": one, "b": two}, {"a": two, "b": one}, {"a": one, "c": two}, {"a": one},
    )}  # fmt: skip
    assert len(hashes) == 4
    assert hash_content({"b": two, "a": one}, "s") == hash_content({"a": one, "b": two}, "s")


@pytest.mark.parametrize("held_out", [0.0, 0.01, 0.2, 0.5, 1.0])
def test_shares_are_within_binomial_bounds(held_out):
    rows = 200_000
    group = keys([f"key {number}" for number in range(rows)])
    chosen = HashSplit(held_out=held_out, validation=0.1).held_out_mask(group)
    assert abs(chosen.sum() - rows * held_out) <= 5 * math.sqrt(rows * held_out * (1 - held_out))


def test_decisions_are_independent_of_one_another_and_of_the_salt():
    rows = 100_000
    names = pa.array([str(number) for number in range(rows)])
    group = hash_values(names, seed("group", "one"))
    other = hash_values(names, seed("group", "other"))
    split = HashSplit(held_out=0.5, validation=0.5)
    decisions = [split.held_out_mask(group), split.validation_mask(group), choose_half(group),
                 split.held_out_mask(other)]  # fmt: skip
    for first in range(4):
        for second in range(first):
            counts = Counter(zip(decisions[first].tolist(), decisions[second].tolist(), strict=True))
            assert all(abs(count - rows / 4) < 5 * math.sqrt(rows * 3 / 16) for count in counts.values())


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.text(max_size=8), st.floats(allow_nan=False) | st.none()), min_size=1, max_size=30),
    st.tuples(st.text(max_size=8), st.text(max_size=8)),
    st.sampled_from(["id", None]),
)
def test_what_a_row_is_known_by_does_not_depend_on_the_salt(rows, salts, id):
    batch = pa.RecordBatch.from_pydict(
        {
            "id": pa.array([name for name, _ in rows], pa.string()),
            "size": pa.array([size for _, size in rows], pa.float64()),
            "_row_number": pa.array(range(len(rows)), pa.int64()),
        }
    )
    one, two = (
        Assign(
            salt=salt, split=SPLIT, content=("size",), id=id, group_column=None, group_unit=None, time=None,
            period="p", period_unit=None, file_digest="digest",
        )(batch)
        for salt in salts
    )  # fmt: skip
    for known_by in ("_row", "_content"):
        assert one.column(known_by).equals(two.column(known_by))
    assert one.column("_group").equals(two.column("_group")) == (salts[0] == salts[1])


def test_share_is_below_one():
    assert share(np.array([0, 2**64 - 1], np.uint64)).tolist() == [0.0, 1 - 2.0**-53]


@settings(max_examples=50)
@given(st.integers(2, 500), st.floats(0.05, 0.9), st.integers(0, 2**32 - 1))
def test_random_state_is_scikit_learns(rows, held_out, state):
    if math.ceil(rows * held_out) >= rows:
        return
    _, test = train_test_split(np.arange(rows), test_size=held_out, random_state=state)
    assert set(np.flatnonzero(random_state_held_out(rows, held_out, state))) == set(test)


@pytest.mark.parametrize(
    ("unit", "names"),
    [
        ("day", ["2024-12-30", "2025-01-01", None]),
        ("week", ["2025-W01", "2025-W01", None]),
        ("month", ["2024-12", "2025-01", None]),
        ("quarter", ["2024-Q4", "2025-Q1", None]),
        ("year", ["2024", "2025", None]),
    ],
)
def test_periods_of_time(unit, names):
    times = pa.array(["2024-12-30T23:59:59", "2025-01-01T00:00:00", None]).cast(pa.timestamp("us"))
    assert period_of(times.cast(pa.timestamp("us", tz="UTC")), unit).to_pylist() == names
