from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from upkeep.errors import SpecError
from upkeep.training.estimators import make_estimator, plain_params

LOGISTIC = "sklearn.linear_model.LogisticRegression"


def test_params_and_seed() -> None:
    made = make_estimator(LOGISTIC, {"C": 2.0}, seed=7)
    assert isinstance(made, LogisticRegression)
    assert (made.C, made.random_state) == (2.0, 7)
    assert make_estimator(LOGISTIC, {"random_state": 3}, seed=7).random_state == 3
    assert make_estimator("sklearn.naive_bayes.GaussianNB", {}, seed=7) is not None


def test_an_estimator_within_an_estimator() -> None:
    made = make_estimator(
        "sklearn.calibration.CalibratedClassifierCV", {"estimator": "sklearn.svm.LinearSVC", "estimator__C": 3}, seed=7
    )
    assert (type(made.estimator).__name__, made.estimator.C, made.estimator.random_state) == ("LinearSVC", 3, 7)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("os.system", "not allowed"),
        ("xgboost.XGBClassifier", "not allowed"),
        ("sklearn.linear_model.LinearRegression", "no classifier"),
        ("sklearn.linear_model.LogisticRegresion", "did you mean sklearn.linear_model.LogisticRegression"),
        ("sklearn.nowhere.Thing", "cannot be imported"),
        ("sklearn.utils.all_estimators", "no classifier"),
    ],
)
def test_only_allowed_classifiers(path: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        make_estimator(path, {}, seed=0, where="candidates[one]")
    assert caught.value.problems[0].where.field == "candidates[one].estimator"


def test_the_spec_can_allow_more() -> None:
    path = "tests.unit.models.models_make.NotTrusted"
    assert type(make_estimator(path, {}, seed=0, allowed=[path])).__name__ == "NotTrusted"


@pytest.mark.parametrize(
    ("params", "nearest"),
    [({"max_itr": 3}, "max_iter"), ({"c": 3}, "C"), ({"estimator__D": 1}, "")],
)
def test_an_unknown_parameter_is_named_with_the_nearest(params: dict[str, object], nearest: str) -> None:
    with pytest.raises(SpecError, match=f"no parameter {next(iter(params))}") as caught:
        make_estimator(LOGISTIC, params, seed=0)
    assert nearest in caught.value.problems[0].fix


def test_an_unknown_nested_parameter_is_named() -> None:
    params = {"estimator": "sklearn.svm.LinearSVC", "estimator__los": "hinge"}
    with pytest.raises(SpecError) as caught:
        make_estimator("sklearn.ensemble.BaggingClassifier", params, seed=0)
    assert "estimator__loss" in caught.value.problems[0].fix


def test_params_are_plain() -> None:
    made = LogisticRegression(C=np.inf, class_weight={1: 0.5})
    told = plain_params(made)
    assert told["C"] == "inf"
    assert told["class_weight"] == {"1": 0.5}
    assert list(told) == sorted(told)
