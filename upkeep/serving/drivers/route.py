"""``route``: one immutable InferenceService a version, and one HTTPRoute a model, which Upkeep owns. The default.

The manifests themselves are :mod:`upkeep.serving.manifests`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from upkeep.errors import Problem, UpkeepError
from upkeep.serving.cluster import Facts
from upkeep.serving.drivers.driver import (
    Deployed,
    LiveTraffic,
    Manifest,
    edited,
    listed,
    only_elsewhere,
    refusal,
    status_of,
)
from upkeep.serving.manifests import (
    DIGEST_ANNOTATION,
    KUSTOMIZATION_FILE,
    ROUTE_FILE,
    VERSION_ANNOTATION,
    ServedVersion,
    is_version_file,
    read_resources,
    read_version,
    read_weights,
    render_kustomization,
    render_route,
    render_version,
    route_name,
    service_name,
    version_file,
    version_number,
)
from upkeep.spec.model import ModelSpec


class RouteDriver:
    """:class:`~upkeep.serving.drivers.driver.TrafficDriver` by weights of an HTTPRoute."""

    name = "route"
    weights_file = ROUTE_FILE

    def owns(self, name: str) -> bool:
        return name in (ROUTE_FILE, KUSTOMIZATION_FILE) or is_version_file(name)

    def files(
        self,
        spec: ModelSpec,
        versions: Mapping[str, ServedVersion],
        champion: str,  # noqa: ARG002 (a route has no favourite)
        weights: Mapping[str, int],
        standing: Mapping[str, bytes],
    ) -> dict[str, bytes]:
        made = {KUSTOMIZATION_FILE: render_kustomization(versions), ROUTE_FILE: render_route(spec, weights)}
        for version, served in versions.items():
            name = version_file(version)
            made[name] = standing.get(name) or render_version(spec, served)
        return made

    def read(self, spec: ModelSpec, files: Mapping[str, bytes], prefix: str = "") -> Deployed:
        for name in (ROUTE_FILE, KUSTOMIZATION_FILE):
            if name not in files:
                raise edited("the file is missing, and others of the release are there", prefix + name)
        names = sorted((name for name in files if is_version_file(name)), key=lambda name: version_number(name[:-5]))
        versions = {name[:-5]: read_version(files[name], spec.name, prefix + name) for name in names}
        applied = read_resources(files[KUSTOMIZATION_FILE], prefix + KUSTOMIZATION_FILE)
        if applied != tuple(versions):
            raise edited(
                f"it applies {listed(applied)}, and the folder holds {listed(versions)}", prefix + KUSTOMIZATION_FILE
            )
        return Deployed(versions=versions, weights=read_weights(files[ROUTE_FILE], spec.name, prefix + ROUTE_FILE))

    def live(self, spec: ModelSpec, objects: Sequence[Manifest]) -> LiveTraffic:
        services, weights = {}, None
        for each in objects:
            name = each["metadata"]["name"]
            if each["kind"] == "HTTPRoute" and name == route_name(spec.name):
                weights = _weights(spec, each)
            elif each["kind"] == "InferenceService":
                annotations = each["metadata"].get("annotations") or {}
                version = annotations.get(VERSION_ANNOTATION, "")
                if version and name == service_name(spec.name, version):
                    services[version] = status_of(each, version, annotations.get(DIGEST_ANNOTATION, ""))
        return LiveTraffic(weights=weights, services=services)

    def refusals(self, spec: ModelSpec, facts: Facts) -> tuple[Problem, ...]:  # noqa: ARG002
        found = list(only_elsewhere(self.name, facts))
        if facts.http_routes is False:
            found.append(
                refusal(
                    f"{facts.place} has no HTTPRoute: nothing would divide the traffic",
                    "install Gateway API and a controller for it, or use `traffic: knative`",
                )
            )
        return tuple(found)


def _weights(spec: ModelSpec, route: Manifest) -> Mapping[str, int] | None:
    """By the very reader of the file in Git: a live route that it would refuse is nobody's to go by."""
    wanted = {key: route[key] for key in ("apiVersion", "kind", "spec")}
    metadata = {key: route["metadata"].get(key) for key in ("name", "namespace")}
    metadata["labels"] = dict(route["metadata"].get("labels") or {})
    try:
        return read_weights(json.dumps({**wanted, "metadata": metadata}).encode(), spec.name, "the live HTTPRoute")
    except UpkeepError:
        return None
