"""A real API server, and around it what a cluster has: a syncer, KServe and a gateway that do as the real ones.

They know nothing of Upkeep's client: they read and write the API server's objects, each by its own field manager.
"""

from __future__ import annotations

import copy
import hashlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from upkeep.serving.kubernetes.api import Api, MissingError
from upkeep.serving.kubernetes.cluster import KubernetesCluster
from upkeep.serving.kubernetes.paths import (
    APPLICATIONS,
    GATEWAYS,
    KUSTOMIZATIONS,
    ROUTES,
    SERVICES,
    SOURCES,
    path,
)
from upkeep.serving.manifests import ServedVersion, render_route, render_version
from upkeep.spec.model import Data, Features, Metadata, ModelSpec, Retrain, Serving, Target

_LOOK = 0.05
_INTERVAL = 10
"""Every so many looks the syncer compares Git and cluster, also where nobody asks."""
_KINDS = {"InferenceService": SERVICES, "HTTPRoute": ROUTES}
_MANAGERS = {"argocd": "argocd-controller", "flux": "kustomize-controller"}


class KubernetesWorld:
    """The harness of tests/contract/test_cluster.py; each has a namespace of its own."""

    def __init__(self, kubeconfig: Path, syncer: str) -> None:
        from kubernetes import client, config

        self.namespace, self._syncer = f"{uuid4().hex[:8]}-{syncer}", syncer
        configuration: Any = client.Configuration()
        config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
        self._client = client.ApiClient(configuration)
        self._api = Api(self._client)
        self.spec = _spec("tiny", self.namespace)
        self.unreleased = _spec("other", self.namespace)
        self.cluster = KubernetesCluster(self._api, place="the test's cluster")
        nowhere: Any = client.Configuration()
        nowhere.host, nowhere.retries = "http://127.0.0.1:1", False
        self._nowhere = client.ApiClient(nowhere)
        self.unreachable = KubernetesCluster(Api(self._nowhere, sleep=lambda _: None))
        self._broken: set[str] = set()
        self._desired: dict[tuple[str, str], dict[str, Any]] = {}
        self._commit = ""
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._failure: Exception | None = None
        self._gateway = _gateway(self)
        self._threads = [
            threading.Thread(target=self._gateway.serve_forever, kwargs={"poll_interval": 0.05}),
            threading.Thread(target=self._run),
        ]

    # --- the harness -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        port = self._gateway.server_address[1]
        listeners = [{"name": "http", "protocol": "HTTP", "port": port}]
        self._put(GATEWAYS, "edge", {"gatewayClassName": "fake", "listeners": listeners})
        status = {"status": {"addresses": [{"type": "IPAddress", "value": "127.0.0.1"}]}}
        self._api.patch(path(GATEWAYS, self.namespace, "edge") + "/status", status)
        if self._syncer == "argocd":
            self._put(APPLICATIONS, "models", {"project": "default", "destination": {"namespace": self.namespace}})
        else:
            self._put(SOURCES, "models", {"url": "https://git.example.com/models.git", "interval": "1m"})
            source = {"kind": "GitRepository", "name": "models"}
            self._put(KUSTOMIZATIONS, "models", {"sourceRef": source, "interval": "1m", "prune": True})
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ends.set()
        self._gateway.shutdown()
        self._gateway.server_close()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()
        for client in (self._client, self._nowhere):
            client.close()
        assert self._failure is None, self._failure

    def apply(self, weights: Mapping[str, int]) -> str:
        files = [render_route(self.spec, weights)]
        for version in weights:
            served = ServedVersion(version=version, digest=self.digest(version), update="u")
            files.append(render_version(self.spec, served))
        manifests = [yaml.safe_load(each) for each in files]
        with self._lock:
            self._desired = {(each["kind"], each["metadata"]["name"]): each for each in manifests}
            self._commit = hashlib.sha1(f"{self._commit}{files}".encode()).hexdigest()
            return self._commit

    def digest(self, version: str) -> str:
        return hashlib.sha256(version.encode()).hexdigest()

    def break_(self, version: str) -> None:
        self._broken.add(version)

    def mend(self, version: str) -> None:
        self._broken.discard(version)

    # --- what a cluster does ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        looks = 0
        while not self._ends.wait(_LOOK):
            try:
                asked = self._asked()
                if asked or looks % _INTERVAL == 0:
                    self._sync()
                self._kserve()
            except Exception as error:
                self._failure = error
                return
            looks += 1

    def _asked(self) -> bool:
        """Whether someone wants the syncer to look now; as Argo CD and Flux, it notes that it did."""
        if self._syncer == "argocd":
            where = path(APPLICATIONS, self.namespace, "models")
            annotations = self._api.get(where)["metadata"].get("annotations") or {}
            if "argocd.argoproj.io/refresh" not in annotations:
                return False
            self._api.patch(where, {"metadata": {"annotations": {"argocd.argoproj.io/refresh": None}}})
            return True
        where = path(SOURCES, self.namespace, "models")
        source = self._api.get(where)
        wish = (source["metadata"].get("annotations") or {}).get("reconcile.fluxcd.io/requestedAt")
        if wish == (source.get("status") or {}).get("lastHandledReconcileAt"):
            return False
        self._api.patch(f"{where}/status", {"status": {"lastHandledReconcileAt": wish}})
        return True

    def _sync(self) -> None:
        with self._lock:
            desired, commit = dict(self._desired), self._commit
        if not commit:
            return
        for (kind, name), manifest in desired.items():
            where = path(_KINDS[kind], self.namespace, name)
            wanted = copy.deepcopy(manifest)
            try:
                standing = self._api.get(where)
            except MissingError:
                standing = {"metadata": {}}
            if self._syncer == "flux":
                marks = standing["metadata"].get("annotations") or {}
                if marks.get("kustomize.toolkit.fluxcd.io/reconcile") == "disabled":
                    continue
                for word, value in (("name", "models"), ("namespace", self.namespace)):
                    wanted["metadata"]["labels"][f"kustomize.toolkit.fluxcd.io/{word}"] = value
            else:
                wanted["metadata"].setdefault("annotations", {})["argocd.argoproj.io/tracking-id"] = (
                    f"{self.namespace}_models:x/{kind}:{self.namespace}/{name}"
                )
                # ignoreDifferences: managedFieldsManagers, with RespectIgnoreDifferences
                if any(each["manager"] == "upkeep-brake" for each in standing["metadata"].get("managedFields") or []):
                    wanted["spec"] = standing["spec"]
            self._api.apply(where, wanted, _MANAGERS[self._syncer])
        for service in self._api.items(path(SERVICES, self.namespace)):
            if ("InferenceService", service["metadata"]["name"]) not in desired:
                self._client.call_api(
                    path(SERVICES, self.namespace, service["metadata"]["name"]),
                    "DELETE",
                    auth_settings=["BearerToken"],
                    response_type="object",
                    _return_http_data_only=True,
                )
        if self._syncer == "argocd":
            told: dict[str, Any] = {"sync": {"status": "Synced", "revision": commit}}
            self._api.patch(path(APPLICATIONS, self.namespace, "models"), {"status": told})
        else:
            told = {"lastAppliedRevision": f"main@sha1:{commit}"}
            self._api.patch(path(KUSTOMIZATIONS, self.namespace, "models") + "/status", {"status": told})

    def _kserve(self) -> None:
        for service in self._api.items(path(SERVICES, self.namespace)):
            name = service["metadata"]["name"]
            broken = name.rpartition("-")[2] in self._broken
            condition = {"type": "Ready", "status": str(not broken)}
            if broken:
                condition |= {"reason": "MinimumReplicasUnavailable", "message": "no replica runs"}
            model = {"transitionStatus": "InProgress" if broken else "UpToDate"}
            status = service.get("status") or {}
            if status.get("conditions") == [condition] and status.get("modelStatus", {}) == model:
                continue
            try:
                self._api.patch(
                    path(SERVICES, self.namespace, name) + "/status",
                    {"status": {"conditions": [condition], "modelStatus": model}},
                )
            except MissingError:
                continue

    def answer(self, pinned: str, rows: list[Any]) -> tuple[int, dict[str, Any]]:
        """What the gateway answers: by the live route's rules."""
        try:
            route = self._api.get(path(ROUTES, self.namespace, "tiny-route"))
        except MissingError:
            return 404, {"error": "no route"}
        for rule in route["spec"]["rules"]:
            headers = rule["matches"][0].get("headers") or []
            if headers and headers[0]["value"] == pinned:
                version = rule["backendRefs"][0]["name"].split("-")[1]
                if version in self._broken:
                    return 503, {"error": "no healthy upstream"}
                if not all("a" in row for row in rows):
                    return 400, {"error": "a row has no column a"}
                return 200, {"predictions": [{"label": True} for _ in rows]}
        return 404, {"error": "no rule"}

    # --- how -------------------------------------------------------------------------------------------------------

    def _put(self, resource: tuple[str, str], name: str, spec: Mapping[str, Any]) -> None:
        kinds = {
            "gateways": "Gateway",
            "applications": "Application",
            "kustomizations": "Kustomization",
            "gitrepositories": "GitRepository",
        }
        metadata = {"name": name, "namespace": self.namespace}
        manifest = {"apiVersion": resource[0], "kind": kinds[resource[1]], "metadata": metadata, "spec": spec}
        self._api.apply(path(resource, self.namespace, name), manifest, "test")


def _spec(name: str, namespace: str) -> ModelSpec:
    return ModelSpec(
        metadata=Metadata(name=name),
        store="s3://upkeep",
        data=Data(source="x", target=Target(column="y"), features=Features()),
        candidates=(Retrain(name="a", strategy="retrain", estimator="sklearn.tree.DecisionTreeClassifier"),),
        serving=Serving(namespace=namespace, gateway=f"{namespace}/edge"),
    )


def _gateway(world: KubernetesWorld) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            rows = json.loads(self.rfile.read(int(self.headers["content-length"])))["instances"]
            host = self.headers["host"]
            status, value = (
                world.answer(self.headers.get("x-upkeep-version", ""), rows)
                if host == f"tiny.{world.namespace}.example"
                else (404, {"error": f"no route for {host}"})
            )
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)
