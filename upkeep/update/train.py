"""train: one candidate."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from upkeep.data.prepared import Prepared
from upkeep.errors import ModelError, Problem, Where
from upkeep.models.folder import folder_size, read_manifest
from upkeep.models.manifest import NETWORKS
from upkeep.registry.learned import may_have_learned
from upkeep.registry.registry import Registry
from upkeep.spec.model import Candidate, Ensemble, FineTune
from upkeep.training.before import base_before, before, from_champion
from upkeep.training.keras.distribute import is_chief
from upkeep.training.task import CHAMPION, Epoch, TrainingTask
from upkeep.training.train import train as fit
from upkeep.update import trained
from upkeep.update.context import ArtifactLike, Context, step
from upkeep.update.workers import train_on_workers

SHOWN_EPOCHS = 40


@step
def train(
    context: Context,
    *,
    champion: str,
    candidate: str,
    states: dict[str, str],
    members: dict[str, str],
    prepared: ArtifactLike,
    model: ArtifactLike,
    metrics: ArtifactLike,
) -> str:
    """The digest of the training's record. ``devices: workers`` trains in pods of its own."""
    chosen = next(c for c in context.spec.candidates if c.name == candidate)
    rows, out = Path(prepared.path), Path(model.path)
    given: dict[str, Any] = {"champion": champion, "candidate": candidate, "states": states, "members": members}
    if isinstance(chosen, FineTune) and chosen.devices == "workers":
        name = train_on_workers(context, rows, **given)
        record = trained.get(context.registry, name)
        context.registry.get_model(record.model, out)
    else:
        name = learn(context, rows, out, **given)
        record = trained.get(context.registry, name)
    framework = "keras" if record.format in NETWORKS else "scikit-learn"
    model.metadata.update(digest=record.model, framework=framework, candidate=candidate)
    result = record.result
    metrics.metadata.update(rows=float(result.rows), seconds=float(result.seconds), **curve_metrics(result.curve))
    return name


def learn(
    context: Context,
    prepared: Path,
    model: Path | None,
    *,
    champion: str,
    candidate: str,
    states: dict[str, str],
    members: dict[str, str],
) -> str:
    """Train in this process, and leave the model in the registry, and in the new folder ``model``; the digest of the
    training's record. Of several workers only the first leaves anything; the others give an empty text."""
    spec, registry = context.spec, context.registry
    chosen = next(c for c in spec.candidates if c.name == candidate)
    rows = Prepared(prepared)
    with tempfile.TemporaryDirectory(prefix="upkeep-train-") as name:
        work = Path(name)
        digests = {member: record.model for member, record in trained.get_all(registry, members).items()}
        if champion and _wants_champion(chosen):
            card = registry.card(champion)
            key = rows.summary.privacy_key
            if not may_have_learned(
                spec, registry, card, privacy_key=key
            ):  # else the candidate would owe it what is held out
                digests[CHAMPION] = card.digest
        folders = {member: registry.get_model(digest, work / digest) for member, digest in digests.items()}
        state = registry.get_state(candidate, states[candidate], work / "state") if candidate in states else None
        out, state_out = work / "model", work / "state-out"
        task = TrainingTask(
            candidate=chosen,
            spec=spec,
            prepared=rows,
            seed=spec.seed,
            state=state,
            members=folders,
            checkpoints=_Checkpoints(registry, candidate),
            progress=context.progress,
        )
        try:
            result = fit(task, out, state_out)
        except ModelError as error:  # the folder it names is a temporary one: name the candidate
            raise ModelError(problems=tuple(_of_candidate(candidate, problem) for problem in error.problems)) from error
        if isinstance(chosen, FineTune) and not is_chief(chosen.devices):
            return ""
        digest = registry.put_model(out)
        went_on_from, state_before, from_base = "", "", False
        knew = before(task, result, work / "before")
        if knew is not None:
            went_on_from, state_before = registry.put_model(work / "before"), states[candidate]
        elif from_champion(task):
            went_on_from, knew = digests[CHAMPION], registry.card(champion).trained.periods
        elif from_base := base_before(task, result, work / "before"):
            went_on_from = registry.put_model(work / "before")
        state_digest = registry.put_state(candidate, state_out) if state_out.exists() else ""
        if isinstance(chosen, FineTune):
            registry.drop_checkpoint(candidate)
        if model is not None:
            shutil.copytree(out, model)
        manifest = read_manifest(out)
        record = trained.TrainedCandidate(
            model=digest,
            format=manifest.format,
            base=manifest.base,
            size_bytes=folder_size(out),
            parents=tuple(sorted(digests.values())),
            result=result,
            state=state_digest,
            went_on_from=went_on_from,
            state_before=state_before,
            knew=knew or (),
            from_base=from_base,
        )
    return trained.put(registry, record)


def curve_metrics(curve: Sequence[Epoch]) -> dict[str, float]:
    """A network's training as the KFP page shows it: how it ended, and at most :data:`SHOWN_EPOCHS` of its epochs."""
    if not curve:
        return {}

    def told(epoch: Epoch, prefix: str = "") -> dict[str, float]:
        values = {"loss": epoch.loss, "watched_loss": epoch.watched, "watched_accuracy": epoch.accuracy}
        return {f"{prefix}{name}": value for name, value in values.items() if value is not None}

    found = {"epochs": float(len(curve)), **told(curve[-1])}
    watched = [epoch for epoch in curve if epoch.watched is not None]
    if watched:
        found["best_epoch"] = float(min(watched, key=lambda epoch: epoch.watched or 0.0).number)
    step = -(-len(curve) // SHOWN_EPOCHS)
    for epoch in curve[step - 1 :: step]:
        found |= told(epoch, f"epoch_{epoch.number:03d}_")
    return found


def _wants_champion(candidate: Candidate) -> bool:
    if isinstance(candidate, FineTune):
        return candidate.base == CHAMPION or candidate.distill is not None
    return isinstance(candidate, Ensemble) and CHAMPION in candidate.members


@dataclass(frozen=True)
class _Checkpoints:
    """One candidate's, in the store."""

    registry: Registry
    candidate: str

    def read(self) -> bytes | None:
        return self.registry.get_checkpoint(self.candidate)

    def write(self, data: bytes) -> None:
        self.registry.put_checkpoint(self.candidate, data)


def _of_candidate(candidate: str, problem: Problem) -> Problem:
    return replace(problem, where=Where(field=f"candidates[{candidate}]"))
