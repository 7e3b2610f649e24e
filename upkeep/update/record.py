"""What an update leaves behind, whatever its verdict: ``updates/<id>/record.json``."""

from __future__ import annotations

from dataclasses import dataclass

from upkeep.evaluation.result import Verdict


@dataclass(frozen=True, kw_only=True)
class UpdateRecord:
    update: str
    model: str
    finished: str
    """UTC, ISO 8601."""
    verdict: Verdict
    drift: str | None
    """The drift report's finding and summary; None: there was no champion to compare with."""
    chosen: str | None
    """The candidate that met the held-out rows."""
    champion: str | None
    outcome: str
    """first, proposed, superseded, already, pending_other, champion_changed, barred, not_verified or not_registered."""
    message: str
    """What was done, in a sentence, and what happens next."""
    version: str | None
    commit: str | None
    repository: str
    dataset: str
    spec: str
    page: str
    """Where the update page is."""
    schema_version: int = 1
