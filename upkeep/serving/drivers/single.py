"""What the drivers share that keep a model in one InferenceService: the versions stand in its annotations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from upkeep.serving.document import Document, Quoted, write
from upkeep.serving.drivers.driver import Manifest, edited, listed
from upkeep.serving.manifests import (
    DIGEST_ANNOTATION,
    KUSTOMIZATION_FILE,
    OVERLAY,
    UPDATE_ANNOTATION,
    ServedVersion,
    labels,
    version_number,
)
from upkeep.spec.model import ModelSpec

SERVICE_FILE = "service.yaml"
FORMAT_ANNOTATION = "upkeep.dev/format"

_STRICT = ConfigDict(extra="forbid")
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _told(versions: Mapping[str, ServedVersion]) -> dict[str, Quoted]:
    """The annotations that say which versions there are: ``upkeep.dev/digest.v12``, …"""
    return {
        f"{key}.{version}": Quoted(value)
        for version in sorted(versions, key=version_number)
        for key, value in (
            (DIGEST_ANNOTATION, versions[version].digest),
            (UPDATE_ANNOTATION, versions[version].update),
            (FORMAT_ANNOTATION, versions[version].format),
        )
    }


def live_digests(service: Manifest) -> dict[str, str]:
    """Version → digest, of an InferenceService's annotations."""
    return {
        key.removeprefix(f"{DIGEST_ANNOTATION}."): str(value)
        for key, value in (service["metadata"].get("annotations") or {}).items()
        if key.startswith(f"{DIGEST_ANNOTATION}.")
    }


def single_service(
    spec: ModelSpec, versions: Mapping[str, ServedVersion], body: Manifest, annotations: Mapping[str, str]
) -> dict[str, Any]:
    """The InferenceService: ``body`` is its spec; its ``annotations`` tell the versions, too."""
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": spec.name,
            "namespace": spec.serving.namespace,
            "labels": labels(spec),
            "annotations": {**annotations, **_told(versions)},
        },
        "spec": body,
    }


def single_kustomization(*files: str) -> bytes:
    """``kustomization.yaml``: what is applied. ``rollout.yaml`` is not."""
    return write(
        {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": list(files)},
        f"Written by Upkeep: {OVERLAY}.",
    )


def read_single(
    spec: ModelSpec, files: Mapping[str, bytes], prefix: str, *applied: str
) -> tuple[Document, dict[str, ServedVersion]]:
    """``service.yaml`` and the versions that its annotations tell, in order.

    Raises :class:`~upkeep.errors.InputError`, with file and line, where a file is missing, is not applied, or is not
    this model's.
    """
    for name in (KUSTOMIZATION_FILE, *applied):
        if name not in files:
            raise edited("the file is missing, and others of the release are there", prefix + name)
    resources = Document(files[KUSTOMIZATION_FILE], prefix + KUSTOMIZATION_FILE).read(_Kustomization)["resources"]
    if sorted(resources) != sorted(applied):
        raise edited(f"it applies {listed(resources)}, not {listed(applied)}", prefix + KUSTOMIZATION_FILE)
    document = Document(files[SERVICE_FILE], prefix + SERVICE_FILE)
    service = document.read(_Service)
    if service["metadata"]["name"] != spec.name:
        raise document.problem(f"the service's name is not {spec.name}", "metadata", "name")
    return document, _versions(document, service["metadata"]["annotations"])


def _versions(document: Document, annotations: Mapping[str, str]) -> dict[str, ServedVersion]:
    found: dict[str, dict[str, str]] = {}
    for key, value in annotations.items():
        name = PurePosixPath(key).name
        word, dot, version = name.partition(".")
        if key.startswith("upkeep.dev/") and dot and word in ("digest", "update", "format"):
            found.setdefault(version, {})[word] = value
    made = {}
    for version, words in found.items():
        try:
            number = version_number(version)
        except ValueError as error:
            raise document.problem(str(error), "metadata", "annotations") from None
        if len(words) != 3 or len(words["digest"]) != 64 or set(words["digest"]) - set("0123456789abcdef"):
            raise document.problem(
                f"{version} needs a digest of 64 hexadecimal digits, an update and a format", "metadata", "annotations"
            )
        made[number] = ServedVersion(version=version, **words)
    if not made:
        raise document.problem("the annotations name no version", "metadata", "annotations")
    return {made[number].version: made[number] for number in sorted(made)}


@with_config(_STRICT)
class _Kustomization(TypedDict):
    apiVersion: Literal["kustomize.config.k8s.io/v1beta1"]
    kind: Literal["Kustomization"]
    resources: list[str]


@with_config(ConfigDict(extra="ignore"))
class _Metadata(TypedDict):
    name: str
    annotations: dict[str, str]


@with_config(ConfigDict(extra="ignore"))
class _Service(TypedDict):
    apiVersion: Literal["serving.kserve.io/v1beta1"]
    kind: Literal["InferenceService"]
    metadata: _Metadata
    spec: dict[str, object]
