"""The pods of KFP's runs, whose trouble KFP's API does not tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from upkeep.pipelines.needs import RUN_LABEL

from upkeep.errors import OutsideError
from upkeep.serving.kubernetes.api import Api, MissingError
from upkeep.serving.kubernetes.paths import PODS, TFJOBS, path
from upkeep.serving.kubernetes.pods import Trouble, trouble_of


class Pods(Protocol):
    """The pods of KFP's runs."""

    def troubles(self, run: str) -> Sequence[Trouble]:
        """What is wrong with the pods of ``run``, if anything. Raises :class:`~upkeep.errors.OutsideError`."""
        ...

    def may_be_workers(self) -> bool:
        """False: the cluster knows no TFJobs, beyond doubt."""
        ...


class KubernetesPods:
    """By the API server; it needs no more than ``list pods``, and what everybody may ask: which kinds there are."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api, self._namespace = api, namespace

    def troubles(self, run: str) -> Sequence[Trouble]:
        pods = self._api.items(path(PODS, self._namespace), labelSelector=f"{RUN_LABEL}={run}")
        return [found for pod in pods for found in trouble_of(pod)]

    def may_be_workers(self) -> bool:
        version, kind = TFJOBS
        try:
            known = self._api.get(f"/apis/{version}").get("resources") or ()
        except MissingError:
            return False
        except OutsideError:
            return True
        return any(each.get("name") == kind for each in known)
