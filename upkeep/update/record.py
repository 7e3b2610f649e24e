"""What an update leaves behind, whatever its verdict: ``updates/<id>/record.json``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from upkeep import records
from upkeep.drift.result import DriftReport
from upkeep.errors import Problem
from upkeep.evaluation.result import Verdict
from upkeep.registry.registry import Registry

ABOUT = timedelta(hours=1)
SUMMARY = "summary.md"
"""The update in a few lines of Markdown, beside its record and page: for a pull request's comment."""


@dataclass(frozen=True, kw_only=True)
class StepError:
    """Why a step failed, as a record."""

    step: str
    error: str
    """The class in :mod:`upkeep.errors`; ``Bug`` for anything that was not raised on purpose."""
    problems: tuple[Problem, ...]
    trace: str = ""
    """The traceback of a bug, for its report."""


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
    """Of the update that ended last; None: none has.

    Among what was written at about the same time (a store that was restored: all of it) the record itself counts.
    """
    written = registry.ended_updates()
    if not written:
        return None
    since = max(written.values()) - ABOUT
    found = [_read(registry, update) for update, when in written.items() if when >= since]
    return max(found, key=lambda record: datetime.fromisoformat(record.finished))


def _read(registry: Registry, update: str) -> UpdateRecord:
    data = registry.get_update(update, "record.json")
    return records.from_json(UpdateRecord, data, source=f"updates/{update}/record.json")


def page_uri(registry: Registry, update: str) -> str:
    """Where the update's page is: an address, or a path on this machine."""
    return f"{registry.store.uri}/{registry.model}/updates/{update}/page.html".removeprefix("file://")


def drift_line(report: DriftReport | None) -> str | None:
    return None if report is None else f"{report.finding}: {report.summary}"
