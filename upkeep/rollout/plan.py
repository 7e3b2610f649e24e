"""What a rollout may do, from the spec: everything that :func:`upkeep.rollout.decide.decide` needs and no more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

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

    def step_after(self, weight: int) -> int | None:
        """The number (1-based) of the first step with more traffic than ``weight``; None: all traffic comes next."""
        return next((number for number, step in enumerate(self.steps, 1) if step > weight), None)

    def may_move(self, now: datetime) -> bool:
        """Whether some window is open. A time zone that this machine does not know keeps its window shut."""
        return not self.windows or any(_is_open(window, now) for window in self.windows)

    def opens(self, now: datetime) -> datetime | None:
        """When the next window opens (UTC); None: never."""
        return min(filter(None, (_opens(window, now) for window in self.windows)), default=None)


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


DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _zone(window: Window) -> ZoneInfo | None:
    try:
        return ZoneInfo(window.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _is_open(window: Window, now: datetime) -> bool:
    zone = _zone(window)
    if zone is None:
        return False
    local = now.astimezone(zone)
    return DAYS[local.weekday()] in window.days and window.start <= local.strftime("%H:%M") < window.end


def _opens(window: Window, now: datetime) -> datetime | None:
    zone = _zone(window)
    if zone is None:
        return None
    today: date = now.astimezone(zone).date()
    for day in (today + timedelta(days=ahead) for ahead in range(8)):
        start = datetime.combine(day, time.fromisoformat(window.start), zone).astimezone(UTC)
        if DAYS[day.weekday()] in window.days and start > now:
            return start
    return None
