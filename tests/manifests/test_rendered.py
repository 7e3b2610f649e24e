"""What Upkeep writes, held against the published CustomResourceDefinitions, and against a real API server.

Both come from outside the repository, see :mod:`tests.kube_api`. Without them these tests are skipped.
"""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kube_api import CRDS, running_api_server, validator
from tests.manifests.build import ROOT, built, with_component
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


@pytest.mark.parametrize("manifest", rendered())
def test_a_manifest_keeps_to_its_crd(manifest: dict[str, Any]) -> None:
    validator(manifest["kind"], manifest["apiVersion"]).validate(manifest)


def test_the_check_itself_finds_a_wrong_field() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    manifest = yaml.safe_load(render_version(SPEC, V12))
    manifest["spec"]["predictor"]["model"]["storageURI"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="storageURI"):
        validator("InferenceService", manifest["apiVersion"]).validate(manifest)


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


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """CustomObjectsApi of a real API server."""
    client = pytest.importorskip("kubernetes.client")
    config = pytest.importorskip("kubernetes.config")
    with (
        running_api_server(tmp_path_factory.mktemp("kube-api")) as kubeconfig,
        config.new_client_from_config(str(kubeconfig)) as connection,
    ):
        yield client.CustomObjectsApi(connection)


def address(manifest: dict[str, Any]) -> tuple[str, ...]:
    return (*manifest["apiVersion"].split("/"), manifest["metadata"]["namespace"], CRDS[manifest["kind"]])


@pytest.mark.slow
def test_a_real_api_server_takes_every_manifest_as_it_is(api: Any) -> None:
    exceptions = pytest.importorskip("kubernetes.client.exceptions")
    for parameter in rendered():
        manifest = parameter.values[0]
        if parameter.id.endswith(("route of one", "knative service.yaml")):
            continue  # of a name that is there already
        stored = api.create_namespaced_custom_object(*address(manifest), manifest, field_validation="Strict")
        # Nothing was filled in or left out: what syncs Git with the cluster sees no difference.
        assert stored["spec"] == manifest["spec"], parameter.id
        assert stored["metadata"].get("annotations") == manifest["metadata"].get("annotations")
        # And the check can fail.
        wrong = copy.deepcopy(manifest)
        wrong["metadata"]["name"] += "-x"
        wrong["spec"]["unknown"] = 1
        with pytest.raises(exceptions.ApiException, match="unknown field"):
            api.create_namespaced_custom_object(*address(wrong), wrong, field_validation="Strict")


@pytest.mark.slow
def test_a_real_api_server_takes_what_a_cluster_is_given(api: Any, tmp_path: Path) -> None:
    theirs = [each for each in built(with_component(ROOT / "components/istio", tmp_path)) if each["kind"] in CRDS]
    assert {each["kind"] for each in theirs} == {"ServingRuntime", "Gateway"}
    for each in theirs:
        stored = api.create_namespaced_custom_object(*address(each), each, field_validation="Strict")
        assert stored["metadata"]["name"] == each["metadata"]["name"]


@pytest.mark.slow
def test_a_real_api_server_takes_new_weights(api: Any) -> None:
    manifest = yaml.safe_load(render_route(replace(SPEC, metadata=Metadata(name="other")), {"v1": 100, "v2": 0}))
    stored = api.create_namespaced_custom_object(*address(manifest), manifest, field_validation="Strict")
    moved = yaml.safe_load(render_route(replace(SPEC, metadata=Metadata(name="other")), {"v1": 75, "v2": 25}))
    moved["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
    name = manifest["metadata"]["name"]
    replaced = api.replace_namespaced_custom_object(*address(moved), name, moved, field_validation="Strict")
    assert [ref["weight"] for ref in replaced["spec"]["rules"][-1]["backendRefs"]] == [75, 25]


@pytest.mark.slow
def test_a_brake_that_is_let_go_leaves_every_rule_where_no_syncer_comes(api: Any) -> None:
    spec = replace(SPEC, metadata=Metadata(name="alone"))
    manifest = yaml.safe_load(render_route(spec, {"v1": 50, "v2": 50}))
    name = manifest["metadata"]["name"]
    client = Api(api.api_client)
    path = braked_path(spec)
    client.apply(path, manifest, "kustomize-controller")
    cluster = KubernetesCluster(client)
    cluster.brake(spec, {"v1": 100, "v2": 0})
    braked = api.get_namespaced_custom_object(*address(manifest), name)
    cluster.brake(spec, {"v1": 100, "v2": 0})
    again = api.get_namespaced_custom_object(*address(manifest), name)
    assert again["metadata"]["resourceVersion"] == braked["metadata"]["resourceVersion"]
    cluster.release(spec)
    free = api.get_namespaced_custom_object(*address(manifest), name)
    assert free["spec"] == yaml.safe_load(render_route(spec, {"v1": 100, "v2": 0}))["spec"]
    assert not free["metadata"].get("annotations")
    assert {each["manager"] for each in braked["metadata"]["managedFields"]} >= {"upkeep-brake"}
    assert "upkeep-brake" not in {each["manager"] for each in free["metadata"]["managedFields"]}
    # and the syncer is not in anybody's way: no force is needed
    without = {"fieldManager": "kustomize-controller", "force": "false"}
    answer = api.api_client.call_api(
        path,
        "PATCH",
        query_params=list(without.items()),
        header_params={"Content-Type": "application/apply-patch+yaml"},
        body=manifest,
        response_type="object",
        _return_http_data_only=True,
    )
    assert answer["spec"] == manifest["spec"]
