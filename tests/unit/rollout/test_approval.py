"""Approval by pull request: offered while it may be given, merged by a person, never in the way of a roll-back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.rollout.world import World, crash_after, quick
from tests.unit.spec.test_check import found
from tests.unit.spec.test_check import spec as text_of
from upkeep import records
from upkeep.errors import AccessError, OutsideError
from upkeep.rollout.by_hand import Order, carry_out
from upkeep.rollout.controller import Evidence, Told
from upkeep.rollout.pull_request import Request
from upkeep.spec.model import ModelSpec

STEP = "upkeep/flight-delays/v2-20260302T120030Z-step-2"
BACK = "upkeep/flight-delays/v2-20260302T120030Z-back"
REMOVED = "upkeep/flight-delays/v2-20260302T120030Z-removed"


def world_of(spec: ModelSpec, **rollout: Any) -> World:
    made = World(quick(spec, **({"approve_by": "pull_request", "approve": (0.05,)} | rollout)), rate=400)
    made.propose(1, None)
    made.wait(30)
    made.propose(2, "v1")
    return made


@pytest.fixture
def world(spec: ModelSpec) -> World:
    return world_of(spec)


def offered(told: Told) -> bool:
    return "is merged" in told.message


def kinds(world: World) -> list[str]:
    return [each.kind for each in world.posted]


def test_the_next_step_waits_on_a_branch_and_its_merge_moves_the_traffic(world: World) -> None:
    told = world.run(until=offered)
    assert (world.state.phase, world.state.weight) == ("held", 5)
    assert [*world.git.branches] == [STEP]
    assert told.message == f"v2 gets 25 % when the branch {STEP} is merged"
    assert [each.message for each in world.posted if each.kind == "held"][-1] == told.message
    message = world.git.messages[STEP]
    assert message.startswith("flight-delays: v2 to 25 %\n")
    assert "Upkeep-Verdict: pass" in message
    digest = message.partition("Upkeep-Evidence: ")[2].split()[0]
    (key,) = [each.key for each in world.store.list() if digest in each.key]
    evidence = records.from_json(Evidence, world.store.get(key))
    assert (evidence.before.weight, evidence.after.weight, evidence.verdict) == (5, 25, "pass")

    pushes = world.git.pushes
    for _ in range(20):
        world.wait(10)
        world.look()
    assert world.git.pushes == pushes, "it waits, and pushes nothing"

    world.git.merge(STEP, world.now)
    world.wait(5)
    assert world.weights == {"v1": 75, "v2": 25}
    told = world.look()
    assert (world.state.phase, world.state.weight, world.state.step) == ("step", 25, 2)
    assert world.state.since is not None, "its time begins when the merge is seen"
    assert world.state.came_from is None
    told = world.run()
    assert world.state.phase == "succeeded"
    assert world.state.champion.version == "v2"
    assert world.lost == 0
    assert world.subjects.count("v2 to 50 %") == 1


def test_however_long_the_review_takes_the_step_gets_its_time(world: World) -> None:
    world.run(until=offered)
    world.now += timedelta(days=9)  # longer than `limits.step`
    world.git.merge(STEP, world.now)
    world.wait(5)
    world.look()
    world.wait(5)
    told = world.look()
    assert told.state is not None
    assert told.state.phase == "step"
    world.run()
    assert world.state.phase == "succeeded"


def test_a_canary_that_fails_meanwhile_goes_back_at_once_and_its_branch_goes(world: World) -> None:
    world.run(until=offered)
    world.bad["v2"] = 0.4
    world.run(until=lambda told: told.state is not None and told.state.phase == "rolling_back")
    assert world.forced == {"v1": 100, "v2": 0}
    world.run()
    assert world.state.phase == "rolled_back"
    assert world.git.branches == {}
    assert "rolled_back" in kinds(world)


def test_a_canary_that_is_not_ready_is_not_offered_and_offered_again_when_it_is(world: World) -> None:
    world.run(until=offered)
    world.unready.add("v2")
    world.look()
    assert world.git.branches == {}
    assert world.state.phase == "held"
    world.unready.clear()
    world.look()
    assert [*world.git.branches] == [STEP]


def test_a_person_may_say_it_by_command_all_the_same(world: World) -> None:
    world.run(until=offered)
    carry_out(world.model, Order(name="resume"), by="Ann", now=lambda: world.now)
    world.wait(5)
    world.run()
    assert world.state.phase == "succeeded"
    assert world.git.branches == {}


def test_an_abort_takes_the_branch_away(world: World) -> None:
    world.run(until=offered)
    carry_out(world.model, Order(name="abort", reason="no"), by="Ann", now=lambda: world.now)
    world.wait(5)
    world.run()
    assert world.state.phase == "rolled_back"
    assert world.git.branches == {}


def test_one_that_is_declined_is_not_offered_again(world: World) -> None:
    world.run(until=offered)
    world.git.branches.clear()
    for _ in range(5):
        world.wait(10)
        world.look()
    assert world.git.branches == {}
    assert world.state.phase == "held"


def test_before_the_first_step_no_evidence_is_asked_for(spec: ModelSpec) -> None:
    world = world_of(spec, approve=(0.0,))
    world.run(until=offered)
    assert (world.state.weight, [*world.git.branches]) == (0, [STEP.replace("step-2", "step-1")])
    world.git.merge(STEP.replace("step-2", "step-1"), world.now)
    world.wait(5)
    world.run()
    assert world.state.phase == "succeeded"


def test_all_traffic_may_wait_for_a_merge_too(spec: ModelSpec) -> None:
    world = world_of(spec, approve=(0.5,))
    world.run(until=offered)
    (branch,) = world.git.branches
    assert branch.endswith("-promote")
    world.git.merge(branch, world.now)
    world.wait(5)
    world.run()
    assert world.state.phase == "succeeded"


@pytest.mark.parametrize("kill", range(14))
def test_killed_anywhere_it_offers_one_step_once(world: World, kill: int) -> None:
    world.run(until=lambda told: told.state is not None and told.state.phase == "held")
    for _ in range(3):
        crash_after(world.model, world.now, kill)
        world.wait(1)
    world.run(until=offered)
    assert [*world.git.branches] == [STEP]
    assert len({each.id for each in world.posted if "is merged" in each.message}) == 1
    world.git.merge(STEP, world.now)
    world.wait(5)
    for _ in range(3):
        crash_after(world.model, world.now, kill)
        world.wait(1)
    world.run()
    assert world.state.phase == "succeeded"
    assert len(world.subjects) == len(set(world.subjects)), world.subjects


def test_the_host_opens_it_and_a_host_that_is_away_is_asked_again(world: World) -> None:
    asked: list[Request] = []

    def ask(request: Request) -> str:
        asked.append(request)
        if len(asked) == 1:
            raise OutsideError("GitHub does not answer", fix="wait")
        return "https://git.example.com/pulls/7"

    world.model = replace(world.model, ask=ask)
    told = world.run(until=offered)
    assert told.troubles["request"].startswith("GitHub does not answer")
    world.wait(10)
    told = world.look()
    assert told.message == "v2 gets 25 % when https://git.example.com/pulls/7 is merged"
    world.wait(10)
    world.look()
    assert len(asked) == 2
    assert (asked[0].branch, asked[0].into) == (STEP, "main")
    assert asked[0].title == "flight-delays: v2 to 25 %"
    assert "Upkeep-Evidence" in asked[0].body


# --- a branch that lets nobody push ----------------------------------------------------------------------------------


def protect(world: World) -> None:
    def refuse() -> None:
        raise AccessError("the remote's rules refused the commit: protected branch", fix="let it push")

    world.git.before_push = refuse


def test_where_main_is_protected_a_failing_canary_is_braked_and_that_is_said_loudly(world: World) -> None:
    world.run(until=offered)
    world.bad["v2"] = 0.4
    protect(world)
    told = world.run(until=lambda told: "refuse to take the canary back" in told.message)
    assert world.state.phase == "held", "main did not move"
    assert world.forced == {"v1": 100, "v2": 0}
    assert BACK in world.git.branches
    assert "commit" in told.troubles
    (problem,) = [each for each in world.posted if each.kind == "problem"]
    assert BACK in problem.message
    records_before = len([each for each in world.store.list() if "/evidence/" in each.key])
    for _ in range(30):
        world.wait(10)
        world.look()
        assert world.forced == {"v1": 100, "v2": 0}
    assert len([each for each in world.store.list() if "/evidence/" in each.key]) == records_before

    world.git.merge(BACK, world.now)
    world.wait(5)
    world.run(until=lambda told: "refuse to remove" in told.message)
    assert world.weights == {"v1": 100, "v2": 0}
    world.git.merge(REMOVED, world.now)
    world.wait(5)
    world.run()
    assert world.forced is None
    assert world.state.phase == "rolled_back"
    assert world.lost == 0


def test_without_pull_requests_a_refused_roll_back_is_an_error_as_ever(spec: ModelSpec) -> None:
    world = world_of(spec, approve_by="command", approve=())
    world.run(until=lambda told: told.state is not None and told.state.weight == 5 and told.agrees)
    world.bad["v2"] = 0.5
    protect(world)
    with pytest.raises(AccessError, match="protected"):
        world.run(most=600)
    assert world.forced == {"v1": 100, "v2": 0}
    assert world.git.branches == {}


# --- the spec --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rollout", "field", "words"),
    [
        ({"approve_by": "pull_request"}, "rollout.approve_by", "waits for an approval"),
        ({"approve_by": "pull_request", "approve": ["5%"], "brake": False}, "rollout.brake", "only the brake"),
        ({"pull_request": {"host": "github"}}, "rollout.pull_request.host", "no pull request"),
        ({"approve_by": "pull_request", "approve": ["5%"], "pull_request": {"host": "gitlab"}}, "", ""),
    ],
)
def test_the_spec_must_make_sense(rollout: dict[str, Any], field: str, words: str) -> None:
    problems = found(text_of(rollout=rollout))
    assert [each.where.field for each in problems] == ([field] if field else [])
    assert all(words in each.message for each in problems)
