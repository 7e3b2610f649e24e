"""What a network's first layers must know of the training rows: fitted in one pass, never the whole table in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from upkeep.data.kinds import Column
from upkeep.data.split import mix
from upkeep.models.features import DateParts, Fence
from upkeep.models.frame import to_frame
from upkeep.spec.model import Preprocess

SAMPLE_ROWS = 100_000
"""Medians, scales and fences are those of at most so many rows, drawn by hash; categories are counted in all."""


@dataclass(frozen=True, kw_only=True)
class NumberSettings:
    """Of one :class:`upkeep.models.keras_layers.Numbers`, a value a column."""

    fill: tuple[float, ...]
    center: tuple[float, ...]
    scale: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    clip: bool
    indicators: tuple[int, ...]
    flags: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    numbers: NumberSettings | None
    """The numeric columns, in order; None: there are none."""
    dates: NumberSettings | None
    """The parts of the datetime columns, each column's after the other's."""
    parts: tuple[str, ...]
    """The parts of a date."""
    texts: dict[str, tuple[str, ...]]
    """Categorical column → the categories that have a place of their own, sorted; others and null have one each."""
    most_frequent: dict[str, str]
    """Categorical column → what null means, where ``impute_categorical: most_frequent`` says so."""
    fence: Fence | None
    """Of the numeric columns, where ``outliers: {action: drop}`` says so: rows outside do not teach."""


def fit_features(batches: Iterable[Any], columns: Sequence[Column], settings: Preprocess) -> FeatureSettings:
    """One pass over batches that hold the columns and ``_row``."""
    names = {kind: [c.name for c in columns if c.kind == kind] for kind in ("numeric", "categorical", "datetime")}
    plain = [column for column in columns if column.kind != "categorical"]
    counts = {name: Counter[str]() for name in names["categorical"]}
    nulls = np.zeros(len(names["numeric"]), dtype=np.int64)
    sample = _Sample()
    for batch in batches:
        for name in names["categorical"]:
            for entry in batch.column(name).value_counts().to_pylist():
                if entry["values"] is not None:
                    counts[name][entry["values"]] += entry["counts"]
        frame = to_frame(batch, plain)
        nulls += frame[names["numeric"]].isna().sum().to_numpy(dtype=np.int64)
        sample.add(frame, batch.column("_row").to_numpy().astype(np.uint64))
    frame = sample.frame(plain)
    numeric = frame[names["numeric"]].to_numpy(dtype=np.float64)
    dates = DateParts(settings.dates).fit(frame[names["datetime"]]) if names["datetime"] else None
    kept = {name: _kept(counter, settings.max_categories) for name, counter in counts.items()}
    return FeatureSettings(
        numbers=_numbers(numeric, settings, nulls > 0) if names["numeric"] else None,
        dates=_numbers(dates.transform(frame[names["datetime"]]), settings, None) if dates else None,
        parts=settings.dates,
        texts={name: tuple(sorted(texts)) for name, texts in kept.items()},
        most_frequent={name: texts[0] for name, texts in kept.items() if texts}
        if settings.impute_categorical == "most_frequent"
        else {},
        fence=_fence(settings, numeric) if settings.outliers.action == "drop" and names["numeric"] else None,
    )


def _kept(counter: Counter[str], most: int) -> list[str]:
    """The most frequent categories, as :class:`upkeep.models.features.Categories` keeps them; the first one first."""
    ordered = sorted(counter.items(), key=lambda entry: (-entry[1], entry[0]))
    return [name for name, _ in ordered[: most if len(ordered) <= most else most - 1]]


def _fence(settings: Preprocess, numbers: npt.NDArray[np.float64]) -> Fence | None:
    outliers = settings.outliers
    if outliers.method not in ("quantile", "iqr"):
        return None
    return Fence(outliers.method, outliers.quantiles, outliers.factor).fit(numbers)


def _numbers(
    numbers: npt.NDArray[np.float64], settings: Preprocess, null: npt.NDArray[np.bool_] | None
) -> NumberSettings:
    """``null``: which columns had one; None: these are parts of dates, which have no fence and no indicator."""
    width = numbers.shape[1]
    action = settings.outliers.action
    fence = _fence(settings, numbers) if null is not None and action in ("clip", "flag") else None
    clip = fence is not None and action == "clip"
    known = np.clip(numbers, fence.low_, fence.high_) if clip and fence else numbers
    columns = [column[~np.isnan(column)] for column in known.T]
    fill = [_fill(column, settings.impute_numeric) for column in columns]
    scaled = [_scale(column, settings.scale) for column in columns]
    return NumberSettings(
        fill=tuple(fill),
        center=tuple(center for center, _ in scaled),
        scale=tuple(scale for _, scale in scaled),
        low=tuple(_finite(low) for low in fence.low_) if fence else (None,) * width,
        high=tuple(_finite(high) for high in fence.high_) if fence else (None,) * width,
        clip=clip,
        indicators=tuple(int(i) for i in np.flatnonzero(null)) if null is not None else (),
        flags=tuple(range(width)) if fence and action == "flag" else (),
    )


def _fill(column: npt.NDArray[np.float64], method: str) -> float:
    if method == "zero" or len(column) == 0:
        return 0.0
    return float(column.mean() if method == "mean" else np.median(column))


def _scale(column: npt.NDArray[np.float64], method: str) -> tuple[float, float]:
    """Centre and scale, as scikit-learn's StandardScaler, RobustScaler and MinMaxScaler have them."""
    if method == "none" or len(column) == 0:
        return 0.0, 1.0
    if method == "robust":
        low, center, high = np.quantile(column, (0.25, 0.5, 0.75))
        scale = high - low
    elif method == "min_max":
        center, scale = column.min(), column.max() - column.min()
    else:
        center, scale = column.mean(), column.std()
    tiny = abs(center) * 10 * np.finfo(np.float64).eps  # a constant's standard deviation is seldom exactly 0
    return float(center), float(scale) if scale > tiny else 1.0


def _finite(bound: float) -> float | None:
    return float(bound) if np.isfinite(bound) else None


class _Sample:
    """The rows with the smallest hashes, whatever order they come in."""

    def __init__(self) -> None:
        self._frames: list[Any] = []
        self._hashes: list[npt.NDArray[np.uint64]] = []
        self._rows = 0

    def add(self, frame: Any, keys: npt.NDArray[np.uint64]) -> None:
        self._frames.append(frame)
        self._hashes.append(mix(keys ^ np.uint64(0xB5297A4D3F84D5B5)))
        self._rows += len(frame)
        if self._rows > 2 * SAMPLE_ROWS:
            self._cut()

    def frame(self, columns: Sequence[Column]) -> Any:
        """``pandas.DataFrame`` of at most :data:`SAMPLE_ROWS` rows."""
        if not self._frames:
            return to_frame(pa.table({column.name: pa.nulls(0) for column in columns}), columns)
        self._cut()
        return self._frames[0]

    def _cut(self) -> None:
        import pandas as pd

        frame, hashes = pd.concat(self._frames, ignore_index=True), np.concatenate(self._hashes)
        chosen = np.sort(np.argsort(hashes, kind="stable")[:SAMPLE_ROWS])
        self._frames, self._hashes = [frame.iloc[chosen].reset_index(drop=True)], [hashes[chosen]]
        self._rows = len(chosen)
