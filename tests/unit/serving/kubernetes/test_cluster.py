"""What is told of a cluster where things are missing, forbidden or changed meanwhile. The rest is the contract's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.serving.kubernetes.fake_client import FakeClient, refusal
from upkeep.errors import AccessError, ConflictError, InputError, OutsideError, SpecError
from upkeep.serving.connect import open_cluster, open_counters
from upkeep.serving.drivers import driver_of
from upkeep.serving.drivers.knative import tagged_url
from upkeep.serving.kubernetes.api import Api
from upkeep.serving.kubernetes.cluster import KubernetesCluster
from upkeep.serving.manifests import ServedVersion
from upkeep.spec.model import Data, Features, Metadata, ModelSpec, Retrain, Rollout, Serving, Target

SPEC = ModelSpec(
    metadata=Metadata(name="m"),
    store="s3://upkeep",
    data=Data(source="x", target=Target(column="y"), features=Features()),
    candidates=(Retrain(name="a", strategy="retrain", estimator="sklearn.tree.DecisionTreeClassifier"),),
)
SERVICES = "/apis/serving.kserve.io/v1beta1/namespaces/models/inferenceservices"
ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces/models/httproutes"
ROUTE = f"{ROUTES}/m-route"
APPLICATION = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications/models"
GATEWAY = "/apis/gateway.networking.k8s.io/v1/namespaces/kserve/gateways/kserve-ingress-gateway"
CONFIG = "/api/v1/namespaces/kserve/configmaps/inferenceservice-config"
DEPLOYMENT = "/apis/apps/v1/namespaces/kserve/deployments/kserve-controller-manager"
RUNTIME = "/apis/serving.kserve.io/v1alpha1/namespaces/models/servingruntimes/upkeep-server"
CLUSTER_RUNTIME = "/apis/serving.kserve.io/v1alpha1/clusterservingruntimes/upkeep-server"
KNATIVE = "/apis/serving.knative.dev/v1/namespaces/models/services"
NONE: dict[str, Any] = {"items": []}


def cluster(answers: Mapping[str, Any]) -> tuple[KubernetesCluster, FakeClient]:
    client = FakeClient(answers)
    return KubernetesCluster(Api(client, sleep=lambda _: None), place="the cluster"), client


def live_object(spec: ModelSpec, weights: Mapping[str, int], name: str, managers: tuple[str, ...] = ()) -> Any:
    versions = {each: ServedVersion(version=each, digest=each[1] * 64, update="u") for each in weights}
    found = yaml.safe_load(driver_of(spec).files(spec, versions, "v1", weights, {})[name])
    fields = [{"manager": each} for each in managers]
    found["metadata"] |= {"resourceVersion": "7", "managedFields": fields}
    return found


def test_without_kserve_nothing_is_known() -> None:
    with pytest.raises(OutsideError, match="InferenceService"):
        cluster({})[0].live(SPEC)


def test_a_look_is_three_requests_however_many_versions_there_are() -> None:
    """docs/decisions/0022-polled.md counts on it."""
    spec = replace(SPEC, rollout=Rollout(synced_by="argocd:argocd/models"))
    kubernetes, client = cluster({SERVICES: NONE, ROUTES: NONE, APPLICATION: {}})
    kubernetes.live(spec)
    assert [(each.method, each.path) for each in client.asked] == [
        ("GET", SERVICES),
        ("GET", APPLICATION),
        ("GET", ROUTES),
    ]


def test_without_gateway_api_there_are_no_weights() -> None:
    live = cluster({SERVICES: NONE})[0].live(SPEC)
    assert (live.weights, live.braked, live.commit, live.message) == (None, False, None, "")


@pytest.mark.parametrize(
    ("answer", "message"),
    [(refusal(404), "is not there"), (refusal(403, "forbidden"), "may not be read")],
)
def test_a_syncer_that_cannot_be_read_leaves_the_commit_unknown_and_is_told(answer: Any, message: str) -> None:
    spec = replace(SPEC, rollout=Rollout(synced_by="argocd:argocd/models"))
    live = cluster({SERVICES: NONE, ROUTES: NONE, APPLICATION: answer})[0].live(spec)
    assert live.commit is None
    assert message in live.message


def test_a_syncer_that_does_not_answer_is_an_error() -> None:
    spec = replace(SPEC, rollout=Rollout(synced_by="argocd:argocd/models"))
    with pytest.raises(OutsideError):
        cluster({SERVICES: NONE, ROUTES: NONE, APPLICATION: [refusal(500)] * 9})[0].live(spec)


def test_no_permission_is_never_an_empty_cluster() -> None:
    with pytest.raises(AccessError):
        cluster({SERVICES: NONE, ROUTES: refusal(403)})[0].live(SPEC)


# --- the brake -----------------------------------------------------------------------------------------------------


def test_the_brake_forces_the_rules_and_nothing_else() -> None:
    standing = live_object(SPEC, {"v1": 50, "v2": 50}, "route.yaml")
    made, client = cluster({ROUTE: standing})
    made.brake(SPEC, {"v1": 100, "v2": 0})
    body = client.asked[-1].body
    assert client.asked[-1].query["fieldManager"] == "upkeep-brake"
    assert {*body["spec"]} == {"rules"}
    wanted = live_object(SPEC, {"v1": 100, "v2": 0}, "route.yaml")
    assert body["spec"]["rules"] == wanted["spec"]["rules"]


@pytest.mark.parametrize(("traffic", "path"), [("canary", SERVICES + "/m"), ("knative", SERVICES + "/m")])
def test_the_brake_of_the_other_drivers_is_in_the_service(traffic: Any, path: str) -> None:
    spec = replace(SPEC, serving=Serving(traffic=traffic))
    standing = live_object(spec, {"v1": 50, "v2": 50}, "service.yaml")
    made, client = cluster({path: standing})
    made.brake(spec, {"v1": 100, "v2": 0})
    forced = client.asked[-1].body["spec"]
    wanted = live_object(spec, {"v1": 100, "v2": 0}, "service.yaml")["spec"]
    if traffic == "canary":
        assert forced == {"canary": wanted["canary"]}
    else:
        assert forced == {"predictor": {"canaryTrafficPercent": 0}}
    with pytest.raises(OutsideError, match="serves v1, v2"):
        made.brake(spec, {"v1": 100})


@pytest.mark.parametrize("weights", [{"v1": 90}, {"v1": 110, "v2": -10}])
def test_weights_that_are_none_are_never_forced(weights: dict[str, int]) -> None:
    made, client = cluster({})
    with pytest.raises(ValueError, match="sum to 100"):
        made.brake(SPEC, weights)
    assert not client.asked


def test_letting_go_leaves_the_values_and_the_other_owners() -> None:
    standing = live_object(SPEC, {"v1": 100}, "route.yaml", ("argocd-controller", "upkeep-brake"))
    made, client = cluster({ROUTE: [standing, {}]})
    made.release(SPEC)
    change = client.asked[1].body
    assert change["metadata"]["managedFields"] == [{"manager": "argocd-controller"}]
    assert change["metadata"]["resourceVersion"] == "7"
    assert {*change} == {"metadata"}


def test_the_last_owners_going_is_written_so_that_the_server_takes_it() -> None:
    standing = live_object(SPEC, {"v1": 100}, "route.yaml", ("upkeep-brake",))
    made, client = cluster({ROUTE: [standing, {}]})
    made.release(SPEC)
    assert client.asked[1].body["metadata"]["managedFields"] == [{}]


def test_letting_go_looks_again_when_somebody_wrote_meanwhile() -> None:
    standing = live_object(SPEC, {"v1": 100}, "route.yaml", ("upkeep-brake",))
    made, client = cluster({ROUTE: [standing, refusal(409), standing, {}]})
    made.release(SPEC)
    assert [each.method for each in client.asked if each.path == ROUTE] == ["GET", "PATCH", "GET", "PATCH"]
    made, _ = cluster({ROUTE: [standing, refusal(409)] * 9})
    with pytest.raises(ConflictError):
        made.release(SPEC)


def test_nothing_is_let_go_where_nothing_was_forced() -> None:
    for standing in (live_object(SPEC, {"v1": 100}, "route.yaml", ("argocd-controller",)), refusal(404)):
        made, client = cluster({ROUTE: standing})
        made.release(SPEC)
        assert [each.method for each in client.asked] == ["GET"]


# --- the probe, and the facts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "gateway",
    [
        {"spec": {"listeners": [{"protocol": "HTTP", "port": 80}]}},
        {"spec": {"listeners": [{"protocol": "HTTPS", "port": 443}]}, "status": {"addresses": [{"value": "::1"}]}},
    ],
)
def test_a_gateway_that_is_not_there_yet_says_what_is_missing(gateway: Any) -> None:
    with pytest.raises(OutsideError, match="has no"):
        cluster({GATEWAY: gateway})[0].probe(SPEC, "v1", [{}])


def test_an_address_of_the_sixth_version_is_written_as_one() -> None:
    gateway = {
        "spec": {"listeners": [{"protocol": "HTTP", "port": 1}]},
        "status": {"addresses": [{"value": "::1"}]},
    }
    probe = cluster({GATEWAY: gateway})[0].probe(SPEC, "v1", [{}])
    assert not probe.ok
    assert "Invalid" not in probe.message


def test_knative_is_asked_at_the_revisions_own_address() -> None:
    spec = replace(SPEC, serving=Serving(traffic="knative"))
    service = live_object(spec, {"v1": 90, "v2": 10}, "service.yaml")
    traffic = [
        {"revisionName": "two", "percent": 10, "tag": "latest", "url": "http://latest-m.example"},
        {"revisionName": "one", "percent": 90, "tag": "prev", "url": "http://prev-m.example"},
    ]
    predictor = {"latestCreatedRevision": "two", "latestReadyRevision": "two", "traffic": traffic}
    service["status"] = {"components": {"predictor": predictor}}
    assert tagged_url(service, "v1") == "http://prev-m.example"
    assert tagged_url(service, "v2") == "http://latest-m.example"
    assert tagged_url(service, "v3") == ""
    # the newest failed to come up: the one that has no address is never taken for the other
    predictor["traffic"] = traffic[1:]
    assert tagged_url(service, "v2") == ""
    probe = cluster({f"{SERVICES}/m": service})[0].probe(spec, "v2", [{}])
    assert (probe.ok, probe.status) == (False, None)


def test_the_facts_that_are_there() -> None:
    image = {"name": "manager", "image": "registry:5000/kserve/kserve-controller:v0.20.0@sha256:" + "0" * 64}
    facts = cluster(
        {
            CONFIG: {
                "data": {
                    "deploy": json.dumps({"defaultDeploymentMode": "Standard"}),
                    "ingress": json.dumps({"enableGatewayApi": True}),
                }
            },
            DEPLOYMENT: {"spec": {"template": {"spec": {"containers": [image]}}}},
            ROUTES: NONE,
            KNATIVE: NONE,
            CLUSTER_RUNTIME: {"spec": {"supportedModelFormats": [{"name": "sklearn"}, {"name": "ensemble"}]}},
        }
    )[0].facts(SPEC)
    assert (facts.kserve, facts.mode, facts.gateway_api) == ((0, 20, 0), "Standard", True)
    assert (facts.http_routes, facts.knative) == (True, True)
    assert facts.runtime_formats == {"sklearn", "ensemble"}


@pytest.mark.parametrize(
    "answers",
    [
        {},
        dict.fromkeys((CONFIG, DEPLOYMENT, RUNTIME, CLUSTER_RUNTIME), refusal(403)),
        {
            CONFIG: {"data": {"deploy": "{", "ingress": "[]"}},
            DEPLOYMENT: {"spec": {"template": {"spec": {"containers": [{"name": "manager", "image": "a/b:main"}]}}}},
        },
    ],
)
def test_what_could_not_be_found_out_stays_unknown(answers: Any) -> None:
    facts = cluster(answers)[0].facts(SPEC)
    assert (facts.kserve, facts.mode, facts.gateway_api, facts.runtime_formats) == (None, None, None, None)
    assert (facts.http_routes, facts.knative) == (False, False)


def test_what_may_not_be_listed_is_unknown_too() -> None:
    facts = cluster({ROUTES: refusal(403), KNATIVE: refusal(403)})[0].facts(SPEC)
    assert (facts.http_routes, facts.knative) == (None, None)


# --- which cluster -------------------------------------------------------------------------------------------------


def test_the_environment_says_which_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(InputError, match="two clusters"):
        open_cluster(SPEC, tmp_path, {"UPKEEP_KUBE_CONTEXT": "kind"})
    with pytest.raises(AccessError, match="kind"):
        open_cluster(SPEC, None, {"UPKEEP_KUBE_CONTEXT": "kind"})
    with pytest.raises(AccessError, match="in-cluster"):
        open_cluster(SPEC, None, {"UPKEEP_KUBE_CONTEXT": "in-cluster"})
    with pytest.raises(SpecError, match="Prometheus"):
        open_counters(SPEC, None, {"UPKEEP_KUBE_CONTEXT": "kind"})
    assert type(open_cluster(SPEC, tmp_path, {})).__name__ == "LocalCluster"


def test_a_context_of_the_kubeconfig_is_a_way_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "kind", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "",
    }
    (tmp_path / "config").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **config}))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    found = open_cluster(SPEC, None, {"UPKEEP_KUBE_CONTEXT": "kind"})
    with pytest.raises(OutsideError, match=r"127\.0\.0\.1:1"):
        found.live(SPEC)
