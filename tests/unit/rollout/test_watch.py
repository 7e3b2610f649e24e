from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.rollout.world import World, quick
from upkeep.errors import ConflictError, OutsideError, UpkeepError
from upkeep.registry.registry import Registry
from upkeep.rollout.controller import Model
from upkeep.rollout.metrics import UPDATES_EVERY, Metrics, Update
from upkeep.rollout.watch import LOCK, Report, Watch
from upkeep.spec.model import ModelSpec
from upkeep.store import Store, open_store


class Worlds:
    """Some models, each in its world, whose time passes while they are watched."""

    def __init__(self, spec: ModelSpec, *names: str) -> None:
        self.worlds: dict[str, World] = {}
        self.reports: list[Report] = []
        self.lock = threading.Lock()
        for name in names:
            own = quick(
                replace(spec, metadata=replace(spec.metadata, name=name)),
                path=f"models/{name}",
                every=0.001,
                steps=(0.5,),
                bake=5.0,
                timeout=1.0,
            )
            world = World(own, rate=400)
            world.propose(1, None)
            world.wait(30)
            world.propose(2, "v1")
            self.worlds[name] = world
        self.opened: list[str] = []

    @property
    def specs(self) -> list[ModelSpec]:
        return [world.spec for world in self.worlds.values()]

    @contextmanager
    def connect(self, spec: ModelSpec) -> Iterator[Model]:
        self.opened.append(spec.name)
        yield self.worlds[spec.name].model

    def tell(self, report: Report) -> None:
        with self.lock:
            self.reports.append(report)
        self.worlds[report.model].wait(5)

    def watch(self, **options: object) -> Watch:
        world = next(iter(self.worlds.values()))
        return Watch(
            self.specs,
            connect=self.connect,
            tell=self.tell,
            lease=60,
            now=lambda: world.now,
            **options,  # type: ignore[arg-type]
        )


@pytest.fixture
def one(spec: ModelSpec) -> Worlds:
    return Worlds(spec, "flight-delays")


def test_until_rest(one: Worlds) -> None:
    watching = one.watch(until_rest=True)
    watching.run()
    assert watching.ended == {"flight-delays": "rests"}
    assert one.worlds["flight-delays"].state.phase == "succeeded"
    assert all(json.dumps(report.record()) for report in one.reports)
    moved = [report.record() for report in one.reports if report.told and report.told.moved]
    assert [each["phase"] for each in moved] == ["step", "promoting", "baking", "succeeded"]
    assert moved[0]["canary"] == "v2"
    assert any("step 1 50 %" in report.line() for report in one.reports)


def test_until_rest_ends_where_a_person_is_waited_for(one: Worlds) -> None:
    world = one.worlds["flight-delays"]
    world.model = replace(world.model, spec=replace(world.spec, rollout=replace(world.spec.rollout, approve=(0.0,))))
    watching = one.watch(until_rest=True)
    watching.run()
    assert watching.ended == {"flight-delays": "waits"}
    assert world.state.phase == "held"


def test_once(one: Worlds) -> None:
    watching = one.watch(once=True)
    watching.run()
    assert watching.ended == {"flight-delays": "stopped"}
    assert len(one.reports) == 1


def test_trouble_is_told_and_tried_again(one: Worlds) -> None:
    world = one.worlds["flight-delays"]
    troubles = [OutsideError("the remote is away", fix="wait"), ValueError("nobody foresaw this")]
    read = world.git.read

    def away(branch: str, folder: str = "") -> object:
        if troubles:
            raise troubles.pop()
        return read(branch, folder)

    world.git.read = away  # type: ignore[method-assign,assignment]
    watching = one.watch(until_rest=True)
    watching.run()
    assert watching.ended == {"flight-delays": "rests"}
    bug, outside = one.reports[:2]
    assert bug.bug == "ValueError: nobody foresaw this"
    assert "a bug: ValueError" in bug.line()
    assert outside.record()["error"] == "OutsideError"
    assert "the remote is away → wait" in outside.line()
    assert outside.wait > bug.wait


def test_with_once_an_error_is_kept_for_the_caller(one: Worlds) -> None:
    def away(branch: str, folder: str = "") -> object:
        raise OutsideError("the remote is away", fix="wait")

    one.worlds["flight-delays"].git.read = away  # type: ignore[method-assign,assignment]
    watching = one.watch(once=True)
    watching.run()
    assert str(watching.errors["flight-delays"]).startswith("the remote is away")


def test_of_two_controllers_one_waits(one: Worlds) -> None:
    (spec,) = one.specs
    registry = Registry(open_store(spec.store), spec.name)
    world = one.worlds["flight-delays"]
    with registry.lock("another controller", now=lambda: world.now, of=LOCK, seconds=300):
        watching = one.watch(once=True)
        watching.run()
        error = watching.errors["flight-delays"]
        assert isinstance(error, ConflictError)
        assert "another controller is at work" in str(error)
        assert "`upkeep store unlock --of rollout --reason …`" in str(error)
        assert one.opened == []
    # given back: free at once
    watching = one.watch(once=True)
    watching.run()
    assert watching.errors == {}


def test_an_interrupt_waits_for_the_look_under_way_and_gives_the_lock_back(one: Worlds) -> None:
    def tell(report: Report) -> None:
        one.tell(report)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)  # the interrupt comes first

    watching = one.watch()
    watching._tell = tell
    with pytest.raises(KeyboardInterrupt):
        watching.run()
    assert watching.ended == {"flight-delays": "stopped"}
    one.watch(once=True).run()
    assert len(one.reports) == 2


class Unwritable:
    """A store that can be read and not written: its bucket is full, or the credentials have lost the right."""

    def __init__(self, store: Store) -> None:
        self.store, self.uri, self.full = store, store.uri, False
        self.not_renewed = threading.Event()

    def __getattr__(self, name: str) -> object:
        if self.full and name in ("put", "create"):

            def refuse(key: str, _: object) -> None:
                if "/lock/" in key:
                    self.not_renewed.set()
                raise OutsideError("the bucket is full", fix="make room")

            return refuse
        return getattr(self.store, name)


def test_where_the_lock_cannot_be_renewed_for_a_store_that_takes_no_writes_a_bad_canary_is_taken_back(
    one: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = one.worlds["flight-delays"]
    store = Unwritable(world.store)
    world.model = replace(world.model, store=store)  # type: ignore[arg-type]
    monkeypatch.setattr("upkeep.rollout.watch.open_store", lambda *_: store)
    monkeypatch.setattr("upkeep.registry.lock.BEATS", 6000)  # renewed every 10 ms

    def tell(report: Report) -> None:
        counted = report.told and report.told.analysis and any(each.canary_n for each in report.told.analysis.metrics)
        if counted and not store.full:
            store.full, world.bad["v2"] = True, 0.5
            assert store.not_renewed.wait(30)
            world.now += timedelta(minutes=5)  # long past the lock's time
        one.tell(report)
        if len(one.reports) > 40:
            watching.stop()

    watching = one.watch(until_rest=True)
    watching._tell = tell
    watching.run()
    assert watching.ended == {"flight-delays": "rests"}
    assert world.state.phase == "rolled_back"


def test_one_models_trouble_does_not_stop_the_others(spec: ModelSpec) -> None:
    worlds = Worlds(spec, "good-model", "bad-model")

    def away(branch: str, folder: str = "") -> object:
        raise OutsideError("the remote is away", fix="wait")

    worlds.worlds["bad-model"].git.read = away  # type: ignore[method-assign,assignment]
    watching = worlds.watch()
    thread = threading.Thread(target=watching.run)
    clock = threading.Event()
    thread.start()
    good = worlds.worlds["good-model"]
    for _ in range(600):
        if good.state.phase == "succeeded":
            break
        clock.wait(0.05)
    watching.stop()
    thread.join(30)
    assert good.state.phase == "succeeded"
    assert any(report.error for report in worlds.reports if report.model == "bad-model")
    assert watching.ended["bad-model"] == "stopped"


def test_own_metrics(one: Worlds) -> None:
    metrics = Metrics()
    watching = one.watch(until_rest=True)
    watching.run()
    for report in one.reports:
        metrics.observe(report)
    metrics.observe(replace(one.reports[0], told=None, error=OutsideError("x")))
    value = metrics.registry.get_sample_value
    assert value("upkeep_rollout_looks_total", {"model": "flight-delays", "result": "done"}) == len(one.reports)
    assert value("upkeep_rollout_looks_total", {"model": "flight-delays", "result": "error"}) == 1
    assert value("upkeep_rollout_phase", {"model": "flight-delays", "phase": "succeeded"}) == 1
    assert value("upkeep_rollout_phase", {"model": "flight-delays", "phase": "step"}) == 0
    assert value("upkeep_rollout_commits_total", {"model": "flight-delays", "phase": "step"}) == 1
    assert value("upkeep_rollout_traffic_agrees", {"model": "flight-delays"}) == 1
    assert value("upkeep_rollout_e_rollback", {"model": "flight-delays"}) is None, "of a rollout that is over"
    told = one.reports[-1].told
    assert told is not None
    metrics.observe(replace(one.reports[-1], told=replace(told, troubles={"store": "the disk is full"})))
    assert value("upkeep_rollout_troubles", {"model": "flight-delays", "kind": "store"}) == 1
    state = one.reports[-1].told.state if one.reports[-1].told else None
    assert state is not None
    assert state.since is not None
    began = datetime.fromisoformat(state.since).timestamp()
    assert value("upkeep_rollout_since_seconds", {"model": "flight-delays"}) == began
    assert value("upkeep_rollout_verdict", {"model": "flight-delays", "verdict": "fail"}) == 0


def test_the_newest_update_is_shown_and_not_asked_for_at_every_look(one: Worlds) -> None:
    one.watch(once=True).run()
    (report,) = one.reports[-1:]
    finished = datetime(2026, 3, 1, tzinfo=UTC)
    passed = Update(update="u1", finished=finished, verdict="pass", outcome="proposed", drift="stable")
    failed = Update(update="u2", finished=finished, verdict="insufficient", outcome="failed", drift="")
    given: list[Update | UpkeepError | None] = [None, passed, failed, OutsideError("the store is away")]

    def newest(model: str) -> Update | None:
        assert model == "flight-delays"
        answer = given.pop(0)
        if isinstance(answer, UpkeepError):
            raise answer
        return answer

    metrics = Metrics()
    spec = one.specs[0]
    metrics.follow_updates([replace(spec, data=replace(spec.data, period="day"))], newest)

    def shown() -> list[tuple[str, float]]:
        families = {each.name: each for each in metrics.registry.collect()}
        return [(each.labels["outcome"], each.value) for each in families["upkeep_update_newest_seconds"].samples]

    assert metrics.registry.get_sample_value("upkeep_data_period_seconds", {"model": "flight-delays"}) == 86400
    at = report.at
    for expected in ([], [("proposed", finished.timestamp())], [("failed", finished.timestamp())], []):
        metrics.observe(replace(report, at=at))
        assert shown() == expected
        left = len(given)
        metrics.observe(replace(report, at=at + UPDATES_EVERY / 2))
        assert len(given) == left
        at += UPDATES_EVERY


def test_who_leads_no_more_shows_no_state(one: Worlds) -> None:
    from upkeep.rollout.lead import Turn

    metrics = Metrics()
    one.watch(once=True).run()
    (report,) = one.reports
    metrics.observe(report)
    turn = Turn(at=report.at, leads=True, leader="a")
    metrics.observe(turn)
    value = metrics.registry.get_sample_value
    assert value("upkeep_rollout_canary_weight", {"model": "flight-delays"}) == 0
    metrics.observe(replace(turn, leads=False))
    assert value("upkeep_rollout_canary_weight", {"model": "flight-delays"}) is None
    assert value("upkeep_rollout_looks_total", {"model": "flight-delays", "result": "done"}) == 1
    metrics.observe(report)
    assert value("upkeep_rollout_canary_weight", {"model": "flight-delays"}) == 0
