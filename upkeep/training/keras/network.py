"""A network from nothing: raw columns in, probabilities out, all that was fitted inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from upkeep.data.kinds import Column
from upkeep.errors import ModelError
from upkeep.models.keras_feed import DTYPES, input_name
from upkeep.models.keras_graph import Frozen
from upkeep.models.keras_runtime import keras
from upkeep.spec.model import Network
from upkeep.training.keras.features import FeatureSettings

ANSWER = "answer"
"""The name of the layer that answers."""


def build(columns: Sequence[Column], features: FeatureSettings, classes: int, network: Network, *, seed: int) -> Any:
    """A ``keras.Model`` of :class:`~upkeep.spec.model.Network`: scaled numbers and embedded categories side by side,
    hidden layers (ReLU), softmax over ``classes``."""
    K = keras()
    inputs = {c.name: K.Input((1,), name=input_name(c.name), dtype=DTYPES[c.kind]) for c in columns}
    joined = _features(columns, inputs, features, network, seed)
    hidden = joined
    for number, units in enumerate(network.hidden, start=1):
        initializer = K.initializers.GlorotUniform(seed=seed * 1000 + number)
        hidden = K.layers.Dense(units, activation="relu", kernel_initializer=initializer, name=f"hidden_{number}")(
            hidden
        )
        if network.dropout:
            hidden = K.layers.Dropout(network.dropout, seed=seed * 1000 + number, name=f"dropout_{number}")(hidden)
    answers = head(hidden, classes, seed=seed)
    return K.Model({input_name(name): tensor for name, tensor in inputs.items()}, answers, name="network")


def build_on_text(
    text: str,
    backbone: Any,
    preprocessor: Any,
    columns: Sequence[Column],
    features: FeatureSettings,
    classes: int,
    *,
    seed: int,
) -> Any:
    """A ``keras.Model`` that reads the column ``text`` by a KerasHub backbone, beside the other columns, and answers by
    one layer on top. Raises :class:`ModelError` where the preset's tokenizer is of a kind that cannot be kept."""
    from upkeep.models.keras_text import tokens_of

    K = keras()
    inputs = {c.name: K.Input((1,), name=input_name(c.name), dtype=DTYPES[c.kind]) for c in columns}
    others = [column for column in columns if column.name != text]
    try:
        tokens = tokens_of(preprocessor, "tokens")
    except AttributeError as error:
        raise ModelError(
            f"the preset's tokenizer, a {type(preprocessor.tokenizer).__name__}, cannot be kept inside a model",
            fix="choose a preset with word pieces (BERT) or byte pairs (RoBERTa)",
        ) from error
    given = tokens(inputs[text])
    read = backbone(given)
    if isinstance(read, dict):
        read = read["pooled_output"] if "pooled_output" in read else read["sequence_output"]
    if len(read.shape) == 3:
        read = K.layers.GlobalAveragePooling1D(name="pooled")(read, mask=given["padding_mask"])
    if others:
        beside = _features(others, inputs, features, Network(), seed)
        read = K.layers.Concatenate(name="text_and_features")([read, beside])
    answers = head(read, classes, seed=seed)
    return K.Model({input_name(name): tensor for name, tensor in inputs.items()}, answers, name="network")


def build_on_graph(frozen: Frozen, columns: Sequence[Column], classes: int, *, seed: int) -> Any:
    """A ``keras.Model`` that asks a graph about the columns that it takes, and answers by one layer on top."""
    from upkeep.models.keras_layers import Graph

    K = keras()
    kinds = {input_name(column.name): DTYPES[column.kind] for column in columns}
    inputs = {
        name: K.Input((1,), name=name, dtype="string" if dtype == "string" else _not_text(kinds.get(name, "float64")))
        for name, dtype, _ in frozen.inputs
    }
    body = Graph(frozen.graph, frozen.inputs, frozen.output, frozen.width, name="graph")
    return K.Model(inputs, head(body(list(inputs.values())), classes, seed=seed), name="network")


def _not_text(dtype: str) -> str:
    return "float64" if dtype == "string" else dtype


def head(hidden: Any, classes: int, *, seed: int) -> Any:
    """The layer that answers, on top of ``hidden``, shape (rows, units)."""
    K = keras()
    initializer = K.initializers.GlorotUniform(seed=seed * 1000 + 999)
    layer = K.layers.Dense(classes, activation="softmax", kernel_initializer=initializer, name=ANSWER)
    return layer(hidden)


def inputs_beside(
    columns: Sequence[Column], features: FeatureSettings, prefix: str, *, seed: int
) -> tuple[dict[str, Any], Any]:
    """Inputs of columns that a base does not take, by name, and what a layer sees of them, shape (rows, numbers).

    ``features``: fitted on these columns. ``prefix``: of the layers' names, like no layer's of the base.
    """
    made = {c.name: keras().Input((1,), name=input_name(c.name), dtype=DTYPES[c.kind]) for c in columns}
    beside = _features(columns, made, features, Network(), seed, prefix)
    return {input_name(name): tensor for name, tensor in made.items()}, beside


def _features(
    columns: Sequence[Column],
    inputs: dict[str, Any],
    features: FeatureSettings,
    network: Network,
    seed: int,
    prefix: str = "",
) -> Any:
    from upkeep.models.keras_layers import DateParts, Numbers

    K = keras()
    names = {kind: [c.name for c in columns if c.kind == kind] for kind in ("numeric", "categorical", "datetime")}
    parts = []
    for position, name in enumerate(names["categorical"]):
        parts.append(_embedded(f"{prefix}{{}}_{position}", position, name, inputs[name], features, network, seed))
    if features.numbers is not None:
        numbers = _side_by_side([inputs[name] for name in names["numeric"]], f"{prefix}numeric", "float64")
        parts.append(Numbers(**asdict(features.numbers), name=f"{prefix}numbers")(numbers))
    if features.dates is not None:
        times = _side_by_side([inputs[name] for name in names["datetime"]], f"{prefix}datetime", "int64")
        dates = DateParts(features.parts, name=f"{prefix}date_parts")(times)
        parts.append(Numbers(**asdict(features.dates), name=f"{prefix}dates")(dates))
    return K.layers.Concatenate(name=f"{prefix}features")(parts) if len(parts) > 1 else parts[0]


def _side_by_side(tensors: list[Any], name: str, dtype: str) -> Any:
    return keras().layers.Concatenate(name=name, dtype=dtype)(tensors) if len(tensors) > 1 else tensors[0]


def _embedded(
    layer: str, position: int, name: str, texts: Any, features: FeatureSettings, network: Network, seed: int
) -> Any:
    """A place for any other text (0), for null where it is a category of its own, and for each known category.

    Places that no training row is in would keep their random start: they begin at zero, the middle, instead.
    """
    from upkeep.models.keras_layers import NULL_TEXT

    K = keras()
    known = list(features.texts[name])
    null = features.most_frequent.get(name)
    vocabulary = [NULL_TEXT, *known]
    size = network.embedding or min(16, max(1, (len(known) + 1) // 2))
    look = K.layers.StringLookup(vocabulary=vocabulary, mask_token=None, num_oov_indices=1, name=layer.format("places"))
    embed = K.layers.Embedding(
        len(vocabulary) + 1,
        size,
        embeddings_initializer=K.initializers.RandomUniform(-0.5, 0.5, seed=seed * 1000 + 500 + position),
        name=layer.format("categories"),
    )
    places = look(texts)
    if null is not None:
        from upkeep.models.keras_layers import Replace

        places = Replace(1, 2 + known.index(null), name=layer.format("nulls"))(places)
    embedded = K.layers.Flatten(name=layer.format("flat"))(embed(places))
    table = embed.embeddings.numpy()
    table[:2] = 0
    embed.embeddings.assign(np.asarray(table, dtype=np.float32))
    return embedded
