"""Every phase under a grid of observations: what the state diagram is drawn from, and what the benchmark decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import get_args

from tests.unit.rollout.rollout_fakes import CANARY, PLAN, at, good, live, service, state
from upkeep.rollout.observation import Edit, Observation
from upkeep.rollout.plan import Plan
from upkeep.rollout.state import AT_REST, WAITING, Phase, State


@dataclass(frozen=True, kw_only=True)
class Case:
    event: str
    """What happens, in words."""
    plan: Plan
    state: State
    observation: Observation
    now: datetime


def states() -> Iterator[State]:
    """One or more of each phase with a canary."""
    for phase in get_args(Phase):
        if phase in AT_REST:
            continue
        if phase == "step":
            yield state("step", 5, 1)
            yield state("step", 50, 3)
        elif phase in WAITING:
            for came_from, weight in (("pending", 0), ("shadow", 0), ("step", 25), ("baking", 100)):
                yield state(phase, weight, 2, came_from=came_from)
        else:
            yield state(phase)
    yield state("pending", direct=True)
    yield state("promoting", direct=True)


def _edit(kind: str, weight: int) -> Edit:
    return Edit(kind=kind, commit="c" * 40, author="a person", weight=weight, message="edited")  # type: ignore[arg-type]


def cases() -> Iterator[Case]:
    """Each state under each event, alone."""
    shadowed = replace(PLAN, shadow=True)
    for each in states():
        soon, late = 45.0, 10_000.0
        up = {"v12": service("v12"), "v13": service("v13")}

        def case(
            event: str, observation: Observation, after: float = soon, plan: Plan = PLAN, of: State = each
        ) -> Case:
            return Case(event=event, plan=plan, state=of, observation=observation, now=at(after))

        yield case("nothing is known", Observation(live=None, probe=None, verified=False, shadow=None, analysis=None))
        yield case("no verdict yet", good(each, soon, "insufficient"))
        yield case("the evidence says pass", good(each, soon))
        yield case("the evidence says pass", good(each, late), late)
        yield case("the evidence says pass; a shadow is planned", good(each, soon), plan=shadowed)
        yield case("the evidence says pass; a person must approve", good(each, soon),
                   plan=replace(PLAN, approve=frozenset({0, 5, 25, 50})))  # fmt: skip
        yield case("the evidence says pass; frozen, or no window", good(each, soon), plan=replace(PLAN, freeze=True))
        yield case("the evidence says fail", good(each, soon, "fail"))
        yield case("no verdict at the limit", good(each, late, "insufficient"), late)
        yield case("no verdict at the limit; `otherwise: roll_back`", good(each, late, "insufficient"), late,
                   plan=replace(PLAN, otherwise="roll_back"))  # fmt: skip
        yield case("nothing is known at the limit", good(each, late, None, live=None), late)
        elsewhere = {name: 100 if name == CANARY.version and not each.weight else 0 for name in each.weights}
        elsewhere["v12"] = 100 - sum(elsewhere.values())
        yield case("live traffic does not follow", good(each, soon, live=live(elsewhere, soon)))
        yield case("live traffic does not follow at the limit", good(each, late, live=live(elsewhere, late)), late)
        yield case("another version gets traffic", good(each, 70, live=live({"v9": 100}, 70)), 70)
        refused = up | {"v13": service("v13", ready=False, refused=True, message="unknown field")}
        yield case(
            "the cluster refuses the manifest", good(each, soon, live=live(each.weights, soon, services=refused))
        )
        gone = {"v12": up["v12"]}
        yield case("the canary's service is gone", good(each, soon, live=live(each.weights, soon, services=gone)))
        other = up | {"v13": service("v13", digest="f" * 64)}
        yield case("the canary serves other bytes", good(each, soon, live=live(each.weights, soon, services=other)))
        unready = up | {"v13": service("v13", ready=False)}
        yield case("the canary is not ready", good(each, soon, live=live(each.weights, soon, services=unready)))
        yield case("the clock goes back", good(each, -400), -400)
        if each.weight:
            yield case("a person lowers its weight (`git revert` does)", good(each, soon, edit=_edit("lowered", 0)))
        if each.weight < 100:
            yield case("a person raises its weight", good(each, soon, edit=_edit("raised", each.weight + 10)))
        yield case("a person removes its files", good(each, soon, edit=_edit("removed", 0)))
        yield case("a person leaves the files at odds", good(each, soon, edit=_edit("nonsense", 0)))
