"""What a pod's probes are told, and where."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from upkeep.errors import ConflictError, OutsideError
from upkeep.rollout.health import LONGEST_ELECTION, LONGEST_LOOK, Health
from upkeep.rollout.lead import Turn
from upkeep.rollout.metrics import Metrics, served
from upkeep.rollout.watch import Report

AT = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(["flights", "reviews"], clock=clock)


def told(model: str, error: Any = None) -> Report:
    from upkeep.rollout.controller import Told

    look = Told(model=model, at=AT, commit=None, state=None, before=None, message="all is well", next_look=10.0)
    return Report(model=model, at=AT, told=None if error else look, error=error, wait=10.0)


def turn(*, leads: bool, trouble: str = "") -> Turn:
    return Turn(at=AT, leads=leads, leader="pod-2", trouble=trouble)


def test_it_is_ready_when_every_model_was_looked_at(health: Health) -> None:
    assert health.alive().ok
    assert not health.ready().ok
    health.observe(told("flights"))
    assert not health.ready().ok
    health.observe(told("reviews"))
    assert health.ready().ok
    assert health.ready().text == "flights: all is well\nreviews: all is well\n"


def test_a_look_that_fails_is_not_ready_and_lives(health: Health, clock: Clock) -> None:
    health.observe(told("flights"))
    health.observe(told("reviews", OutsideError("the remote is away", fix="wait")))
    assert not health.ready().ok
    assert "reviews: the remote is away → wait" in health.ready().text
    assert health.alive().ok
    health.observe(told("reviews"))
    assert health.ready().ok


def test_where_another_controller_drives_a_model_this_one_is_ready_to(health: Health) -> None:
    health.observe(told("flights", ConflictError("another is at work", fix="wait")))
    health.observe(told("reviews"))
    assert health.ready().ok


def test_a_look_that_hangs_is_not_alive(health: Health, clock: Clock) -> None:
    health.observe(told("flights"))
    health.observe(told("reviews"))
    clock.now += 10.0 + LONGEST_LOOK
    assert health.alive().ok
    health.observe(told("flights"))
    clock.now += 1.0
    found = health.alive()
    assert not found.ok
    assert found.text.startswith("reviews: no sign of life")
    assert "flights" not in found.text


def test_who_stands_by_is_ready_and_must_keep_trying(health: Health, clock: Clock) -> None:
    health.observe(turn(leads=False))
    assert health.ready().ok
    assert "pod-2 leads" in health.ready().text
    clock.now += LONGEST_LOOK  # looks are nobody's business now
    health.observe(turn(leads=False))
    assert health.alive().ok
    clock.now += LONGEST_ELECTION + 1
    assert not health.alive().ok
    health.observe(turn(leads=False, trouble="no permission"))
    assert not health.ready().ok
    assert health.alive().ok


def test_who_comes_to_lead_is_ready_after_a_look_of_its_own(health: Health) -> None:
    health.observe(told("flights"))
    health.observe(told("reviews"))
    health.observe(turn(leads=True))
    assert health.ready().ok  # it led before: nothing is new
    health.observe(turn(leads=False))
    health.observe(turn(leads=True))
    assert not health.ready().ok
    health.observe(told("flights"))
    health.observe(told("reviews"))
    assert health.ready().ok


@pytest.fixture
def place(health: Health) -> Iterator[str]:
    with served(Metrics(), health, "127.0.0.1", 0) as found:
        yield found


def test_the_probes_answer_by_their_status(place: str, health: Health) -> None:
    assert httpx.get(f"{place}/healthz").status_code == 200
    answer = httpx.get(f"{place}/readyz")
    assert (answer.status_code, "not looked at yet" in answer.text) == (503, True)
    health.observe(told("flights"))
    health.observe(told("reviews"))
    assert httpx.get(f"{place}/readyz").status_code == 200
    assert "upkeep_rollout_looks" in httpx.get(f"{place}/metrics").text
    assert httpx.get(f"{place}/").status_code == 404


def test_an_address_that_cannot_be_listened_on_is_told(place: str, health: Health) -> None:
    port = int(place.rpartition(":")[2])
    for address, number in (("127.0.0.1", port), ("192.0.2.1", 0)):
        with (
            pytest.raises(OutsideError, match="cannot be listened on") as caught,
            served(Metrics(), health, address, number),
        ):
            pass
        assert "--metrics-address" in caught.value.problems[0].fix


def test_the_port_is_free_again_at_the_end(health: Health) -> None:
    for _ in range(2):
        with served(Metrics(), health, "127.0.0.1", 0) as found:
            pass
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{found}/healthz")
