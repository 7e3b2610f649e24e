"""What the API server's refusals mean, and which are tried again."""

from __future__ import annotations

from typing import Any

import pytest
from urllib3.exceptions import ProtocolError

from tests.unit.serving.kubernetes.fake_client import FakeClient, refusal
from upkeep.errors import AccessError, ConflictError, OutsideError, RefusedError, UpkeepError
from upkeep.serving.kubernetes.api import Api, GoneError, MissingError


def api(*answers: Any, **options: Any) -> tuple[Api, FakeClient, list[float]]:
    slept: list[float] = []
    client = FakeClient({"/x": list(answers)})
    return Api(client, sleep=slept.append, **({"jitter": lambda: 0.0} | options)), client, slept


@pytest.mark.parametrize(
    ("status", "kind", "retry"),
    [
        (401, AccessError, False),
        (403, AccessError, False),
        (404, MissingError, True),
        (409, ConflictError, True),
        (410, GoneError, True),
        (400, RefusedError, False),
        (422, RefusedError, False),
        (418, OutsideError, True),
    ],
)
def test_a_refusal_is_an_error_of_its_kind_with_the_servers_words(status: int, kind: Any, retry: bool) -> None:
    asks, client, slept = api(refusal(status, "what the server says"))
    with pytest.raises(UpkeepError, match="what the server says") as caught:
        asks.get("/x")
    assert type(caught.value) is kind
    assert caught.value.retry is retry
    assert caught.value.problems[0].fix
    assert (len(client.asked), slept) == (1, [])


@pytest.mark.parametrize("error", [refusal(429), refusal(500), refusal(503), ProtocolError("reset"), OSError("down")])
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    asks, client, slept = api(error, error, {"found": 1})
    assert asks.get("/x") == {"found": 1}
    assert len(client.asked) == 3
    assert slept == sorted(slept)
    assert len(set(slept)) == 2


def test_a_storage_that_is_behind_is_asked_again() -> None:
    """Its own words: a replica of etcd, or the watch cache, has not come so far yet."""
    behind = refusal(504, "Too large resource version: 9, current: 8")
    asks, client, _ = api(behind, behind, {"items": [{"a": 1}]})
    assert asks.items("/x") == [{"a": 1}]
    assert not any("resourceVersion" in each.query for each in client.asked)
    asks, _, _ = api(*[behind] * 9)
    with pytest.raises(OutsideError, match="Too large resource version") as caught:
        asks.get("/x")
    assert caught.value.retry


def test_controllers_do_not_all_come_back_at_once() -> None:
    for luck, waited in ((0.0, [0.2, 0.4]), (0.5, [0.25, 0.5]), (1.0, [0.3, 0.6])):
        asks, _, slept = api(refusal(503), refusal(503), {}, jitter=lambda luck=luck: luck)
        asks.get("/x")
        assert slept == pytest.approx(waited)


def test_with_a_token_that_ended_the_next_one_is_read_once() -> None:
    logins: list[int] = []
    asks, client, slept = api(refusal(401), {"found": 1}, login=lambda: logins.append(1))
    assert asks.get("/x") == {"found": 1}
    assert (len(logins), len(client.asked), slept) == (1, 2, [])
    asks, client, _ = api(refusal(401), refusal(503), refusal(401), login=lambda: logins.append(1))
    with pytest.raises(AccessError, match="does not know who asks"):
        asks.get("/x")
    assert (len(logins), len(client.asked)) == (2, 3)


def test_one_that_tries_once_and_no_longer() -> None:
    asks, client, slept = api(refusal(503), {}, tries=1, seconds=2.5)
    with pytest.raises(OutsideError):
        asks.get("/x")
    assert (len(client.asked), slept) == (1, [])


def test_a_creation_is_a_post_to_all_of_its_kind() -> None:
    asks, client, _ = api({"made": 1})
    assert asks.create("/x", {"kind": "Lease"}) == {"made": 1}
    (asked,) = client.asked
    assert (asked.method, asked.body) == ("POST", {"kind": "Lease"})


@pytest.mark.parametrize("error", [refusal(503), ProtocolError("reset")])
def test_it_is_not_tried_for_ever(error: Exception) -> None:
    asks, client, _ = api(*[error] * 9)
    with pytest.raises(OutsideError):
        asks.get("/x")
    assert len(client.asked) == 3


@pytest.mark.parametrize(("asked", "waited"), [("2", 2.0), ("3600", 5.0), ("Wed, 21 Oct", 0.2), ("-1", 0.2)])
def test_the_wait_is_the_servers_within_reason(asked: str, waited: float) -> None:
    asks, _, slept = api(refusal(429, headers={"Retry-After": asked}), {})
    asks.get("/x")
    assert slept == [waited]


def test_what_is_no_kubernetes_api_is_told() -> None:
    asks, _, _ = api("<html>")
    with pytest.raises(OutsideError, match="no Kubernetes API"):
        asks.get("/x")


def test_a_list_is_read_page_by_page() -> None:
    first = {"items": [{"a": 1}], "metadata": {"continue": "next"}}
    asks, client, _ = api(first, {"items": [{"a": 2}]})
    assert asks.items("/x", labelSelector="l") == [{"a": 1}, {"a": 2}]
    assert [each.query.get("continue") for each in client.asked] == [None, "next"]
    assert {each.query["labelSelector"] for each in client.asked} == {"l"}


def test_a_list_whose_page_is_gone_is_read_from_the_start() -> None:
    first = {"items": [{"a": 1}], "metadata": {"continue": "next"}}
    asks, _, _ = api(first, refusal(410), {"items": [{"a": 2}]})
    assert asks.items("/x") == [{"a": 2}]
    asks, _, _ = api(*[refusal(410)] * 9)
    with pytest.raises(OutsideError, match="changes faster"):
        asks.items("/x")


def test_an_apply_is_by_its_field_manager_and_by_force() -> None:
    asks, client, _ = api({})
    asks.apply("/x", {"kind": "HTTPRoute"}, "upkeep-brake")
    (asked,) = client.asked
    assert (asked.method, asked.kind) == ("PATCH", "application/apply-patch+yaml")
    assert asked.query == {"fieldManager": "upkeep-brake", "force": "true"}
    assert asked.body == {"kind": "HTTPRoute"}
