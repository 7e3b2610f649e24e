"""Which cluster a spec means, and which counters."""

from __future__ import annotations

from pathlib import Path

from upkeep.serving.cluster import Cluster
from upkeep.serving.counters import Counters
from upkeep.spec.model import ModelSpec


def open_cluster(spec: ModelSpec, folder: Path | None = None) -> Cluster:
    """The cluster where the model of ``spec`` (resolved) serves: the one-machine cluster in ``folder``, else in its
    default folder."""
    from upkeep.serving.local.cluster import LocalCluster
    from upkeep.serving.local.folder import Folder, default_folder

    return LocalCluster(Folder(folder or default_folder(spec)))


def open_counters(spec: ModelSpec, folder: Path | None = None) -> Counters:
    """What counts the requests of the model of ``spec`` (resolved): see :func:`open_cluster`."""
    from upkeep.serving.local.counters import LocalCounters
    from upkeep.serving.local.folder import Folder, default_folder

    return LocalCounters(Folder(folder or default_folder(spec)))
