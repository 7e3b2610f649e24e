"""What the update page is made from: the records of one update, put together."""

from __future__ import annotations

from dataclasses import replace

from upkeep.data.dataset import Dataset
from upkeep.data.layout import content_is_key
from upkeep.data.prepared import Summary
from upkeep.drift.result import DriftReport
from upkeep.evaluation.result import Evaluation
from upkeep.report.view import Lineage, Release, UpdateView
from upkeep.spec.model import ModelSpec
from upkeep.training.task import TrainingResult
from upkeep.update.code import code
from upkeep.update.record import UpdateRecord

SPLIT_NOTES = {
    "hash": "Held out row by row, by a hash of the id. Where rows share what decides the label, this flatters.",
    "prequential": "The newest period is scored before anything learns from it.",
    "random_state": "scikit-learn's train_test_split, once, on the first period; later rows are all training.",
}


def split_note(spec: ModelSpec) -> str:
    """What is held out together, and what that means for the figures."""
    split = spec.data.split
    if split.method == "hash" and split.group:
        return (
            f"Held out by whole groups ({split.group}): rows of one {split.group} share what decides the label, and "
            "held out row by row the figures would flatter."
        )
    if content_is_key(spec.data):
        return (
            "Held out row by row, by a hash of all that a row holds, since it has no id: other features hold out other "
            "rows. Where rows share what decides the label, this flatters."
        )
    return SPLIT_NOTES[split.method]


def view_of(
    spec: ModelSpec,
    record: UpdateRecord,
    *,
    dataset: Dataset,
    summary: Summary,
    drift: DriftReport | None,
    evaluation: Evaluation,
    training: tuple[TrainingResult, ...],
    parents: tuple[str, ...],
) -> UpdateView:
    """The page's content; ``record`` says what came of it."""
    return replace(
        _view(spec, record, evaluation, parents),
        dataset=dataset,
        data=summary,
        drift=drift,
        training=training,
    )


def failed_view(
    spec: ModelSpec, record: UpdateRecord, *, drift: DriftReport | None, evaluation: Evaluation | None
) -> UpdateView:
    """The page's content for an update that broke off: why, and what it had found until then."""
    return replace(_view(spec, record, evaluation, ()), failed=record.verdict.summary, drift=drift)


def _view(spec: ModelSpec, record: UpdateRecord, evaluation: Evaluation | None, parents: tuple[str, ...]) -> UpdateView:
    stamp = record.update
    started = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}T{stamp[9:11]}:{stamp[11:13]}:{stamp[13:15]}+00:00"
    return UpdateView(
        model=spec.name,
        update=record.update,
        description=spec.metadata.description,
        owner=spec.metadata.owner,
        started=started if len(stamp) > 15 and stamp[15] == "Z" else None,
        finished=record.finished,
        notes=spec.metadata.notes,
        split_note=split_note(spec),
        gate=spec.gate,
        evaluation=evaluation,
        release=Release(
            outcome=record.message, version=record.version, commit=record.commit, repository=record.repository
        ),
        lineage=Lineage(
            spec=record.spec,
            dataset=record.dataset,
            champion=record.champion,
            champion_model=evaluation.champion_model if evaluation else None,
            parents=parents,
            code=code(),
        ),
    )
