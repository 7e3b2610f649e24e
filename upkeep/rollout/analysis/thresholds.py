"""Fixed limits on the canary alone, as Argo Rollouts and Flagger have them: for who wants them, beside the comparison.

A limit takes no account of how sure a rate is: with a limit close to the champion's own rate a good canary misses it
by chance, sooner or later, and with a loose one a bad canary keeps it (docs/benchmarks.md has the figures).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from upkeep.evaluation.result import VerdictName
from upkeep.rollout.analysis.result import MetricEvidence
from upkeep.spec.model import Threshold


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The canary's metric over one window of ``Threshold.over`` seconds."""

    value: float | None
    """None or NaN: not known."""
    n: int
    """Requests that it was taken from; for a metric of labels, the labelled ones that count for it."""


def judge(threshold: Threshold, readings: Sequence[Reading]) -> MetricEvidence:
    """The verdict on the windows since the step began, oldest first, one after another without overlap.

    ``fail``: so many windows in a row missed the limit as ``threshold.failures`` says, at any time in the step. A
    window that is not known, or has too few requests, neither counts nor ends a row. ``pass``: the newest window is
    known and kept the limit. Else ``insufficient``.
    """
    known = [
        reading
        for reading in readings
        if reading.value is not None and math.isfinite(reading.value) and reading.n >= threshold.min_requests
    ]
    missed = [not _keeps(threshold, reading.value) for reading in known]
    row = max((sum(1 for _ in same) for miss, same in groupby(missed) if miss), default=0)
    newest = bool(known) and known[-1] is readings[-1]
    verdict: VerdictName = "insufficient"
    if row >= threshold.failures:
        verdict = "fail"
    elif newest and not missed[-1]:
        verdict = "pass"
    return MetricEvidence(
        metric=threshold.metric,
        unit="readings",
        canary_n=len(known),
        canary_bad=sum(missed),
        champion_n=0,
        champion_bad=0,
        canary_rate=sum(missed) / len(known) if known else None,
        champion_rate=None,
        difference=None,
        lower=None,
        upper=None,
        margin=None,
        e_fail=None,
        e_pass=None,
        fail_at=None,
        pass_at=None,
        required=True,
        verdict=verdict,
        text=_text(threshold, readings, newest, row, verdict),
    )


def _keeps(threshold: Threshold, value: float | None) -> bool:
    if value is None:
        return False
    return (threshold.at_most is None or value <= threshold.at_most) and (
        threshold.at_least is None or value >= threshold.at_least
    )


def _text(threshold: Threshold, readings: Sequence[Reading], newest: bool, row: int, verdict: VerdictName) -> str:
    limits = [
        f"{words} {limit:.2%}"
        for words, limit in (("at least", threshold.at_least), ("at most", threshold.at_most))
        if limit is not None
    ]
    rule = f"{threshold.metric} {' and '.join(limits)} over {threshold.over:g} s"
    last = readings[-1] if readings else None
    if verdict == "fail":
        return f"{rule}: missed in {row} window{'s' * (row > 1)} in a row"
    if last is None:
        return f"{rule}: no window yet"
    if not newest:
        known = last.value is not None and math.isfinite(last.value)
        return f"{rule}: " + (
            f"only {last.n:,} in the newest window, {threshold.min_requests:,} needed" if known else "not known"
        )
    return f"{rule}: {last.value:.2%}" + ("" if verdict == "pass" else ", missed")
