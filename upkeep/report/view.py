"""What an update's page shows: the records of one update, put together."""

from __future__ import annotations

from dataclasses import dataclass, field

from upkeep.data.dataset import Dataset
from upkeep.data.prepared import Summary
from upkeep.drift.result import DriftReport
from upkeep.evaluation.result import Evaluation
from upkeep.spec.model import Gate
from upkeep.training.task import TrainingResult


@dataclass(frozen=True, kw_only=True)
class Release:
    """What came of the verdict."""

    outcome: str
    """One plain sentence: what was registered and proposed, or why nothing was."""
    version: str | None = None
    """The version that was registered."""
    commit: str | None = None
    """The commit that proposes it for deployment."""
    repository: str | None = None
    """Where that commit is: a path or a URL, without credentials."""


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Where a result comes from; each digest names its content."""

    spec: str | None = None
    dataset: str | None = None
    champion: str | None = None
    """The version the candidates were compared with."""
    champion_model: str | None = None
    parents: tuple[str, ...] = ()
    """Model digests the chosen candidate was made from."""
    code: dict[str, str] = field(default_factory=dict)
    """upkeep's version, Git commit where known, and the digest of the lock file."""


@dataclass(frozen=True, kw_only=True)
class UpdateView:
    """One update. Whatever is None or empty is not known (yet), and the page says so."""

    model: str
    """The model's name."""
    update: str
    """The update's id."""
    description: str = ""
    owner: str = ""
    started: str | None = None
    """UTC, ISO 8601."""
    finished: str | None = None
    """UTC, ISO 8601."""
    failed: str = ""
    """Why the update did not finish: the error's text."""
    notes: tuple[str, ...] = ()
    """What a reader must know of this data: a sentence each."""
    split_note: str = ""
    """What is held out together, and what that means for the figures."""
    gate: Gate | None = None
    """What the gate asked for: drawn into the interval bars."""
    dataset: Dataset | None = None
    data: Summary | None = None
    drift: DriftReport | None = None
    training: tuple[TrainingResult, ...] = ()
    evaluation: Evaluation | None = None
    release: Release | None = None
    lineage: Lineage = Lineage()
    links: dict[str, str] = field(default_factory=dict)
    """Title → address, for pull requests and the KFP page: the page itself, the drift report, the commit."""
    schema_version: int = 1

    @property
    def new_periods(self) -> tuple[str, ...]:
        """The periods that are newer than the champion, as far as a record tells."""
        for paired in self.evaluation.paired if self.evaluation else ():
            if paired.row_set == "new":
                return paired.periods
        return self.drift.periods if self.drift else ()
