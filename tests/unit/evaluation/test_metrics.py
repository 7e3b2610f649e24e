"""Every metric against scikit-learn, and the laws of counting."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from upkeep.evaluation import metrics
from upkeep.evaluation.metrics import Margins, all_metrics, confusion_counts, counted


def codes(seed: int, rows: int, classes: int, kind: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, rows).astype(kind)


def probabilities(seed: int, rows: int, classes: int, decimals: int = 2) -> np.ndarray:
    raw = np.random.default_rng(seed).dirichlet(np.ones(classes), rows).round(decimals)  # rounded: ties
    raw[:, -1] = 1 - raw[:, :-1].sum(axis=1)
    return np.abs(raw)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int64])
@pytest.mark.parametrize("classes", [2, 5])
def test_counts_are_scikit_learns_in_every_slice(classes: int, kind: type) -> None:
    rows = 70_000  # more than one chunk
    truth, predicted = codes(0, rows, classes, kind), codes(1, rows, classes, kind)
    slices = [(codes(2, rows, 7), 7), (codes(3, rows, 300, np.uint16), 301)]
    whole, by_slice = confusion_counts(truth, predicted, classes, slices)
    labels = range(classes)
    assert (whole == reference.confusion_matrix(truth, predicted, labels=labels)).all()
    for value in range(7):
        here = slices[0][0] == value
        assert (by_slice[0][value] == reference.confusion_matrix(truth[here], predicted[here], labels=labels)).all()
    assert by_slice[1].shape == (301, classes, classes)
    assert by_slice[1][300].sum() == 0
    assert (by_slice[1].sum(axis=0) == whole).all()


@settings(max_examples=50)
@given(rows=st.integers(0, 200), classes=st.integers(2, 4), seed=st.integers(0, 1000), cut=st.integers(0, 200))
def test_counts_add_up_over_any_cut(rows: int, classes: int, seed: int, cut: int) -> None:
    truth, predicted = codes(seed, rows, classes), codes(seed + 1, rows, classes)
    both = [confusion_counts(truth[part], predicted[part], classes)[0] for part in (slice(cut), slice(cut, None))]
    assert (both[0] + both[1] == confusion_counts(truth, predicted, classes)[0]).all()


def test_a_code_out_of_range_is_an_error_not_a_count() -> None:
    with pytest.raises(ValueError, match="outside 0 … 1"):
        confusion_counts(np.array([0, 2], np.uint8), np.array([0, 1], np.uint8), 2)
    with pytest.raises(ValueError, match="outside 0 … 1"):
        confusion_counts(np.array([0, -1]), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match="1 codes for 2 rows"):
        confusion_counts(np.array([0, 1]), np.array([0]), 2)


@settings(max_examples=60)
@given(rows=st.integers(1, 60), classes=st.integers(2, 4), seed=st.integers(0, 10_000), binary=st.booleans())
def test_metrics_are_scikit_learns(rows: int, classes: int, seed: int, binary: bool) -> None:
    classes = 2 if binary else classes
    positive = 1 if binary else None
    chances = probabilities(seed, rows, classes)
    truth, predicted = codes(seed, rows, classes), chances.argmax(axis=1).astype(np.uint8)
    confusion, _ = confusion_counts(truth, predicted, classes)
    ours = all_metrics(truth, predicted, chances, confusion, positive)
    assert ours["accuracy"] == reference.accuracy_score(truth, predicted)
    how = {"average": "binary", "pos_label": 1} if binary else {"average": "macro"}
    for name in ("precision", "recall", "f1"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = getattr(reference, f"{name}_score")(truth, predicted, **how, zero_division=np.nan if binary else 0)
        if np.isnan(theirs):
            assert ours[name] is None
        else:
            assert ours[name] == pytest.approx(theirs, abs=1e-12)
    assert ours["log_loss"] == pytest.approx(
        reference.log_loss(truth, np.clip(chances, 0, 1), labels=range(classes)), rel=1e-6
    )
    if binary:
        assert ours["brier"] == pytest.approx(reference.brier_score_loss(truth, chances[:, 1], pos_label=1))
    if binary and 0 < truth.sum() < rows:
        assert ours["roc_auc"] == pytest.approx(reference.roc_auc_score(truth, chances[:, 1]), abs=1e-12)
    if binary and truth.sum() in (0, rows):
        assert ours["roc_auc"] is None
    if classes > 2 and len(set(truth)) == classes:
        theirs = reference.roc_auc_score(truth, chances / chances.sum(axis=1, keepdims=True), multi_class="ovr")
        assert ours["roc_auc"] == pytest.approx(theirs, abs=1e-9)


def test_brier_of_more_classes_is_scikit_learns() -> None:
    truth, chances = codes(1, 300, 4), probabilities(2, 300, 4, decimals=6)
    chances /= chances.sum(axis=1, keepdims=True)
    assert metrics.brier(truth, chances, None) == pytest.approx(reference.brier_score_loss(truth, chances))
    two = probabilities(3, 300, 2, decimals=6)
    assert metrics.brier(codes(1, 300, 2), two, None) == pytest.approx(metrics.brier(codes(1, 300, 2), two, 1))


def test_margins_take_any_leading_axes() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (3, 4, 5, 5))
    for positive in (None, 2):
        for name in metrics.COUNTED:
            together = counted(name, Margins.of(counts), positive)
            assert together.shape == (3, 4)
            assert together[1, 2] == counted(name, Margins.of(counts[1, 2]), positive)


def test_what_is_not_defined_is_none() -> None:
    truth, never = np.zeros(5, np.uint8), np.zeros(5, np.uint8)
    sure = np.column_stack([np.ones(5), np.zeros(5)])
    result = all_metrics(truth, never, sure, confusion_counts(truth, never, 2)[0], 1)
    assert [result[name] for name in ("precision", "recall", "f1", "roc_auc")] == [None] * 4
    assert result["accuracy"] == 1.0
    empty = np.zeros(0, np.uint8)
    nothing = all_metrics(empty, empty, np.zeros((0, 2)), np.zeros((2, 2)), 1)
    assert set(nothing.values()) == {None}


def test_a_sure_wrong_answer_costs_the_clipped_logarithm() -> None:
    assert metrics.row_losses(np.array([1]), np.array([[1.0, 0.0]]))[0] == pytest.approx(-np.log(metrics.CLIP))


def test_calibration_bins_are_scikit_learns() -> None:
    truth = codes(4, 5000, 2)
    chances = probabilities(5, 5000, 2, decimals=6)
    bins = metrics.calibration(truth, chances.argmax(axis=1), chances, 1)
    from sklearn.calibration import calibration_curve

    share, mean = calibration_curve(truth, chances[:, 1], n_bins=10)
    assert np.allclose([one[0] for one in bins], mean)
    assert np.allclose([one[1] for one in bins], share)
    assert sum(one[2] for one in bins) == 5000
    assert metrics.expected_calibration_error(((0.1, 0.3, 10), (0.9, 0.9, 30))) == pytest.approx(0.05)


@pytest.mark.parametrize("rows", [50, 3000])
def test_roc_points_lie_on_scikit_learns_curve(rows: int) -> None:
    truth = codes(6, rows, 2)
    scores = probabilities(7, rows, 2, decimals=5)[:, 1]
    points = metrics.roc_points(truth, scores, 1)
    assert len(points) <= 200
    assert points[0][:2] == (0.0, 0.0)
    assert points[-1][:2] == (1.0, 1.0)
    false_rate, true_rate, thresholds = reference.roc_curve(truth, scores, drop_intermediate=False)
    known = {float(t): (f, r) for f, r, t in zip(false_rate, true_rate, thresholds, strict=True)}
    for false_positive, true_positive, threshold in points[1:]:
        assert known[threshold] == pytest.approx((false_positive, true_positive))
    assert metrics.roc_points(np.ones(5), np.ones(5), 1) == ()
