"""``manifest.json``: the first file of every model folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from upkeep.data.kinds import Column
from upkeep.spec.model import Label

MANIFEST = "manifest.json"
NETWORKS = ("keras", "delta")
"""The formats of networks."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    format: Literal["sklearn", "keras", "delta", "ensemble"]
    columns: tuple[Column, ...]
    """The raw columns the model takes."""
    classes: tuple[Label, ...]
    """In the order of the probabilities."""
    positive: Label | None
    libraries: dict[str, str]
    """The versions that wrote the model: python, scikit-learn, numpy, upkeep; of a network keras and tensorflow too."""
    members: tuple[str, ...] = ()
    """An ensemble's member folders, below ``members/``."""
    weights: tuple[float, ...] = ()
    """A soft vote's weights; empty for stacking, whose final estimator is ``model.skops``."""
    base: str = ""
    """A delta's: the digest of the model folder that it stands on, which is no delta itself."""
    schema_version: int = 1


class Predictor(Protocol):
    """A loaded model. Raw columns in, probabilities out; the server, verify and the gate all ask through this."""

    @property
    def manifest(self) -> Manifest: ...

    def predict_proba(self, rows: pa.Table) -> npt.NDArray[np.float64]:
        """Probabilities, shape (rows, classes), rows summing to 1.

        ``rows`` holds at least the manifest's columns, nulls allowed. Raises :class:`upkeep.errors.ModelError` when
        a column is missing or cannot be read as its kind.
        """
        ...
