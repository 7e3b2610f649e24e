from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upkeep.models.features import Categories, DateParts, EmptyColumns, Fence, IsolationFlag


def texts(*values: str | float) -> pd.DataFrame:
    return pd.DataFrame({"c": pd.Series(list(values), dtype=object)})


def test_categories_have_places_for_others_and_null() -> None:
    codes = Categories(max_categories=3).fit(texts("b", "b", "a", "c", "d", "a", np.nan))
    assert codes.categories_ == [["a", "b"]]
    got = codes.transform(texts("a", "b", "c", "never", np.nan))[:, 0]
    assert got.tolist() == [0, 1, 2, 2, 3]


def test_all_categories_stay_where_they_fit() -> None:
    codes = Categories(max_categories=3).fit(texts("b", "a", "c"))
    assert codes.transform(texts("a", "b", "c", "d"))[:, 0].tolist() == [0, 1, 2, 3]


def test_null_as_the_most_frequent() -> None:
    codes = Categories(nulls="most_frequent").fit(texts("b", "b", "a", np.nan))
    assert codes.transform(texts(np.nan, "a"))[:, 0].tolist() == [1, 0]


def test_a_column_without_values_has_a_code_all_the_same() -> None:
    for nulls in ("missing", "most_frequent"):
        codes = Categories(nulls=nulls).fit(texts(np.nan, np.nan))
        assert np.isfinite(codes.transform(texts(np.nan, "x"))).all()


@settings(max_examples=60)
@given(st.lists(st.none() | st.text(max_size=3), min_size=1, max_size=30), st.integers(2, 6), st.randoms())
def test_codes_depend_on_values_not_on_their_order(values: list[str | None], limit: int, random: object) -> None:
    column = [np.nan if value is None else value for value in values]
    shuffled = list(column)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, two = Categories(limit).fit(texts(*column)), Categories(limit).fit(texts(*shuffled))
    got = one.transform(texts(*column, "unseen!"))
    np.testing.assert_array_equal(got, two.transform(texts(*column, "unseen!")))
    kept = len(one.categories_[0])
    assert kept <= limit
    assert got.min() >= 0
    assert got.max() <= kept + 1
    assert got[-1, 0] == kept


def test_date_parts_are_utc_and_null_is_nan() -> None:
    times = pd.DataFrame({"t": pd.to_datetime(["2024-02-29T23:30:00Z", None], format="ISO8601").as_unit("us")})
    parts = DateParts(("hour", "day", "day_of_week", "day_of_year", "month", "year")).fit(times).transform(times)
    assert parts[0].tolist() == [23, 29, 3, 60, 2, 2024]
    assert np.isnan(parts[1]).all()


def test_a_quantile_fence_clips_to_numpys_quantiles_and_leaves_nan() -> None:
    values = np.random.default_rng(0).normal(size=(500, 2))
    values[3, 1] = np.nan
    fence = Fence("quantile", (0.05, 0.95)).fit(pd.DataFrame(values))
    clipped = fence.transform(values)
    low, high = np.nanquantile(values, [0.05, 0.95], axis=0)
    np.testing.assert_allclose(np.nanmin(clipped, axis=0), low)
    np.testing.assert_allclose(np.nanmax(clipped, axis=0), high)
    assert np.isnan(clipped[3, 1])
    assert not fence.outside(values)[3, 1]
    assert fence.outside(values)[:, 0].mean() == pytest.approx(0.1, abs=0.01)


def test_an_iqr_fence_stands_factor_ranges_beyond_the_quartiles() -> None:
    values = np.array([[0.0], [1.0], [2.0], [3.0], [4.0]])
    fence = Fence("iqr", factor=1.5).fit(values)
    assert (fence.low_[0], fence.high_[0]) == (1 - 1.5 * 2, 3 + 1.5 * 2)


def test_a_column_of_one_value_or_none_has_no_iqr_fence() -> None:
    values = np.array([[0.0, np.nan]] * 9 + [[5.0, np.nan]])
    np.testing.assert_array_equal(Fence("iqr").fit(values).transform(values), values)
    np.testing.assert_array_equal(Fence("quantile").fit(values[:, 1:]).transform(values[:, 1:]), values[:, 1:])


def test_flags_are_0_and_1() -> None:
    values = np.append(np.random.default_rng(0).normal(size=300), 50.0)[:, None]
    flags = Fence("iqr", action="flag").fit(values).transform(values)
    assert flags[-1, 0] == 1
    assert flags[:-1].sum() < 5
    forest = IsolationFlag(0.01, random_state=0).fit(values)
    assert forest.transform(values)[-1, 0] == 1
    assert forest.transform(np.array([[np.nan]])).shape == (1, 1)


def test_a_column_that_was_empty_in_training_is_0_for_ever() -> None:
    values = np.array([[np.nan, 1.0], [np.nan, np.nan]])
    step = EmptyColumns().fit(values)
    np.testing.assert_array_equal(step.transform([[5.0, np.nan]]), [[0.0, np.nan]])
