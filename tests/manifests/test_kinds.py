"""What other projects define (Prometheus' operator, Flux, Argo CD, External Secrets) is used as they define it.

Their CustomResourceDefinitions are published as TypeScript types: each object of ours is written as a literal of its
type, and the compiler says which field is unknown, missing or of another kind. `npm install` in a copy of package.json
puts them below ``.venv-tools/kinds`` (or where ``UPKEEP_TEST_KINDS`` says).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.manifests.build import ROOT, Object, built

KINDS = Path(os.environ.get("UPKEEP_TEST_KINDS", ROOT.parent / ".venv-tools/kinds"))
PACKAGES = {
    "monitoring.coreos.com": "prometheus-operator",
    "kustomize.toolkit.fluxcd.io": "flux-cd",
    "source.toolkit.fluxcd.io": "flux-cd",
    "argoproj.io": "argo-cd",
    "external-secrets.io": "external-secrets",
}
SETTINGS = ("--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext")
FOLDERS = [ROOT / name for name in ("overlays/production", "clusters/argocd", "clusters/flux")]


def group(each: Object) -> str:
    return str(each["apiVersion"].partition("/")[0])


def ours() -> list[Object]:
    return [each for folder in FOLDERS for each in built(folder) if group(each) in PACKAGES]


def complaints(objects: list[Object], folder: Path) -> str:
    """What the compiler says of them."""
    node, compiler = shutil.which("node"), KINDS / "node_modules/typescript/bin/tsc"
    if node is None or not compiler.exists():
        pytest.skip(
            f"no types of other projects' kinds: copy tests/manifests/package.json to {KINDS}, npm install there"
        )
    lines = []
    for number, each in enumerate(objects):
        version = each["apiVersion"].partition("/")[2]
        module = f"@kubernetes-models/{PACKAGES[group(each)]}/{group(each)}/{version}/{each['kind']}"
        lines.append(f'import type {{ I{each["kind"]} as T{number} }} from "{module}";')
        lines.append(f"export const o{number}: T{number} = {json.dumps(each)};")
    (folder / "node_modules").symlink_to(KINDS / "node_modules")
    (folder / "objects.ts").write_text("\n".join(lines))
    done = subprocess.run(
        [node, str(compiler), *SETTINGS, "objects.ts"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode != 0) == bool(done.stdout)
    return done.stdout


def without_news(each: Any) -> Any:
    """Without what is newer than the types: Argo CD knows ``retry.refresh`` since 3.2."""
    if isinstance(each, dict):
        return {
            name: {k: v for k, v in value.items() if k != "refresh"} if name == "retry" else without_news(value)
            for name, value in each.items()
        }
    return [without_news(one) for one in each] if isinstance(each, list) else each


def test_everything_of_theirs_is_as_they_define_it(tmp_path: Path) -> None:
    objects = ours()
    assert {group(each) for each in objects} == PACKAGES.keys()
    assert complaints([without_news(each) for each in objects], tmp_path) == ""


def test_what_is_not_is_found(tmp_path: Path) -> None:
    objects = [each for each in ours() if each["kind"] in ("PodMonitor", "Kustomization", "Application")][:3]
    for each in objects:
        each["spec"]["wishes"] = 1
    said = complaints([without_news(each) for each in objects], tmp_path)
    assert len(re.findall(r"'?\"?wishes\"?'? does not exist", said)) == len(objects), said


# --- a way back is not held up -------------------------------------------------------------------------------------


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
