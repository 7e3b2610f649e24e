"""What a traffic driver is: one way to say (versions, champion, weights) in manifests, and to read back what is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from upkeep.errors import InputError, Problem, Where
from upkeep.serving.cluster import Facts, ServiceStatus
from upkeep.serving.manifests import ServedVersion
from upkeep.spec.model import ModelSpec

Manifest = Mapping[str, Any]
"""A Kubernetes object in JSON's own types."""


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """What a model's folder in Git serves."""

    versions: Mapping[str, ServedVersion]
    """By version, in order."""
    weights: Mapping[str, int]
    """Version → per cent; sums to 100."""


@dataclass(frozen=True, kw_only=True)
class LiveTraffic:
    """What the cluster's objects say of a model."""

    weights: Mapping[str, int] | None
    """Version → per cent, where the gateway is told; None: nothing of the kind is there, or it makes no sense."""
    services: Mapping[str, ServiceStatus]
    """By version."""


class TrafficDriver(Protocol):
    """All are pure. Every one passes tests/contract/test_drivers.py."""

    @property
    def name(self) -> str: ...

    @property
    def weights_file(self) -> str:
        """The file in which the traffic is divided."""
        ...

    def owns(self, name: str) -> bool:
        """Whether the file ``name`` of the model's folder is the driver's."""
        ...

    def files(
        self,
        spec: ModelSpec,
        versions: Mapping[str, ServedVersion],
        champion: str,
        weights: Mapping[str, int],
        standing: Mapping[str, bytes],
    ) -> dict[str, bytes]:
        """Every manifest of the model, by file name. ``weights`` is per cent of each version, sums to 100.

        ``standing`` holds the folder's present files: a version's own file is kept as it stands.
        """
        ...

    def read(self, spec: ModelSpec, files: Mapping[str, bytes], prefix: str = "") -> Deployed:
        """The files back. ``prefix`` stands before the names in problems.

        Raises :class:`InputError`, with file and line, when a file is missing, makes no sense or disagrees with
        another.
        """
        ...

    def live(self, spec: ModelSpec, objects: Sequence[Manifest]) -> LiveTraffic:
        """What serves, from the InferenceServices and HTTPRoutes of the model's namespace."""
        ...

    def refusals(self, spec: ModelSpec, facts: Facts) -> tuple[Problem, ...]:
        """Why this cluster would ignore or break what the driver writes; empty: nothing known."""
        ...


def edited(message: str, file: str) -> InputError:
    """A person left the files at odds; only a person can say what was meant."""
    return InputError(
        f"edited by hand: {message}",
        where=Where(file),
        fix="take the whole folder back to an earlier commit (`git revert` does it), or make the files agree",
    )


def listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "no version"


def status_of(service: Manifest, version: str, digest: str) -> ServiceStatus:
    """An InferenceService's status, for one version that it alone serves."""
    status = service.get("status") or {}
    conditions = {each.get("type"): each for each in status.get("conditions") or []}
    ready = conditions.get("Ready", {})
    model = status.get("modelStatus") or {}
    return service_status(version, digest, is_ready=ready.get("status") == "True", model=model, ready=ready)


def service_status(version: str, digest: str, *, is_ready: bool, model: Manifest, ready: Manifest) -> ServiceStatus:
    """Ready only where the conditions and ``modelStatus`` agree; a failed load or an invalid spec is told."""
    failure = model.get("lastFailureInfo") or {}
    transition = model.get("transitionStatus", "")
    message = failure.get("message") or ready.get("message") or ready.get("reason") or ""
    return ServiceStatus(
        version=version,
        digest=digest,
        ready=is_ready and transition == "UpToDate",
        message="" if is_ready and transition == "UpToDate" else str(message or transition or "no status yet"),
        refused=transition == "InvalidSpec",
    )


def refusal(message: str, fix: str) -> Problem:
    return Problem(message, Where(field="serving.traffic"), fix)


def only_elsewhere(name: str, facts: Facts) -> tuple[Problem, ...]:
    """The refusal of a place that knows some drivers only, if it does not know ``name``."""
    if facts.drivers is None or name in facts.drivers:
        return ()
    known = ", ".join(sorted(facts.drivers))
    return (
        refusal(
            f"{facts.place} does not know the traffic driver `{name}`: its manifests would be ignored",
            f"write `traffic: {known}`, or use a cluster that has what `{name}` needs",
        ),
    )
