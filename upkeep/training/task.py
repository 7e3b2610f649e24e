"""What a training is told, and what it reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from upkeep.data.kinds import Column
from upkeep.data.prepared import Prepared
from upkeep.models.manifest import Manifest
from upkeep.spec.model import Candidate, ModelSpec

CHAMPION = "champion"
"""The member name of the version that serves."""

Progress = Callable[[str, float | None], None]
"""``progress(text, share)``: share of the work done in [0, 1]; None: unknown."""


def silent(text: str, share: float | None = None) -> None:
    """No progress is shown."""


class Checkpoints(Protocol):
    """Where a long training saves what it would go on from: one place, the newest save alone."""

    def read(self) -> bytes | None:
        """What was saved last; None: nothing."""
        ...

    def write(self, data: bytes) -> None:
        """Save in place of what was saved before: whole, or not at all."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainingTask:
    """One candidate to train."""

    candidate: Candidate
    spec: ModelSpec
    prepared: Prepared
    seed: int
    state: Path | None = None
    """The folder of the candidate's last state; None: it starts."""
    members: Mapping[str, Path] = field(default_factory=dict)
    """Models it is made from: name → model folder; :data:`CHAMPION` among them where it is wanted and there is one."""
    checkpoints: Checkpoints | None = None
    """None: nothing is saved before the end."""
    progress: Progress = silent

    @property
    def columns(self) -> tuple[Column, ...]:
        """The raw columns that the model takes."""
        return self.prepared.summary.columns

    def manifest(self) -> Manifest:
        """The manifest of a model of this task; saving fills in the rest."""
        summary = self.prepared.summary
        return Manifest(
            format="sklearn", columns=self.columns, classes=summary.classes, positive=summary.positive, libraries={}
        )


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One set of parameters that a search tried."""

    number: int
    params: dict[str, Any]
    score: float | None
    """The gate's metric, the mean over the folds; None: it failed."""
    seconds: float
    """CPU seconds."""
    failed: str = ""
    """Why it failed."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One pass over the rows, as a network learned them."""

    number: int
    """From 1."""
    loss: float
    """The mean over the rows that taught, as they went by."""
    watched: float | None
    """The mean log loss on watched rows of the training side; None: none are watched."""
    steps: int
    """Steps in all, this epoch's too."""
    accuracy: float | None = None
    """The share of the watched rows that is answered right; None: none are watched."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    candidate: str
    strategy: str
    params: dict[str, Any]
    """The estimator's parameters as used, search included."""
    seed: int
    rows: int
    """Rows it learned from, earlier states included; for an ensemble, the rows its final estimator learned from."""
    periods: tuple[str, ...]
    """The periods that it learned from, itself or through what it started from."""
    seconds: float
    """CPU seconds of training."""
    trials: tuple[Trial, ...] = ()
    warm_started: bool = False
    """It went on from an earlier state."""
    curve: tuple[Epoch, ...] = ()
    """A network's training, epoch by epoch."""
    notes: tuple[str, ...] = ()
    """What a person should know: a member that was left out, a warning of the library, a sentence each."""
