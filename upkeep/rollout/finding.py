"""What a check of :mod:`upkeep.rollout.doctor` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MOST_SKEW = 5.0
"""Seconds by which this clock and another may differ: evidence is timed by one and read by the other."""

State = Literal["ok", "problem", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    check: str
    state: State
    text: str
    """One plain sentence."""
    fix: str = ""
    """What to do, as a command where there is one."""
