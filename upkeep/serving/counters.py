"""How many requests each version answered, failed and was slow at: what the analysis of a canary is made from.

Two sources give the same :class:`Snapshot`: the one-machine cluster's Envoy, and Prometheus. Counts are cumulative:
the evidence of a step is the difference of two snapshots of the same epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from upkeep.spec.model import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Counts:
    """One version's requests since the epoch began. Requests that were pinned to it (by testers, by probes) are not
    among them."""

    requests: int
    """Requests that ended, however they did; also those whose client went away."""
    failed: int
    """Of these: answered with 4xx or 5xx, not in time, not at all or not whole. A 4xx may be the client's fault or the
    version's (it wants a column that nobody sends): clients meet the versions by chance, so what is theirs weighs on
    both alike, and a version that refuses what the other answers has more."""
    slow: int
    """Of these: took as long as ``rollout.latency`` or longer, failed ones too."""
    active: int
    """Requests in flight now; not among ``requests`` yet."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The counts of one model's versions at one time."""

    at: datetime
    """When it was read; knows its zone."""
    epoch: str
    """Names the life of the counters: another epoch means that they began anew at 0, and two snapshots cannot be
    subtracted."""
    versions: Mapping[str, Counts]
    """By version. One without any request may be missing: it has 0 of everything."""


class Counters(Protocol):
    """Where snapshots come from."""

    def read(self, spec: ModelSpec) -> Snapshot:
        """The counts now. Raises :class:`~upkeep.errors.OutsideError` when they cannot be had: nothing is known
        then, and nothing is 0."""
        ...
