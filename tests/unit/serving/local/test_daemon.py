"""The daemon's own reasoning, without the processes: what a look at Git makes of what it knows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.unit.serving.local.test_wanted import SPEC, files
from upkeep.errors import AccessError, UpkeepError
from upkeep.serving.local.daemon import Daemon, _Model
from upkeep.serving.local.folder import Folder
from upkeep.serving.local.wanted import Manifests
from upkeep.spec.model import ModelSpec


@dataclass
class FakeSource:
    """A repository whose newest commit is ``commit``, or that is ``away``."""

    spec: ModelSpec = SPEC
    local: bool = True
    commit: str = "c1"
    content: dict[str, bytes] = field(default_factory=lambda: files({"v1": 100}))
    away: UpkeepError | None = None

    def head(self) -> str:
        if self.away is not None:
            raise self.away
        return self.commit

    def read(self) -> Manifests:
        return Manifests(commit=self.commit, folder="models/tiny", files=self.content)

    def close(self) -> None:
        pass


def looked(daemon: Daemon, model: _Model) -> list[str]:
    """The problems after one look at the repository."""
    asyncio.run(daemon._look(model))
    return [problem.message for problem in daemon._problems(model)]


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def daemon(source: FakeSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    monkeypatch.setattr(Daemon, "_start_servers", lambda *_: None)
    made = Daemon([source], Folder(tmp_path))
    made._has_gateway = True
    return made


def test_a_repository_that_was_away_leaves_no_trace_when_it_is_back(daemon: Daemon, source: FakeSource) -> None:
    (model,) = daemon._models.values()
    started = ["v1 does not answer (it is not there); until it does, traffic goes "]
    assert looked(daemon, model) == started
    source.away = AccessError("the repository refused access")
    assert looked(daemon, model) == ["the repository refused access", *started]
    source.away = None
    assert looked(daemon, model) == started


def test_a_commit_that_makes_no_sense_is_told_also_after_the_repository_was_away(
    daemon: Daemon, source: FakeSource
) -> None:
    (model,) = daemon._models.values()
    looked(daemon, model)
    source.commit, source.content = "c2", files({"v1": 100}) | {"models/tiny/route.yaml": b"nonsense"}
    nonsense = looked(daemon, model)
    assert len(nonsense) == 2
    source.away = AccessError("the repository refused access")
    assert looked(daemon, model) == [nonsense[0], "the repository refused access", nonsense[1]]
    source.away = None
    assert looked(daemon, model) == nonsense
