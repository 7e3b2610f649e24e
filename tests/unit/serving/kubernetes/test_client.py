"""The real client over real sockets: connections that break, and a token that is another one every hour."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from upkeep.errors import AccessError, OutsideError
from upkeep.serving.kubernetes.api import Api
from upkeep.serving.kubernetes.client import IN_CLUSTER, open_api


class Server(ThreadingHTTPServer):
    """Hands each request to the first of ``answers``, the last one again and again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Callable[[Any], None]] = []
        self.requests: list[str] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Any = self.server
        server.requests.append(self.headers.get("Authorization", ""))
        (server.answers.pop(0) if len(server.answers) > 1 else server.answers[0])(self)

    def say(self, status: int, value: Any, *, length: int | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def in_cluster(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the service account's token; the server is the API server."""
    from kubernetes import config

    token = tmp_path / "token"

    def load(client_configuration: Any = None) -> None:
        client_configuration.host = f"http://127.0.0.1:{server.server_port}"
        client_configuration.api_key["authorization"] = f"bearer {token.read_text()}"

    monkeypatch.setattr(config, "load_incluster_config", load)
    token.write_text("first")
    return token


def opened(**options: Any) -> Api:
    return open_api(IN_CLUSTER, sleep=lambda _: None, **options)


def closes(handler: Any) -> None:
    handler.close_connection = True
    handler.connection.close()


def cut_short(handler: Any) -> None:
    handler.say(200, {"items": []}, length=1000)
    handler.close_connection = True


def no_json(handler: Any) -> None:
    handler.say(200, "a page of a proxy")


def works(handler: Any) -> None:
    handler.say(200, {"items": [{"a": 1}]})


@pytest.mark.parametrize("breaks", [closes, cut_short])
def test_a_read_survives_a_connection_that_breaks(server: Server, in_cluster: Path, breaks: Any) -> None:
    server.answers = [breaks, breaks, works]
    assert opened().items("/apis/x/v1/things") == [{"a": 1}]
    assert len(server.requests) == 3


@pytest.mark.parametrize("breaks", [closes, cut_short])
def test_one_that_always_breaks_is_told(server: Server, in_cluster: Path, breaks: Any) -> None:
    server.answers = [breaks]
    with pytest.raises(OutsideError, match="does not answer") as caught:
        opened().items("/apis/x/v1/things")
    assert caught.value.retry
    assert len(server.requests) == 3


def test_a_page_of_something_else_is_no_answer(server: Server, in_cluster: Path) -> None:
    server.answers = [no_json]
    with pytest.raises(OutsideError, match="no Kubernetes API"):
        opened().get("/apis/x/v1/things")


def test_a_token_that_was_changed_on_disk_is_read_when_the_old_one_ends(server: Server, in_cluster: Path) -> None:
    def asks(handler: Any) -> None:
        known = handler.headers.get("Authorization") == "bearer second"
        handler.say(200 if known else 401, {"items": []} if known else {"message": "Unauthorized"})

    server.answers = [works, asks]
    api = opened()
    api.get("/apis/x/v1/things")
    in_cluster.write_text("second")
    api.get("/apis/x/v1/things")
    assert server.requests == ["bearer first", "bearer first", "bearer second"]
    in_cluster.write_text("third")
    api.get("/apis/x/v1/things")  # the second one still counts: nobody asks for another
    assert server.requests[-1] == "bearer second"


def test_a_token_that_never_counts_is_told_at_once(server: Server, in_cluster: Path) -> None:
    server.answers = [lambda handler: handler.say(401, {"message": "Unauthorized"})]
    with pytest.raises(AccessError, match="Unauthorized"):
        opened().get("/apis/x/v1/things")
    assert len(server.requests) == 2


def test_a_token_that_is_gone_is_told(server: Server, in_cluster: Path) -> None:
    server.answers = [lambda handler: handler.say(401, {"message": "Unauthorized"})]
    api = opened()
    in_cluster.unlink()
    with pytest.raises(AccessError, match="no way into the cluster"):
        api.get("/apis/x/v1/things")


def test_one_that_hangs_is_given_up(server: Server, in_cluster: Path) -> None:
    ends = threading.Event()
    server.answers = [lambda handler: ends.wait(30)]
    try:
        with pytest.raises(OutsideError, match="does not answer"):
            opened(tries=1, seconds=0.2).get("/apis/x/v1/things")
    finally:
        ends.set()
