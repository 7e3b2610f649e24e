"""A sound cluster, and each thing that can be wrong with it, one at a time: found, named, with a command to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.rollout.world import World, quick
from upkeep.rollout.doctor import examine
from upkeep.rollout.finding import Finding
from upkeep.serving.cluster import Probe
from upkeep.serving.kubernetes import cluster as kubernetes
from upkeep.serving.kubernetes import paths
from upkeep.serving.kubernetes.api import Api
from upkeep.serving.kubernetes.cluster import KubernetesCluster
from upkeep.serving.kubernetes.fake import FakeKubernetes, refusal
from upkeep.spec.model import ModelSpec

APPLICATION = paths.path(paths.APPLICATIONS, "argocd", "models")
GATEWAY = paths.path(paths.GATEWAYS, "kserve", "kserve-ingress-gateway")
KSERVE = paths.path(paths.DEPLOYMENTS, "kserve", "kserve-controller-manager")
CONFIG = paths.path(paths.CONFIG_MAPS, "kserve", "inferenceservice-config")
RUNTIME = paths.path(paths.RUNTIMES, "models", "upkeep-server")
ROUTE = paths.path(paths.ROUTES, "models", "flight-delays-route")
SERVICE = paths.path(paths.SERVICES, "models", "flight-delays-v1")


class KFP(ThreadingHTTPServer):
    daemon_threads = True
    status, body = 200, json.dumps({"multi_user": False})

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        old = self.path == "/apis/v1beta1/healthz"
        if server.status == 200 and self.path not in ("/apis/v2beta1/healthz", "/apis/v1beta1/healthz"):
            raise AssertionError(self.path)
        body = (json.dumps({"tag_name": "2.17.0"}) if old and server.status == 200 else server.body).encode()
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def kfp() -> Iterator[KFP]:
    server = KFP()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


class Sound:
    """Everything is there, and works."""

    def __init__(self, spec: ModelSpec, endpoint: str) -> None:
        self.world = World(quick(spec))
        self.world.propose(1, None)
        self.world.wait(30)
        self.endpoint = endpoint
        self.server = FakeKubernetes()
        self.server.now = lambda: self.world.now
        self.spec = self.world.spec
        self.install()

    def install(self) -> None:
        commit = self.world.git.commits[-1]
        for data in commit.files.values():
            manifest = yaml.safe_load(data)
            where = {"HTTPRoute": ROUTE, "InferenceService": SERVICE}.get(manifest["kind"])
            if where == SERVICE:
                ready = {"type": "Ready", "status": "True"}
                manifest["status"] = {"conditions": [ready], "modelStatus": {"transitionStatus": "UpToDate"}}
                manifest["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"] = "models:x"
            if where:
                self.put(where, manifest)
        source = {"repoURL": "memory", "path": "models", "targetRevision": "main"}
        self.put(
            APPLICATION,
            {
                "spec": {
                    "source": source,
                    "syncPolicy": {
                        "automated": {"prune": True},
                        "syncOptions": ["RespectIgnoreDifferences=true"],
                    },
                    "ignoreDifferences": [{"kind": "HTTPRoute", "managedFieldsManagers": ["upkeep-brake"]}],
                },
                "status": {"sync": {"status": "Synced", "revision": commit.id}},
            },
        )
        conditions = [{"type": each, "status": "True"} for each in ("Accepted", "Programmed")]
        status = {"conditions": conditions, "addresses": [{"value": "192.0.2.1"}]}
        listeners = [{"name": "http", "protocol": "HTTP", "port": 80}]
        self.put(GATEWAY, {"spec": {"gatewayClassName": "envoy", "listeners": listeners}, "status": status})
        manager = {"name": "manager", "image": "kserve/kserve-controller:v0.21.0"}
        self.put(KSERVE, {"spec": {"template": {"spec": {"containers": [manager]}}}})
        self.configure(mode="Standard", gateway=True)
        self.put(RUNTIME, {"spec": {"supportedModelFormats": [{"name": "sklearn"}]}})

    def configure(self, *, mode: str, gateway: bool) -> None:
        deploy, ingress = {"defaultDeploymentMode": mode}, {"enableGatewayApi": gateway}
        self.server.objects.pop(CONFIG, None)
        self.put(CONFIG, {"data": {"deploy": json.dumps(deploy), "ingress": json.dumps(ingress)}})

    def put(self, where: str, manifest: dict[str, Any]) -> None:
        namespace, _, name = where.partition("/namespaces/")[2].split("/")
        metadata = manifest.get("metadata", {}) | {"namespace": namespace, "name": name}
        Api(self.server.client()).apply(where, manifest | {"metadata": metadata}, "test")

    def change(self, where: str, **spec: Any) -> None:
        self.server.objects[where]["spec"] |= spec

    def drop(self, where: str) -> None:
        del self.server.objects[where]

    def examined(self) -> list[Finding]:
        api = Api(self.server.client(), sleep=lambda _: None)
        model = replace(self.world.model, spec=self.spec, cluster=KubernetesCluster(api, place="kind"))
        environ = {"KF_PIPELINES_ENDPOINT": self.endpoint} if self.endpoint else {}
        return list(examine(model, self.world.now, environ))

    def found(self, check: str, state: str = "problem") -> Finding:
        found = [each for each in self.examined() if each.check == check and each.state == state]
        assert found, [each for each in self.examined() if each.check == check]
        return found[0]


@pytest.fixture
def sound(spec: ModelSpec, kfp: KFP, monkeypatch: pytest.MonkeyPatch) -> Sound:
    monkeypatch.setattr(kubernetes, "ask", lambda *_: Probe(ok=True, status=200))
    spec = replace(spec, rollout=replace(spec.rollout, path="models/flight-delays"))
    return Sound(spec, kfp.url)


def test_a_sound_cluster(sound: Sound) -> None:
    by: dict[str, set[str]] = {}
    for each in sound.examined():
        by.setdefault(each.check, set()).add(each.state)
    assert by.pop("clock") == {"problem", "ok"}  # the store's is this machine's, the API server's is the world's
    assert by.pop("labels") == {"unknown"}
    wrong = [each for each in sound.examined() if each.state != "ok" and each.check not in ("clock", "labels")]
    assert wrong == []
    assert {*by} >= {"kserve", "gateway", "traffic", "runtime", "syncer", "sync", "route", "service", "rights", "kfp"}
    said = " ".join(each.text for each in sound.examined())
    for words in ("KServe 0.21.0: Standard mode, Gateway API on", "by the class envoy", "Pipelines 2.17.0 answers"):
        assert words in said


def _named(sound: Sound, **changes: Any) -> None:
    sound.spec = replace(sound.spec, rollout=replace(sound.spec.rollout, **changes))


def _traffic(sound: Sound, driver: Any) -> None:
    sound.spec = replace(sound.spec, serving=replace(sound.spec.serving, traffic=driver))


def _unready(sound: Sound) -> None:
    sound.server.objects[SERVICE]["status"]["conditions"][0]["status"] = "False"


def _not_programmed(sound: Sound) -> None:
    sound.server.objects[GATEWAY]["status"]["conditions"][1] |= {"status": "False", "message": "no address is left"}


def _old_kserve(sound: Sound) -> None:
    _traffic(sound, "canary")
    manager = sound.server.objects[KSERVE]["spec"]["template"]["spec"]["containers"][0]
    manager["image"] = "kserve/kserve-controller:v0.20.0"


def _no_gateway_api(sound: Sound) -> None:
    _traffic(sound, "canary")
    sound.configure(mode="Standard", gateway=False)


def _wrong_mode(sound: Sound) -> None:
    _traffic(sound, "canary")
    sound.configure(mode="Knative", gateway=True)


def _without(where: str) -> Callable[[Sound], None]:
    def drop(sound: Sound) -> None:
        sound.drop(where)

    return drop


def _application(**changes: Any) -> Callable[[Sound], None]:
    return lambda sound: sound.change(APPLICATION, **changes)


ELSEWHERE = {"repoURL": "https://git.example.com/other.git", "path": "models", "targetRevision": "main"}
AUTOMATED = {"automated": {"prune": True}, "syncOptions": []}
WRONG: dict[str, tuple[Callable[[Sound], None], str, str, str]] = {
    # what is wrong: (do it, the check that finds it, words of the finding, words of the fix)
    "no gateway": (_without(GATEWAY), "gateway", "there is no Gateway", "kubectl get gateway -A"),
    "a gateway without an address": (_not_programmed, "gateway", "no address is left", "kubectl describe gateway"),
    "another repository": (_application(source=ELSEWHERE), "syncer", "not models/flight-delays", "kubectl get"),
    "another branch": (
        _application(source={"repoURL": "memory", "path": "models", "targetRevision": "next"}),
        "syncer",
        "(next)",
        "(main)",
    ),
    "another folder": (
        _application(source={"repoURL": "memory", "path": "models/other", "targetRevision": "main"}),
        "syncer",
        "models/other",
        "kubectl get application",
    ),
    "synced by hand": (_application(syncPolicy={}), "syncer", "nothing by itself", "kubectl patch -n argocd"),
    "never pruned": (
        _application(syncPolicy={"automated": {}, "syncOptions": ["RespectIgnoreDifferences=true"]}),
        "syncer",
        "removes nothing",
        '"prune":true',
    ),
    "a brake that is taken back": (_application(syncPolicy=AUTOMATED), "syncer", "forced weights", "upkeep-brake"),
    "a syncer that is not there": (
        lambda sound: _named(sound, synced_by="flux:flux-system/models"),
        "syncer",
        "Flux's Kustomization flux-system/models is not there",
        "rollout.synced_by",
    ),
    "a canary in an old KServe": (_old_kserve, "traffic", "KServe 0.20.0", "traffic: route"),
    "a canary without Gateway API": (_no_gateway_api, "traffic", "enableGatewayApi", "inferenceservice-config"),
    "a canary in Knative mode": (_wrong_mode, "traffic", "outside Standard mode", "traffic: knative"),
    "knative without Knative": (
        lambda sound: _traffic(sound, "knative") or sound.server.__setattr__("before", _no_knative),
        "traffic",
        "no Knative Serving",
        "traffic: route",
    ),
    "an unready version": (_unready, "service", "v1 is not ready", "kubectl describe inferenceservice -n models"),
    "no service": (_without(SERVICE), "service", "v1 has no service", "flight-delays-v1"),
    "no KFP": (lambda sound: sound.__setattr__("endpoint", "http://127.0.0.1:1"), "kfp", "127.0.0.1:1", "port-forward"),
    "a clock that is wrong": (
        lambda sound: sound.server.__setattr__("now", lambda: sound.world.now + timedelta(minutes=2)),
        "clock",
        "differ",
        "timedatectl",
    ),
}


def _no_knative(method: str, path: str) -> None:
    if path.startswith("/apis/serving.knative.dev"):
        raise refusal(404)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(sound: Sound, name: str) -> None:
    break_it, check, words, fix = WRONG[name]
    break_it(sound)
    found = [each for each in sound.examined() if each.check == check and each.state == "problem"]
    texts, fixes = " ".join(each.text for each in found), " ".join(each.fix for each in found)
    assert words in texts
    assert fix in fixes
    assert all("`upkeep status`" not in each.fix for each in sound.examined()), "that is one machine's"


@pytest.mark.parametrize(
    ("driver", "where"), [("canary", KSERVE), ("canary", CONFIG)], ids=["no version", "no settings"]
)
def test_what_a_driver_needs_and_nobody_knows_is_never_called_fine(sound: Sound, driver: str, where: str) -> None:
    _traffic(sound, driver)
    sound.drop(where)
    finding = sound.found("traffic", "unknown")
    assert "kubectl get" in finding.fix
    assert not [each for each in sound.examined() if each.check == "traffic" and each.state == "ok"]


def test_each_missing_right_is_told_with_the_command_that_asks_for_it(sound: Sound) -> None:
    sound.server.allowed = lambda right: (right["verb"], right["resource"]) != ("patch", "httproutes")
    (finding,) = [each for each in sound.examined() if each.check == "rights"]
    assert finding.state == "problem"
    assert finding.text == "this account may not patch httproutes.gateway.networking.k8s.io in models"
    assert "`kubectl auth can-i patch httproutes.gateway.networking.k8s.io -n models`" in finding.fix


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [(403, "", "does not let this account in"), (200, "<html>", "no Kubeflow"), (404, "{}", "no Kubeflow")],
)
def test_something_else_than_kfp(sound: Sound, kfp: KFP, status: int, body: str, words: str) -> None:
    kfp.status, kfp.body = status, body
    assert words in sound.found("kfp").text


def test_where_nothing_says_where_kfp_is_that_is_unknown(sound: Sound) -> None:
    sound.endpoint = ""
    assert "port-forward" in sound.found("kfp", "unknown").fix


def test_before_the_first_release_who_would_apply_it_is_looked_for(sound: Sound) -> None:
    sound.drop(SERVICE)
    assert "argocd/models" in sound.found("syncer", "ok").text
    sound.change(APPLICATION, source=ELSEWHERE)
    assert "no commit would do anything" in sound.found("syncer").text

    def hide(method: str, path: str) -> None:
        if method == "GET" and path.endswith("/applications"):
            raise refusal(403, "forbidden")

    sound.server.before = hide
    assert "rollout.synced_by" in sound.found("syncer", "unknown").fix


def test_flux_is_read_with_its_git_repository(sound: Sound) -> None:
    _named(sound, synced_by="flux:flux-system/models")
    kustomization = paths.path(paths.KUSTOMIZATIONS, "flux-system", "models")
    repository = paths.path(paths.SOURCES, "flux-system", "git")
    source = {"kind": "GitRepository", "name": "git"}
    sound.put(kustomization, {"spec": {"path": "./models", "prune": True, "sourceRef": source}})
    sound.put(repository, {"spec": {"url": "memory", "ref": {"branch": "main"}}})
    assert "by itself" in sound.found("syncer", "ok").text
    sound.change(kustomization, suspend=True)
    finding = sound.found("syncer")
    assert "nothing by itself" in finding.text
    assert "kubectl patch -n flux-system kustomization models" in finding.fix
    sound.drop(repository)
    assert "nothing from Git" in sound.found("syncer").text


def test_a_cluster_that_is_away_is_told_by_each_check_and_raises_nothing(sound: Sound) -> None:
    def away(method: str, path: str) -> None:
        raise OSError("no route to host")

    sound.server.before = away
    by = {each.check: each.state for each in sound.examined()}
    assert all(by[check] != "ok" for check in ("traffic", "cluster", "syncer", "gateway", "rights"))
    assert by["git"] == "ok"


@pytest.mark.parametrize("kind", ["argocd", "flux"])
def test_no_fault_is_found_with_what_manifests_clusters_applies(sound: Sound, kind: str) -> None:
    """The very objects that a platform engineer copies, with the model's folder filled in as Argo CD does."""
    folder = Path(__file__).parents[3] / "manifests" / "clusters" / kind
    files = [folder / name for name in ("models.yaml", *(["sources.yaml"] if kind == "flux" else []))]
    text = "\n---\n".join(file.read_text() for file in files)
    text = text.replace("{{.path.basename}}", "flight-delays").replace("{{.path.path}}", "models/flight-delays")
    objects = {each["kind"]: each for each in yaml.safe_load_all(text) if each["metadata"]["name"] != "upkeep"}
    if kind == "argocd":
        application = objects["ApplicationSet"]["spec"]["template"]
        sound.put(paths.path(paths.APPLICATIONS, "argocd", "flight-delays"), application)
    else:
        sound.put(paths.path(paths.KUSTOMIZATIONS, "flux-system", "flight-delays"), objects["Kustomization"])
        sound.put(paths.path(paths.SOURCES, "flux-system", "models"), objects["GitRepository"])
    sound.world.git.url = "https://git.example.com/platform/models.git"
    place = {"argocd": "argocd:argocd/flight-delays", "flux": "flux:flux-system/flight-delays"}[kind]
    _named(sound, synced_by=place)
    found = [each for each in sound.examined() if each.check == "syncer"]
    assert [each.state for each in found] == ["ok"], found
