"""evaluate: choose among the candidates, compare the chosen one with the champion, and decide."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from upkeep import records
from upkeep.data.prepared import Prepared
from upkeep.errors import UpkeepError
from upkeep.evaluation.curves import Portion
from upkeep.evaluation.evaluate import evaluate as judge
from upkeep.evaluation.inputs import CandidateInput, ChampionInput, Retrained, RetrainOn
from upkeep.evaluation.result import Evaluation, Scores
from upkeep.models.folder import load
from upkeep.models.manifest import Predictor
from upkeep.registry.registry import Registry
from upkeep.spec.model import Ensemble, ModelSpec
from upkeep.training.task import TrainingTask
from upkeep.training.train import train
from upkeep.update import trained
from upkeep.update.context import ArtifactLike, Context, step

EVALUATION = "evaluation.json"
ROWS = "verify-rows.arrow"
ANSWERS = "verify-answers.npy"
VERIFY_ROWS = 200
CURVE_SECONDS = 30.0


@step
def evaluate(
    context: Context,
    *,
    champion: str,
    candidates: dict[str, str],
    prepared: ArtifactLike,
    evaluation: ArtifactLike,
    metrics: ArtifactLike,
    confusion: Any,
    by_slice: Any,
) -> str:
    spec, registry = context.spec, context.registry
    rows = Prepared(Path(prepared.path))
    with tempfile.TemporaryDirectory(prefix="upkeep-evaluate-") as name:
        work = Path(name)
        inputs = [
            _candidate(registry, work, spec, candidate, record)
            for candidate, record in trained.get_all(registry, _in_order(spec, candidates)).items()
        ]
        result = judge(
            spec,
            rows,
            inputs,
            _champion(registry, work, spec, champion) if champion else None,
            seed=spec.seed,
            retrain=lambda chosen: _retrain(spec, rows, chosen, work),
            curve_seconds=CURVE_SECONDS,
            clock=time.perf_counter,
            progress=context.progress,
        )
        out = Path(evaluation.path)
        out.mkdir(parents=True)
        records.write(out / EVALUATION, result)
        chosen = next((one.predictor for one in inputs if one.name == result.chosen and one.predictor), None)
        if chosen is not None:
            _write_answers(out, rows, chosen)
    _log(result, metrics, confusion, by_slice)
    return result.verdict.verdict


def _in_order(spec: ModelSpec, candidates: dict[str, str]) -> dict[str, str]:
    """In the order of the spec: KFP sorts a dict's keys on the way."""
    return {candidate.name: candidates[candidate.name] for candidate in spec.candidates}


def _candidate(
    registry: Registry, work: Path, spec: ModelSpec, name: str, record: trained.TrainedCandidate
) -> CandidateInput:
    predictor, failed = None, ""
    try:
        predictor = trained.predictor(registry, record.model, work, spec.estimators)
    except UpkeepError as error:
        failed = str(error)
    return CandidateInput(
        name=name,
        strategy=record.result.strategy,
        digest=record.model,
        folder=work / record.model,
        predictor=predictor,
        failed=failed,
        rows=record.result.rows,
        periods=record.result.periods,
    )


def _champion(registry: Registry, work: Path, spec: ModelSpec, version: str) -> ChampionInput:
    card = registry.card(version)
    predictor, unreadable = None, ""
    folder = work / "champion" / card.digest
    try:
        predictor = load(registry.get_model(card.digest, folder), allowed=spec.estimators)
    except UpkeepError as error:
        unreadable = str(error)
    return ChampionInput(
        version=version,
        digest=card.digest,
        predictor=predictor,
        unreadable=unreadable,
        periods=card.trained.periods,
        until=card.trained.until,
        adopted=card.trained.strategy == "adopted",
        folder=folder,
    )


class _Portion(Prepared):
    """The prepared rows with only some of the training ones: whole split keys, by their hash, and some periods."""

    def __init__(self, whole: Prepared, portion: Portion) -> None:
        super().__init__(whole.path)
        self._portion = portion

    def batches(
        self,
        *,
        parts: Sequence[str] = ("train",),
        periods: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        batch_rows: int = 65536,
    ) -> Iterator[Any]:
        if self._portion.periods is not None:
            periods = [p for p in (periods or self.periods) if p in self._portion.periods]
        names = list(columns) if columns is not None else self.schema.names
        read = list(dict.fromkeys([*names, "_group"]))
        for batch in super().batches(parts=parts, periods=periods, columns=read, batch_rows=batch_rows):
            kept = batch.filter(pa.array(_in_share(batch.column("_group").to_numpy(), self._portion.share)))
            if kept.num_rows:
                yield kept.select(names)


def _in_share(groups: Any, share: float) -> Any:
    """Which split keys belong to a share of all: by a hash of their hash, so that shares lie within each other."""
    mixed = groups.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53 < share


def _retrain(spec: ModelSpec, rows: Prepared, chosen: str, work: Path) -> RetrainOn | None:
    """Trains the chosen candidate's recipe on a portion of its rows; ensembles have no rows of their own."""
    candidate = next(c for c in spec.candidates if c.name == chosen)
    if isinstance(candidate, Ensemble):
        return None
    count = iter(range(1000))

    def on(portion: Portion) -> Retrained | None:
        folder = work / f"portion-{next(count)}"
        task = TrainingTask(
            candidate=candidate,
            spec=spec,
            prepared=_Portion(rows, portion),
            seed=spec.seed,
            state=None,
            members={},
            progress=lambda *_: None,
        )
        result = train(task, folder, folder.with_name(folder.name + "-state"))
        return Retrained(predictor=load(folder, allowed=spec.estimators), rows=result.rows)

    return on


def _write_answers(out: Path, rows: Prepared, chosen: Predictor) -> None:
    """Some held-out rows and the judged model's answers to them: what verify holds the stored bytes to."""
    columns = [column.name for column in rows.summary.columns]
    first = next(rows.batches(parts=("held_out",), columns=columns, batch_rows=VERIFY_ROWS), None)
    if first is None:
        return
    table = pa.Table.from_batches([first])
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
