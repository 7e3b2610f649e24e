from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tests.unit.data import make
from tests.unit.training.training_make import LOGISTIC, PLAIN, retrain, task
from upkeep.errors import DataError, ModelError, SpecError
from upkeep.models.folder import load, read_manifest
from upkeep.spec.model import (
    Custom,
    Ensemble,
    Features,
    Incremental,
    ModelSpec,
    Outliers,
    Preprocess,
    Search,
    SearchSpace,
    Target,
)
from upkeep.training.custom import CustomTask
from upkeep.training.order import training_order
from upkeep.training.rows import labels, read_rows
from upkeep.training.task import TrainingTask
from upkeep.training.train import refit, train

SGD = "sklearn.linear_model.SGDClassifier"


def _run(given: TrainingTask, folder: Path, name: str = "m") -> Any:
    return train(given, folder / name, folder / f"{name}-state")


def test_the_textbook_script_to_the_last_digit(tmp_path: Path) -> None:
    given = task(tmp_path, retrain(), preprocess=PLAIN)
    given = replace(given, spec=replace(given.spec, data=replace(given.spec.data)))
    numeric = make.spec(tmp_path / "data", features=Features(numeric=("size", "weight")))
    prepared = make.prepared(tmp_path, numeric, out=tmp_path / "numeric")
    given = replace(given, prepared=prepared, spec=replace(numeric, preprocess=PLAIN))
    _run(given, tmp_path)
    rows = read_rows(prepared)
    plain = LogisticRegression(random_state=1).fit(rows.frame, labels(prepared.summary.classes, rows.codes))
    held_out = prepared.table(parts=("held_out",))
    expected = plain.predict_proba(held_out.select(["size", "weight"]).to_pandas())
    np.testing.assert_array_equal(load(tmp_path / "m").predict_proba(held_out), expected)


@pytest.mark.parametrize(
    ("candidate", "error", "message"),
    [
        (retrain(params={"C": -1}), SpecError, "'C' parameter"),
        (retrain(params={"cc": 1}), SpecError, "no parameter cc"),
        (retrain("sklearn.svm.LinearSVC"), ModelError, "no probabilities"),
        (retrain("sklearn.naive_bayes.MultinomialNB"), ModelError, "Negative values"),
        (Incremental(name="one", strategy="incremental", estimator=LOGISTIC), SpecError, "no partial_fit"),
        (Custom(name="one", strategy="custom", function="nowhere.to_be:found"), SpecError, "cannot be imported"),
        (Custom(name="one", strategy="custom", function="os:getpid"), ModelError, "getpid failed"),
        (Custom(name="one", strategy="custom", function=f"{__name__}:returns_nothing"), ModelError, "NoneType"),
        (Custom(name="one", strategy="custom", function=f"{__name__}:not_fitted"), ModelError, "not fitted"),
        (Custom(name="one", strategy="custom", function=f"{__name__}:other_classes"), ModelError, "'maybe'"),
        (Custom(name="one", strategy="custom", function=f"{__name__}:holds_own_code"), ModelError, "not trusted"),
        (Ensemble(name="one", strategy="ensemble", members=("a", "b")), ModelError, "a was not trained"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_told_in_the_specs_words(
    tmp_path: Path, candidate: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        _run(task(tmp_path, candidate), tmp_path)
    assert caught.value.problems[0].fix  # type: ignore[attr-defined]


def returns_nothing(given: CustomTask) -> None:
    pass


def not_fitted(given: CustomTask) -> Any:
    return given.pipeline(LogisticRegression())


def other_classes(given: CustomTask) -> Any:
    return given.pipeline(LogisticRegression()).fit(given.X, np.where(given.y == "no", "no", "maybe"))


def holds_own_code(given: CustomTask) -> Any:
    from tests.unit.models.models_make import NotTrusted

    return given.pipeline(NotTrusted()).fit(given.X, given.y)


def test_own_code_is_trusted_when_the_spec_says_so(tmp_path: Path) -> None:
    custom = Custom(name="one", strategy="custom", function=f"{__name__}:holds_own_code")
    _run(task(tmp_path, custom, estimators=("tests.unit.models.models_make.NotTrusted",)), tmp_path)


def test_what_a_library_warns_of_is_a_note(tmp_path: Path) -> None:
    result = _run(task(tmp_path, retrain(params={"max_iter": 1})), tmp_path)
    assert any("ConvergenceWarning" in note for note in result.notes)


def test_nulls_need_imputation_or_an_estimator_that_takes_them(tmp_path: Path) -> None:
    data = tmp_path / "data" / "part.parquet"
    make.write(make.replace_value(make.table(200), "size", 3, None), data)
    with pytest.raises(ModelError, match="does not take nulls") as caught:
        _run(task(tmp_path, preprocess=PLAIN), tmp_path)
    assert "impute_numeric" in caught.value.problems[0].fix
    boosting = retrain("sklearn.ensemble.HistGradientBoostingClassifier", params={"max_iter": 2})
    _run(replace(task(tmp_path, boosting, preprocess=PLAIN)), tmp_path)


def test_one_class_teaches_nothing(tmp_path: Path) -> None:
    rows = make.table(100, first=5000, start="2024-05-01")
    same = rows.set_column(rows.column_names.index("label"), "label", [["no"] * 100])
    make.write(same, tmp_path / "data" / "period=2024-05" / "a.parquet")
    make.months(tmp_path / "data")
    with pytest.raises(DataError, match="label 'no'"):
        _run(task(tmp_path, retrain(window=1)), tmp_path)


@pytest.mark.parametrize("classes", [(True, False), (3, 1, 2)], ids=str)
def test_labels_keep_their_type(tmp_path: Path, classes: tuple[Any, ...]) -> None:
    rows = make.table(300)
    size = rows.column("size").to_numpy()
    named = np.array(classes)[np.digitize(size, np.linspace(-0.5, 0.5, len(classes) - 1))]
    make.write(rows.set_column(rows.column_names.index("label"), "label", [named]), tmp_path / "data" / "a.parquet")
    given = make.spec(tmp_path / "data", target=Target(column="label", classes=classes))
    prepared = make.prepared(tmp_path, given)
    _run(TrainingTask(candidate=retrain(), spec=given, prepared=prepared, seed=0), tmp_path)
    assert read_manifest(tmp_path / "m").classes == classes
    answers = load(tmp_path / "m").predict_proba(prepared.table(parts=("held_out",))).argmax(axis=1)
    assert (answers == prepared.codes(prepared.table(parts=("held_out",)))).mean() > 0.8


def test_outliers_are_dropped_from_training_and_counted(tmp_path: Path) -> None:
    given = task(tmp_path, preprocess=Preprocess(outliers=Outliers(method="quantile", action="drop")))
    result = _run(given, tmp_path)
    assert result.rows < given.prepared.count(parts=("train",))
    assert any("dropped as outliers" in note for note in result.notes)


def test_a_window_takes_the_newest_periods(tmp_path: Path) -> None:
    result = _run(task(tmp_path, retrain(window=2)), tmp_path)
    assert result.periods == ("2024-02", "2024-03")


def _ensemble(tmp_path: Path, **fields: Any) -> tuple[TrainingTask, ModelSpec]:
    vote = Ensemble(name="vote", strategy="ensemble", **{"members": ("one", "two", "champion"), **fields})
    given = task(tmp_path, make.ONE, make.TWO, vote)
    folders = {}
    for candidate in (make.ONE, make.TWO):
        train(replace(given, candidate=candidate), tmp_path / candidate.name, tmp_path / "none")
        folders[candidate.name] = tmp_path / candidate.name
    return replace(given, candidate=vote, members=folders), given.spec


def test_without_a_champion_the_ensemble_goes_without_it_and_says_so(tmp_path: Path) -> None:
    given, _ = _ensemble(tmp_path, weights=(1.0, 2.0, 3.0))
    result = _run(given, tmp_path)
    assert result.params["weights"] == [1.0, 2.0]
    assert result.notes == ("it goes without the champion: there is none that no held-out row may have taught",)
    with pytest.raises(ModelError, match="needs two members, and only one is there"):
        _run(
            replace(given, candidate=replace(given.candidate, members=("one", "champion"), weights=None)), tmp_path, "x"
        )


def test_a_champion_that_cannot_be_a_member_is_left_out(tmp_path: Path) -> None:
    given, _ = _ensemble(tmp_path)
    (tmp_path / "bad").mkdir()
    result = _run(replace(given, members={**given.members, "champion": tmp_path / "bad"}), tmp_path)
    assert "manifest.json is missing" in result.notes[0]
    folder, notes = tmp_path / "one", ()
    for depth in range(5):  # an ensemble with the champion that becomes the champion, and so on
        step = _run(replace(given, members={**given.members, "champion": folder}), tmp_path, f"e{depth}")
        folder, notes = tmp_path / f"e{depth}", (*notes, *step.notes)
    assert load(folder)
    assert any("ensemble of ensembles" in note for note in notes)


def test_stacking_needs_validation_rows(tmp_path: Path) -> None:
    given, spec = _ensemble(tmp_path, method="stacking")
    alone = make.prepared(tmp_path, replace(spec, candidates=(make.ONE,)), out=tmp_path / "alone")
    assert alone.count(parts=("validation",)) == 0
    with pytest.raises(DataError, match="half of the validation rows"):
        _run(replace(given, prepared=alone), tmp_path)


def test_members_come_before_the_ensemble() -> None:
    vote = Ensemble(name="vote", strategy="ensemble", members=("stack", "one", "champion"))
    stack = Ensemble(name="stack", strategy="ensemble", members=("one", "two"))
    assert training_order((vote, stack, make.ONE, make.TWO)) == ("one", "two", "stack", "vote")
    with pytest.raises(ModelError, match="members of one another"):
        training_order((replace(stack, members=("vote", "one")), vote, make.ONE))


@pytest.mark.parametrize(
    "candidate",
    [
        retrain(search=Search(space={"C": SearchSpace(low=0.1, high=1.0)}, trials=2)),
        Incremental(name="one", strategy="incremental", estimator=SGD, params={"loss": "log_loss"}),
        Custom(name="one", strategy="custom", function="tests.contract.strategies:through_the_spec"),
    ],
    ids=lambda candidate: candidate.strategy,
)
def test_refit_learns_from_fewer_rows(tmp_path: Path, candidate: Any) -> None:
    given = task(tmp_path, candidate)
    held_out = given.prepared.table(parts=("held_out",))
    found = refit(given, params={"C": 0.5}, periods=("2024-01",), fraction=0.5)
    assert found is not None
    predictor, rows = found
    assert 0 < rows < given.prepared.count(parts=("train",), periods=("2024-01",))
    assert predictor.predict_proba(held_out).shape == (held_out.num_rows, 2)
    half, whole = (read_rows(given.prepared, fraction=share) for share in (0.5, 1.0))
    assert 0.3 < len(half) / len(whole) < 0.7
    assert set(half.keys) < set(whole.keys)


def test_an_ensemble_is_not_refitted(tmp_path: Path) -> None:
    given, _ = _ensemble(tmp_path)
    assert refit(given) is None
