"""``canary``: one InferenceService a model, the challenger in KServe's ``spec.canary[]``.

KServe makes a Deployment and a Service for each named predictor, and divides the traffic in an HTTPRoute of its own,
called like the model. The champion's predictor is named too, from the start: promotion makes the canary's name the
predictor's, and KServe then keeps its pods. A small route of ours pins testers to a version.

Needs a KServe later than 0.20.0 (which takes ``spec.canary`` and gives it no traffic) in Standard mode, with Gateway
API on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from upkeep.errors import Problem
from upkeep.serving.cluster import Facts
from upkeep.serving.document import Document, write
from upkeep.serving.drivers.driver import (
    Deployed,
    LiveTraffic,
    Manifest,
    only_elsewhere,
    refusal,
    service_status,
    status_of,
)
from upkeep.serving.drivers.single import SERVICE_FILE, live_digests, read_single, single_kustomization, single_service
from upkeep.serving.manifests import (
    KUSTOMIZATION_FILE,
    MODE_ANNOTATION,
    VERSION_HEADER,
    ServedVersion,
    gateway,
    host,
    labels,
    predictor,
    route_rule,
    version_number,
)
from upkeep.spec.model import ModelSpec

PIN_FILE = "pin.yaml"
FIRST_GOOD = (0, 20, 1)


class CanaryDriver:
    """:class:`~upkeep.serving.drivers.driver.TrafficDriver` by ``spec.canary[]``."""

    name = "canary"
    weights_file = SERVICE_FILE

    def owns(self, name: str) -> bool:
        return name in (SERVICE_FILE, PIN_FILE, KUSTOMIZATION_FILE)

    def files(
        self,
        spec: ModelSpec,
        versions: Mapping[str, ServedVersion],
        champion: str,
        weights: Mapping[str, int],
        standing: Mapping[str, bytes],  # noqa: ARG002 (nothing in these files is a person's)
    ) -> dict[str, bytes]:
        others = [version for version in sorted(versions, key=version_number) if version != champion]
        body: dict[str, Any] = {"predictor": {"name": champion, **predictor(spec, versions[champion])}}
        if others:
            body["canary"] = [
                {"trafficPercent": weights[version], "predictor": _canary(spec, versions[version])}
                for version in others
            ]
        service = single_service(spec, versions, body, {MODE_ANNOTATION: "Standard"})
        pin = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": pin_name(spec.name), "namespace": spec.serving.namespace, "labels": labels(spec)},
            "spec": {
                "parentRefs": [gateway(spec)],
                "hostnames": [host(spec)],
                "rules": [
                    route_rule({version: 1}, spec.name, pinned=version)
                    for version in sorted(versions, key=version_number)
                ],
            },
        }
        return {
            KUSTOMIZATION_FILE: single_kustomization(SERVICE_FILE, PIN_FILE),
            SERVICE_FILE: write(service, "Written by Upkeep: the champion, and who else gets how much, in per cent."),
            PIN_FILE: write(pin, f"Written by Upkeep: pins a request with the header {VERSION_HEADER} to one version."),
        }

    def read(self, spec: ModelSpec, files: Mapping[str, bytes], prefix: str = "") -> Deployed:
        document, versions = read_single(spec, files, prefix, SERVICE_FILE, PIN_FILE)
        body = document.value["spec"]
        weights = {_named(document, body.get("predictor"), versions, "spec", "predictor"): 100}
        champion = next(iter(weights))
        for index, entry in enumerate(body.get("canary") or []):
            path = ("spec", "canary", index)
            percent = entry.get("trafficPercent")
            if not isinstance(percent, int) or isinstance(percent, bool) or not 0 <= percent <= 100:
                raise document.problem("a weight is a whole number of per cent, 0 to 100", *path, "trafficPercent")
            version = _named(document, entry.get("predictor"), versions, *path, "predictor")
            if version in weights:
                raise document.problem(f"{version} is here twice", *path, "predictor", "name")
            weights[version] = percent
            weights[champion] -= percent
        if weights[champion] < 0:
            raise document.problem("the canaries' weights sum to more than 100", "spec", "canary")
        if set(weights) != set(versions):
            raise document.problem("the annotations name other versions than the spec", "metadata", "annotations")
        return Deployed(versions=versions, weights={version: weights[version] for version in versions})

    def live(self, spec: ModelSpec, objects: Sequence[Manifest]) -> LiveTraffic:
        services, weights = {}, None
        for each in objects:
            if each["metadata"]["name"] != spec.name:
                continue
            if each["kind"] == "InferenceService":
                services = _services(each)
            elif each["kind"] == "HTTPRoute":
                # Real weights stand here alone: `canaryStatuses[].trafficPercent` repeats the spec.
                weights = _live_weights(spec, each)
        return LiveTraffic(weights=weights, services=services)

    def refusals(self, spec: ModelSpec, facts: Facts) -> tuple[Problem, ...]:  # noqa: ARG002
        found = list(only_elsewhere(self.name, facts))
        if facts.kserve is not None and facts.kserve < FIRST_GOOD:
            version = ".".join(map(str, facts.kserve))
            found.append(
                refusal(
                    f"KServe {version} says that a canary is ready and sends it no traffic",
                    "use a KServe later than 0.20.0, or `traffic: route`",
                )
            )
        if facts.mode in ("Knative", "Serverless"):
            found.append(
                refusal("KServe refuses `spec.canary` outside Standard mode", "use `traffic: knative` in that mode")
            )
        if facts.gateway_api is False:
            found.append(
                refusal(
                    "KServe's `enableGatewayApi` is off: its route would divide nothing",
                    "turn it on in the ConfigMap inferenceservice-config, or use `traffic: route`",
                )
            )
        return tuple(found)


def pin_name(model: str) -> str:
    return f"{model}-pin"


def _canary(spec: ModelSpec, served: ServedVersion) -> dict[str, Any]:
    """KServe takes no autoscaling for a canary: a fixed number of replicas, never none.

    Its CRD asks for the container's name here, and defaults it for ``spec.predictor`` alone.
    """
    made = predictor(spec, served)
    del made["maxReplicas"]
    made["model"] = {"name": "kserve-container", **made["model"]}
    return {"name": served.version, **made}


def _named(document: Document, value: Any, versions: Mapping[str, ServedVersion], *path: str | int) -> str:
    """The version of a named predictor; its address must end in the version's digest."""
    name = str(value.get("name")) if isinstance(value, Mapping) else ""
    if name not in versions:
        raise document.problem(f"the predictor's name is {name!r}, and the annotations know no such version", *path)
    address = ((value.get("model") or {}).get("storageUri") or "").rstrip("/")
    if address.rsplit("/", 1)[-1] != versions[name].digest:
        raise document.problem("the address does not end in the version's digest", *path, "model", "storageUri")
    return name


def _services(service: Manifest) -> dict[str, Any]:
    champion = (service["spec"].get("predictor") or {}).get("name", "")
    digests = live_digests(service)
    found = {}
    if champion in digests:
        # `Ready` stays True with a broken canary: it is the champion's alone.
        found[champion] = status_of(service, champion, digests.get(champion, ""))
    for each in (service.get("status") or {}).get("canaryStatuses") or []:
        name = each.get("name", "")
        found[name] = service_status(
            name,
            digests.get(name, ""),
            is_ready=each.get("ready") is True,
            model=each.get("modelStatus") or {},
            ready={},
        )
    return found


def _live_weights(spec: ModelSpec, route: Manifest) -> Mapping[str, int] | None:
    """The weights of the last rule that names predictors; None where they are not per cent of ours."""
    for rule in reversed(route["spec"].get("rules") or []):
        weights: dict[str, int] = {}
        for backend in rule.get("backendRefs") or []:
            name = str(backend.get("name", ""))
            version = name.removeprefix(f"{spec.name}-").removesuffix("-predictor")
            try:
                version_number(version)
            except ValueError:
                break
            weights[version] = int(backend.get("weight", 1))
        else:
            if len(weights) == 1:
                return dict.fromkeys(weights, 100)
            if weights and sum(weights.values()) == 100:
                return weights
    return None
