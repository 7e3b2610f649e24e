"""Champion and candidate on every subgroup that the spec names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from upkeep.evaluation.answers import Rows
from upkeep.evaluation.metrics import COMPARED
from upkeep.evaluation.paired import Sample
from upkeep.evaluation.result import SliceResult

MOST_VALUES = 200
"""Values of a column that are judged one by one, the largest; the others are listed together."""


def by_value(rows: Rows, column: str) -> Iterator[tuple[str, Rows]]:
    """The rows of each value of a slice column, most rows first; past MOST_VALUES all others together."""
    codes, values = rows.slices[column]
    sizes = np.bincount(codes, minlength=len(values))
    order = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    ranked = [int(code) for code in np.argsort(-sizes, kind="stable") if sizes[code]]
    for code in ranked[:MOST_VALUES]:
        yield values[code], rows.take(order[starts[code] : starts[code + 1]])


def others(rows: Rows, column: str) -> tuple[int, int]:
    """How many values of the column are not judged one by one, and how many rows they have."""
    codes, values = rows.slices[column]
    sizes = np.sort(np.bincount(codes, minlength=len(values)))[::-1]
    rest = sizes[MOST_VALUES:]
    return int((rest > 0).sum()), int(rest.sum())


def slice_results(
    rows: Rows,
    columns: Sequence[str],
    metric: str,
    *,
    min_rows: int,
    confidence: float,
    resamples: int,
    seed: int,
    champion: str | None = "champion",
    candidate: str = "candidate",
) -> tuple[SliceResult, ...]:
    """Each value of each column, most rows first: both models' metrics and the paired difference of ``metric``.

    The finding is ``better`` or ``worse`` when the difference's whole interval lies on that side of zero, ``same``
    when it holds zero, ``insufficient`` below ``min_rows`` or where no interval can be given. With no ``champion``
    the candidate is measured ``alone``.
    """
    results: list[SliceResult] = []
    for column in columns:
        for value, part in by_value(rows, column):
            models = (candidate,) if champion is None else (champion, candidate)
            sample = Sample(part, models, resamples=resamples, seed=seed)
            results.append(_judge(sample, column, value, metric, min_rows=min_rows, confidence=confidence))
        values, number = others(rows, column)
        if values:
            results.append(
                SliceResult(
                    column=column,
                    value=f"({values:,} smaller values)",
                    rows=number,
                    positives=None,
                    finding="insufficient",
                    reason=f"{column} has more than {MOST_VALUES} values; the smaller ones are not judged one by one",
                    champion={},
                    candidate={},
                    difference=None,
                )
            )
    return tuple(results)


def _judge(sample: Sample, column: str, value: str, metric: str, *, min_rows: int, confidence: float) -> SliceResult:
    part = sample.rows
    *compared, second = ({name: sample.value(name, model) for name in COMPARED} for model in sample.models)
    first = compared[0] if compared else {}
    enough = len(part) >= min_rows
    interval = sample.difference(metric, confidence).difference if enough and compared else None
    if not enough:
        finding, reason = "insufficient", f"{len(part):,} rows, below {min_rows:,}: not judged"
    elif (compared and first[metric] is None) or second[metric] is None:
        finding, reason = "insufficient", f"{metric} is not defined on these {len(part):,} rows: not judged"
    elif not compared:
        finding, reason = "alone", f"{metric} {second[metric]:.3f}; there is no champion to compare with"
    elif interval is None:
        finding, reason = (
            "insufficient",
            (
                f"{len(part):,} rows in {sample.groups} groups are too few for an interval: not judged"
                if sample.groups is not None
                else f"no interval can be given on these {len(part):,} rows: not judged"
            ),
        )
    else:
        finding = "better" if interval.low > 0 else "worse" if interval.high < 0 else "same"
        reason = (
            f"{metric} {first[metric]:.3f} → {second[metric]:.3f}: {interval.estimate:+.3f} in the better direction "
            f"({confidence:.0%} interval {interval.low:+.3f} to {interval.high:+.3f})"
        )
    return SliceResult(
        column=column,
        value=value,
        rows=len(part),
        positives=None if part.positive is None else int((part.truth == part.positive).sum()),
        finding=finding,  # type: ignore[arg-type]  # one of the literals above
        reason=reason,
        champion=first,
        candidate=second,
        difference=interval,
    )
