from __future__ import annotations

import pytest

from tests.unit.rollout.world import World, crash_after, quick
from upkeep.rollout.controller import effects
from upkeep.spec.model import ModelSpec


@pytest.fixture
def world(spec: ModelSpec) -> World:
    made = World(quick(spec))
    made.propose(1, None)
    made.wait(30)
    made.propose(2, "v1")
    return made


def test_a_good_challenger_becomes_the_champion_step_by_step(world: World) -> None:
    told = world.run()
    assert told.state is not None
    assert (told.state.phase, told.state.champion.version, told.state.canary) == ("succeeded", "v2", None)
    assert world.subjects[2:] == [
        "v2 to 5 %",
        "v2 to 25 %",
        "v2 to 50 %",
        "v2 to 100 %",
        "v2 has all traffic, and is still judged",
        "v2 is the champion",
    ]
    assert world.lost == 0
    assert [event.kind for event in world.posted] == ["proposed", "moved", "moved", "moved", "moved", "promoted"]
    assert told.rests


def test_a_bad_challenger_is_taken_back_and_barred(world: World) -> None:
    world.bad["v2"] = 0.2
    told = world.run()
    assert told.state is not None
    assert (told.state.phase, told.state.champion.version) == ("rolled_back", "v1")
    assert [each.version for each in told.state.barred] == ["v2"]
    assert world.subjects[-2:] == ["take v2 back to 0 %", "remove v2, which was taken back"]
    assert world.forced is None
    assert world.lost == 0
    assert world.counts["v2"].requests < 300


def small_steps(spec: ModelSpec) -> World:
    """A rollout of two looks a step, so that a crash at every effect of every look is soon tried."""
    made = World(quick(spec, steps=(0.5,), bake=20.0), rate=400)
    made.propose(1, None)
    made.wait(30)
    made.propose(2, "v1")
    made.wait(5)
    return made


@pytest.mark.parametrize("bad", [0.0, 0.3], ids=["good", "bad"])
def test_killed_between_any_two_effects_it_ends_the_same(spec: ModelSpec, bad: float) -> None:
    whole = small_steps(spec)
    whole.bad["v2"] = bad
    end = whole.run().state
    assert end is not None
    for crash_at in range(12):
        world = small_steps(spec)
        world.bad["v2"] = bad
        for _ in range(400):
            # every look is killed after so many effects, and then done anew
            crash_after(world.model, world.now, crash_at)
            told = world.look()
            if told.rests:
                break
            world.wait(told.next_look)
        state = world.state
        assert (state.phase, state.champion.version, len(state.barred)) == (
            end.phase,
            end.champion.version,
            len(end.barred),
        )
        assert world.subjects == whole.subjects, crash_at
        assert world.lost == 0
        assert world.forced is None


def test_what_was_told_is_told_again_after_a_crash_only_under_the_same_id(spec: ModelSpec) -> None:
    world = small_steps(spec)
    for _ in range(200):
        names = []
        for effect in effects(world.model, world.now):
            effect.run()
            names.append(effect.name)
            if effect.name == "tell":
                break  # killed right after
        told = world.look()
        if told.rests:
            break
        world.wait(told.next_look)
    kinds = {(event.id, event.kind) for event in world.posted}
    assert len({identity for identity, _ in kinds}) == len(kinds)
    assert sorted(kind for _, kind in kinds) == ["moved", "moved", "promoted", "proposed"]


def test_a_push_that_came_second_is_decided_anew(world: World) -> None:
    others = 0

    def somebody_else() -> None:
        nonlocal others
        if others < 3:
            others += 1
            world.git.add({"models/other/x.yaml": b"x"}, "other: work", world.now, "Kim <kim@example.com>")

    world.git.before_push = somebody_else
    told = world.run()
    assert told.state is not None
    assert told.state.phase == "succeeded"
    assert others == 3
