"""A registered version, written for other programs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from upkeep.registry.registry import Registry
from upkeep.spec.model import ModelSpec
from upkeep.update import trained


def export_version(spec: ModelSpec, registry: Registry, version: str, out: Path, *, kind: str) -> Path:
    """Write it to ``out/<number>`` (``saved_model``) or ``out/<version>.keras`` (``keras``); the path.

    Raises as :func:`upkeep.models.keras_export.export_saved_model` does, and what fetching and loading raise.
    """
    digest = registry.card(version).digest
    with tempfile.TemporaryDirectory(prefix="upkeep-export-") as folder:
        predictor = trained.predictor(registry, digest, Path(folder), spec.estimators)
        from upkeep.models import keras_export  # TensorFlow is an extra

        if kind == "keras":
            path = out / f"{version}.keras"
            keras_export.export_keras(predictor, path)
        else:
            path = out / version.removeprefix("v")
            keras_export.export_saved_model(predictor, path)
    return path
