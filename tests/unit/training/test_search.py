from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as m

from tests.unit.training.training_make import retrain, task
from upkeep.errors import DataError, ModelError
from upkeep.spec.model import MetricName, Search, SearchSpace
from upkeep.training.rows import Rows, read_rows
from upkeep.training.search import make_folds, metric_of, search
from upkeep.training.train import train

SPACE = {
    "C": SearchSpace(low=1e-3, high=10, log=True),
    "max_iter": SearchSpace(low=50, high=60, integer=True),
    "class_weight": SearchSpace(choices=(None, "balanced", {"no": 1.0, "yes": 2.0})),
}


def test_the_same_seed_finds_the_same_and_the_candidate_uses_it(tmp_path: Path) -> None:
    searched = task(tmp_path, retrain(search=Search(space=SPACE, trials=4, folds=2)))
    result = train(searched, tmp_path / "m", tmp_path / "s")
    again = train(searched, tmp_path / "m2", tmp_path / "s2")
    assert [(t.params, t.score) for t in result.trials] == [(t.params, t.score) for t in again.trials]
    assert [trial.number for trial in result.trials] == [0, 1, 2, 3]
    best = max(result.trials, key=lambda trial: trial.score or -1)
    assert result.params["C"] == best.params["C"]
    assert isinstance(result.params["max_iter"], int)
    assert all(trial.score is not None and 0 <= trial.score <= 1 for trial in result.trials)


def test_the_budget_of_seconds_ends_it_and_is_told(tmp_path: Path) -> None:
    searched = task(tmp_path, retrain())
    notes: list[str] = []
    settings = Search(space=SPACE, trials=50, seconds=1e-6)
    _, trials = search(searched, settings, read_rows(searched.prepared), notes)
    assert len(trials) == 1
    assert any("1 of 50 trials" in note for note in notes)


def test_a_failed_trial_is_recorded_and_all_failed_is_an_error(tmp_path: Path) -> None:
    searched = task(tmp_path, retrain())
    rows = read_rows(searched.prepared)
    some = Search(space={"C": SearchSpace(choices=(-1.0, 1.0))}, trials=6, folds=2)
    best, trials = search(searched, some, rows, [])
    assert best == {"C": 1.0}
    assert {trial.score is None for trial in trials} == {True, False}
    assert all(trial.failed for trial in trials if trial.score is None)
    with pytest.raises(ModelError, match=r"no trial of the search succeeded; the first said: .*'C'"):
        search(searched, replace(some, space={"C": SearchSpace(low=-2.0, high=-1.0)}), rows, [])


def _rows(periods: list[str], groups: list[int]) -> Rows:
    count = len(periods)
    return Rows(
        None, np.zeros(count, np.int64), np.array(groups, np.uint64), np.arange(count).astype(np.uint64),
        np.array(periods, object),
    )  # fmt: skip


def test_folds_leave_whole_periods_out() -> None:
    rows = _rows(["1"] * 5 + ["2"] * 3 + ["3"] * 4, list(range(12)))
    folds = make_folds(rows, 3)
    assert len(folds) == 3
    for learn, test in folds:
        assert not set(rows.periods[learn]) & set(rows.periods[test])
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(12))


def test_with_too_few_periods_folds_leave_whole_groups_out() -> None:
    rows = _rows(["1"] * 12, [0, 1, 2, 3] * 3)
    for learn, test in make_folds(rows, 3):
        assert not set(rows.groups[learn]) & set(rows.groups[test])
    assert len(make_folds(_rows(["1"] * 4, [0, 0, 1, 1]), 5)) == 2
    with pytest.raises(DataError, match="two periods or two groups"):
        make_folds(_rows(["1"] * 4, [0] * 4), 3)


@pytest.mark.parametrize("name", ["accuracy", "precision", "recall", "f1", "roc_auc", "log_loss"])
def test_metrics_are_scikit_learns(name: MetricName) -> None:
    rng = np.random.default_rng(0)
    codes, two = rng.integers(0, 2, 200), rng.dirichlet([1, 1], 200)
    answers = two.argmax(axis=1)
    expected = {
        "accuracy": m.accuracy_score(codes, answers),
        "precision": m.precision_score(codes, answers, pos_label=0),
        "recall": m.recall_score(codes, answers, pos_label=0),
        "f1": m.f1_score(codes, answers, pos_label=0),
        "roc_auc": m.roc_auc_score(codes == 0, two[:, 0]),
        "log_loss": m.log_loss(codes, two),
    }
    assert metric_of(name, ("yes", "no"), "yes")(codes, two) == pytest.approx(expected[name])
    codes, three = rng.integers(0, 3, 200), rng.dirichlet([1, 1, 1], 200)
    answers = three.argmax(axis=1)
    expected = {
        "accuracy": m.accuracy_score(codes, answers),
        "precision": m.precision_score(codes, answers, average="macro"),
        "recall": m.recall_score(codes, answers, average="macro"),
        "f1": m.f1_score(codes, answers, average="macro"),
        "roc_auc": m.roc_auc_score(codes, three, multi_class="ovr"),
        "log_loss": m.log_loss(codes, three),
    }
    assert metric_of(name, ("a", "b", "c"), None)(codes, three) == pytest.approx(expected[name])


def test_an_area_that_is_not_defined_is_none() -> None:
    assert metric_of("roc_auc", ("a", "b"), "b")(np.zeros(3, np.int64), np.full((3, 2), 0.5)) is None
