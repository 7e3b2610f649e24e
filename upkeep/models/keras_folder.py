"""Model folders of networks: format ``keras`` (manifest.json, model.keras), ``delta`` (manifest.json, delta.npz)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from upkeep import records
from upkeep.data.kinds import Column
from upkeep.errors import ModelError, Where
from upkeep.models import keras_delta, keras_feed, keras_file
from upkeep.models.folder import base_of, checked, folder_digest, library_versions, read_manifest
from upkeep.models.keras_delta import DELTA
from upkeep.models.keras_file import MODEL
from upkeep.models.keras_runtime import keras, quiet, tensorflow
from upkeep.models.manifest import MANIFEST, Manifest

BATCH_ROWS = 8192


def keras_versions() -> dict[str, str]:
    """The versions that a Keras model's bytes depend on."""
    return {**library_versions(), "keras": keras().__version__, "tensorflow": tensorflow().__version__}


def save_keras(folder: Path, model: Any, manifest: Manifest) -> None:
    """Write a ``keras.Model`` that takes the manifest's raw columns (:mod:`upkeep.models.keras_feed`) and answers with
    probabilities, shape (rows, classes).

    ``folder`` must not exist or be empty. The manifest's ``format``, ``libraries`` and ``members`` are set here.
    Raises :class:`ModelError` when it takes or answers otherwise, or cannot be written.
    """
    _fits(model, manifest, Where(file=str(folder)))
    write_keras(folder, keras_file.dump(model), manifest)


def write_keras(folder: Path, data: bytes, manifest: Manifest) -> None:
    """:func:`save_keras` of what :func:`upkeep.models.keras_file.dump` gave."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(data)
    _write_manifest(folder, replace(manifest, format="keras", base=""))


def write_delta(folder: Path, data: bytes, base: Path, manifest: Manifest) -> None:
    """Write what :func:`upkeep.models.keras_delta.dump` gave, of a network that stands on the model folder ``base``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DELTA).write_bytes(data)
    _write_manifest(folder, replace(manifest, format="delta", base=folder_digest(base)))


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    records.write(folder / MANIFEST, replace(manifest, libraries=keras_versions(), members=(), weights=()))


def load_keras(folder: Path, manifest: Manifest, allowed: Sequence[str]) -> KerasPredictor:
    """The predictor in the folder. Raises :class:`ModelError` as :func:`upkeep.models.keras_file.load` does."""
    model = keras_file.load(folder / MODEL, allowed=allowed)
    return KerasPredictor(manifest, model, _fits(model, manifest, Where(file=str(folder))))


def load_delta(folder: Path, manifest: Manifest, allowed: Sequence[str]) -> KerasPredictor:
    """The predictor in the folder, its adapters merged: the same bits as the whole model, kept as ``model.keras``.

    Raises as :func:`load_keras` and :func:`upkeep.models.folder.base_of` do.
    """
    model, _ = open_delta(folder, manifest, allowed, merged=True)
    return KerasPredictor(manifest, model, _fits(model, manifest, Where(file=str(folder))))


def open_delta(
    folder: Path, manifest: Manifest, allowed: Sequence[str], *, merged: bool
) -> tuple[Any, keras_delta.Arrays]:
    """The delta's ``keras.Model``, and its arrays; ``merged`` as in :func:`upkeep.models.keras_delta.add`."""
    arrays = keras_delta.read(folder / DELTA)
    base = base_of(folder, manifest)
    if read_manifest(base).format != "keras":
        raise ModelError(
            "the base is no whole network, and a delta stands on nothing else",
            where=Where(file=str(base)),
            fix="train it again",
        )
    model = keras_file.load(base / MODEL, allowed=allowed)
    keras_delta.add(model, arrays, Where(file=str(folder / DELTA)), merged=merged)
    return model, arrays


def _fits(model: Any, manifest: Manifest, where: Where) -> tuple[Column, ...]:
    columns = keras_feed.taken(model, manifest.columns)
    shape = tuple(model.output_shape) if isinstance(model.output_shape, tuple) else ()
    if shape != (None, len(manifest.classes)):
        raise ModelError(
            f"the model answers with shape {shape}, and there are {len(manifest.classes)} classes",
            where=where,
            fix="end it with a Dense layer of one place a class, and softmax",
        )
    return columns


@dataclass(frozen=True)
class KerasPredictor:
    """A Keras model that takes raw columns. It is float32: a row asked in other company may differ by 1e-6."""

    manifest: Manifest
    model: Any
    columns: tuple[Column, ...]
    """Those of the manifest's that the model takes."""
    _graph: list[Any] = field(default_factory=list, repr=False, compare=False)

    def predict_proba(self, rows: pa.Table) -> npt.NDArray[np.float64]:
        out = np.zeros((rows.num_rows, len(self.manifest.classes)))
        for start in range(0, max(rows.num_rows, 1), BATCH_ROWS):
            batch = rows.slice(start, BATCH_ROWS)
            given = keras_feed.parts(batch, self.manifest.columns)  # all: a wrong value in a spare column is one too
            if batch.num_rows:
                out[start : start + batch.num_rows] = self._ask(given, batch.num_rows)
        return out

    def _ask(self, given: keras_feed.Parts, rows: int) -> npt.NDArray[np.float64]:
        tf = tensorflow()
        signature = keras_feed.signature(self.columns)
        if not self._graph:
            self._graph.append(
                tf.function(
                    lambda parts: self.model(keras_feed.tensors(parts), training=False),
                    input_signature=[signature],
                    autograph=False,
                )
            )
        try:
            with quiet():
                answers = self._graph[0]({name: given[name] for name in signature}).numpy()
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise ModelError(
                f"the model cannot answer these rows: {str(error)[:300]}",
                fix="check that the rows have the columns and kinds in the model's manifest.json",
            ) from error
        numbers = np.asarray(answers, dtype=np.float64)
        return checked(numbers / numbers.sum(axis=1, keepdims=True), (rows, len(self.manifest.classes)))
