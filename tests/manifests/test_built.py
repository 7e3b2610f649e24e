"""Whatever kustomize makes of manifests/, all overlays, clusters and components: it builds, keeps to its schemas, meets
Pod Security's `restricted`, runs what stays the same, holds no secret and gives nobody everything."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from upkeep.pipelines.workers import NAME

from tests.kube_api import offered
from tests.manifests.build import ROOT, Object, built, is_component, kustomizations, pods, with_component
from upkeep.errors import RefusedError
from upkeep.serving.kubernetes.api import Api

OLDEST, NEWEST = "1.31", "1.34"
"""Kubernetes' versions that the manifests are held against."""
WITH_KINDS_OF_OTHERS = ("overlays/production", "clusters/argocd", "clusters/flux")


@pytest.fixture(scope="module", params=kustomizations(), ids=lambda folder: str(folder.relative_to(ROOT)))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to build; a component with the bases that it adds to."""
    given: Path = request.param
    return with_component(given, tmp_path_factory.mktemp("with")) if is_component(given) else given


@pytest.fixture
def objects(folder: Path) -> list[Object]:
    """All that is built of one folder."""
    return built(folder)


@functools.cache
def keeps_to_kubernetes_schema(text: str) -> None:
    """Most folders build the same objects: each is looked at once."""
    for version in (OLDEST, NEWEST):
        kubernetes_validate.validate(json.loads(text), version, strict=True)


def containers(pod: Object) -> list[Object]:
    return [*pod["containers"], *pod.get("initContainers", [])]


def test_there_is_what_the_readme_names() -> None:
    names = {str(each.relative_to(ROOT)) for each in kustomizations()}
    assert {"overlays/kind", "overlays/staging", "overlays/production", "monitoring", "clusters/flux"} <= names
    readme = (ROOT / "README.md").read_text()
    unsaid = [name for name in names if f"`{name}/`" not in readme and f"`{name}`" not in readme]
    assert unsaid == []


def test_every_link_and_path_of_the_readme_leads_somewhere() -> None:
    readme = (ROOT / "README.md").read_text()
    links = [each for each in re.findall(r"\]\(([^)#]+)\)", readme) if "://" not in each]
    assert links
    paths = re.findall(r"\b(manifests/[\w/-]+|components/[\w-]+)", re.sub(r"[\w/]+/mine", "", readme))
    assert all((ROOT / each).exists() for each in links)
    assert all((ROOT.parent / each).exists() or (ROOT / each).exists() for each in paths)


def built_in(each: Object) -> bool:
    """Whether its kind is Kubernetes' own."""
    group = each["apiVersion"].rpartition("/")[0]
    return "." not in group or (group.endswith(".k8s.io") and group != "gateway.networking.k8s.io")


def test_everything_of_kubernetes_keeps_to_its_schema(objects: list[Object]) -> None:
    for each in objects:
        if built_in(each):
            keeps_to_kubernetes_schema(json.dumps(each))


@pytest.fixture(scope="module")
def seen() -> set[str]:
    """What the API server took already."""
    return set()


def test_a_real_api_server_takes_everything_else(objects: list[Object], api: Api, seen: set[str]) -> None:
    for each in objects:
        text = json.dumps(each)
        if not built_in(each) and text not in seen:
            offered(api, each)
            seen.add(text)


def test_it_takes_no_field_that_it_does_not_know(api: Api) -> None:
    found = {
        each["kind"]: each for folder in WITH_KINDS_OF_OTHERS for each in built(ROOT / folder) if not built_in(each)
    }
    assert found.keys() >= {"Application", "ApplicationSet", "AppProject", "Kustomization", "GitRepository"}
    assert found.keys() >= {"PodMonitor", "PrometheusRule", "ExternalSecret", "ServingRuntime"}
    for each in found.values():
        each["spec"]["wishes"] = 1
        with pytest.raises(RefusedError, match="wishes"):
            offered(api, each)


def test_nothing_is_named_twice(objects: list[Object]) -> None:
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects]
    assert len(set(names)) == len(names)


def test_pods_meet_the_restricted_standard(objects: list[Object]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    kinds = {"name", "configMap", "emptyDir", "secret", "persistentVolumeClaim", "projected", "csi", "ephemeral"}
    for what, pod in pods(objects):
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), what
        assert all({*volume} <= kinds for volume in pod.get("volumes", [])), what
        for container in containers(pod):
            own = container["securityContext"]
            context = {**pod.get("securityContext", {}), **own}
            assert context["runAsNonRoot"] is True, what
            assert context.get("runAsUser") != 0, what
            assert own["allowPrivilegeEscalation"] is False, what
            assert own["capabilities"] == {"drop": ["ALL"]}, what
            assert context["seccompProfile"]["type"] == "RuntimeDefault", what
            assert not own.get("privileged"), what
            assert not any("hostPort" in port for port in container.get("ports", [])), what


def test_pods_write_nowhere_but_in_volumes_and_say_what_they_need(objects: list[Object]) -> None:
    for what, pod in pods(objects):
        for container in containers(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, what
            assert {"requests", "limits"} <= container["resources"].keys(), what
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, what
            if not what.startswith(("Job", "CronJob")):
                assert {"readinessProbe", "livenessProbe"} <= container.keys(), what


def test_every_image_has_a_tag_that_stays(objects: list[Object]) -> None:
    for what, pod in pods(objects):
        for container in containers(pod):
            name, _, tag = container["image"].rpartition(":")
            assert name, what
            assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag) or name.endswith("@sha256"), what


def secrets_in_clear(each: Any) -> list[str]:
    """Names of variables and fields that look like a secret and have a value."""
    found = []
    if isinstance(each, dict):
        if re.search(r"TOKEN|KEY|PASSWORD|SECRET", str(each.get("name", ""))) and each.get("value"):
            found.append(each["name"])
        found += [name for value in each.values() for name in secrets_in_clear(value)]
    elif isinstance(each, list):
        found += [name for value in each for name in secrets_in_clear(value)]
    return found


def test_no_secret_is_there_in_clear(objects: list[Object]) -> None:
    assert not [each for each in objects if each["kind"] == "Secret"]
    assert secrets_in_clear(objects) == []
    assert secrets_in_clear([{"env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}]}]) == ["AWS_SECRET_ACCESS_KEY"]


def test_nobody_may_do_everything(objects: list[Object]) -> None:
    for each in objects:
        if each["kind"] in ("Role", "ClusterRole"):
            for rule in each["rules"]:
                assert "nonResourceURLs" not in rule
                assert not {"*"} & {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
                assert "secrets" not in rule["resources"]
                assert not {"escalate", "bind", "impersonate"} & {*rule["verbs"]}
        elif each["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            assert each["roleRef"]["name"].startswith("upkeep-")


def beside(each: Object) -> list[Object]:
    """The peers of a policy that are pods of its own namespace."""
    rules = (
        [*each["spec"].get("ingress", []), *each["spec"].get("egress", [])] if each["kind"] == "NetworkPolicy" else []
    )
    peers = [peer for rule in rules for peer in (*rule.get("from", ()), *rule.get("to", ()))]
    return [peer for peer in peers if "namespaceSelector" not in peer]


def test_who_is_bound_selected_or_mounted_is_there(objects: list[Object]) -> None:
    def names(kind: str) -> set[tuple[str, str]]:
        return {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in objects if each["kind"] == kind}

    labelled = [
        (each["metadata"]["namespace"], each["spec"]["template"]["metadata"]["labels"])
        for each in objects
        if each["kind"] == "Deployment"
    ]
    labelled.append(("kubeflow", {"app.kubernetes.io/name": NAME}))  # a train step makes them
    for each in objects:
        place = each["metadata"].get("namespace", "")
        if each["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            known = {*names("ServiceAccount"), ("kubeflow", "pipeline-runner")}  # that one is KFP's own
            assert {(one["namespace"], one["name"]) for one in each["subjects"]} <= known
        selector = {
            "NetworkPolicy": lambda spec: spec["podSelector"],
            "PodDisruptionBudget": lambda spec: spec["selector"],
            "PodMonitor": lambda spec: spec["selector"],
            "Service": lambda spec: {"matchLabels": spec["selector"]},
        }.get(each["kind"], lambda spec: {})(each.get("spec") or {})
        wanted = selector.get("matchLabels", {})
        for one in [wanted, *(peer["podSelector"]["matchLabels"] for peer in beside(each))]:
            assert not one or any(one.items() <= labels.items() for at, labels in labelled if at == place), each
        if each["kind"] == "Deployment":
            assert (
                each["spec"]["selector"]["matchLabels"].items()
                <= each["spec"]["template"]["metadata"]["labels"].items()
            )
            for volume in each["spec"]["template"]["spec"].get("volumes", []):
                if "persistentVolumeClaim" in volume:
                    claim = volume["persistentVolumeClaim"]["claimName"]
                    assert (place, claim) in names("PersistentVolumeClaim")


def test_every_namespace_of_pods_is_held_to_a_standard(objects: list[Object]) -> None:
    levels = {
        each["metadata"]["name"]: each["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for each in objects
        if each["kind"] == "Namespace"
    }
    for each in objects:
        if each["kind"] == "Deployment":
            assert levels[each["metadata"]["namespace"]] == "restricted"


def test_the_check_itself_finds_a_wrong_field() -> None:
    deployment = next(each for each in built(ROOT / "overlays/kind") if each["kind"] == "Deployment")
    deployment["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)
