"""The composed pipeline: what feeds what, and the same bytes for the same spec."""

from __future__ import annotations

import functools
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from upkeep.pipelines.compile import compile_pipeline
from upkeep.pipelines.update import update_pipeline

import upkeep
from upkeep.data.dataset import DataFile, Dataset
from upkeep.spec.load import load
from upkeep.spec.model import FineTune, ModelSpec, Secret

ROOT = Path(__file__).parents[3]
EXAMPLES = ("flights", "basics", "kubeflow")
SPECS = {"kubeflow": Path(__file__).parent / "kubeflow.yaml"}


@functools.cache
def compiled(example: str) -> str:
    path = SPECS.get(example, ROOT / "examples" / example / "upkeep.yaml")
    with tempfile.TemporaryDirectory() as folder:
        return compile_pipeline(load(path), Path(folder) / "update.yaml").read_text()


def documents(example: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline's executors, and what the platform adds to each, by the steps' names."""
    pipeline, platform = yaml.safe_load_all(compiled(example))
    added = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    executors = pipeline["deploymentSpec"]["executors"]
    labels = {
        task["taskInfo"]["name"]: pipeline["components"][task["componentRef"]["name"]]["executorLabel"]
        for task in pipeline["root"]["dag"]["tasks"].values()
    }
    return (
        {name: executors[label]["container"] for name, label in labels.items()},
        {name: added[label] for name, label in labels.items()},
    )


def tasks(example: str) -> dict[str, Any]:
    pipeline, _ = yaml.safe_load_all(compiled(example))
    found: dict[str, Any] = pipeline["root"]["dag"]["tasks"]
    return found


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_compiled_pipeline_is_the_golden_file(example: str) -> None:
    golden = ROOT / "tests/golden" / f"{example}.yaml"
    text = compiled(example)
    if os.environ.get("UPKEEP_WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text(), "if the change is meant: UPKEEP_WRITE_GOLDEN=1 make test"


def test_one_train_task_a_candidate_with_its_name() -> None:
    root = tasks("flights")
    names = {task["taskInfo"]["name"] for task in root.values()}
    assert names == {
        "collect", "preprocess", "drift", "train boosting", "train linear", "evaluate", "deploy",
    }  # fmt: skip


def test_digests_are_parameters_of_every_step_that_caches() -> None:
    root = tasks("flights")
    for name, task in root.items():
        inputs = task["inputs"]["parameters"]
        assert "spec_digest" in inputs
        if name != "collect":
            assert inputs["dataset_digest"]["taskOutputParameter"]["producerTask"] == "collect"
        if name not in ("collect", "deploy"):  # rows held out earlier decide what the prepared rows are
            assert inputs["seen"]["taskOutputParameter"]["producerTask"] == "collect"


def test_what_finds_the_data_and_what_acts_is_never_cached() -> None:
    root = tasks("basics")
    cached = {name for name, task in root.items() if task.get("cachingOptions", {}).get("enableCache")}
    assert cached == {"preprocess", "drift", "train", "evaluate"}


def test_drift_stands_beside_training_not_before_it() -> None:
    root = tasks("basics")
    assert "drift" not in root["train"]["dependentTasks"]
    assert set(root["deploy"]["dependentTasks"]) >= {"drift", "evaluate"}


def test_every_step_gets_the_runs_id_by_its_pods_label_and_never_as_a_parameter() -> None:
    for example in EXAMPLES:
        _, added = documents(example)
        for step, more in added.items():
            wanted = [{"name": "UPKEEP_RUN", "fieldPath": "metadata.labels['pipeline/runid']"}]
            assert more["fieldPathAsEnv"] == wanted, step
        assert not any("update" in task["inputs"]["parameters"] for task in tasks(example).values())


def test_the_narrower_name_goes_first_key_by_key() -> None:
    containers, added = documents("kubeflow")
    asked = {name: container["resources"] for name, container in containers.items()}
    assert {
        name: (each.get("resourceCpuRequest"), each.get("resourceMemoryLimit")) for name, each in asked.items()
    } == {
        "collect": ("250m", "1Gi"),
        "preprocess": ("250m", "4Gi"),
        "drift": ("250m", "1Gi"),
        "train boosting": ("4", "8Gi"),
        "train linear": ("4", "2Gi"),
        "evaluate": ("250m", "1Gi"),
        "deploy": ("250m", "1Gi"),
    }
    assert all(each["resourceMemoryRequest"] == each["resourceMemoryLimit"] for each in asked.values())
    gpu = {name: each["accelerator"] for name, each in asked.items() if "accelerator" in each}
    assert {name: (each["resourceType"], each["resourceCount"]) for name, each in gpu.items()} == {
        "train boosting": ("nvidia.com/gpu", "1")
    }
    assert added["train boosting"]["nodeSelector"] == {"labels": {"pool": "gpu"}}
    assert added["train boosting"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert "tolerations" not in added["train linear"]
    assert {name: more["activeDeadlineSeconds"] for name, more in added.items()} == {
        **dict.fromkeys(added, "3600"),
        "train boosting": "14400",
        "train linear": "14400",
    }
    retries = {task["taskInfo"]["name"]: task.get("retryPolicy") for task in tasks("kubeflow").values()}
    assert {name for name, policy in retries.items() if policy} == {"train boosting", "train linear"}
    assert retries["train linear"] == {
        "maxRetryCount": 2, "backoffDuration": "30s", "backoffFactor": 2.0, "backoffMaxDuration": "300s",
    }  # fmt: skip


def test_secrets_go_by_reference_and_stand_in_no_pipeline() -> None:
    containers, added = documents("kubeflow")
    for step, more in added.items():
        assert more["secretAsEnv"] == [
            {
                "secretName": "store-access",
                "keyToEnv": [
                    {"secretKey": "access-key", "envVar": "AWS_ACCESS_KEY_ID"},
                    {"secretKey": "secret-key", "envVar": "AWS_SECRET_ACCESS_KEY"},
                ],
                "optional": False,
            }
            | {"secretNameParameter": {"runtimeValue": {"constant": "store-access"}}},
            {
                "secretName": "privacy",
                "keyToEnv": [{"secretKey": "key", "envVar": "UPKEEP_PRIVACY_KEY"}],
                "optional": False,
            }
            | {"secretNameParameter": {"runtimeValue": {"constant": "privacy"}}},
        ], step
        assert [(each["secretName"], each["mountPath"]) for each in more["secretAsVolume"]] == [("git", "/etc/git")]
        env = {each["name"]: each["value"] for each in containers[step]["env"]}
        assert env == {
            "AWS_ENDPOINT_URL_S3": "http://seaweedfs.kubeflow:8333",
            "AWS_REGION": "eu-west-1",
            "GIT_SSH_COMMAND": "ssh -i /etc/git/key",
        }


def test_a_key_wanted_under_two_names(tmp_path: Path) -> None:
    spec = load(SPECS["kubeflow"])
    twice = Secret(name="s", env={"A": "key", "B": "key"})
    path = compile_pipeline(replace(spec, kubeflow=replace(spec.kubeflow, secrets=(twice,))), tmp_path / "update.yaml")
    _, platform = yaml.safe_load_all(path.read_text())
    got = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-collect"]["secretAsEnv"]
    assert [pair["envVar"] for each in got for pair in each["keyToEnv"]] == ["A", "B"]


def test_a_run_here_asks_for_nothing_of_a_cluster() -> None:
    task = update_pipeline(load(SPECS["kubeflow"]), cluster=False)
    assert not task.platform_spec.platforms


def test_another_privacy_key_is_another_parameter() -> None:
    """KFP caches by parameters: rows that were hashed with another key must not be found."""
    file = DataFile(uri="/d/a", name="a", format="csv", period=None, digest="d", size=1, rows=None)
    assert Dataset(files=(file,), privacy_key="one").digest != Dataset(files=(file,), privacy_key="other").digest


def images(spec: ModelSpec, tmp_path: Path) -> set[str]:
    executors = next(yaml.safe_load_all(compile_pipeline(spec, tmp_path / "update.yaml").read_text()))[
        "deploymentSpec"
    ]["executors"]
    assert len(executors) >= 6
    return {executor["container"]["image"] for executor in executors.values()}


def test_the_image_has_tensorflow_where_a_candidate_is_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UPKEEP_IMAGE", raising=False)
    spec = load(ROOT / "examples/basics/upkeep.yaml")
    assert images(spec, tmp_path) == {f"upkeep/sklearn:{upkeep.__version__}"}
    network = FineTune(name="network", strategy="fine_tune", base="net.keras")
    with_network = replace(spec, candidates=(*spec.candidates, network))
    assert images(with_network, tmp_path) == {f"upkeep/tensorflow:{upkeep.__version__}"}


def test_the_environment_names_another_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load(ROOT / "examples/basics/upkeep.yaml")
    monkeypatch.setenv("UPKEEP_IMAGE", "registry.example.com/models/ours@sha256:0")
    assert images(spec, tmp_path) == {"registry.example.com/models/ours@sha256:0"}
