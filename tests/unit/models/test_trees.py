"""A tree that points outside itself never gets to answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.neighbors import BallTree, KDTree
from sklearn.pipeline import make_pipeline

from tests.unit.models.models_make import frame, labels
from upkeep.errors import ModelError, Where
from upkeep.models.trees import check_trees

DATA = frame()


def _forest(**changes: int) -> Any:
    forest = RandomForestClassifier(n_estimators=2, max_depth=3, random_state=0).fit(DATA, labels(DATA))
    tree = forest.estimators_[1].tree_
    state = tree.__getstate__()
    inner = int(np.flatnonzero(state["nodes"]["left_child"] != -1)[-1])
    for name, value in changes.items():
        state["nodes"][name][inner] = value
    tree.__setstate__(state)
    return make_pipeline(forest)


def _boosting(**changes: int) -> Any:
    model = HistGradientBoostingClassifier(max_iter=2, max_depth=3).fit(DATA, labels(DATA))
    nodes = model._predictors[1][0].nodes
    inner = int(np.flatnonzero(nodes["is_leaf"] == 0)[-1])
    for name, value in changes.items():
        nodes[name][inner] = value
    return make_pipeline(model)


@pytest.mark.parametrize("make", [_forest, _boosting])
def test_what_scikit_learn_fitted_is_sound(make: Any) -> None:
    check_trees(make(), Where())


@pytest.mark.parametrize(
    "changes", [{"left_child": 4000}, {"right_child": 0}, {"left_child": -7}, {"feature": 99}, {"feature": -3}], ids=str
)
def test_a_forest_that_points_outside_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ModelError, match="points outside itself"):
        check_trees(_forest(**changes), Where(file="model.skops"))


@pytest.mark.parametrize(
    "changes",
    [{"left": 4_000_000_000}, {"right": 0}, {"feature_idx": 99}, {"feature_idx": -1}, {"is_categorical": 1}],
    ids=str,
)
def test_boosting_that_points_outside_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ModelError, match="points outside itself"):
        check_trees(_boosting(**changes), Where(file="model.skops"))


@pytest.mark.parametrize("kind", [BallTree, KDTree])
@pytest.mark.parametrize("rows", [1, 5, 41, 200])
def test_a_neighbours_index_is_checked(kind: Any, rows: int) -> None:
    index = kind(np.random.default_rng(0).normal(size=(rows, 2)), leaf_size=5)
    check_trees(index, Where())
    state = list(index.__getstate__())
    state[1] = np.asarray(state[1]).copy()
    state[1][0] = 10_000
    index.__setstate__(tuple(state))
    with pytest.raises(ModelError):
        check_trees({"inside": [index]}, Where())
