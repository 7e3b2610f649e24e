"""Several workers in the compiled pipeline: the TFJob that the train step creates, and who asks for what."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from upkeep.pipelines.compile import compile_pipeline
from upkeep.pipelines.needs import needs_of
from upkeep.pipelines.pods import KubernetesPods
from upkeep.pipelines.run import run_here
from upkeep.pipelines.workers import tfjob

from tests.kube_api import offered
from tests.unit.data import make
from upkeep.errors import InputError, RefusedError
from upkeep.serving.kubernetes.api import Api
from upkeep.spec.check import OUR_VARIABLES
from upkeep.spec.model import FineTune, Kubeflow, ModelSpec, Network, ObjectStore, Secret, StepNeeds, Toleration
from upkeep.update.context import RUN_VARIABLE, UPDATE_VARIABLE
from upkeep.update.workers import JOB_VARIABLE, POD_VARIABLES, job_of

NET = FineTune(name="net", strategy="fine_tune", network=Network(hidden=(2,)), devices="workers")
POD = dict.fromkeys(POD_VARIABLES, "x")


def spec_of(**kubeflow: Any) -> ModelSpec:
    spec = make.spec("s3://data", candidates=(make.ONE, NET))
    return replace(
        spec,
        store="s3://models",
        object_store=ObjectStore(endpoint="http://s3:9000", region="here"),
        kubeflow=Kubeflow(**kubeflow),
    )


BUSY = spec_of(
    env={"PLAIN": "1"},
    secrets=(
        Secret(name="store", env={"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}),
        Secret(name="certificates", mount="/certificates"),
    ),
    steps={
        "all": StepNeeds(cpu="1", timeout=3600.0),
        "train": StepNeeds(memory="8Gi", retries=2),
        "train net": StepNeeds(
            gpu=1, workers=4, node_selector={"pool": "gpu"},
            tolerations=(Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),),
        ),
    },
)  # fmt: skip


def tasks(spec: ModelSpec, folder: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Each task's container, and what the platform adds to it, by the task's name."""
    pipeline, platform = yaml.safe_load_all(compile_pipeline(spec, folder / "update.yaml").read_text())
    added = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    found = {}
    for task in pipeline["root"]["dag"]["tasks"].values():
        label = pipeline["components"][task["componentRef"]["name"]]["executorLabel"]
        container = pipeline["deploymentSpec"]["executors"][label]["container"]
        found[task["taskInfo"]["name"]] = (container, added[label])
    return found


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container.get("env", [])}


def test_the_step_has_the_job_and_knows_its_pod_and_the_workers_have_what_it_asks_for(tmp_path: Path) -> None:
    found = tasks(BUSY, tmp_path)
    container, added = found.pop("train net")
    job = json.loads(variables(container)[JOB_VARIABLE])
    assert job == tfjob(BUSY, needs_of(BUSY, "train", "net"), {
        "PLAIN": "1", "AWS_ENDPOINT_URL_S3": "http://s3:9000", "AWS_REGION": "here",
    })  # fmt: skip
    assert {name: value for name, value in container["resources"].items() if value} == {
        "cpuRequest": 1.0, "resourceCpuRequest": "1",
    }, "the step itself only follows, and asks for what every step does"  # fmt: skip
    assert {"nodeSelector", "tolerations"}.isdisjoint(added)
    paths = {each["name"]: each["fieldPath"] for each in added["fieldPathAsEnv"]}
    assert POD_VARIABLES.items() <= paths.items()
    for other, _ in found.values():
        assert JOB_VARIABLE not in variables(other)
        assert "resources" in other


def test_a_worker_has_what_the_spec_says(tmp_path: Path) -> None:
    job = json.loads(variables(tasks(BUSY, tmp_path)["train net"][0])[JOB_VARIABLE])
    assert job["spec"]["runPolicy"] == {
        "cleanPodPolicy": "Running", "backoffLimit": 12, "ttlSecondsAfterFinished": 86400,
        "activeDeadlineSeconds": 3600,
    }  # fmt: skip
    worker = job["spec"]["tfReplicaSpecs"]["Worker"]
    pod = worker["template"]["spec"]
    (container,) = pod["containers"]
    assert worker["replicas"] == 4
    assert container["resources"] == {
        "requests": {"cpu": "1", "memory": "8Gi"}, "limits": {"memory": "8Gi", "nvidia.com/gpu": 1},
    }  # fmt: skip
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    named = {each["name"]: each.get("value") or each["valueFrom"]["secretKeyRef"] for each in container["env"]}
    assert named == {
        "HOME": "/tmp", "PLAIN": "1", "AWS_ENDPOINT_URL_S3": "http://s3:9000", "AWS_REGION": "here",
        "AWS_ACCESS_KEY_ID": {"name": "store", "key": "id"}, "AWS_SECRET_ACCESS_KEY": {"name": "store", "key": "key"},
    }  # fmt: skip
    mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert volumes[mounts["/certificates"]]["secret"] == {"secretName": "certificates"}
    assert volumes[mounts["/tmp"]]["emptyDir"] == {}


@pytest.mark.parametrize("spec", [spec_of(), BUSY], ids=["defaults", "everything"])
def test_a_real_api_server_takes_the_job(spec: ModelSpec, api: Api) -> None:
    job = job_of(tfjob(spec, needs_of(spec, "train", "net"), {}), name="a", place="s3://models/x", pod=POD)
    offered(api, job)
    job["spec"]["tfReplicaSpecs"]["Worker"]["replica"] = 2
    with pytest.raises(RefusedError, match=r'unknown field "spec\.tfReplicaSpecs\.Worker\.replica"'):
        offered(api, job)


def test_a_real_api_server_says_that_it_knows_tfjobs(api: Api) -> None:
    assert KubernetesPods(api, "team").may_be_workers()


def test_what_pods_ask_for_is_no_parameter_that_kfp_caches_by(tmp_path: Path) -> None:
    parameters = []
    for spec in (spec_of(), BUSY):
        pipeline, _ = yaml.safe_load_all(compile_pipeline(spec, tmp_path / "update.yaml").read_text())
        parameters.append([task["inputs"] for task in pipeline["root"]["dag"]["tasks"].values()])
    assert parameters[0] == parameters[1]


def test_a_run_here_says_so_before_anything_is_written(tmp_path: Path) -> None:
    spec = replace(spec_of(), store=str(tmp_path / "store"))
    with pytest.raises(InputError, match="here nothing starts workers") as raised:
        run_here(spec)
    assert str(raised.value.problems[0].where) == "candidates[net].devices"
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_no_spec_may_set_what_the_step_reads() -> None:
    assert {RUN_VARIABLE, UPDATE_VARIABLE, JOB_VARIABLE, *POD_VARIABLES} == {*OUR_VARIABLES}
