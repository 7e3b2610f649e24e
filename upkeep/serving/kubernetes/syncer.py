"""Who applies Git here, what they applied last, and how they are asked to look now: Argo CD and Flux. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from upkeep.serving.drivers.driver import Manifest
from upkeep.serving.kubernetes.api import BRAKE_MANAGER
from upkeep.serving.kubernetes.paths import APPLICATIONS, KUSTOMIZATIONS, SOURCES, path
from upkeep.spec.model import ModelSpec

TRACKING = "argocd.argoproj.io/tracking-id"
ARGO_NAMESPACE = "argocd"
FLUX = "kustomize.toolkit.fluxcd.io"

_COMMIT = re.compile(r"(?:^|[:/@])([0-9a-f]{40}|[0-9a-f]{64})$")


@dataclass(frozen=True, kw_only=True)
class Syncer:
    """An Argo CD Application, or a Flux Kustomization."""

    kind: str
    """``argocd`` or ``flux``."""
    namespace: str
    name: str

    @property
    def path(self) -> str:
        return path(APPLICATIONS if self.kind == "argocd" else KUSTOMIZATIONS, self.namespace, self.name)

    def __str__(self) -> str:
        word = "Argo CD's Application" if self.kind == "argocd" else "Flux's Kustomization"
        return f"{word} {self.namespace}/{self.name}"


def syncer_of(spec: ModelSpec, objects: Iterable[Manifest]) -> Syncer | None:
    """The one that the spec names, else the one that the live objects say they come from; None: nobody says."""
    if spec.rollout.synced_by:
        kind, _, place = spec.rollout.synced_by.partition(":")
        namespace, _, name = place.partition("/")
        return Syncer(kind=kind, namespace=namespace, name=name)
    for each in objects:
        metadata = each["metadata"]
        labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
        if f"{FLUX}/name" in labels and f"{FLUX}/namespace" in labels:
            return Syncer(kind="flux", namespace=labels[f"{FLUX}/namespace"], name=labels[f"{FLUX}/name"])
        application = str(annotations.get(TRACKING) or "").partition(":")[0]
        if application:
            # `<namespace>_<name>` where Applications may live outside Argo CD's own namespace
            namespace, _, name = application.rpartition("_")
            return Syncer(kind="argocd", namespace=namespace or ARGO_NAMESPACE, name=name)
    return None


def applied(syncer: Syncer, standing: Manifest) -> tuple[str | None, str]:
    """The commit that was applied last (None: it does not say), and what keeps a newer one from being (or nothing)."""
    status = standing.get("status") or {}
    revision, message = _argo(status) if syncer.kind == "argocd" else _flux(standing, status)
    found = _COMMIT.search(str(revision or ""))
    return (found[1] if found else None), (f"{syncer}: {message}" if message else "")


def nudges(syncer: Syncer, standing: Manifest, now: datetime) -> list[tuple[str, dict[str, Any]]]:
    """(path, merge patch) of each thing that must be told to look now."""
    if syncer.kind == "argocd":
        return [(syncer.path, _annotation("argocd.argoproj.io/refresh", "normal"))]
    patch = _annotation("reconcile.fluxcd.io/requestedAt", now.isoformat())
    git = git_of(syncer, standing)
    # first, or the Kustomization would look at what was fetched before
    return [*([(git, patch)] if git else []), (syncer.path, patch)]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Which folder of which repository a syncer applies, and how."""

    url: str
    branch: str
    """Empty: the repository's default."""
    path: str
    """Within the repository; empty: all of it."""
    by_itself: bool
    """Whether it applies without a person who asks."""
    prunes: bool
    """Whether it removes what Git does not name any more."""
    spares: bool
    """Whether it lets weights be that are forced."""

    def covers(self, repository: str, branch: str, folder: str) -> bool:
        """Whether the model's folder is what it applies. An overlay above the folder counts: it may include it."""
        ours, theirs = folder.strip("/"), self.path.strip("./").strip("/")
        inside = not theirs or not ours or ours == theirs or ours.startswith(f"{theirs}/")
        same_branch = self.branch in ("", "HEAD", branch, f"refs/heads/{branch}")
        return _same_repository(self.url, repository) and same_branch and inside


def sources(syncer: Syncer, standing: Manifest, git: Manifest | None) -> tuple[Source, ...]:
    """What it applies; ``git``: of Flux's Kustomization, its GitRepository (None: it is not there)."""
    spec = standing.get("spec") or {}
    if syncer.kind == "argocd":
        policy = spec.get("syncPolicy") or {}
        automated = policy.get("automated")
        by_itself = automated is not None and automated.get("enabled", True) is not False
        told = [
            each
            for each in spec.get("ignoreDifferences") or []
            if BRAKE_MANAGER in (each.get("managedFieldsManagers") or [])
        ]
        return tuple(
            Source(
                url=str(each.get("repoURL") or ""),
                branch=str(each.get("targetRevision") or ""),
                path=str(each.get("path") or ""),
                by_itself=by_itself,
                prunes=bool((automated or {}).get("prune")),
                spares=bool(told) and "RespectIgnoreDifferences=true" in (policy.get("syncOptions") or []),
            )
            for each in [*([spec["source"]] if spec.get("source") else []), *(spec.get("sources") or [])]
        )
    if git is None:
        return ()
    wanted = git.get("spec") or {}
    suspended = bool(spec.get("suspend") or wanted.get("suspend"))
    return (
        Source(
            url=str(wanted.get("url") or ""),
            branch=str((wanted.get("ref") or {}).get("branch") or "master"),  # Flux's own default
            path=str(spec.get("path") or ""),
            by_itself=not suspended,
            prunes=bool(spec.get("prune")),
            spares=True,
        ),
    )


def git_of(syncer: Syncer, standing: Manifest) -> str:
    """Where the GitRepository of a Flux Kustomization stands; empty: it has none."""
    source = (standing.get("spec") or {}).get("sourceRef") or {}
    if syncer.kind != "flux" or source.get("kind") != "GitRepository" or not source.get("name"):
        return ""
    return path(SOURCES, source.get("namespace") or syncer.namespace, source["name"])


def _same_repository(one: str, other: str) -> bool:
    """Whatever the protocol, the user and the ending: ``git@host:a/b.git`` is ``https://host/a/b``."""
    return _plain_address(one) == _plain_address(other)


def _plain_address(url: str) -> str:
    text = re.sub(r"^\w+://", "", url.strip()).rpartition("@")[2].replace(":", "/", 1) if url else ""
    text = re.sub(r"^([^/]+)/\d+/", r"\1/", text)  # a port
    return text.removesuffix("/").removesuffix(".git").lower()


def _annotation(key: str, value: str) -> dict[str, Any]:
    return {"metadata": {"annotations": {key: value}}}


def _argo(status: Manifest) -> tuple[object, str]:
    sync, last = status.get("sync") or {}, status.get("operationState") or {}
    problems = [
        str(each.get("message") or each["type"])
        for each in status.get("conditions") or []
        if str(each.get("type", "")).endswith("Error")
    ]
    if last.get("phase") in ("Failed", "Error"):
        problems.append(str(last.get("message") or "the last sync failed"))
    revision = None
    if sync.get("status") == "Synced":
        # also where the newest commit changed nothing here, and so was never an operation
        revision = sync.get("revision")
    elif last.get("phase") == "Succeeded":
        revision = (last.get("syncResult") or {}).get("revision")
    return revision, "; ".join(problems)[:500]


def _flux(standing: Manifest, status: Manifest) -> tuple[object, str]:
    message = ""
    if (standing.get("spec") or {}).get("suspend"):
        message = "it is suspended"
    for each in status.get("conditions") or []:
        if each.get("type") == "Ready" and each.get("status") == "False":
            message = str(each.get("message") or each.get("reason") or "it is not ready")[:500]
    return status.get("lastAppliedRevision"), message
