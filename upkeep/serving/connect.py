"""Which cluster a spec means, and which counters.

A spec does not say where it serves: the same one serves on a laptop and on a cluster. The environment does.
``UPKEEP_KUBE_CONTEXT``, a context of the kubeconfig or ``in-cluster``, means Kubernetes; without it, it is the
one-machine cluster.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from upkeep.errors import InputError, SpecError, Where
from upkeep.serving.cluster import Cluster
from upkeep.serving.counters import Counters
from upkeep.spec.model import ModelSpec

if TYPE_CHECKING:
    from upkeep.serving.kubernetes.lease import Election

CONTEXT = "UPKEEP_KUBE_CONTEXT"
"""The environment variable that names the Kubernetes cluster."""
GATEWAY = "UPKEEP_GATEWAY"
"""Where the gateway answers (``http://…``), where the Gateway's status names no address that can be reached."""
KSERVE = "UPKEEP_KSERVE_NAMESPACE"
"""Where KServe's controller runs; ``kserve`` if it is not set."""


def open_cluster(spec: ModelSpec, folder: Path | None = None, environ: Mapping[str, str] | None = None) -> Cluster:
    """The cluster where the model of ``spec`` (resolved) serves: Kubernetes where the environment names it, else the
    one-machine cluster in ``folder``, else in its default folder.

    Raises :class:`InputError` when both are named, :class:`~upkeep.errors.AccessError` without a way into Kubernetes.
    """
    environ = os.environ if environ is None else environ
    if context := environ.get(CONTEXT):
        if folder is not None:
            raise InputError(
                f"two clusters are named: {context} and the one-machine cluster in {folder}",
                where=Where(field=CONTEXT),
                fix=f"unset {CONTEXT}, or UPKEEP_CLUSTER",
            )
        from upkeep.serving.kubernetes.client import open_api
        from upkeep.serving.kubernetes.cluster import KSERVE_NAMESPACE, KubernetesCluster

        return KubernetesCluster(
            open_api(context),
            place=context,
            address=environ.get(GATEWAY, ""),
            kserve_namespace=environ.get(KSERVE) or KSERVE_NAMESPACE,
        )
    from upkeep.serving.local.cluster import LocalCluster
    from upkeep.serving.local.folder import Folder, default_folder

    return LocalCluster(Folder(folder or default_folder(spec)))


def open_counters(spec: ModelSpec, folder: Path | None = None, environ: Mapping[str, str] | None = None) -> Counters:
    """What counts the requests of the model of ``spec`` (resolved) where nothing else does: see :func:`open_cluster`.

    Raises :class:`SpecError` on Kubernetes: there it must be Prometheus.
    """
    if (os.environ if environ is None else environ).get(CONTEXT):
        raise SpecError(
            "on Kubernetes nothing but Prometheus counts the requests, and the spec names none",
            where=Where(field="monitoring.prometheus"),
            fix="write the address of the Prometheus that scrapes the gateway",
        )
    from upkeep.serving.local.counters import LocalCounters
    from upkeep.serving.local.folder import Folder, default_folder

    return LocalCounters(Folder(folder or default_folder(spec)))


def open_election(lease: str) -> Election:
    """This process' part in the election by the Lease ``<namespace>/<name>``.

    Raises :class:`InputError` where that is none, or no Kubernetes is named.
    """
    namespace, _, name = lease.partition("/")
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?", lease):
        raise InputError(f"{lease!r} is no Lease", fix="write `--lease <namespace>/<name>`")
    context = os.environ.get(CONTEXT)
    if not context:
        raise InputError(
            "a Lease is Kubernetes', and none is named",
            where=Where(field=CONTEXT),
            fix=f"set {CONTEXT}; without Kubernetes leave --lease out: the lock in the store keeps controllers apart",
        )
    from upkeep.serving.kubernetes.client import open_api
    from upkeep.serving.kubernetes.lease import Election, Timing

    # one try, and short: what comes too late is worth nothing, and the next try is near
    api = open_api(context, tries=1, seconds=Timing().renew_deadline / 2)
    return Election(api, namespace, name, f"{socket.gethostname()}_{uuid4().hex[:8]}")
