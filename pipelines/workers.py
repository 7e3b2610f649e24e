"""The TFJob (Kubeflow's Training Operator, v1) that trains a candidate with ``devices: workers``, by the spec.

It stands whole in the compiled pipeline, but for what is known only when the step runs: see
:mod:`upkeep.update.workers`.
"""

from __future__ import annotations

from typing import Any

from upkeep.components.image import image_of

from upkeep.spec.model import FineTune, ModelSpec, StepNeeds

NAME = "upkeep-worker"
"""What the workers' pods are called in their label ``app.kubernetes.io/name``: their network policy goes by it."""
GPU = "nvidia.com/gpu"
WORKERS = 2
"""How many, where the spec does not say."""
LOSSES = 3
"""How often, each, workers may be started again: when one is lost, all of them are."""
KEPT = 86400
"""Seconds until the operator deletes a job that ended, and whose step is no more."""


def on_workers(spec: ModelSpec, candidate: str) -> bool:
    """Whether several workers train the candidate of that name."""
    return any(
        isinstance(each, FineTune) and each.devices == "workers" for each in spec.candidates if each.name == candidate
    )


def tfjob(spec: ModelSpec, needs: StepNeeds, variables: dict[str, str]) -> dict[str, Any]:
    """The manifest: each worker asks for what ``needs`` says, and has ``variables`` and the spec's secrets."""
    workers = needs.workers or WORKERS
    labels = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "upkeep"}
    secrets = spec.kubeflow.secrets
    mounted = [secret for secret in secrets if secret.mount]
    given = [{"name": name, "value": value} for name, value in sorted({"HOME": "/tmp", **variables}.items())]
    secret = [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": each.name, "key": key}}}
        for each in secrets
        for variable, key in each.env.items()
    ]
    container = {
        "name": "tensorflow",  # the operator knows it by this name, and sets TF_CONFIG in it
        "image": image_of(spec),
        "command": ["python", "-m", "upkeep.update.worker"],
        "env": [*given, *secret],
        "ports": [{"name": "tfjob-port", "containerPort": 2222}],
        "resources": _resources(needs),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            *({"name": f"secret-{number}", "mountPath": each.mount, "readOnly": True}
              for number, each in enumerate(mounted)),
        ],
    }  # fmt: skip
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"app.kubernetes.io/name": NAME}},
            }
        ],
        "nodeSelector": needs.node_selector or {},
        "tolerations": [
            {name: value for name, value in vars(each).items() if value} for each in needs.tolerations or ()
        ],
        "containers": [container],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            *({"name": f"secret-{number}", "secret": {"secretName": each.name}}
              for number, each in enumerate(mounted)),
        ],
    }  # fmt: skip
    policy: dict[str, Any] = {
        "cleanPodPolicy": "Running",
        "backoffLimit": workers * LOSSES,
        "ttlSecondsAfterFinished": KEPT,
    }
    if needs.timeout:
        policy["activeDeadlineSeconds"] = int(needs.timeout)
    worker = {
        "replicas": workers,
        # a worker whose peer is gone ends with 3 and goes on from the last checkpoint; to ExitCode that is final
        "restartPolicy": "OnFailure",
        # with a mesh's sidecar a pod never ends, and workers do not reach each other
        "template": {"metadata": {"labels": {**labels, "sidecar.istio.io/inject": "false"}}, "spec": pod},
    }
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "TFJob",
        "metadata": {"labels": labels},
        "spec": {"runPolicy": policy, "tfReplicaSpecs": {"Worker": worker}},
    }


def _resources(needs: StepNeeds) -> dict[str, dict[str, Any]]:
    gpu = {needs.gpu_kind or GPU: needs.gpu} if needs.gpu else {}
    memory = {"memory": needs.memory} if needs.memory else {}
    return {"requests": {**({"cpu": needs.cpu} if needs.cpu else {}), **memory}, "limits": {**memory, **gpu}}
