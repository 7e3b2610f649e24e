"""What a cluster is to a rollout: what serves there now, and the few things that may be done to it.

Two implement :class:`Cluster`: the one-machine cluster (:mod:`upkeep.serving.local`) and Kubernetes. Both pass
tests/contract/test_cluster.py. What *should* serve stands in Git and is not applied here: a syncer does that (Argo CD,
Flux, ``upkeep up``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from upkeep.spec.model import ModelSpec


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    """One version's service."""

    version: str
    digest: str
    """Of the model's bytes, as its annotation says; empty: unknown."""
    ready: bool
    """Its servers run and it has loaded exactly what its manifest says (``Ready`` is True, ``modelStatus`` is
    UpToDate). Not yet that it answers: :meth:`Cluster.probe` asks that."""
    message: str = ""
    """Why it is not ready, in the cluster's words; or that the cluster refused its manifest."""
    refused: bool = False
    """The cluster will not take the manifest as it is: waiting does not help."""


@dataclass(frozen=True, kw_only=True)
class Live:
    """What serves now."""

    weights: Mapping[str, int] | None
    """Version → per cent, as the gateway divides traffic; sums to 100. None: there is no route, or not ours."""
    services: Mapping[str, ServiceStatus]
    """By version."""
    commit: str | None
    """The commit that was applied last; None: nobody can say."""
    at: datetime
    """When this was read."""
    braked: bool = False
    """The weights are forced, whatever Git says."""
    message: str = ""
    """What keeps the newest commit from being applied, in the syncer's words; empty: nothing known."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One request that was pinned to a version, through the gateway."""

    ok: bool
    status: int | None
    """The HTTP status; None: no answer."""
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a cluster, as far as a driver must care. None: could not be found out."""

    place: str
    """``one machine``, or the cluster's name: for the words of a refusal."""
    drivers: frozenset[str] | None = None
    """The only drivers that this place knows; None: it is Kubernetes, see the rest."""
    kserve: tuple[int, int, int] | None = None
    """KServe's version."""
    mode: str | None = None
    """KServe's default deployment mode: ``Standard`` (``RawDeployment``), ``Knative`` (``Serverless``)."""
    gateway_api: bool | None = None
    """Whether KServe's ``enableGatewayApi`` is on."""
    http_routes: bool | None = None
    """Whether the cluster has HTTPRoutes (Gateway API)."""
    knative: bool | None = None
    """Whether Knative Serving is there."""
    runtime_formats: frozenset[str] | None = None
    """The model formats of the spec's ServingRuntime; None: there is no such runtime, or it could not be read."""


class Cluster(Protocol):
    """A place where models serve. Every method raises an :class:`~upkeep.errors.UpkeepError` that says what to do;
    :class:`~upkeep.errors.OutsideError` where the cluster cannot be reached: then nothing is known."""

    def facts(self, spec: ModelSpec) -> Facts:
        """What this cluster is, as far as a traffic driver must care."""
        ...

    def live(self, spec: ModelSpec) -> Live:
        """What serves of this model now: read anew, never remembered."""
        ...

    def probe(self, spec: ModelSpec, version: str, rows: Sequence[Mapping[str, Any]]) -> Probe:
        """Ask ``version`` about ``rows`` (raw rows, as a client sends them) through the gateway."""
        ...

    def refresh(self, spec: ModelSpec) -> None:
        """Ask the syncer to look at Git now. It may be slow, or not there: no error then."""
        ...

    def brake(self, spec: ModelSpec, weights: Mapping[str, int]) -> None:
        """Force the live weights, over what is applied, until :meth:`release`. The same call again changes nothing."""
        ...

    def release(self, spec: ModelSpec) -> None:
        """Let go of the weights: what is applied counts again. Nothing happens where nothing was forced."""
        ...
