"""Short ways to say what is known, for tests of the decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from upkeep.evaluation.result import VerdictName
from upkeep.rollout.analysis.result import Analysis, MetricEvidence
from upkeep.rollout.observation import Observation
from upkeep.rollout.plan import Plan
from upkeep.rollout.state import Barred, Canary, Champion, Phase, State, moment
from upkeep.serving.cluster import Live, Probe, ServiceStatus

T0 = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)  # a Monday
OLD, NEW = "1" * 64, "2" * 64
CHAMPION = Champion(version="v12", digest=OLD, since="2026-02-01T12:00:00Z")
CANARY = Canary(version="v13", digest=NEW, update="u13")
BARRED = Barred(version="v11", digest="3" * 64, since="2026-02-01T12:00:00Z", reason="worse")
PLAN = Plan(
    steps=(5, 25, 50),
    shadow=False,
    approve=frozenset(),
    windows=(),
    freeze=False,
    brake=True,
    ready_limit=1800,
    shadow_limit=7200,
    step_limit=3600,
    otherwise="hold",
    settle=10,
    bake=600,
)


def state(phase: Phase, weight: int = 0, step: int = 0, **changes: Any) -> State:
    at_rest = phase in ("idle", "succeeded", "rolled_back")
    weight = 100 if phase in ("promoting", "baking") else weight
    base = State(
        model="m",
        phase=phase,
        weight=weight,
        champion=CHAMPION,
        canary=None if at_rest else CANARY,
        update="u13",
        evidence=None,
        rollout="v13-20260302T120000Z",
        since=moment(T0),
        step=step,
        came_from="step" if phase in ("held", "paused") else None,
        reason="because",
    )
    return replace(base, **changes)


def analysis(verdict: VerdictName, requests: int = 100, metric: str = "errors") -> Analysis:
    evidence = MetricEvidence(
        metric=metric,
        unit="requests",
        canary_n=requests,
        canary_bad=0,
        champion_n=requests,
        champion_bad=0,
        canary_rate=0.0,
        champion_rate=0.0,
        difference=0.0,
        lower=None,
        upper=None,
        margin=0.005,
        e_fail=1.0,
        e_pass=1.0,
        fail_at=100.0,
        pass_at=20.0,
        required=True,
        verdict=verdict,
        text="so many",
    )
    return Analysis(
        verdict=verdict,
        summary=f"{metric} {verdict}",
        reasons=(),
        metrics=(evidence,),
        e_rollback=1.0,
        rollback_at=100.0,
    )


def service(version: str, **changes: Any) -> ServiceStatus:
    digest = OLD if version == "v12" else NEW
    return replace(ServiceStatus(version=version, digest=digest, ready=True), **changes)


def live(weights: Mapping[str, int] | None, after: float = 60, **changes: Any) -> Live:
    services = {"v12": service("v12"), "v13": service("v13")}
    return replace(Live(weights=weights, services=services, commit="c", at=T0 + timedelta(seconds=after)), **changes)


def good(of: State, after: float = 60, verdict: VerdictName | None = "pass", **changes: Any) -> Observation:
    """All is as ``of`` says, ``after`` seconds since it began, with this verdict."""
    found = None if verdict is None else analysis(verdict)
    base = Observation(
        live=live(of.weights, after),
        probe=Probe(ok=True, status=200),
        verified=True,
        shadow=found,
        analysis=found,
        applied=True,
    )
    return replace(base, **changes)


def at(after: float) -> datetime:
    return T0 + timedelta(seconds=after)
