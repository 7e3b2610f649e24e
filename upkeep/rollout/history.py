"""What served since when, by which commit: from Git alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from upkeep.errors import UpkeepError
from upkeep.rollout.git import Repository, Tree
from upkeep.rollout.release import Serving, open_repository, read_release, release_folder, serving_of
from upkeep.rollout.state import Canary
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
    reason: str = ""
    """Why it was done, as the state says."""
    rollout: str = ""
    """The id of the rollout that it belongs to; empty: none."""
    merged: str | None = None
    """The digest that a step cites which a person merged: the merge itself has no trailers."""
    champion: Canary | None = None
    """The champion as what it once was: version, bytes, and the update that made it."""

    @property
    def by(self) -> str:
        """``upkeep``, ``command`` (a person by a command), or ``person``."""
        if "Upkeep-Command" in self.trailers:
            return "command"
        return "upkeep" if "Upkeep-Model" in self.trailers else "person"

    @property
    def evidence(self) -> str | None:
        """Digest of what it was decided on."""
        found = self.trailers.get("Upkeep-Evidence", "none")
        return self.merged if found == "none" else found


def history(spec: ModelSpec, repository: Repository | None = None) -> list[Entry]:
    """Every commit that touched the model's folder, newest first."""
    if repository is None:
        with open_repository(spec) as opened:
            return history(spec, opened)
    entries = []
    for commit in repository.history(spec.rollout.branch, release_folder(spec)):
        serving, problem, reason, champion, rollout, merged = None, "", "", None, "", None
        try:
            released = read_release(spec, Tree(commit.id, commit.files))
            serving = serving_of(released, commit.id)
        except UpkeepError as error:
            problem = str(error)
            released = None
        if released is not None:
            reason, first, rollout = released.state.reason, released.state.champion, released.state.rollout
            update = released.versions[first.version].update
            if released.state.since is None and not commit.trailers:
                merged = released.state.evidence
            champion = Canary(version=first.version, digest=first.digest, update=update)
        entries.append(
            Entry(
                commit=commit.id,
                when=commit.when,
                author=commit.author,
                subject=commit.subject,
                trailers=commit.trailers,
                serving=serving,
                problem=problem,
                reason=reason,
                rollout=rollout,
                merged=merged,
                champion=champion,
            )
        )
    return entries


def at(entries: Sequence[Entry], when: datetime) -> Entry | None:
    """The commit that said what should serve at ``when`` (with zone), of entries newest first; None: nothing did.

    A commit that made no sense was not applied: the one before it still counts.
    """
    return next((each for each in entries if each.when <= when and each.serving is not None), None)


def champions(spec: ModelSpec, repository: Repository) -> list[Canary]:
    """Every version that was once the champion, newest first, each once."""
    found = [each.champion for each in history(spec, repository) if each.champion is not None]
    return list({each.digest: each for each in found}.values())
