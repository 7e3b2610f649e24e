"""Which columns drift: an effect that is large enough, that chance does not explain, seen in enough rows.

All three must hold. A million rows make every difference significant, so the effect has its own threshold; thirty rows
show large effects by chance, so there is a least number of rows and a test, with the false-discovery rate over all
columns held by Benjamini and Hochberg's procedure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np

from upkeep.drift import statistics
from upkeep.drift.profile import (
    Baseline,
    CategoricalProfile,
    CategoricalReference,
    ColumnProfile,
    ColumnReference,
    NumericProfile,
    NumericReference,
    Profile,
    Values,
)
from upkeep.drift.result import ColumnDrift, Finding, Histogram
from upkeep.errors import DataError
from upkeep.spec.model import Drift

Role = Literal["feature", "target", "prediction"]
LISTED = 20
"""Categories listed by name, and bars of a histogram."""
BY_CHANCE = 5.0
"""A category that expects fewer rows than this may be missing by chance."""
LEAST_OF_A_CATEGORY = 2.0
"""Fewer reference rows a category than this, even of the most frequent ones, and the column holds free text."""
STATISTICS = ("ks", "ks_at_most", "psi", "jensen_shannon", "wasserstein", "chi2")


@dataclass(frozen=True)
class Watched:
    """Some columns, the rows they are compared with, and their profiles by period.

    Features, labels and predictions may come from different rows; :func:`detect` takes several of these together.
    """

    baseline: Baseline
    currents: Sequence[Profile]
    """Oldest first. Of several ``Watched``, the last entries are the same period."""
    roles: Mapping[str, Role] = field(default_factory=dict)
    """A column that is not named is a feature."""
    values: Callable[[str], tuple[Values, Values]] | None = None
    """For the exact Kolmogorov–Smirnov test: all values of a column, reference and newest period, without nulls."""


@dataclass(frozen=True)
class _Test:
    effect: float
    threshold: float
    p_value: float

    def flagged(self, adjusted: float, rate: float) -> bool:
        return self.effect >= self.threshold and adjusted <= rate


@dataclass(frozen=True)
class _Measured:
    """One column in one period."""

    distribution: _Test | None
    nulls: _Test | None
    statistics: dict[str, float | None]


def detect(watched: Sequence[Watched], settings: Drift) -> tuple[ColumnDrift, ...]:
    """What each column does in the newest period: drifted ones first, then by effect.

    A column drifts when its distribution or its share of nulls moved in the newest ``settings.persist`` periods, one
    after another; a period with too few rows ends the row. Raises :class:`DataError` when a profile was not measured
    by its baseline's reference, or there is no period.
    """
    for one in watched:
        if not one.currents:
            raise DataError("there is no period to compare with the reference", fix="give at least one period")
        for current in one.currents:
            if current.reference != one.baseline.reference.digest:
                raise DataError(
                    "a period's profile was measured by another reference than the baseline's",
                    fix="profile the period again by the baseline's reference",
                )
    keys = [(index, name) for index, one in enumerate(watched) for name in one.baseline.reference.columns]
    newest, first_flags, adjusted = _judge(watched, keys, 1, settings)
    streaks = dict.fromkeys(keys, 0)
    alive = [key for key in keys if first_flags[key]]
    back = 1
    while alive:
        for key in alive:
            streaks[key] += 1
        back += 1
        older = [key for key in keys if back <= len(watched[key[0]].currents)]
        _, flags, _ = _judge(watched, older, back, settings)
        alive = [key for key in alive if flags.get(key, False)]
    found = [
        _report(watched[key[0]], key[1], newest[key], adjusted[key], first_flags[key], streaks[key], settings)
        for key in keys
    ]
    order = {"drift": 0, "insufficient": 1, "stable": 2}
    return tuple(sorted(found, key=lambda drift: (order[drift.finding], -(drift.effect or 0.0), drift.column)))


Key = tuple[int, str]
Adjusted = tuple[float | None, float | None]


def _judge(
    watched: Sequence[Watched], keys: Sequence[Key], back: int, settings: Drift
) -> tuple[dict[Key, _Measured], dict[Key, bool], dict[Key, Adjusted]]:
    """All columns in the ``back``-th newest period, with the p-values adjusted over all of that period's tests."""
    measured = {}
    for index, name in keys:
        one = watched[index]
        baseline = one.baseline
        values = one.values if back == 1 and settings.exact_ks else None
        measured[index, name] = _measure(
            baseline.reference.columns[name],
            baseline.profile.columns[name],
            one.currents[-back].columns[name],
            settings,
            None if values is None else lambda name=name, values=values: values(name),  # type: ignore[misc]
        )
    tests = [
        (key, place, test)
        for key, column in measured.items()
        for place, test in enumerate((column.distribution, column.nulls))
        if test is not None
    ]
    corrected = statistics.benjamini_hochberg(np.array([test.p_value for _, _, test in tests]))
    adjusted: dict[Key, list[float | None]] = {key: [None, None] for key in measured}
    flags = dict.fromkeys(measured, False)
    for (key, place, test), value in zip(tests, corrected.tolist(), strict=True):
        adjusted[key][place] = value
        flags[key] = flags[key] or test.flagged(value, settings.false_discovery_rate)
    return measured, flags, {key: (pair[0], pair[1]) for key, pair in adjusted.items()}


def _measure(
    reference: ColumnReference,
    before: ColumnProfile,
    now: ColumnProfile,
    settings: Drift,
    values: Callable[[], tuple[Values, Values]] | None,
) -> _Measured:
    numbers: dict[str, float | None] = dict.fromkeys(STATISTICS)
    distribution = None
    if min(before.rows, now.rows) >= settings.min_rows:
        if isinstance(reference, NumericReference):
            assert isinstance(before, NumericProfile) and isinstance(now, NumericProfile)
            distribution = _numeric(reference, before, now, settings, values, numbers)
        elif not is_free_text(before):
            assert isinstance(before, CategoricalProfile) and isinstance(now, CategoricalProfile)
            distribution = _categorical(before, now, settings, numbers)
    nulls = None
    rows = before.rows + before.nulls, now.rows + now.nulls
    if min(rows) >= settings.min_rows and before.nulls + now.nulls:
        test = statistics.chi_squared(np.array([before.rows, before.nulls]), np.array([now.rows, now.nulls]))
        nulls = _Test(
            effect=abs(now.nulls / rows[1] - before.nulls / rows[0]),
            threshold=settings.thresholds.nulls,
            p_value=1.0 if test is None else test.p_value,
        )
    return _Measured(distribution=distribution, nulls=nulls, statistics=numbers)


def is_free_text(before: ColumnProfile) -> bool:
    """Whether nearly every value of a categorical column is another one: then its categories are those of the
    reference by chance, and any other rows would lack them."""
    return isinstance(before, CategoricalProfile) and 0 < sum(before.counts) < LEAST_OF_A_CATEGORY * len(before.counts)


def _numeric(
    reference: NumericReference,
    before: NumericProfile,
    now: NumericProfile,
    settings: Drift,
    values: Callable[[], tuple[Values, Values]] | None,
    numbers: dict[str, float | None],
) -> _Test:
    old, new = np.array(before.counts), np.array(now.counts)
    if values is None:
        binned = statistics.ks_binned(old, new)
        ks, at_most = binned.statistic, binned.at_most
        p_value = statistics.ks_p_value(ks, before.rows, now.rows)
    else:
        old_values, new_values = (side[~np.isnan(side)] for side in values())
        ks, p_value = statistics.ks_exact(old_values, new_values)
        at_most = ks
    starts = statistics.tenths(old)
    numbers["ks"], numbers["ks_at_most"] = ks, at_most
    numbers["psi"] = statistics.psi(np.add.reduceat(old, starts), np.add.reduceat(new, starts))
    numbers["jensen_shannon"] = statistics.jensen_shannon(old, new)
    deviation = before.deviation(reference)
    ends = (before.smallest, before.largest, now.smallest, now.largest)
    if deviation and None not in ends:
        low, high, now_low, now_high = (float(end or 0.0) for end in ends)
        distance = statistics.wasserstein_binned(
            np.array(reference.edges), old, new, (low, high), (now_low, now_high), discrete=reference.discrete
        )
        scaled = distance / deviation
        numbers["wasserstein"] = scaled if np.isfinite(scaled) else None
    return _Test(effect=ks, threshold=settings.thresholds.ks, p_value=p_value)


def _categorical(
    before: CategoricalProfile, now: CategoricalProfile, settings: Drift, numbers: dict[str, float | None]
) -> _Test:
    old, new = np.array([*before.counts, before.rest]), np.array([*now.counts, now.rest])
    numbers["psi"] = statistics.psi(old, new)
    numbers["jensen_shannon"] = statistics.jensen_shannon(old, new)
    test = statistics.chi_squared(old, new)
    numbers["chi2"] = None if test is None else test.statistic
    return _Test(
        effect=statistics.jensen_shannon_beyond_chance(old, new),
        threshold=settings.thresholds.jensen_shannon,
        p_value=1.0 if test is None else test.p_value,
    )


def _report(
    watched: Watched,
    name: str,
    measured: _Measured,
    adjusted: Adjusted,
    flagged: bool,
    streak: int,
    settings: Drift,
) -> ColumnDrift:
    reference = watched.baseline.reference.columns[name]
    before, now = watched.baseline.profile.columns[name], watched.currents[-1].columns[name]
    rate = settings.false_discovery_rate
    distribution, nulls = measured.distribution, measured.nulls
    by_nulls = (
        nulls is not None
        and adjusted[1] is not None
        and nulls.flagged(adjusted[1], rate)
        and not (distribution is not None and adjusted[0] is not None and distribution.flagged(adjusted[0], rate))
    )
    test, shown = (nulls, adjusted[1]) if by_nulls else (distribution, adjusted[0])
    threshold = (
        settings.thresholds.ks if isinstance(reference, NumericReference) else settings.thresholds.jensen_shannon
    )
    finding, reason = _words(before, now, test, shown, by_nulls, flagged, streak, settings, reference)
    added: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    if isinstance(reference, CategoricalReference) and not is_free_text(before):
        assert isinstance(before, CategoricalProfile) and isinstance(now, CategoricalProfile)
        added, vanished = new_categories(reference, before, now), vanished_categories(reference, before, now)
    return ColumnDrift(
        column=name,
        role=watched.roles.get(name, "feature"),
        kind=reference.kind,
        finding=finding,
        reason=reason,
        reference_rows=before.rows + before.nulls,
        current_rows=now.rows + now.nulls,
        statistics=measured.statistics,
        p_value=None if test is None else test.p_value,
        adjusted_p_value=shown,
        effect=None if test is None else test.effect,
        threshold=threshold if test is None else test.threshold,
        reference_nulls=_share(before),
        current_nulls=_share(now),
        new_categories=added,
        vanished_categories=vanished,
        periods_in_a_row=streak,
        histogram=None if is_free_text(before) else histogram(reference, before, now),
    )


def _words(
    before: ColumnProfile,
    now: ColumnProfile,
    test: _Test | None,
    adjusted: float | None,
    by_nulls: bool,
    flagged: bool,
    streak: int,
    settings: Drift,
    reference: ColumnReference,
) -> tuple[Finding, str]:
    if test is None or adjusted is None:
        if before.rows == 0 or now.rows == 0:
            which = "on both sides" if before.rows == now.rows else ("in the reference" if before.rows == 0 else "now")
            return "insufficient", f"The column has no value {which}."
        if is_free_text(before) and min(before.rows, now.rows) >= settings.min_rows:
            return "insufficient", "Nearly every value is another one, as in free text: no categories to compare."
        rows = f"{before.rows:,} in the reference and {now.rows:,} now"
        return "insufficient", f"Too few rows with a value: {rows} ({settings.min_rows:,} are needed on each side)."
    if by_nulls:
        what = f"The share of nulls went from {_share(before):.1%} to {_share(now):.1%}"
    else:
        distance = "Kolmogorov–Smirnov" if isinstance(reference, NumericReference) else "Jensen–Shannon"
        what = f"The {distance} distance is {test.effect:.3f}"
    chance = "p < 0.001" if adjusted < 0.001 else f"p = {adjusted:.3f}"
    if flagged:
        moved = f"{what}, past {test.threshold:g}, and chance does not explain it ({chance})"
        if streak < settings.persist:
            return "stable", f"{moved}; it counts after {settings.persist} periods in a row, so far {streak}."
        return "drift", f"{moved}{f', {streak} periods in a row' if streak > 1 else ''}."
    if test.effect >= test.threshold:
        return "stable", f"{what}, past {test.threshold:g}, but chance may explain it ({chance})."
    return "stable", f"{what}, below {test.threshold:g}."


def _share(profile: ColumnProfile) -> float:
    total = profile.rows + profile.nulls
    return profile.nulls / total if total else 0.0


def new_categories(
    reference: CategoricalReference, before: CategoricalProfile, now: CategoricalProfile
) -> tuple[str, ...]:
    """Categories that the reference rows surely lack, most frequent first, at most ``LISTED``."""
    seen = {name: count for name, count in now.others.items() if before.surely_lacks(name)}
    for name, old, new in zip(reference.vocabulary, before.counts, now.counts, strict=True):
        if new and not old:
            seen[name] = new
    return tuple(sorted(seen, key=lambda name: (-seen[name], name))[:LISTED])


def vanished_categories(
    reference: CategoricalReference, before: CategoricalProfile, now: CategoricalProfile
) -> tuple[str, ...]:
    """Categories that are gone though at least five rows of each were to be expected; at most ``LISTED``."""
    if not before.rows:
        return ()
    gone = {
        name: old
        for name, old, new in zip(reference.vocabulary, before.counts, now.counts, strict=True)
        if not new and old * now.rows >= BY_CHANCE * before.rows
    }
    return tuple(sorted(gone, key=lambda name: (-gone[name], name))[:LISTED])


def histogram(reference: ColumnReference, before: ColumnProfile, now: ColumnProfile) -> Histogram | None:
    """Shares of the rows with a value, in at most ``LISTED`` + 1 bars; None without any value on a side."""
    if not before.rows or not now.rows:
        return None
    if isinstance(reference, CategoricalReference):
        assert isinstance(before, CategoricalProfile) and isinstance(now, CategoricalProfile)
        old, new = np.array(before.counts) / before.rows, np.array(now.counts) / now.rows
        top = np.argsort(-np.maximum(old, new), kind="stable")[:LISTED]
        rest = max(0.0, 1.0 - float(old[top].sum())), max(0.0, 1.0 - float(new[top].sum()))
        others = (len(top) < len(old)) or before.rest + now.rest > 0
        return Histogram(
            labels=(*(reference.vocabulary[place] for place in top), *(["all others"] if others else [])),
            edges=None,
            reference=(*old[top].tolist(), *([rest[0]] if others else [])),
            current=(*new[top].tolist(), *([rest[1]] if others else [])),
        )
    assert isinstance(before, NumericProfile) and isinstance(now, NumericProfile)
    edges = np.array(reference.edges)
    kept = np.arange(len(edges))
    if len(edges) > LISTED:
        with np.errstate(over="ignore", invalid="ignore"):
            grid = np.linspace(edges[0], edges[-1], LISTED)
        if np.all(np.isfinite(grid)):
            kept = np.unique(np.minimum(np.searchsorted(edges, grid), len(edges) - 1))
        else:
            kept = np.linspace(0, len(edges) - 1, LISTED).astype(np.int64)
    starts = np.concatenate([[0], kept + 1])
    texts = [f"{edge:.4g}" for edge in edges[kept].tolist()]
    return Histogram(
        labels=(f"≤ {texts[0]}", *(f"{a} – {b}" for a, b in pairwise(texts)), f"> {texts[-1]}"),
        edges=tuple(edges[kept].tolist()),
        reference=tuple((np.add.reduceat(np.array(before.counts), starts) / before.rows).tolist()),
        current=tuple((np.add.reduceat(np.array(now.counts), starts) / now.rows).tolist()),
    )
