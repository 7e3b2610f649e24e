"""A version's card: what it is, where it comes from, and why it was let in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from upkeep.evaluation.result import Scores, Verdict


@dataclass(frozen=True, kw_only=True)
class Trained:
    candidate: str
    strategy: str
    """retrain, incremental, ensemble, custom, or adopted."""
    params: dict[str, Any]
    """The estimator's parameters as used, search included."""
    seed: int
    rows: int | None
    """Training rows; None: unknown (an adopted model)."""
    periods: tuple[str, ...]
    """The periods that it learned from, itself or through what it started from."""
    until: str | None
    """The newest period it may have learned from; for an adopted model the declared cut-off; None: unknown."""
    seconds: float
    """CPU seconds of training."""


@dataclass(frozen=True, kw_only=True)
class Card:
    model: str
    """The model's name."""
    version: str
    """``v3``."""
    digest: str
    """Of the model's bytes: ``models/<digest>/``."""
    size_bytes: int
    created: str
    """UTC, ISO 8601, seconds."""
    update: str
    """The update that made it: ``updates/<update>/``."""
    dataset: str | None
    """``datasets/<digest>.json``; None: adopted."""
    rows: dict[str, int]
    """Rows of that dataset by what became of them: train, validation, held_out, kept_out, quarantined, duplicate."""
    spec: str
    """Digest of the spec: ``specs/<digest>.json``."""
    code: dict[str, str]
    """upkeep's version, Git commit where known, and the digest of the lock file."""
    trained: Trained
    scores: dict[str, Scores]
    """Row set → scores on held-out rows."""
    verdict: Verdict | None
    """None: adopted without data to judge it on."""
    champion: str | None
    """The version it was compared with."""
    parents: tuple[str, ...]
    """Model digests that it was made from: the champion's or its members'."""
    profile: str | None
    """``profiles/<digest>.json``: its training rows, the reference of drift."""
    drift: str | None
    """The drift report's finding and summary; the whole stands in ``updates/<update>/drift.json``."""
    base: str = ""
    """Of a delta: the digest of the model that its bytes are added to, ``models/<base>/``."""
    labels: dict[str, str] = field(default_factory=dict)
    kind: Literal["Version"] = "Version"
    schema_version: int = 1
