"""drift: hold the new periods against what the champion learned from, and see whether it decays."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from upkeep import records
from upkeep.data.dataset import period_order
from upkeep.data.kinds import Column
from upkeep.data.prepared import Prepared
from upkeep.drift import decay as decays
from upkeep.drift.detect import Watched
from upkeep.drift.profile import baseline_prepared, numbers, profile_prepared
from upkeep.drift.report import drift_report
from upkeep.drift.result import Decay, DriftReport, TwoSample
from upkeep.drift.two_sample import density_ratio, expected_loss, sample_rows, two_sample_test
from upkeep.errors import InputError, OutsideError, UpkeepError
from upkeep.models.manifest import Predictor
from upkeep.registry.card import Card
from upkeep.registry.learned import may_have_learned
from upkeep.registry.registry import Registry
from upkeep.spec.model import ModelSpec
from upkeep.update import trained
from upkeep.update.context import ArtifactLike, Context, step

KEPT = ("train", "validation", "held_out")
DECAY_ROWS = 50_000
"""Held-out rows of each side on which decay is measured, at most: a sample."""
PREDICTION = "prediction"

Progress = Callable[[str, float | None], None]


@step
def drift(
    context: Context,
    *,
    champion: str,
    prepared: ArtifactLike,
    report: ArtifactLike,
    page: ArtifactLike,
    metrics: ArtifactLike,
) -> str:
    from upkeep.report.drift_page import drift_page

    rows = Prepared(Path(prepared.path))
    card = context.registry.card(champion) if champion else None
    found = _report(context.spec, context.registry, card, rows, context.progress)
    records.write(Path(report.path), found)
    if found is None:
        context.progress("nothing to compare with yet, or nothing new", 1.0)
        Path(page.path).write_text("<p>Nothing serves yet, or nothing new arrived: there is nothing to compare.</p>")
        return "insufficient"
    Path(page.path).write_text(drift_page(found), encoding="utf-8")
    metrics.metadata["drifted_columns"] = float(sum(column.finding == "drift" for column in found.columns))
    if found.two_sample and found.two_sample.auc is not None:
        metrics.metadata["two_sample_auc"] = found.two_sample.auc
    if found.decay and found.decay.rise is not None:
        metrics.metadata["decay"] = found.decay.rise
    return found.finding


def drift_of_period(spec: ModelSpec, *, period: str, environ: Mapping[str, str]) -> DriftReport:
    """Only the drift report: ``period`` (the newest, without one) against what the champion learned from.

    Reads the data up to ``period`` and writes nothing but a temporary folder. Earlier periods that are new to the
    champion only count for ``drift.persist``. Raises :class:`InputError` when nothing serves yet, or when the data has
    no such period.
    """
    from upkeep.data.collect import collect
    from upkeep.data.prepare import prepare
    from upkeep.rollout.release import serving_now
    from upkeep.store import open_store

    registry = Registry(open_store(spec.store, spec.object_store), spec.name)
    serving = serving_now(spec)
    if serving.champion is None:
        raise InputError(
            "nothing serves yet, so there is nothing to compare the data with",
            fix="run the first update, or compare two files: upkeep drift --reference A --current B",
        )
    with tempfile.TemporaryDirectory(prefix="upkeep-drift-") as folder:
        out = Path(folder) / "prepared"
        dataset = collect(spec, until=period or None, previous=registry.datasets(), environ=environ)
        seen = registry.held_out_before()
        prepare(spec, dataset, out, held_out_before=seen, environ=environ, progress=lambda *_: None)
        rows = Prepared(out)
        if period and period not in rows.periods:
            raise InputError(
                f"the data has no period {period!r}", fix=f"the newest are {', '.join(rows.periods[-5:]) or 'none'}"
            )
        card = registry.card(serving.champion.version)
        found = _report(spec, registry, card, rows, lambda *_: None, period=period or rows.periods[-1])
        assert found is not None
        return found


@dataclass(frozen=True)
class _Sides:
    """The periods that the champion knew, and those that it did not."""

    old: tuple[str, ...]
    new: tuple[str, ...]
    """What is judged."""
    before: tuple[str, ...]
    """Periods before those, which only say how long a column has moved already."""


def _sides(card: Card, prepared: Prepared, period: str) -> _Sides:
    until = card.trained.until

    def known(name: str) -> bool:
        return until is not None and period_order(name) <= period_order(until)

    old = tuple(name for name in prepared.periods if known(name) and name != period)
    new = tuple(name for name in prepared.periods if not known(name))
    if not period:
        return _Sides(old, new, ())
    earlier = tuple(name for name in new if period_order(name) < period_order(period))
    return _Sides(old, (period,), earlier)


def _report(
    spec: ModelSpec,
    registry: Registry,
    card: Card | None,
    prepared: Prepared,
    progress: Progress,
    period: str = "",
) -> DriftReport | None:
    """None when there is no champion, or no period that it does not know. ``period``: judge this one and no other,
    also where the champion knows it."""
    if card is None:
        return None
    sides = _sides(card, prepared, period)
    if not sides.new:
        return None
    columns = prepared.summary.columns
    target = Column(name=prepared.summary.target, kind="categorical")
    progress("profiling the new periods", None)
    baseline = registry.get_profile(card.profile) if card.profile else None
    reference = f"the rows that champion {card.version} learned from"
    if baseline is None or not {column.name for column in columns} <= set(baseline.reference.columns):
        if not sides.old:
            raise InputError(
                f"what champion {card.version} learned from is not known, and the data has none of its periods",
                fix="name a cut-off when adopting it (--trained-until), and keep data from before it",
            )
        baseline = baseline_prepared(prepared, [*columns, target], periods=sides.old)
        reference = f"the training rows up to {card.trained.until}, which champion {card.version} may have learned from"
    profiles = profile_prepared(prepared, baseline.reference, KEPT, sides.before + sides.new)
    roles: dict[str, Any] = {target.name: "target"}
    watched = [Watched(baseline, list(profiles.values()), roles, _values(spec, prepared, sides))]

    # its answers to rows that may have taught it are surer and righter than those to new ones, drift or none
    fair = bool(sides.old) and not may_have_learned(spec, registry, card, privacy_key=prepared.summary.privacy_key)
    predictor = _predictor(spec, registry, card) if fair else None
    if predictor is not None:
        progress("asking the champion about the new rows", None)
        watched.append(_predictions(prepared, predictor, sides))
    two_sample = _two_sample(spec, prepared, sides, progress)
    decay = _decay(spec, prepared, predictor, sides, progress) if predictor is not None else None
    return drift_report(watched, spec.drift, reference=reference, periods=sides.new, two_sample=two_sample, decay=decay)


def _predictor(spec: ModelSpec, registry: Registry, card: Card) -> Predictor | None:
    """The champion, or None when it cannot be loaded: the evaluation says so, and drift of the inputs is told."""
    with tempfile.TemporaryDirectory(prefix="upkeep-champion-") as folder:
        try:
            return trained.predictor(registry, card.digest, Path(folder), spec.estimators)
        except OutsideError:  # an outage says nothing of the model
            raise
        except UpkeepError:
            return None


def _values(spec: ModelSpec, prepared: Prepared, sides: _Sides) -> Callable[[str], tuple[Any, Any]] | None:
    """For the exact Kolmogorov–Smirnov test: all values of a column, old training rows and the newest period."""
    if not spec.drift.exact_ks or not sides.old:
        return None

    def values(name: str) -> tuple[Any, Any]:
        old = prepared.table(parts=("train",), periods=sides.old, columns=[name]).column(0).combine_chunks()
        new = prepared.table(parts=KEPT, periods=sides.new[-1:], columns=[name]).column(0).combine_chunks()
        return numbers(old, name), numbers(new, name)

    return values


def _predictions(prepared: Prepared, predictor: Predictor, sides: _Sides) -> Watched:
    """The champion's answers on held-out rows of its own periods, against those on the new periods."""
    classes = list(predictor.manifest.classes)
    binary = len(classes) == 2
    positive = prepared.summary.positive
    place = classes.index(positive) if positive in classes else len(classes) - 1

    def extend(batch: pa.RecordBatch) -> pa.RecordBatch:
        probabilities = predictor.predict_proba(pa.Table.from_batches([batch]))
        if binary:
            column = pa.array(probabilities[:, place], pa.float64())
        else:
            names = [str(label) for label in classes]
            column = pa.array([names[i] for i in probabilities.argmax(axis=1)], pa.string())
        return pa.RecordBatch.from_arrays([column], names=[PREDICTION])

    column = Column(name=PREDICTION, kind="numeric" if binary else "categorical")
    baseline = baseline_prepared(prepared, [column], ("held_out",), sides.old, extend)
    current = profile_prepared(prepared, baseline.reference, KEPT, sides.before + sides.new, extend)
    return Watched(baseline, list(current.values()), {PREDICTION: "prediction"})


def _two_sample(spec: ModelSpec, prepared: Prepared, sides: _Sides, progress: Progress) -> TwoSample | None:
    if not spec.drift.classifier_rows or not sides.old:
        return None
    progress("training a classifier to tell old rows from new", None)
    names = [*(column.name for column in prepared.summary.columns), "_group"]

    def sample(parts: Sequence[str], periods: Sequence[str]) -> pa.Table:
        batches = prepared.batches(parts=parts, periods=periods, columns=names)
        return sample_rows(batches, spec.drift.classifier_rows, seed=spec.seed)

    old, new = sample(("train",), sides.old), sample(KEPT, sides.new)
    return two_sample_test(
        old,
        new,
        prepared.summary.columns,
        spec.drift,
        seed=spec.seed,
        reference_groups=_groups(spec, old),
        current_groups=_groups(spec, new),
    )


def _groups(spec: ModelSpec, table: pa.Table) -> Any:
    return table.column("_group").to_numpy() if spec.data.split.group else None


def _decay(
    spec: ModelSpec, prepared: Prepared, predictor: Predictor, sides: _Sides, progress: Progress
) -> Decay | None:
    """The champion's error on held-out rows of new periods against its error on those of its own."""
    if not prepared.count(parts=("held_out",), periods=sides.old) or not prepared.count(
        parts=("held_out",), periods=sides.new
    ):
        return None
    progress("measuring the champion's decay", None)

    def sample(periods: Sequence[str]) -> pa.Table:
        return sample_rows(prepared.batches(parts=("held_out",), periods=periods), DECAY_ROWS, seed=spec.seed)

    def wrong(rows: pa.Table) -> Any:
        labels = np.array([str(label) for label in predictor.manifest.classes])
        answers = labels[predictor.predict_proba(rows).argmax(axis=1)]
        truth = np.array([str(label) for label in prepared.summary.classes])[prepared.codes(rows)]
        return (answers != truth).astype(np.float64)

    old, new = sample(sides.old), sample(sides.new)
    groups = _groups(spec, old), _groups(spec, new)
    how: Any = {"seed": spec.seed, "reference_groups": groups[0], "current_groups": groups[1]}
    losses = wrong(old)
    expected = expected_loss(old, new, prepared.summary.columns, losses, **how)
    return decays.decay(
        losses,
        wrong(new),
        seed=spec.seed,
        weights=density_ratio(old, new, prepared.summary.columns, **how),
        reference_expected=expected[0] if expected else None,
        current_expected=expected[1] if expected else None,
        reference_groups=groups[0],
        current_groups=groups[1],
        min_rows=spec.drift.min_rows,
    )
