"""What a pod's status says is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest
from upkeep.pipelines.pods import KubernetesPods

from tests.unit.serving.kubernetes.fake_client import FakeClient, refusal
from upkeep.serving.kubernetes.api import Api
from upkeep.serving.kubernetes.pods import trouble_of


def pod(status: dict[str, Any], task: str = "train-2", memory: str = "2Gi") -> dict[str, Any]:
    limits = {"limits": {"memory": memory}} if memory else {}
    return {
        "metadata": {
            "name": "delays-update-x7k2p-system-container-impl-1",
            "labels": {"pipeline/runid": "run-1"},
            "annotations": {"workflows.argoproj.io/node-name": f"delays-update-x7k2p.root.{task}.executor"},
        },
        "spec": {"containers": [{"name": "wait"}, {"name": "main", "resources": limits}]},
        "status": status,
    }


def container(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "main", "image": "upkeep/python-sklearn:9", "state": state, **more}


OOM = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}


@pytest.mark.parametrize(
    ("status", "message", "fix", "ends"),
    [
        (
            {"containerStatuses": [container({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}})]},
            "the image upkeep/python-sklearn:9 cannot be pulled (ImagePullBackOff): not found",
            "may read its registry",
            False,
        ),
        (
            {"initContainerStatuses": [container({"waiting": {"reason": "InvalidImageName"}})]},
            "cannot be pulled (InvalidImageName)",
            "the image's name",
            False,
        ),
        (
            {"containerStatuses": [container({"waiting": {
                "reason": "CreateContainerConfigError", "message": 'secret "store-access" not found'}})]},
            'the container cannot be made (CreateContainerConfigError): secret "store-access" not found',
            "the Secrets of `kubeflow.secrets` are in the namespace",
            False,
        ),
        ({"containerStatuses": [container(OOM)]}, "(OOMKilled): it had 2Gi", "`kubeflow.steps: {train:", True),
        (
            {"containerStatuses": [container({"running": {}}, lastState=OOM)]},
            "(OOMKilled): it had 2Gi",
            "{memory: …}",
            True,
        ),
        (
            {"phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active longer than specified"},
            "its pod ended (DeadlineExceeded): Pod was active longer than specified",
            "{timeout: …}",
            True,
        ),
        ({"phase": "Failed", "reason": "Evicted"}, "its pod ended (Evicted)", "`retries`", True),
        (
            {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                                                "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."}]},
            "no node takes its pod: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
            "or add a node",
            False,
        ),
    ],
)  # fmt: skip
def test_each_trouble_is_said_plainly(status: dict[str, Any], message: str, fix: str, ends: bool) -> None:
    (found,) = trouble_of(pod(status))
    assert message in found.message
    assert fix in found.fix
    assert (found.task, found.ends) == ("train-2", ends)


def test_memory_without_a_limit_was_the_nodes() -> None:
    (found,) = trouble_of(pod({"containerStatuses": [container(OOM)]}, memory=""))
    assert "it had no limit of its own" in found.message


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"phase": "Running", "containerStatuses": [container({"running": {}})]},
        {"phase": "Pending", "containerStatuses": [container({"waiting": {"reason": "ContainerCreating"}})]},
        {"phase": "Succeeded", "containerStatuses": [container({"terminated": {"reason": "Completed"}})]},
        {"phase": "Failed", "containerStatuses": [container({"terminated": {"reason": "Error", "exitCode": 1}})]},
    ],
)
def test_what_is_no_trouble_of_the_pod(status: dict[str, Any]) -> None:
    assert trouble_of(pod(status)) == []


def test_a_step_that_was_tried_again() -> None:
    again = pod({"containerStatuses": [container(OOM)]})
    again["metadata"]["annotations"]["workflows.argoproj.io/node-name"] += "(1)"
    assert trouble_of(again)[0].task == "train-2"


def test_a_pod_that_nobody_annotated() -> None:
    bare = pod({"containerStatuses": [container(OOM)]})
    del bare["metadata"]["annotations"]
    (found,) = trouble_of(bare)
    assert (found.task, found.pod) == ("", bare["metadata"]["name"])
    assert "{all: {memory" in found.fix


def test_only_the_runs_own_pods_are_asked_for() -> None:
    client = FakeClient({"/api/v1/namespaces/team/pods": {"items": [pod({"containerStatuses": [container(OOM)]})]}})
    pods = KubernetesPods(Api(client, sleep=lambda _: None), "team")
    assert [each.task for each in pods.troubles("run-1")] == ["train-2"]
    assert client.asked[0].query["labelSelector"] == "pipeline/runid=run-1"


@pytest.mark.parametrize(
    ("answer", "may"),
    [
        ({"resources": [{"name": "tfjobs"}, {"name": "tfjobs/status"}]}, True),
        ({"resources": [{"name": "pytorchjobs"}]}, False),
        (refusal(404), False),
        (refusal(403), True),  # not known: the step asks again
        (refusal(503), True),
    ],
)
def test_whether_a_cluster_can_start_workers(answer: Any, may: bool) -> None:
    client = FakeClient({"/apis/kubeflow.org/v1": answer})
    assert KubernetesPods(Api(client, tries=1), "team").may_be_workers() is may
