from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from upkeep.data.kinds import Column
from upkeep.drift.two_sample import auc_interval, density_ratio, encode, sample_rows, two_sample_test
from upkeep.errors import DataError
from upkeep.spec.model import Drift

COLUMNS = (Column(name="x", kind="numeric"), Column(name="y", kind="numeric"), Column(name="c", kind="categorical"))


def rows(count, seed, *, together=0.0, shift=0.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1, count)
    y = together * x + np.sqrt(1 - together**2) * rng.normal(size=count)
    return pa.table({"x": x, "y": y, "c": rng.choice(["a", "b", "c"], count)})


def test_it_sees_what_no_column_shows():
    found = two_sample_test(rows(2000, 0), rows(2000, 1, together=0.9), COLUMNS, Drift(), seed=0)
    assert found.finding == "drift"
    assert found.auc is not None and found.low is not None and found.auc > 0.7 and found.low > 0.6
    assert {name for name, _ in found.top_columns[:2]} == {"x", "y"}
    assert found == two_sample_test(rows(2000, 0), rows(2000, 1, together=0.9), COLUMNS, Drift(), seed=0)


def test_equal_samples_are_stable_and_few_are_insufficient():
    found = two_sample_test(rows(1000, 0), rows(1000, 1), COLUMNS, Drift(), seed=0)
    assert found.finding == "stable" and found.auc == pytest.approx(0.5, abs=0.06)
    few = two_sample_test(rows(1000, 0), rows(30, 1, shift=9.0), COLUMNS, Drift(), seed=0)
    assert (few.finding, few.auc) == ("insufficient", None)


def test_rows_of_a_group_are_judged_together():
    def days(count, seed):
        rng = np.random.default_rng(seed)
        weather = rng.normal(size=count)
        group = np.repeat(np.arange(count) + seed * 1000, 60)
        x = np.repeat(weather, 60) + rng.normal(0, 0.01, count * 60)
        return pa.table({"x": x, "y": rng.normal(size=len(x)), "c": ["a"] * len(x)}), group

    (old, old_days), (new, new_days) = days(20, 1), days(20, 2)
    by_row = two_sample_test(old, new, COLUMNS, Drift(), seed=0)
    by_day = two_sample_test(old, new, COLUMNS, Drift(), seed=0, reference_groups=old_days, current_groups=new_days)
    assert by_row.finding == "drift"
    assert by_day.finding == "stable"
    assert by_day.high - by_day.low > 3 * (by_row.high - by_row.low)
    few = two_sample_test(
        old, new, COLUMNS, Drift(), seed=0, reference_groups=old_days // 10, current_groups=new_days // 10
    )
    assert few.finding == "insufficient"


def delong(negative, positive):
    """The formula of DeLong et al. (1988), pair by pair."""
    psi = np.array([[(p > n) + 0.5 * (p == n) for n in negative] for p in positive])
    area, v10, v01 = psi.mean(), psi.mean(axis=1), psi.mean(axis=0)
    return area, v10.var(ddof=1) / len(positive) + v01.var(ddof=1) / len(negative)


def test_delongs_interval_is_the_formulas():
    from scipy.stats import t

    rng = np.random.default_rng(0)
    negative, positive = np.round(rng.normal(size=80), 1), np.round(rng.normal(0.5, 1, 60), 1)
    area, low, high = auc_interval(negative, positive)
    expected, variance = delong(negative, positive)
    truth = np.repeat([0, 1], [80, 60])
    assert area == pytest.approx(expected) == pytest.approx(roc_auc_score(truth, np.concatenate([negative, positive])))
    assert high - low == pytest.approx(2 * t.ppf(0.975, 59) * np.sqrt(variance))


def test_the_interval_holds_the_area_as_often_as_it_says():
    from scipy.stats import norm

    true_area, hits = norm.cdf(0.8 / np.sqrt(2)), 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        _, low, high = auc_interval(rng.normal(size=100), rng.normal(0.8, 1, 80))
        hits += low <= true_area <= high
    assert 0.91 <= hits / 300 <= 0.99


def test_the_density_ratio_weighs_old_rows_like_new_ones():
    old, new = rows(4000, 3), rows(4000, 4, shift=0.7)
    weights = density_ratio(old, new, COLUMNS, seed=0)
    assert weights is not None and weights.shape == (4000,)
    x = old.column("x").to_numpy()
    assert np.average(x, weights=weights) == pytest.approx(0.7, abs=0.12)
    truth = np.exp(0.7 * x - 0.7**2 / 2)
    assert np.corrcoef(np.log(weights), np.log(truth))[0, 1] > 0.9
    assert density_ratio(old.slice(0, 20), new, COLUMNS, seed=0) is None


def test_a_sample_is_uniform_bounded_and_blind_to_batches():
    values = pa.table({"x": np.arange(5000)})

    def taken(size, seed=0):
        return sample_rows(values.to_batches(max_chunksize=size), 200, seed=seed).column("x").to_pylist()

    assert taken(5000) == taken(37) == taken(901)
    assert len(taken(37)) == 200 and taken(37) == sorted(set(taken(37)))
    assert taken(37, seed=1) != taken(37)
    means = [np.mean(taken(500, seed)) for seed in range(30)]
    assert np.mean(means) == pytest.approx(2500, abs=100)
    assert sample_rows(values.to_batches(), 9000, seed=0).num_rows == 5000
    with pytest.raises(DataError):
        sample_rows([], 10, seed=0)


def test_encoding_keeps_nulls_and_pools_rare_categories():
    old = pa.table(
        {"c": pa.array(["a", "a", None, *[f"k{i:03d}" for i in range(300)]]), "x": [None, 1.0, np.inf] * 101}
    )
    new = pa.table({"c": pa.array(["k000", None]).dictionary_encode(), "x": [2, None]})
    columns = (Column(name="c", kind="categorical"), Column(name="x", kind="numeric"))
    X, categorical = encode([old, new], columns)
    assert categorical.tolist() == [True, False] and X.shape == (305, 2)
    assert X[0, 0] == 0.0 and np.isnan(X[2, 0]) and X[-2, 0] == 1.0 and np.isnan(X[-1, 0])
    assert np.nanmax(X[:, 0]) == 250
    assert np.isnan(X[0, 1]) and X[2, 1] == 1e300 and X[-2, 1] == 2


def test_nulls_infinities_and_constant_columns_do_no_harm():
    odd = pa.table({"x": [None, np.inf, -np.inf, 1.0] * 100, "y": [1.0] * 400, "c": pa.nulls(400, pa.string())})
    found = two_sample_test(odd, odd, COLUMNS, dataclasses.replace(Drift(), min_rows=100), seed=0)
    assert found.finding == "stable"
    assert all(0 <= value <= 1 for value in itertools.chain([found.auc, found.low, found.high]))
