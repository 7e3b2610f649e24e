"""Requests to the API server by plain paths, and what its refusals mean in Upkeep's tree of errors."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from upkeep.errors import AccessError, ConflictError, OutsideError, RefusedError, UpkeepError, Where

MANAGER = "upkeep"
"""The field manager of Upkeep's other changes: requests to look now."""
BRAKE_MANAGER = "upkeep-brake"
"""The field manager of weights that are forced."""

_TRIES = 3
_FIRST_WAIT = 0.2
_LONGEST_WAIT = 5.0
_SECONDS = 10.0
_PAGE = 500
_BUSY = frozenset({429, 500, 502, 503, 504})
_NEVER = frozenset({400, 405, 413, 415, 422})


class MissingError(OutsideError):
    """404: the object, its kind or its namespace is not there."""


class GoneError(OutsideError):
    """410: what was read so far is too old to go on from."""


class Api:
    """Every request of it may be sent again: they are reads, applies and patches that say what shall be, and creations
    by name, of which the second is refused."""

    def __init__(
        self,
        client: Any,
        *,
        login: Callable[[], None] | None = None,
        tries: int = _TRIES,
        seconds: float = _SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """``client``: a ``kubernetes.client.ApiClient``; its own retries should be off.

        ``login`` reads the credentials anew: a service account's token is another one every hour, and one that ended
        is answered 401. ``tries``: of a request, at most, while the server is busy or away. ``seconds``: of a try, to
        connect and to answer. ``jitter`` (0 to 1) lengthens the wait between two tries by up to half, so that many
        controllers do not come back at once.
        """
        self._client = client
        self._login = login
        self._tries, self._seconds = tries, seconds
        self._sleep, self._jitter = sleep, jitter

    @property
    def place(self) -> str:
        """The server's address."""
        return str(self._client.configuration.host)

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """Raises :class:`MissingError` where it is not there."""
        return self._call("GET", path, query=query)

    def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        """All objects of a list, page by page; from the start again when a page became too old.

        Raises :class:`MissingError` where there is no such kind.
        """
        for _ in range(self._tries):
            found: list[dict[str, Any]] = []
            page = {"limit": str(_PAGE), **query}
            try:
                while True:
                    answer = self._call("GET", path, query=page)
                    found += answer.get("items") or []
                    more = (answer.get("metadata") or {}).get("continue")
                    if not more:
                        return found
                    page["continue"] = more
            except GoneError:
                continue
        raise OutsideError(
            "the list changes faster than it can be read", where=Where(self.place + path), fix="try again in a moment"
        )

    def apply(self, path: str, manifest: Mapping[str, Any], manager: str) -> dict[str, Any]:
        """Server-side apply, by force: ``manager`` owns the fields of ``manifest`` then, and no others of the object.

        The same again changes nothing.
        """
        query = {"fieldManager": manager, "force": "true"}
        return self._call("PATCH", path, query=query, body=manifest, kind="application/apply-patch+yaml")

    def patch(self, path: str, change: Mapping[str, Any]) -> dict[str, Any]:
        """A merge patch. Raises :class:`ConflictError` where it names a ``resourceVersion`` that is no more."""
        query = {"fieldManager": MANAGER}
        return self._call("PATCH", path, query=query, body=change, kind="application/merge-patch+json")

    def create(self, path: str, manifest: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """``path``: of all objects of the kind; with ``dry_run`` it is looked at as a real one, and not kept.

        Raises :class:`ConflictError` where one of the name is there.
        """
        query = {"fieldManager": MANAGER, **({"dryRun": "All"} if dry_run else {})}
        return self._call("POST", path, query=query, body=manifest)

    def delete(self, path: str) -> None:
        """Delete an object, and before it what it owns. Raises :class:`MissingError` where it is not there."""
        self._call("DELETE", path, query={"propagationPolicy": "Foreground"})

    def clock(self) -> datetime | None:
        """The server's time, by the Date of an answer: whole seconds; None: it says none."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            answer = self._client.call_api(
                "/version",
                "GET",
                query_params=[],
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=None,
                auth_settings=["BearerToken"],
                response_type="object",
                _return_http_data_only=False,
                _request_timeout=(self._seconds, self._seconds),
            )
            headers = answer[2] if isinstance(answer, tuple) else {}
        except ApiException as error:
            headers = error.headers or {}  # whatever it is, it came with a Date
        except (HTTPError, OSError):
            return None
        try:
            return parsedate_to_datetime(headers["Date"])
        except (KeyError, TypeError, ValueError):
            return None

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        kind: str = "application/json",
    ) -> dict[str, Any]:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        tried, login = 0, self._login
        while True:
            tried += 1
            wait = min(_FIRST_WAIT * 2 ** (tried - 1), _LONGEST_WAIT) * (1 + self._jitter() / 2)
            try:
                answer = self._client.call_api(
                    path,
                    method,
                    query_params=list((query or {}).items()),
                    header_params={"Accept": "application/json", "Content-Type": kind},
                    body=body,
                    auth_settings=["BearerToken"],
                    response_type="object",
                    _return_http_data_only=True,
                    _request_timeout=(self._seconds, self._seconds),
                )
            except ApiException as error:
                if error.status == 401 and login is not None:
                    login()
                    login = None  # once: then it is no matter of an old token
                    tried -= 1
                    continue
                if error.status not in _BUSY or tried >= self._tries:
                    raise _meaning(error, self.place + path) from error
                wait = _asked_wait(error, wait)
            except (HTTPError, OSError) as error:
                if tried >= self._tries:
                    raise OutsideError(
                        f"the API server does not answer: {error or type(error).__name__}",
                        where=Where(self.place),
                        fix="see whether `kubectl get --raw /readyz` answers with the same context",
                    ) from error
            else:
                if isinstance(answer, dict):
                    return answer
                raise OutsideError(
                    "what answers there is no Kubernetes API", where=Where(self.place + path), fix="see the kubeconfig"
                )
            self._sleep(wait)


def _asked_wait(error: Any, wait: float) -> float:
    """``Retry-After`` in seconds, within reason; ``wait`` where it says none."""
    try:
        return min(max(float((error.headers or {})["Retry-After"]), wait), _LONGEST_WAIT)
    except (KeyError, TypeError, ValueError):
        return wait


def _meaning(error: Any, place: str) -> UpkeepError:
    """What an ``ApiException`` is in Upkeep's tree."""
    status, where, said = error.status, Where(place), _said(error)
    if status == 401:
        return AccessError(
            f"the API server does not know who asks: {said}", where=where, fix="log in again, or renew the token"
        )
    if status == 403:
        return AccessError(
            f"no permission: {said}", where=where, fix="give the account the verbs of manifests/apps/rbac.yaml"
        )
    if status == 404:
        return MissingError(f"it is not there: {said}", where=where, fix="see the namespace, and what is installed")
    if status == 409:
        return ConflictError(f"somebody else changed it: {said}", where=where, fix="try again")
    if status == 410:
        return GoneError(f"too old to go on from: {said}", where=where, fix="try again")
    if status in _NEVER:
        return RefusedError(
            f"the API server will not take it ({status}): {said}",
            where=where,
            fix="see whether its kinds are of a version that Upkeep knows",
        )
    return OutsideError(f"the API server refused ({status}): {said}", where=where, fix="try again in a moment")


def _said(error: Any) -> str:
    """The sentence of a Kubernetes ``Status``, else the reason."""
    try:
        message = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        message = error.reason
    return str(message or error.status)[:300]
