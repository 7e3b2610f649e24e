"""What each column added to a model's answers: integrated gradients of a network, SHAP values of trees and lines.

Permutation importance (:mod:`upkeep.evaluation.importance`) says what the metric loses without a column. These say what
the column adds to single answers, and are summed up as the mean of their absolute values. They inform; nothing is
decided by them.

Both are additive: of each row, the columns' parts sum to the answer minus the answer to a baseline. How far they miss
it is measured and told (``gap``).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from upkeep.errors import SpecError, UpkeepError, Where
from upkeep.evaluation.parts import Parts
from upkeep.evaluation.result import Attributions, ColumnAttribution
from upkeep.models.folder import SklearnPredictor
from upkeep.models.manifest import NETWORKS, Predictor
from upkeep.spec.model import Explain, Label


def require(settings: Explain) -> None:
    """Raise :class:`SpecError` where what is asked for is not installed."""
    if settings.shap and importlib.util.find_spec("shap") is None:
        raise SpecError(
            "`explain.shap` needs the package shap, which is not installed",
            where=Where(field="explain.shap"),
            fix="pip install 'upkeep[shap]', or remove `shap`",
        )


def attributions(
    predictor: Predictor,
    table: pa.Table,
    truth: Sequence[Label],
    settings: Explain,
    *,
    seed: int,
    clock: Callable[[], float],
    progress: Callable[[str, float | None], None],
) -> tuple[Attributions, ...]:
    """Of at most ``settings.rows`` rows of ``table``, drawn by ``seed``; an entry a method that was asked for.

    ``truth``: the rows' labels. A model whose kind a method does not know, or that fails in it, gives an entry that
    says why. ``clock``: seconds, monotonic. Raises :class:`SpecError` as :func:`require` does.
    """
    require(settings)
    number = min(settings.rows, table.num_rows)
    if not number:
        return ()
    chosen = np.sort(np.random.default_rng(seed).choice(table.num_rows, number, replace=False))
    rows, labels = table.take(pa.array(chosen)), [truth[place] for place in chosen]
    found = []
    if settings.gradients and predictor.manifest.format in NETWORKS:
        progress("integrated gradients", 0.0)
        found.append(_told("integrated_gradients", lambda: _gradients(
            predictor, rows, labels, settings, clock=clock, progress=progress)))  # fmt: skip
    if settings.shap:
        progress("SHAP values", None)
        found.append(_told("shap", lambda: _shap(predictor, rows, seed)))
    return tuple(found)


def _gradients(predictor: Predictor, rows: pa.Table, labels: Sequence[Label], settings: Explain, **how: Any) -> Parts:
    from upkeep.evaluation.gradients import integrated_gradients  # TensorFlow is an extra

    return integrated_gradients(predictor, rows, labels, steps=settings.steps, **how)


def _shap(predictor: Predictor, rows: pa.Table, seed: int) -> Parts:
    from upkeep.errors import ModelError
    from upkeep.evaluation.shap_values import shap_values  # an extra, and slow to import

    if not isinstance(predictor, SklearnPredictor):
        kinds = {**dict.fromkeys(NETWORKS, "a network"), "ensemble": "an ensemble"}
        kind = kinds.get(predictor.manifest.format, "another model")
        raise ModelError(f"SHAP values are of trees and linear models; this is {kind}")
    return shap_values(predictor, rows, seed)


def _told(method: str, find: Callable[[], Parts]) -> Attributions:
    try:
        parts = find()
    except UpkeepError as error:
        return _missing(method, error.problems[0].message)
    except Exception as error:  # noqa: BLE001  somebody's model in somebody's library: the page goes without, and says so
        return _missing(method, f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}")
    if not np.isfinite(parts.values).all():
        return _missing(method, "the model's answers have no finite parts")
    size = np.abs(parts.values).mean(axis=(0, 2))
    mean = parts.values.mean(axis=0)
    columns = [
        ColumnAttribution(
            column=column, size=float(size[place]), mean=float(mean[place, 0]) if mean.shape[1] == 1 else None
        )
        for place, column in enumerate(parts.columns)
    ]
    return Attributions(
        method=parts.method,
        explains=parts.explains,
        rows=len(parts.values),
        columns=tuple(sorted(columns, key=lambda one: (-one.size, one.column))),
        gap=parts.gap,
        left_out=parts.left_out,
        texts=parts.texts,
    )


def _missing(method: str, why: str) -> Attributions:
    return Attributions(method=method, explains="", rows=0, columns=(), gap=None, missing=why)
