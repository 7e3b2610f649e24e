from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.rollout.world import World, crash_after, quick
from upkeep import records
from upkeep.errors import AccessError, InputError, OutsideError, RefusedError, UpkeepError
from upkeep.rollout.analysis.ledger import Ledger, key
from upkeep.rollout.by_hand import Order, carry_out
from upkeep.rollout.controller import Evidence, effects, see
from upkeep.rollout.git import Tree
from upkeep.serving.counters import Counts
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


# --- evidence ------------------------------------------------------------------------------------------------------


def test_each_commit_cites_the_record_that_it_was_decided_on(world: World) -> None:
    world.run()
    keys = {entry.key for entry in world.store.list("flight-delays/evidence")}
    moves = [commit for commit in world.git.commits if "Upkeep-Step" in commit.trailers]
    assert len(moves) == 6
    for number, commit in enumerate(moves, 1):
        digest = commit.trailers["Upkeep-Evidence"]
        (key,) = [key for key in keys if key.endswith(f"/{number}-{digest}.json")]
        data = world.store.get(key)
        assert records.digest(data) == digest
        record = records.from_json(Evidence, data)
        assert record.verdict == commit.trailers["Upkeep-Verdict"]
        assert commit.trailers["Upkeep-Rollout"] == record.rollout == moves[0].trailers["Upkeep-Rollout"]
    assert [commit.trailers["Upkeep-Verdict"] for commit in moves] == [
        "none",  # nothing is judged at 0 % without pairs
        "pass",
        "pass",
        "pass",
        "none",
        "insufficient",  # in the bake time only a fail counts
    ]
    assert moves[0].trailers["Upkeep-Step"] == "step, step 1 of 3, 5 %"


def test_the_ledger_is_stored_before_anyone_decides_on_it(world: World) -> None:
    world.look()
    world.wait(30)
    world.look()
    world.wait(30)
    first = next(effects(world.model, world.now))
    assert first.name == "ledger"
    stored = world.store.get(key(world.spec.name, world.state.rollout))
    first.run()
    assert world.store.get(key(world.spec.name, world.state.rollout)) != stored


def test_a_canary_that_turns_bad_after_promotion_is_taken_back(world: World) -> None:
    world.run(until=lambda told: told.state is not None and told.state.phase == "baking")
    world.bad["v2"] = 0.3
    world.unready.discard("v1")
    told = world.run()
    assert told.state is not None
    assert (told.state.phase, told.state.champion.version) == ("rolled_back", "v1")
    assert "errors" in told.state.reason


def test_a_canary_that_a_person_gave_all_traffic_at_once_is_still_judged(world: World) -> None:
    """Champion and canary never had traffic side by side: what is known of the champion is from before."""
    world.run(until=lambda told: told.state is not None and told.state.phase == "step" and told.agrees)
    say(world, "pause", reason="no: begin anew")
    say(world, "abort", reason="begin anew")
    world.run()
    world.wait(60)
    world.propose(3, "v1")
    world.model = replace(world.model, spec=replace(world.spec, rollout=replace(world.spec.rollout, approve=(0.0,))))
    world.run(until=lambda told: told.state is not None and told.state.phase == "held")
    say(world, "promote", full=True, reason="in a hurry")
    world.bad["v3"] = 0.5
    told = world.run()
    assert told.state is not None
    assert (told.state.phase, told.state.champion.version) == ("rolled_back", "v1")


def test_a_canary_that_dies_in_its_bake_time_bakes_anew(world: World) -> None:
    """Its server was started again and again, and the old champion stood in for it: nobody would afterwards."""
    world.run(until=lambda told: told.state is not None and told.state.phase == "baking")
    for _ in range(3):
        world.wait(40)
        world.weights, world.unready = {"v1": 100, "v2": 0}, {"v2"}
        world.look()
        world.wait(10)
        world.weights, world.unready = {"v1": 0, "v2": 100}, set()
        told = world.look()
        assert (told.state and told.state.phase) == "baking"
    back = world.now
    assert "without a break" in world.look().message
    told = world.run()
    assert (told.state and told.state.phase) == "succeeded"
    assert world.now - back >= timedelta(seconds=60)


# --- people --------------------------------------------------------------------------------------------------------


def at_step(world: World, weight: int) -> None:
    world.run(until=lambda told: told.state is not None and told.state.weight == weight and told.agrees)


def test_a_revert_of_a_step_is_an_abort(world: World) -> None:
    at_step(world, 25)
    world.git.revert(world.now)
    told = world.run()
    assert told.state is not None
    assert told.state.phase == "rolled_back"
    assert "Alex" in told.state.barred[0].reason
    assert world.lost == 0


def test_a_raised_weight_is_a_pause(world: World) -> None:
    at_step(world, 25)
    path = "models/flight-delays/route.yaml"
    route = world.git.commits[-1].files[path].decode()
    more = route.replace("weight: 75", "weight: 60").replace("weight: 25", "weight: 40")
    world.git.add({path: more.encode()}, "more for v2\n", world.now, "Alex <alex@example.com>")
    told = world.look()
    assert told.state is not None
    assert (told.state.phase, told.state.weight) == ("paused", 40)
    assert world.posted[-1].kind == "paused"


def test_nonsense_is_left_alone_and_told_once(world: World) -> None:
    at_step(world, 25)
    path = "models/flight-delays/route.yaml"
    before = world.git.commits[-1].files[path]
    world.git.add({path: b"weights: all\n"}, "tidy up\n", world.now, "Alex <alex@example.com>")
    commits = len(world.git.commits)
    for _ in range(3):
        world.wait(10)
        told = world.look()
    assert len(world.git.commits) == commits
    assert told.message.startswith("it waits for a person")
    assert [event.kind for event in world.posted].count("problem") == 1
    world.git.add({path: before}, "back\n", world.now, "Alex <alex@example.com>")
    told = world.run()
    assert told.state is not None
    assert told.state.phase == "succeeded"


def test_a_branch_that_lost_its_newest_commit_is_an_abort(world: World) -> None:
    at_step(world, 25)
    del world.git.commits[-1]
    world.git.add({"models/other/x.yaml": b"x"}, "other: work", world.now, "Kim <kim@example.com>")
    told = world.run()
    assert told.state is not None
    assert told.state.phase == "rolled_back"


def test_the_same_content_under_new_ids_is_nothing_new(world: World) -> None:
    at_step(world, 25)
    world.git.commits = [replace(commit, id=f"f{commit.id[1:]}") for commit in world.git.commits]
    told = world.run()
    assert told.state is not None
    assert told.state.phase == "succeeded"


# --- bad days ------------------------------------------------------------------------------------------------------


def test_labels_that_come_in_the_middle_of_a_rollout_are_said_not_to_count_in_it(world: World) -> None:
    at_step(world, 5)
    assert world.look().troubles == {}
    spec = replace(world.spec, monitoring=replace(world.spec.monitoring, labels="s3://labels/"))
    world.model = replace(world.model, spec=spec)
    told = world.look()
    assert "asked for after this rollout began: accuracy" in told.troubles["labels"]
    assert see(world.model, world.now).ledger.troubles["labels"] == told.troubles["labels"]


def test_without_counters_nothing_passes(world: World) -> None:
    at_step(world, 5)
    world.away.add("counters")
    for _ in range(60):
        world.wait(10)
        told = world.look()
    assert told.state is not None
    assert told.state.weight == 5
    assert "counters" in told.troubles
    world.away.clear()
    assert world.run().rests


def test_a_pass_does_not_outlive_the_counters(world: World) -> None:
    at_step(world, 5)
    frozen = replace(world.spec, rollout=replace(world.spec.rollout, freeze=True))
    world.model = replace(world.model, spec=frozen)
    for _ in range(60):
        world.wait(10)
        told = world.look()
    assert told.analysis is not None
    assert told.analysis.verdict == "pass"
    world.away.add("counters")
    world.wait(120)
    told = world.look()
    assert told.analysis is not None
    assert told.analysis.verdict == "insufficient"


def test_without_the_cluster_nothing_moves(world: World) -> None:
    at_step(world, 5)
    world.away.add("cluster")
    for _ in range(30):
        world.wait(10)
        told = world.look()
    assert told.state is not None
    assert told.state.weight == 5
    assert told.live is None
    assert not told.rests


def test_a_canary_that_is_ready_and_answers_500_gets_no_traffic(world: World) -> None:
    world.unwell.add("v2")
    for _ in range(20):
        world.wait(10)
        told = world.look()
    assert told.state is not None
    assert (told.state.phase, told.state.weight) == ("pending", 0)
    assert "it answered 500" in told.message


def test_a_canary_that_answers_slower_each_minute_is_taken_back(world: World) -> None:
    at_step(world, 5)
    minutes = 0.0

    def slower(told: Any) -> bool:
        nonlocal minutes
        minutes += told.next_look / 60
        world.slow["v2"] = min(1.0, 0.005 + 0.02 * minutes)
        return bool(told.rests)

    told = world.run(until=slower)
    assert told.state is not None
    assert told.state.phase == "rolled_back"
    assert "latency" in told.state.reason


def test_a_version_whose_bytes_vanished_gets_no_further(world: World) -> None:
    at_step(world, 5)
    world.vanished.add("v2")
    for _ in range(60):
        world.wait(10)
        told = world.look()
    assert told.state is not None
    assert told.state.weight == 5
    assert "v2 is not whole" in told.troubles["registry"]


def test_a_clock_that_goes_back_moves_nothing_forward(world: World) -> None:
    at_step(world, 25)
    real = world.now
    world.now = real - timedelta(hours=2)
    commits = [commit.trailers.get("Upkeep-Step") for commit in world.git.commits]
    told = world.look()
    assert told.state is not None
    assert told.state.weight == 25
    assert [commit.trailers.get("Upkeep-Step") for commit in world.git.commits][: len(commits)] == commits
    world.now = real + timedelta(seconds=10)
    assert world.run().rests


def test_counters_that_began_anew_are_no_outcomes(world: World) -> None:
    at_step(world, 5)
    world.wait(10)
    world.look()
    world.counts = {name: Counts(requests=1, failed=1, slow=0, active=0) for name in world.counts}
    ledger = records.from_json(Ledger, world.store.get(key(world.spec.name, world.state.rollout)))
    world.look()
    after = records.from_json(Ledger, world.store.get(key(world.spec.name, world.state.rollout)))
    assert after.metrics["errors"].seen == ledger.metrics["errors"].seen


class Full:
    """A store on a disk that is full."""

    def __init__(self, store: Any) -> None:
        self.store, self.full = store, True
        self.uri = store.uri

    def __getattr__(self, name: str) -> Any:
        if self.full and name in ("put", "create"):

            def refuse(*_: Any) -> None:
                raise OutsideError("the disk is full", fix="make room")

            return refuse
        return getattr(self.store, name)


def test_on_a_full_disk_nothing_moves_forward_and_nothing_is_lost(world: World) -> None:
    at_step(world, 5)
    world.wait(60)
    full = Full(world.store)
    world.model = replace(world.model, store=full)
    before = world.git.commits[-1].id
    for _ in range(6):
        told = world.look()
        assert "the disk is full" in told.troubles["store"]
        world.wait(10)
    assert world.git.commits[-1].id == before
    full.full = False
    told = world.run()
    assert told.state is not None
    assert told.state.phase == "succeeded"


def test_on_a_full_disk_a_bad_canary_is_taken_back_all_the_same(world: World) -> None:
    at_step(world, 25)
    world.bad["v2"] = 0.5
    full = Full(world.store)
    world.model = replace(world.model, store=full)
    told = world.run()
    assert told.state is not None
    assert told.state.phase == "rolled_back"
    back = next(commit for commit in world.git.commits if commit.subject.endswith("take v2 back to 0 %"))
    assert (back.trailers["Upkeep-Verdict"], back.trailers["Upkeep-Evidence"]) == ("fail", "none")
    full.full = False
    assert world.look().rests


def test_without_a_place_for_its_record_a_challenger_gets_no_traffic(world: World) -> None:
    world.model = replace(world.model, store=Full(world.store))
    with pytest.raises(OutsideError, match="the disk is full"):
        world.run(most=60)
    assert world.state.weight == 0


@pytest.mark.parametrize(
    "error",
    [
        OutsideError("there is no such repository", fix="see it"),
        OutsideError("a disk is full", fix="make room"),
        AccessError("the repository is read-only", fix="give write access"),
    ],
)
def test_a_push_that_fails_is_told_and_done_later_but_the_brake_holds(world: World, error: UpkeepError) -> None:
    at_step(world, 25)
    world.bad["v2"] = 0.5

    def refuse() -> None:
        raise error

    world.git.before_push = refuse
    with pytest.raises(type(error), match=str(error.problems[0].message)):
        world.run(most=600)
    assert world.forced == {"v1": 100, "v2": 0}
    assert world.state.weight == 25
    world.git.before_push = lambda: None
    told = world.run()
    assert told.state is not None
    assert told.state.phase == "rolled_back"
    assert world.forced is None


@pytest.mark.parametrize("how", ["away", "branch", "folder"])
def test_while_git_cannot_be_read_a_bad_canary_is_braked_and_taken_back_later(world: World, how: str) -> None:
    at_step(world, 25)
    world.bad["v2"] = 0.5
    read = world.git.read
    errors = {"away": AccessError("the token is over", fix="renew it"), "branch": InputError("there is no such branch")}

    def gone(branch: str, folder: str = "") -> Tree:
        if how in errors:
            raise errors[how]
        return Tree("f" * 40, {})

    world.git.read = gone  # type: ignore[method-assign]
    for _ in range(30):
        with pytest.raises((AccessError, InputError), match=r"over|no such branch|the model's folder is gone"):
            world.look()
        world.wait(10)
    assert world.forced == {"v1": 100, "v2": 0}
    assert [event.message for event in world.posted if "Git cannot be read" in event.message], world.posted
    world.git.read = read  # type: ignore[method-assign]
    told = world.run()
    assert (told.state and told.state.phase) == "rolled_back"
    assert world.forced is None
    assert len([event for event in world.posted if "Git cannot be read" in event.message]) == 1


@pytest.mark.parametrize("how", ["good", "paused", "moved by hand", "a later commit", "no brake"])
def test_while_git_cannot_be_read_nothing_else_is_braked(world: World, how: str) -> None:
    at_step(world, 25)
    if how == "paused":
        say(world, "pause", reason="stock-taking")
        world.look()
    if how == "no brake":
        spec = replace(world.spec, rollout=replace(world.spec.rollout, brake=False))
        world.model = replace(world.model, spec=spec)
    world.bad["v2"] = 0.0 if how == "good" else 0.5

    def away(branch: str, folder: str = "") -> Tree:
        raise OutsideError("the remote is away", fix="wait")

    world.git.read = away  # type: ignore[method-assign]
    for _ in range(30):
        if how == "moved by hand":
            world.weights = {"v1": 10, "v2": 90}
        if how == "a later commit":
            world.applied = "f" * 40
        with pytest.raises(OutsideError, match="the remote is away"):
            world.look()
        world.wait(10)
    assert world.forced is None


# --- a person's commands -------------------------------------------------------------------------------------------


def say(world: World, name: Any, **options: Any) -> Any:
    return carry_out(world.model, Order(name=name, **options), by="Alex", now=lambda: world.now)


def test_pause_and_resume(world: World) -> None:
    at_step(world, 5)
    done = say(world, "pause", reason="stock-taking")
    assert done.state.phase == "paused"
    newest = world.git.commits[-1]
    assert newest.trailers["Upkeep-Command"] == "pause"
    for _ in range(30):
        world.wait(10)
        told = world.look()
    assert told.state is not None
    assert (told.state.phase, told.state.weight) == ("paused", 5)
    assert world.posted[-1].message == "Alex paused it: stock-taking"
    say(world, "resume")
    assert world.run().state.phase == "succeeded"  # type: ignore[union-attr]


def test_promote_goes_on_without_evidence_but_never_to_a_version_that_does_not_answer(world: World) -> None:
    at_step(world, 5)
    world.unwell.add("v2")
    with pytest.raises(RefusedError, match="it answered 500"):
        say(world, "promote")
    world.unwell.clear()
    assert say(world, "promote").state.weight == 25
    world.wait(5)
    world.look()
    assert say(world, "promote", full=True).state.phase == "promoting"
    assert world.run().state.phase == "succeeded"  # type: ignore[union-attr]


def test_abort_takes_back(world: World) -> None:
    at_step(world, 50)
    say(world, "abort", reason="wrong answers")
    told = world.run()
    assert told.state is not None
    assert told.state.phase == "rolled_back"
    assert told.state.barred[0].reason == "Alex aborted it: wrong answers"
    with pytest.raises(RefusedError, match=r"no rollout is under way(.|\n)*`upkeep rollout rollback`"):
        say(world, "abort", reason="again")


def test_rollback_at_rest_brings_the_old_champion_back(world: World) -> None:
    world.run()
    done = say(world, "rollback", reason="wrong answers since yesterday")
    assert done.state.canary is not None
    assert (done.state.canary.version, done.state.direct) == ("v1", True)
    told = world.run()
    assert told.state is not None
    assert (told.state.phase, told.state.champion.version) == ("succeeded", "v1")
    assert [each.version for each in told.state.barred] == ["v2"]
    assert world.lost == 0


def test_a_command_waits_for_an_edit_to_be_dealt_with(world: World) -> None:
    at_step(world, 25)
    world.git.revert(world.now)
    with pytest.raises(RefusedError, match="the folder was edited"):
        say(world, "pause", reason="x")


@pytest.mark.parametrize("name", ["abort", "rollback"])
@pytest.mark.parametrize("edit", ["a revert of a pause", "a route that makes no sense"])
def test_the_way_back_is_open_whatever_the_files_say(world: World, name: str, edit: str) -> None:
    """Somebody who is woken reverts the newest commit, which moved no traffic; or their editor slipped."""
    at_step(world, 25)
    if edit == "a revert of a pause":
        say(world, "pause", reason="looking into it")
        world.look()
        world.git.revert(world.now)
    else:
        world.git.add({"models/flight-delays/route.yaml": b"{"}, "oops\n", world.now, "Alex <alex@example.com>")
    world.look()
    with pytest.raises(RefusedError, match=r"git revert \w+.*`upkeep rollout abort` works"):
        say(world, "promote")
    say(world, name, reason="wrong answers")
    assert world.state.weights == {"v1": 100, "v2": 0}
    told = world.run()
    assert (told.state and told.state.phase) == "rolled_back"
    assert told.state is not None
    assert "Alex aborted it" in told.state.reason


def test_seeing_changes_nothing(world: World) -> None:
    at_step(world, 25)
    before = {entry.key: world.store.get(entry.key) for entry in world.store.list()}
    commits = len(world.git.commits)
    seen = see(world.model, world.now)
    assert seen.decision.waits_for
    assert seen.observation.analysis is not None
    assert {entry.key: world.store.get(entry.key) for entry in world.store.list()} == before
    assert len(world.git.commits) == commits
