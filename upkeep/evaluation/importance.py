"""Permutation importance: what the metric loses when one column is shuffled (Breiman, "Random Forests", 2001)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from upkeep.evaluation.metrics import Codes, Margins, confusion_counts, counted, number, roc_auc, row_losses, sign
from upkeep.evaluation.result import Importance

Ask = Callable[[pa.Table], npt.NDArray[np.float64]]
"""A model: raw rows to probabilities, shape (rows, classes), in the evaluation's order of classes."""


def metric_of(metric: str, truth: Codes, probabilities: npt.NDArray[np.float64], positive: int | None) -> float | None:
    """One of the compared metrics straight from probabilities."""
    if not len(truth):
        return None
    if metric == "roc_auc":
        return roc_auc(truth, probabilities, positive)
    if metric == "log_loss":
        return float(row_losses(truth, probabilities).mean())
    confusion, _ = confusion_counts(truth, probabilities.argmax(axis=1), probabilities.shape[1])
    return number(counted(metric, Margins.of(confusion), positive))


def permutation_importance(
    table: pa.Table,
    truth: Codes,
    models: Mapping[str, tuple[Ask, Sequence[str]]],
    metric: str,
    positive: int | None,
    *,
    repeats: int = 5,
    seed: int = 0,
) -> tuple[Importance, ...]:
    """Mean and standard deviation, over ``repeats`` shuffles, of what each model loses with each column.

    ``models``: ``champion`` and ``candidate``, each with the columns it takes; both see the same shuffles. In the
    better direction: a loss is positive for log_loss too. Most important to the candidate first. A column that a
    model does not take is None there, and so is all where the metric is not defined.
    """
    columns = list(dict.fromkeys(name for _, names in models.values() for name in names))
    base = {name: metric_of(metric, truth, ask(table), positive) for name, (ask, _) in models.items()}
    results = []
    for position, column in enumerate(columns):
        losses: dict[str, list[float]] = {name: [] for name in models}
        for repeat in range(repeats):
            order = np.random.default_rng([seed, position, repeat]).permutation(table.num_rows)
            index = table.schema.get_field_index(column)
            shuffled = table.set_column(index, table.schema.field(index), table.column(column).take(pa.array(order)))
            for name, (ask, takes) in models.items():
                value = metric_of(metric, truth, ask(shuffled), positive) if column in takes else None
                before = base[name]
                if value is not None and before is not None:
                    losses[name].append(sign(metric) * (before - value))
        results.append(
            Importance(
                column=column,
                champion=_mean_and_sd(losses.get("champion", [])),
                candidate=_mean_and_sd(losses.get("candidate", [])),
            )
        )
    return tuple(sorted(results, key=lambda one: -(one.candidate or one.champion or (0.0, 0.0))[0]))


def _mean_and_sd(values: Sequence[float]) -> tuple[float, float] | None:
    if not values:
        return None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
