"""The schedule on Kubeflow Pipelines: applied, never edited; and never two updates of a model at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from upkeep.pipelines.schedule import Scheduled, apply, remove
from upkeep.pipelines.submit import start

from tests.kfp_server import KfpServer
from tests.unit.pipelines.conftest import World
from upkeep.errors import AccessError, ConflictError, InputError, OutsideError
from upkeep.spec.model import ModelSpec


def with_schedule(spec: ModelSpec, text: str) -> ModelSpec:
    when = replace(spec.monitoring.update_when, schedule=text)
    return replace(spec, monitoring=replace(spec.monitoring, update_when=when))


def applied(world: World, text: str) -> Scheduled:
    return apply(with_schedule(world.spec, text), world.place)


def names(world: World) -> list[str]:
    return [each.display_name for each in world.server.recurring.values()]


def test_it_starts_updates_when_the_spec_says_so(world: World) -> None:
    made = applied(world, "0 3 * * *")
    assert (made.created, made.cron_kfp, made.next) == (True, "0 0 3 * * *", "2026-03-02T03:00+00:00")
    (recurring,) = world.server.recurring.values()
    assert (recurring.display_name, recurring.mode) == (made.name, "ENABLE")
    assert (recurring.max_concurrency, recurring.no_catchup) == ("1", True)
    assert recurring.runtime_config.parameters["until"] == ""
    started = world.server.tick(world.server.now + timedelta(days=1))
    assert [world.server.runs[run].created_at for run in started] == [datetime(2026, 3, 2, 3, tzinfo=UTC)]


def test_five_fields_to_kfp_are_another_schedule(world: World) -> None:
    """Why six are sent: KFP takes the five without a word, and starts a run each hour at :03."""
    applied(world, "0 3 * * *")
    (recurring,) = world.server.recurring.values()
    recurring.trigger.cron_schedule.cron = "0 3 * * *"
    recurring.max_concurrency = "10"
    started = world.server.tick(world.server.now + timedelta(hours=3))
    assert [world.server.runs[run].created_at.strftime("%H:%M") for run in started] == ["12:03", "13:03", "14:03"]


def test_twice_changes_nothing(world: World) -> None:
    first = applied(world, "0 3 * * *")
    asked = len(world.server.requests)
    again = applied(world, "0 3 * * *")
    assert again == replace(first, created=False)
    assert len(world.server.recurring) == 1
    changing = {"create", "upload", "delete", "enable", "disable"}
    assert not [name for name, _, _ in world.server.requests[asked:] if changing & set(name.split("_"))]


@pytest.mark.parametrize("change", ["schedule", "spec", "account"])
def test_a_change_takes_the_place_of_the_old_one(world: World, change: str) -> None:
    old = applied(world, "0 3 * * *")
    if change == "schedule":
        new = applied(world, "0 4 * * *")
    elif change == "spec":
        new = apply(with_schedule(replace(world.spec, seed=1), "0 3 * * *"), world.place)
    else:
        kubeflow = replace(world.spec.kubeflow, service_account="other", experiment="moved")
        new = apply(with_schedule(replace(world.spec, kubeflow=kubeflow), "0 3 * * *"), world.place)
    assert (new.created, new.deleted, new.ending) == (True, (old.name,), ())
    assert names(world) == [new.name]


def test_a_run_under_way_is_neither_killed_nor_joined_by_a_second(world: World) -> None:
    old = applied(world, "0 3 * * *")
    (run,) = world.server.tick(world.server.now + timedelta(days=1))
    new = applied(world, "0 4 * * *")
    assert (new.deleted, new.ending) == ((), (old.name,))
    assert world.server.runs[run].state == "PENDING"
    states = {each.display_name: each.mode for each in world.server.recurring.values()}
    assert states == {old.name: "DISABLE", new.name: "ENABLE"}
    again = applied(world, "0 4 * * *")
    assert (again.created, again.ending) == (False, (old.name,))
    world.server.set_state(run, "SUCCEEDED")
    last = applied(world, "0 4 * * *")
    assert (last.deleted, last.ending) == ((old.name,), ())
    assert names(world) == [new.name]
    assert world.server.runs[run].state == "SUCCEEDED"


def test_a_scheduled_run_under_way_keeps_submit_away(world: World) -> None:
    applied(world, "0 3 * * *")
    (run,) = world.server.tick(world.server.now + timedelta(days=1))
    with pytest.raises(ConflictError, match=f"{run} is at work on this model"):
        start(world.spec, world.place)


def test_one_at_a_time_and_no_catching_up(world: World) -> None:
    applied(world, "*/5 * * * *")
    started = world.server.tick(world.server.now + timedelta(hours=1))
    assert len(started) == 1  # it is still under way


def test_back_to_an_old_one_that_is_still_ending(world: World) -> None:
    old = applied(world, "0 3 * * *")
    world.server.tick(world.server.now + timedelta(days=1))
    new = applied(world, "0 4 * * *")
    back = applied(world, "0 3 * * *")
    assert (back.name, back.created, back.deleted) == (old.name, True, (new.name,))
    assert [(each.display_name, each.mode) for each in world.server.recurring.values()] == [(old.name, "ENABLE")]


def test_delete_takes_the_same_care(world: World) -> None:
    made = applied(world, "0 3 * * *")
    (run,) = world.server.tick(world.server.now + timedelta(days=1))
    assert remove(world.spec, world.place).ending == (made.name,)
    assert world.server.tick(world.server.now + timedelta(days=3)) == []
    world.server.set_state(run, "SUCCEEDED")
    assert remove(world.spec, world.place).deleted == (made.name,)
    nothing = remove(world.spec, world.place)
    assert (nothing.name, nothing.deleted, nothing.ending) == ("", (), ())


def test_two_of_one_name_are_made_one(world: World) -> None:
    """KFP takes a second of the same name: two people applied at once."""
    made = applied(world, "0 3 * * *")
    (recurring,) = world.server.recurring.values()
    twin = type(recurring)(**{name: getattr(recurring, name) for name in recurring.openapi_types})
    world.server.recurring["twin"] = twin
    twin.recurring_run_id = "twin"
    assert applied(world, "0 3 * * *").deleted == (made.name,)
    assert names(world) == [made.name]


def test_other_peoples_recurring_runs_are_left_alone(world: World) -> None:
    applied(world, "0 3 * * *")
    (recurring,) = world.server.recurring.values()
    recurring.display_name = "delays-update-by-hand"
    remove(world.spec, world.place)
    assert names(world) == ["delays-update-by-hand"]


@pytest.mark.parametrize("status", [0, 502])
@pytest.mark.parametrize("operation", ["create_recurring", "list_recurring", "disable", "delete"])
def test_a_lost_reply_makes_nothing_twice(world: World, operation: str, status: int) -> None:
    applied(world, "0 3 * * *")
    world.server.fail(operation, status, done=True)
    new = applied(world, "0 4 * * *")
    assert world.server.faults == []
    assert names(world) == [new.name]


def test_stopped_at_any_request_the_next_apply_mends_it(world: World) -> None:
    applied(world, "0 3 * * *")
    for number in range(3):
        before = applied(world, f"{number} 3 * * *")
        world.server.fail(("disable", "delete", "create_recurring")[number], 0, times=100)
        with pytest.raises(OutsideError):
            applied(world, f"{number} 4 * * *")
        world.server.faults.clear()
        assert sum(each.mode == "ENABLE" for each in world.server.recurring.values()) <= 1
        after = applied(world, f"{number} 4 * * *")
        assert names(world) == [after.name] != [before.name]


def test_several_users(world_of: Callable[..., World]) -> None:
    server = KfpServer(users={"mine": {"team"}, "other": {"elsewhere"}})
    with server.serving():
        ours = world_of(server, token=lambda: "mine", namespace="team")
        theirs = world_of(server, token=lambda: "other", namespace="elsewhere")
        made = applied(ours, "0 3 * * *")
        applied(theirs, "0 3 * * *")
        assert len(server.recurring) == 2
        assert remove(ours.spec, ours.place).deleted == (made.name,)
        assert len(server.recurring) == 1
        with pytest.raises(AccessError, match="in the namespace elsewhere, or it is not there"):
            applied(world_of(server, token=lambda: "mine", namespace="elsewhere"), "0 3 * * *")
    assert server.surprises == []


def test_without_a_schedule_it_says_what_to_write(world: World) -> None:
    with pytest.raises(InputError, match="the spec has no schedule") as caught:
        applied(world, "")
    assert caught.value.problems[0].where.field == "monitoring.update_when.schedule"
    assert world.server.requests == []


def test_a_schedule_that_is_none_never_reaches_kfp(world: World) -> None:
    with pytest.raises(InputError, match="it has 6 fields, not five"):
        applied(world, "0 0 3 * * *")
    assert world.server.requests == []
