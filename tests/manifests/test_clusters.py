"""What tells Argo CD and Flux to apply Upkeep and the models: what it names is there, and no way back is held up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.manifests.build import ROOT, Object, built, with_component
from tests.manifests.test_overlays import are_equal, called, granted
from tests.manifests.test_rendered import rendered

SYNCERS = {"argocd": "argocd:argocd/models", "flux": "flux:flux-system/models"}


def ours() -> list[Object]:
    return [each for cluster in ("argocd", "flux") for each in built(ROOT / "clusters" / cluster)]


def named(kind: str, name: str) -> Object:
    (found,) = (each for each in ours() if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def test_flux_takes_the_next_commit_soon_after_one_that_fails() -> None:
    spec = named("Kustomization", "flight-delays")["spec"]
    assert spec["wait"] is False
    assert "healthChecks" not in spec
    assert "dependsOn" not in spec
    assert spec["timeout"] == "1m"
    assert spec["retryInterval"] == "15s"
    assert spec["prune"] is True


def test_argo_cd_retries_with_the_newest_commit_and_lets_the_brake_be() -> None:
    spec = named("ApplicationSet", "models")["spec"]["template"]["spec"]
    assert spec["syncPolicy"]["retry"]["refresh"] is True
    assert spec["syncPolicy"]["retry"]["limit"] == -1
    assert spec["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}
    assert "RespectIgnoreDifferences=true" in spec["syncPolicy"]["syncOptions"]
    assert spec["ignoreDifferences"] == [
        {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "managedFieldsManagers": ["upkeep-brake"]}
    ]


def applied(cluster: str, folder: Path) -> list[Object]:
    """What it applies of Upkeep itself: an overlay, and the component of who applies it."""
    if cluster == "argocd":
        source = named("Application", "upkeep")["spec"]["source"]
        path, components = source["path"], source["kustomize"]["components"]
    else:
        spec = named("Kustomization", "upkeep")["spec"]
        path, components = spec["path"], spec["components"]
    base = ROOT.parent / path
    (component,) = components
    return built(with_component((base / component).resolve(), folder, [str(base.relative_to(ROOT))]))


def written() -> set[tuple[str, str]]:
    """(group, kind) of what releases hold, whatever the driver."""
    manifests = [parameter.values[0] for parameter in rendered()]
    return {(each["apiVersion"].rpartition("/")[0], each["kind"]) for each in manifests}


@pytest.mark.parametrize(("cluster", "syncer"), list(SYNCERS.items()))
def test_the_controller_may_do_exactly_what_it_does(cluster: str, syncer: str, tmp_path: Path) -> None:
    are_equal(granted(applied(cluster, tmp_path)), called(syncer))


def test_argo_cds_projects_let_in_what_there_is_and_no_more(tmp_path: Path) -> None:
    production = applied("argocd", tmp_path)
    project = named("AppProject", "upkeep")["spec"]
    namespaces = {each["metadata"]["namespace"] for each in production if "namespace" in each["metadata"]}
    assert {each["namespace"] for each in project["destinations"]} == namespaces
    cluster_wide = {
        (each["apiVersion"].rpartition("/")[0], each["kind"])
        for each in production
        if "namespace" not in each["metadata"]
    }
    assert {(each["group"], each["kind"]) for each in project["clusterResourceWhitelist"]} == cluster_wide
    project = named("AppProject", "models")["spec"]
    assert {(each["group"], each["kind"]) for each in project["namespaceResourceWhitelist"]} == written()
    assert "clusterResourceWhitelist" not in project, "none"


def test_every_application_is_in_its_project() -> None:
    applications = [named("Application", "upkeep"), named("ApplicationSet", "models")["spec"]["template"]]
    assert [each["spec"]["project"] for each in applications] == ["upkeep", "models"]
    for each in applications:
        project = named("AppProject", each["spec"]["project"])["spec"]
        assert each["spec"]["destination"] in project["destinations"]
        assert project["sourceRepos"] == [each["spec"]["source"]["repoURL"]]


def test_flux_applies_a_release_with_the_rights_to_serve_it_and_no_others(tmp_path: Path) -> None:
    objects = applied("flux", tmp_path)
    account = named("Kustomization", "flight-delays")["spec"]["serviceAccountName"]
    bindings = [
        each
        for each in objects
        if each["kind"] in ("RoleBinding", "ClusterRoleBinding")
        and {"kind": "ServiceAccount", "name": account, "namespace": "flux-system"} in each["subjects"]
    ]
    assert [(each["kind"], each["metadata"]["namespace"]) for each in bindings] == [("RoleBinding", "models")]
    (role,) = (
        each
        for each in objects
        if (each["kind"], each["metadata"]["name"]) == ("Role", bindings[0]["roleRef"]["name"])
        and each["metadata"]["namespace"] == "models"
    )
    resources = {(rule["apiGroups"][0], resource) for rule in role["rules"] for resource in rule["resources"]}
    assert resources == {(group, f"{kind.lower()}s") for group, kind in written()}


def test_every_source_and_path_that_a_cluster_names_is_there() -> None:
    sources = {each["metadata"]["name"] for each in ours() if each["kind"] == "GitRepository"}
    for each in ours():
        if each["kind"] == "Kustomization":
            assert each["spec"]["sourceRef"]["name"] in sources
            path = each["spec"]["path"]
        elif each["kind"] == "Application":
            path = each["spec"]["source"]["path"]
        else:
            continue
        assert path.startswith("./models/") or (ROOT.parent / path / "kustomization.yaml").exists(), path
