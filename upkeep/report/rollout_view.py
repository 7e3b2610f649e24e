"""What a rollout's page shows: one record a rollout, put together from Git and its evidence."""

from __future__ import annotations

from dataclasses import dataclass

from upkeep.rollout.analysis.result import Analysis


@dataclass(frozen=True, kw_only=True)
class Move:
    """One commit."""

    at: str
    """UTC, ISO 8601."""
    commit: str
    author: str
    person: bool
    """Not the controller's: a person's command or edit."""
    phase: str
    weight: int
    """The canary's share from then on, per cent."""
    title: str
    """One plain sentence."""
    verdict: str = ""
    """``pass``, ``fail``, ``insufficient``; empty: none was asked for."""
    evidence: str = ""
    """Digest of the evidence that the commit cites; empty: none."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """One metric as it stood at one time. An unknown number is None."""

    at: str
    metric: str
    weight: int | None
    difference: float | None
    lower: float | None
    upper: float | None
    margin: float | None
    e_fail: float | None
    e_pass: float | None


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What users met, by version, since the rollout began."""

    version: str
    requests: int
    failed: int
    slow: int


@dataclass(frozen=True, kw_only=True)
class RolloutView:
    """One rollout. Whatever is None or empty is not known, and the page says so."""

    rollout: str
    """Its id."""
    canary: str
    champion: str
    """The version that it was compared with."""
    phase: str
    weight: int
    reason: str
    began: str
    """UTC, ISO 8601."""
    ended: str | None = None
    steps: tuple[int, ...] = ()
    """The plan's, per cent."""
    waits_for: str = ""
    until: str | None = None
    moves: tuple[Move, ...] = ()
    """Oldest first."""
    looks: tuple[Look, ...] = ()
    """Oldest first."""
    analysis: Analysis | None = None
    """The newest evidence."""
    traffic: tuple[Traffic, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be read, and the like."""


@dataclass(frozen=True, kw_only=True)
class RolloutsView:
    """A model's rollouts."""

    model: str
    made: str
    """When this was put together: UTC, ISO 8601."""
    serves: tuple[tuple[str, int], ...]
    """(version, per cent), what should serve now."""
    rollouts: tuple[RolloutView, ...]
    """Newest first."""
    description: str = ""
    owner: str = ""
    repository: str = ""
