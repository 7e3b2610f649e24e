"""Who is told what a rollout did: webhooks, each a POST with a JSON body, signed where the spec names a key.

A receiver may get the same event twice (the controller was killed after it told, and before it wrote that down): both
carry the same ``X-Upkeep-Delivery``.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from upkeep import records
from upkeep.errors import AccessError, InputError, OutsideError, UpkeepError, Where
from upkeep.rollout.analysis.ledger import News
from upkeep.rollout.state import State, moment
from upkeep.serving.trust import trusted
from upkeep.spec.model import Webhook

Kind = Literal["proposed", "moved", "promoted", "rolled_back", "held", "paused", "problem", "failing"]
SIGNATURE = "X-Upkeep-Signature"
DELIVERY = "X-Upkeep-Delivery"
ATTEMPTS = 3
TIMEOUT = 1.5
"""Seconds that one attempt may take."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """What is told."""

    kind: str
    """One of the spec's ``rollout.webhooks[].events``."""
    model: str
    rollout: str
    phase: str
    champion: str
    """The version."""
    canary: str | None
    weight: int
    """The canary's share by Git, per cent."""
    message: str
    """One plain sentence."""
    commit: str
    """The newest commit that it is about."""
    evidence: str | None
    """Digest of the evidence record that the state was decided on."""
    at: str
    """UTC, ISO 8601."""
    key: str
    """The same for the same news."""
    schema_version: int = 1

    @property
    def id(self) -> str:
        """The same for the same news, told again."""
        return records.digest(f"{self.model}\0{self.key}".encode())[:32]


class Post(Protocol):
    """Sends one event to one receiver. Raises an :class:`~upkeep.errors.UpkeepError` when it does not arrive."""

    def __call__(self, webhook: Webhook, event: Event) -> None: ...


def kind_of(before: State | None, after: State) -> Kind | None:
    """What a change of the state by others (a person's command, an update) is called; None: nothing of interest."""
    names: dict[str, Kind] = {
        "pending": "proposed",
        "step": "moved",
        "promoting": "moved",
        "succeeded": "promoted",
        "rolling_back": "rolled_back",
        "paused": "paused",
    }
    if before is None:
        return "proposed" if after.phase == "pending" else None
    if (after.phase, after.rollout, after.weight) == (before.phase, before.rollout, before.weight):
        return None
    return names.get(after.phase)


def event_of(news: News, model: str, state: State, commit: str, now: datetime) -> Event:
    return Event(
        kind=news.kind,
        model=model,
        rollout=state.rollout,
        phase=state.phase,
        champion=state.champion.version,
        canary=state.canary.version if state.canary else None,
        weight=state.weight,
        message=news.message,
        commit=commit,
        evidence=state.evidence,
        at=moment(now),
        key=news.key,
    )


def signature(key: bytes, body: bytes) -> str:
    """``sha256=…``: HMAC-SHA256 of the body (RFC 2104), as the header says it."""
    return "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()


def poster(environ: Mapping[str, str], sleep: Callable[[float], None] = time.sleep) -> Post:
    """Posts over HTTP, at most :data:`ATTEMPTS` times; the keys come from ``environ``."""

    def post(webhook: Webhook, event: Event) -> None:
        body = records.to_json(event)
        headers = {"Content-Type": "application/json", "User-Agent": "upkeep", DELIVERY: event.id}
        if webhook.secret_env:
            key = environ.get(webhook.secret_env, "")
            if not key:
                raise InputError(
                    f"the environment variable {webhook.secret_env} is not set, and an unsigned event is not sent",
                    where=Where(field="rollout.webhooks"),
                    fix="set it, or leave `secret_env` out",
                )
            headers[SIGNATURE] = signature(key.encode(), body)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _send(webhook.url, body, headers)
                return
            except OutsideError as error:
                if not error.retry or attempt == ATTEMPTS:
                    raise
                sleep(0.25 * 2**attempt)

    return post


def _send(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    import httpx

    where = Where(file=_without_secrets(url), field="rollout.webhooks")
    try:
        answer = httpx.post(url, content=body, headers=dict(headers), timeout=TIMEOUT, verify=trusted())
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OutsideError(
            f"the receiver does not answer: {type(error).__name__}", where=where, fix="see that it runs"
        ) from error
    if answer.status_code >= 500 or answer.status_code in (408, 429):
        raise OutsideError(f"the receiver answered {answer.status_code}", where=where, fix="look at the receiver")
    if answer.status_code >= 300:
        raise AccessError(
            f"the receiver refused the event ({answer.status_code})", where=where, fix="see its address and its key"
        )


def _without_secrets(url: str) -> str:
    """Scheme and host: the rest of a webhook's address often is a token."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}/…"


def tell(webhooks: tuple[Webhook, ...], event: Event, post: Post) -> list[UpkeepError]:
    """Tell everyone who asked for this kind; what went wrong, which stops nobody else."""
    wrong = []
    for webhook in webhooks:
        if event.kind in webhook.events:
            try:
                post(webhook, event)
            except UpkeepError as error:
                wrong.append(error)
    return wrong
