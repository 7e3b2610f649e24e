"""A small spec, versions, and a repository in memory that keeps the contract's rules."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from upkeep.errors import ConflictError
from upkeep.rollout.git import Commit, Tree
from upkeep.rollout.release import NewVersion
from upkeep.serving.manifests import ServedVersion
from upkeep.spec.model import Data, Features, Metadata, ModelSpec, Retrain, Target

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class MemoryRepository:
    """:class:`upkeep.rollout.git.Repository` without git; ``before_push`` is called before each push."""

    url = "memory"

    def __init__(self) -> None:
        self.commits: list[tuple[dict[str, bytes], str]] = []
        self.before_push: Callable[[], None] = lambda: None

    def read(self, branch: str, folder: str = "") -> Tree:
        if not self.commits:
            return Tree(None, {})
        files = self.commits[-1][0]
        return Tree(str(len(self.commits)), {k: v for k, v in files.items() if k.startswith(f"{folder}/")})

    def commit_and_push(
        self, branch: str, base: str | None, changes: Mapping[str, bytes | None], message: str, when: datetime
    ) -> str:
        self.before_push()
        if base != (str(len(self.commits)) if self.commits else None):
            raise ConflictError("somebody else pushed first")
        files = dict(self.commits[-1][0]) if self.commits else {}
        for path, content in changes.items():
            if content is None:
                files.pop(path, None)
            else:
                files[path] = content
        self.commits.append((files, message))
        return str(len(self.commits))

    def history(self, branch: str, folder: str) -> Iterator[Commit]:
        return iter(())

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1][0]

    def edit(self, path: str, change: Callable[[str], str | None]) -> None:
        """A person's commit."""
        files = dict(self.files)
        edited = change(files[path].decode())
        if edited is None:
            del files[path]
        else:
            files[path] = edited.encode()
        self.commits.append((files, "by hand\n"))


@pytest.fixture(autouse=True)
def _own_git_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)


@pytest.fixture
def memory() -> MemoryRepository:
    return MemoryRepository()


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    base = ModelSpec(
        metadata=Metadata(name="flight-delays"),
        store=str(tmp_path / "store"),
        data=Data(source="x", target=Target(column="y"), features=Features()),
        candidates=(Retrain(name="a", strategy="retrain", estimator="sklearn.tree.DecisionTreeClassifier"),),
    )
    repository = str(tmp_path / "store" / "flight-delays" / "releases.git")
    return replace(base, rollout=replace(base.rollout, repository=repository, path="models/flight-delays"))


@pytest.fixture
def version() -> Callable[..., NewVersion]:
    def make(number: int, verdict: Any = "pass", digest: str = "") -> NewVersion:
        digest = digest or f"{number:064x}"
        served = ServedVersion(version=f"v{number}", digest=digest, update=f"update-{number}")
        return NewVersion(served=served, verdict=verdict, evidence="e" * 64)

    return make
