"""Pre-train a small network that reads reviews, and leave it as a KerasHub preset folder: the base of upkeep.yaml.

It learns from last year's reviews without their labels, by a masked-token task (Devlin et al., 2019): some words are
hidden, and it says which. The vocabulary of word pieces is computed from the same texts. What comes out is a folder
like any other KerasHub preset, so a larger one from elsewhere goes in its place. Beside it a copy of ``upkeep.yaml``
is written, with the folder's digest.
"""

from __future__ import annotations

import argparse
import re
import shutil
import time
from pathlib import Path

import make_data

from upkeep.models.digest import folder_digest
from upkeep.models.keras_runtime import keras, quiet

YEAR = tuple(f"2024-{month:02}" for month in range(1, 13))
LONGEST = 32
"""Tokens of a review that are read."""
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def texts(rows: int) -> list[str]:
    """Last year's reviews, about ``rows`` of them."""
    return [text for month in YEAR for text in make_data.reviews(month, rows // len(YEAR))["review"].to_pylist()]


def pretrain(folder: Path, *, rows: int, epochs: int, layers: int = 2, units: int = 64, seed: int = 1) -> None:
    """Write the preset to ``folder``, in place of what is there."""
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
    backbone = models.DistilBertBackbone(
        vocabulary_size=len(vocabulary),
        num_layers=layers,
        num_heads=4,
        hidden_dim=units,
        intermediate_dim=4 * units,
        max_sequence_length=LONGEST,
        dropout=0.0,
    )
    masked = models.DistilBertMaskedLMPreprocessor(
        tokenizer, sequence_length=LONGEST, mask_selection_rate=0.2, mask_selection_length=10
    )
    task = models.DistilBertMaskedLM(backbone, preprocessor=None)
    batches = tf.data.Dataset.from_tensor_slices(read).shuffle(len(read), seed=seed).batch(128).map(masked)
    steps = epochs * -(-len(read) // 128)
    rate = keras().optimizers.schedules.CosineDecay(0.0, steps, warmup_target=2e-3, warmup_steps=steps // 20)
    task.compile(
        keras().optimizers.AdamW(rate, weight_decay=0.01, clipnorm=1.0),
        keras().losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
    )
    tell = keras().callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: print(
            f"   pass {epoch + 1} of {epochs}: {logs['accuracy']:.0%} of the hidden words found", flush=True
        )
    )
    with quiet():
        task.fit(batches.prefetch(2), epochs=epochs, verbose=0, callbacks=[tell])
    shutil.rmtree(folder, ignore_errors=True)
    backbone.save_to_preset(str(folder))
    models.DistilBertTextClassifierPreprocessor(tokenizer, sequence_length=LONGEST).save_to_preset(str(folder))


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
