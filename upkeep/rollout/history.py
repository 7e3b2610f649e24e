"""What served since when, by which commit: from Git alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from upkeep.errors import UpkeepError
from upkeep.rollout.git import Repository, Tree
from upkeep.rollout.release import Serving, open_repository, read_release, release_folder, serving_of
from upkeep.spec.model import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One commit that touched the model's folder."""

    commit: str
    when: datetime
    author: str
    subject: str
    trailers: Mapping[str, str]
    """``Upkeep-…``; empty for a person's commit."""
    serving: Serving | None
    """What should serve from then on; None: the folder made no sense at this commit."""
    problem: str = ""
    """Why it made none."""


def history(spec: ModelSpec, repository: Repository | None = None) -> list[Entry]:
    """Every commit that touched the model's folder, newest first."""
    if repository is None:
        with open_repository(spec) as opened:
            return history(spec, opened)
    entries = []
    for commit in repository.history(spec.rollout.branch, release_folder(spec)):
        serving, problem = None, ""
        try:
            serving = serving_of(read_release(spec, Tree(commit.id, commit.files)), commit.id)
        except UpkeepError as error:
            problem = str(error)
        entries.append(
            Entry(
                commit=commit.id,
                when=commit.when,
                author=commit.author,
                subject=commit.subject,
                trailers=commit.trailers,
                serving=serving,
                problem=problem,
            )
        )
    return entries
