from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.rollout.rollout_fakes import BARRED, CANARY, NEW, OLD, PLAN, at, good, state
from upkeep.errors import RefusedError
from upkeep.rollout.commands import abort, pause, promote, resume, rollback
from upkeep.rollout.decide import decide
from upkeep.rollout.state import Barred, Canary, Phase, State, moment, read_state, render_state

V11 = Canary(version="v11", digest="3" * 64, update="u11")
V10 = Canary(version="v10", digest="4" * 64, update="u10")
UNDER_WAY = [
    state("pending"),
    state("shadow"),
    state("step", 25, 2),
    state("promoting"),
    state("baking"),
    state("held", 25, 2),
    state("paused", 25, 2),
]
AT_REST = [state("idle"), state("succeeded"), state("rolled_back")]


def by_ann(command: Any, begin: State, *more: Any, **options: Any) -> State:
    new: State = command(begin, *more, by="Ann", now=at(60), **({"reason": "odd\nanswers"} | options))
    assert read_state(render_state(new), "m") == new
    assert new.since == moment(at(60))
    assert new.reason.startswith("Ann ")
    assert new.evidence is None
    return new


@pytest.mark.parametrize("begin", UNDER_WAY[:-1])
def test_pause_and_resume_go_back_to_where_it_was(begin: State) -> None:
    paused = by_ann(pause, begin)
    assert (paused.phase, paused.weight, paused.reason) == ("paused", begin.weight, "Ann paused it: odd answers")
    again = by_ann(resume, paused)
    assert (again.phase, again.weight, again.step) == (begin.came_from or begin.phase, begin.weight, begin.step)
    assert again.approved == -1
    with pytest.raises(RefusedError, match="paused already"):
        by_ann(pause, paused)


def test_resuming_what_was_held_is_the_approval() -> None:
    plan = replace(PLAN, approve=frozenset({25}))
    begin = state("step", 25, 2)
    held = decide(plan, begin, good(begin), at(60)).state
    assert held.phase == "held"
    again = by_ann(resume, held)
    assert again.approved == 2
    # the evidence must still be there
    assert decide(plan, again, good(again, 120, "insufficient"), at(120)).state == again
    assert decide(plan, again, good(again, 120), at(120)).state.weight == 50


def test_a_canary_that_a_person_gave_traffic_goes_on_as_a_step() -> None:
    begin = state("paused", 30, came_from="pending")
    assert by_ann(resume, begin).phase == "step"


@pytest.mark.parametrize("begin", UNDER_WAY)
def test_abort_takes_back_and_bars(begin: State) -> None:
    for command in (abort, lambda *a, **k: rollback(*a, [V11], **k), lambda *a, **k: rollback(*a, [], to="v12", **k)):
        new = by_ann(command, begin)
        assert (new.phase, new.weight, new.barred[-1].digest) == ("rolling_back", 0, NEW)
        assert new.barred[-1].reason == "Ann aborted it: odd answers"


@pytest.mark.parametrize(
    ("begin", "full", "then"),
    [
        (state("pending"), False, ("step", 5, 1)),
        (state("shadow"), False, ("step", 5, 1)),
        (state("step", 5, 1), False, ("step", 25, 2)),
        (state("step", 50, 3), False, ("promoting", 100, 3)),
        (state("held", 25, 2), False, ("step", 50, 3)),
        (state("paused", 25, 2), True, ("promoting", 100, 2)),
        (state("step", 5, 1), True, ("promoting", 100, 1)),
        (state("pending", direct=True), False, ("promoting", 100, 0)),
    ],
)
def test_promote_stands_for_evidence(begin: State, full: bool, then: tuple[str, int, int]) -> None:
    seen = good(begin, verdict=None)
    frozen = replace(PLAN, freeze=True)
    new = by_ann(lambda s, **k: promote(frozen, s, seen, full=full, **k), begin)
    assert (new.phase, new.weight, new.step) == then


@pytest.mark.parametrize("begin", [state("baking"), state("held", 100, came_from="baking")])
def test_promote_ends_the_bake_time(begin: State) -> None:
    new = by_ann(lambda s, **k: promote(PLAN, s, good(begin, verdict=None), **k), begin)
    assert (new.phase, new.canary, new.champion.version) == ("succeeded", None, "v13")
    with pytest.raises(RefusedError, match="under way"):
        promote(PLAN, begin, good(begin, 5), by="Ann", now=at(5))


def test_the_documentation_names_the_phases_from_which_promote_works() -> None:
    page = (Path(__file__).parents[3] / "docs" / "explanation" / "rollout.md").read_text()
    (row,) = re.findall(r"^\| `upkeep rollout promote` \| ([^|]+) \|", page, re.MULTILINE)
    works = set()
    for begin in UNDER_WAY:
        with suppress(RefusedError):
            promote(PLAN, begin, good(begin), by="Ann", now=at(60))
            works.add(begin.phase)
    assert set(re.findall(r"`(\w+)`", row)) == works
    held = replace(state("promoting"), phase="held", came_from="promoting")
    with pytest.raises(RefusedError, match="already"):
        promote(PLAN, held, good(held), by="Ann", now=at(60))


@pytest.mark.parametrize("begin", [state("pending"), state("step", 25, 2), state("baking"), state("held", 25, 2)])
@pytest.mark.parametrize("unknown", [{"live": None}, {"probe": None}, {"verified": False}])
def test_a_word_does_not_stand_for_readiness(begin: State, unknown: Any) -> None:
    with pytest.raises(RefusedError, match="it waits for"):
        promote(PLAN, begin, good(begin, **unknown), by="Ann", now=at(60))


@pytest.mark.parametrize("begin", [*AT_REST, state("rolling_back")])
def test_what_is_not_under_way_is_refused(begin: State) -> None:
    for refused in (
        lambda: pause(begin, by="Ann", reason="", now=at(0)),
        lambda: resume(begin, by="Ann", now=at(0)),
        lambda: abort(begin, by="Ann", reason="", now=at(0)),
        lambda: promote(PLAN, begin, good(begin), by="Ann", now=at(0)),
    ):
        with pytest.raises(RefusedError, match=r"no rollout is under way|is being taken back"):
            refused()


@pytest.mark.parametrize("phase", ["pending", "step", "baking"])
def test_nothing_to_resume(phase: Phase) -> None:
    with pytest.raises(RefusedError, match="nothing holds it"):
        resume(state(phase, 25 if phase == "step" else 0), by="Ann", now=at(0))
    with pytest.raises(RefusedError, match="all traffic already"):
        promote(PLAN, state("promoting"), good(state("promoting")), by="Ann", now=at(0))


@pytest.mark.parametrize("begin", AT_REST)
def test_the_way_back_is_direct(begin: State) -> None:
    new = by_ann(lambda s, **k: rollback(s, [replace(V11, version="v12", digest=OLD), V11, V10], **k), begin)
    assert (new.phase, new.canary, new.direct, new.weight) == ("pending", V11, True, 0)
    assert (new.rollout, new.update) == ("v11-20260302T120100Z", "u11")
    assert by_ann(lambda s, **k: rollback(s, [V11, V10], to="v10", **k), begin).canary == V10


def test_a_bar_is_lifted_by_name_alone() -> None:
    begin = state("succeeded", barred=(BARRED,))
    assert by_ann(lambda s, **k: rollback(s, [V11, V10], **k), begin).canary == V10
    named = by_ann(lambda s, **k: rollback(s, [V11, V10], to="v11", **k), begin)
    assert (named.canary, named.barred) == (V11, ())
    with pytest.raises(RefusedError, match="no earlier champion that is not barred"):
        rollback(begin, [V11], by="Ann", reason="", now=at(0))


def test_where_nobody_can_go_back_to() -> None:
    with pytest.raises(RefusedError, match=r"v9 was never the champion"):
        rollback(state("idle"), [V11], to="v9", by="Ann", reason="", now=at(0))
    with pytest.raises(RefusedError, match="serves already"):
        rollback(state("idle"), [V11], to="v12", by="Ann", reason="", now=at(0))
    with pytest.raises(RefusedError, match="under way"):
        rollback(state("step", 5, 1), [V11], to="v11", by="Ann", reason="", now=at(0))


def test_there_and_back_again() -> None:
    """v13 succeeded; a person goes back to v12, then to v13 by name."""
    v13 = replace(state("idle"), champion=replace(state("idle").champion, version="v13", digest=NEW))
    v12 = Canary(version="v12", digest=OLD, update="u12")
    begin = by_ann(lambda s, **k: rollback(s, [v12], **k), v13)
    done = replace(begin, phase="succeeded", canary=None, direct=False, champion=state("idle").champion)
    done = replace(done, barred=(Barred(version="v13", digest=NEW, since=moment(at(0)), reason="x"),))
    again = by_ann(lambda s, **k: rollback(s, [CANARY, v12], to="v13", **k), done)
    assert (again.canary, again.barred) == (CANARY, ())
