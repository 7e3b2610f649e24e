"""What a rollout did, as Kubernetes Events on the objects it is about: ``kubectl describe`` shows them.

An Event is named by the news it tells, so the same news, told again after a crash, is there once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from upkeep.errors import ConflictError
from upkeep.serving.kubernetes.api import Api, MissingError
from upkeep.serving.kubernetes.brake import braked_path
from upkeep.serving.kubernetes.paths import EVENTS, SERVICES, path
from upkeep.serving.manifests import service_name
from upkeep.spec.model import ModelSpec

REPORTER = "upkeep-rollout-controller"
LONGEST = 1024
"""Characters of a message that the API server takes."""

REASONS = {
    "proposed": "CanaryProposed",
    "moved": "CanaryMoved",
    "promoted": "CanaryPromoted",
    "rolled_back": "CanaryTakenBack",
    "held": "RolloutHeld",
    "paused": "RolloutPaused",
    "problem": "RolloutProblem",
    "failing": "CanaryFailing",
}
WARNINGS = frozenset({"rolled_back", "held", "problem", "failing"})


@dataclass(frozen=True, kw_only=True)
class Happening:
    """A piece of news, as far as Kubernetes cares."""

    kind: str
    """One of :data:`REASONS`."""
    message: str
    key: str
    """The same for the same news."""
    at: str
    """UTC, ISO 8601, whole seconds."""
    version: str | None
    """The canary that it is about."""


def record(api: Api, spec: ModelSpec, happening: Happening) -> None:
    """Write it on what divides the model's traffic, and on its canary's service where that is another object.

    What is not there (any more) has no Events. Raises the errors of :class:`Api`.
    """
    about = [braked_path(spec)]
    if spec.serving.traffic == "route" and happening.version is not None:
        about.append(path(SERVICES, spec.serving.namespace, service_name(spec.name, happening.version)))
    for where in about:
        try:
            standing = api.get(where)
            api.create(path(EVENTS, spec.serving.namespace), event(standing, happening))
        except MissingError:
            continue
        except ConflictError:
            continue  # it was told before


def event(standing: Mapping[str, Any], happening: Happening) -> dict[str, Any]:
    """The Event on ``standing``. Pure."""
    metadata = standing["metadata"]
    name, namespace = metadata["name"], metadata.get("namespace", "")
    told = hashlib.sha256(f"{metadata.get('uid', '')}\0{happening.key}".encode()).hexdigest()[:16]
    message = happening.message
    return {
        "apiVersion": EVENTS[0],
        "kind": "Event",
        "metadata": {"name": f"{name}.{told}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": standing["apiVersion"],
            "kind": standing["kind"],
            "name": name,
            "namespace": namespace,
            "uid": metadata.get("uid", ""),
            "resourceVersion": metadata.get("resourceVersion", ""),
        },
        "reason": REASONS[happening.kind],
        "message": message if len(message) <= LONGEST else message[: LONGEST - 1] + "…",
        "type": "Warning" if happening.kind in WARNINGS else "Normal",
        "source": {"component": REPORTER},
        "reportingComponent": REPORTER,
        "firstTimestamp": happening.at,
        "lastTimestamp": happening.at,
        "count": 1,
    }
