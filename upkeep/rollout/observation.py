"""What is known when a rollout is decided: everything that was read, and nothing that was remembered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from upkeep.rollout.analysis.result import Analysis
from upkeep.serving.cluster import Live, Probe


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What a person's commit did to the traffic, against what Upkeep last committed."""

    kind: Literal["lowered", "raised", "removed", "nonsense"]
    """``lowered``: the canary's weight (a revert does that, too): an abort. ``raised``: a pause. ``removed``: the
    canary's files are gone: an abort. ``nonsense``: the files do not agree; nothing can be committed on top."""
    commit: str
    author: str
    weight: int | None
    """The canary's weight by that commit; None: it cannot be told."""
    message: str
    """One plain sentence for people."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """Read in one look. None: unknown, which is never good."""

    live: Live | None
    probe: Probe | None
    """A request pinned to the canary; None: not asked, or it could not be asked."""
    verified: bool
    """The canary's bytes are in the registry under their digest, and its card is there."""
    shadow: Analysis | None
    """The comparison in pairs, for the phase ``shadow``."""
    analysis: Analysis | None
    """The evidence of the present step (or of the bake time)."""
    edit: Edit | None = None
    applied: bool | None = None
    """The commit that holds the state (or a later one) is what the cluster applied last; None: nobody can say."""
    steady: datetime | None = None
    """Since when live traffic was as Git says at every look of this stage; None: it is not now, or nobody knows."""
