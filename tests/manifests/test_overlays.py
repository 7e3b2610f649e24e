"""Every overlay of manifests/ runs what there is, as the code knows it, and may do exactly what the code does."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import grimp
import pytest
import yaml

from tests.manifests.build import ROOT, Object, built, pods, with_component
from tests.unit.serving.kubernetes.fake_client import FakeClient
from upkeep import __version__
from upkeep.cli.main import upkeep as command
from upkeep.errors import UpkeepError
from upkeep.models.manifest import Manifest
from upkeep.rollout import doctor_kubernetes
from upkeep.serving.drivers import DRIVERS
from upkeep.serving.kubernetes import paths
from upkeep.serving.kubernetes.api import Api
from upkeep.serving.kubernetes.brake import braked_path
from upkeep.serving.kubernetes.client import IN_CLUSTER
from upkeep.serving.kubernetes.cluster import KubernetesCluster
from upkeep.serving.kubernetes.events import Happening
from upkeep.serving.kubernetes.fake import FakeKubernetes
from upkeep.serving.kubernetes.lease import Election
from upkeep.serving.kubernetes.rights import needed
from upkeep.serving.kubernetes.syncer import syncer_of
from upkeep.serving.manifests import ServedVersion, gateway
from upkeep.serving.server.__main__ import parse as parse_server
from upkeep.spec.load import parse
from upkeep.spec.model import ModelSpec, Serving

OVERLAYS = ("kind", "staging", "production")
SYNCERS = {"kind": "flux:flux-system/models", "staging": "", "production": ""}
"""The others' is the cluster's to add, see test_clusters.py."""
LEASE = ("upkeep-system", "upkeep-controller")


def overlay_built(overlay: str) -> list[Object]:
    return built(ROOT / "overlays" / overlay)


def of_kind(overlay: str, *kinds: str) -> list[Object]:
    found = [each for each in overlay_built(overlay) if each["kind"] in kinds]
    assert found
    return found


def controller(overlay: str) -> Object:
    (found,) = (each for each in of_kind(overlay, "Deployment") if each["metadata"]["name"] == "upkeep-controller")
    return found


each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def test_every_overlay_is_tested_here() -> None:
    assert {each.name for each in (ROOT / "overlays").iterdir()} == {*OVERLAYS}


@each_overlay
def test_nobody_asks_the_controller_but_prometheus(overlay: str) -> None:
    labels = controller(overlay)["spec"]["template"]["metadata"]["labels"]
    (budget,) = of_kind(overlay, "PodDisruptionBudget")
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(overlay, "NetworkPolicy")}
    assert policies["upkeep-controller"]["policyTypes"] == ["Ingress", "Egress"]
    assert not policies["upkeep-controller"].get("ingress")
    allowed = {
        name: spec["ingress"]
        for name, spec in policies.items()
        if spec["podSelector"].get("matchLabels", {}).items() <= labels.items()
        and "matchExpressions" not in spec["podSelector"]
        and spec.get("ingress")
    }
    assert {*allowed} <= {"upkeep-controller-metrics"}
    for rules in allowed.values():
        assert [each["port"] for rule in rules for each in rule["ports"]] == ["metrics"]


MONITORED = {"upkeep", "upkeep-controller", "upkeep-controller-metrics", "upkeep-dashboard", "upkeep-server"}
OPTIONAL = {
    "kind": {"object-store", "upkeep-models"},
    "staging": MONITORED,
    "production": MONITORED | {"upkeep-git", "upkeep-object-store"},
}
"""The names of what components add."""


def test_overlays_hold_the_same_things_but_for_their_components() -> None:
    base = {
        (each["kind"], each["metadata"]["name"]) for part in ("infrastructure", "apps") for each in built(ROOT / part)
    }
    for overlay in OVERLAYS:
        names = {
            (each["kind"], re.sub("^(upkeep-spec)-[a-z0-9]{10}$", r"\1", each["metadata"]["name"]))
            for each in overlay_built(overlay)
            if each["metadata"].get("namespace") not in ("argocd", "flux-system")
        }
        assert base <= names
        assert {name for _, name in names - base - {("ConfigMap", "upkeep-spec")}} == OPTIONAL[overlay]


# --- and they fit the code -----------------------------------------------------------------------------------------


@each_overlay
def test_the_controller_is_started_as_the_command_line_knows_it(overlay: str) -> None:
    deployment = controller(overlay)
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
def test_the_runtimes_are_those_that_specs_name_and_their_flags_are_the_servers(overlay: str) -> None:
    serving = Serving()
    runtimes = {each["metadata"]["name"]: each for each in of_kind(overlay, "ServingRuntime")}
    assert {*runtimes} == {serving.runtime, f"{serving.runtime}-tensorflow"}
    (account,) = [
        each for each in of_kind(overlay, "ServiceAccount") if each["metadata"]["namespace"] == serving.namespace
    ]
    assert account["metadata"]["name"] == serving.service_account
    every = {*get_args(get_type_hints(Manifest)["format"])}
    for name, runtime in runtimes.items():
        assert runtime["metadata"]["namespace"] == serving.namespace
        formats = {each["name"] for each in runtime["spec"]["supportedModelFormats"]}
        assert formats == (every if name.endswith("-tensorflow") else every - {"keras", "delta"})
        (container,) = runtime["spec"]["containers"]
        environ = {"UPKEEP_VERSION": "v1", "UPKEEP_DIGEST": "0" * 64}
        options = parse_server([*container["args"], "--model_name=m"], environ)
        assert options.host == "0.0.0.0"
        assert options.http_port == container["ports"][0]["containerPort"]


def test_every_image_of_ours_is_one_that_is_built() -> None:
    built_here = re.findall(r"^FROM .* AS (\S+)$", (ROOT.parent / "docker/Dockerfile").read_text(), re.M)
    for overlay in OVERLAYS:
        images = {container["image"] for _, pod in pods(overlay_built(overlay)) for container in pod["containers"]}
        ours = {each for each in images if each.startswith("upkeep/")}
        assert len(ours) == 3
        for image in ours:
            name, _, tag = image.removeprefix("upkeep/").partition(":")
            assert name in built_here
            assert tag == __version__


# --- rights --------------------------------------------------------------------------------------------------------

Right = tuple[str, str, str, str, str]
"""(namespace, group, resource, verb, name or ``*``)"""


def granted(objects: Sequence[Object]) -> set[Right]:
    """But for those that a model's Kustomization applies with."""
    found = set()
    roles = [each for each in objects if each["kind"] in ("Role", "ClusterRole")]
    for role in (each for each in roles if each["metadata"]["name"] != "upkeep-models"):
        for rule in role["rules"]:
            assert "nonResourceURLs" not in rule
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        for name in rule.get("resourceNames", ["*"]):
                            found.add((role["metadata"].get("namespace", ""), group, resource, verb, name))
    return found


def called(syncer: str, namespace: str = Serving().namespace) -> set[Right]:
    """What the client asks for, whatever the driver, in every method of a cluster."""
    found: set[Right] = set()
    (source,) = of_kind("kind", "ConfigMap")
    spec = parse(source["data"]["upkeep.yaml"].encode(), "upkeep.yaml").spec
    assert spec is not None
    for driver in DRIVERS:
        given = replace(
            spec,
            serving=replace(spec.serving, traffic=driver, namespace=namespace),
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
        lambda: list(doctor_kubernetes.edge(cluster, spec)),
        lambda: cluster.record(spec, Happening(kind="moved", message="m", key="k", at="now", version="v2")),
    ]
    if spec.rollout.synced_by:  # else it looks around, and may be refused
        methods.append(lambda: list(doctor_kubernetes.syncing(cluster, spec, "https://git.example.com/models.git")))
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
    are_equal(granted(overlay_built(overlay)), called(SYNCERS[overlay]))


@pytest.mark.parametrize(
    ("component", "syncer"),
    [("argocd", "argocd:argocd/models"), ("flux", "flux:flux-system/models"), ("knative", ""), ("istio", "")],
)
def test_each_component_adds_exactly_what_is_called_with_it(component: str, syncer: str, tmp_path: Path) -> None:
    are_equal(granted(built(with_component(ROOT / "components" / component, tmp_path))), called(syncer))


def test_models_may_serve_in_a_profiles_namespace(tmp_path: Path) -> None:
    objects = built(with_component(ROOT / "components/profile", tmp_path))
    are_equal(granted(objects), called("", "team-a"))
    assert not [each for each in objects if "models" in (each["metadata"]["name"], each["metadata"].get("namespace"))]
    (label,) = {str(each["spec"]["labels"]) for each in objects if each["kind"] == "ServingRuntime"}
    assert label == "{'sidecar.istio.io/inject': 'false'}"
    account = next(each for each in objects if each["metadata"]["name"] == Serving().service_account)
    assert account["metadata"]["namespace"] == "team-a"


def test_a_mesh_comes_to_the_servers_by_its_own_port(tmp_path: Path) -> None:
    objects = built(with_component(ROOT / "components/istio", tmp_path))
    (namespace,) = (each for each in objects if (each["kind"], each["metadata"]["name"]) == ("Namespace", "models"))
    assert namespace["metadata"]["labels"]["istio.io/dataplane-mode"] == "ambient"
    policies = {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "NetworkPolicy"}
    assert policies["upkeep-server-istio"]["podSelector"] == policies["upkeep-server"]["podSelector"]
    assert policies["upkeep-server-istio"]["ingress"] == [{"ports": [{"protocol": "TCP", "port": 15008}]}]


def are_equal(rights: set[Right], calls: set[Right]) -> None:
    whole = {right[:4] for right in rights if right[4] == "*"}
    assert {each[:4] for each in rights} == {each[:4] for each in calls}
    # and of what is named one by one, these and no others
    assert {each for each in rights if each[4] != "*"} == {each for each in calls if each[:4] not in whole}


@each_overlay
def test_what_the_doctor_asks_for_is_what_is_granted(overlay: str) -> None:
    (source,) = of_kind("kind", "ConfigMap")
    spec = parse(source["data"]["upkeep.yaml"].encode(), "upkeep.yaml").spec
    assert spec is not None
    spec = replace(spec, rollout=replace(spec.rollout, synced_by=SYNCERS[overlay]))
    wanted: set[tuple[str, ...]] = set()
    for driver in DRIVERS:
        given = replace(spec, serving=replace(spec.serving, traffic=driver))
        for right in needed(given, syncer_of(given, ()), "kserve"):
            wanted.add((right.namespace, right.group, right.resource, right.verb))
    assert wanted == {right[:4] for right in granted(overlay_built(overlay)) if right[2] != "leases"}


@each_overlay
def test_no_right_is_for_everything(overlay: str) -> None:
    for namespace, group, resource, verb, _ in granted(overlay_built(overlay)):
        assert "*" not in (group, resource, verb)
        assert verb in ("get", "list", "patch") or (verb == "create" and resource in ("leases", "events"))
        assert namespace or verb == "get"


def test_the_steps_of_an_update_call_kubernetes_for_their_workers_alone() -> None:
    """So the service account of their pods needs no right of ours, where ``components/workers`` is not used."""
    graph = grimp.build_graph("upkeep", cache_dir=None)
    # the package's door, of which modules below take the version only; as in .importlinter
    graph.remove_import(importer="upkeep", imported="upkeep.api")
    chains = graph.find_shortest_chains("upkeep.update", "upkeep.serving.kubernetes", as_packages=True)
    assert {chain[0] for chain in chains} == {"upkeep.update.workers"}
    assert graph.find_shortest_chains("upkeep.rollout", "upkeep.serving.kubernetes", as_packages=True)
    for step in (ROOT.parent / "components").glob("*.py"):
        assert not re.search(r"kubernetes|open_cluster", step.read_text()), step.name
