"""The way of rows from Parquet into a network that learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.tensorflow import keras_make as make
from upkeep.data.kinds import Column
from upkeep.models import keras_feed
from upkeep.spec.model import Network, Preprocess
from upkeep.training.keras import lesson as lessons
from upkeep.training.keras.features import fit_features
from upkeep.training.keras.lesson import Choice, Lesson
from upkeep.training.keras.network import build
from upkeep.training.keras.places import Learner

WILD = pa.table(
    {
        "size": [1.0, None, np.inf, float("nan"), -2.5],
        "weight": pa.array([1, None, 3, 4, 5], pa.int32()),
        "colour": ["red", None, " ", "TRUE", "strange"],
        "flag": [True, None, False, True, True],
        "time": pa.array([0, None, 1, 2, 3], pa.timestamp("us", tz="UTC")),
    }
)
WILD_COLUMNS = tuple(
    Column(name=name, kind=kind)  # type: ignore[arg-type]
    for name, kind in zip(
        WILD.column_names, ("numeric", "numeric", "categorical", "categorical", "datetime"), strict=True
    )
)


def lesson(tmp_path: Path, **fields: Any) -> Lesson:
    task = make.task(tmp_path, make.tuned())
    return Lesson(
        prepared=task.prepared, columns=task.columns, periods=task.prepared.periods, **{"choice": Choice(), **fields}
    )


def network(given: Lesson) -> Any:
    features = fit_features(given.batches(), given.columns, Preprocess(impute_categorical="most_frequent"))
    return build(given.columns, features, 2, Network(hidden=(4,), dropout=0.5), seed=3)


def plain(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value).ravel().tolist() for name, value in inputs.items()}


def test_text_as_a_dictionary_is_the_same_text() -> None:
    coded = WILD.set_column(2, "colour", WILD.column("colour").dictionary_encode())
    in_two = pa.concat_tables([coded.slice(0, 2), coded.slice(2)])
    wanted = plain(keras_feed.tensors(keras_feed.parts(WILD, WILD_COLUMNS)))
    assert wanted["colour"] == [b"red", b"\0", b"\0", b"true", b"strange"]
    np.testing.assert_equal(wanted["size"], [1.0, np.nan, np.nan, np.nan, -2.5])
    for rows in (coded, in_two, in_two.slice(1)):
        found = plain(keras_feed.tensors(keras_feed.parts(rows, WILD_COLUMNS)))
        np.testing.assert_equal(found, {name: values[-rows.num_rows :] for name, values in wanted.items()})
    nothing = keras_feed.tensors(keras_feed.parts(WILD.slice(5), WILD_COLUMNS))
    assert {tuple(value.shape) for value in nothing.values()} == {(0, 1)}


def test_a_learner_answers_exactly_as_its_network(tmp_path: Path) -> None:
    given = lesson(tmp_path)
    rows = keras_feed.parts(given.prepared.table(parts=("held_out",)), given.columns)
    wild = keras_feed.parts(WILD, given.columns)
    own, theirs = network(given), make.network()
    for model, some in ((own, rows), (own, wild), (theirs, rows)):
        learner = Learner(model)
        wanted = {name: value for name, value in some.items() if name.partition("/")[0] in model.input}
        assert set(learner.lookups) == {name.partition("/")[0] for name in wanted if "/" in name}
        placed = keras_feed.tensors(keras_feed.places(wanted, learner.lookups))
        found = learner(placed, training=False)
        np.testing.assert_array_equal(found, model(keras_feed.tensors(wanted), training=False))
        drops = model is own
        assert np.array_equal(learner(placed, training=True), found) != drops


def test_a_text_that_two_layers_take_goes_in_as_text() -> None:
    K = make.keras()
    colour = K.Input((1,), name="colour", dtype="string")
    looks = [K.layers.StringLookup(vocabulary=["red"], name=f"look_{i}")(colour) for i in range(2)]
    model = K.Model({"colour": colour}, K.layers.Add()(looks))
    learner = Learner(model)
    assert learner.lookups == {}
    given = {"colour": np.array([["red"], ["green"]], dtype=object)}
    np.testing.assert_array_equal(learner(given, training=False), model(given))


@pytest.mark.parametrize("placed", [False, True])
def test_each_row_crosses_once_whole_and_in_an_order_of_seed_and_epoch(
    tmp_path: Path, placed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons, "BUFFER_ROWS", 40)
    monkeypatch.setattr(lessons, "READ_ROWS", 16)
    given = lesson(tmp_path)
    lookups = Learner(network(given)).lookups if placed else {}
    table = given.prepared.table(parts=("train",))
    everything = keras_feed.tensors(keras_feed.places(keras_feed.parts(table, given.columns), lookups))
    columns = [np.asarray(everything[column.name]).ravel().tolist() for column in given.columns]
    wanted = sorted(map(repr, zip(*columns, given.prepared.codes(table).tolist(), strict=True)))

    def read(epoch: int, batch_rows: int, skip: int = 0, of: Lesson = given) -> list[list[str]]:
        found = []
        for inputs, codes in of.dataset(epoch, batch_rows, skip=skip, lookups=lookups).as_numpy_iterator():
            values = [inputs[column.name].ravel().tolist() for column in given.columns]
            found.append([repr(row) for row in zip(*values, codes.tolist(), strict=True)])
        return found

    for batch_rows in (7, 100, 10_000):
        batches = read(0, batch_rows)
        assert [len(batch) for batch in batches[:-1]] == [batch_rows] * (len(batches) - 1)
        assert len(batches) == -(-len(wanted) // batch_rows)
        assert sorted(row for batch in batches for row in batch) == wanted
    batches = read(0, 7)
    assert read(0, 7) == batches
    assert read(1, 7) != batches
    assert read(0, 7, of=replace(given, seed=1)) != batches
    for skip in (1, 6, 20, len(batches) - 1, len(batches)):
        assert read(0, 7, skip) == batches[skip:]
