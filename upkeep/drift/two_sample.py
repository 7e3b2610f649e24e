"""Can a classifier tell new rows from reference rows? It sees what no single column shows.

The test is that of Lopez-Paz & Oquab, "Revisiting classifier two-sample tests" (ICLR 2017): learn on one half of the
rows, judge on the other. Their accuracy is replaced by the ROC AUC, whose interval is DeLong's (1988), with
Obuchowski's (1997) sums over groups where rows come in groups (a day's rows share its weather).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from upkeep.data.kinds import Column
from upkeep.drift.profile import categories, numbers
from upkeep.drift.result import TwoSample
from upkeep.errors import DataError
from upkeep.spec.model import Drift

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[Any]

LEVELS = 250
"""Categories a column that the classifier tells apart; the rest are one."""
TOP = 10
LEAST_GROUPS = 8
"""Groups needed on each side, where rows come in groups."""
FOLDS = 4
REPEATS = 3


def sample_rows(batches: Iterable[pa.RecordBatch], rows: int, *, seed: int) -> pa.Table:
    """A uniform sample without replacement of at most ``rows`` rows, in their order, from one pass.

    The same for the same rows and seed, however they are cut into batches; never holds more than three times as many.
    Raises :class:`DataError` without any batch.
    """
    rng = np.random.default_rng(seed)
    kept: pa.Table | None = None
    keys = np.zeros(0)
    limit = 1.0
    for batch in batches:
        drawn = rng.random(batch.num_rows)
        chosen = drawn < limit
        part = pa.Table.from_batches([batch]).take(pa.array(np.flatnonzero(chosen)))
        kept = part if kept is None else pa.concat_tables([kept, part], promote_options="permissive")
        keys = np.concatenate([keys, drawn[chosen]])
        if len(keys) > 2 * rows:
            kept, keys, limit = _smallest(kept, keys, rows)
    if kept is None:
        raise DataError("there are no rows to sample", fix="give data that has rows")
    return _smallest(kept, keys, rows)[0].combine_chunks()


def _smallest(table: pa.Table, keys: Floats, rows: int) -> tuple[pa.Table, Floats, float]:
    if len(keys) <= rows:
        return table, keys, 1.0
    limit = float(np.partition(keys, rows)[rows])
    chosen = keys < limit
    return table.take(pa.array(np.flatnonzero(chosen))), keys[chosen], limit


def two_sample_test(
    reference: pa.Table,
    current: pa.Table,
    columns: Sequence[Column],
    settings: Drift,
    *,
    seed: int,
    reference_groups: Groups | None = None,
    current_groups: Groups | None = None,
) -> TwoSample:
    """The test on these rows (take a bounded sample: :func:`sample_rows`).

    ``…_groups`` (rows,): rows of one group are learned from together or judged together. ``drift`` when the AUC
    reaches ``settings.thresholds.auc`` and its interval lies above a half.
    """
    sides = (reference.num_rows, current.num_rows)
    groups = _groups(sides, reference_groups, current_groups)
    too_few = _too_few(sides, groups, settings, reference_groups is not None)
    if too_few:
        return _insufficient(sum(sides), too_few)
    X, categorical = encode([reference, current], columns)
    y = np.repeat([0, 1], sides)
    rng = np.random.default_rng(seed)
    learn = np.concatenate([_split(part, 2, rng) for part in groups]) == 0
    judged, truth = X[~learn], y[~learn]
    with one_core():
        model = fit(X[learn], y[learn], categorical, seed)
        scores = model.decision_function(judged)
        places = np.concatenate(groups)[~learn]
        area, low, high = auc_interval(scores[truth == 0], scores[truth == 1], places[truth == 0], places[truth == 1])
        top = _top(model, judged, truth, area, columns, rng)
    threshold = settings.thresholds.auc
    drifts = area >= threshold and low > 0.5
    interval = f"AUC {area:.3f}, 95 % interval {low:.3f} to {high:.3f}"
    if drifts:
        reason = f"A classifier tells new rows from reference rows: {interval}; the threshold is {threshold:g}."
    else:
        below = "the AUC is below the threshold" if area < threshold else "the interval reaches down to a half"
        reason = f"A classifier hardly tells new rows from reference rows: {interval}; {below} ({threshold:g})."
    return TwoSample(
        finding="drift" if drifts else "stable",
        reason=reason,
        auc=area,
        low=low,
        high=high,
        rows=sum(sides),
        top_columns=top,
    )


def density_ratio(
    reference: pa.Table,
    current: pa.Table,
    columns: Sequence[Column],
    *,
    seed: int,
    reference_groups: Groups | None = None,
    current_groups: Groups | None = None,
) -> Floats | None:
    """How much more likely each reference row is among the current rows: (reference rows,), mean about one.

    Odds of a classifier that did not learn from the row's group (4-fold), calibrated by a logistic regression over all
    folds (Platt), times the ratio of the rows. None where a side has fewer than 50 rows or 8 groups.
    """
    from sklearn.linear_model import LogisticRegression

    sides = (reference.num_rows, current.num_rows)
    groups = _groups(sides, reference_groups, current_groups)
    if min(sides) < 50 or min(len(np.unique(part)) for part in groups) < LEAST_GROUPS:
        return None
    X, categorical = encode([reference, current], columns)
    y = np.repeat([0, 1], sides)
    rng = np.random.default_rng(seed)
    folds = np.concatenate([_split(part, FOLDS, rng) for part in groups])
    scores = np.zeros(len(y))
    with one_core():
        for fold in range(FOLDS):
            out = folds == fold
            scores[out] = fit(X[~out], y[~out], categorical, seed + fold).decision_function(X[out])
        calibration = LogisticRegression(C=1e6).fit(scores[:, None], y)
    log_odds = calibration.decision_function(scores[: sides[0], None])
    ratio: Floats = np.exp(np.clip(log_odds, -30, 30)) * sides[0] / sides[1]
    return ratio


def expected_loss(
    reference: pa.Table,
    current: pa.Table,
    columns: Sequence[Column],
    reference_loss: Floats,
    *,
    seed: int,
    reference_groups: Groups | None = None,
    current_groups: Groups | None = None,
) -> tuple[Floats, Floats] | None:
    """The loss that each row's inputs let one expect, by what the reference rows show: (reference rows,), (current,).

    ``reference_loss``: 0 or 1 a row. A reference row is answered by a model that did not learn from its group (4-fold),
    a current row by the mean of all four. None where a side has fewer than 50 rows or 8 groups.
    """
    sides = (reference.num_rows, current.num_rows)
    groups = _groups(sides, reference_groups, current_groups)
    if min(sides) < 50 or len(np.unique(groups[0])) < LEAST_GROUPS:
        return None
    X, categorical = encode([reference, current], columns)
    old, new = X[: sides[0]], X[sides[0] :]
    y = reference_loss.astype(np.int64)
    folds = _split(groups[0], FOLDS, np.random.default_rng([seed, 1]))
    expected, answers = np.zeros(sides[0]), np.zeros(sides[1])
    with one_core():
        for fold in range(FOLDS):
            out = folds == fold
            known = y[~out]
            if known.min() == known.max():
                expected[out], answer = known[0], np.full(sides[1], float(known[0]))
            else:
                model = fit(old[~out], known, categorical, seed + fold)
                expected[out], answer = model.predict_proba(old[out])[:, 1], model.predict_proba(new)[:, 1]
            answers += answer / FOLDS
    return expected, answers


def one_core() -> Any:
    """Keeps OpenMP and BLAS to one core: the samples are small, and threads that wait for each other burn CPU."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


def fit(X: Floats, y: npt.NDArray[np.int64], categorical: npt.NDArray[np.bool_], seed: int) -> Any:
    """A small gradient boosting that takes nulls and categories as they are. On one core: the sample is small."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=60,
        learning_rate=0.1,
        max_leaf_nodes=15,
        min_samples_leaf=40,
        l2_regularization=1.0,
        categorical_features=categorical,
        early_stopping=False,
        random_state=seed,
    )
    return model.fit(X, y)


def encode(tables: Sequence[pa.Table], columns: Sequence[Column]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """All tables, one below the other, as float64 (rows, columns), and which columns hold category codes (columns,).

    Nulls are NaN. A category's code is its rank by frequency; from the 251st on they share one.
    """
    X = np.full((sum(table.num_rows for table in tables), len(columns)), np.nan)
    for place, column in enumerate(columns):
        arrays = [table.column(column.name).combine_chunks() for table in tables]
        if column.kind == "categorical":
            X[:, place] = _codes(arrays, column.name)
        else:
            values = np.concatenate([numbers(array, column.name, nulls=True) for array in arrays])
            X[:, place] = np.clip(values, -1e300, 1e300)  # infinite values stay the outermost
    return X, np.array([column.kind == "categorical" for column in columns])


def _codes(arrays: Sequence[pa.Array], name: str) -> Floats:
    counts: dict[str, int] = {}
    texts = []
    for array in arrays:
        names, rows, _ = categories(array, name)
        for text, count in zip(names.to_pylist(), rows.tolist(), strict=True):
            counts[text] = counts.get(text, 0) + count
        texts.append((array.dictionary_decode() if pa.types.is_dictionary(array.type) else array).cast(pa.string()))
    ranked = sorted(counts, key=lambda text: (-counts[text], text))
    code = {text: float(min(rank, LEVELS)) for rank, text in enumerate(ranked)}
    return np.array([np.nan if text is None else code[text] for array in texts for text in array.to_pylist()])


def auc_interval(
    negative: Floats,
    positive: Floats,
    negative_groups: Groups | None = None,
    positive_groups: Groups | None = None,
) -> tuple[float, float, float]:
    """The ROC AUC and its 95 % interval, from scores (rows,) of each side.

    DeLong, DeLong & Clarke-Pearson (1988); with groups, the structural components are summed by group first
    (Obuchowski 1997), and Student's quantile for the fewer groups is used.
    """
    m, n = len(positive), len(negative)
    v10 = _placed(positive, negative)
    v01 = 1 - _placed(negative, positive)
    area = float(v10.mean())
    one = np.arange(m) if positive_groups is None else positive_groups
    zero = np.arange(m, m + n) if negative_groups is None else negative_groups
    names, places = np.unique(np.concatenate([one, zero]), return_inverse=True)
    s10 = np.bincount(places[:m], weights=v10 - area, minlength=len(names)) / m
    s01 = np.bincount(places[m:], weights=v01 - area, minlength=len(names)) / n
    groups = len(np.unique(one)), len(np.unique(zero))
    shared = np.intersect1d(one, zero).size
    variance = _spread(s10, groups[0]) + _spread(s01, groups[1])
    if shared:
        variance += 2 * float(s10 @ s01)
    from scipy.special import stdtrit

    reach = float(stdtrit(max(1, min(groups) - 1), 0.975)) * float(np.sqrt(max(0.0, variance)))
    return area, max(0.0, area - reach), min(1.0, area + reach)


def _spread(sums: Floats, groups: int) -> float:
    return float(sums @ sums) * groups / max(1, groups - 1)


def _placed(scores: Floats, others: Floats) -> Floats:
    """For each score the share of the others below it, ties counting half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, scores, side="left") + np.searchsorted(ordered, scores, side="right")
    return below / (2 * len(others))


def _top(
    model: Any, X: Floats, y: npt.NDArray[np.int64], area: float, columns: Sequence[Column], rng: np.random.Generator
) -> tuple[tuple[str, float], ...]:
    lost = []
    for place, column in enumerate(columns):
        shuffled = X.copy()
        areas = []
        for _ in range(REPEATS):
            shuffled[:, place] = rng.permutation(X[:, place])
            scores = model.decision_function(shuffled)
            areas.append(float(_placed(scores[y == 1], scores[y == 0]).mean()))
        lost.append((column.name, area - float(np.mean(areas))))
    ranked = sorted(lost, key=lambda item: (-item[1], item[0]))
    return tuple((name, loss) for name, loss in ranked[:TOP] if loss > 0)


def _groups(sides: tuple[int, int], reference: Groups | None, current: Groups | None) -> tuple[Groups, Groups]:
    """Each row's group; without groups, each row its own."""
    if reference is None or current is None:
        return np.arange(sides[0]), np.arange(sides[0], sides[0] + sides[1])
    _, places = np.unique(np.concatenate([reference, current]), return_inverse=True)
    return places[: sides[0]], places[sides[0] :]


def _split(groups: Groups, parts: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The part of each row (rows,): whole groups, dealt out in turn after shuffling."""
    names, places = np.unique(groups, return_inverse=True)
    dealt = np.arange(len(names)) % parts
    rng.shuffle(dealt)
    return np.asarray(dealt[places], dtype=np.int64)


def _too_few(sides: tuple[int, int], groups: tuple[Groups, Groups], settings: Drift, grouped: bool) -> str:
    if min(sides) < settings.min_rows:
        return f"Too few rows: {sides[0]:,} and {sides[1]:,}, {settings.min_rows:,} needed on each side."
    if grouped and min(len(np.unique(part)) for part in groups) < LEAST_GROUPS:
        return f"Rows come in groups, and there are fewer than {LEAST_GROUPS} groups on a side."
    return ""


def _insufficient(rows: int, reason: str) -> TwoSample:
    return TwoSample(finding="insufficient", reason=reason, auc=None, low=None, high=None, rows=rows, top_columns=())
