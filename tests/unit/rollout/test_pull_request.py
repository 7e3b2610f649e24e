"""Pull requests by GitHub's and GitLab's REST API, against servers that take nothing but what theirs document."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from upkeep.errors import AccessError, InputError, OutsideError, UpkeepError
from upkeep.rollout.pull_request import Request, asker, place
from upkeep.spec.model import ModelSpec, PullRequest

BRANCH = "upkeep/flight-delays/v2-20260302T120030Z-step-2"
REQUEST = Request(branch=BRANCH, into="main", title="flight-delays: v2 to 25 %", body="- it is not worse")
TOKEN = "s3cr3t"


class Host(ThreadingHTTPServer):
    """One of the two; ``broken``: a status that every request gets instead."""

    daemon_threads = True

    def __init__(self, kind: str) -> None:
        super().__init__(("127.0.0.1", 0), {"github": GitHub, "gitlab": GitLab}[kind])
        self.open: list[dict[str, str]] = []
        self.broken: int | None = None
        self.not_listed = 0
        """For so many lists an open one is not shown yet."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Host

    def say(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def begin(self) -> tuple[str, dict[str, str], Any]:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        length = int(self.headers.get("Content-Length", 0))
        return parts.path, query, json.loads(self.rfile.read(length)) if length else None

    def shown(self, found: list[dict[str, str]]) -> list[dict[str, str]]:
        if found and self.server.not_listed:
            self.server.not_listed -= 1
            return []
        return found

    def log_message(self, *arguments: object) -> None: ...


class GitHub(Handler):
    def do_GET(self) -> None:
        path, query, _ = self.begin()
        if self.refused(path):
            return
        assert {*query} == {"head", "base", "state"}, query
        assert query["state"] == "open"
        owner, _, branch = query["head"].partition(":")
        assert owner == "platform", "GitHub ignores a head without its owner"
        self.say(200, self.shown([each for each in self.server.open if each["branch"] == branch]))

    def do_POST(self) -> None:
        path, _, body = self.begin()
        if self.refused(path):
            return
        assert {*body} == {"title", "head", "base", "body"}
        if any(each["branch"] == body["head"] for each in self.server.open):
            why = [{"message": f"A pull request already exists for platform:{body['head']}."}]
            self.say(422, {"message": "Validation Failed", "errors": why})
            return
        made = {"branch": body["head"], "html_url": f"https://git.example.com/pull/{len(self.server.open) + 1}"}
        self.server.open.append(made)
        self.say(201, made)

    def refused(self, path: str) -> bool:
        if self.server.broken:
            self.say(self.server.broken, {"message": "no"})
            return True
        assert self.headers["Accept"] == "application/vnd.github+json"
        assert self.headers["User-Agent"], "GitHub refuses requests without one"
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.say(401, {"message": "Bad credentials"})
        elif path != "/repos/platform/models/pulls":
            self.say(404, {"message": "Not Found"})
        else:
            return False
        return True


class GitLab(Handler):
    def do_GET(self) -> None:
        path, query, _ = self.begin()
        if self.refused(path):
            return
        assert {*query} == {"source_branch", "target_branch", "state"}
        assert query["state"] == "opened", "GitLab's word"
        branch = query["source_branch"]
        self.say(200, self.shown([each for each in self.server.open if each["branch"] == branch]))

    def do_POST(self) -> None:
        path, _, body = self.begin()
        if self.refused(path):
            return
        assert {*body} == {"source_branch", "target_branch", "title", "description", "remove_source_branch"}
        if any(each["branch"] == body["source_branch"] for each in self.server.open):
            self.say(409, {"message": ["Another open merge request already exists for this source branch: !1"]})
            return
        made = {"branch": body["source_branch"], "web_url": "https://git.example.com/-/merge_requests/1"}
        self.server.open.append(made)
        self.say(201, made)

    def refused(self, path: str) -> bool:
        if self.server.broken:
            self.say(self.server.broken, {"message": "no"})
            return True
        if self.headers["PRIVATE-TOKEN"] != TOKEN:
            self.say(401, {"message": "401 Unauthorized"})
        elif path != "/projects/platform%2Fmodels/merge_requests":
            self.say(404, {"message": "404 Project Not Found"})
        else:
            return False
        return True


@pytest.fixture(params=["github", "gitlab"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def host(kind: str) -> Iterator[Host]:
    server = Host(kind)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def asks(spec: ModelSpec, host: Host, kind: Any) -> Any:
    def make(token: str = TOKEN, repository: str = "https://git.example.com/platform/models.git") -> Any:
        settings = PullRequest(host=kind, api=host.url + "/", token_env="REVIEW_TOKEN")
        rollout = replace(spec.rollout, repository=repository, pull_request=settings)
        return asker(replace(spec, rollout=rollout), {"REVIEW_TOKEN": token})

    return make


def test_it_is_opened_once(host: Host, asks: Any) -> None:
    ask = asks()
    url = ask(REQUEST)
    assert url.startswith("https://git.example.com/")
    assert ask(REQUEST) == url
    assert len(host.open) == 1


def test_one_that_somebody_opened_meanwhile_is_found(host: Host, asks: Any) -> None:
    url = asks()(REQUEST)
    host.not_listed = 1
    assert asks()(REQUEST) == url
    host.not_listed = 9
    with pytest.raises(OutsideError, match="opens no pull request"):
        asks()(REQUEST)


@pytest.mark.parametrize(
    ("status", "kind_of"),
    [(401, AccessError), (403, AccessError), (404, AccessError), (429, OutsideError), (502, OutsideError)],
)
def test_a_refusal_says_what_to_do(host: Host, asks: Any, status: int, kind_of: type) -> None:
    host.broken = status
    with pytest.raises(UpkeepError, match=str(status)) as caught:
        asks()(REQUEST)
    assert type(caught.value) is kind_of
    assert caught.value.problems[0].fix


def test_a_wrong_token_and_a_wrong_repository(asks: Any) -> None:
    with pytest.raises(AccessError, match="401"):
        asks(token="other")(REQUEST)
    with pytest.raises(AccessError, match="404"):
        asks(repository="https://git.example.com/platform/other.git")(REQUEST)
    with pytest.raises(InputError, match="REVIEW_TOKEN"):
        asks(token="")(REQUEST)


def test_a_host_that_is_away(spec: ModelSpec, kind: Any) -> None:
    settings = PullRequest(host=kind, api="http://127.0.0.1:1", token_env="T")
    rollout = replace(spec.rollout, repository="https://git.example.com/a/b.git", pull_request=settings)
    ask = asker(replace(spec, rollout=rollout), {"T": TOKEN})
    assert ask is not None
    with pytest.raises(OutsideError, match="does not answer"):
        ask(REQUEST)


def test_without_a_host_people_open_theirs(spec: ModelSpec) -> None:
    assert asker(spec, {}) is None


@pytest.mark.parametrize(
    "address",
    [
        "https://git.example.com/platform/models.git",
        "https://somebody@git.example.com/platform/models",
        "https://git.example.com:8443/platform/models.git/",
        "ssh://git@git.example.com:22/platform/models.git",
        "git@git.example.com:platform/models.git",
    ],
)
def test_where_a_repository_is(address: str) -> None:
    assert place(address) == ("git.example.com", "platform/models")


def test_a_group_within_a_group() -> None:
    assert place("git@git.example.com:a/b/c.git") == ("git.example.com", "a/b/c")
    with pytest.raises(InputError):
        place("")
