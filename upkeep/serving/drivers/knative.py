"""``knative``: one InferenceService a model; Knative divides traffic between its newest revision and the one before.

The newest ``storageUri`` is the canary's while there is one, ``canaryTrafficPercent`` is its share, and the share left
goes to the revision that had all traffic last. Without the field all traffic goes to the newest revision.

Needs Knative Serving and KServe in Knative (Serverless) mode: elsewhere the field is silently ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from upkeep.errors import Problem
from upkeep.serving.cluster import Facts
from upkeep.serving.document import Quoted, write
from upkeep.serving.drivers.driver import (
    Deployed,
    LiveTraffic,
    Manifest,
    only_elsewhere,
    refusal,
    service_status,
)
from upkeep.serving.drivers.single import SERVICE_FILE, live_digests, read_single, single_kustomization, single_service
from upkeep.serving.manifests import KUSTOMIZATION_FILE, MODE_ANNOTATION, ServedVersion, predictor
from upkeep.spec.model import ModelSpec

CHAMPION_ANNOTATION = "upkeep.dev/champion"
TAGS_ANNOTATION = "serving.kserve.io/enable-tag-routing"
"""Gives the newest revision and the one before addresses of their own, so that a tester can be pinned to one."""


class KnativeDriver:
    """:class:`~upkeep.serving.drivers.driver.TrafficDriver` by ``canaryTrafficPercent``."""

    name = "knative"
    weights_file = SERVICE_FILE

    def owns(self, name: str) -> bool:
        return name in (SERVICE_FILE, KUSTOMIZATION_FILE)

    def files(
        self,
        spec: ModelSpec,
        versions: Mapping[str, ServedVersion],
        champion: str,
        weights: Mapping[str, int],
        standing: Mapping[str, bytes],  # noqa: ARG002 (nothing in these files is a person's)
    ) -> dict[str, bytes]:
        others = [version for version in versions if version != champion]
        if len(others) > 1:
            raise ValueError(f"Knative divides traffic between two revisions, not {len(versions)}")
        newest = others[0] if others else champion
        body: dict[str, Any] = predictor(spec, versions[newest])
        if others:
            body = {"canaryTrafficPercent": weights[newest], **body}
        annotations = {
            MODE_ANNOTATION: "Knative",
            TAGS_ANNOTATION: Quoted("true"),
            CHAMPION_ANNOTATION: Quoted(champion),
        }
        service = single_service(spec, versions, {"predictor": body}, annotations)
        return {
            KUSTOMIZATION_FILE: single_kustomization(SERVICE_FILE),
            SERVICE_FILE: write(
                service, "Written by Upkeep: the newest version, and its share of the traffic, per cent."
            ),
        }

    def read(self, spec: ModelSpec, files: Mapping[str, bytes], prefix: str = "") -> Deployed:
        document, versions = read_single(spec, files, prefix, SERVICE_FILE)
        champion = document.value["metadata"]["annotations"].get(CHAMPION_ANNOTATION)
        if champion not in versions or len(versions) > 2:
            raise document.problem(
                f"the champion is {champion!r}, and the annotations know {', '.join(versions)}",
                "metadata",
                "annotations",
            )
        newest = next((version for version in versions if version != champion), champion)
        path = ("spec", "predictor")
        body = document.value["spec"].get("predictor") or {}
        address = str((body.get("model") or {}).get("storageUri") or "").rstrip("/")
        if address.rsplit("/", 1)[-1] != versions[newest].digest:
            raise document.problem(f"the address does not end in the digest of {newest}", *path, "model", "storageUri")
        percent = body.get("canaryTrafficPercent")
        if newest == champion:
            if percent is not None:
                raise document.problem("a share for a canary, and there is none", *path, "canaryTrafficPercent")
            return Deployed(versions=versions, weights={champion: 100})
        if not isinstance(percent, int) or isinstance(percent, bool) or not 0 <= percent <= 100:
            raise document.problem(
                "a weight is a whole number of per cent, 0 to 100; without one the canary gets all traffic",
                *(*path, "canaryTrafficPercent"),
            )
        weights = {champion: 100 - percent, newest: percent}
        return Deployed(versions=versions, weights={version: weights[version] for version in versions})

    def live(self, spec: ModelSpec, objects: Sequence[Manifest]) -> LiveTraffic:
        for each in objects:
            if each["kind"] == "InferenceService" and each["metadata"]["name"] == spec.name:
                return _live(each)
        return LiveTraffic(weights=None, services={})

    def refusals(self, spec: ModelSpec, facts: Facts) -> tuple[Problem, ...]:  # noqa: ARG002
        found = list(only_elsewhere(self.name, facts))
        if facts.knative is False:
            found.append(
                refusal(
                    f"{facts.place} has no Knative Serving: `canaryTrafficPercent` would be ignored, and the "
                    "canary get all traffic at once",
                    "install Knative Serving, or use `traffic: route`",
                )
            )
        return tuple(found)


def tagged_url(service: Manifest, version: str) -> str:
    """The address of the revision that serves ``version``, whatever the weights; empty: it has none."""
    annotations = service["metadata"].get("annotations") or {}
    if version not in live_digests(service):
        return ""
    champion = annotations.get(CHAMPION_ANNOTATION, "")
    newest = next((each for each in live_digests(service) if each != champion), champion)
    component = ((service.get("status") or {}).get("components") or {}).get("predictor") or {}
    for each in component.get("traffic") or []:
        is_newest = each.get("revisionName") == component.get("latestCreatedRevision")
        if each.get("tag") and each.get("url") and is_newest == (version == newest):
            return str(each["url"])
    return ""


def _live(service: Manifest) -> LiveTraffic:
    annotations = service["metadata"].get("annotations") or {}
    digests = live_digests(service)
    champion = annotations.get(CHAMPION_ANNOTATION, "")
    newest = next((version for version in digests if version != champion), champion)
    status = service.get("status") or {}
    component = (status.get("components") or {}).get("predictor") or {}
    created, ready = component.get("latestCreatedRevision"), component.get("latestReadyRevision")
    came_up = created is not None and created == ready
    model = status.get("modelStatus") or {}
    condition: Manifest = next((each for each in status.get("conditions") or [] if each.get("type") == "Ready"), {})
    services = {newest: service_status(newest, digests.get(newest, ""), is_ready=came_up, model=model, ready=condition)}
    traffic = component.get("traffic") or []
    if newest != champion:
        # Its revision had all traffic: it serves as long as it gets a share, or can.
        serves = any(each.get("revisionName") != created for each in traffic) or not came_up
        services[champion] = service_status(
            champion,
            digests.get(champion, ""),
            is_ready=serves,
            model={"transitionStatus": "UpToDate"},
            ready={"message": "no revision before the newest is told"},
        )
    return LiveTraffic(weights=_weights(traffic, created, champion, newest), services=services)


def _weights(traffic: Sequence[Manifest], created: object, champion: str, newest: str) -> Mapping[str, int] | None:
    if not traffic or sum(int(each.get("percent") or 0) for each in traffic) != 100:
        return None
    if newest == champion:
        return {champion: 100}
    share = sum(int(each.get("percent") or 0) for each in traffic if each.get("revisionName") == created)
    return {champion: 100 - share, newest: share}
