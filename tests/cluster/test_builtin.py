"""Leases, access reviews and events, as an API server keeps them."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.cluster.conftest import Place
from upkeep.errors import ConflictError
from upkeep.serving.kubernetes.api import MissingError
from upkeep.serving.kubernetes.events import Happening, event
from upkeep.serving.kubernetes.lease import Election, Timing
from upkeep.serving.kubernetes.paths import EVENTS, LEASES, path
from upkeep.serving.kubernetes.rights import Right, granted

QUICK = Timing(duration=2, renew_deadline=1.5, retry=0.2)


@pytest.fixture
def name() -> str:
    return f"lease-{uuid4().hex[:8]}"


def lease(name: str, holder: str = "a") -> dict[str, Any]:
    body = {"apiVersion": LEASES[0], "kind": "Lease", "metadata": {"name": name}}
    return body | {"spec": {"holderIdentity": holder, "leaseDurationSeconds": 15}}


def test_a_name_is_made_once(place: Place, name: str) -> None:
    everything = path(LEASES, place.namespace)
    with pytest.raises(MissingError):
        place.api.get(f"{everything}/{name}")
    made = place.api.create(everything, lease(name))
    assert made["metadata"]["resourceVersion"]
    assert made["metadata"]["uid"]
    with pytest.raises(ConflictError):
        place.api.create(everything, lease(name, "b"))
    assert place.api.get(f"{everything}/{name}")["spec"]["holderIdentity"] == "a"


def test_a_patch_of_a_version_that_is_no_more_is_refused(place: Place, name: str) -> None:
    where = path(LEASES, place.namespace, name)
    first = place.api.create(path(LEASES, place.namespace), lease(name))["metadata"]["resourceVersion"]
    change = {"metadata": {"resourceVersion": first}, "spec": {"holderIdentity": "b"}}
    second = place.api.patch(where, change)["metadata"]["resourceVersion"]
    assert second != first
    with pytest.raises(ConflictError):
        place.api.patch(where, change | {"spec": {"holderIdentity": "c"}})
    same = place.api.patch(where, {"metadata": {"resourceVersion": second}, "spec": {"holderIdentity": "b"}})
    assert same["metadata"]["resourceVersion"] == second, "what changes nothing is no new version"


def test_a_list_is_read_page_by_page_and_by_label(place: Place, name: str) -> None:
    everything = path(LEASES, place.namespace)
    for number in range(3):
        body = lease(f"{name}-{number}")
        body["metadata"]["labels"] = {"test": name}
        place.api.create(everything, body)
    found = place.api.items(everything, labelSelector=f"test={name}", limit="2")
    assert {each["metadata"]["name"] for each in found} == {f"{name}-{number}" for number in range(3)}


def test_rights_are_told_by_a_review(place: Place) -> None:
    right = Right(namespace=place.namespace, group="coordination.k8s.io", resource="leases", verb="get")
    assert granted(place.api, right) is True


def test_an_event_is_there_once(place: Place, name: str) -> None:
    standing = place.api.create(path(LEASES, place.namespace), lease(name))
    happening = Happening(kind="moved", message="v2 gets 5 %", key="k", at="2026-03-01T12:00:00Z", version="v2")
    made = event({**standing, "apiVersion": LEASES[0], "kind": "Lease"}, happening)
    place.api.create(path(EVENTS, place.namespace), made)
    with pytest.raises(ConflictError):
        place.api.create(path(EVENTS, place.namespace), made)
    found = place.api.get(path(EVENTS, place.namespace, made["metadata"]["name"]))
    assert found["involvedObject"]["uid"] == standing["metadata"]["uid"]
    assert (found["reason"], found["message"]) == ("CanaryMoved", "v2 gets 5 %")


def test_the_servers_clock_is_read(place: Place) -> None:
    found = place.api.clock()
    assert found is not None
    assert abs((found - datetime.now(UTC)).total_seconds()) < 3600


def test_elections_of_three_with_one_that_dies_and_one_that_goes(place: Place, name: str) -> None:
    pods = {each: Election(place.api, place.namespace, name, each, timing=QUICK) for each in ("a", "b", "c")}
    stops = {each: threading.Event() for each in pods}
    together = 0
    led: list[str] = []

    def told(_: Election) -> None:
        nonlocal together
        leaders = [each for each, election in pods.items() if election.leads()]
        together = max(together, len(leaders))
        led.extend(each for each in leaders if led[-1:] != [each])

    threads = {each: threading.Thread(target=election.run, args=(stops[each], told)) for each, election in pods.items()}

    def until_led(count: int) -> str:
        for _ in range(200):
            if len(led) >= count:
                return led[-1]
            threading.Event().wait(0.05)
        raise AssertionError(f"led: {led}")

    for thread in threads.values():
        thread.start()
    try:
        first = until_led(1)
        pods[first].give_back = lambda: None  # type: ignore[method-assign]  # it is killed, and gives nothing back
        stops[first].set()
        second = until_led(2)
        stops[second].set()
        third = until_led(3)
        assert {first, second, third} == {"a", "b", "c"}
    finally:
        for each, thread in threads.items():
            stops[each].set()
            thread.join()
    assert together == 1
    spec = place.api.get(path(LEASES, place.namespace, name))["spec"]
    assert spec.get("holderIdentity", "") == ""
    assert spec["leaseTransitions"] == 2
