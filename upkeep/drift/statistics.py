"""How far two distributions are apart, and whether chance could do it: pure functions of counts or of values.

Counts are arrays of shape (bins,), the reference's and the current rows' in the same order. Every function is held
against scipy or against its formula in the tests. ``scipy.stats`` takes a second to import: only the exact test
asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PSI_FLOOR = 1e-4
"""The least share in a bin that the population stability index reckons with: an empty bin would make it infinite."""
LEAST_EXPECTED = 5.0
"""Cochran's rule: the chi-squared distribution holds where every cell expects about five rows."""


@dataclass(frozen=True, kw_only=True)
class KolmogorovSmirnov:
    statistic: float
    """The largest distance between the two cumulative shares, over the bins' edges."""
    at_most: float
    """What the distance over all values cannot exceed."""


@dataclass(frozen=True, kw_only=True)
class ChiSquared:
    statistic: float
    degrees: int
    p_value: float


def ks_binned(reference: Counts, current: Counts) -> KolmogorovSmirnov:
    """The two-sample Kolmogorov–Smirnov distance, exact over the edges between the bins, and its bound between them.

    Inside a bin (a, b] both cumulative shares can only grow, so their distance is at most
    max(F(b) − G(a), G(b) − F(a)).
    """
    f = np.concatenate([[0.0], np.cumsum(reference) / reference.sum()])
    g = np.concatenate([[0.0], np.cumsum(current) / current.sum()])
    inside = np.maximum(f[1:] - g[:-1], g[1:] - f[:-1])
    # a bin that one sample leaves empty cannot hide a greater distance than its two ends show
    inside = np.where((reference == 0) | (current == 0), np.maximum(abs(f - g)[1:], abs(f - g)[:-1]), inside)
    statistic = float(np.max(np.abs(f - g)))
    return KolmogorovSmirnov(statistic=statistic, at_most=min(1.0, max(statistic, float(np.max(inside)))))


def ks_p_value(statistic: float, reference_rows: int, current_rows: int) -> float:
    """The limiting distribution's p-value (Kolmogorov 1933, Smirnov 1939).

    With bins, ties or few rows it is too large, never too small: a test that errs to the quiet side.
    """
    from scipy.special import kolmogorov

    effective = reference_rows * current_rows / (reference_rows + current_rows)
    return float(kolmogorov(np.sqrt(effective) * statistic))


def ks_exact(reference: Floats, current: Floats) -> tuple[float, float]:
    """Statistic and p-value over all values, both of shape (rows,), finite; those of ``scipy.stats.ks_2samp``."""
    from scipy.stats import ks_2samp

    result = ks_2samp(reference, current, method="asymp" if max(len(reference), len(current)) > 10_000 else "exact")
    return float(result.statistic), float(result.pvalue)


def psi(reference: Counts, current: Counts) -> float:
    """The population stability index: Σ (q − p) ln(q / p), shares floored at ``PSI_FLOOR``."""
    p = np.maximum(reference / reference.sum(), PSI_FLOOR)
    q = np.maximum(current / current.sum(), PSI_FLOOR)
    return float(np.sum((q - p) * np.log(q / p)))


def tenths(reference: Counts) -> npt.NDArray[np.intp]:
    """Where to begin each of at most ten groups of neighbouring bins with about a tenth of the reference's rows.

    PSI's usual readings (0.1, 0.25) are for ten bins; use with ``numpy.add.reduceat``.
    """
    before = np.cumsum(reference) - reference
    group = np.minimum((10 * before) // max(1, int(reference.sum())), 9)
    return np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))


def jensen_shannon(reference: Counts, current: Counts) -> float:
    """The Jensen–Shannon distance with base 2: 0 for equal shares, 1 for shares that never meet."""
    return float(np.sqrt(_divergence(reference, current)))


def jensen_shannon_beyond_chance(reference: Counts, current: Counts) -> float:
    """The distance less what two samples of one distribution would show.

    For equal distributions the divergence is about χ² / (8 ln 2) of the shares (its expansion to second order), whose
    mean is (k − 1)(1/n + 1/m) / (8 ln 2) over k categories: that is taken off before the root. Many rare categories
    and few rows would otherwise look like a change.
    """
    seen = int(np.count_nonzero(reference + current))
    chance = max(0, seen - 1) * (1 / reference.sum() + 1 / current.sum()) / (8 * np.log(2))
    return float(np.sqrt(max(0.0, _divergence(reference, current) - chance)))


def _divergence(reference: Counts, current: Counts) -> float:
    p, q = reference / reference.sum(), current / current.sum()
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(p > 0, p * np.log2(p / middle), 0.0)
        right = np.where(q > 0, q * np.log2(q / middle), 0.0)
    return float(min(1.0, max(0.0, (left.sum() + right.sum()) / 2)))


def chi_squared(reference: Counts, current: Counts) -> ChiSquared | None:
    """Pearson's test that both samples have the same shares; None where one category is left.

    Categories that expect fewer than five rows on a side are pooled into one; should the pool itself expect fewer, it
    takes in the next rarest.
    """
    from scipy.special import chdtrc

    total = reference + current
    pair = np.stack([reference, current])[:, total > 0].astype(np.float64)
    order = np.argsort(pair.sum(axis=0), kind="stable")
    pair = pair[:, order]
    rows = pair.sum(axis=1)
    smaller_share = rows.min() / rows.sum()
    expected = pair.sum(axis=0) * smaller_share
    rare = int(np.count_nonzero(expected < LEAST_EXPECTED))
    if rare:
        pooled = np.cumsum(expected)
        rare = max(rare, int(np.searchsorted(pooled, LEAST_EXPECTED)) + 1)
        pair = np.concatenate([pair[:, :rare].sum(axis=1, keepdims=True), pair[:, rare:]], axis=1)
    degrees = pair.shape[1] - 1
    if degrees < 1:
        return None
    expectation = np.outer(rows, pair.sum(axis=0)) / rows.sum()
    statistic = float(np.sum((pair - expectation) ** 2 / expectation))
    return ChiSquared(statistic=statistic, degrees=degrees, p_value=float(chdtrc(degrees, statistic)))


def wasserstein_binned(
    edges: Floats,
    reference: Counts,
    current: Counts,
    reference_range: tuple[float, float],
    current_range: tuple[float, float],
    *,
    discrete: bool,
) -> float:
    """∫ |F − G| from bins, in the edges' unit.

    ``edges`` (bins − 1,) ascending; bin i holds the values in (edges[i − 1], edges[i]]. ``discrete``: every value
    stands on an edge (one above the last edge: on the range's end), and the result is exact. Otherwise the values
    are taken to lie evenly in each bin.
    """
    if discrete:
        top = max(reference_range[1], current_range[1], float(edges[-1]))
        f = np.cumsum(reference)[:-1] / reference.sum()
        g = np.cumsum(current)[:-1] / current.sum()
        return float(np.sum(np.abs(f - g) * np.diff(np.append(edges, top))))
    grid = np.unique(np.concatenate([edges, reference_range, current_range]))
    if len(grid) < 2:
        return 0.0
    width = np.diff(grid)
    # F − G is a line inside each step of the grid and may jump on it: two points inside give the line
    one = _share_below(grid[:-1] + width / 4, edges, reference, reference_range)
    one -= _share_below(grid[:-1] + width / 4, edges, current, current_range)
    three = _share_below(grid[:-1] + width * 3 / 4, edges, reference, reference_range)
    three -= _share_below(grid[:-1] + width * 3 / 4, edges, current, current_range)
    start, end = 1.5 * one - 0.5 * three, 1.5 * three - 0.5 * one
    crosses = start * end < 0
    steep = np.where(crosses, np.abs(end - start), 1.0)
    area = np.where(crosses, (start**2 + end**2) / (2 * steep), (np.abs(start) + np.abs(end)) / 2)
    return float(np.sum(area * width))


def _share_below(at: Floats, edges: Floats, counts: Counts, ends: tuple[float, float]) -> Floats:
    low, high = ends
    share = np.cumsum(counts)[:-1] / counts.sum()
    inner = (edges > low) & (edges < high)
    at_low = float(share[edges <= low][-1]) if np.any(edges <= low) else 0.0
    x = np.concatenate([[low], edges[inner], [high]])
    y = np.concatenate([[at_low], share[inner], [1.0]])
    return np.where(at < low, 0.0, np.where(at >= high, 1.0, np.interp(at, x, y)))


def benjamini_hochberg(p_values: Floats) -> Floats:
    """Adjusted p-values (Benjamini & Hochberg 1995), shape as given: reject those at or below the wanted rate."""
    size = len(p_values)
    order = np.argsort(p_values)[::-1]
    scaled = p_values[order] * size / np.arange(size, 0, -1)
    adjusted = np.empty(size)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(scaled))
    return adjusted
