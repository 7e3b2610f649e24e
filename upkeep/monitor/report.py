"""The production report: one question to log and labels, answered from nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from upkeep.errors import Problem
from upkeep.monitor.journal import Look, open_journal
from upkeep.monitor.labels import label_rules
from upkeep.monitor.outcomes import (
    Counts,
    ProductionReport,
    counts,
    coverage,
    model_classes,
    production,
    uneven_labels,
)
from upkeep.monitor.payloads import existing_store, log_store, wanted
from upkeep.registry.registry import Registry
from upkeep.spec.model import ModelSpec


def report(
    spec: ModelSpec,
    registry: Registry,
    *,
    by_version: bool = True,
    window: timedelta | None = None,
    slices: Sequence[str] = (),
    since: datetime | None = None,
    now: datetime,
    tick: Callable[[int], None] | None = None,
) -> ProductionReport:
    """Everything is read anew, into memory: it neither waits for a rollout's journal nor disturbs it."""
    classes = model_classes(spec, registry)
    labels = existing_store(spec.monitoring.labels, spec.object_store) if spec.monitoring.labels else None
    with open_journal(spec, wanted(spec, features=False)) as journal:
        look = journal.look(
            log_store(spec), labels, label_rules(spec, classes), now=now, since=since, tick=tick, meet=False
        )
        found = counts(journal, now=now)
        covered = coverage(journal, since=since)
        return ProductionReport(
            rows=production(
                journal,
                classes=classes,
                positive=spec.data.target.positive,
                by_version=by_version,
                window=window,
                slices=slices,
                since=since,
                seed=spec.seed,
            ),
            coverage=covered,
            counts=found,
            refused=look.refused,
            notes=(*_notes(spec, look, found), *uneven_labels(covered)),
        )


def _notes(spec: ModelSpec, look: Look, found: Counts) -> tuple[Problem, ...]:
    """What a reader must know, a sentence each."""
    notes: list[Problem] = list(look.problems)

    def note(message: str, fix: str = "") -> None:
        notes.append(Problem(message, fix=fix, severity="warning"))

    if not spec.monitoring.labels:
        note("`monitoring.labels` does not say where labels arrive: nothing is known of right and wrong",
             "name the folder or the s3:// address of the labels")  # fmt: skip
    if found.labels and found.unknown_ids == found.labels and found.answers:
        note("no label's id is that of a logged row",
             f"labels are joined by {'`data.id`, which clients must send' if spec.data.id else 'the request id'}; see "
             "`monitoring.label_columns`")  # fmt: skip
    for reason, rows in look.refused.items():
        note(f"{rows:,} rows of label files were refused: {reason}")
    if look.waiting:
        note(f"still being written, so not read yet: {', '.join(look.waiting[:5])}")
    if found.revised:
        note(f"{found.revised:,} rows have a later, other label: the first one counts")
    if found.early:
        note(f"{found.early:,} labels are older than their request: a clock is wrong, or the answer was known before")
    if found.ahead:
        note(f"{found.ahead:,} requests are dated in the future: a server's clock is wrong")
    if look.answers.unreadable:
        note(f"{look.answers.unreadable:,} lines or bodies of the payload log say nothing that can be used")
    return tuple(notes)
