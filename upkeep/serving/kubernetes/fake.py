"""A small API server in memory, for tests of what runs on Kubernetes, yours too.

::

    server = FakeKubernetes()
    api = Api(server.client())

What it does as a real one: objects by path, ``resourceVersion`` and ``uid``, 404 and 409, optimistic concurrency by a
``resourceVersion`` in a patch or a PUT, a patch that changes nothing keeps the version, lists by ``labelSelector`` page
by page with ``410 Gone`` for a page that is too old, SelfSubjectAccessReview by :attr:`FakeKubernetes.allowed`.

What it does not do: no schema, default or admission; any kind and any namespace is there; fields have no owners, so an
apply is a merge that may create, and never conflicts; no subresource, no watch, no garbage collection, and no event
ends. Where those matter, ask a real one: ``make test-cluster``.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

_REASONS = {400: "BadRequest", 404: "NotFound", 405: "MethodNotAllowed", 409: "Conflict", 410: "Expired"}


class FakeKubernetes:
    """The server. Several clients, from several threads, may share it."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        """Path → object; to be looked at, not changed."""
        self.asked: list[tuple[str, str]] = []
        """(method, path) of every request that came in."""
        self.allowed: Callable[[Mapping[str, Any]], bool] = lambda attributes: True  # noqa: ARG005
        """Answers a SelfSubjectAccessReview's ``resourceAttributes``."""
        self.before: Callable[[str, str], None] = lambda method, path: None  # noqa: ARG005
        """Called with (method, path) as a request comes in; may raise what a client would, as :func:`refusal` makes
        it."""
        self.after: Callable[[str, str], None] = lambda method, path: None  # noqa: ARG005
        """The same when it is done and the answer is on its way: what it raises is an answer that was lost."""
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        """The server's clock."""
        self._version = 0
        self._oldest_page = 0
        self._lock = threading.Lock()

    def client(self) -> Any:
        """What :class:`~upkeep.serving.kubernetes.api.Api` takes in place of a ``kubernetes.client.ApiClient``."""
        return SimpleNamespace(call_api=self._call, configuration=SimpleNamespace(host="https://fake-kubernetes"))

    def expire_pages(self) -> None:
        """Every list that is being read page by page is too old from now on."""
        with self._lock:
            self._version += 1
            self._oldest_page = self._version

    def _call(self, path: str, method: str, **given: Any) -> Any:
        self.before(method, path)
        query, body = dict(given.get("query_params") or ()), copy.deepcopy(given.get("body"))
        kind = (given.get("header_params") or {}).get("Content-Type", "")
        with self._lock:
            self.asked.append((method, path))
            answer = copy.deepcopy(self._answer(method, path, query, kind, body))
        self.after(method, path)
        if given.get("_return_http_data_only", True):
            return answer
        return answer, 200, {"Date": format_datetime(self.now(), usegmt=True)}

    def _answer(self, method: str, path: str, query: Mapping[str, str], kind: str, body: Any) -> Any:
        if (method, path) == ("GET", "/version"):
            return {"gitVersion": "v1.34.0"}
        if method == "GET":
            return self._one(path) if _is_one(path) else self._list(path, query)
        if method == "POST" and path.endswith("/selfsubjectaccessreviews"):
            return {**body, "status": {"allowed": bool(self.allowed(body["spec"]["resourceAttributes"]))}}
        if method == "POST":
            name = self._new_name(path, body)
            return body if query.get("dryRun") else self._put(f"{path}/{name}", body, None)
        if method == "DELETE":
            found = self._one(path)
            del self.objects[path]
            return found
        if method == "PUT":
            return self._put(path, body, self._standing(path, body))
        if method == "PATCH" and kind == "application/apply-patch+yaml":
            before = self.objects.get(path)
            return self._put(path, _merged(before or {}, body), before)
        if method == "PATCH" and kind == "application/merge-patch+json":
            before = self._standing(path, body)
            return self._put(path, _merged(before, body), before)
        raise refusal(405, f"{method} with {kind} is not known here")

    def _one(self, path: str) -> dict[str, Any]:
        if path not in self.objects:
            raise refusal(404, f"{path} not found")
        return self.objects[path]

    def _new_name(self, path: str, body: Mapping[str, Any]) -> str:
        name = str((body.get("metadata") or {}).get("name") or "")
        if not name:
            raise refusal(400, "an object needs a name")
        if f"{path}/{name}" in self.objects:
            raise refusal(409, f"{path}/{name} already exists")
        return name

    def _standing(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        before = self._one(path)
        wanted = (body.get("metadata") or {}).get("resourceVersion")
        if wanted is not None and wanted != before["metadata"]["resourceVersion"]:
            raise refusal(409, f"{path}: the object has been modified")
        return before

    def _put(self, path: str, body: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
        made = json.loads(json.dumps(body))
        metadata = made.setdefault("metadata", {})
        metadata.setdefault("name", path.rpartition("/")[2])
        metadata["uid"] = before["metadata"]["uid"] if before else str(uuid4())
        metadata["resourceVersion"] = before["metadata"]["resourceVersion"] if before else ""
        if made != before:
            self._version += 1
            metadata["resourceVersion"] = str(self._version)
            self.objects[path] = made
        return self.objects[path]

    def _list(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        if {*query} - {"limit", "continue", "labelSelector"}:
            raise refusal(400, f"a list knows limit, continue and labelSelector, not {', '.join(query)}")
        begin, since = 0, self._version
        if "continue" in query:
            begin, since = map(int, query["continue"].split("/"))
            if since < self._oldest_page:
                raise refusal(410, "the provided continue parameter is too old")
        labels = dict(pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair)
        found = [
            each
            for where, each in sorted(self.objects.items())
            if path in (where.rpartition("/")[0], _everywhere(where))
            and labels.items() <= (each["metadata"].get("labels") or {}).items()
        ]
        end = begin + int(query.get("limit", 0) or len(found))
        more = {"continue": f"{end}/{since}"} if end < len(found) else {}
        return {"items": found[begin:end], "metadata": {"resourceVersion": str(self._version), **more}}


def refusal(status: int, message: str = "", headers: Mapping[str, str] | None = None) -> Exception:
    """What a client raises where the API server answers ``status``."""
    from kubernetes.client.exceptions import ApiException

    error = ApiException(status=status, reason=_REASONS.get(status, "InternalError"))
    error.body = json.dumps({"kind": "Status", "code": status, "message": message or error.reason})
    error.headers = dict(headers or {})
    made: Exception = error
    return made


def _is_one(path: str) -> bool:
    """Whether a path names one object, or all of a kind: by the number of its parts."""
    parts = path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    inside = rest[:1] == ["namespaces"] and len(rest) > 2
    if len(rest) not in ((3, 4) if inside else (1, 2)):
        raise refusal(404, f"{path}: there are no subresources here")
    return len(rest) == (4 if inside else 2)


def _everywhere(path: str) -> str:
    """Of an object's path: that of all of its kind, in all namespaces."""
    root, inside, rest = path.partition("/namespaces/")
    return f"{root}/{rest.split('/')[1]}" if inside and rest.count("/") == 2 else ""


def _merged(standing: Any, change: Any) -> Any:
    """RFC 7386."""
    if not isinstance(change, Mapping):
        return change
    made = dict(standing) if isinstance(standing, Mapping) else {}
    for key, value in change.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = _merged(made.get(key), value)
    return made
