"""Where the API server keeps what Upkeep reads and changes."""

from __future__ import annotations

from typing import Final

SERVICES: Final = ("serving.kserve.io/v1beta1", "inferenceservices")
ROUTES: Final = ("gateway.networking.k8s.io/v1", "httproutes")
GATEWAYS: Final = ("gateway.networking.k8s.io/v1", "gateways")
RUNTIMES: Final = ("serving.kserve.io/v1alpha1", "servingruntimes")
CLUSTER_RUNTIMES: Final = ("serving.kserve.io/v1alpha1", "clusterservingruntimes")
APPLICATIONS: Final = ("argoproj.io/v1alpha1", "applications")
KUSTOMIZATIONS: Final = ("kustomize.toolkit.fluxcd.io/v1", "kustomizations")
SOURCES: Final = ("source.toolkit.fluxcd.io/v1", "gitrepositories")
DEPLOYMENTS: Final = ("apps/v1", "deployments")
CONFIG_MAPS: Final = ("v1", "configmaps")
LEASES: Final = ("coordination.k8s.io/v1", "leases")
EVENTS: Final = ("v1", "events")
PODS: Final = ("v1", "pods")
TFJOBS: Final = ("kubeflow.org/v1", "tfjobs")
ACCESS_REVIEWS: Final = ("authorization.k8s.io/v1", "selfsubjectaccessreviews")
KNATIVE_SERVICES: Final = ("serving.knative.dev/v1", "services")


def path(resource: tuple[str, str], namespace: str = "", name: str = "") -> str:
    """Of one object; without a name of all; without a namespace of a kind that has none."""
    version, plural = resource
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{place}/{plural}" + (f"/{name}" if name else "")
