"""The transformers of Upkeep's own that live in registered models; everything else in them is scikit-learn's.

Their import paths and attributes are part of every stored model: rename nothing here.
Each takes a ``pandas.DataFrame`` and gives a float64 array, shape (rows, features).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Categories(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Text to a code: a place for each known category, one for all others and those never seen, one for null.

    A column with more than ``max_categories`` categories keeps the most frequent, less one place for the others.
    With k kept, codes are 0…k−1 in the order of the names, k for any other category, and for null k+1 (``missing``)
    or the most frequent category's code (``most_frequent``).
    """

    def __init__(self, max_categories: int = 200, nulls: Literal["missing", "most_frequent"] = "missing") -> None:
        self.max_categories = max_categories
        self.nulls = nulls

    def fit(self, X: Any, y: Any = None) -> Categories:  # noqa: ARG002  # scikit-learn's signature
        self.n_features_in_ = X.shape[1]
        self.categories_: list[list[str]] = []
        self.null_codes_: list[int] = []
        for _, column in X.items():
            counts = column.value_counts(sort=False)
            ordered = sorted(zip(map(str, counts.index), map(int, counts), strict=True), key=lambda c: (-c[1], c[0]))
            room = self.max_categories if len(ordered) <= self.max_categories else self.max_categories - 1
            kept = [name for name, _ in ordered[:room]]
            names = sorted(kept)
            self.categories_.append(names)
            self.null_codes_.append(len(names) + 1 if self.nulls == "missing" else names.index(kept[0]) if kept else 0)
        return self

    def transform(self, X: Any) -> Floats:
        import pandas as pd

        out = np.empty((len(X), self.n_features_in_))
        for position, (_, column) in enumerate(X.items()):
            names = self.categories_[position]
            codes = pd.Index(names, dtype=object).get_indexer(column)
            codes[codes < 0] = len(names)
            codes[column.isna().to_numpy()] = self.null_codes_[position]
            out[:, position] = codes
        return out


class DateParts(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The parts of times, in UTC: for each column each part in order; NaN for null.

    hour 0–23, day 1–31, day_of_week 0 (Monday)–6, day_of_year 1–366, month 1–12, year.
    """

    def __init__(self, parts: tuple[str, ...] = ("hour", "day_of_week", "day_of_year")) -> None:
        self.parts = parts

    def fit(self, X: Any, y: Any = None) -> DateParts:  # noqa: ARG002  # scikit-learn's signature
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Any) -> Floats:
        columns = [getattr(column.dt, part) for _, column in X.items() for part in self.parts]
        return np.column_stack([part.to_numpy(dtype=np.float64, na_value=np.nan) for part in columns])


class EmptyColumns(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A column without any number in training is 0 for ever; others stay as they are, NaN too.

    For estimators that take nulls: HistGradientBoosting fails on a column of nothing else.
    """

    def fit(self, X: Any, y: Any = None) -> EmptyColumns:  # noqa: ARG002  # scikit-learn's signature
        numbers = np.asarray(X, dtype=np.float64)
        self.n_features_in_ = numbers.shape[1]
        self.empty_ = np.isnan(numbers).all(axis=0)
        return self

    def transform(self, X: Any) -> Floats:
        numbers: Floats = np.where(self.empty_, 0.0, np.asarray(X, dtype=np.float64))
        return numbers


class Fence(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Numbers outside a fence are brought back to it (``clip``) or told by a 0/1 column each (``flag``). NaN stays.

    ``quantile``: the fence stands at two quantiles. ``iqr``: ``factor`` interquartile ranges beyond the quartiles
    (Tukey, Exploratory Data Analysis, 1977); a column whose quartiles are equal has no fence, since every other value
    would be outside. Quantiles are linear between order statistics (Hyndman & Fan's type 7).
    """

    def __init__(
        self,
        method: Literal["quantile", "iqr"] = "quantile",
        quantiles: tuple[float, float] = (0.001, 0.999),
        factor: float = 3.0,
        action: Literal["clip", "flag"] = "clip",
    ) -> None:
        self.method = method
        self.quantiles = quantiles
        self.factor = factor
        self.action = action

    def fit(self, X: Any, y: Any = None) -> Fence:  # noqa: ARG002  # scikit-learn's signature
        numbers = np.asarray(X, dtype=np.float64)
        self.n_features_in_ = numbers.shape[1]
        fences = [self._fence(column[~np.isnan(column)]) for column in numbers.T]
        self.low_ = np.array([low for low, _ in fences])
        self.high_ = np.array([high for _, high in fences])
        return self

    def _fence(self, values: Floats) -> tuple[float, float]:
        if len(values) == 0:
            return -np.inf, np.inf
        if self.method == "quantile":
            low, high = np.quantile(values, self.quantiles)
            return float(low), float(high)
        low, high = np.quantile(values, (0.25, 0.75))
        reach = self.factor * (high - low)
        return (float(low - reach), float(high + reach)) if reach > 0 else (-np.inf, np.inf)

    def outside(self, X: Any) -> Flags:
        """Which numbers are outside, shape (rows, columns)."""
        numbers = np.asarray(X, dtype=np.float64)
        return np.asarray((numbers < self.low_) | (numbers > self.high_))

    def transform(self, X: Any) -> Floats:
        if self.action == "flag":
            return self.outside(X).astype(np.float64)
        clipped: Floats = np.clip(np.asarray(X, dtype=np.float64), self.low_, self.high_)
        return clipped


class IsolationFlag(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """One 0/1 column: does an isolation forest over all the numbers call the row an outlier?

    Liu, Ting & Zhou, ICDM 2008, as in ``sklearn.ensemble.IsolationForest``.
    """

    def __init__(self, contamination: float = 0.01, random_state: int = 0) -> None:
        self.contamination = contamination
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> IsolationFlag:  # noqa: ARG002  # scikit-learn's signature
        from sklearn.ensemble import IsolationForest

        numbers = np.asarray(X, dtype=np.float64)
        self.n_features_in_ = numbers.shape[1]
        self.forest_ = IsolationForest(contamination=self.contamination, random_state=self.random_state).fit(numbers)
        return self

    def outside(self, X: Any) -> Flags:
        """Which rows are outliers, shape (rows, 1)."""
        return np.asarray(self.forest_.predict(np.asarray(X, dtype=np.float64)) == -1)[:, None]

    def transform(self, X: Any) -> Floats:
        return self.outside(X).astype(np.float64)
