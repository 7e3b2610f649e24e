"""What a rollout may do, from the spec: everything that :func:`upkeep.rollout.decide.decide` needs and no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from upkeep.spec.model import ModelSpec, Window


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Times are in seconds, weights in per cent."""

    steps: tuple[int, ...]
    """The canary's weights, rising; each in 1 to 99."""
    shadow: bool
    """Whether pairs are compared before the first step."""
    approve: frozenset[int]
    """Weights that are left only when a person says so."""
    windows: tuple[Window, ...]
    """When traffic may move forward; none: always."""
    freeze: bool
    brake: bool
    ready_limit: float
    shadow_limit: float
    step_limit: float
    otherwise: Literal["hold", "roll_back"]
    settle: float
    """No step passes sooner after its traffic moved: as long as a request may take."""
    bake: float


def plan_of(spec: ModelSpec) -> Plan:
    rollout = spec.rollout
    return Plan(
        steps=tuple(round(step * 100) for step in rollout.steps),
        shadow=rollout.shadow.replay and bool(spec.monitoring.labels),
        approve=frozenset(round(share * 100) for share in rollout.approve),
        windows=rollout.windows,
        freeze=rollout.freeze,
        brake=rollout.brake,
        ready_limit=rollout.limits.ready,
        shadow_limit=rollout.limits.shadow,
        step_limit=rollout.limits.step,
        otherwise=rollout.limits.otherwise,
        settle=rollout.timeout,
        bake=rollout.bake,
    )
