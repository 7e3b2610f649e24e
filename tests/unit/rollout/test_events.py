from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from upkeep.errors import AccessError, InputError, OutsideError
from upkeep.rollout.analysis.ledger import News
from upkeep.rollout.events import ATTEMPTS, DELIVERY, SIGNATURE, Event, event_of, kind_of, poster, tell
from upkeep.rollout.state import Canary, Champion, State
from upkeep.spec.model import Webhook

STATE = State(
    model="m",
    phase="step",
    weight=5,
    champion=Champion(version="v1", digest="1" * 64, since="2026-03-01T12:00:00Z"),
    canary=Canary(version="v2", digest="2" * 64, update="u"),
    update="u",
    evidence="e" * 64,
    rollout="v2-20260301T120000Z",
    since="2026-03-01T12:00:00Z",
    step=1,
)
NEWS = News(kind="moved", message="v2 gets 5 %", key="k1")
EVENT = event_of(NEWS, "m", STATE, "c" * 40, datetime(2026, 3, 1, 12, tzinfo=UTC))


class Receiver(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook/secret-token"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_an_event_arrives_signed(receiver: Receiver) -> None:
    hook = Webhook(url=receiver.url, events=("moved",), secret_env="HOOK_KEY")
    assert tell((hook,), EVENT, poster({"HOOK_KEY": "s3cret"})) == []
    ((headers, body),) = receiver.got
    said = json.loads(body)
    assert (said["kind"], said["canary"], said["weight"], said["commit"]) == ("moved", "v2", 5, "c" * 40)
    expected = "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert headers[SIGNATURE] == expected
    assert headers[DELIVERY] == EVENT.id


def test_only_what_was_asked_for_is_sent(receiver: Receiver) -> None:
    hook = Webhook(url=receiver.url)
    assert tell((hook,), EVENT, poster({})) == []
    assert receiver.got == []


def test_a_receiver_that_fails_is_asked_again_and_not_for_ever(receiver: Receiver) -> None:
    waits: list[float] = []
    hook = Webhook(url=receiver.url, events=("moved",))
    receiver.answers = [503, 429, 204]
    poster({}, waits.append)(hook, EVENT)
    assert len(receiver.got) == 3
    assert len({headers[DELIVERY] for headers, _ in receiver.got}) == 1
    receiver.answers = [500] * 10
    with pytest.raises(OutsideError, match="answered 500"):
        poster({}, waits.append)(hook, EVENT)
    assert len(receiver.got) == 3 + ATTEMPTS
    assert waits == sorted(waits[:2]) * 2


def test_a_receiver_that_refuses_is_not_asked_again(receiver: Receiver) -> None:
    receiver.answers = [404]
    hook = Webhook(url=receiver.url, events=("moved",))
    with pytest.raises(AccessError, match="refused the event") as refused:
        poster({})(hook, EVENT)
    assert len(receiver.got) == 1
    assert "secret-token" not in str(refused.value)


def test_one_receivers_trouble_does_not_keep_the_others_from_hearing(receiver: Receiver) -> None:
    gone = Webhook(url="http://127.0.0.1:9/x", events=("moved",))
    unsigned = Webhook(url=receiver.url, events=("moved",), secret_env="NOT_SET")
    good = Webhook(url=receiver.url, events=("moved",))
    wrong = tell((gone, unsigned, good), EVENT, poster({}, lambda _: None))
    assert [type(error) for error in wrong] == [OutsideError, InputError]
    assert len(receiver.got) == 1


def test_the_same_news_has_the_same_id_and_other_news_another() -> None:
    again = event_of(NEWS, "m", replace(STATE, weight=6), "d" * 40, datetime(2027, 1, 1, tzinfo=UTC))
    assert again.id == EVENT.id
    other: Event = event_of(replace(NEWS, key="k2"), "m", STATE, "c" * 40, datetime(2026, 3, 1, tzinfo=UTC))
    assert other.id != EVENT.id


def test_what_others_did_has_a_name() -> None:
    paused = replace(STATE, phase="paused", came_from="step")
    assert kind_of(STATE, paused) == "paused"
    assert kind_of(paused, STATE) == "moved"
    assert kind_of(STATE, replace(STATE, reason="x")) is None
    assert kind_of(None, replace(STATE, phase="pending", weight=0)) == "proposed"
    assert kind_of(None, STATE) is None
