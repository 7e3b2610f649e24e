"""The manifests of the ``route`` driver: written from (spec, versions, weights), and read back.

One immutable InferenceService a version (``m-v12``), and one HTTPRoute a model that Upkeep owns (``m-route``), whose
weights say who gets the traffic. KServe takes over an HTTPRoute that is called like an InferenceService, rewrites
its hosts and deletes it with the service; so none is called ``m`` or ``m-route``: every service ends in ``-vN``, and
no model's name does.

What Kubernetes would fill in is written out, so that the live object equals what stands in Git.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from upkeep.errors import SpecError, Where
from upkeep.serving.document import Document, Quoted, write
from upkeep.serving.payload import server_options
from upkeep.spec.model import ModelSpec

ROUTE_FILE = "route.yaml"
KUSTOMIZATION_FILE = "kustomization.yaml"

VERSION_HEADER: Final = "x-upkeep-version"
"""A request with this header goes to the version it names, whatever the weights: for testers and for checks."""

MODEL_LABEL = "upkeep.dev/model"
MODE_ANNOTATION = "serving.kserve.io/deploymentMode"
VERSION_ANNOTATION = "upkeep.dev/version"
DIGEST_ANNOTATION = "upkeep.dev/digest"
UPDATE_ANNOTATION = "upkeep.dev/update"
CARD_ANNOTATION = "upkeep.dev/card"

_VERSION = re.compile(r"v[1-9][0-9]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
OVERLAY = "put what is yours into an overlay that has this folder as its base"


@dataclass(frozen=True, kw_only=True)
class ServedVersion:
    """A version as its InferenceService says it."""

    version: str
    """``v13``."""
    digest: str
    """Of the model's bytes, 64 hexadecimal digits."""
    update: str
    """The update that made it."""
    format: str = "sklearn"
    """What the runtime must be able to load: :attr:`upkeep.models.manifest.Manifest.format`."""


def version_number(version: str) -> int:
    """``v13`` → 13: how versions are ordered. Raises ``ValueError`` when it is no version."""
    if not _VERSION.fullmatch(version):
        raise ValueError(f"{version!r} is no version: it must look like v13")
    return int(version[1:])


def version_file(version: str) -> str:
    return f"{version}.yaml"


def route_name(model: str) -> str:
    return f"{model}-route"


def service_name(model: str, version: str) -> str:
    """The InferenceService's name."""
    return f"{model}-{version}"


def backend_name(model: str, version: str) -> str:
    """The Kubernetes Service that KServe makes for the InferenceService's predictor, in Standard mode."""
    return f"{service_name(model, version)}-predictor"


def host(spec: ModelSpec) -> str:
    """The host of the model's route."""
    return spec.serving.host or f"{spec.name}.{spec.serving.namespace}.example"


def model_uri(spec: ModelSpec, *parts: str) -> str:
    """An address below ``<store>/<model>/``; a folder becomes ``file://``. The spec's store must be absolute."""
    root = spec.store
    if "://" not in root:
        if not Path(root).is_absolute():
            raise SpecError(
                f"the store {root} is relative, and a manifest needs a place that is the same for everyone",
                where=Where(field="store"),
                fix="write an absolute path or an s3:// address",
            )
        root = Path(root).as_uri()
    return "/".join((root.rstrip("/"), spec.name, *parts))


# --- written -------------------------------------------------------------------------------------------------------


def render_version(spec: ModelSpec, version: ServedVersion) -> bytes:
    """``vN.yaml``: the version's InferenceService. It is written once and never changed."""
    manifest = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": service_name(spec.name, version.version),
            "namespace": spec.serving.namespace,
            "labels": labels(spec),
            "annotations": {
                MODE_ANNOTATION: "Standard",
                VERSION_ANNOTATION: Quoted(version.version),
                DIGEST_ANNOTATION: Quoted(version.digest),
                UPDATE_ANNOTATION: Quoted(version.update),
                CARD_ANNOTATION: Quoted(model_uri(spec, "versions", f"{version.version}.json")),
            },
        },
        "spec": {"predictor": predictor(spec, version)},
    }
    return write(manifest, "Written by Upkeep. What it serves never changes: another version gets a file of its own.")


def predictor(spec: ModelSpec, version: ServedVersion) -> dict[str, Any]:
    """What serves ``version``, as KServe's ``spec.predictor``.

    The digest is part of ``storageUri``: KServe does not load new content at an old address. Limits equal requests,
    because KServe would put its own defaults in their place, which may be smaller than what is asked for.
    """
    serving = spec.serving
    env: dict[str, str | None] = {"UPKEEP_VERSION": version.version, "UPKEEP_DIGEST": version.digest}
    logged = server_options(spec)
    if not logged.get("--payloads", "").startswith("s3://"):
        logged = {}  # a pod has no folder that outlives it
    if version.format == "delta":  # KServe fetches one folder, and a delta stands on another, which the server fetches
        env["UPKEEP_MODELS"] = model_uri(spec, "models")
    if version.format == "delta" or logged:
        env |= {"AWS_ENDPOINT_URL": spec.object_store.endpoint, "AWS_REGION": spec.object_store.region}
    return {
        "minReplicas": serving.min_replicas,
        "maxReplicas": max(serving.min_replicas, serving.max_replicas),
        "serviceAccountName": serving.service_account,
        "model": {
            "modelFormat": {"name": version.format},
            "runtime": serving.runtime,
            "storageUri": Quoted(model_uri(spec, "models", version.digest)),
            # Every version answers under the model's own name: the route may send a request to any of them.
            "args": [f"--model_name={spec.name}", *(f"{name}={value}" for name, value in logged.items())],
            "env": [{"name": name, "value": Quoted(value)} for name, value in env.items() if value],
            "resources": {
                "requests": _quantities(serving.resources),
                "limits": _quantities(serving.resources),
            },
        },
    }


def render_route(spec: ModelSpec, weights: Mapping[str, int]) -> bytes:
    """``route.yaml``: the model's HTTPRoute; ``weights`` maps versions to per cent, and sums to 100."""
    if sum(weights.values()) != 100 or min(weights.values()) < 0:
        raise ValueError(f"weights must be per cent and sum to 100: {dict(weights)}")
    ordered = sorted(weights, key=version_number)
    route: Route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": route_name(spec.name),
            "namespace": spec.serving.namespace,
            "labels": labels(spec),
        },
        "spec": {
            "parentRefs": [gateway(spec)],
            "hostnames": [host(spec)],
            "rules": [
                *(route_rule({version: 1}, spec.name, pinned=version) for version in ordered),
                route_rule({version: weights[version] for version in ordered}, spec.name),
            ],
        },
    }
    return write(
        dict(route),
        "Written by Upkeep: who gets the traffic, in per cent, in the last rule. The rules before it pin a request\n"
        f"with the header {VERSION_HEADER} to one version.",
    )


def render_kustomization(versions: Iterable[str]) -> bytes:
    """``kustomization.yaml``: what is applied. ``rollout.yaml`` is not."""
    files = [ROUTE_FILE, *(version_file(version) for version in sorted(versions, key=version_number))]
    return write(
        {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": files},
        f"Written by Upkeep: {OVERLAY}.",
    )


def labels(spec: ModelSpec) -> dict[str, str]:
    return {"app.kubernetes.io/managed-by": "upkeep", MODEL_LABEL: spec.name}


def _quantities(resources: Mapping[str, str]) -> dict[str, Any]:
    return {name: Quoted(resources[name]) for name in sorted(resources)}


def gateway(spec: ModelSpec) -> Parent:
    """The Gateway that a route hangs on."""
    namespace, _, name = spec.serving.gateway.rpartition("/")
    return {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "namespace": namespace or spec.serving.namespace,
        "name": name,
    }


def route_rule(weights: Mapping[str, int], model: str, pinned: str = "") -> Rule:
    """Traffic divided by ``weights``; ``pinned``: only that of requests with the header that names this version."""
    match: Match = {"path": {"type": "PathPrefix", "value": "/"}}
    if pinned:
        match["headers"] = [{"type": "Exact", "name": VERSION_HEADER, "value": pinned}]
    return {
        "matches": [match],
        "backendRefs": [
            {
                "group": "",
                "kind": "Service",
                "name": backend_name(model, version),
                "port": 80,
                "weight": weight,
            }
            for version, weight in weights.items()
        ],
    }


# --- read back -----------------------------------------------------------------------------------------------------


def read_weights(data: bytes, model: str, file: str = ROUTE_FILE) -> dict[str, int]:
    """Version → per cent, of the model's ``route.yaml``.

    Raises :class:`~upkeep.errors.InputError`, with file and line, when a rule or a key is not one that Upkeep
    writes: the next change of the weights would lose it.
    """
    document = Document(data, file)
    route: Route = document.read(Route)
    if route["metadata"]["name"] != route_name(model):
        raise document.problem(f"this route is not {model}'s: its name is not {route_name(model)}", "metadata", "name")
    rules = route["spec"]["rules"]
    if not rules:
        raise document.problem("a route without rules answers 404", "spec", "rules")
    *pinning, last = range(len(rules))
    weights = _backends(document, rules[last], model, last)
    if sum(weights.values()) != 100:
        total = sum(weights.values())
        raise document.problem(
            f"the weights sum to {total}, not to 100", "spec", "rules", last, "backendRefs", fix="make them sum to 100"
        )
    for index in pinning:
        headers = rules[index]["matches"][0].get("headers", [])
        backends = _backends(document, rules[index], model, index)
        if [header["value"] for header in headers] != list(backends):
            raise document.problem(
                f"only the last rule may take requests without the header {VERSION_HEADER}, and a rule before it "
                "must lead to the version that the header names",
                *("spec", "rules", index),
            )
    if rules[last]["matches"][0].get("headers"):
        raise document.problem("the last rule must take every request", "spec", "rules", last, "matches")
    return weights


def read_version(data: bytes, model: str, file: str) -> ServedVersion:
    """What ``vN.yaml`` serves. People may change how it is served (replicas, resources), not what.

    Raises :class:`~upkeep.errors.InputError`, with file and line, when name, file, version, digest and
    ``storageUri`` do not agree.
    """
    document = Document(data, file)
    service: Service = document.read(Service)
    annotations = service["metadata"]["annotations"]
    for name in (VERSION_ANNOTATION, DIGEST_ANNOTATION, UPDATE_ANNOTATION):
        if name not in annotations:
            raise document.problem(f"the annotation {name} is missing", "metadata", "annotations")
    version, digest = annotations[VERSION_ANNOTATION], annotations[DIGEST_ANNOTATION]
    if not _VERSION.fullmatch(version) or Path(file).name != version_file(version):
        raise document.problem(
            f"the file is {Path(file).name}, and its version {version}", "metadata", "annotations", VERSION_ANNOTATION
        )
    if service["metadata"]["name"] != service_name(model, version):
        raise document.problem(f"the service's name is not {service_name(model, version)}", "metadata", "name")
    if not _DIGEST.fullmatch(digest):
        raise document.problem("the digest is not 64 hexadecimal digits", "metadata", "annotations", DIGEST_ANNOTATION)
    served = service["spec"]["predictor"]["model"]
    if served["storageUri"].rstrip("/").rsplit("/", 1)[-1] != digest:
        raise document.problem(
            "the address does not end in the version's digest: this would serve other bytes than the card tells of",
            *("spec", "predictor", "model", "storageUri"),
        )
    return ServedVersion(
        version=version,
        digest=digest,
        update=annotations[UPDATE_ANNOTATION],
        format=served["modelFormat"]["name"],
    )


def read_hosts(data: bytes, file: str = ROUTE_FILE) -> tuple[str, ...]:
    """The hosts that ``route.yaml`` answers under. Raises :class:`~upkeep.errors.InputError` where it has none."""
    document = Document(data, file)
    route: Route = document.read(Route)
    if not route["spec"]["hostnames"]:
        raise document.problem("a route without a host takes every model's requests", "spec", "hostnames")
    return tuple(route["spec"]["hostnames"])


def read_storage_uri(data: bytes, file: str) -> str:
    """Where ``vN.yaml`` says that the model's bytes are."""
    service: Service = Document(data, file).read(Service)
    return service["spec"]["predictor"]["model"]["storageUri"]


def read_resources(data: bytes, file: str = KUSTOMIZATION_FILE) -> tuple[str, ...]:
    """The versions that ``kustomization.yaml`` applies beside the route.

    Raises :class:`~upkeep.errors.InputError`, with file and line, for anything that is not Upkeep's.
    """
    document = Document(data, file)
    resources = document.read(Kustomization)["resources"]
    if ROUTE_FILE not in resources:
        raise document.problem(f"{ROUTE_FILE} is not among the resources: it would be deleted", "resources")
    versions = []
    for index, name in enumerate(resources):
        if name == ROUTE_FILE:
            continue
        version = name.removesuffix(".yaml")
        if not name.endswith(".yaml") or not _VERSION.fullmatch(version) or version in versions:
            raise document.problem(f"{name} is no resource of Upkeep's", "resources", index, fix=OVERLAY)
        versions.append(version)
    return tuple(sorted(versions, key=version_number))


def is_version_file(name: str) -> bool:
    return name.endswith(".yaml") and _VERSION.fullmatch(name.removesuffix(".yaml")) is not None


def _backends(document: Document, rule: Rule, model: str, index: int) -> dict[str, int]:
    weights: dict[str, int] = {}
    for place, backend in enumerate(rule["backendRefs"]):
        path = ("spec", "rules", index, "backendRefs", place)
        version = backend["name"].removeprefix(f"{model}-").removesuffix("-predictor")
        if not _VERSION.fullmatch(version) or backend["name"] != backend_name(model, version):
            raise document.problem(f"{backend['name']} is no version of {model}", *path, "name")
        if version in weights:
            raise document.problem(f"{version} is here twice", *path, "name")
        if not 0 <= backend["weight"] <= 100:
            raise document.problem("a weight is a whole number of per cent, 0 to 100", *path, "weight")
        weights[version] = backend["weight"]
    if not weights:
        raise document.problem("a rule without backends answers 500", "spec", "rules", index, "backendRefs")
    if len(rule["matches"]) != 1:
        raise document.problem("a rule of Upkeep's has one match", "spec", "rules", index, "matches")
    return weights


_STRICT = ConfigDict(extra="forbid")
_LOOSE = ConfigDict(extra="ignore")


@with_config(_STRICT)
class Metadata(TypedDict):
    name: str
    namespace: str
    labels: dict[str, str]


@with_config(_STRICT)
class Parent(TypedDict):
    group: Literal["gateway.networking.k8s.io"]
    kind: Literal["Gateway"]
    namespace: str
    name: str


@with_config(_STRICT)
class PathMatch(TypedDict):
    type: Literal["PathPrefix"]
    value: Literal["/"]


@with_config(_STRICT)
class HeaderMatch(TypedDict):
    type: Literal["Exact"]
    name: Literal["x-upkeep-version"]
    value: str


@with_config(_STRICT)
class _MatchPath(TypedDict):
    path: PathMatch


@with_config(_STRICT)
class Match(_MatchPath, total=False):
    headers: list[HeaderMatch]


@with_config(_STRICT)
class Backend(TypedDict):
    group: Literal[""]
    kind: Literal["Service"]
    name: str
    port: Literal[80]
    weight: int


@with_config(_STRICT)
class Rule(TypedDict):
    matches: list[Match]
    backendRefs: list[Backend]


@with_config(_STRICT)
class RouteSpec(TypedDict):
    parentRefs: list[Parent]
    hostnames: list[str]
    rules: list[Rule]


@with_config(_STRICT)
class Route(TypedDict):
    """An HTTPRoute as Upkeep writes it, and nothing besides."""

    apiVersion: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["HTTPRoute"]
    metadata: Metadata
    spec: RouteSpec


@with_config(_STRICT)
class Kustomization(TypedDict):
    apiVersion: Literal["kustomize.config.k8s.io/v1beta1"]
    kind: Literal["Kustomization"]
    resources: list[str]


@with_config(_LOOSE)
class ServiceMetadata(TypedDict):
    name: str
    annotations: dict[str, str]


@with_config(_LOOSE)
class Format(TypedDict):
    name: str


@with_config(_LOOSE)
class ServiceModel(TypedDict):
    modelFormat: Format
    storageUri: str


@with_config(_LOOSE)
class Predictor(TypedDict):
    model: ServiceModel


@with_config(_LOOSE)
class ServiceSpec(TypedDict):
    predictor: Predictor


@with_config(_LOOSE)
class Service(TypedDict):
    """What Upkeep asks of an InferenceService that stands in Git."""

    apiVersion: Literal["serving.kserve.io/v1beta1"]
    kind: Literal["InferenceService"]
    metadata: ServiceMetadata
    spec: ServiceSpec
