"""What tells Argo CD and Flux to apply Upkeep and the models: what it names is there, and no way back is held up."""

from __future__ import annotations

from tests.manifests.build import ROOT, Object, built


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


def test_argo_cds_project_lets_in_what_the_overlay_holds_and_no_more() -> None:
    project = named("AppProject", "upkeep")["spec"]
    production = built(ROOT / "overlays/production")
    namespaces = {each["metadata"]["namespace"] for each in production if "namespace" in each["metadata"]}
    assert {each["namespace"] for each in project["destinations"]} == namespaces
    cluster_wide = {
        (each["apiVersion"].rpartition("/")[0], each["kind"])
        for each in production
        if "namespace" not in each["metadata"]
    }
    assert {(each["group"], each["kind"]) for each in project["clusterResourceWhitelist"]} == cluster_wide
    sources = {named("Application", "upkeep")["spec"]["source"]["repoURL"]}
    sources.add(named("ApplicationSet", "models")["spec"]["template"]["spec"]["source"]["repoURL"])
    assert {*project["sourceRepos"]} == sources


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
