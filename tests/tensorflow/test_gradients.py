"""Integrated gradients: they add up to answer minus baseline, by column and by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.tensorflow import keras_make as make
from tests.unit.data import make as data
from upkeep.data.kinds import Column
from upkeep.evaluation.attributions import attributions
from upkeep.evaluation.result import Attributions
from upkeep.models import keras_feed
from upkeep.models.keras_folder import KerasPredictor
from upkeep.models.keras_runtime import installed, keras, quiet
from upkeep.models.manifest import Manifest
from upkeep.spec.model import Explain, Network, Outliers, Preprocess

if installed():
    from upkeep.training.keras.features import fit_features
    from upkeep.training.keras.network import build, build_on_text

COLUMNS = (
    Column(name="size", kind="numeric"),
    Column(name="weight", kind="numeric"),
    Column(name="colour", kind="categorical"),
    Column(name="flag", kind="categorical"),
    Column(name="time", kind="datetime"),
)


def rows(number: int = 40) -> pa.Table:
    made = data.table(number)
    size = pa.array(made.column("size").to_numpy(), mask=np.arange(number) % 9 == 0)
    flag = pa.array([str(value).lower() for value in made.column("flag").to_pylist()])
    made = made.set_column(made.column_names.index("flag"), "flag", flag)
    return made.set_column(made.column_names.index("size"), "size", size)


def predictor(model: Any, columns: tuple[Column, ...], positive: str | None = "yes") -> KerasPredictor:
    manifest = Manifest(format="keras", columns=columns, classes=("no", "yes"), positive=positive, libraries={})
    return KerasPredictor(manifest, model, keras_feed.taken(model, columns))


def fitted(table: pa.Table, columns: Sequence[Column], preprocess: Preprocess = make.PLAIN) -> Any:
    table = table.select([column.name for column in columns])
    table = table.append_column("_row", pa.array(np.arange(table.num_rows, dtype=np.uint64)))
    return fit_features(table.to_batches(), columns, preprocess)


def own(preprocess: Preprocess = make.PLAIN) -> Any:
    features = fitted(rows(200), COLUMNS, preprocess)
    model = build(COLUMNS, features, 2, Network(hidden=(8, 4)), seed=3)
    rng = np.random.default_rng(0)  # as a trained network's: without them no ReLU bends on the way from zero
    for name in ("hidden_1", "hidden_2"):
        bias = model.get_layer(name).bias
        bias.assign(rng.normal(size=bias.shape).astype(np.float32))
    return model


def told(asked: KerasPredictor, given: pa.Table, **settings: Any) -> Attributions:
    (found,) = attributions(
        asked, given, ["yes"] * given.num_rows, Explain(**settings), seed=0, clock=lambda: 0.0, progress=lambda *_: None
    )
    assert found.missing == ""
    assert found.gap is not None
    return found


def test_of_an_own_network_each_column_has_its_part_and_they_add_up() -> None:
    dated = replace(make.PLAIN, outliers=Outliers(method="iqr", action="flag"))
    model = own(dated)
    before = [layer.call for layer in model.layers]
    asked = predictor(model, COLUMNS)
    found = told(asked, rows(), steps=100)
    assert found.gap is not None
    assert found.gap < 4e-3
    assert {one.column for one in found.columns} == {column.name for column in COLUMNS}
    assert found.explains == "the probability of “yes”"
    assert [layer.call for layer in model.layers] == before  # no hook stays behind
    answers = asked.predict_proba(rows())[:, 1]
    sums = sum(one.mean or 0.0 for one in found.columns)
    assert sums == pytest.approx(answers.mean() - baseline(model), abs=2e-3)
    assert told(asked, rows(), steps=100, rows=8) == told(asked, rows(), steps=100, rows=8)


def baseline(model: Any) -> float:
    """What the layers after the features answer to zeros, computed by them alone."""
    features = next(layer for layer in model.layers if layer.name == "features")
    after = keras().Model(features.output, model.output)
    return float(np.asarray(after(np.zeros((1, features.output.shape[1]), np.float32)))[0, 1])


def test_a_column_that_the_network_does_not_use_has_no_part() -> None:
    model = own()
    kernel = model.get_layer("hidden_1").kernel
    numbers = model.get_layer("numbers").output.shape[1]
    embedded = sum(model.get_layer(f"flat_{place}").output.shape[1] for place in range(2))
    weights = kernel.numpy()
    weights[embedded] = 0  # the scaled size, and whether it was null
    weights[embedded + 2 : embedded + numbers] = 0
    kernel.assign(weights)
    sizes = {one.column: one.size for one in told(predictor(model, COLUMNS), rows()).columns}
    assert sizes["size"] == 0
    assert sizes["weight"] > 0


def test_more_steps_miss_less() -> None:
    asked = predictor(own(), COLUMNS)
    few, many = (told(asked, rows(), steps=steps).gap for steps in (4, 64))
    assert few is not None
    assert many is not None
    assert many < few / 4


def test_a_network_of_somebody_else_is_walked_at_its_inputs_and_embeddings() -> None:
    found = told(predictor(make.network(), make.COLUMNS, positive=None), rows().drop_columns(["size"]).append_column(
        "size", pa.array(np.linspace(-2, 2, 40))))  # fmt: skip
    assert {one.column for one in found.columns} == {"size", "colour"}
    assert found.gap is not None
    assert found.gap < 2e-3
    assert found.explains == "the probability of the class that is answered"
    assert found.left_out == ()


def test_it_ends_when_time_is_up_with_the_rows_that_were_done() -> None:
    ticks = iter(range(0, 100_000, 61))
    (found,) = attributions(
        predictor(own(), COLUMNS), rows(120), ["yes"] * 120, Explain(rows=100, steps=4), seed=0,
        clock=lambda: float(next(ticks)), progress=lambda *_: None,
    )  # fmt: skip
    assert found.rows == 32


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "product", "is", "good", "bad", "great", "##ly", "it"]


def text_model(kind: str) -> Any:
    import keras_hub

    keras().utils.set_random_seed(3)
    hub = keras_hub.models
    sizes = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 8, "max_sequence_length": 8}
    if kind == "word pieces":
        tokenizer: Any = hub.BertTokenizer(vocabulary=WORDS, lowercase=True)
        backbone = hub.BertBackbone(vocabulary_size=len(WORDS), **sizes)
        preprocessor = hub.BertTextClassifierPreprocessor(tokenizer, sequence_length=8)
    else:
        letters = [
            "<s>",
            "<pad>",
            "</s>",
            "<unk>",
            "<mask>",
            "i",
            "t",
            "Ġ",
            "g",
            "o",
            "d",
            "it",
            "Ġg",
            "oo",
            "ood",
            "Ġgood",
        ]
        places = {letter: place for place, letter in enumerate(letters)}
        tokenizer = hub.RobertaTokenizer(places, ["i t", "Ġ g", "o o", "oo d", "Ġg ood"])
        backbone = hub.RobertaBackbone(vocabulary_size=len(letters), **sizes)
        preprocessor = hub.RobertaTextClassifierPreprocessor(tokenizer, sequence_length=8)
    columns = (Column(name="text", kind="categorical"), Column(name="size", kind="numeric"))
    numbers = [column for column in columns if column.name == "size"]
    features = fitted(pa.table({"size": [0.0, 1.0, 2.0]}), numbers)
    model = build_on_text("text", backbone, preprocessor, columns, features, 2, seed=1)
    return predictor(model, columns)


@pytest.mark.parametrize("kind", ["word pieces", "byte pairs"])
def test_of_a_text_each_token_has_its_part(kind: str) -> None:
    with quiet():
        asked = text_model(kind)
    texts = ["it good", "it", None] if kind == "byte pairs" else ["the greatly product", "It is zzz", None]
    given = pa.table({"text": texts, "size": [0.5, 1.0, 2.0]})
    found = told(asked, given, steps=64)
    assert found.gap is not None
    assert found.gap < 2e-3
    assert {one.column for one in found.columns} == {"text", "size"}
    assert len(found.texts) == 3
    first = found.texts[0]
    words = [token.text for token in first.tokens]
    expected = {
        "word pieces": ["[CLS]", "the", "great", "ly", "product", "[SEP]"],
        "byte pairs": ["<s>", "it", "good", "</s>"],
    }
    assert words == expected[kind]
    assert [token.joined for token in first.tokens if token.text == "ly"] in ([], [True])
    for one in found.texts:
        parts = sum(token.value for token in one.tokens) + one.others
        assert parts == pytest.approx(one.probability - one.baseline, abs=4e-3)
    assert (first.label, first.explained) == ("yes", "yes")
