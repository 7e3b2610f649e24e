"""Rounds of training and evaluation through the steps themselves, without a pipeline around them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.unit.data import make
from upkeep import records
from upkeep.data.prepared import Prepared
from upkeep.evaluation.result import Evaluation, Rounds
from upkeep.registry.registry import Registry
from upkeep.spec.model import ModelSpec
from upkeep.store import open_store
from upkeep.update import evaluate, train
from upkeep.update.context import Context


class Artifact:
    """What a step asks of a KFP artifact, and what it logs there."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.metadata: dict[str, Any] = {}

    def log_confusion_matrix(self, *_: Any) -> None: ...

    def log_roc_curve(self, *_: Any) -> None: ...


@dataclass
class Updates:
    """One model's updates, month after month."""

    place: Path
    spec: ModelSpec
    number: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    """What the last round's train and evaluate steps logged."""
    last: Any = None
    """The last round's evaluation."""

    @property
    def registry(self) -> Registry:
        return Registry(open_store(str(self.place / "store")), self.spec.name)

    def prepared(self, until: str) -> Prepared:
        out = self.place / f"prepared-{until}"
        return Prepared(out) if out.exists() else make.prepared(self.place, self.spec, until=until, out=out)

    def round(self, until: str, *, champion: str = "") -> Evaluation:
        """Train every candidate and evaluate, with the parameters that collect would give."""
        self.number += 1
        folder, registry = self.place / f"round-{self.number}", self.registry
        context = Context(self.spec, "0" * 64, f"update-{self.number}", registry, "test")
        rows = Artifact(self.prepared(until).path)
        names = [one.name for one in self.spec.candidates]
        states = {name: state for name in names if (state := registry.latest_state(name))}
        rounds = {name: record for name in names if (record := registry.latest_rounds(name))}
        trained = {}
        for name in names:
            metrics = Artifact(folder / f"metrics-{name}")
            trained[name] = train.train.__wrapped__(  # type: ignore[attr-defined]  # the step, its context given
                context, champion=champion, candidate=name, states=states, members={}, prepared=rows,
                model=Artifact(folder / f"model-{name}"), metrics=metrics,
            )  # fmt: skip
            self.metrics |= metrics.metadata
        metrics = Artifact(folder / "metrics")
        evaluate.evaluate.__wrapped__(  # type: ignore[attr-defined]
            context, champion=champion, candidates=trained, rounds=rounds, prepared=rows,
            evaluation=Artifact(folder / "evaluation"), metrics=metrics, confusion=Artifact(folder / "confusion"),
            by_slice=Artifact(folder / "slices"),
        )  # fmt: skip
        self.metrics |= metrics.metadata
        self.last = records.read(Evaluation, folder / "evaluation" / evaluate.EVALUATION)
        return self.last

    def rounds(self, candidate: str) -> Rounds:
        return records.from_json(Rounds, self.registry.get_rounds(candidate, self.registry.latest_rounds(candidate)))


def updates(place: Path, months: int, *candidates: Any, rows: int = 400, **gate: Any) -> Updates:
    """Updates of ``candidates`` on as many months."""
    made = make.spec(make.months(place / "data", months, rows=rows), candidates=candidates, time="time")
    return Updates(place, replace(made, gate=replace(made.gate, resamples=200, **gate)))
