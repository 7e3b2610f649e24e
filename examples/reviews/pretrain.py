"""Pre-train a small network that reads reviews, and leave it as a KerasHub preset folder: the base of upkeep.yaml.

It learns from last year's reviews without their labels, by a masked-token task (Devlin et al., 2019): some words are
hidden, and it says which. The vocabulary of word pieces is computed from the same texts. What comes out is a folder
like any other KerasHub preset, so a larger one from elsewhere goes in its place. Beside it a copy of ``upkeep.yaml``
is written, with the folder's digest.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import make_data
import numpy as np
import numpy.typing as npt

from upkeep.models.digest import folder_digest
from upkeep.models.keras_runtime import keras, quiet

YEAR = tuple(f"2024-{month:02}" for month in range(1, 13))
LONGEST = 32
"""Tokens of a review that are read."""
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
"""Of the vocabulary, the first."""
SHARE, HIDDEN = 0.2, 10
"""Of a review's tokens, so many are hidden, and at most these."""
BATCH = 128
DATE = "date_saved"


def texts(rows: int) -> list[str]:
    """Last year's reviews, about ``rows`` of them."""
    return [text for month in YEAR for text in make_data.reviews(month, rows // len(YEAR))["review"].to_pylist()]


def pretrain(folder: Path, *, rows: int, epochs: int, layers: int = 2, units: int = 64, seed: int = 1) -> None:
    """Write the preset to ``folder``, in place of what is there. On one kind of CPU, the same seed gives the same
    weights."""
    keras()  # sets the backend up, before anything else imports it
    with quiet():
        import keras_hub
        import tensorflow as tf

    keras().utils.set_random_seed(seed)
    read = texts(rows)
    vocabulary = keras_hub.tokenizers.compute_word_piece_vocabulary(
        tf.data.Dataset.from_tensor_slices(read).batch(1024), 2000, lowercase=True, reserved_tokens=SPECIAL
    )
    models = keras_hub.models
    tokenizer = models.DistilBertTokenizer(vocabulary=vocabulary, lowercase=True)
    reader = models.DistilBertTextClassifierPreprocessor(tokenizer, sequence_length=LONGEST)
    backbone = models.DistilBertBackbone(
        vocabulary_size=len(vocabulary),
        num_layers=layers,
        num_heads=4,
        hidden_dim=units,
        intermediate_dim=4 * units,
        max_sequence_length=LONGEST,
        dropout=0.0,
    )
    task = models.DistilBertMaskedLM(backbone, preprocessor=None)
    steps = epochs * -(-len(read) // BATCH)
    rate = keras().optimizers.schedules.CosineDecay(0.0, steps, warmup_target=2e-3, warmup_steps=steps // 20)
    task.compile(
        keras().optimizers.AdamW(rate, weight_decay=0.01, clipnorm=1.0),
        keras().losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
    )
    with quiet():
        tokens = np.asarray(reader(read)["token_ids"])
        draw = np.random.default_rng(seed)
        for epoch in range(epochs):
            given, hidden, counts = hide(tokens[draw.permutation(len(tokens))], len(vocabulary), draw)
            told = task.fit(given, hidden, sample_weight=counts, batch_size=BATCH, shuffle=False, verbose=0).history
            print(f"   pass {epoch + 1} of {epochs}: {told['accuracy'][-1]:.0%} of the hidden words found", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    backbone.save_to_preset(str(folder))
    reader.save_to_preset(str(folder))
    about = folder / "metadata.json"  # of which nothing is read; without the date, the same weights have one digest
    about.write_text(json.dumps({key: value for key, value in json.loads(about.read_text()).items() if key != DATE}))


def hide(
    tokens: npt.NDArray[np.int32], words: int, draw: np.random.Generator
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Of each row of ``tokens``, shape (rows, LONGEST), a fifth is hidden: what the network is given, what it has to
    say, and which of that counts.

    Eight in ten of the hidden ones become ``[MASK]``, one another of ``words``, and one stays (Devlin et al., 2019).
    KerasHub's own generator of masks takes no seed.
    """
    own = tokens >= len(SPECIAL)
    places = np.argsort(np.where(own, draw.random(tokens.shape), 2.0), axis=1)[:, :HIDDEN]
    counts = np.arange(HIDDEN) < np.ceil(SHARE * own.sum(axis=1, keepdims=True))
    wanted = np.take_along_axis(tokens, places, axis=1)
    how = draw.random(wanted.shape)
    others = draw.integers(len(SPECIAL), words, wanted.shape, dtype=tokens.dtype)
    shown = np.where(how < 0.8, SPECIAL.index("[MASK]"), np.where(how < 0.9, others, wanted))
    given = tokens.copy()
    np.put_along_axis(given, places, np.where(counts, shown, wanted).astype(tokens.dtype), axis=1)
    padding = tokens != SPECIAL.index("[PAD]")
    return {"token_ids": given, "padding_mask": padding, "mask_positions": places}, wanted, counts.astype(np.float32)


def pin(base: Path) -> str:
    """Write ``upkeep.yaml`` beside the base, with its digest, which is returned."""
    digest = folder_digest(base)
    text = (Path(__file__).parent / "upkeep.yaml").read_text()
    (base.parent / "upkeep.yaml").write_text(re.sub(r'digest: "0+"', f"digest: {digest}", text))
    return digest


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Pre-train a small network on reviews without labels.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent / "work" / "base")
    parser.add_argument("--rows", type=int, default=20_000, help="reviews to read")
    parser.add_argument("--epochs", type=int, default=5, help="how often they are read")
    words = parser.parse_args()
    started = time.monotonic()
    pretrain(words.folder, rows=words.rows, epochs=words.epochs)
    print(f"a preset in {time.monotonic() - started:.0f} s: {words.folder}")
    print(f"{words.folder.parent / 'upkeep.yaml'} names it by its digest, {pin(words.folder)[:12]}…")
