"""evaluate: choose among the candidates, compare the chosen one with the champion, and decide."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from upkeep import records
from upkeep.data.prepared import Prepared
from upkeep.errors import OutsideError, UpkeepError
from upkeep.evaluation.answers import sample_table
from upkeep.evaluation.curves import Portion
from upkeep.evaluation.evaluate import evaluate as judge
from upkeep.evaluation.inputs import Before, CandidateInput, ChampionInput, Retrained, RetrainOn
from upkeep.evaluation.result import Evaluation, Rounds, Scores
from upkeep.models.folder import load
from upkeep.models.manifest import Predictor
from upkeep.registry.learned import adopted, other_split
from upkeep.registry.registry import Registry
from upkeep.spec.model import ModelSpec
from upkeep.training.task import TrainingTask
from upkeep.training.train import refit
from upkeep.update import trained
from upkeep.update.context import ArtifactLike, Context, step
from upkeep.update.evaluated import ANSWERS, EVALUATION, ROWS

VERIFY_ROWS = 200


@step
def evaluate(
    context: Context,
    *,
    champion: str,
    candidates: dict[str, str],
    rounds: dict[str, str],
    prepared: ArtifactLike,
    evaluation: ArtifactLike,
    metrics: ArtifactLike,
    confusion: Any,
    by_slice: Any,
) -> str:
    spec, registry = context.spec, context.registry
    rows = Prepared(Path(prepared.path))
    with tempfile.TemporaryDirectory(prefix="upkeep-evaluate-") as folder:
        work = Path(folder)
        known = trained.get_all(registry, _in_order(spec, candidates))
        inputs = [
            _candidate(registry, work, spec, record, rounds.get(name, ""), champion) for name, record in known.items()
        ]
        result = judge(
            spec,
            rows,
            inputs,
            _champion(registry, work, spec, champion, rows.summary.privacy_key) if champion else None,
            seed=spec.seed,
            retrain=lambda chosen: _retrain(spec, rows, known[chosen]),
            clock=time.perf_counter,
            progress=context.progress,
        )
        out = Path(evaluation.path)
        out.mkdir(parents=True)
        records.write(out / EVALUATION, result)
        chosen = next((one.predictor for one in inputs if one.name == result.chosen and one.predictor), None)
        if chosen is not None:
            _write_answers(out, rows, chosen)
        for found in result.forgetting:
            if found.candidate == result.chosen and found.matrix.rounds:
                registry.put_rounds(found.candidate, records.to_json(found.matrix))
    _log(result, metrics, confusion, by_slice)
    return result.verdict.verdict


def _in_order(spec: ModelSpec, candidates: dict[str, str]) -> dict[str, str]:
    """In the order of the spec: KFP sorts a dict's keys on the way."""
    return {candidate.name: candidates[candidate.name] for candidate in spec.candidates}


def _candidate(
    registry: Registry, work: Path, spec: ModelSpec, record: trained.TrainedCandidate, rounds: str, champion: str
) -> CandidateInput:
    name = record.result.candidate
    predictor, failed = _loaded(registry, work, spec, record.model)
    before = None
    if record.went_on_from:
        gone_on, why = _loaded(registry, work / "before", spec, record.went_on_from)
        before = Before(
            name=_origin(record, champion),
            model=record.went_on_from,
            state=record.state_before,
            periods=record.knew,
            predictor=gone_on,
            base=record.from_base,
            failed=why and f"the model that it went on from cannot be loaded ({why})",
        )
    source = f"rounds/{name}/{rounds}.json"
    return CandidateInput(
        name=name,
        strategy=record.result.strategy,
        digest=record.model,
        folder=work / record.model,
        predictor=predictor,
        failed=failed,
        rows=record.result.rows,
        periods=record.result.periods,
        state=record.state,
        before=before,
        rounds=records.from_json(Rounds, registry.get_rounds(name, rounds), source=source) if rounds else None,
    )


def _origin(record: trained.TrainedCandidate, champion: str) -> str:
    if record.from_base:
        return "its base"
    return "where it last stood" if record.state_before else f"champion {champion}"


def _loaded(registry: Registry, work: Path, spec: ModelSpec, digest: str) -> tuple[Predictor | None, str]:
    """The predictor, or why there is none."""
    try:
        return trained.predictor(registry, digest, work, spec.estimators), ""
    except OutsideError:  # an outage says nothing of the model
        raise
    except UpkeepError as error:
        return None, str(error)


def _champion(registry: Registry, work: Path, spec: ModelSpec, version: str, privacy_key: str) -> ChampionInput:
    card = registry.card(version)
    predictor, unreadable = None, ""
    folder = work / "champion" / card.digest
    try:
        predictor = load(registry.get_model(card.digest, folder), allowed=spec.estimators)
    except OutsideError:
        raise
    except UpkeepError as error:
        unreadable = str(error)
    return ChampionInput(
        version=version,
        digest=card.digest,
        predictor=predictor,
        unreadable=unreadable,
        periods=card.trained.periods,
        until=card.trained.until,
        adopted=adopted(card),
        other_split=other_split(spec, registry, card, privacy_key=privacy_key),
        folder=folder,
    )


def _retrain(spec: ModelSpec, rows: Prepared, record: trained.TrainedCandidate) -> RetrainOn:
    """Trains the chosen candidate's recipe, with the parameters it ended up with, on a portion of its rows."""
    candidate = next(c for c in spec.candidates if c.name == record.result.candidate)
    task = TrainingTask(candidate=candidate, spec=spec, prepared=rows, seed=spec.seed)

    def on(portion: Portion) -> Retrained | None:
        found = refit(task, params=record.result.params, periods=portion.periods, fraction=portion.share)
        return Retrained(predictor=found[0], rows=found[1]) if found else None

    return on


def _write_answers(out: Path, rows: Prepared, chosen: Predictor) -> None:
    """Some held-out rows and the judged model's answers to them: what verify holds the stored bytes to."""
    columns = [column.name for column in rows.summary.columns]
    held_out = rows.count(parts=("held_out",))
    if not held_out:
        return
    table = sample_table(rows, columns, periods=rows.periods, rows=held_out, most=VERIFY_ROWS, seed=0)
    with pa.OSFile(str(out / ROWS), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    np.save(out / ANSWERS, chosen.predict_proba(table))


def _log(result: Evaluation, metrics: ArtifactLike, confusion: Any, by_slice: Any) -> None:
    """What the KFP page shows."""
    metrics.metadata["verdict"] = result.verdict.verdict
    for model, sets in result.scores.items():
        for row_set, scores in sets.items():
            for name, value in scores.metrics.items():
                if value is not None:
                    metrics.metadata[f"{model}_{row_set}_{name}"] = value
    for found in result.forgetting:
        if found.candidate == result.chosen:
            measures = {"backward_transfer": found.backward, "forward_transfer": found.forward}
            metrics.metadata.update(_known(measures))
            lost = [one.change.estimate for one in found.periods if one.known_before and one.change]
            if lost:
                metrics.metadata["worst_change_on_an_old_period"] = min(lost)
    shown = _shown(result)
    if shown is not None:
        classes = [str(label) for label in result.classes]
        confusion.log_confusion_matrix(classes, [list(row) for row in shown.confusion])
        if shown.roc:
            confusion.log_roc_curve(*(list(values) for values in zip(*_finite(shown), strict=True)))
    for one in result.slices:
        name = f"{one.column}={one.value}"
        by_slice.metadata[name] = {"rows": one.rows, "finding": one.finding, **_known(one.candidate)}


def _shown(result: Evaluation) -> Scores | None:
    sets = result.scores.get("candidate", {})
    return next((sets[name] for name in ("new", "all", "old") if name in sets), None)


def _finite(scores: Scores) -> list[tuple[float, float, float]]:
    return [(fpr, tpr, threshold) for fpr, tpr, threshold in scores.roc if np.isfinite(threshold)]


def _known(values: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}
