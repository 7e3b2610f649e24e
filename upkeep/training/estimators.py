"""From an import path and parameters to an estimator: only allowed ones, every mistake told in the spec's words."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from upkeep.errors import ModelError, SpecError, Where
from upkeep.models.skops_file import resolve


def estimator_class(path: str, *, allowed: Sequence[str], where: str) -> type:
    """The classifier's class at ``path``: one of scikit-learn's, or one that ``allowed`` names.

    ``where`` is the spec's key, for the error. Raises :class:`SpecError` for anything else, without importing it.
    """
    place = Where(field=where)
    if path not in allowed and not path.startswith("sklearn."):
        raise SpecError(
            f"{path} is not allowed as an estimator",
            where=place,
            fix=f"name one of scikit-learn's classifiers, or add {path} to `estimators` in upkeep.yaml",
        )
    try:
        found = resolve(path)
    except ModelError as error:
        fix = _nearest_fix(path, _classifier_paths()) if path.startswith("sklearn.") else error.problems[0].fix
        raise SpecError(error.problems[0].message, where=place, fix=fix) from error
    if not (inspect.isclass(found) and _is_classifier_class(found)):
        raise SpecError(f"{path} is no classifier", where=place, fix=_nearest_fix(path, _classifier_paths()))
    return found


def make_estimator(
    path: str, params: Mapping[str, Any], *, seed: int, allowed: Sequence[str] = (), where: str = "candidates"
) -> Any:
    """An unfitted classifier with ``params``; every ``random_state`` that is not given is ``seed``.

    A parameter may hold another estimator by its import path (``estimator: sklearn.svm.LinearSVC``), and
    ``estimator__C`` sets that one's. Raises :class:`SpecError` naming a parameter that is not there and the nearest
    one that is.
    """
    kind = estimator_class(path, allowed=allowed, where=f"{where}.estimator")
    valid = inspect.signature(kind).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in valid.values())
    own: dict[str, Any] = {}
    nested: dict[str, Any] = {}
    for name, value in params.items():
        if name.partition("__")[0] not in valid and not open_ended:
            raise _unknown(kind, name, valid, where)
        if "__" in name:
            nested[name] = value
        elif isinstance(value, str) and (value.startswith("sklearn.") or value in allowed):
            own[name] = estimator_class(value, allowed=allowed, where=f"{where}.params.{name}")()
        else:
            own[name] = value
    try:
        estimator = kind(**own)
        for name, value in nested.items():
            if name not in estimator.get_params(deep=True):
                raise _unknown(kind, name, estimator.get_params(deep=True), where)
            estimator.set_params(**{name: value})
    except (TypeError, ValueError) as error:
        raise SpecError(str(error), where=Where(field=f"{where}.params"), fix="see the estimator's own page") from error
    unseeded = [name for name, value in estimator.get_params(deep=True).items() if _is_seed(name) and value is None]
    return estimator.set_params(**dict.fromkeys(unseeded, seed)) if unseeded else estimator


def _is_seed(name: str) -> bool:
    return name.rpartition("__")[2] == "random_state"


def _unknown(kind: type, name: str, valid: Iterable[str], where: str) -> SpecError:
    return SpecError(
        f"{kind.__name__} has no parameter {name}",
        where=Where(field=f"{where}.params.{name}"),
        fix=_nearest_fix(name, valid),
    )


def _nearest_fix(name: str, valid: Iterable[str]) -> str:
    choices = sorted(valid)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.4)
    return f"did you mean {near[0]}?" if near else f"choose one of: {', '.join(choices)[:500]}"


def _is_classifier_class(kind: type) -> bool:
    from sklearn.base import ClassifierMixin

    return issubclass(kind, ClassifierMixin) or (hasattr(kind, "fit") and hasattr(kind, "predict_proba"))


def _classifier_paths() -> list[str]:
    from sklearn.utils import all_estimators

    return [f"{'.'.join(kind.__module__.split('.')[:2])}.{name}" for name, kind in all_estimators("classifier")]


def is_boosting(estimator: Any) -> bool:
    """Whether it is HistGradientBoosting, which takes categories and nulls as they are."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return isinstance(estimator, HistGradientBoostingClassifier)


def is_tree(estimator: Any) -> bool:
    """Whether it splits on one column at a time, so that a category's code needs no order."""
    from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, GradientBoostingClassifier
    from sklearn.ensemble._forest import BaseForest
    from sklearn.tree import BaseDecisionTree

    if isinstance(estimator, AdaBoostClassifier | BaggingClassifier):
        return estimator.estimator is None or is_tree(estimator.estimator)
    module = type(estimator).__module__.partition(".")[0]
    trees = (BaseForest, BaseDecisionTree, GradientBoostingClassifier)
    return isinstance(estimator, trees) or is_boosting(estimator) or module in ("catboost", "lightgbm", "xgboost")


def takes(estimator: Any, *, sparse: bool = False, nulls: bool = False) -> bool:
    """Whether the estimator says that it takes sparse matrices, or nulls. Unknown is no."""
    from sklearn.utils import get_tags

    try:
        tags = get_tags(estimator).input_tags
    except (AttributeError, TypeError, ValueError):
        return False
    return (tags.sparse or not sparse) and (tags.allow_nan or not nulls)


def plain_params(estimator: Any) -> dict[str, Any]:
    """The estimator's parameters as a record can hold them: what is no JSON value stands as text."""
    return {name: plain_value(value) for name, value in sorted(estimator.get_params(deep=False).items())}


def plain_value(value: Any) -> Any:
    """``value`` as JSON's own types; what is none stands as text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain_value(item) for key, item in value.items()}
    return " ".join(str(value).split())
