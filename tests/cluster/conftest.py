"""What Kubernetes itself keeps: against the fake that the project ships, and, by ``make test-cluster``, against the
cluster of the current kubeconfig, in a namespace of its own that is removed at the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from upkeep.serving.kubernetes.api import Api
from upkeep.serving.kubernetes.fake import FakeKubernetes

REAL = "UPKEEP_TEST_CLUSTER"
"""Set by ``make test-cluster``."""


@dataclass(frozen=True, kw_only=True)
class Place:
    api: Api
    namespace: str
    real: bool
    client: Any
    """As ``kubernetes.client.ApiClient``."""

    def delete(self, path: str) -> None:
        self.client.call_api(
            path,
            "DELETE",
            query_params=[],
            header_params={"Accept": "application/json", "Content-Type": "application/json"},
            body=None,
            auth_settings=["BearerToken"],
            response_type="object",
            _return_http_data_only=True,
        )


@pytest.fixture(scope="session")
def cluster() -> Iterator[Place]:
    """The current kubeconfig's, in a new namespace."""
    from kubernetes import client, config

    configuration: Any = client.Configuration()
    configuration.retries = False
    try:
        config.load_kube_config(client_configuration=configuration)
    except config.ConfigException as error:
        pytest.fail(f"make test-cluster needs a cluster, and the kubeconfig names none: {error}")
    namespace = f"upkeep-test-{uuid4().hex[:8]}"
    used = client.ApiClient(configuration)
    api = Api(used)
    place = Place(api=api, namespace=namespace, real=True, client=used)
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    try:
        api.create("/api/v1/namespaces", body)
    except Exception as error:
        pytest.fail(f"make test-cluster cannot make a namespace in {configuration.host}: {error}")
    try:
        yield place
    finally:
        place.delete(f"/api/v1/namespaces/{namespace}")
        used.close()


@pytest.fixture(params=["fake", *(["cluster"] if os.environ.get(REAL) else [])])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "cluster":
        found: Place = request.getfixturevalue("cluster")
        return found
    server = FakeKubernetes()
    client = server.client()
    return Place(api=Api(client), namespace="upkeep-test", real=False, client=client)
