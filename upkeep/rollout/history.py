"""What served since when, by which commit: from Git alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate

from upkeep.errors import UpkeepError
from upkeep.rollout.git import Repository, Tree
from upkeep.rollout.release import (
    Serving,
    default_repository,
    open_repository,
    read_release,
    release_folder,
    serving_of,
    standing_files,
)
from upkeep.rollout.state import Canary, one_line
from upkeep.serving.drivers import driver_of
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
    weights: Mapping[str, int] = field(default_factory=dict)
    """Version → per cent, as the manifests give it: what is applied, also where a person's edit is at odds with
    Upkeep's state beside them."""
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
    def told(self) -> bool:
        """Whether it says what should serve."""
        return self.serving is not None or bool(self.weights)

    @property
    def evidence(self) -> str | None:
        """Digest of what it was decided on."""
        found = self.trailers.get("Upkeep-Evidence", "none")
        return self.merged if found == "none" else found


def history(spec: ModelSpec, repository: Repository | None = None) -> list[Entry]:
    """Every commit that touched the model's folder, newest first; none where the default repository is not made yet."""
    if repository is None:
        default = default_repository(spec)
        if default is not None and not (default / "HEAD").exists():
            return []
        with open_repository(spec) as opened:
            return history(spec, opened)
    entries = []
    for commit in repository.history(spec.rollout.branch, release_folder(spec)):
        serving, problem, reason, champion, rollout, merged = None, "", "", None, "", None
        weights: Mapping[str, int] = {}
        tree = Tree(commit.id, commit.files)
        try:
            released = read_release(spec, tree)
            serving = serving_of(released, commit.id)
            weights = released.state.weights if released else {}
        except UpkeepError as error:
            problem = str(error)
            released = None
            weights = _applied(spec, tree)
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
                author=one_line(commit.author),
                subject=one_line(commit.subject),
                trailers=commit.trailers,
                serving=serving,
                weights=weights,
                problem=problem,
                reason=one_line(reason),
                rollout=rollout,
                merged=merged,
                champion=champion,
            )
        )
    return entries


def _applied(spec: ModelSpec, tree: Tree) -> Mapping[str, int]:
    """What the manifests give each version; empty: they cannot be read either."""
    try:
        return driver_of(spec).read(spec, standing_files(spec, tree)).weights
    except UpkeepError:
        return {}


def at(entries: Sequence[Entry], when: datetime) -> list[Entry]:
    """The commit that said what should serve at ``when`` (with zone), of entries newest first; none: nothing did.

    More than one where Git alone cannot tell which of them counted: a commit that cannot be read may not have been
    applied, and stands with the one before it; and where dates go back from a commit to the next, a clock was wrong:
    those that may have counted are all there. Newest first.
    """
    dates = [each.when for each in entries]
    before = [*accumulate(reversed(dates), max)][::-1]
    """Of each commit and those it follows, the latest date."""
    after = [*accumulate(dates, min)]
    """Of each commit and those that follow it, the earliest date."""
    found: list[Entry] = []
    for number, each in enumerate(entries):
        around = dates[number], after[max(number - 1, 0)], before[min(number + 1, len(dates) - 1)]
        in_order = before[number] == each.when == after[number]
        earliest, latest = (each.when, each.when) if in_order else (min(around), max(around))
        if earliest <= when:
            found.append(each)
        if each.told and latest <= when:
            break
    return found


def champions(spec: ModelSpec, repository: Repository) -> list[Canary]:
    """Every version that was once the champion, newest first, each once."""
    found = [each.champion for each in history(spec, repository) if each.champion is not None]
    return list({each.digest: each for each in found}.values())
