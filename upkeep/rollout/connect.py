"""One model's outside, as its spec and the environment name it: repository, cluster, store, counters, labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from upkeep import records
from upkeep.errors import InputError
from upkeep.models.manifest import MANIFEST, Manifest
from upkeep.registry.registry import Registry
from upkeep.rollout.analysis.labels import JournalLabels
from upkeep.rollout.analysis.sources import PrometheusSource
from upkeep.rollout.approval import by_request
from upkeep.rollout.controller import Model
from upkeep.rollout.events import Event, poster
from upkeep.rollout.pull_request import asker
from upkeep.rollout.release import open_repository
from upkeep.serving.cluster import Cluster
from upkeep.serving.connect import open_cluster, open_counters
from upkeep.serving.manifests import ServedVersion
from upkeep.spec.model import ModelSpec
from upkeep.store import MissingObject, open_store

EPOCH = "1970-01-01T00:00:00Z"


class Registered:
    """:class:`~upkeep.rollout.controller.Versions` over the registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def missing(self, version: str, digest: str) -> Sequence[str]:
        try:
            card = self._registry.card(version)
        except (InputError, MissingObject):
            return [f"the card of {version}"]
        if card.digest != digest:
            return [f"a card of {version} with the digest {digest[:12]}"]
        return self._registry.missing(digest)

    def served(self, version: str) -> ServedVersion:
        card = self._registry.card(version)
        manifest = self._manifest(card.digest)
        return ServedVersion(version=version, digest=card.digest, update=card.update, format=manifest.format)

    def rows(self, version: str) -> Sequence[Mapping[str, Any]]:
        """Two rows of the model's columns, as its server asks itself before it says that it is ready."""
        from upkeep.serving.server.rows import example

        columns = self._manifest(self._registry.card(version).digest).columns
        made = example(columns)
        rows: list[dict[str, Any]] = [{} for _ in range(made.count)]
        for column, values in zip(columns, made.columns, strict=True):
            for row, value in zip(rows, values, strict=True):
                row[column.name] = EPOCH if column.kind == "datetime" else value
        return rows

    def _manifest(self, digest: str) -> Manifest:
        key = f"{self._registry.model}/models/{digest}/{MANIFEST}"
        return records.from_json(Manifest, self._registry.store.get(key), source=f"{self._registry.store.uri}/{key}")


@contextmanager
def connect(
    spec: ModelSpec, environ: Mapping[str, str] | None = None, *, git: Mapping[str, str] | None = None
) -> Iterator[Model]:
    """Everything outside that the model's rollout needs, opened. ``git``: the environment git is to have.

    Nothing is asked of the cluster yet: whether it is there shows at the first look.
    """
    from upkeep.serving.local.folder import VARIABLE

    environ = dict(os.environ if environ is None else environ)
    store = open_store(spec.store, spec.object_store)
    folder = Path(environ[VARIABLE]).expanduser().absolute() if environ.get(VARIABLE) else None
    prometheus = spec.monitoring.prometheus
    registry = Registry(store, spec.name)
    cluster = open_cluster(spec, folder, environ)
    with open_repository(spec, git) as repository:
        yield Model(
            spec=spec,
            repository=repository,
            cluster=cluster,
            store=store,
            counters=PrometheusSource(prometheus) if prometheus else open_counters(spec, folder, environ),
            labels=JournalLabels(registry) if spec.monitoring.labels or spec.rollout.margin.predictions else None,
            versions=Registered(registry),
            post=poster(environ),
            ask=asker(spec, environ) if by_request(spec) else None,
            note=noter(spec, cluster),
        )


def noter(spec: ModelSpec, cluster: Cluster) -> Callable[[Event], None] | None:
    """On Kubernetes: what writes an event on the objects that it is about."""
    from upkeep.serving.kubernetes.cluster import KubernetesCluster
    from upkeep.serving.kubernetes.events import Happening

    if not isinstance(cluster, KubernetesCluster):
        return None

    def note(event: Event) -> None:
        said = Happening(kind=event.kind, message=event.message, key=event.key, at=event.at, version=event.canary)
        cluster.record(spec, said)

    return note
