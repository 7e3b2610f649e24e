"""The counters of the one-machine cluster: what its Envoy counted, by version."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from upkeep.errors import OutsideError, Where
from upkeep.serving.counters import Counts, Snapshot
from upkeep.serving.local.ask import running_gateway
from upkeep.serving.local.envoy import slow_stat
from upkeep.serving.local.folder import Folder
from upkeep.spec.model import ModelSpec


class LocalCounters:
    """:class:`~upkeep.serving.counters.Counters` from the folder of a cluster."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def read(self, spec: ModelSpec) -> Snapshot:
        gateway = running_gateway(self._folder)
        if spec.rollout.latency not in gateway.latencies:
            raise OutsideError(
                f"this gateway does not count requests slower than {spec.rollout.latency:g} s: `rollout.latency` "
                "changed since it started",
                where=Where(str(self._folder.root)),
                fix="`upkeep down`, then `upkeep up`",
            )
        model = re.escape(spec.name)
        pattern = rf"^(upkeep\..*\.cluster\.{model}-v[0-9]+-predictor|cluster\.{model}-v[0-9]+-predictor\..*_active)$"
        stats = gateway.get("/stats", {"format": "json", "filter": pattern})
        at = datetime.now(UTC)
        found = {each["name"]: int(each["value"]) for each in stats["stats"] if "name" in each}
        return Snapshot(at=at, epoch=gateway.epoch, versions=read_counts(found, spec))


def read_counts(stats: Mapping[str, Any], spec: ModelSpec) -> dict[str, Counts]:
    """Version → counts, from Envoy's counters and gauges by name.

    A counter that is not there yet is 0: Envoy makes it at the first request that it counts.
    """
    name = re.compile(rf"(?:upkeep\.(\w+)\.cluster|cluster)\.{re.escape(spec.name)}-(v[1-9]\d*)-predictor(?:\.(\w+))?")
    counts: dict[str, dict[str, int]] = {}
    for stat, value in stats.items():
        if match := name.fullmatch(stat):
            counter, version, gauge = match.groups()
            counts.setdefault(version, {})[counter or gauge] = value
    return {
        version: Counts(
            requests=each.get("requests", 0),
            failed=each.get("failed", 0),
            slow=each.get(slow_stat(spec.rollout.latency), 0),
            active=each.get("upstream_rq_active", 0) + each.get("upstream_rq_pending_active", 0),
        )
        for version, each in sorted(counts.items())
    }
