import numpy as np
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.inspection import permutation_importance as reference

from upkeep.evaluation.importance import permutation_importance

RNG = np.random.default_rng(0)
TABLE = pa.table({"strong": RNG.normal(size=800), "weak": RNG.normal(size=800), "unused": RNG.normal(size=800)})
TRUTH = (3 * TABLE["strong"].to_numpy() + TABLE["weak"].to_numpy() > 0).astype(np.uint8)


def both(table: pa.Table) -> np.ndarray:
    positive = 1 / (1 + np.exp(-(3 * table["strong"].to_numpy() + table["weak"].to_numpy())))
    return np.column_stack([1 - positive, positive])


def strong_only(table: pa.Table) -> np.ndarray:
    positive = 1 / (1 + np.exp(-table["strong"].to_numpy()))
    return np.column_stack([1 - positive, positive])


def test_what_matters_comes_first_and_a_column_not_taken_is_none() -> None:
    models = {"champion": (strong_only, ["strong"]), "candidate": (both, ["unused", "weak", "strong"])}
    results = permutation_importance(TABLE, TRUTH, models, "f1", 1, seed=3)
    assert [one.column for one in results] == ["strong", "weak", "unused"]
    assert results[0].champion is not None
    assert results[0].candidate is not None
    assert results[0].candidate[0] > results[1].candidate[0] > 0  # type: ignore[index]
    assert results[0].candidate[1] > 0  # each repeat shuffles anew
    assert results[1].champion is None
    assert results[2].candidate == (0.0, 0.0)
    assert results == permutation_importance(TABLE, TRUTH, models, "f1", 1, seed=3)


def test_the_mean_is_scikit_learns() -> None:
    class Model(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        classes_ = np.array([0, 1])

        def fit(self, X, y):  # type: ignore[no-untyped-def]
            self.fitted_ = True
            return self

        def predict(self, X):  # type: ignore[no-untyped-def]
            return both(pa.Table.from_pandas(X)).argmax(axis=1)

    theirs = reference(Model().fit(None, None), TABLE.to_pandas(), TRUTH, scoring="f1", n_repeats=30, random_state=0)
    ours = permutation_importance(TABLE, TRUTH, {"candidate": (both, TABLE.column_names)}, "f1", 1, repeats=30)
    by_column = {one.column: one.candidate for one in ours}
    for column, mean, spread in zip(TABLE.column_names, theirs.importances_mean, theirs.importances_std, strict=True):
        found = by_column[column]
        assert found is not None
        assert found[0] == pytest.approx(mean, abs=3 * spread / np.sqrt(15) + 1e-9)


def test_a_loss_is_positive_for_log_loss_too() -> None:
    (first, *_) = permutation_importance(TABLE, TRUTH, {"candidate": (both, TABLE.column_names)}, "log_loss", 1)
    assert first.column == "strong"
    assert first.candidate is not None
    assert first.candidate[0] > 0


def test_an_undefined_metric_is_none_everywhere() -> None:
    results = permutation_importance(TABLE, np.zeros(800, np.uint8), {"candidate": (both, ["strong"])}, "roc_auc", 1)
    assert results[0].candidate is None
