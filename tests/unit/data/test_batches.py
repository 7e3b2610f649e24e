"""The row-wise functions run on another engine as they are: here, a pool of fresh processes."""

import dataclasses
import multiprocessing
import pickle
from collections import Counter

import pyarrow as pa
import pytest

from tests.unit.data import make
from upkeep.data.batches import fold_batches, map_batches
from upkeep.data.collect import collect
from upkeep.data.prepare import row_function
from upkeep.data.read import read_batches
from upkeep.spec.model import ColumnRule, Privacy, Split


@dataclasses.dataclass(frozen=True)
class CountReasons:
    def zero(self):
        return Counter()

    def add(self, state, batch):
        state.update(batch.column("_reason").to_pylist())
        return state

    def merge(self, first, second):
        return first + second


@pytest.fixture
def work(tmp_path):
    rows = make.table(5000)
    path = make.write(make.replace_value(rows, "size", 17, float("inf")), tmp_path / "a.csv")
    model = make.spec(
        path,
        columns={"weight": ColumnRule(max=3.0), "colour": ColumnRule(values=("red", "blue"), unknown="quarantine")},
        privacy=Privacy(hash=("id",)),
        split=Split(group="day"),
        time="time",
        candidates=(make.ONE, make.TWO),
    )
    secret = {"UPKEEP_PRIVACY_KEY": "key"}
    (file,) = collect(model, environ=secret).files
    function = row_function(model, file, "string", secret)
    (whole,) = read_batches(file, model)
    batches = [whole.slice(start, 700) for start in range(0, 5000, 700)]
    return function, batches


def test_a_pool_of_processes_gives_the_same(work):
    function, batches = work
    here = list(map_batches(function, batches))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.map(pickle.loads(pickle.dumps(function)), batches)
    assert all(one.equals(other) for one, other in zip(here, there, strict=True))
    assert {"_period", "_part", "_group", "_row", "_content", "_reason"} < set(here[0].schema.names)


def test_it_does_not_matter_how_rows_are_cut(work):
    function, batches = work
    whole = pa.Table.from_batches(batches).combine_chunks().to_batches()
    one = pa.Table.from_batches(map_batches(function, whole)).combine_chunks()
    many = pa.Table.from_batches(map_batches(function, batches)).combine_chunks()
    assert one.equals(many)
    assert set(one.column("_part").to_pylist()) == {"train", "validation", "held_out"}


def test_a_fold_may_be_merged(work):
    function, batches = work
    mapped, fold = list(map_batches(function, batches)), CountReasons()
    whole = fold_batches(fold, mapped)
    assert whole == fold.merge(fold_batches(fold, mapped[:3]), fold_batches(fold, mapped[3:]))
    assert whole["size is infinite"] + whole["size is infinite; colour is none of the known values"] == 1
