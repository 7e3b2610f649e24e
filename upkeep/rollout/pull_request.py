"""Open a pull request for a branch, by GitHub's or GitLab's REST API, unless one is open already.

https://docs.github.com/en/rest/pulls/pulls, https://docs.gitlab.com/api/merge_requests/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from upkeep.errors import AccessError, InputError, OutsideError, UpkeepError, Where
from upkeep.serving.trust import trusted
from upkeep.spec.model import ModelSpec

SECONDS = 15.0
_ADDRESS = re.compile(r"^(?:\w+://)?(?:[^@/]+@)?(?P<host>[^:/]+)(?::\d+(?=/))?[:/]+(?P<path>.+?)(?:\.git)?/?$")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be merged."""

    branch: str
    into: str
    title: str
    body: str


class Ask(Protocol):
    """Opens a pull request; its page's address. The same again finds the one that is open.

    Raises an :class:`~upkeep.errors.UpkeepError` that says what to do.
    """

    def __call__(self, request: Request) -> str: ...


def asker(spec: ModelSpec, environ: Mapping[str, str]) -> Ask | None:
    """By the spec's ``rollout.pull_request``; None: it names no host, and people open theirs."""
    settings = spec.rollout.pull_request
    if not settings.host:
        return None
    kind = _GitHub if settings.host == "github" else _GitLab

    def ask(request: Request) -> str:
        token = environ.get(settings.token_env, "").strip()
        if not token:
            raise InputError(
                f"the environment variable {settings.token_env} is not set: no pull request can be opened",
                where=Where(field="rollout.pull_request"),
                fix="set it where the controller runs, from a Secret",
            )
        return kind(spec.rollout.repository, settings.api, token).open(request)

    return ask


def place(repository: str) -> tuple[str, str]:
    """(host, path) of a repository's address: ``https://…``, ``ssh://…`` or ``git@host:path``."""
    found = _ADDRESS.match(repository.strip())
    if not found:
        raise InputError(
            f"{repository!r} is no address of GitHub or GitLab",
            where=Where(field="rollout.repository"),
            fix="write https://host/owner/repository.git",
        )
    return found["host"], found["path"]


class _GitHub:
    name, exists = "GitHub", 422

    def __init__(self, repository: str, api: str, token: str) -> None:
        host, path = place(repository)
        root = api.rstrip("/") or ("https://api.github.com" if host == "github.com" else f"https://{host}/api/v3")
        self.url = f"{root}/repos/{quote(path)}/pulls"
        self.owner = path.partition("/")[0]
        self.headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {token}",
            "X-GitHub-Api-Version": "2022-11-28",
            "User-Agent": "upkeep",
        }

    def open(self, request: Request) -> str:
        query = {"head": f"{self.owner}:{request.branch}", "base": request.into, "state": "open"}
        body = {"title": request.title, "head": request.branch, "base": request.into, "body": request.body}
        return _opened(self, query, body, "html_url")


class _GitLab:
    name, exists = "GitLab", 409

    def __init__(self, repository: str, api: str, token: str) -> None:
        host, path = place(repository)
        root = api.rstrip("/") or f"https://{host}/api/v4"
        self.url = f"{root}/projects/{quote(path, safe='')}/merge_requests"
        self.headers = {"PRIVATE-TOKEN": token, "User-Agent": "upkeep"}

    def open(self, request: Request) -> str:
        query = {"source_branch": request.branch, "target_branch": request.into, "state": "opened"}
        body = {
            "source_branch": request.branch,
            "target_branch": request.into,
            "title": request.title,
            "description": request.body,
            "remove_source_branch": True,
        }
        return _opened(self, query, body, "web_url")


def _opened(host: Any, query: Mapping[str, str], body: Mapping[str, Any], link: str) -> str:
    """The open one's address, or a new one's."""
    for _ in range(2):
        standing = _ask(host, "GET", params=query)[1]
        if isinstance(standing, list) and standing:
            return str(standing[0][link])
        status, made = _ask(host, "POST", json=body)
        if status == 201:
            return str(made[link])
        # somebody opened one between the two requests: it is found now, or the answer said something else
    raise OutsideError(
        f"{host.name} opens no pull request ({status}): {_said(made)}",
        where=Where(file=host.url),
        fix="open it by hand: the branch is there",
    )


def _ask(host: Any, method: str, **given: Any) -> tuple[int, Any]:
    import httpx

    where = Where(file=host.url)
    try:
        answer = httpx.request(method, host.url, headers=host.headers, timeout=SECONDS, verify=trusted(), **given)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OutsideError(
            f"{host.name} does not answer: {error or type(error).__name__}", where=where, fix="it is tried again"
        ) from error
    try:
        value = answer.json()
    except ValueError:
        value = None
    status = answer.status_code
    if status in (200, 201) and isinstance(value, list | dict):
        return status, value
    if method == "POST" and status == host.exists:
        return status, value
    raise _refused(host, status, value, where)


def _refused(host: Any, status: int, value: Any, where: Where) -> UpkeepError:
    said = f"{host.name} refused ({status}): {_said(value)}"
    if status in (401, 403, 404):
        fix = "see `rollout.repository`, and that the token may read and open pull requests there"
        return AccessError(said, where=where, fix=fix)
    return OutsideError(said, where=where, fix="it is tried again; or open it by hand: the branch is there")


def _said(value: Any) -> str:
    if not isinstance(value, Mapping):
        return "no reason given"
    details = [each.get("message", "") for each in value.get("errors") or [] if isinstance(each, Mapping)]
    return " ".join(str(each) for each in (value.get("message"), *details) if each)[:300] or "no reason given"
