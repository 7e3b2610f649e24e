"""The evaluation of one update, from loaded models to the verdict.

The best candidate is chosen on validation rows, from the training side. Only that one meets the held-out rows, once,
so that many candidates do not make a lucky one. Champion and chosen candidate answer the same held-out rows; the rows
newer than the champion decide, the others show what is forgotten. Raw rows stream through; only codes, group hashes
and probabilities stay in memory, and nothing of them is written anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from upkeep.data.dataset import period_order
from upkeep.data.kinds import Column
from upkeep.data.prepared import Prepared
from upkeep.evaluation.answers import Rows, ask, collect, reason_of, sample_table, union_of_classes
from upkeep.evaluation.attributions import attributions
from upkeep.evaluation.cost import folder_bytes, measure_cost
from upkeep.evaluation.curves import Portion, Portioned, curves
from upkeep.evaluation.fairness import fairness_results
from upkeep.evaluation.forgetting import BEFORE, forgetting
from upkeep.evaluation.gate import Case, Evidence, gate
from upkeep.evaluation.importance import Ask, permutation_importance
from upkeep.evaluation.inputs import CandidateInput, ChampionInput, Retrained, RetrainOn
from upkeep.evaluation.metrics import sign
from upkeep.evaluation.paired import paired
from upkeep.evaluation.result import (
    Attributions,
    CandidateResult,
    Cost,
    Curves,
    Evaluation,
    Forgetting,
    Importance,
    Paired,
    Round,
    Scores,
)
from upkeep.evaluation.scores import score
from upkeep.evaluation.slices import slice_results
from upkeep.models.manifest import Predictor
from upkeep.spec.model import Ensemble, Label, ModelSpec

IMPORTANCE_ROWS = 2000
PERIOD_RESAMPLES = 500
WORTH = 0.01
"""A difference that matters, for the curves, where ``gate.better.by`` is 0."""

Progress = Callable[[str, float | None], None]
"""Told what is being done, and the share of it that is done where that is known."""

__all__ = ["CandidateInput", "ChampionInput", "Portion", "Retrained", "evaluate"]


@dataclass(frozen=True)
class _Comparison:
    """Which comparison is possible."""

    case: Case
    cannot: str = ""
    """Why none is, and what to do."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Asked:
    """Who met the held-out rows, and what they answered."""

    candidates: tuple[CandidateResult, ...]
    chosen: CandidateInput | None
    """None: no candidate could be asked."""
    comparison: _Comparison
    models: dict[str, Predictor]
    """By ``candidate`` and ``champion``: those that answered. None without a chosen candidate."""
    rows: Rows
    failed: tuple[str, ...]
    """A sentence for each candidate that failed."""


@dataclass
class _Measured:
    """What the held-out rows said."""

    scores: dict[str, dict[str, Scores]] = field(default_factory=dict)
    by_period: dict[str, dict[str, Scores]] = field(default_factory=dict)
    decision: Paired | None = None
    old: Paired | None = None
    all: Paired | None = None


@dataclass(frozen=True)
class _Studied:
    """All that is known of the chosen candidate; of none, nothing."""

    evidence: Evidence
    measured: _Measured = field(default_factory=_Measured)
    importance: tuple[Importance, ...] = ()
    attributions: tuple[Attributions, ...] = ()
    cost: dict[str, Cost] = field(default_factory=dict)
    curves: Curves | None = None
    forgetting: tuple[Forgetting, ...] = ()


def evaluate(
    spec: ModelSpec,
    prepared: Prepared,
    candidates: Sequence[CandidateInput],
    champion: ChampionInput | None,
    *,
    seed: int,
    retrain: Callable[[str], RetrainOn] | None = None,
    clock: Callable[[], float],
    progress: Progress = lambda text, share: None,  # noqa: ARG005  the arguments are part of the signature
) -> Evaluation:
    """Choose a candidate, compare it with the champion on held-out rows, and ask the gate.

    ``candidates``: in the order of the spec, failed ones too. ``retrain``: given the chosen candidate's name, what
    trains its recipe on a portion of its rows; None: no curves. ``clock``: seconds, monotonic: for latency and for
    ``explain``. Everything random follows from ``seed``. Raises ``DataError`` when prepared rows cannot be
    read; a model that fails is a finding, not an error.
    """
    progress("choosing among candidates", None)
    asked = _ask_held_out(spec, prepared, *_choose(spec, prepared, candidates, seed), champion, progress)
    chosen, comparison = asked.chosen, asked.comparison
    studied = _Studied(
        Evidence(
            case=comparison.case,
            champion=champion.version if champion else None,
            candidate=chosen.name if chosen else None,
            failed=asked.failed,
            cannot_compare=comparison.cannot,
            notes=comparison.notes,
        )
    )
    if chosen is not None:
        studied = _study(
            spec, prepared, asked, chosen, champion, studied.evidence,
            seed=seed, retrain=retrain, clock=clock, progress=progress,
        )  # fmt: skip
    verdict = gate(spec.gate, studied.evidence)
    others = [one for one in candidates if one.name != studied.evidence.candidate and one.goes_on and one.before]
    forgotten = tuple(found for one in others if (found := _forgotten_by_another(spec, prepared, one, seed)))
    measured = studied.measured
    return Evaluation(
        metric=spec.gate.better.metric,
        classes=asked.rows.classes,
        positive=prepared.summary.positive,
        champion=champion.version if champion else None,
        champion_model=champion.digest if champion else None,
        candidates=asked.candidates,
        chosen=chosen.name if chosen else None,
        chosen_model=chosen.digest if chosen else None,
        scores=measured.scores,
        by_period=measured.by_period,
        paired=tuple(one for one in (measured.decision, measured.old, measured.all) if one is not None),
        slices=studied.evidence.slices,
        fairness=studied.evidence.fairness,
        importance=studied.importance,
        cost=studied.cost,
        curves=studied.curves,
        verdict=verdict,
        forgetting=studied.forgetting + forgotten,
        attributions=studied.attributions,
    )


def _ask_held_out(
    spec: ModelSpec,
    prepared: Prepared,
    results: tuple[CandidateResult, ...],
    chosen: CandidateInput | None,
    champion: ChampionInput | None,
    progress: Progress,
) -> _Asked:
    """Ask the chosen candidate, what it went on from, and the champion about every held-out row, once."""
    failed = tuple(f"Candidate {one.name} failed: {one.failed}" for one in results if one.failed)
    comparison = _compare(prepared, champion, chosen)
    beside = champion.predictor if champion is not None and not comparison.cannot else None
    before = chosen.before.predictor if chosen is not None and chosen.before is not None else None
    known = [one for one in (beside, chosen.predictor if chosen else None, before) if one is not None]
    classes = union_of_classes(prepared.summary.classes, *(one.manifest.classes for one in known))
    models: dict[str, Predictor] = {}
    if chosen is not None and chosen.predictor is not None:
        models["candidate"] = chosen.predictor
        if beside is not None:
            models["champion"] = beside
    rows = Rows(classes, None, np.zeros(0, np.uint8), (), np.zeros(0, np.uint8), None)
    if models:
        slices = tuple(dict.fromkeys([*spec.data.slices, *(rule.column for rule in spec.gate.fairness)]))
        slices = tuple(name for name in slices if name in prepared.schema.names)
        held_out = prepared.count(parts=("held_out",))

        def tick(done: int) -> None:
            progress("asking the models about held-out rows", done / max(held_out, 1))

        asks = models if before is None else {**models, BEFORE: before}
        rows, broken = collect(prepared, asks, slices=slices, classes=classes, tick=tick)
        if "candidate" in broken and chosen is not None:
            failed += (f"Candidate {chosen.name} failed on held-out rows: {broken['candidate']}",)
            results = tuple(
                replace(one, failed=broken["candidate"], chosen=False) if one.name == chosen.name else one
                for one in results
            )
            chosen, models = None, {}
        if BEFORE in broken and chosen is not None and chosen.before is not None:
            chosen = replace(chosen, before=replace(chosen.before, failed=broken[BEFORE]))
        if "champion" in broken and champion is not None:
            comparison = _Comparison("champion_unreadable", _unreadable(champion, broken["champion"]))
            models.pop("champion", None)
    return _Asked(results, chosen, comparison, models, rows, failed)


def _study(
    spec: ModelSpec,
    prepared: Prepared,
    asked: _Asked,
    chosen: CandidateInput,
    champion: ChampionInput | None,
    evidence: Evidence,
    *,
    seed: int,
    retrain: Callable[[str], RetrainOn] | None,
    clock: Callable[[], float],
    progress: Progress,
) -> _Studied:
    """Everything that the gate and the page say of the ``chosen`` candidate; ``evidence``: what is known before."""
    progress("comparing", None)
    rules, rows, models = spec.gate, asked.rows, asked.models
    beside = "champion" if "champion" in models else None
    sets = _RowSets.of(spec, rows, champion if beside else None)
    measured = _measure(spec, sets, models, seed)
    judged = sets.all if sets.champion_everywhere else sets.decision
    evidence = replace(
        evidence,
        decision=measured.decision,
        old=measured.old,
        old_expected=sets.old_expected,
        scores=measured.scores["candidate"]["all"],
        slices=slice_results(
            judged,
            spec.data.slices,
            rules.better.metric,
            min_rows=rules.slices.min_rows,
            confidence=rules.better.confidence,
            resamples=rules.resamples,
            seed=seed,
            champion=beside,
        ),
        fairness=fairness_results(
            judged,
            rules.fairness,
            spec.data.slices if rows.positive is not None else (),
            resamples=rules.resamples,
            seed=seed,
            champion=beside,
        ),
    )
    forgotten: tuple[Forgetting, ...] = ()
    if chosen.goes_on:
        progress("what was forgotten", None)
        forgotten = (_forgetting(spec, rows, chosen, seed),)
        evidence = replace(
            evidence, went_on=chosen.before is not None and not chosen.before.base, forgetting=forgotten[0]
        )
    progress("permutation importance", None)
    sample, truth = _sample(prepared, models, sets.decision, seed)
    importance = _importance(models, rows.classes, sample, truth, rows.positive, rules.better.metric, seed=seed)
    told: tuple[Attributions, ...] = ()
    if chosen.predictor is not None:
        labels = [rows.classes[code] for code in truth]
        told = attributions(chosen.predictor, sample, labels, spec.explain, seed=seed, clock=clock, progress=progress)
    progress("latency", None)
    folders = {"candidate": chosen.folder, "champion": champion.folder if champion else None}
    cost: dict[str, Cost] = {}
    for name, predictor in models.items():
        taken = measure_cost(predictor.predict_proba, sample, folder_bytes(folders[name]), clock=clock)
        if taken is not None:
            cost[name] = taken
    learned: Curves | None = None
    if retrain is not None:
        progress("learning curves", None)
        recipe = retrain(chosen.name) if spec.explain.curves else None
        learned = _curves(spec, prepared, chosen, champion, sets, recipe=recipe, seed=seed, clock=clock)
    return _Studied(
        evidence=replace(evidence, cost=cost.get("candidate")),
        measured=measured,
        importance=importance,
        attributions=told,
        cost=cost,
        curves=learned,
        forgetting=forgotten,
    )


def _choose(
    spec: ModelSpec, prepared: Prepared, candidates: Sequence[CandidateInput], seed: int
) -> tuple[tuple[CandidateResult, ...], CandidateInput | None]:
    """The candidate with the best metric on validation rows; of equals, the one that the spec names first."""
    metric = spec.gate.better.metric
    failed = {one.name: one.failed or "no model came of it" for one in candidates if one.predictor is None}
    able = {one.name: one.predictor for one in candidates if one.predictor is not None}
    scores: dict[str, Scores] = {}
    rows = prepared.count(parts=("validation",))
    if len(able) > 1 and rows:
        stacking = any(isinstance(one, Ensemble) and one.method == "stacking" for one in spec.candidates)
        classes = union_of_classes(prepared.summary.classes, *(one.manifest.classes for one in able.values()))
        answered, broken = collect(prepared, able, parts=("validation",), classes=classes, only_choosing_half=stacking)
        failed |= broken
        able = {name: predictor for name, predictor in able.items() if name not in broken}
        if len(answered):
            scores = {name: score(answered, name, resamples=PERIOD_RESAMPLES, seed=seed, curves=False) for name in able}
    values = {name: one.metrics.get(metric) for name, one in scores.items()}
    known = {name: sign(metric) * value for name, value in values.items() if value is not None}
    best = max(known, key=lambda name: known[name]) if known else next(iter(able), None)

    def note(one: CandidateInput) -> str:
        if one.name in failed:
            return ""
        if len(able) == 1:
            return "the only candidate" if len(candidates) == 1 else "the only candidate that could be trained"
        value = values.get(one.name)
        if not known:
            return "first in the spec; no validation rows tell them apart" if one.name == best else "not the first"
        if value is None:
            return f"{metric} is not defined on the validation rows"
        said = f"{metric} {value:.4f} on {scores[one.name].rows:,} validation rows"
        return f"the best: {said}" if one.name == best else said

    results = tuple(
        CandidateResult(
            name=one.name,
            strategy=one.strategy,
            model=one.digest,
            validation=scores.get(one.name),
            chosen=one.name == best,
            note=note(one),
            failed=failed.get(one.name, ""),
        )
        for one in candidates
    )
    return results, next((one for one in candidates if one.name == best), None)


def _unreadable(champion: ChampionInput, why: str) -> str:
    return (
        f"Champion {champion.version} cannot be asked: {why}. Check its bytes with `upkeep versions verify "
        f"{champion.version}` and restore them; until then nothing can be shown to be better."
    )


def _compare(prepared: Prepared, champion: ChampionInput | None, chosen: CandidateInput | None) -> _Comparison:
    """Which case this is: the first that applies, from what prevents a comparison to what only colours it."""
    if champion is None:
        return _Comparison("first")
    if champion.predictor is None:
        return _Comparison("champion_unreadable", _unreadable(champion, champion.unreadable or "it was not loaded"))
    manifest, version = champion.predictor.manifest, champion.version
    gone = [column.name for column in manifest.columns if column.name not in prepared.schema.names]
    if gone:
        return _Comparison(
            "changed_features",
            f"Champion {version} needs columns that the prepared rows no longer have: {', '.join(gone)}. List them "
            "under data.slices for this update, so that it can be asked; without it nothing can be shown to be better.",
        )
    theirs, ours = set(map(repr, manifest.classes)), set(map(repr, prepared.summary.classes))
    positive = prepared.summary.positive
    if not theirs & ours or (positive is not None and repr(positive) not in theirs):
        return _Comparison(
            "changed_classes",
            f"Champion {version} knows the classes {', '.join(sorted(theirs))}, the data now has "
            f"{', '.join(sorted(ours))}: they cannot be compared. Give a model of other classes a name of its own.",
        )
    case: Case = "champion"
    notes: list[str] = []
    candidate_columns = chosen.predictor.manifest.columns if chosen is not None and chosen.predictor else ()
    changes = _changes(manifest.columns, candidate_columns) if candidate_columns else ""
    if changes:
        case = "changed_features"
        notes.append(f"The features changed ({changes}); champion {version} still has all of its own and was asked.")
    if theirs != ours:
        case = "changed_classes"
        new, old = sorted(ours - theirs), sorted(theirs - ours)
        notes.append(
            f"The classes changed (new: {', '.join(new) or 'none'}; gone: {', '.join(old) or 'none'}). Champion "
            f"{version} cannot name a new class, and is wrong where it names one that is gone."
        )
    if champion.adopted or champion.until is None:
        case = "adopted_unknown"
        if champion.until is None:
            return _Comparison(
                case,
                f"What champion {version} learned from is unknown, so any row might flatter it. Declare the newest "
                "period it may have seen (`upkeep adopt --trained-until PERIOD`); later periods then judge it.",
            )
        notes.append(
            f"Champion {version} was adopted: only periods after its declared cut-off {champion.until} judge it."
        )
    elif champion.other_split:
        notes.append(
            f"Champion {version} was trained under another split, so rows that are held out now may have taught it: "
            f"only periods after {champion.until} judge it."
        )
    return _Comparison(case, notes=tuple(notes))


def _changes(before: Sequence[Column], after: Sequence[Column]) -> str:
    old, new = {one.name: one.kind for one in before}, {one.name: one.kind for one in after}
    texts = {
        "new": sorted(set(new) - set(old)),
        "gone": sorted(set(old) - set(new)),
        "of another kind": sorted(name for name in set(old) & set(new) if old[name] != new[name]),
    }
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in texts.items() if names)


@dataclass(frozen=True)
class _RowSets:
    """The held-out rows by what they may be used for."""

    all: Rows
    decision: Rows
    """Newer than the champion; all rows where there is none, or where the split made one test set for ever."""
    decision_at: npt.NDArray[np.intp]
    """Their places in ``all``."""
    old: Rows | None
    old_expected: bool
    new: bool
    """The deciding rows are the new ones."""
    champion_everywhere: bool
    """No row may have taught the champion: it was not adopted, and was trained under this very split."""

    @staticmethod
    def of(spec: ModelSpec, rows: Rows, champion: ChampionInput | None) -> _RowSets:
        """``champion``: None where it cannot be asked."""
        every = np.arange(len(rows))
        method = spec.data.split.method
        if champion is None:
            return _RowSets(rows, rows, every, None, False, False, True)
        taught = champion.adopted or champion.other_split
        if method == "random_state" and not taught:
            return _RowSets(rows, rows, every, None, False, False, True)
        taught = taught or method == "prequential"  # there, what is held out once is learned from later
        until = period_order(champion.until or "")

        def newer(period: str) -> bool:
            return period_order(period) > until

        new = rows.in_periods(newer)
        old = None if taught else rows.in_periods(lambda period: not newer(period))
        kept = np.array([newer(period) for period in rows.periods], dtype=bool)
        at = every[kept[rows.period]] if len(rows) else every
        if old is not None and not len(old):
            old = None
        return _RowSets(rows, new, at, old, not taught, True, not taught)


def _measure(spec: ModelSpec, sets: _RowSets, models: dict[str, Predictor], seed: int) -> _Measured:
    rules = spec.gate
    both = "champion" in models
    measured = _Measured()
    for name in models:
        scores: dict[str, Scores] = {}
        fair = name == "candidate" or sets.champion_everywhere
        if fair:
            scores["all"] = score(sets.all, name, resamples=rules.resamples, seed=seed)
        if sets.new:
            scores["new"] = score(sets.decision, name, resamples=rules.resamples, seed=seed)
        if sets.old is not None:
            scores["old"] = score(sets.old, name, resamples=rules.resamples, seed=seed)
        measured.scores[name] = scores
        seen = sets.all if fair else sets.decision
        measured.by_period[name] = {
            period: score(seen.in_periods(period.__eq__), name, resamples=PERIOD_RESAMPLES, seed=seed, curves=False)
            for period in seen.present
        }
    if both:
        how: dict[str, Any] = {"confidence": rules.better.confidence, "resamples": rules.resamples, "seed": seed}
        measured.decision = paired(sets.decision, "new" if sets.new else "all", **how)
        if sets.old is not None:
            measured.old = paired(sets.old, "old", **how)
        if sets.new and sets.champion_everywhere:
            measured.all = paired(sets.all, "all", **how)
    return measured


def _forgetting(spec: ModelSpec, rows: Rows, one: CandidateInput, seed: int, **which: str) -> Forgetting:
    before = one.before
    return forgetting(
        rows,
        candidate=one.name,
        before=before,
        this=Round(model=one.digest, state=one.state, periods=one.periods, scores={}, rows={}),
        known=one.rounds,
        metric=spec.gate.better.metric,
        confidence=spec.gate.better.confidence,
        resamples=spec.gate.resamples,
        seed=seed,
        **which,
    )


def _forgotten_by_another(spec: ModelSpec, prepared: Prepared, one: CandidateInput, seed: int) -> Forgetting | None:
    """Of a candidate that was not chosen, so on validation rows; None where it cannot be asked."""
    before = one.before.predictor if one.before is not None else None
    if one.predictor is None or before is None or not prepared.count(parts=("validation",)):
        return None
    classes = union_of_classes(prepared.summary.classes, one.predictor.manifest.classes, before.manifest.classes)
    models = {"candidate": one.predictor, BEFORE: before}
    rows, broken = collect(prepared, models, parts=("validation",), classes=classes)
    if broken:
        return None
    # its rounds are scored on held-out rows: they have no place beside these
    return _forgetting(spec, rows, replace(one, rounds=None), seed, row_set="validation")


def _sample(
    prepared: Prepared, models: dict[str, Predictor], rows: Rows, seed: int
) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    columns = [column.name for predictor in models.values() for column in predictor.manifest.columns]
    sample = sample_table(
        prepared,
        [*columns, prepared.summary.target],
        periods=rows.present,
        rows=len(rows),
        most=IMPORTANCE_ROWS,
        seed=seed,
    )
    return sample, prepared.codes(sample)


def _importance(
    models: dict[str, Predictor],
    classes: Sequence[Label],
    sample: pa.Table,
    truth: npt.NDArray[np.int64],
    positive: int | None,
    metric: str,
    *,
    seed: int,
) -> tuple[Importance, ...]:
    def asking(predictor: Predictor) -> Ask:
        return lambda table: ask(predictor, table, classes)

    return permutation_importance(
        sample,
        truth,
        {name: (asking(one), [column.name for column in one.manifest.columns]) for name, one in models.items()},
        metric,
        positive,
        seed=seed,
    )


def _curves(
    spec: ModelSpec,
    prepared: Prepared,
    chosen: CandidateInput,
    champion: ChampionInput | None,
    sets: _RowSets,
    *,
    recipe: RetrainOn | None,
    seed: int,
    clock: Callable[[], float],
) -> Curves:
    periods = chosen.periods or tuple(one.period for one in prepared.summary.periods if one.train)
    number = chosen.rows if chosen.rows is not None else prepared.count(parts=("train",), periods=periods)

    def on(portion: Portion, recipe: RetrainOn) -> Portioned | None:
        try:
            made = recipe(portion)
        except Exception as error:  # noqa: BLE001  too few rows, a class missing: the point is left out
            reason_of(error)
            return None
        if made is None:
            return None
        rows, broken = collect(prepared, {"portion": made.predictor}, classes=sets.all.classes)
        return None if broken else Portioned(answers=rows.answers["portion"], rows=made.rows)

    recent = sets.decision_at
    if not sets.new and len(sets.all.present) > 1:  # no champion: the newest period stands for what is to come
        recent = np.flatnonzero(sets.all.period == sets.all.periods.index(sets.all.present[-1]))
    return curves(
        sets.all,
        recent,
        Portioned(answers=sets.all.answers["candidate"], rows=number),
        periods,
        spec.gate.better.metric,
        worth=spec.gate.better.by or WORTH,
        retrain=partial(on, recipe=recipe) if recipe else None,
        champion_until=champion.until if champion else None,
        seed=seed,
        seconds=spec.explain.curves,
        clock=clock,
    )
