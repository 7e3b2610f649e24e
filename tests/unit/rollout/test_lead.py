"""Of several processes one watches; whoever leads no more stops at once."""

from __future__ import annotations

import threading

import pytest

from tests.unit.rollout.test_watch import Worlds
from upkeep.rollout.lead import Turn, in_turn
from upkeep.rollout.watch import Watch
from upkeep.serving.kubernetes.api import Api
from upkeep.serving.kubernetes.fake import FakeKubernetes
from upkeep.serving.kubernetes.lease import Election, Timing
from upkeep.spec.model import ModelSpec

QUICK = Timing(duration=0.6, renew_deadline=0.4, retry=0.05)


class Process:
    """One pod's process, beside others at the same worlds and the same API server."""

    def __init__(self, worlds: Worlds, server: FakeKubernetes, name: str) -> None:
        self.worlds, self.turns = worlds, list[Turn]()
        self.election = Election(Api(server.client(), tries=1), "upkeep-system", "upkeep", name, timing=QUICK)

    def make(self) -> Watch:
        return self.worlds.watch(until_rest=True, leads=self.election.leads)

    def run(self) -> Watch:
        return in_turn(self.election, self.make, self.turns.append)


@pytest.fixture
def worlds(spec: ModelSpec) -> Worlds:
    return Worlds(spec, "flight-delays")


def test_who_leads_drives_the_models_and_gives_the_lease_back(worlds: Worlds) -> None:
    server = FakeKubernetes()
    watching = Process(worlds, server, "pod-1").run()
    assert watching.ended == {"flight-delays": "rests"}
    assert worlds.worlds["flight-delays"].state.phase == "succeeded"
    (lease,) = server.objects.values()
    assert "holderIdentity" not in lease["spec"]


def test_who_stands_by_touches_nothing_until_it_is_its_turn(worlds: Worlds) -> None:
    server = FakeKubernetes()
    other = Election(Api(server.client(), tries=1), "upkeep-system", "upkeep", "pod-0", timing=QUICK)
    assert other.attempt()
    process = Process(worlds, server, "pod-1")
    thread = threading.Thread(target=process.run)
    thread.start()
    for _ in range(5):
        assert other.attempt()
        threading.Event().wait(0.05)
    assert worlds.opened == []
    other.give_back()
    thread.join(30)
    assert worlds.worlds["flight-delays"].state.phase == "succeeded"
    first, last = process.turns[0], process.turns[-1]
    assert (first.leads, first.leader, last.leads) == (False, "pod-0", True)
    assert first.line() == "stands by: pod-0 leads"
    assert last.record()["event"] == "leads"


def test_who_cannot_renew_stops_and_goes_on_when_it_leads_again(worlds: Worlds) -> None:
    server, world = FakeKubernetes(), worlds.worlds["flight-delays"]
    process = Process(worlds, server, "pod-1")
    away = threading.Event()
    pushed_by: list[bool] = []

    def before(method: str, path: str) -> None:
        if away.is_set():
            raise OSError("no route to host")

    def push() -> None:
        pushed_by.append(process.election.leads())
        if len(pushed_by) == 1:
            away.set()  # from here on nothing can be renewed
            for _ in range(300):  # and this push takes its time
                if not process.election.leads():
                    break
                threading.Event().wait(0.05)

    server.before, world.git.before_push = before, push
    thread = threading.Thread(target=process.run)
    thread.start()
    for _ in range(300):
        if any(not turn.leads and turn.trouble for turn in process.turns):
            break
        threading.Event().wait(0.05)
    threading.Event().wait(0.3)
    assert len(pushed_by) == 1, "it acted without the Lease"
    away.clear()
    thread.join(30)
    assert not thread.is_alive()
    assert world.state.phase == "succeeded"
    assert all(pushed_by)
    assert any("no route to host" in turn.line() for turn in process.turns)
