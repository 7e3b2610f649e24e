"""Text into a KerasHub backbone: a layer of Upkeep's own. Importing this module imports Keras and TensorFlow.

KerasHub's preprocessing layers keep their vocabulary as a file beside the config, and cannot be part of a model that is
loaded in one piece: the config is built before the file is read. This layer keeps it in its config.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
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

    @property
    def beneath(self) -> Any:
        """The KerasHub layer, whose tables a SavedModel must know of."""
        return self._prepare.__self__

    @property
    def size(self) -> int:
        """How many tokens the vocabulary has."""
        return len(self._settings["vocabulary"])

    def pieces(self, texts: Sequence[str | None]) -> list[list[tuple[int, str, bool]]]:
        """The tokens of each text as people read them: place in the sequence, text, whether it goes on from the token
        before. Padding is left out."""
        given = tf.constant([[NULL_TEXT if text is None else text] for text in texts])
        out = self.call(given)
        ids, there = np.asarray(out["token_ids"]), np.asarray(out["padding_mask"]).astype(bool)
        words, pairs = list(self._settings["vocabulary"]), bool(self._settings["merges"])
        return [
            [(place, *_readable(words[ids[row, place]], pairs)) for place in np.flatnonzero(there[row]).tolist()]
            for row in range(len(ids))
        ]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._settings}


def _readable(token: str, pairs: bool) -> tuple[str, bool]:
    """A token's text, and whether it goes on from the one before."""
    if not pairs:
        return token.removeprefix("##"), token.startswith("##")
    if token.startswith("<") and token.endswith(">"):
        return token, False
    known = _byte_of()
    text = bytes(known[letter] for letter in token if letter in known).decode(errors="replace")
    return text.strip() or text, not text.startswith(" ")


@functools.cache
def _byte_of() -> dict[str, int]:
    """The letter that stands for each byte in a byte-pair vocabulary (Radford et al., 2019): printable ones for
    themselves, the others for the letters from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


def tokens_of(preprocessor: Any, name: str) -> Tokens:
    """The layer that does what a KerasHub preprocessing layer does. Raises ``AttributeError`` for a tokenizer of
    another kind than word pieces or byte pairs."""
    tokenizer = preprocessor.tokenizer
    merges = list(getattr(tokenizer, "merges", None) or ())
    vocabulary = tokenizer.vocabulary if merges else tokenizer.get_vocabulary()
    words = sorted(vocabulary, key=lambda word: vocabulary[word]) if isinstance(vocabulary, dict) else list(vocabulary)
    config = keras.saving.serialize_keras_object(preprocessor)
    return Tokens(config, words, merges, name=name)
