"""SHAP values (Lundberg & Lee, "A Unified Approach to Interpreting Model Predictions", 2017) of scikit-learn models.

Trees by the library's TreeExplainer (Lundberg et al., "From local explanations to global understanding …", 2020),
lines by its LinearExplainer, both on what the pipeline's preprocessing gives; what a column became (one 0/1 column a
category, the parts of a date) is summed. The library does not know the category splits of HistGradientBoosting, and
gives wrong values for them without a word: sums are checked here, and where they miss the model's own answer, values
are taken by permutations of the columns instead. Importing this module imports shap.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pyarrow as pa

from upkeep.errors import ModelError
from upkeep.evaluation.metrics import Floats
from upkeep.evaluation.parts import OTHERS, Parts
from upkeep.models.folder import SklearnPredictor
from upkeep.models.frame import to_frame

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its plots, which nobody draws
    import shap

BACKGROUND = 50
"""Rows that stand for what is usual."""
MOST_FEATURES = 64
"""More are not permuted: the time grows with their number."""
TOLERANCE = 1e-4
"""Of a sum, relative to the spread of the answers."""
_TREES = ("sklearn.tree.", "sklearn.ensemble._forest.", "sklearn.ensemble._gb.", "sklearn.ensemble._hist_gradient")


def shap_values(predictor: SklearnPredictor, rows: pa.Table, seed: int) -> Parts:
    """Raises :class:`ModelError` for an estimator that is neither trees nor linear, or has too many features."""
    frame = to_frame(rows, predictor.manifest.columns)
    steps = list(getattr(predictor.estimator, "steps", [("estimator", predictor.estimator)]))
    estimator = steps[-1][1]

    def encode(raw: Any) -> Floats:
        for _, step in steps[:-1]:
            raw = raw if step is None or isinstance(step, str) else step.transform(raw)
        raw = raw.toarray() if hasattr(raw, "toarray") else raw
        return np.asarray(raw, dtype=np.float64)

    X = encode(frame)
    owners = _owners(frame, X, encode, seed)
    positive = _positive(predictor, estimator)
    ask = _answers(estimator)
    method = "shap"
    path = f"{type(estimator).__module__}."
    if path.startswith(_TREES):
        values = _by_trees(estimator, X, ask)
        if values is None:
            method, values = "shap_permutation", _by_permutation(ask, X, seed)
    elif hasattr(estimator, "coef_") and hasattr(estimator, "decision_function"):
        found = shap.LinearExplainer(estimator, shap.maskers.Independent(X, max_samples=len(X)))(X)
        values = found.values, found.base_values
    else:
        raise ModelError(f"SHAP values are of trees and linear models; this is {type(estimator).__name__}")
    parts, base = _three(values[0]), _two(values[1], len(X))
    answers = _two(ask(X), len(X))
    gap = float(np.abs(parts.sum(axis=1) + base - answers).max())
    if parts.shape[2] > 1 and positive is not None:
        parts = parts[:, :, [positive]]
    names = list(dict.fromkeys(owners))
    summed = np.stack([parts[:, [owner == name for owner in owners]].sum(axis=1) for name in names], axis=1)
    return Parts(
        method=method,
        explains=_explains(predictor, estimator, parts.shape[2]),
        columns=tuple(names),
        values=summed,
        gap=gap,
    )


def _by_trees(estimator: Any, X: Floats, ask: Any) -> tuple[Floats, Floats] | None:
    """None where the library does not know these trees, or its values do not add up to the model's answers."""
    try:
        found = shap.TreeExplainer(estimator)(X, check_additivity=False)
    except (NotImplementedError, TypeError, ValueError, IndexError, shap.utils._exceptions.InvalidModelError):
        return None
    answers = _two(ask(X), len(X))
    sums = _three(found.values).sum(axis=1) + _two(found.base_values, len(X))
    if sums.shape != answers.shape or np.abs(sums - answers).max() > TOLERANCE * max(1.0, float(np.ptp(answers))):
        return None
    return found.values, found.base_values


def _by_permutation(ask: Any, X: Floats, seed: int) -> tuple[Floats, Floats]:
    if X.shape[1] > MOST_FEATURES:
        raise ModelError(
            f"the library does not know these trees, and {X.shape[1]} features are too many to permute "
            f"({MOST_FEATURES} are the most)"
        )
    masker = shap.maskers.Independent(X, max_samples=min(BACKGROUND, len(X)))
    explainer = shap.explainers.Permutation(ask, masker, seed=seed)
    found = explainer(X, max_evals=2 * X.shape[1] + 1, silent=True)
    return found.values, found.base_values


def _answers(estimator: Any) -> Any:
    """The answer that the values add up to: the margin where the model has one, else probabilities."""
    if hasattr(estimator, "decision_function"):
        return estimator.decision_function
    return estimator.predict_proba


def _three(values: Any) -> Floats:
    """Shape (rows, features, outputs)."""
    found: Floats = np.asarray(values, dtype=np.float64)
    return found.reshape(*found.shape, 1) if found.ndim == 2 else found


def _two(values: Any, rows: int) -> Floats:
    """Shape (rows, outputs), from one number, one a row, one an output, or all of them."""
    found: Floats = np.asarray(values, dtype=np.float64)
    if found.ndim == 2:
        return found
    if found.shape == (rows,):
        return found.reshape(rows, 1)
    return np.tile(found.reshape(1, -1), (rows, 1))


def _positive(predictor: SklearnPredictor, estimator: Any) -> int | None:
    """The output of the positive class, where there is one."""
    wanted = predictor.manifest.positive
    known = list(estimator.classes_)
    return known.index(wanted) if wanted is not None and wanted in known else None


def _explains(predictor: SklearnPredictor, estimator: Any, outputs: int) -> str:
    what = "margin" if hasattr(estimator, "decision_function") else "probability"
    if outputs > 1:
        return f"the {what} of each class"
    label = predictor.manifest.positive
    if label is None or what == "margin":
        label = estimator.classes_[1] if len(estimator.classes_) == 2 else label
    said = str(label).lower() if isinstance(label, bool | np.bool_) else str(label)
    return f"the {what} of “{said}”"


def _owners(frame: Any, X: Floats, encode: Any, seed: int) -> list[str]:
    """The raw column that each feature comes from: the one which, shuffled, changes it."""
    changed = np.zeros((frame.shape[1], X.shape[1]), dtype=bool)
    for place, column in enumerate(frame.columns):
        for order in (np.roll(np.arange(len(frame)), 1), np.random.default_rng([seed, place]).permutation(len(frame))):
            shuffled = frame.copy()
            shuffled[column] = frame[column].iloc[order].set_axis(frame.index)
            again = encode(shuffled)
            changed[place] |= ~((again == X) | (np.isnan(again) & np.isnan(X))).all(axis=0)
    names = list(frame.columns)
    return [names[int(which.argmax())] if which.sum() == 1 else OTHERS for which in changed.T]
