"""Kubernetes, with KServe, Gateway API and a syncer: :class:`~upkeep.serving.cluster.Cluster` by the API server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from upkeep.errors import AccessError, ConflictError, OutsideError, UpkeepError, Where
from upkeep.serving.cluster import Facts, Live, Probe
from upkeep.serving.drivers import driver_of
from upkeep.serving.drivers.knative import tagged_url
from upkeep.serving.kubernetes import paths
from upkeep.serving.kubernetes.api import BRAKE_MANAGER, Api, MissingError
from upkeep.serving.kubernetes.brake import braked_path, forced, is_braked, let_go
from upkeep.serving.kubernetes.events import Happening, record
from upkeep.serving.kubernetes.syncer import Syncer, applied, nudges, syncer_of
from upkeep.serving.manifests import MODEL_LABEL, gateway, host
from upkeep.serving.probe import ask
from upkeep.spec.model import ModelSpec

KSERVE_NAMESPACE = "kserve"

_TRIES = 5
_SEMANTIC = re.compile(r":v?(\d+)\.(\d+)\.(\d+)(?:[-+.\w]*)?(?:@.*)?$")


class KubernetesCluster:
    """It keeps nothing: any number of processes may have one."""

    def __init__(
        self,
        api: Api,
        *,
        place: str = "",
        address: str = "",
        kserve_namespace: str = KSERVE_NAMESPACE,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``place``: the cluster's name, for people. ``address``: where the gateway answers (``http://…``); empty: what
        the Gateway's status says."""
        self._api = api
        self._place = place or api.place
        self._address = address.rstrip("/")
        self._kserve_namespace = kserve_namespace
        self._now = now

    @property
    def api(self) -> Api:
        """What it asks."""
        return self._api

    @property
    def kserve_namespace(self) -> str:
        return self._kserve_namespace

    def syncer(self, spec: ModelSpec) -> Syncer | None:
        """Who applies the model's folder: whom the spec names, or the live objects; None: nobody says."""
        return syncer_of(spec, () if spec.rollout.synced_by else self._services(spec))

    # --- read ------------------------------------------------------------------------------------------------------

    def live(self, spec: ModelSpec) -> Live:
        at = self._now()
        services = self._services(spec)
        # Before the routes: weights that are read later are at least those of the commit.
        commit, message = self._applied(spec, services)
        routes = self._routes(spec)
        traffic = driver_of(spec).live(spec, [*services, *routes])
        dividing = braked_path(spec).rpartition("/")[2]
        kind = "HTTPRoute" if spec.serving.traffic == "route" else "InferenceService"
        return Live(
            weights=traffic.weights,
            services=traffic.services,
            commit=commit,
            at=at,
            braked=any(
                is_braked(each)
                for each in (*services, *routes)
                if each["kind"] == kind and each["metadata"]["name"] == dividing
            ),
            message=message,
        )

    def probe(self, spec: ModelSpec, version: str, rows: Sequence[Mapping[str, Any]]) -> Probe:
        if spec.serving.traffic == "knative":
            # It pins nobody by a header; each tagged revision has an address of its own.
            url = urlsplit(
                tagged_url(self._api.get(paths.path(paths.SERVICES, spec.serving.namespace, spec.name)), version)
            )
            if not url.netloc:
                return Probe(ok=False, status=None, message=f"{version} has no address of its own (yet)")
            return ask(self._address or f"{url.scheme}://{url.netloc}", url.netloc, spec, version, rows)
        return ask(self._address or self._gateway_address(spec), host(spec), spec, version, rows)

    def facts(self, spec: ModelSpec) -> Facts:
        known = self._unless_unknown(self._kserve_config)
        mode = _section(known, "deploy").get("defaultDeploymentMode")
        on = _section(known, "ingress").get("enableGatewayApi")
        return Facts(
            place=self._place,
            kserve=self._unless_unknown(self._kserve_version),
            mode=mode if isinstance(mode, str) else None,
            gateway_api=on if isinstance(on, bool) else None,
            http_routes=self._has(paths.path(paths.ROUTES, spec.serving.namespace)),
            knative=self._has(paths.path(paths.KNATIVE_SERVICES, spec.serving.namespace)),
            runtime_formats=self._unless_unknown(lambda: self._formats(spec)),
        )

    # --- change ----------------------------------------------------------------------------------------------------

    def refresh(self, spec: ModelSpec) -> None:
        try:
            syncer = syncer_of(spec, self._services(spec))
            if syncer is not None:
                for path, patch in nudges(syncer, self._api.get(syncer.path), self._now()):
                    self._api.patch(path, patch)
        except UpkeepError:
            # Without it a commit waits for the syncer's next look, and `live` says whatever is wrong.
            return

    def brake(self, spec: ModelSpec, weights: Mapping[str, int]) -> None:
        if sum(weights.values()) != 100 or min(weights.values()) < 0:
            raise ValueError(f"weights must be per cent and sum to 100: {dict(weights)}")
        path = braked_path(spec)
        self._api.apply(path, forced(spec, self._api.get(path), weights), BRAKE_MANAGER)

    def release(self, spec: ModelSpec) -> None:
        path = braked_path(spec)
        for _ in range(_TRIES):
            try:
                standing = self._api.get(path)
                if not is_braked(standing):
                    return
                self._api.patch(path, let_go(standing))
            except MissingError:
                return
            except ConflictError:
                continue  # somebody wrote it meanwhile: look again
            self.refresh(spec)
            return
        raise ConflictError(
            f"the weights could not be let go: somebody changed them {_TRIES} times meanwhile",
            where=Where(path),
            fix="see who writes it: `kubectl get --show-managed-fields`",
        )

    def record(self, spec: ModelSpec, happening: Happening) -> None:
        """Write what happened on the objects it is about, for ``kubectl describe``."""
        record(self._api, spec, happening)

    # --- how -------------------------------------------------------------------------------------------------------

    def _services(self, spec: ModelSpec) -> list[dict[str, Any]]:
        path = paths.path(paths.SERVICES, spec.serving.namespace)
        try:
            return self._api.items(path, labelSelector=f"{MODEL_LABEL}={spec.name}")
        except MissingError as error:
            raise OutsideError(
                f"{self._place} knows no InferenceService", where=Where(path), fix="install KServe"
            ) from error

    def _routes(self, spec: ModelSpec) -> list[dict[str, Any]]:
        if spec.serving.traffic == "knative":
            return []
        try:
            return self._api.items(paths.path(paths.ROUTES, spec.serving.namespace))
        except MissingError:
            return []  # no Gateway API: `facts` says so

    def _applied(self, spec: ModelSpec, services: Sequence[Mapping[str, Any]]) -> tuple[str | None, str]:
        syncer: Syncer | None = syncer_of(spec, services)
        if syncer is None:
            return None, ""
        try:
            return applied(syncer, self._api.get(syncer.path))
        except MissingError:
            return None, f"{syncer} is not there"
        except AccessError as error:
            return None, f"{syncer} may not be read: {error.problems[0].message}"

    def _gateway_address(self, spec: ModelSpec) -> str:
        """By the Gateway's status and its first listener for HTTP."""
        wanted = gateway(spec)
        path = paths.path(paths.GATEWAYS, wanted["namespace"], wanted["name"])
        found = self._api.get(path)
        addresses = [each["value"] for each in (found.get("status") or {}).get("addresses") or [] if each.get("value")]
        listeners = (found.get("spec") or {}).get("listeners") or []
        ports = [each["port"] for each in listeners if each.get("protocol") == "HTTP"]
        if not addresses or not ports:
            missing = "no address" if not addresses else "no listener for HTTP"
            raise OutsideError(
                f"the Gateway {wanted['namespace']}/{wanted['name']} has {missing}",
                where=Where(path),
                fix="wait until it is programmed, or name the address in UPKEEP_GATEWAY",
            )
        address = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
        return f"http://{address}:{ports[0]}"

    def _has(self, path: str) -> bool | None:
        try:
            self._api.get(path, limit="1")
        except MissingError:
            return False
        except AccessError:
            return None
        return True

    def _unless_unknown(self, read: Callable[[], Any]) -> Any:
        """None where it is not there, or may not be read."""
        try:
            return read()
        except (MissingError, AccessError):
            return None

    def _kserve_config(self) -> Mapping[str, Any]:
        path = paths.path(paths.CONFIG_MAPS, self._kserve_namespace, "inferenceservice-config")
        return self._api.get(path).get("data") or {}

    def _kserve_version(self) -> tuple[int, int, int] | None:
        path = paths.path(paths.DEPLOYMENTS, self._kserve_namespace, "kserve-controller-manager")
        pod = self._api.get(path)["spec"]["template"]["spec"]
        for container in pod.get("containers") or []:
            found = _SEMANTIC.search(str(container.get("image", "")))
            if container.get("name") == "manager" and found:
                return int(found[1]), int(found[2]), int(found[3])
        return None

    def _formats(self, spec: ModelSpec) -> frozenset[str]:
        name = spec.serving.runtime
        try:
            runtime = self._api.get(paths.path(paths.RUNTIMES, spec.serving.namespace, name))
        except MissingError:
            runtime = self._api.get(paths.path(paths.CLUSTER_RUNTIMES, "", name))
        return frozenset(str(each["name"]) for each in runtime["spec"].get("supportedModelFormats") or [])


def _section(config: Mapping[str, Any] | None, key: str) -> Mapping[str, Any]:
    """A JSON text of KServe's ConfigMap; empty where it is none."""
    try:
        found = json.loads((config or {}).get(key, "{}"))
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, Mapping) else {}
