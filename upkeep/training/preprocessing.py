"""From raw columns to what an estimator takes: one scikit-learn Pipeline, fitted on training rows, kept in the model.

Columns come out in this order: categories, numbers, outlier flags, parts of dates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from upkeep.data.kinds import Column
from upkeep.models.features import Categories, DateParts, EmptyColumns, Fence, IsolationFlag
from upkeep.spec.model import Preprocess
from upkeep.training.estimators import is_boosting, is_tree, takes

FEATURES = "features"
ESTIMATOR = "estimator"
"""The names of the pipeline's two steps."""

_PLACES_BEYOND = 2  # of a category column: the others' place, and null's


def build_pipeline(columns: Sequence[Column], settings: Preprocess, estimator: Any, *, seed: int) -> Any:
    """An unfitted ``sklearn.pipeline.Pipeline`` from a frame of raw columns to ``estimator``.

    With ``encode: auto``: HistGradientBoosting takes categories as such (where ``max_categories`` and the places for
    others and null fit into its bins), other trees take codes, everything else one 0/1 column a category. Numeric
    columns alone, with no outlier method, imputation or scaling, reach the estimator as they are.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    names = {kind: [column.name for column in columns if column.kind == kind] for kind in _KINDS}
    outliers = settings.outliers
    numeric_steps: list[Any] = []
    if outliers.action == "clip" and outliers.method in ("quantile", "iqr"):
        numeric_steps.append(("clip", _fence(settings, "clip")))
    to_numbers = _impute(settings, estimator) + _scale(settings)
    numeric_steps += to_numbers

    parts: list[Any] = []
    if names["categorical"]:
        parts.append(("categories", _encode(settings, estimator), names["categorical"]))
        estimator = _native_categories(estimator, settings, len(names["categorical"]))
    if names["numeric"]:
        parts.append(("numbers", _chain(numeric_steps), names["numeric"]))
        if outliers.action == "flag" and outliers.method != "none":
            parts.append(("outliers", _flag(settings, seed), names["numeric"]))
    if names["datetime"]:
        dates: list[Any] = [("parts", DateParts(settings.dates))]
        parts.append(("dates", _chain([*dates, *to_numbers]), names["datetime"]))
    if all(transformer == "passthrough" for _, transformer, _ in parts):
        features: Any = "passthrough"
    else:
        features = ColumnTransformer(parts, sparse_threshold=0.3 if takes(estimator, sparse=True) else 0.0)
    return Pipeline([(FEATURES, features), (ESTIMATOR, estimator)])


_KINDS = ("categorical", "numeric", "datetime")


def inlier_rows(
    frame: Any, columns: Sequence[Column], settings: Preprocess, *, seed: int
) -> npt.NDArray[np.bool_] | None:
    """Which training rows stay under ``outliers: {action: drop}``, shape (rows,); None: all.

    A row goes when any of its numbers is outside the fence, or the isolation forest says so; both fitted on
    ``frame``, the training rows. Nothing of it is in the model: a row to be answered is never dropped.
    """
    numeric = [column.name for column in columns if column.kind == "numeric"]
    if settings.outliers.action != "drop" or settings.outliers.method == "none" or not numeric or len(frame) == 0:
        return None
    judge = _flag(settings, seed).fit(frame[numeric])
    inside: npt.NDArray[np.bool_] = ~np.any(judge.outside(frame[numeric]), axis=1)
    return inside


def _flag(settings: Preprocess, seed: int) -> Any:
    if settings.outliers.method == "isolation_forest":
        return IsolationFlag(settings.outliers.contamination, random_state=seed)
    return _fence(settings, "flag")


def _fence(settings: Preprocess, action: Any) -> Fence:
    outliers = settings.outliers
    method: Any = outliers.method
    return Fence(method, outliers.quantiles, outliers.factor, action)


def _impute(settings: Preprocess, estimator: Any) -> list[Any]:
    from sklearn.impute import SimpleImputer

    tolerant = takes(estimator, nulls=True)
    if settings.impute_numeric == "none" or (settings.impute_numeric == "auto" and tolerant):
        return [("empty", EmptyColumns())] if tolerant else []
    strategy = {"zero": "constant", "auto": "median"}.get(settings.impute_numeric, settings.impute_numeric)
    fill = {"fill_value": 0.0} if strategy == "constant" else {}
    return [("impute", SimpleImputer(strategy=strategy, keep_empty_features=True, **fill))]


def _scale(settings: Preprocess) -> list[Any]:
    from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

    scalers = {"standard": StandardScaler, "robust": RobustScaler, "min_max": MinMaxScaler}
    return [("scale", scalers[settings.scale]())] if settings.scale in scalers else []


def _chain(steps: list[Any]) -> Any:
    from sklearn.pipeline import Pipeline

    return Pipeline(steps) if steps else "passthrough"


def _encode(settings: Preprocess, estimator: Any) -> Any:
    from sklearn.preprocessing import OneHotEncoder

    codes = Categories(settings.max_categories, settings.impute_categorical)
    if settings.encode == "ordinal" or (settings.encode == "auto" and is_tree(estimator)):
        return codes
    # a place that no training row is in has no column: it is all zeros
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=takes(estimator, sparse=True))
    return _chain([("codes", codes), ("one_hot", one_hot)])


def _native_categories(estimator: Any, settings: Preprocess, categorical: int) -> Any:
    """HistGradientBoosting that knows which of its columns are categories; any other estimator as it is."""
    from sklearn.base import clone

    if settings.encode != "auto" or not is_boosting(estimator):
        return estimator
    fits = settings.max_categories + _PLACES_BEYOND <= estimator.max_bins
    if not fits or estimator.categorical_features != "from_dtype":
        return estimator
    return clone(estimator).set_params(categorical_features=list(range(categorical)))
