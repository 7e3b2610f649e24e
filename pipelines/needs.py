"""What the steps' pods get on a cluster, by the spec: variables, secrets, processors, memory, nodes, time, retries."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

from upkeep.pipelines.workers import GPU, on_workers, tfjob

from upkeep.spec.model import ModelSpec, StepNeeds
from upkeep.update.context import RUN_VARIABLE
from upkeep.update.workers import JOB_VARIABLE, POD_VARIABLES

RUN_LABEL = "pipeline/runid"
"""The label that KFP puts on each pod of a run: the run's id."""


def needs_of(spec: ModelSpec, step: str, candidate: str = "") -> StepNeeds:
    """What ``step`` asks for, of a ``candidate`` where it trains one: the narrower name goes first, key by key."""
    steps = spec.kubeflow.steps
    named = [steps[name] for name in (f"{step} {candidate}", step, "all") if name in steps]
    found = {
        each.name: next((value for needs in named if (value := getattr(needs, each.name)) is not None), None)
        for each in fields(StepNeeds)
    }
    return StepNeeds(**found)


def store_variables(spec: ModelSpec) -> dict[str, str]:
    """How a step finds the store that the spec names: it opens it before it has read the spec."""
    wanted = {
        "AWS_ENDPOINT_URL_S3": spec.object_store.endpoint,  # it goes before AWS_ENDPOINT_URL
        "AWS_REGION": spec.object_store.region,
    }
    return {name: value for name, value in wanted.items() if value}


def give(task: Any, spec: ModelSpec, step: str, candidate: str = "") -> None:
    """Make the KFP ``task`` of ``step`` ask for what the spec says."""
    from kfp import kubernetes

    # the run's id, by the pod's own label: as a parameter it would keep KFP from ever finding the step in its cache
    kubernetes.use_field_path_as_env(task, RUN_VARIABLE, f"metadata.labels['{RUN_LABEL}']")
    variables = {**store_variables(spec), **spec.kubeflow.env}
    for name, value in sorted(variables.items()):
        task.set_env_variable(name, value)
    for secret in spec.kubeflow.secrets:
        by_key: dict[str, list[str]] = {}
        for variable, key in secret.env.items():
            by_key.setdefault(key, []).append(variable)
        while by_key:  # one key may be wanted under two names, and a call takes a name a key
            kubernetes.use_secret_as_env(task, secret.name, {key: names.pop(0) for key, names in by_key.items()})
            by_key = {key: names for key, names in by_key.items() if names}
        if secret.mount:
            kubernetes.use_secret_as_volume(task, secret.name, secret.mount)
    needs = needs_of(spec, step, candidate)
    if on_workers(spec, candidate):
        # in the environment, as what a pod asks for: as a parameter it would be part of what KFP caches by
        task.set_env_variable(JOB_VARIABLE, json.dumps(tfjob(spec, needs, variables)))
        for name, field_path in POD_VARIABLES.items():
            kubernetes.use_field_path_as_env(task, name, field_path)
        every = spec.kubeflow.steps.get("all", StepNeeds())  # the step itself only follows
        needs = replace(every, gpu=None, timeout=needs.timeout, retries=needs.retries)
    _resources(task, needs)


def _resources(task: Any, needs: StepNeeds) -> None:
    from kfp import kubernetes

    if needs.cpu:
        task.set_cpu_request(needs.cpu)
    if needs.memory:
        # one figure: a pod that is promised less than it may use is the first to go when the node is full
        task.set_memory_request(needs.memory)
        task.set_memory_limit(needs.memory)
    if needs.gpu:
        task.set_accelerator_type(needs.gpu_kind or GPU)
        task.set_accelerator_limit(needs.gpu)
    for label, value in sorted((needs.node_selector or {}).items()):
        kubernetes.add_node_selector(task, label, value)
    for each in needs.tolerations or ():
        kubernetes.add_toleration(
            task, key=each.key or None, operator=each.operator, value=each.value or None, effect=each.effect
        )
    if needs.timeout:
        kubernetes.set_timeout(task, int(needs.timeout))
    if needs.retries:
        task.set_retry(needs.retries, backoff_duration="30s", backoff_factor=2, backoff_max_duration="300s")
