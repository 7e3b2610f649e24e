"""A client of the API server, by a context of the kubeconfig or by the pod's own service account."""

from __future__ import annotations

from typing import Any

from upkeep.errors import AccessError, Where
from upkeep.serving.kubernetes.api import Api

IN_CLUSTER = "in-cluster"


def open_api(context: str, **options: Any) -> Api:
    """``context``: the name of one in the kubeconfig, or ``in-cluster``: then the pod's service account. ``options``
    are :class:`Api`'s.

    Nothing is asked yet. Raises :class:`AccessError` where there is no such thing.
    """
    from kubernetes import client, config

    configuration: Any = client.Configuration()
    configuration.retries = False  # Api has its own, by kind of error

    def login() -> None:
        try:
            if context == IN_CLUSTER:
                config.load_incluster_config(client_configuration=configuration)
            else:
                config.load_kube_config(context=context, client_configuration=configuration)
        except (config.ConfigException, OSError) as error:
            raise AccessError(
                f"there is no way into the cluster `{context}`: {error}",
                where=Where(field="UPKEEP_KUBE_CONTEXT"),
                fix="name a context of `kubectl config get-contexts`, or `in-cluster` inside a pod",
            ) from error

    login()
    return Api(client.ApiClient(configuration), login=login, **options)
