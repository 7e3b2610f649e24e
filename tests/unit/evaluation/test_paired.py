"""Paired differences against references, by law, and by how often the intervals hold the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from tests.unit.evaluation.evaluation_fakes import Answers, Rows, binary_rows
from upkeep.evaluation import resampling
from upkeep.evaluation.metrics import COMPARED
from upkeep.evaluation.paired import Sample, mcnemar, paired


def two_models(seed: int, rows: int, *, groups: int | None = None, gain: float = 0.3, effect: float = 0.0) -> Rows:
    """A candidate that sees more of the truth; ``effect``: what rows of a group share."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups or 1, rows)
    shared = rng.normal(size=(groups or 1, 3))[group] * effect
    truth = rng.normal(size=rows) + shared[:, 0] > 0.5
    signal = truth - 0.5
    old = 1 / (1 + np.exp(-(signal + rng.normal(size=rows) + shared[:, 1])))
    new = 1 / (1 + np.exp(-(signal * (1 + gain) + rng.normal(size=rows) + shared[:, 2])))
    return binary_rows(truth, group if groups else None, champion=old, candidate=new)


@settings(max_examples=40)
@given(first=st.integers(0, 60), second=st.integers(0, 60))
def test_mcnemar_is_statsmodels(first: int, second: int) -> None:
    theirs = statsmodels_mcnemar([[5, first], [second, 5]], exact=True).pvalue
    assert mcnemar(first, second) == pytest.approx(min(theirs, 1.0))


def test_counts_of_who_was_right() -> None:
    rows = binary_rows([1, 1, 1, 0, 0], champion=[0.9, 0.9, 0.1, 0.9, 0.1], candidate=[0.9, 0.1, 0.9, 0.9, 0.9])
    result = paired(rows, "new", confidence=0.95, resamples=200, seed=0)
    assert (result.both_right, result.only_champion_right, result.only_candidate_right, result.both_wrong) == (
        1,
        2,
        1,
        1,
    )
    assert result.mcnemar_p == pytest.approx(1.0)
    grouped = paired(two_models(0, 2000, groups=40), "new", confidence=0.95, resamples=200, seed=0)
    assert grouped.groups == 40
    assert grouped.mcnemar_p is None  # rows of a group are not independent


def test_estimates_are_scikit_learns_in_the_better_direction() -> None:
    rows = two_models(1, 1000)
    old, new = (rows.answers[name] for name in ("champion", "candidate"))
    expected = {
        "accuracy": accuracy_score(rows.truth, new.predicted) - accuracy_score(rows.truth, old.predicted),
        "f1": f1_score(rows.truth, new.predicted) - f1_score(rows.truth, old.predicted),
        "roc_auc": roc_auc_score(rows.truth, new.probabilities[:, 1])
        - roc_auc_score(rows.truth, old.probabilities[:, 1]),
        "log_loss": log_loss(rows.truth, old.probabilities[:, 1]) - log_loss(rows.truth, new.probabilities[:, 1]),
    }
    result = paired(rows, "new", confidence=0.95, resamples=500, seed=0)
    for difference in result.differences:
        gap = difference.difference
        assert gap is not None
        assert gap.low <= gap.estimate <= gap.high
        if difference.metric in expected:
            assert gap.estimate == pytest.approx(expected[difference.metric])


def test_drawing_outcomes_is_drawing_rows() -> None:
    """The multinomial over joint outcomes has the distribution of resampled rows (scipy's paired bootstrap)."""
    rows = two_models(2, 400)
    old, new = (rows.answers[name].predicted for name in ("champion", "candidate"))

    def f1_difference(truth, first, second, axis=-1):  # type: ignore[no-untyped-def]
        def f1(said):  # type: ignore[no-untyped-def]
            return 2 * (truth * said).sum(axis=axis) / (truth.sum(axis=axis) + said.sum(axis=axis))

        return f1(second) - f1(first)

    theirs = bootstrap(
        (rows.truth.astype(int), old.astype(int), new.astype(int)),
        f1_difference,
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(0),
        batch=500,
    )
    sample = Sample(rows, ("champion", "candidate"), resamples=4000, seed=0)
    ours = sample.interval("f1", 0.95)
    assert ours is not None
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.06 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.06 * width)
    draws = sample._resampled.draws
    assert draws is not None
    statistic = sample._statistic("f1", 1)(draws) - sample._statistic("f1", 0)(draws)
    assert statistic.std() == pytest.approx(theirs.standard_error, rel=0.06)


def delong_by_hand(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """The variance of the difference of two AUCs, straight from DeLong et al. 1988, all pairs."""
    positive, negative = truth == 1, truth == 0

    def kernel(scores: np.ndarray) -> np.ndarray:
        difference = scores[positive][:, None] - scores[negative][None, :]
        return (difference > 0) + 0.5 * (difference == 0)

    gap = kernel(second) - kernel(first)
    return float(gap.mean(axis=1).var(ddof=1) / positive.sum() + gap.mean(axis=0).var(ddof=1) / negative.sum())


def test_auc_difference_is_delong() -> None:
    rows = two_models(3, 300)
    old, new = (rows.answers[name].probabilities[:, 1].round(1) for name in ("champion", "candidate"))  # ties
    rows = binary_rows(rows.truth, champion=old, candidate=new)
    interval = Sample(rows, ("champion", "candidate"), resamples=200, seed=0).interval("roc_auc", 0.95)
    assert interval is not None
    fewest = int(min(rows.truth.sum(), 300 - rows.truth.sum()))
    half = resampling.student(0.95, fewest - 1) * np.sqrt(delong_by_hand(rows.truth, old, new))
    assert interval.high - interval.estimate == pytest.approx(half)


def test_auc_of_groups_of_one_row_is_that_of_rows() -> None:
    rows = two_models(4, 600)
    alone = binary_rows(
        rows.truth, np.arange(600), **{name: one.probabilities[:, 1] for name, one in rows.answers.items()}
    )
    by_row, by_group = (
        Sample(one, ("champion", "candidate"), resamples=200, seed=0).interval("roc_auc", 0.95) for one in (rows, alone)
    )
    assert by_row is not None
    assert by_group is not None
    assert by_group.high - by_group.low == pytest.approx(by_row.high - by_row.low, rel=0.02)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), grouped=st.booleans(), metric=st.sampled_from(COMPARED))
def test_swapping_the_models_turns_the_difference_round(seed: int, grouped: bool, metric: str) -> None:
    rows = two_models(seed, 150, groups=12 if grouped else None)
    forward, back = (
        Sample(rows, pair, resamples=200, seed=0).difference(metric, 0.95).difference
        for pair in (("champion", "candidate"), ("candidate", "champion"))
    )
    assert (forward is None) == (back is None)
    if forward is not None and back is not None:
        assert forward.estimate == pytest.approx(-back.estimate)
        if grouped:  # jackknife: no draws
            assert forward.low == pytest.approx(-back.high)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), grouped=st.booleans())
def test_a_model_is_not_better_than_itself(seed: int, grouped: bool) -> None:
    rows = two_models(seed, 150, groups=40 if grouped else None)
    same = binary_rows(
        rows.truth,
        rows.groups,
        champion=rows.answers["champion"].probabilities[:, 1],
        candidate=rows.answers["champion"].probabilities[:, 1],
    )
    for difference in paired(same, "new", confidence=0.95, resamples=200, seed=0).differences:
        if difference.difference is not None:
            assert difference.difference.low == difference.difference.high == 0


def test_more_classes_than_two() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 500).astype(np.uint8)

    def model(skill: float) -> Answers:
        raw = rng.dirichlet(np.ones(4), 500) + skill * np.eye(4)[truth]
        chances = raw / raw.sum(axis=1, keepdims=True)
        return Answers(chances.argmax(axis=1).astype(np.uint8), chances)

    for groups in (None, rng.integers(0, 60, 500).astype(np.uint64)):
        rows = Rows(
            ("a", "b", "c", "d"), None, truth, ("p",), np.zeros(500, np.uint8), groups,
            answers={"champion": model(0.2), "candidate": model(0.8)},
        )  # fmt: skip
        result = paired(rows, "new", confidence=0.95, resamples=300, seed=0)
        for difference in result.differences:
            assert difference.difference is not None
            assert difference.difference.low > 0
            said = rows.answers["candidate"]
            if difference.metric == "f1":
                assert difference.candidate == pytest.approx(f1_score(truth, said.predicted, average="macro"))


def test_many_outcomes_and_many_groups_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = two_models(5, 2000, groups=900)
    free = Sample(rows, ("champion", "candidate"), resamples=500, seed=0).interval("f1", 0.95)
    monkeypatch.setattr(resampling, "MOST_UNITS", 150)
    bounded = Sample(rows, ("champion", "candidate"), resamples=500, seed=0)
    interval = bounded.interval("f1", 0.95)
    assert free is not None
    assert interval is not None
    assert bounded.groups == len(np.unique(rows.groups)) > 800
    assert len(bounded._resampled.units.times) == 150
    assert interval.estimate == pytest.approx(free.estimate)
    assert interval.high - interval.low == pytest.approx(free.high - free.low, rel=0.35)


def test_too_few_groups_and_too_few_rows_have_no_interval() -> None:
    few_groups = paired(two_models(0, 400, groups=4), "new", confidence=0.95, resamples=200, seed=0)
    assert all(difference.difference is None for difference in few_groups.differences)
    assert few_groups.differences[0].candidate is not None
    nobody = paired(two_models(0, 0), "new", confidence=0.95, resamples=200, seed=0)
    assert nobody.rows == 0
    assert nobody.mcnemar_p is None
    assert all(difference.difference is None and difference.champion is None for difference in nobody.differences)
    one_class = binary_rows(np.zeros(100), champion=np.full(100, 0.1), candidate=np.full(100, 0.2))
    by_metric = {
        one.metric: one for one in paired(one_class, "new", confidence=0.95, resamples=200, seed=0).differences
    }
    assert by_metric["f1"].difference is None
    assert by_metric["roc_auc"].difference is None
    assert by_metric["log_loss"].difference is not None
    assert by_metric["log_loss"].difference.high < 0  # surer is better here


@pytest.mark.parametrize(("groups", "metric"), [(8, "f1"), (40, "f1"), (12, "roc_auc"), (40, "log_loss"), (None, "f1")])
def test_intervals_hold_the_truth_about_as_often_as_they_say(groups: int | None, metric: str) -> None:
    """95 % intervals of equal models, rows of a group sharing much: zero is inside in 90 to 99 % of 250 runs.

    A bootstrap that resampled rows where groups are what is independent would hold it in about half of the runs.
    """
    held = total = 0
    for seed in range(250):
        rows = two_models(seed, 300, groups=groups, gain=0.0, effect=0.8 if groups else 0.0)
        interval = Sample(rows, ("champion", "candidate"), resamples=300, seed=seed).interval(metric, 0.95)
        if interval is not None:
            total += 1
            held += interval.low <= 0 <= interval.high
    assert total > 240
    assert 0.90 <= held / total <= 0.99


def test_the_same_seed_gives_the_same_interval() -> None:
    rows = two_models(9, 500, groups=50)
    first, again, other = (
        Sample(rows, ("champion", "candidate"), resamples=300, seed=seed).interval("f1", 0.95) for seed in (1, 1, 2)
    )
    assert first == again != other
