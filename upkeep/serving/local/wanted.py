"""What Git says should serve: a model's folder at one commit, read as kustomize would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from upkeep.errors import InputError, Where
from upkeep.serving.cluster import Facts
from upkeep.serving.manifests import (
    KUSTOMIZATION_FILE,
    ROUTE_FILE,
    read_hosts,
    read_resources,
    read_storage_uri,
    read_version,
    read_weights,
    service_name,
    version_file,
)
from upkeep.spec.model import ModelSpec

FACTS = Facts(place="one machine", drivers=frozenset({"route"}))
"""What this cluster is, to a traffic driver."""


@dataclass(frozen=True, kw_only=True)
class Manifests:
    """A model's folder at one commit."""

    commit: str | None
    """None: the repository is empty."""
    folder: str
    """Its path within the repository; empty: the root."""
    files: Mapping[str, bytes]
    """Path within the repository → content."""


class Source(Protocol):
    """Where a model's manifests come from. Methods raise :class:`~upkeep.errors.UpkeepError`, and may block."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def local(self) -> bool:
        """Looking costs nobody anything: look often."""
        ...

    def head(self) -> str | None:
        """The newest commit's id; None: there is none."""
        ...

    def read(self) -> Manifests: ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class WantedServer:
    """One version that must run."""

    version: str
    digest: str
    service: str
    """The InferenceService's name."""
    storage_uri: str


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One model, as a commit says it."""

    commit: str
    hosts: tuple[str, ...]
    weights: Mapping[str, int]
    """Version → per cent; sums to 100."""
    servers: Mapping[str, WantedServer]
    """By version; one for each weight, at least."""


def read_wanted(model: str, manifests: Manifests) -> Wanted | None:
    """What the manifests say; None: the folder holds none (nothing was released yet, or it is gone).

    Raises :class:`~upkeep.errors.InputError`, with file and line, where they make no sense.
    """
    prefix = f"{manifests.folder}/" if manifests.folder else ""
    if manifests.commit is None or not any(path.startswith(prefix) for path in manifests.files):
        return None

    def content(name: str, needed_by: str) -> bytes:
        if prefix + name not in manifests.files:
            raise InputError(
                f"the file is missing, and {needed_by}",
                where=Where(prefix + name),
                fix="take it back from an earlier commit",
            )
        return manifests.files[prefix + name]

    if not prefix and KUSTOMIZATION_FILE not in manifests.files and ROUTE_FILE not in manifests.files:
        return None
    versions = read_resources(content(KUSTOMIZATION_FILE, "it says what is applied"), prefix + KUSTOMIZATION_FILE)
    route = content(ROUTE_FILE, f"{KUSTOMIZATION_FILE} names it")
    weights = read_weights(route, model, prefix + ROUTE_FILE)
    servers = {}
    for version in versions:
        name = version_file(version)
        data = content(name, f"{KUSTOMIZATION_FILE} names it")
        served = read_version(data, model, prefix + name)
        servers[version] = WantedServer(
            version=version,
            digest=served.digest,
            service=service_name(model, version),
            storage_uri=read_storage_uri(data, prefix + name),
        )
    for version in weights:
        if version not in servers:
            raise InputError(
                f"the route leads to {version}, and {KUSTOMIZATION_FILE} does not apply it",
                where=Where(prefix + ROUTE_FILE),
                fix=f"add {version_file(version)} to the resources, or take {version} out of the route",
            )
    return Wanted(
        commit=manifests.commit,
        hosts=read_hosts(route, prefix + ROUTE_FILE),
        weights=weights,
        servers=servers,
    )
