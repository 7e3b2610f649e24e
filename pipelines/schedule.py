"""The spec's schedule as a recurring run of Kubeflow Pipelines: applied, never edited.

A recurring run cannot be changed, only replaced, and deleting one kills its runs that are under way. So an old one is
disabled, the new one made, and the old one deleted when its runs have ended: at once, or when the schedule is next
applied. Its name holds a digest of all that it is, so applying twice changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from upkeep.pipelines.kubeflow import ended
from upkeep.pipelines.submit import Place, upload
from upkeep.pipelines.update import pipeline_name

from upkeep import records
from upkeep.errors import InputError, Where
from upkeep.spec.cron import read_cron
from upkeep.spec.model import ModelSpec

ASKED = {"until": "", "accept_changed": False, "supersede": False}
"""A run that nobody watches accepts nothing and replaces nothing."""


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """What a model's schedule on Kubeflow Pipelines is, after it was applied."""

    name: str
    """The recurring run's; empty: there is none."""
    cron: str
    """As the spec says it: five fields, UTC."""
    cron_kfp: str
    """As KFP has it: six fields, the seconds first."""
    next: str
    """When it next starts an update: UTC, ISO 8601."""
    created: bool
    """False: it was there already, to the letter."""
    deleted: tuple[str, ...]
    """Older ones that are gone."""
    ending: tuple[str, ...]
    """Older ones that start nothing more, and are deleted at the next apply: their runs are still under way."""


def apply(spec: ModelSpec, place: Place) -> Scheduled:
    """Make KFP run an update whenever ``monitoring.update_when.schedule`` says so, and at no other time.

    Raises :class:`InputError` where the spec has no schedule, or what it names cannot be reached from a pod.
    """
    text = spec.monitoring.update_when.schedule
    where = Where(field="monitoring.update_when.schedule")
    if not text:
        raise InputError(
            "the spec has no schedule",
            where=where,
            fix='write one, for example `schedule: "0 3 1 * *"`; or take the one on Kubeflow away with --delete',
        )
    try:
        cron = read_cron(text)
    except ValueError as error:
        raise InputError(
            f"the schedule {text!r} cannot be read: {error}", where=where, fix="write five fields"
        ) from error
    there = upload(spec, place, ASKED)
    wanted: dict[str, Any] = {
        "cron": cron.for_kfp(),
        "experiment": there.experiment,
        "pipeline": there.pipeline,
        "version": there.version,
        "parameters": there.parameters,
        "root": spec.kubeflow.root,
        "service_account": spec.kubeflow.service_account,
    }
    name = f"{pipeline_name(spec.name)}-{records.digest(records.to_json(wanted))[:12]}"
    ours = _ours(spec, place)
    same = [each for each in ours if each.display_name == name]
    # old ones first: between the two there may be none that starts an update, and never two
    deleted, ending = _end(place, [each for each in ours if each not in same[:1]])
    created = not same
    if created:
        place.kubeflow.create_recurring_run(name, **wanted)
    elif not _enabled(same[0]):
        place.kubeflow.enable(str(same[0].recurring_run_id))
        created = True
    upcoming = cron.next(place.now())
    return Scheduled(
        name=name,
        cron=text,
        cron_kfp=wanted["cron"],
        next=upcoming.isoformat(timespec="minutes") if upcoming else "",
        created=created,
        deleted=deleted,
        ending=ending,
    )


def remove(spec: ModelSpec, place: Place) -> Scheduled:
    """Let KFP start no more updates of the model by itself; what is under way ends by itself."""
    deleted, ending = _end(place, _ours(spec, place))
    return Scheduled(name="", cron="", cron_kfp="", next="", created=False, deleted=deleted, ending=ending)


def _ours(spec: ModelSpec, place: Place) -> list[Any]:
    pattern = re.compile(re.escape(pipeline_name(spec.name)) + "-[0-9a-f]{12}")
    return [each for each in place.kubeflow.recurring_runs() if pattern.fullmatch(str(each.display_name))]


def _enabled(recurring: Any) -> bool:
    return str(recurring.status) == "ENABLED" if recurring.status else str(recurring.mode) == "ENABLE"


def _end(place: Place, old: list[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Disable each; delete those without a run under way. (names deleted, names that end)."""
    deleted, ending = [], []
    for each in old:
        number = str(each.recurring_run_id)
        if _enabled(each):
            place.kubeflow.disable(number)
        under_way = any(not ended(run.state) for run in place.kubeflow.runs_of(str(each.experiment_id), number))
        if under_way:
            ending.append(str(each.display_name))
        else:
            place.kubeflow.delete(number)
            deleted.append(str(each.display_name))
    return tuple(deleted), tuple(ending)
