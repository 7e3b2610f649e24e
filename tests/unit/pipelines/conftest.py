"""A KFP of our own, a store that pods could reach, and a submission whose time passes as fast as it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from upkeep.pipelines.kubeflow import Access, Kubeflow
from upkeep.pipelines.run import Progress
from upkeep.pipelines.submit import Place

from tests.kfp_server import KfpServer
from upkeep.registry.registry import Registry
from upkeep.serving.kubernetes.pods import Trouble
from upkeep.spec.load import load
from upkeep.spec.model import ModelSpec
from upkeep.store import open_store


class Clock:
    """It moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.slept: list[float] = []

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)


@dataclass
class FakePods:
    """Pods of which a test says what is wrong."""

    found: list[Trouble] = field(default_factory=list)
    error: Exception | None = None
    workers: bool = True

    def troubles(self, run: str) -> list[Trouble]:
        if self.error:
            raise self.error
        return self.found

    def may_be_workers(self) -> bool:
        return self.workers


@dataclass
class World:
    server: KfpServer
    place: Place
    clock: Clock
    spec: ModelSpec
    told: list[Progress]

    @property
    def texts(self) -> list[tuple[str, str]]:
        return [(each.step, each.text) for each in self.told]

    def somebody_else(self, **changes: Any) -> Place:
        """Another person's way to the same KFP and store."""
        return replace(self.place, **changes)


@pytest.fixture(autouse=True)
def _compiled_once(compiled_once: None) -> None: ...


@pytest.fixture
def world_of() -> Iterator[Callable[..., World]]:
    opened: list[Kubeflow] = []

    def make(server: KfpServer, *, token: Callable[[], str] = lambda: "", namespace: str = "", **changes: Any) -> World:
        spec = load(Path(__file__).parent / "kubeflow.yaml")
        kubeflow = replace(spec.kubeflow, endpoint=server.url, namespace=namespace, **changes)
        clock, told = Clock(), []  # type: ignore[var-annotated]
        client = Kubeflow(Access(server.url, token), namespace=namespace, sleep=clock.sleep)
        opened.append(client)
        place = Place(
            kubeflow=client,
            registry=Registry(open_store("memory://"), spec.name),
            pods=FakePods(),
            now=clock,
            sleep=clock.sleep,
            listen=told.append,
        )
        return World(server, place, clock, replace(spec, kubeflow=kubeflow), told)

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def world(server: KfpServer, world_of: Callable[..., World]) -> World:
    return world_of(server)
