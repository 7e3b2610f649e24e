"""Every overlay of manifests/ builds, keeps to its schemas, runs what there is, and may do what the code does."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import kubernetes_validate
import pytest
import yaml

from tests.kube_api import validator
from tests.unit.serving.kubernetes.fake_client import FakeClient
from upkeep.cli.main import upkeep as command
from upkeep.errors import UpkeepError
from upkeep.models.manifest import Manifest
from upkeep.serving.drivers import DRIVERS
from upkeep.serving.kubernetes import paths
from upkeep.serving.kubernetes.api import Api
from upkeep.serving.kubernetes.brake import braked_path
from upkeep.serving.kubernetes.client import IN_CLUSTER
from upkeep.serving.kubernetes.cluster import KubernetesCluster
from upkeep.serving.kubernetes.events import Happening
from upkeep.serving.kubernetes.fake import FakeKubernetes
from upkeep.serving.kubernetes.lease import Election
from upkeep.serving.manifests import ServedVersion, gateway
from upkeep.serving.server.__main__ import parse as parse_server
from upkeep.spec.load import parse
from upkeep.spec.model import ModelSpec, Serving

ROOT = Path(__file__).parents[2] / "manifests"
OVERLAYS = ("kind", "production")
SYNCERS = {"kind": "flux:flux-system/models", "production": "argocd:argocd/models"}
OLDEST, NEWEST = "1.31", "1.34"
"""Kubernetes' versions that the manifests are held against."""
OF_OTHERS = ("ServingRuntime",)
LEASE = ("upkeep-system", "upkeep-controller")


@functools.cache
def _text(overlay: str) -> str:
    program = shutil.which("kustomize") or shutil.which("kubectl")
    if program is None:
        pytest.skip("neither kustomize nor kubectl is installed")
    verb = "build" if program.endswith("kustomize") else "kustomize"
    done = subprocess.run(
        [program, verb, str(ROOT / "overlays" / overlay)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def built(overlay: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(_text(overlay)))


def of_kind(overlay: str, *kinds: str) -> list[dict[str, Any]]:
    found = [each for each in built(overlay) if each["kind"] in kinds]
    assert found
    return found


def pods(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(what it is, its pod's spec)"""
    for each in of_kind(overlay, "Deployment"):
        yield each["metadata"]["name"], each["spec"]["template"]["spec"]
    for each in of_kind(overlay, "ServingRuntime"):
        yield each["metadata"]["name"], each["spec"]


each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def test_every_overlay_is_tested_here() -> None:
    assert {each.name for each in (ROOT / "overlays").iterdir()} == {*OVERLAYS}


@each_overlay
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_everything_keeps_to_its_schema(overlay: str, version: str) -> None:
    for each in built(overlay):
        if each["kind"] not in OF_OTHERS:
            kubernetes_validate.validate(each, version, strict=True)


@each_overlay
def test_the_runtime_keeps_to_its_crd(overlay: str) -> None:
    for each in of_kind(overlay, *OF_OTHERS):
        validator(each["kind"], each["apiVersion"]).validate(each)


def test_the_check_itself_finds_a_wrong_field() -> None:
    (deployment,) = of_kind("kind", "Deployment")
    deployment["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)


@each_overlay
def test_pods_meet_the_restricted_standard(overlay: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    for what, pod in pods(overlay):
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), what
        assert all({*volume} <= {"name", "configMap", "emptyDir", "secret"} for volume in pod.get("volumes", [])), what
        for container in pod["containers"]:
            own = container["securityContext"]
            context = {**pod.get("securityContext", {}), **own}
            assert context["runAsNonRoot"] is True, what
            assert context.get("runAsUser") != 0, what
            assert own["allowPrivilegeEscalation"] is False, what
            assert own["capabilities"] == {"drop": ["ALL"]}, what
            assert own["readOnlyRootFilesystem"] is True, what
            assert context["seccompProfile"]["type"] == "RuntimeDefault", what
            assert not own.get("privileged"), what
            assert not any("hostPort" in port for port in container.get("ports", [])), what
            assert {"requests", "limits"} <= container["resources"].keys(), what
            assert {"readinessProbe", "livenessProbe"} <= container.keys(), what


@each_overlay
def test_every_image_has_a_tag_that_stays(overlay: str) -> None:
    for what, pod in pods(overlay):
        for container in pod["containers"]:
            name, _, tag = container["image"].rpartition(":")
            assert name, what
            assert re.fullmatch(r"\d+\.\d+\.\d+", tag) or name.endswith("@sha256"), what


@each_overlay
def test_no_secret_is_there_in_clear(overlay: str) -> None:
    assert not [each for each in built(overlay) if each["kind"] == "Secret"]
    for what, pod in pods(overlay):
        for container in pod["containers"]:
            for variable in container.get("env", []):
                if re.search("TOKEN|KEY|PASSWORD|SECRET", variable["name"]):
                    assert "value" not in variable, what


@each_overlay
def test_whom_policies_and_budgets_are_for_is_there(overlay: str) -> None:
    (deployment,) = of_kind(overlay, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    (budget,) = of_kind(overlay, "PodDisruptionBudget")
    (policy,) = of_kind(overlay, "NetworkPolicy")
    for selector in (budget["spec"]["selector"], policy["spec"]["podSelector"], deployment["spec"]["selector"]):
        assert selector["matchLabels"].items() <= labels.items()
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not policy["spec"].get("ingress")
    accounts = {
        (each["metadata"]["namespace"], each["metadata"]["name"]) for each in of_kind(overlay, "ServiceAccount")
    }
    for binding in of_kind(overlay, "RoleBinding", "ClusterRoleBinding"):
        assert {(each["namespace"], each["name"]) for each in binding["subjects"]} <= accounts


def test_overlays_hold_the_same_things_but_for_the_syncer() -> None:
    names = [
        {
            (each["kind"], each["metadata"].get("namespace"), re.sub("-[a-z0-9]{10}$", "", each["metadata"]["name"]))
            for each in built(overlay)
            if each["metadata"].get("namespace") not in ("argocd", "flux-system")
        }
        for overlay in OVERLAYS
    ]
    assert names[0] == names[1]


# --- and they fit the code -----------------------------------------------------------------------------------------


@each_overlay
def test_the_controller_is_started_as_the_command_line_knows_it(overlay: str) -> None:
    (deployment,) = of_kind(overlay, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    program, *words = container["command"]
    assert program == "upkeep"
    current: Any = command
    for word in words:
        with current.make_context(word, [], resilient_parsing=True) as context:
            current = current.get_command(context, word)
    with current.make_context("watch", list(container["args"])) as context:
        given = context.params
    environ = {each["name"]: each.get("value") for each in container["env"]}
    assert environ["UPKEEP_KUBE_CONTEXT"] == IN_CLUSTER
    (port,) = container["ports"]
    assert port["containerPort"] == given["metrics_port"]
    assert given["metrics_address"] == "$(POD_IP)"
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
    assert given["lease"] == "/".join(LEASE)
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    (volume,) = [v for v in deployment["spec"]["template"]["spec"]["volumes"] if "configMap" in v]
    (config,) = [c for c in of_kind(overlay, "ConfigMap") if c["metadata"]["name"] == volume["configMap"]["name"]]
    files = {f"{mounts[volume['name']]}/{name}": text for name, text in config["data"].items()}
    assert {*given["spec_paths"]} == {*files}
    for name, text in files.items():
        parsed = parse(text.encode(), name)
        assert parsed.problems == ()
        assert parsed.spec is not None
        assert parsed.spec.monitoring.prometheus


@each_overlay
def test_the_runtime_is_the_one_that_specs_name_and_its_flags_are_the_servers(overlay: str) -> None:
    (runtime,) = of_kind(overlay, "ServingRuntime")
    serving = Serving()
    assert (runtime["metadata"]["namespace"], runtime["metadata"]["name"]) == (serving.namespace, serving.runtime)
    (account,) = [
        each for each in of_kind(overlay, "ServiceAccount") if each["metadata"]["namespace"] == serving.namespace
    ]
    assert account["metadata"]["name"] == serving.service_account
    formats = {each["name"] for each in runtime["spec"]["supportedModelFormats"]}
    assert formats == {*get_args(get_type_hints(Manifest)["format"])}
    (container,) = runtime["spec"]["containers"]
    environ = {"UPKEEP_VERSION": "v1", "UPKEEP_DIGEST": "0" * 64}
    options = parse_server([*container["args"], "--model_name=m"], environ)
    assert options.host == "0.0.0.0"
    assert options.http_port == container["ports"][0]["containerPort"]


# --- rights --------------------------------------------------------------------------------------------------------

Right = tuple[str, str, str, str, str]
"""(namespace, group, resource, verb, name or ``*``)"""


def granted(overlay: str) -> set[Right]:
    found = set()
    for role in of_kind(overlay, "Role", "ClusterRole"):
        for rule in role["rules"]:
            assert "nonResourceURLs" not in rule
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        for name in rule.get("resourceNames", ["*"]):
                            found.add((role["metadata"].get("namespace", ""), group, resource, verb, name))
    return found


def called(syncer: str) -> set[Right]:
    """What the client asks for, whatever the driver, in every method of a cluster."""
    found: set[Right] = set()
    (source,) = of_kind("kind", "ConfigMap")
    spec = parse(source["data"]["upkeep.yaml"].encode(), "upkeep.yaml").spec
    assert spec is not None
    for driver in DRIVERS:
        given = replace(
            spec,
            serving=replace(spec.serving, traffic=driver),
            rollout=replace(spec.rollout, synced_by=syncer),
        )
        for asked in _asked(given):
            found.add(_right(*asked))
    found |= {_right(*asked) for asked in _asked_of_the_lease()}
    return found


def _right(method: str, path: str) -> Right:
    match = re.fullmatch(r"/apis?/(?:([^/]+\.[^/]+|apps)/)?v\w+(?:/namespaces/([^/]+))?/(\w+)(?:/([^/]+))?", path)
    assert match, path
    group, namespace, resource, name = (part or "" for part in match.groups())
    verb = {"PATCH": "patch", "POST": "create"}.get(method, "get" if name else "list")
    return namespace, group, resource, verb, name or "*"


def _asked_of_the_lease() -> list[tuple[str, str]]:
    server = FakeKubernetes()
    election = Election(Api(server.client()), *LEASE, "pod")
    for _ in range(2):
        assert election.attempt()
    election.give_back()
    return server.asked


def _asked(spec: ModelSpec) -> list[tuple[str, str]]:
    versions = {each: ServedVersion(version=each, digest=each[1] * 64, update="u") for each in ("v1", "v2")}
    driver = DRIVERS[spec.serving.traffic]
    files = driver.files(spec, versions, "v1", {"v1": 50, "v2": 50}, {})
    dividing = yaml.safe_load(files[driver.weights_file])
    dividing["metadata"] |= {"resourceVersion": "1", "managedFields": [{"manager": "upkeep-brake"}]}
    namespace = spec.serving.namespace
    source = {"spec": {"sourceRef": {"kind": "GitRepository", "name": "models"}}}
    edge = gateway(spec)
    client = FakeClient(
        {
            paths.path(paths.SERVICES, namespace): {"items": []},
            paths.path(paths.ROUTES, namespace): {"items": []},
            braked_path(spec): dividing,
            paths.path(paths.EVENTS, namespace): {},
            paths.path(paths.APPLICATIONS, "argocd", "models"): {},
            paths.path(paths.KUSTOMIZATIONS, "flux-system", "models"): source,
            paths.path(paths.SOURCES, "flux-system", "models"): {},
            paths.path(paths.GATEWAYS, edge["namespace"], edge["name"]): {},
        }
    )
    cluster = KubernetesCluster(Api(client, sleep=lambda _: None))
    methods: list[Callable[[], Any]] = [
        lambda: cluster.live(spec),
        lambda: cluster.facts(spec),
        lambda: cluster.refresh(spec),
        lambda: cluster.brake(spec, {"v1": 100, "v2": 0}),
        lambda: cluster.release(spec),
        lambda: cluster.record(spec, Happening(kind="moved", message="m", key="k", at="now", version="v2")),
    ]
    for method in methods:
        method()
    if spec.serving.traffic == "knative":
        assert not cluster.probe(spec, "v1", [{}]).ok
    else:
        with pytest.raises(UpkeepError, match="no address"):
            cluster.probe(spec, "v1", [{}])
    return [(each.method, each.path) for each in client.asked]


@each_overlay
def test_the_controller_may_do_exactly_what_it_does(overlay: str) -> None:
    rights, calls = granted(overlay), called(SYNCERS[overlay])
    whole = {right[:4] for right in rights if right[4] == "*"}
    assert {each[:4] for each in rights} == {each[:4] for each in calls}
    # and of what is named one by one, these and no others
    assert {each for each in rights if each[4] != "*"} == {each for each in calls if each[:4] not in whole}


@each_overlay
def test_no_right_is_for_everything(overlay: str) -> None:
    for namespace, group, resource, verb, _ in granted(overlay):
        assert "*" not in (group, resource, verb)
        assert verb in ("get", "list", "patch") or (verb == "create" and resource in ("leases", "events"))
        assert resource != "secrets"
        assert namespace or verb == "get"
    for binding in of_kind(overlay, "RoleBinding", "ClusterRoleBinding"):
        assert binding["roleRef"]["name"] == "upkeep-controller"
