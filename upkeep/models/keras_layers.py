"""The Keras layers of Upkeep's own that live in registered models; everything else in them is Keras'.

Their registered names (``upkeep>Numbers``) and configs are part of every stored model: rename nothing here. Importing
this module imports Keras: go through :func:`upkeep.models.keras_file.load`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from upkeep.models.keras_graph import read_graph

NULL_TEXT = "\x00"
"""What stands for null in a column of text on its way into a model."""
NULL_TIME = int(np.iinfo(np.int64).min)
"""What stands for null in a column of times: int64 microseconds since 1970, UTC."""
FARTHEST = 1e6
"""A scaled number is brought back to this: float32 must not overflow into infinity further on."""

_DAY = 86_400_000_000


@keras.saving.register_keras_serializable("upkeep")
class DateParts(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """The parts of times, as :class:`upkeep.models.features.DateParts` has them.

    int64 microseconds, shape (rows, columns), to float64, shape (rows, columns × parts); NaN for null.
    """

    def __init__(self, parts: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float64"})
        self.parts = list(parts)

    def call(self, inputs: Any) -> Any:
        ops = keras.ops
        null = ops.equal(inputs, NULL_TIME)
        times = ops.where(null, ops.zeros_like(inputs), inputs)
        days = ops.floor_divide(times, _DAY)
        year, month, day = _civil(days)
        start_of_year = _days(year, ops.ones_like(month), ops.ones_like(day))
        known = {
            "hour": lambda: ops.floor_divide(times - days * _DAY, _DAY // 24),
            "day": lambda: day,
            "day_of_week": lambda: ops.mod(days + 3, 7),  # 1970 began on a Thursday
            "day_of_year": lambda: days - start_of_year + 1,
            "month": lambda: month,
            "year": lambda: year,
        }
        parts = [ops.cast(known[part](), "float64") for part in self.parts]
        stacked = ops.stack([ops.where(null, np.nan, part) for part in parts], axis=-1)
        return ops.reshape(stacked, (-1, inputs.shape[1] * len(parts)))

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor((inputs.shape[0], inputs.shape[1] * len(self.parts)), "float64")

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("dtype")
        return {**config, "parts": self.parts}


def _civil(days: Any) -> tuple[Any, Any, Any]:
    """Year, month and day of a day since 1970-01-01 in the Gregorian calendar (Hinnant, ``civil_from_days``)."""
    divide = keras.ops.floor_divide
    days = days + 719_468
    era = divide(days, 146_097)
    of_era = days - era * 146_097
    year_of_era = divide(of_era - divide(of_era, 1460) + divide(of_era, 36_524) - divide(of_era, 146_096), 365)
    of_year = of_era - (365 * year_of_era + divide(year_of_era, 4) - divide(year_of_era, 100))
    from_march = divide(5 * of_year + 2, 153)
    day = of_year - divide(153 * from_march + 2, 5) + 1
    month = keras.ops.where(from_march < 10, from_march + 3, from_march - 9)
    year = year_of_era + era * 400 + keras.ops.cast(month <= 2, "int64")
    return year, month, day


def _days(year: Any, month: Any, day: Any) -> Any:
    """The inverse of :func:`_civil` (Hinnant, ``days_from_civil``)."""
    divide = keras.ops.floor_divide
    year = year - keras.ops.cast(month <= 2, "int64")
    era = divide(year, 400)
    year_of_era = year - era * 400
    from_march = keras.ops.where(month > 2, month - 3, month + 9)
    of_year = divide(153 * from_march + 2, 5) + day - 1
    of_era = year_of_era * 365 + divide(year_of_era, 4) - divide(year_of_era, 100) + of_year
    return era * 146_097 + of_era - 719_468


@keras.saving.register_keras_serializable("upkeep")
class Replace(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """One whole number becomes another; all others stay."""

    def __init__(self, old: int, new: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.old, self.new = old, new

    def call(self, inputs: Any) -> Any:
        return keras.ops.where(keras.ops.equal(inputs, self.old), keras.ops.cast(self.new, inputs.dtype), inputs)

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor(inputs.shape, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "old": self.old, "new": self.new}


@keras.saving.register_keras_serializable("upkeep")
class Numbers(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Numbers with nulls filled, brought back to a fence and scaled; then 0/1 columns: was it null, was it outside.

    float64, shape (rows, columns), to float32, shape (rows, columns + indicators + flags). In float64 until scaled, so
    that a large number loses nothing. ``low``, ``high``: the fence, None where there is none; ``clip`` brings numbers
    back to it. ``indicators``, ``flags``: positions of the columns that get a 0/1 column for null, for outside.
    """

    def __init__(
        self,
        fill: Sequence[float],
        center: Sequence[float],
        scale: Sequence[float],
        low: Sequence[float | None],
        high: Sequence[float | None],
        clip: bool = False,
        indicators: Sequence[int] = (),
        flags: Sequence[int] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float64"})
        self.fill, self.center, self.scale = list(fill), list(center), list(scale)
        self.low, self.high, self.clip = list(low), list(high), clip
        self.indicators, self.flags = list(indicators), list(flags)

    def call(self, inputs: Any) -> Any:
        ops = keras.ops
        null = ops.isnan(inputs)
        low, high = _fence(self.low, -np.inf), _fence(self.high, np.inf)
        numbers = ops.minimum(ops.maximum(inputs, low), high) if self.clip else inputs
        numbers = ops.where(null, np.array(self.fill), numbers)
        scaled = ops.clip((numbers - np.array(self.center)) / np.array(self.scale), -FARTHEST, FARTHEST)
        parts = [ops.cast(scaled, "float32")]
        if self.indicators:
            parts.append(ops.cast(ops.take(null, self.indicators, axis=1), "float32"))
        if self.flags:
            outside = ops.logical_or(inputs < low, inputs > high)
            parts.append(ops.cast(ops.take(outside, self.flags, axis=1), "float32"))
        return ops.concatenate(parts, axis=1)

    def compute_output_spec(self, inputs: Any) -> Any:
        width = len(self.fill) + len(self.indicators) + len(self.flags)
        return keras.KerasTensor((inputs.shape[0], width), "float32")

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("dtype")
        own = ("fill", "center", "scale", "low", "high", "clip", "indicators", "flags")
        return {**config, **{name: getattr(self, name) for name in own}}


@keras.saving.register_keras_serializable("upkeep")
class Graph(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A graph that was taken out of a SavedModel: it answers, and does not learn.

    ``graph``, ``output``, ``width``: as :class:`upkeep.models.keras_graph.Frozen` has them; ``placeholders``: its
    ``inputs``. Takes one tensor a placeholder, shape (rows, 1), and gives float32, shape (rows, width). Raises
    :class:`ModelError` for a graph with operations that are not on our list.
    """

    def __init__(
        self, graph: str, placeholders: Sequence[Sequence[Any]], output: str, width: int, **kwargs: Any
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float64"})
        self._settings: dict[str, Any] = {
            "graph": graph,
            "placeholders": [list(each) for each in placeholders],
            "output": output,
            "width": width,
        }
        found = read_graph(graph)

        def run(*tensors: Any) -> Any:
            given = dict(zip((f"{each[0]}:0" for each in placeholders), tensors, strict=True))
            (answers,) = tf.graph_util.import_graph_def(found, input_map=given, return_elements=[output])
            return answers

        self._run = tf.function(run, autograph=False)

    def call(self, inputs: Any) -> Any:
        given = []
        for tensor, (_, dtype, rank) in zip(inputs, self._settings["placeholders"], strict=True):
            value = tensor if dtype == "string" else tf.cast(tensor, dtype)
            given.append(value if rank == 2 else tf.squeeze(value, axis=1))
        return tf.cast(tf.ensure_shape(self._run(*given), (None, self._settings["width"])), "float32")

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor((inputs[0].shape[0], self._settings["width"]), "float32")

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("dtype")
        return {**config, **self._settings}


def _fence(bounds: Sequence[float | None], otherwise: float) -> Any:
    return np.array([otherwise if bound is None else bound for bound in bounds])
