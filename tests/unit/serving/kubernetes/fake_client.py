"""A ``kubernetes.client.ApiClient`` that answers from a table, and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    kind: str
    body: Any


class FakeClient:
    """``answers``: path → an answer, an exception, or a list of them, one a request. What is not there is 404."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)
        self.asked: list[Asked] = []
        self.configuration = SimpleNamespace(host="https://kube")

    def call_api(self, path: str, method: str, **given: Any) -> Any:
        kind = given["header_params"]["Content-Type"]
        self.asked.append(Asked(method, path, dict(given["query_params"]), kind, given["body"]))
        answer = self.answers.get(path, refusal(404))
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def refusal(status: int, message: str = "", headers: Mapping[str, str] | None = None) -> Exception:
    from kubernetes.client.exceptions import ApiException

    error = ApiException(status=status, reason="reason")
    error.body = json.dumps({"kind": "Status", "message": message}) if message else "no JSON"
    error.headers = headers
    return error
