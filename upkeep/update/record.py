"""What an update leaves behind, whatever its verdict: ``updates/<id>/record.json``."""

from __future__ import annotations

from dataclasses import dataclass

from upkeep import records
from upkeep.drift.result import DriftReport
from upkeep.evaluation.result import Verdict
from upkeep.registry.registry import Registry
from upkeep.store import MissingObject
from upkeep.update.failure import StepError


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
    """first, proposed, superseded, already, pending_other, champion_changed, barred, not_verified, not_registered; or
    failed: it broke off, and ``failed`` says where and why."""
    message: str
    """What was done, in a sentence, and what happens next."""
    version: str | None
    commit: str | None
    repository: str
    dataset: str | None
    """None: it broke off before the data was known."""
    spec: str
    page: str
    """Where the update page is."""
    failed: StepError | None = None
    schema_version: int = 1


def newest_record(registry: Registry) -> UpdateRecord | None:
    """Of the newest update that has ended; None: none has."""
    for update in reversed(registry.updates()):
        try:
            data = registry.get_update(update, "record.json")
        except MissingObject:
            continue  # it is under way, or was killed
        return records.from_json(UpdateRecord, data, source=f"updates/{update}/record.json")
    return None


def page_uri(registry: Registry, update: str) -> str:
    """Where the update's page is: an address, or a path on this machine."""
    return f"{registry.store.uri}/{registry.model}/updates/{update}/page.html".removeprefix("file://")


def drift_line(report: DriftReport | None) -> str | None:
    return None if report is None else f"{report.finding}: {report.summary}"
