"""Text into a KerasHub backbone: a layer of Upkeep's own. Importing this module imports Keras and TensorFlow.

KerasHub's preprocessing layers keep their vocabulary as a file beside the config, and cannot be part of a model that is
loaded in one piece: the config is built before the file is read. This layer keeps it in its config.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from upkeep.models.keras_layers import NULL_TEXT


@keras.saving.register_keras_serializable("upkeep")
class Tokens(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Raw text, shape (rows, 1), null as no text at all, to the tokens that a backbone takes.

    ``preprocessor``: a KerasHub preprocessing layer's config. ``vocabulary``: its words, in the order of their ids;
    ``merges``: of a byte-pair tokenizer.
    """

    def __init__(
        self, preprocessor: dict[str, Any], vocabulary: Sequence[str], merges: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._settings = {"preprocessor": preprocessor, "vocabulary": list(vocabulary), "merges": list(merges)}
        made = keras.saving.deserialize_keras_object(preprocessor, safe_mode=True)
        if merges:
            words = {word: number for number, word in enumerate(vocabulary)}
            made.tokenizer.set_vocabulary_and_merges(words, list(merges))
        else:
            made.tokenizer.set_vocabulary(list(vocabulary))
        self._prepare = made.__call__  # a method, not the layer: else Keras would write its files as well

    def call(self, inputs: Any) -> Any:
        texts = tf.squeeze(inputs, axis=1)
        return self._prepare(tf.where(tf.equal(texts, NULL_TEXT), "", texts))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._settings}


def tokens_of(preprocessor: Any, name: str) -> Tokens:
    """The layer that does what a KerasHub preprocessing layer does. Raises ``AttributeError`` for a tokenizer of
    another kind than word pieces or byte pairs."""
    tokenizer = preprocessor.tokenizer
    merges = list(getattr(tokenizer, "merges", None) or ())
    vocabulary = tokenizer.vocabulary if merges else tokenizer.get_vocabulary()
    words = sorted(vocabulary, key=lambda word: vocabulary[word]) if isinstance(vocabulary, dict) else list(vocabulary)
    config = keras.saving.serialize_keras_object(preprocessor)
    return Tokens(config, words, merges, name=name)
