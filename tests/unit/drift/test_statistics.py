from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from upkeep.drift import statistics
from upkeep.drift.profile import LEVELS

counts = st.lists(st.integers(0, 50), min_size=6, max_size=6).filter(lambda values: sum(values) > 0)


def arrays(*values):
    return [np.array(value, dtype=np.int64) for value in values]


def expand(values):
    return np.repeat(np.arange(len(values), dtype=float), values)


@settings(max_examples=60)
@given(counts, counts)
def test_distances_equal_scipys(a, b):
    old, new = arrays(a, b)
    ks = statistics.ks_binned(old, new)
    assert ks.statistic == pytest.approx(scipy.stats.ks_2samp(expand(old), expand(new), method="asymp").statistic)
    assert statistics.jensen_shannon(old, new) == pytest.approx(jensenshannon(old, new, base=2), abs=1e-7)
    edges = np.arange(5, dtype=float)  # six bins: the last holds the value 5
    ends = [(expand(side).min(), expand(side).max()) for side in (old, new)]
    binned = statistics.wasserstein_binned(edges, old, new, *ends, discrete=True)
    assert binned == pytest.approx(scipy.stats.wasserstein_distance(expand(old), expand(new)))


@settings(max_examples=60)
@given(
    st.lists(st.floats(-10, 10), min_size=1, max_size=60),
    st.lists(st.floats(-10, 10), min_size=1, max_size=60),
    st.lists(st.floats(-9, 9), min_size=1, max_size=8, unique=True),
)
def test_the_distance_over_all_values_lies_between_the_binned_one_and_its_bound(a, b, edges):
    edges = np.sort(edges)
    binned = statistics.ks_binned(
        *(np.bincount(np.searchsorted(edges, side, side="left"), minlength=len(edges) + 1) for side in (a, b))
    )
    values = np.sort(a + b)
    f, g = (np.searchsorted(np.sort(side), values, side="right") / len(side) for side in (a, b))
    exact = np.max(np.abs(f - g))
    assert binned.statistic <= exact + 1e-12
    assert exact <= binned.at_most + 1e-12


@pytest.mark.parametrize("rows", [100, 4000, 12_000])
def test_exact_kolmogorov_smirnov_is_scipys(rows):
    rng = np.random.default_rng(rows)
    a, b = rng.normal(size=rows), rng.normal(0.05, 1, rows // 2)
    expected = scipy.stats.ks_2samp(a, b)
    assert statistics.ks_exact(a, b) == (expected.statistic, expected.pvalue)
    limit = statistics.ks_p_value(expected.statistic, len(a), len(b))
    assert limit == pytest.approx(expected.pvalue, abs=0.05)
    assert limit >= expected.pvalue - 1e-9


def test_kolmogorovs_published_critical_values():
    # Smirnov 1948: 1.358 at 5 %, 1.628 at 1 %
    assert statistics.ks_p_value(1.3581 / math.sqrt(500), 1000, 1000) == pytest.approx(0.05, abs=1e-4)
    assert statistics.ks_p_value(1.6276 / math.sqrt(500), 1000, 1000) == pytest.approx(0.01, abs=1e-4)


def test_population_stability_index_by_hand():
    old, new = arrays([50, 50], [25, 75])
    assert statistics.psi(old, new) == pytest.approx(-0.25 * math.log(0.5) + 0.25 * math.log(1.5))
    with_empty = statistics.psi(*arrays([100, 0], [50, 50]))
    assert with_empty == pytest.approx(-0.5 * math.log(0.5) + (0.5 - 1e-4) * math.log(0.5 / 1e-4))


def test_tenths_group_neighbouring_bins():
    starts = statistics.tenths(np.full(128, 10))
    assert len(starts) == 10 and starts[0] == 0
    assert np.add.reduceat(np.full(128, 10), starts).max() <= 140
    assert statistics.tenths(np.array([1000, 1, 1])).tolist()[0] == 0


@settings(max_examples=60)
@given(st.lists(st.integers(20, 90), min_size=2, max_size=7), st.data())
def test_chi_squared_of_full_cells_is_scipys(a, data):
    b = data.draw(st.lists(st.integers(20, 90), min_size=len(a), max_size=len(a)))
    ours = statistics.chi_squared(*arrays(a, b))
    expected = scipy.stats.chi2_contingency([a, b], correction=False)
    assert ours is not None
    assert (ours.statistic, ours.degrees) == (pytest.approx(expected.statistic), expected.dof)
    assert ours.p_value == pytest.approx(expected.pvalue)


def test_chi_squared_pools_sparse_cells():
    a, b = arrays([100, 80, 1, 2, 3, 0], [90, 95, 2, 1, 0, 4])
    ours = statistics.chi_squared(a, b)
    pooled = scipy.stats.chi2_contingency([[100, 80, 6], [90, 95, 7]], correction=False)
    assert ours is not None and ours.statistic == pytest.approx(pooled.statistic)
    assert ours.degrees == 2
    # a pool that is itself too small takes in the next rarest
    few = statistics.chi_squared(*arrays([100, 40, 1], [100, 60, 0]))
    assert few is not None and few.degrees == 1
    assert few.statistic == pytest.approx(
        scipy.stats.chi2_contingency([[100, 41], [100, 60]], correction=False).statistic
    )
    assert statistics.chi_squared(*arrays([10, 0], [12, 0])) is None


def test_chi_squared_keeps_its_level_with_thousands_of_rare_categories():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(2000, 0.3))
    p_values = []
    for _ in range(400):
        test = statistics.chi_squared(rng.multinomial(3000, shares), rng.multinomial(1500, shares))
        assert test is not None
        p_values.append(test.p_value)
    assert np.mean(np.array(p_values) < 0.05) < 0.09
    assert scipy.stats.kstest(p_values, "uniform").statistic < 0.1


def test_jensen_shannon_beyond_chance_is_near_zero_without_a_change_and_whole_with_one():
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(np.ones(300))
    raw, corrected = [], []
    for _ in range(50):
        pair = rng.multinomial(2000, shares), rng.multinomial(2000, shares)
        raw.append(statistics.jensen_shannon(*pair))
        corrected.append(statistics.jensen_shannon_beyond_chance(*pair))
    assert np.min(raw) > 0.2
    assert np.median(corrected) < 0.08
    assert np.max(corrected) < 0.15
    far = arrays([10_000, 0], [0, 10_000])
    assert statistics.jensen_shannon(*far) == 1.0
    assert statistics.jensen_shannon_beyond_chance(*far) > 0.99


def test_wasserstein_from_bins_is_near_the_exact_one():
    rng = np.random.default_rng(3)
    for a, b in (
        (rng.normal(size=20_000), rng.normal(0.3, 1.2, 10_000)),
        (rng.lognormal(size=20_000), rng.lognormal(0.1, 1, 20_000)),
        (rng.uniform(size=9000), rng.uniform(2, 3, 9000)),
        (rng.normal(size=5000), np.full(5000, 0.7)),
    ):
        edges = np.unique(np.quantile(a, LEVELS))
        old, new = (np.bincount(np.searchsorted(edges, side), minlength=len(edges) + 1) for side in (a, b))
        binned = statistics.wasserstein_binned(edges, old, new, (a.min(), a.max()), (b.min(), b.max()), discrete=False)
        exact = scipy.stats.wasserstein_distance(a, b)
        assert binned == pytest.approx(exact, rel=0.08, abs=0.02 * a.std())


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_benjamini_hochberg_is_scipys(p_values):
    expected = scipy.stats.false_discovery_control(p_values)
    assert statistics.benjamini_hochberg(np.array(p_values)) == pytest.approx(expected)
    assert len(statistics.benjamini_hochberg(np.zeros(0))) == 0
