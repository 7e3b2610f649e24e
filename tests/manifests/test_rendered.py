"""What Upkeep writes, offered to a real API server that has the kinds' own definitions, see :mod:`tests.kube_api`."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kube_api import offered
from upkeep.errors import RefusedError
from upkeep.serving.drivers import DRIVERS
from upkeep.serving.kubernetes.api import Api
from upkeep.serving.kubernetes.brake import braked_path
from upkeep.serving.kubernetes.cluster import KubernetesCluster
from upkeep.serving.manifests import (
    KUSTOMIZATION_FILE,
    ServedVersion,
    render_kustomization,
    render_route,
    render_version,
)
from upkeep.spec.model import Data, Features, Metadata, ModelSpec, Retrain, Serving, Target

SPEC = ModelSpec(
    metadata=Metadata(name="flight-delays"),
    store="s3://upkeep",
    data=Data(source="x", target=Target(column="y"), features=Features()),
    candidates=(Retrain(name="a", strategy="retrain", estimator="sklearn.tree.DecisionTreeClassifier"),),
)
FULL = replace(
    SPEC,
    metadata=Metadata(name="a" * 40),
    store="/a folder/ö",
    serving=Serving(
        namespace="prod",
        host="delays.example.com",
        gateway="edge/public",
        min_replicas=2,
        max_replicas=20,
        resources={"cpu": "1", "memory": "2Gi", "nvidia.com/gpu": "1"},
    ),
)
V12 = ServedVersion(version="v12", digest="1" * 64, update="2026-03-01-1")
V13 = ServedVersion(version="v13", digest="0" * 58 + "123e45", update="1e5", format="ensemble")


def rendered() -> list[Any]:
    found = []
    for name, spec in (("defaults", SPEC), ("everything", FULL)):
        files = {
            "v12": render_version(spec, V12),
            "v13": render_version(spec, V13),
            "route": render_route(spec, {"v13": 0, "v12": 100}),
            "route of one": render_route(spec, {"v12": 100}),
        }
        for driver in ("canary", "knative"):
            made = DRIVERS[driver].files(spec, {"v12": V12, "v13": V13}, "v12", {"v12": 95, "v13": 5}, {})
            files |= {f"{driver} {file}": data for file, data in made.items() if file != KUSTOMIZATION_FILE}
        found += [pytest.param(yaml.safe_load(data), id=f"{name}: {file}") for file, data in files.items()]
    return found


def test_kustomize_finds_every_resource(tmp_path: Path) -> None:
    program = shutil.which("kustomize") or shutil.which("kubectl")
    if program is None:
        pytest.skip("neither kustomize nor kubectl is installed")
    (tmp_path / "kustomization.yaml").write_bytes(render_kustomization(["v12", "v13"]))
    (tmp_path / "route.yaml").write_bytes(render_route(SPEC, {"v12": 100, "v13": 0}))
    for version in (V12, V13):
        (tmp_path / f"{version.version}.yaml").write_bytes(render_version(SPEC, version))
    (tmp_path / "rollout.yaml").write_text("apiVersion: upkeep.dev/v1alpha1\nkind: Rollout\n")
    verb = "build" if program.endswith("kustomize") else "kustomize"
    done = subprocess.run([program, verb, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout)}
    assert set(built) == {
        ("HTTPRoute", "flight-delays-route"),
        ("InferenceService", "flight-delays-v12"),
        ("InferenceService", "flight-delays-v13"),
    }
    annotations = built["InferenceService", "flight-delays-v13"]["metadata"]["annotations"]
    assert annotations["upkeep.dev/update"] == "1e5"
    assert annotations["upkeep.dev/digest"] == V13.digest


@pytest.mark.slow
@pytest.mark.parametrize("manifest", rendered())
def test_a_real_api_server_takes_every_manifest_as_it_is(api: Api, manifest: dict[str, Any]) -> None:
    stored = offered(api, manifest)
    # Nothing was filled in or left out: what syncs Git with the cluster sees no difference.
    assert stored["spec"] == manifest["spec"]
    assert stored["metadata"].get("annotations") == manifest["metadata"].get("annotations")
    # And the check can fail.
    manifest["spec"]["unknown"] = 1
    with pytest.raises(RefusedError, match="unknown field"):
        offered(api, manifest)


@pytest.mark.slow
def test_a_brake_that_is_let_go_leaves_every_rule_where_no_syncer_comes(api: Api) -> None:
    spec = replace(SPEC, metadata=Metadata(name="alone"))
    manifest = yaml.safe_load(render_route(spec, {"v1": 50, "v2": 50}))
    where = braked_path(spec)
    api.apply(where, manifest, "kustomize-controller")
    cluster = KubernetesCluster(api)
    cluster.brake(spec, {"v1": 100, "v2": 0})
    braked = api.get(where)
    cluster.brake(spec, {"v1": 100, "v2": 0})
    assert api.get(where)["metadata"]["resourceVersion"] == braked["metadata"]["resourceVersion"]
    cluster.release(spec)
    free = api.get(where)
    assert free["spec"] == yaml.safe_load(render_route(spec, {"v1": 100, "v2": 0}))["spec"]
    assert not free["metadata"].get("annotations")
    assert {each["manager"] for each in braked["metadata"]["managedFields"]} >= {"upkeep-brake"}
    assert "upkeep-brake" not in {each["manager"] for each in free["metadata"]["managedFields"]}
    # and the syncer is not in anybody's way: no force is needed
    without = {"fieldManager": "kustomize-controller", "force": "false"}
    answer = api._call("PATCH", where, query=without, body=manifest, kind="application/apply-patch+yaml")
    assert answer["spec"] == manifest["spec"]
