"""What a pod's status says is wrong with it: an image that cannot be pulled, memory that ran out, no node for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
_CONTAINER = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_NODE = "workflows.argoproj.io/node-name"
_EXECUTOR = re.compile(r"\.executor(\(\d+\))?$")
"""How the name of a step's own pod ends; tried again, with the try's number."""


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What is wrong with one pod."""

    pod: str
    task: str
    """The task as KFP numbers it (``train-2``); empty: not known."""
    message: str
    fix: str
    ends: bool
    """The step is over; else its pod waits, and may wait for ever."""


def trouble_of(pod: Mapping[str, Any], key: str = "") -> Sequence[Trouble]:
    """What a pod's status says is wrong with it: one thing, the most telling, or nothing.

    ``key``: of ``kubeflow.steps``, where one asks for more; without it, the one that the pod's own task reads.
    """
    status, name = pod.get("status") or {}, pod["metadata"]["name"]
    node = str((pod["metadata"].get("annotations") or {}).get(_NODE, ""))
    task = _EXECUTOR.sub("", node).rpartition(".")[2]
    key = key or task.partition("-")[0] or "all"

    def trouble(message: str, fix: str, *, ends: bool) -> list[Trouble]:
        return [Trouble(pod=name, task=task, message=message, fix=fix, ends=ends)]

    containers = (pod.get("spec") or {}).get("containers") or []
    for each in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (each.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _IMAGE:
            said = f": {waiting['message']}" if waiting.get("message") else ""
            return trouble(
                f"the image {each.get('image')} cannot be pulled ({waiting['reason']}){said}",
                "see the image's name, and whether the cluster may read its registry",
                ends=False,
            )
        if waiting.get("reason") in _CONTAINER:
            return trouble(
                f"the container cannot be made ({waiting['reason']}): {waiting.get('message', 'no reason given')}",
                "see that the Secrets of `kubeflow.secrets` are in the namespace, with these keys",
                ends=False,
            )
        for state in (each.get("state") or {}, each.get("lastState") or {}):
            if (state.get("terminated") or {}).get("reason") == "OOMKilled":
                limit = _memory(containers, str(each.get("name")))
                used = f"it had {limit}" if limit else "it had no limit of its own: the node's memory ran out"
                return trouble(
                    f"it was killed for want of memory (OOMKilled): {used}",
                    f"give it more: `kubeflow.steps: {{{key}: {{memory: …}}}}`",
                    ends=True,
                )
    if status.get("phase") == "Failed" and status.get("reason"):
        fix = {
            "DeadlineExceeded": f"give it longer: `kubeflow.steps: {{{key}: {{timeout: …}}}}`",
            "Evicted": f"ask for what it needs: `kubeflow.steps: {{{key}: {{memory: …}}}}`, and set `retries`",
        }.get(str(status["reason"]), "see `kubectl describe pod`")
        said = f": {status['message']}" if status.get("message") else ""
        return trouble(f"its pod ended ({status['reason']}){said}", fix, ends=True)
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return trouble(
                f"no node takes its pod: {condition.get('message', 'no reason given')}",
                f"ask for less, or for other nodes, in `kubeflow.steps: {{{key}: …}}`; or add a node",
                ends=False,
            )
    return []


def _memory(containers: Sequence[Mapping[str, Any]], name: str) -> str:
    """The limit of the container called ``name``."""
    resources = next((each.get("resources") or {} for each in containers if each.get("name") == name), {})
    return str((resources.get("limits") or {}).get("memory", ""))


def last_words(pod: Mapping[str, Any]) -> str:
    """What a container of the pod said when it ended badly last; empty: none did, or it said nothing."""
    for each in (pod.get("status") or {}).get("containerStatuses") or []:
        for state in (each.get("state") or {}, each.get("lastState") or {}):
            ended = state.get("terminated") or {}
            if ended.get("exitCode") and ended.get("message"):
                return str(ended["message"]).strip()
    return ""
