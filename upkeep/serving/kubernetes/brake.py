"""Forced weights: what is applied to force them, and how they are let go. Pure.

They are forced by server-side apply as a field manager of their own, so that the object itself says that they are. A
syncer that would take them back at once must be told to let them be: Flux by an annotation that the brake sets on the
object; Argo CD by ``ignoreDifferences: managedFieldsManagers: [upkeep-brake]`` with ``RespectIgnoreDifferences``. One
that was not told takes them back, and the rollout forces them again at its next look.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from upkeep.errors import OutsideError, Where
from upkeep.serving.drivers.driver import Manifest
from upkeep.serving.kubernetes.api import BRAKE_MANAGER
from upkeep.serving.kubernetes.paths import ROUTES, SERVICES, path
from upkeep.serving.manifests import render_route, route_name
from upkeep.spec.model import ModelSpec

LET_BE = {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}
"""Flux neither applies nor prunes an object in the cluster that carries this."""


def braked_path(spec: ModelSpec) -> str:
    """Of the object that divides the traffic."""
    namespace = spec.serving.namespace
    if spec.serving.traffic == "route":
        return path(ROUTES, namespace, route_name(spec.name))
    return path(SERVICES, namespace, spec.name)


def is_braked(standing: Manifest) -> bool:
    """Whether its weights are forced."""
    return any(each.get("manager") == BRAKE_MANAGER for each in standing["metadata"].get("managedFields") or [])


def forced(spec: ModelSpec, standing: Manifest, weights: Mapping[str, int]) -> dict[str, Any]:
    """What to apply over ``standing`` so that ``weights`` (per cent, sums to 100) count: these fields and no others.

    Raises :class:`OutsideError` where the object knows other versions than ``weights``.
    """
    if spec.serving.traffic == "route":
        body = {"rules": yaml.safe_load(render_route(spec, weights))["spec"]["rules"]}
    elif spec.serving.traffic == "canary":
        body = {"canary": _canaries(spec, standing, weights)}
    else:
        body = {"predictor": {"canaryTrafficPercent": _share(spec, standing, weights)}}
    return {
        "apiVersion": standing["apiVersion"],
        "kind": standing["kind"],
        "metadata": {"name": standing["metadata"]["name"], "namespace": spec.serving.namespace, "annotations": LET_BE},
        "spec": body,
    }


def let_go(standing: Manifest) -> dict[str, Any]:
    """The merge patch that ends the brake's ownership and leaves the values as they are.

    Applying nothing would delete the fields, and with them every rule of the route, until the syncer writes again.
    """
    metadata = standing["metadata"]
    kept = [each for each in metadata.get("managedFields") or [] if each.get("manager") != BRAKE_MANAGER]
    return {
        "metadata": {
            "resourceVersion": metadata["resourceVersion"],
            "managedFields": kept or [{}],  # an empty list would be ignored
            "annotations": dict.fromkeys(LET_BE),
        }
    }


def _canaries(spec: ModelSpec, standing: Manifest, weights: Mapping[str, int]) -> list[dict[str, Any]]:
    entries = standing["spec"].get("canary") or []
    champion = str((standing["spec"].get("predictor") or {}).get("name", ""))
    names = [str((each.get("predictor") or {}).get("name", "")) for each in entries]
    _same(spec, {champion, *names}, weights)
    return [{**each, "trafficPercent": weights[name]} for each, name in zip(entries, names, strict=True)]


def _share(spec: ModelSpec, standing: Manifest, weights: Mapping[str, int]) -> int:
    from upkeep.serving.drivers.knative import CHAMPION_ANNOTATION
    from upkeep.serving.drivers.single import live_digests

    champion = (standing["metadata"].get("annotations") or {}).get(CHAMPION_ANNOTATION, "")
    versions = set(live_digests(standing))
    _same(spec, versions, weights)
    return sum(weights[version] for version in versions if version != champion)


def _same(spec: ModelSpec, known: set[str], weights: Mapping[str, int]) -> None:
    if known != weights.keys():
        raise OutsideError(
            f"{spec.name} serves {', '.join(sorted(known))}, and the weights are of {', '.join(sorted(weights))}",
            where=Where(braked_path(spec)),
            fix="wait until the newest commit is applied",
        )
