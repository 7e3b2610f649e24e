"""The one-machine cluster as a rollout sees it: :class:`~upkeep.serving.cluster.Cluster` by its folder."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from upkeep.errors import OutsideError, Where
from upkeep.serving.cluster import Facts, Live, Probe, ServiceStatus
from upkeep.serving.local.ask import read_status, running_gateway
from upkeep.serving.local.envoy import LOOPBACK, read_routes
from upkeep.serving.local.folder import Folder
from upkeep.serving.local.wanted import FACTS
from upkeep.serving.manifests import DIGEST_ANNOTATION, VERSION_ANNOTATION
from upkeep.serving.probe import ask
from upkeep.spec.model import ModelSpec

_BRAKE_SECONDS = 5.0
_POLL = 0.02


class LocalCluster:
    """A client: any process of the same user may have one, beside the daemon that serves."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def facts(self, spec: ModelSpec) -> Facts:  # noqa: ARG002 - the same for every model
        return FACTS

    def live(self, spec: ModelSpec) -> Live:
        state = self._state(spec)
        dump = running_gateway(self._folder).get("/config_dump", {"resource": "dynamic_route_configs"})
        weights = read_routes(dump).get(spec.name)
        services = [_service(each) for each in state["services"] if not each["upkeep"]["leaving"]]
        return Live(
            weights=weights if weights and sum(weights.values()) == 100 else None,
            services={service.version: service for service in services},
            commit=state["commit"],
            at=datetime.now(UTC),
            braked=state["braked"],
            message="; ".join(state["problems"]),
        )

    def probe(self, spec: ModelSpec, version: str, rows: Sequence[Mapping[str, Any]]) -> Probe:
        host = next(iter(self._state(spec)["hosts"]), "")
        return ask(f"http://{LOOPBACK}:{running_gateway(self._folder).port}", host, spec, version, rows)

    def refresh(self, spec: ModelSpec) -> None:  # noqa: ARG002 - one folder has one daemon for all its models
        self._folder.write_wake()

    def brake(self, spec: ModelSpec, weights: Mapping[str, int]) -> None:
        if sum(weights.values()) != 100 or min(weights.values()) < 0:
            raise ValueError(f"weights must be per cent and sum to 100: {dict(weights)}")
        if not self._folder.brakes.is_dir():
            self._state(spec)  # says that no cluster runs here
        # Also for a daemon that is down: it obeys when it is back.
        self._folder.write_brake(spec.name, weights)
        self._await(spec, braked=True)

    def release(self, spec: ModelSpec) -> None:
        if self._folder.read_brake(spec.name) is None:
            return
        self._folder.write_brake(spec.name, None)
        self._await(spec, braked=False)

    def _await(self, spec: ModelSpec, *, braked: bool) -> None:
        """Until the daemon has done it."""
        before = str(self._folder.read_brake(spec.name))
        for _ in range(int(_BRAKE_SECONDS / _POLL)):
            state = self._state(spec)
            if state["braked"] == braked and str(state["brake"]) == before:
                return
            time.sleep(_POLL)
        raise OutsideError(
            f"the weights were not {'forced' if braked else 'let go'} within {_BRAKE_SECONDS:g} s",
            where=Where(str(self._folder.status)),
            fix="see `upkeep status`",
        )

    def _state(self, spec: ModelSpec) -> dict[str, Any]:
        """What the daemon says of the model, if it lives."""
        status = read_status(self._folder)
        state: dict[str, Any] | None = status["models"].get(spec.name)
        if state is None:
            raise OutsideError(
                f"the cluster that runs here does not serve {spec.name}, but {', '.join(status['models'])}",
                where=Where(str(self._folder.root)),
                fix="`upkeep down`, then `upkeep up` with this spec too",
            )
        return state


def _service(item: Mapping[str, Any]) -> ServiceStatus:
    """One InferenceService's status, read as a rollout must: Ready alone is not enough."""
    status = item["status"]
    ready = next(condition for condition in status["conditions"] if condition["type"] == "Ready")
    transition = status["modelStatus"]["transitionStatus"]
    annotations = item["metadata"]["annotations"]
    return ServiceStatus(
        version=annotations[VERSION_ANNOTATION],
        digest=annotations[DIGEST_ANNOTATION],
        ready=ready["status"] == "True" and transition == "UpToDate",
        message=ready["message"],
        refused=transition == "BlockedByFailedLoad",
    )
