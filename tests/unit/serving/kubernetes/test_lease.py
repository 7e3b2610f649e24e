"""Whose turn it is: each rule of the election, with a clock that is moved by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkeep.errors import AccessError, OutsideError
from upkeep.serving.kubernetes.api import Api
from upkeep.serving.kubernetes.fake import FakeKubernetes, refusal
from upkeep.serving.kubernetes.lease import Election, Seen, Timing, observe, wish
from upkeep.serving.kubernetes.paths import LEASES, path

WHERE = path(LEASES, "upkeep-system", "upkeep-controller")


class Pods:
    """Some processes with one clock, and their server."""

    def __init__(self) -> None:
        self.now = 0.0
        self.server = FakeKubernetes()

    def pod(self, name: str, wall: datetime = datetime(2026, 3, 1, tzinfo=UTC)) -> Election:
        api = Api(self.server.client(), tries=1)
        return Election(api, "upkeep-system", "upkeep-controller", name, clock=lambda: self.now, now=lambda: wall)

    @property
    def lease(self) -> dict[str, Any]:
        return dict(self.server.objects[WHERE]["spec"])


@pytest.fixture
def pods() -> Pods:
    return Pods()


def test_the_first_makes_it_and_the_second_waits(pods: Pods) -> None:
    first, second = pods.pod("a"), pods.pod("b")
    assert first.attempt()
    assert not second.attempt()
    assert second.leader == "a"
    lease = pods.lease
    assert lease["holderIdentity"] == "a"
    assert lease["leaseDurationSeconds"] == 15
    assert lease["leaseTransitions"] == 0
    assert lease["acquireTime"] == lease["renewTime"] == "2026-03-01T00:00:00.000000Z"


def test_it_leads_until_the_deadline_after_it_sent_its_renewal(pods: Pods) -> None:
    first = pods.pod("a")
    pods.server.after = lambda method, path: setattr(pods, "now", pods.now + 3)  # the answer takes its time
    assert first.attempt()
    pods.server.after = lambda method, path: None
    sent = pods.now - 3
    pods.now = sent + 9.9
    assert first.leads()
    pods.now = sent + 10
    assert not first.leads()


def test_it_is_taken_over_when_it_has_not_changed_for_its_duration(pods: Pods) -> None:
    first, second = pods.pod("a"), pods.pod("b")
    first.attempt()
    second.attempt()
    pods.now += 14
    first.attempt()
    second.attempt()  # it changed: the time starts anew
    pods.now += 15
    assert not second.attempt()
    pods.now += 0.1
    assert second.attempt()
    assert not first.leads()
    assert pods.lease["leaseTransitions"] == 1
    assert not first.attempt(), "its renewal names a version that is no more"
    assert not first.attempt()
    assert first.leader == "b"


@pytest.mark.parametrize("wall", [datetime(2001, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)])
def test_clocks_that_are_years_apart_do_no_harm(pods: Pods, wall: datetime) -> None:
    first, second = pods.pod("a", wall), pods.pod("b")
    first.attempt()
    assert not second.attempt()
    pods.now += 14.9
    assert not second.attempt()
    pods.now += 0.2
    assert second.attempt()


def test_a_longer_duration_of_the_holders_is_kept_to(pods: Pods) -> None:
    pods.pod("a").attempt()
    pods.server.objects[WHERE]["spec"]["leaseDurationSeconds"] = 60
    second = pods.pod("b")
    second.attempt()
    pods.now += 59
    assert not second.attempt()
    pods.now += 2
    assert second.attempt()


def test_given_back_it_is_free_at_once(pods: Pods) -> None:
    first, second = pods.pod("a"), pods.pod("b")
    first.attempt()
    second.attempt()
    first.give_back()
    assert not first.leads()
    assert "holderIdentity" not in pods.lease
    assert second.attempt()
    first.give_back()  # not its own any more
    assert pods.lease["holderIdentity"] == "b"


def test_a_renewal_whose_answer_was_lost_is_found(pods: Pods) -> None:
    first = pods.pod("a")
    first.attempt()

    def lose(method: str, path: str) -> None:
        raise OSError("the connection broke")

    pods.server.after = lose
    pods.now += 2
    assert first.attempt(), "it leads by the renewal before"
    assert isinstance(first.trouble, OutsideError)
    pods.server.after = lambda method, path: None
    first.attempt()
    pods.now += 5
    assert first.attempt()
    assert pods.lease["leaseTransitions"] == 0


def test_a_lease_that_somebody_deletes_is_made_again(pods: Pods) -> None:
    first = pods.pod("a")
    first.attempt()
    pods.server.objects.clear()
    first.attempt()
    assert first.attempt()
    assert pods.lease["holderIdentity"] == "a"


@pytest.mark.parametrize(("status", "kind"), [(403, AccessError), (500, OutsideError), (410, OutsideError)])
def test_what_the_server_refuses_is_told_and_tried_again(pods: Pods, status: int, kind: type) -> None:
    def refuse(method: str, path: str) -> None:
        raise refusal(status)

    first = pods.pod("a")
    pods.server.before = refuse
    assert not first.attempt()
    assert isinstance(first.trouble, kind)
    pods.server.before = lambda method, path: None
    assert first.attempt()
    assert first.trouble is None


def test_two_that_take_it_at_once_are_told_apart_by_its_version(pods: Pods) -> None:
    gone, first, second = pods.pod("x"), pods.pod("a"), pods.pod("b")
    gone.attempt()
    first.attempt()
    second.attempt()
    pods.now += 16
    meanwhile: list[Callable[[], object]] = [second.attempt]

    def before(method: str, path: str) -> None:
        if method == "PATCH" and meanwhile:
            meanwhile.pop()()

    pods.server.before = before
    assert not first.attempt()
    assert second.leads()


def test_it_runs_until_it_is_stopped_and_gives_back(pods: Pods) -> None:
    first = pods.pod("a")
    stop, tries = threading.Event(), list[bool]()

    def told(election: Election) -> None:
        tries.append(election.leads())
        stop.set()

    first.run(stop, told)
    assert tries == [True]
    assert "holderIdentity" not in pods.lease


def test_times_that_would_let_two_lead_are_refused() -> None:
    with pytest.raises(ValueError, match="must rise"):
        Timing(duration=10, renew_deadline=10)
    with pytest.raises(ValueError, match="must rise"):
        Timing(retry=9)


# --- laws ----------------------------------------------------------------------------------------------------------

seconds = st.floats(0, 1e6)
names = st.sampled_from(["", "a", "b"])
seen = st.builds(
    Seen, version=st.sampled_from(["", "1", "2"]), holder=names, duration=st.floats(1, 100),
    transitions=st.integers(0, 9), at=seconds,
)  # fmt: skip


@given(seen, seconds)
def test_a_foreign_lease_is_never_taken_before_its_duration_passed_here(seen: Seen, now: float) -> None:
    wanted = wish("a", seen, now)
    if wanted == "take":
        assert not seen.holder or now - seen.at > seen.duration
    assert (wanted == "create") == (not seen.version)
    assert wanted != "renew" or seen.holder == "a"


@given(seen, seconds, names)
def test_the_time_starts_anew_with_each_change_and_with_nothing_else(seen: Seen, at: float, holder: str) -> None:
    found = {"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": holder}}
    after = observe(seen, found, at, 15.0)
    assert after == seen if seen.version == "1" else after.at == at
