"""The TFJob starts what there is, with inputs that it takes."""

from __future__ import annotations

import importlib.util
import inspect
import json
from pathlib import Path

import pytest

from tests.manifests.build import ROOT, Object, built, with_component
from upkeep import __version__
from upkeep.update.train import train


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Object]:
    folder = with_component(ROOT / "components/workers", tmp_path_factory.mktemp("workers"))
    return {each["kind"]: each for each in built(folder) if each["metadata"]["name"].startswith("upkeep-worker")}


def test_the_job_runs_the_worker_on_the_inputs_that_are_mounted(objects: dict[str, Object]) -> None:
    worker = objects["TFJob"]["spec"]["tfReplicaSpecs"]["Worker"]
    (container,) = worker["template"]["spec"]["containers"]
    assert container["name"] == "tensorflow", "the operator sets TF_CONFIG in the container of this name"
    program, flag, module, path = container["command"]
    assert (program, flag) == ("python", "-m")
    assert importlib.util.find_spec(module) is not None
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    volumes = {each["name"]: each for each in worker["template"]["spec"]["volumes"]}
    config = objects["ConfigMap"]
    assert volumes["inputs"]["configMap"]["name"] == config["metadata"]["name"]
    (name,) = config["data"]
    assert path == f"{mounts['inputs']}/{name}"
    assert (
        volumes["shared"]["persistentVolumeClaim"]["claimName"] == objects["PersistentVolumeClaim"]["metadata"]["name"]
    )
    assert container["image"] == f"upkeep/tensorflow:{__version__}"
    # exit code 3 (a peer is gone) is final to `ExitCode`
    assert worker["restartPolicy"] == "OnFailure"


def test_the_inputs_are_those_of_the_train_step(objects: dict[str, Object]) -> None:
    (text,) = objects["ConfigMap"]["data"].values()
    inputs = json.loads(text)
    wanted = inspect.signature(train).parameters.keys() - {"context", "metrics"} | {"spec", "spec_digest"}
    assert inputs.keys() == wanted
    worker = objects["TFJob"]["spec"]["tfReplicaSpecs"]["Worker"]
    mounts = [Path(each["mountPath"]) for each in worker["template"]["spec"]["containers"][0]["volumeMounts"]]
    for name in ("prepared", "model"):
        assert Path(inputs[name]).parent in mounts
    assert inputs["spec"].endswith(f"/specs/{inputs['spec_digest']}.json")
