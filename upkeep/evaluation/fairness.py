"""Gaps between groups of people (or things): do they get the positive answer, and the right answer, alike?

Measures as in fairlearn, each the largest gap between any two groups that can be judged:

- demographic parity difference: of the share answered as positive;
- equal opportunity difference: of the true-positive rate (Hardt, Price & Srebro, NeurIPS 2016);
- equalized odds difference: of the true-positive or the false-positive rate, whichever gap is larger.

The largest of many noisy gaps is large even where all groups are alike, so a plain bootstrap interval of it would
find unfairness in noise. The interval here is built from simultaneous intervals of all pairwise gaps (the bootstrap's
max-t method: Romano & Wolf, Econometrica 73(4), 2005): with the stated confidence *every* gap lies in its own; the
low end is the largest low end of any pair, the high end the largest high end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from upkeep.evaluation.answers import Rows
from upkeep.evaluation.metrics import Floats, confusion_counts
from upkeep.evaluation.resampling import (
    LEAST_UNITS,
    UNDEFINED_RESAMPLES,
    Units,
    cells,
    draw,
    group_codes,
    student,
    widened_tail,
)
from upkeep.evaluation.result import FairnessResult, Interval
from upkeep.spec import model as spec

MEASURES = ("demographic_parity_difference", "equalized_odds_difference", "equal_opportunity_difference")
MOST_GROUPS = 50
"""Of a column with more groups, the largest are judged; the others are listed with those that are too small."""
_RATES = {
    "demographic_parity_difference": ("selection_rate",),
    "equalized_odds_difference": ("true_positive_rate", "false_positive_rate"),
    "equal_opportunity_difference": ("true_positive_rate",),
}


@dataclass(frozen=True)
class _Draws:
    """Counts [model, group, true, answered] (positive or not), as observed and in each resample."""

    observed: Floats
    """Shape (models, groups, 2, 2)."""
    resampled: Floats
    """Shape (resamples, models, groups, 2, 2)."""
    freedom: float


def fairness_results(
    rows: Rows,
    rules: Sequence[spec.Fairness],
    columns: Sequence[str],
    *,
    resamples: int,
    seed: int,
    confidence: float = 0.95,
    candidate: str = "candidate",
    champion: str | None = "champion",
) -> tuple[FairnessResult, ...]:
    """Every measure of every rule's column, judged where the rule has a limit; and of the other ``columns``, as notes.

    A limit is judged so: ``fail`` when the whole interval lies above it, ``pass`` when the estimate does not exceed
    it, ``insufficient`` between (probably too large, not beyond doubt). With ``not_worse_than_champion`` the limit
    bounds the growth of the gap in the same way. A group below ``min_rows`` (for a rate among positives or negatives:
    below ``min_rows`` ÷ 5 of those) is listed and never judged; fewer than two groups: ``insufficient``.
    """
    asked = {rule.column for rule in rules}
    every = [*rules, *(spec.Fairness(column=column) for column in columns if column not in asked)]
    return tuple(
        result
        for rule in every
        for result in _column(
            rows,
            rule,
            models=(candidate,) if champion is None else (candidate, champion),
            resamples=resamples,
            seed=seed,
            confidence=confidence,
        )
    )


def _column(
    rows: Rows, rule: spec.Fairness, *, models: Sequence[str], resamples: int, seed: int, confidence: float
) -> list[FairnessResult]:
    limits = {measure: getattr(rule, measure) for measure in MEASURES}
    empty = FairnessResult(
        column=rule.column,
        measure="",
        finding="insufficient",
        reason="",
        candidate=None,
        champion=None,
        limit=None,
        judged=(),
        too_small=(),
        by_group={},
        against_champion=rule.not_worse_than_champion,
    )

    def without(reason: str) -> list[FairnessResult]:
        return [
            replace(
                empty,
                measure=measure,
                limit=limits[measure],
                finding="insufficient" if limits[measure] is not None else "note",
                reason=reason,
            )
            for measure in MEASURES
        ]

    if rows.positive is None:
        return without("fairness needs one class that counts as the good or bad outcome: set data.target.positive")
    if rule.column not in rows.slices:
        return without(f"{rule.column} is not among the prepared columns: name it in data.slices")
    codes, values = rows.slices[rule.column]
    sizes = np.bincount(codes, minlength=len(values))
    large = [int(code) for code in np.argsort(-sizes, kind="stable")[:MOST_GROUPS] if sizes[code] >= rule.min_rows]
    truth = (rows.truth == rows.positive).astype(np.uint8)
    answers = [(rows.answers[model].predicted == rows.positive).astype(np.uint8) for model in models]
    _, (counts,) = confusion_counts(truth, answers[0], 2, [(codes, len(values))])
    by_group = {values[code]: _rates_of(counts[code]) for code in large}
    small = tuple(values[code] for code in np.argsort(-sizes, kind="stable") if sizes[code] and code not in large)
    of = np.full(len(values), -1)
    of[large] = np.arange(len(large))
    draws = (
        _draw(rows, of[codes], len(large), truth=truth, answers=answers, resamples=resamples, seed=seed)
        if len(large) >= 2
        else None
    )
    results = []
    for measure in MEASURES:
        least = math.ceil(rule.min_rows / 5)
        needs = _needs(measure)
        keep = [i for i, code in enumerate(large) if all(counts[code][side].sum() >= least for side in needs)]
        judged = tuple(values[large[i]] for i in keep)
        result = replace(
            empty,
            measure=measure,
            limit=limits[measure],
            judged=judged,
            too_small=tuple(values[code] for i, code in enumerate(large) if i not in keep) + small,
            by_group=by_group,
        )
        if draws is None or len(keep) < 2:
            of_them = {(): "", (1,): f", {least:,} of them positive"}.get(needs, f", {least:,} of them of either class")
            finding, reason = (
                "insufficient",
                f"fewer than two groups of {rule.column} have what a comparison needs: {rule.min_rows:,} rows{of_them}",
            )
            result = replace(result, judged=judged)
        else:
            gaps = [_gap_interval(draws, position, keep, measure, confidence) for position in range(len(models))]
            change = _change_interval(draws, keep, measure, confidence) if len(models) == 2 else None
            result = replace(result, candidate=gaps[0], champion=gaps[1] if len(gaps) == 2 else None, change=change)
            finding, reason = judge(result)
        if result.limit is None:
            finding = "note"
        results.append(replace(result, finding=finding, reason=reason))  # type: ignore[arg-type]  # judge's literals
    return results


def judge(result: FairnessResult) -> tuple[str, str]:
    """(finding, reason) of a measured gap, or of its change, against its limit."""
    gap = result.change if result.against_champion else result.candidate
    name = result.measure.replace("_", " ") + f" between groups of {result.column}"
    if gap is None:
        why = "there is no champion to compare with" if result.against_champion else "there are too few rows or groups"
        return "insufficient", f"{name}: not measured, since {why}"
    said = f"{gap.estimate:+.3f}" if result.against_champion else f"{gap.estimate:.3f}"
    text = (
        f"{name} {'changed by' if result.against_champion else 'is'} {said} (interval {gap.low:.3f} to {gap.high:.3f})"
    )
    if result.limit is None:
        return "note", f"{text}; no limit is set"
    text = f"{text}, limit {result.limit:g}"
    if gap.low > result.limit:
        return "fail", f"{text}: above it beyond doubt"
    if gap.estimate > result.limit:
        return "insufficient", f"{text}: probably above it, not beyond doubt"
    return "pass", text if gap.high <= result.limit else f"{text}: within it, though not beyond doubt"


def _needs(measure: str) -> tuple[int, ...]:
    """Which true classes (0, 1) a group needs rows of."""
    return {"demographic_parity_difference": (), "equal_opportunity_difference": (1,)}.get(measure, (0, 1))


def _rates(counts: Floats, rate: str) -> Floats:
    """One rate from counts [..., true, answered]; NaN where nothing is there to divide by."""
    top, bottom = {
        "selection_rate": (counts[..., 1].sum(axis=-1), counts.sum(axis=(-1, -2))),
        "true_positive_rate": (counts[..., 1, 1], counts[..., 1, :].sum(axis=-1)),
        "false_positive_rate": (counts[..., 0, 1], counts[..., 0, :].sum(axis=-1)),
    }[rate]
    result = np.full(np.shape(top), np.nan)
    np.divide(top, bottom, out=result, where=bottom > 0)
    return result


def _rates_of(counts: npt.NDArray[np.int64]) -> dict[str, float | None]:
    names = ("selection_rate", "true_positive_rate", "false_positive_rate")
    rates = {name: float(_rates(counts.astype(np.float64), name)) for name in names}
    result: dict[str, float | None] = {name: None if math.isnan(rate) else rate for name, rate in rates.items()}
    return result | {"rows": float(counts.sum()), "positives": float(counts[1].sum())}


def _draw(
    rows: Rows,
    of: npt.NDArray[np.intp],
    groups: int,
    *,
    truth: npt.NDArray[np.uint8],
    answers: list[npt.NDArray[np.uint8]],
    resamples: int,
    seed: int,
) -> _Draws | None:
    """Resample whole split groups where there are any, rows (their joint outcomes) otherwise.

    ``of``: each row's group of people, shape (rows,); -1 leaves the row out.
    """
    models = len(answers)
    kept = of >= 0
    joint = of[kept] * 2 + truth[kept]
    for answer in answers:
        joint = joint * 2 + answer[kept]
    outcomes = groups * 2 ** (models + 1)
    which = np.arange(outcomes)
    truths = which >> models & 1
    confusion = np.zeros((outcomes, models, groups, 2, 2))
    for model in range(models):
        confusion[which, model, which >> (models + 1), truths, which >> (models - 1 - model) & 1] = 1
    flat = confusion.reshape(outcomes, -1)
    if rows.groups is None:
        units = cells(joint, lambda present: flat[present])
    else:
        unit, number, _ = group_codes(rows.groups[kept], seed)
        counts = np.bincount(unit * outcomes + joint, minlength=number * outcomes).reshape(number, outcomes)
        sums = counts.astype(np.float64) @ flat
        units = Units(sums, np.ones(number, np.int64), sums.sum(axis=1) / models)
    if units.number < LEAST_UNITS:
        return None
    shape = (models, groups, 2, 2)
    return _Draws(
        observed=units.total.reshape(shape),
        resampled=draw(units, resamples, seed).reshape(resamples, *shape),
        freedom=max(units.effective - 1, 1.0),
    )


def _gap_interval(draws: _Draws, model: int, keep: list[int], measure: str, confidence: float) -> Interval | None:
    """The largest pairwise gap, with the simultaneous interval."""
    first, second = np.triu_indices(len(keep), 1)

    def gaps(counts: Floats) -> Floats:
        """Signed gaps of every pair and rate, shape (resamples, pairs × rates)."""
        rates = [_rates(counts, rate)[:, keep] for rate in _RATES[measure]]
        return np.concatenate([rate[:, first] - rate[:, second] for rate in rates], axis=1)

    observed = gaps(draws.observed[None, model])[0]
    moved = gaps(draws.resampled[:, model]) - observed
    defined = ~np.isnan(moved).any(axis=1)
    if np.isnan(observed).any() or defined.mean() < 1 - UNDEFINED_RESAMPLES:
        return None
    moved = moved[defined]
    errors = moved.std(axis=0, ddof=1)
    worst = np.max(np.abs(moved) / np.maximum(errors, 1e-12), axis=1)
    # A bootstrap of few groups is too narrow: widen it as Student's t is wider than the normal distribution.
    widen = student(confidence, draws.freedom) / student(confidence, 1e9) * math.sqrt(1 + 1 / draws.freedom)
    reach = float(np.quantile(worst, confidence)) * widen * errors
    size = np.abs(observed)
    return Interval(
        estimate=float(size.max()),
        low=max(0.0, float((size - reach).max())),
        high=min(1.0, float((size + reach).max())),
    )


def _change_interval(draws: _Draws, keep: list[int], measure: str, confidence: float) -> Interval | None:
    """Candidate's gap minus champion's, by the widened percentile interval: their noise is shared and cancels."""

    def gap(counts: Floats, model: int) -> Floats:
        rates = [_rates(counts[:, model], rate)[:, keep] for rate in _RATES[measure]]
        result: Floats = np.max([np.ptp(rate, axis=1) for rate in rates], axis=0)
        return result

    estimate = float((gap(draws.observed[None], 0) - gap(draws.observed[None], 1))[0])
    values = gap(draws.resampled, 0) - gap(draws.resampled, 1)
    defined = values[~np.isnan(values)]
    if math.isnan(estimate) or len(defined) < 0.99 * len(values):
        return None
    tail = widened_tail(confidence, draws.freedom)
    low, high = np.quantile(defined, (tail, 1 - tail))
    return Interval(estimate=estimate, low=min(float(low), estimate), high=max(float(high), estimate))
