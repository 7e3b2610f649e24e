"""What a controller may do on Kubernetes: exactly what it asks for, model by model. ``manifests/apps/rbac.yaml`` grants
it, and a test compares the two."""

from __future__ import annotations

from dataclasses import dataclass

from upkeep.serving.kubernetes.api import Api
from upkeep.serving.kubernetes.paths import ACCESS_REVIEWS, path
from upkeep.serving.kubernetes.syncer import Syncer
from upkeep.serving.manifests import gateway
from upkeep.spec.model import ModelSpec


@dataclass(frozen=True, kw_only=True, order=True)
class Right:
    """One verb on one kind."""

    namespace: str
    """Empty: of a kind that has none."""
    group: str
    """Empty: Kubernetes' own first one."""
    resource: str
    verb: str
    name: str = ""
    """Of the one object; empty: of any."""

    @property
    def kind(self) -> str:
        """``httproutes.gateway.networking.k8s.io``"""
        return f"{self.resource}.{self.group}" if self.group else self.resource

    def __str__(self) -> str:
        return f"{self.verb} {self.kind}" + (f"/{self.name}" if self.name else "")

    @property
    def question(self) -> str:
        """The command that asks for it."""
        kind = f"{self.kind}/{self.name}" if self.name else self.kind
        return f"kubectl auth can-i {self.verb} {kind}" + (f" -n {self.namespace}" if self.namespace else "")


def needed(spec: ModelSpec, syncer: Syncer | None, kserve_namespace: str) -> tuple[Right, ...]:
    """For the rollouts of the model of ``spec``, where ``syncer`` applies its folder (None: nobody knows who)."""
    models, edge = spec.serving.namespace, gateway(spec)
    kserve, routing = "serving.kserve.io", "gateway.networking.k8s.io"
    knative = spec.serving.traffic == "knative"
    found = [
        *_rights(models, kserve, "inferenceservices", "get", "list", "patch"),
        *_rights(models, "", "events", "create"),
        *_rights(models, kserve, "servingruntimes", "get"),
        *_rights("", kserve, "clusterservingruntimes", "get"),
        *_rights(kserve_namespace, "", "configmaps", "get", name="inferenceservice-config"),
        *_rights(kserve_namespace, "apps", "deployments", "get", name="kserve-controller-manager"),
        *_rights(models, routing, "httproutes", "list"),
        *_rights(models, "serving.knative.dev", "services", "list"),
    ]
    if not knative:
        found += _rights(edge["namespace"], routing, "gateways", "get", name=edge["name"])
    if spec.serving.traffic == "route":
        found += _rights(models, routing, "httproutes", "get", "patch")
    if syncer is not None and syncer.kind == "argocd":
        found += _rights(syncer.namespace, "argoproj.io", "applications", "get", "patch")
    if syncer is not None and syncer.kind == "flux":
        found += _rights(syncer.namespace, "kustomize.toolkit.fluxcd.io", "kustomizations", "get", "patch")
        found += _rights(syncer.namespace, "source.toolkit.fluxcd.io", "gitrepositories", "get", "patch")
    return tuple(found)


def granted(api: Api, right: Right) -> bool:
    """Whether who asks has it: by a SelfSubjectAccessReview, which everybody may make. Raises :class:`Api`'s errors."""
    attributes = {"group": right.group, "resource": right.resource, "verb": right.verb}
    attributes |= {"namespace": right.namespace} if right.namespace else {}
    attributes |= {"name": right.name} if right.name else {}
    body = {
        "apiVersion": ACCESS_REVIEWS[0],
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool((api.create(path(ACCESS_REVIEWS), body).get("status") or {}).get("allowed"))


def _rights(namespace: str, group: str, resource: str, *verbs: str, name: str = "") -> list[Right]:
    return [Right(namespace=namespace, group=group, resource=resource, verb=verb, name=name) for verb in verbs]
