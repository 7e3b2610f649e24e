"""What an evaluation is given: the candidates and the champion, loaded or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from upkeep.evaluation.curves import Portion
from upkeep.evaluation.result import Rounds
from upkeep.models.manifest import Predictor


@dataclass(frozen=True, kw_only=True)
class Before:
    """The model that a candidate went on from."""

    name: str
    """In words: ``where it last stood``, ``champion v3``."""
    model: str
    """Digest of its bytes."""
    state: str
    """Digest of the state it was part of; empty: it was the champion."""
    periods: tuple[str, ...]
    """The periods it had learned."""
    predictor: Predictor | None
    failed: str = ""
    """Why there is no predictor."""
    base: bool = False
    """It is the candidate's base: what it had learned is not known."""


@dataclass(frozen=True, kw_only=True)
class CandidateInput:
    """A candidate that was trained, or was to be."""

    name: str
    strategy: str
    digest: str
    """Of the model's bytes; empty when training failed."""
    folder: Path | None
    """The model's folder: its size counts."""
    predictor: Predictor | None
    failed: str = ""
    """Why there is no predictor."""
    rows: int | None = None
    """Training rows it learned from."""
    periods: tuple[str, ...] = ()
    """The periods it learned from, oldest first; empty: all that have training rows."""
    state: str = ""
    """Digest of the state it left, where it goes on learning."""
    before: Before | None = None
    """What it went on from; None: it learned all anew."""
    rounds: Rounds | None = None
    """Its earlier rounds, as far as they are known."""

    @property
    def goes_on(self) -> bool:
        """Whether its strategy goes on from where it stood."""
        return self.strategy in ("incremental", "fine_tune")


@dataclass(frozen=True, kw_only=True)
class ChampionInput:
    """The version that serves."""

    version: str
    digest: str
    predictor: Predictor | None
    unreadable: str = ""
    """Why it cannot be loaded."""
    periods: tuple[str, ...] = ()
    """The periods it learned from."""
    until: str | None = None
    """The newest period it may have learned from; for an adopted model the declared cut-off; None: unknown."""
    adopted: bool = False
    other_split: bool = False
    """It was trained under another split: rows that are held out now may have taught it."""
    folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Retrained:
    """A model of the chosen candidate's recipe, trained on a portion of its rows."""

    predictor: Predictor
    rows: int
    """Training rows it learned from."""


RetrainOn = Callable[[Portion], Retrained | None]
"""Trains the chosen candidate's recipe on a portion; None, or any error: that point of the curve is left out."""
