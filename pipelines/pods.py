"""The pods of KFP's runs, whose trouble KFP's API does not tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from upkeep.pipelines.needs import RUN_LABEL

from upkeep.serving.kubernetes.api import Api
from upkeep.serving.kubernetes.paths import PODS, path
from upkeep.serving.kubernetes.pods import Trouble, trouble_of


class Pods(Protocol):
    """The pods of KFP's runs."""

    def troubles(self, run: str) -> Sequence[Trouble]:
        """What is wrong with the pods of ``run``, if anything. Raises :class:`~upkeep.errors.OutsideError`."""
        ...


class KubernetesPods:
    """By the API server; it needs no more than ``list pods``."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api, self._namespace = api, namespace

    def troubles(self, run: str) -> Sequence[Trouble]:
        pods = self._api.items(path(PODS, self._namespace), labelSelector=f"{RUN_LABEL}={run}")
        return [found for pod in pods for found in trouble_of(pod)]
