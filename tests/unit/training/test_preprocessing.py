from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from upkeep.data.kinds import Column
from upkeep.spec.model import Outliers, Preprocess
from upkeep.training.preprocessing import build_pipeline, inlier_rows

COLUMNS = (
    Column(name="n", kind="numeric"),
    Column(name="empty", kind="numeric"),
    Column(name="c", kind="categorical"),
    Column(name="t", kind="datetime"),
)


def _frame(rows: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    times = pd.Series(pd.date_range("2024-01-01", periods=rows, freq="7h", tz="UTC")).dt.as_unit("us")
    frame = pd.DataFrame(
        {
            "n": rng.normal(size=rows),
            "empty": np.full(rows, np.nan),
            "c": pd.Series(rng.choice(["x", "y", "z"], rows), dtype=object),
            "t": times,
        }
    )
    frame.loc[::17, ["n"]] = np.nan
    frame.loc[::19, ["c"]] = np.nan
    frame.loc[::23, ["t"]] = pd.NaT
    return frame


FRAME = _frame()
Y = np.where(np.nan_to_num(FRAME["n"]) > 0, "b", "a")


def _features(settings: Preprocess, estimator: Any) -> Any:
    pipeline = build_pipeline(COLUMNS, settings, estimator, seed=0).fit(FRAME, Y)
    features = pipeline[:-1].transform(FRAME)
    return features.toarray() if hasattr(features, "toarray") else features


def test_numbers_alone_reach_the_estimator_as_they_are() -> None:
    """The textbook script, to the last digit."""
    rng = np.random.default_rng(1)
    X = pd.DataFrame(rng.normal(size=(300, 4)) * [1, 10, 0.1, 5], columns=list("abcd"))
    y = rng.choice(["no", "yes"], 300)
    columns = tuple(Column(name=name, kind="numeric") for name in X)
    settings = Preprocess(impute_numeric="none", scale="none")
    ours = build_pipeline(columns, settings, LogisticRegression(), seed=0).fit(X, y)
    plain = LogisticRegression().fit(X, y)
    np.testing.assert_array_equal(ours[-1].coef_, plain.coef_)
    np.testing.assert_array_equal(ours.predict_proba(X), plain.predict_proba(X))


@pytest.mark.parametrize("impute", ["median", "mean", "zero"])
@pytest.mark.parametrize("scale", ["standard", "robust", "min_max", "none"])
def test_everything_is_finite_after_imputation(impute: Any, scale: Any) -> None:
    features = _features(Preprocess(impute_numeric=impute, scale=scale), GaussianNB())
    assert np.isfinite(features).all()
    assert features.shape == (200, 4 + 2 + 3)  # x, y, z, null; n, empty; three parts


def test_trees_get_codes_and_others_a_column_a_category() -> None:
    for trees in (RandomForestClassifier(), GradientBoostingClassifier(), BaggingClassifier()):
        assert _features(Preprocess(), trees).shape[1] == 1 + 2 + 3
    for others in (LogisticRegression(), BaggingClassifier(KNeighborsClassifier())):
        assert _features(Preprocess(), others).shape[1] == 4 + 2 + 3
    assert _features(Preprocess(encode="ordinal"), LogisticRegression()).shape[1] == 1 + 2 + 3
    assert _features(Preprocess(encode="one_hot"), RandomForestClassifier()).shape[1] == 4 + 2 + 3


def test_boosting_takes_categories_and_nulls_as_such() -> None:
    boosting = HistGradientBoostingClassifier(max_iter=2)
    built = build_pipeline(COLUMNS, Preprocess(impute_numeric="none"), boosting, seed=0).fit(FRAME, Y)
    assert built[-1].is_categorical_.tolist() == [True] + [False] * 5
    assert np.isnan(built[:-1].transform(FRAME)[:, 1]).sum() == FRAME["n"].isna().sum()
    assert boosting.categorical_features == "from_dtype"  # what was given is not changed
    too_many = Preprocess(max_categories=254)
    assert build_pipeline(COLUMNS, too_many, boosting, seed=0)[-1].categorical_features == "from_dtype"
    fewer_bins = HistGradientBoostingClassifier(max_bins=100)
    assert build_pipeline(COLUMNS, Preprocess(), fewer_bins, seed=0)[-1].categorical_features == "from_dtype"
    own = HistGradientBoostingClassifier(categorical_features=None)
    assert build_pipeline(COLUMNS, Preprocess(), own, seed=0)[-1].categorical_features is None


def test_ten_thousand_categories_share_a_place() -> None:
    rows = 12_000
    frame = pd.DataFrame({"c": pd.Series([f"k{i % 10_000}" for i in range(rows)], dtype=object)})
    y = np.where(np.arange(rows) % 2, "a", "b")
    for estimator in (LogisticRegression(), HistGradientBoostingClassifier(max_iter=2)):
        pipeline = build_pipeline(COLUMNS[2:3], Preprocess(max_categories=50), estimator, seed=0).fit(frame, y)
        assert pipeline[:-1].transform(frame.iloc[:5]).shape[1] <= 52
        assert np.isfinite(pipeline.predict_proba(pd.DataFrame({"c": ["never", np.nan]}))).all()


@pytest.mark.parametrize(("method", "columns"), [("quantile", 2), ("iqr", 2), ("isolation_forest", 1)])
def test_flags_are_features_beside_the_numbers(method: Any, columns: int) -> None:
    plain = _features(Preprocess(), GaussianNB())
    flagged = _features(Preprocess(outliers=Outliers(method=method, action="flag")), GaussianNB())
    assert flagged.shape[1] == plain.shape[1] + columns
    assert set(np.unique(flagged[:, 6 : 6 + columns])) <= {0.0, 1.0}


def test_clipping_is_fitted_on_training_rows() -> None:
    settings = Preprocess(outliers=Outliers(method="quantile", quantiles=(0.1, 0.9)), scale="none")
    pipeline = build_pipeline(COLUMNS[:1], settings, GaussianNB(), seed=0).fit(FRAME[["n"]], Y)
    far = pipeline[:-1].transform(pd.DataFrame({"n": [1e9, -1e9, 0.0]}))[:, 0]
    low, high = np.nanquantile(FRAME["n"], [0.1, 0.9])
    np.testing.assert_allclose(far, [high, low, 0.0])


@pytest.mark.parametrize("method", ["quantile", "iqr", "isolation_forest"])
def test_dropping_takes_rows_from_training_and_leaves_nothing_in_the_model(method: Any) -> None:
    frame = FRAME.copy()
    frame.loc[5, "n"] = 1e6
    settings = Preprocess(outliers=Outliers(method=method, action="drop"))
    inside = inlier_rows(frame, COLUMNS, settings, seed=0)
    assert inside is not None
    assert not inside[5]
    assert inside.mean() > 0.9
    kept, none = (build_pipeline(COLUMNS, s, GaussianNB(), seed=0) for s in (settings, Preprocess()))
    assert str(kept) == str(none)
    assert inlier_rows(frame, COLUMNS, replace(settings, outliers=Outliers()), seed=0) is None
