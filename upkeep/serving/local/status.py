"""``status.json``: what runs and serves. Each service has the shape of KServe's InferenceService. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from upkeep.errors import Problem
from upkeep.serving.manifests import DIGEST_ANNOTATION, VERSION_ANNOTATION


@dataclass(frozen=True, kw_only=True)
class ServiceState:
    """One version's server."""

    version: str
    digest: str
    service: str
    ready: bool
    refused: bool
    message: str
    since: datetime
    restarts: int
    pid: int | None
    port: int | None
    leaving: bool = False
    """Git does not name it any more; it answers what is under way."""


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """One model."""

    model: str
    namespace: str
    looked: bool
    """Its repository was read since the cluster is up."""
    commit: str | None
    """The commit that is applied."""
    hosts: tuple[str, ...]
    git_weights: Mapping[str, int]
    """By Git; empty: nothing is released."""
    weights: Mapping[str, int]
    """As the gateway was told."""
    brake: Mapping[str, int] | None
    """The forced weights that are obeyed; None: nothing is forced."""
    problems: tuple[Problem, ...]
    """Why the newest commit is not applied, or not wholly."""
    services: tuple[ServiceState, ...]


class Condition(TypedDict):
    type: str
    status: str
    reason: str
    message: str
    lastTransitionTime: str


def cluster_status(models: Sequence[ModelState], *, pid: int, gateway: str, at: datetime) -> dict[str, Any]:
    """The file's content; ``gateway`` is the address that clients use, empty while there is none."""
    return {
        "at": _time(at),
        "pid": pid,
        "gateway": gateway,
        "models": {each.model: _model(each, gateway) for each in models},
    }


def _model(state: ModelState, gateway: str) -> dict[str, Any]:
    return {
        "looked": state.looked,
        "commit": state.commit,
        "hosts": list(state.hosts),
        "weights": dict(state.weights),
        "git_weights": dict(state.git_weights),
        "braked": state.brake is not None,
        "brake": None if state.brake is None else dict(state.brake),
        "problems": [str(problem) for problem in state.problems],
        "services": [_service(each, state, gateway) for each in state.services],
    }


def _service(service: ServiceState, model: ModelState, gateway: str) -> dict[str, Any]:
    """An InferenceService; what KServe has no place for stands below ``upkeep``."""
    if service.ready:
        transition, active = "UpToDate", "Loaded"
    elif service.refused:
        transition, active = "BlockedByFailedLoad", "FailedToLoad"
    else:
        transition, active = "InProgress", "Loading"
    conditions: list[Condition] = [
        {
            "type": kind,
            "status": str(service.ready),
            "reason": "" if service.ready else "ServerNotReady",
            "message": service.message,
            "lastTransitionTime": _time(service.since),
        }
        for kind in ("PredictorReady", "Ready")
    ]
    failed = {"lastFailureInfo": {"message": service.message, "reason": "ModelLoadFailed"}} if service.refused else {}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": service.service,
            "namespace": model.namespace,
            "annotations": {VERSION_ANNOTATION: service.version, DIGEST_ANNOTATION: service.digest},
        },
        "status": {
            "url": gateway,
            "conditions": conditions,
            "modelStatus": {
                "transitionStatus": transition,
                "states": {"activeModelState": active, "targetModelState": active},
                **failed,
            },
        },
        "upkeep": {
            "pid": service.pid,
            "port": service.port,
            "restarts": service.restarts,
            "leaving": service.leaving,
        },
    }


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
