from __future__ import annotations

import contextlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.svm import LinearSVC

from tests.unit.models.models_make import NotTrusted, frame, labels, manifest, model
from upkeep.errors import ModelError
from upkeep.models import folder as folders
from upkeep.models import skops_file
from upkeep.models.folder import folder_digest, folder_files, folder_size, load, read_manifest, save_ensemble, stack

ROWS = pa.Table.from_pandas(frame(40, seed=9))


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        RandomForestClassifier(n_estimators=3, random_state=0),
        HistGradientBoostingClassifier(max_iter=3, random_state=0),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_answers_as_the_estimator_and_has_the_same_bytes_each_time(tmp_path: Path, estimator: Any) -> None:
    fitted = model(tmp_path / "one", estimator)
    model(tmp_path / "two", estimator)
    assert folder_digest(tmp_path / "one") == folder_digest(tmp_path / "two")
    np.testing.assert_array_equal(load(tmp_path / "one").predict_proba(ROWS), fitted.predict_proba(ROWS.to_pandas()))


def test_the_machines_cores_do_not_show_in_the_bytes() -> None:
    fitted = HistGradientBoostingClassifier(max_iter=2, random_state=0).fit(np.arange(60.0).reshape(-1, 1), [0, 1] * 30)
    written = set()
    for cores in (1, 2, 64):
        fitted._bin_mapper.n_threads = cores
        written.add(skops_file.dump(fitted))
    assert len(written) == 1


def test_digest_covers_names_and_bytes(tmp_path: Path) -> None:
    model(tmp_path / "m")
    before = folder_digest(tmp_path / "m")
    assert list(folder_files(tmp_path / "m")) == ["manifest.json", "model.skops"]
    assert folder_size(tmp_path / "m") == sum(f.stat().st_size for f in (tmp_path / "m").iterdir())
    path = tmp_path / "m" / "model.skops"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert folder_digest(tmp_path / "m") != before
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert folder_digest(tmp_path / "m") == before
    path.rename(path.with_name("other.skops"))
    assert folder_digest(tmp_path / "m") != before


@pytest.mark.parametrize(
    "classes",
    [("yes", "no"), (True, False), (2, 0, 1), ("c", "a", "b")],
    ids=str,
)
def test_probabilities_stand_in_the_order_of_the_manifest(tmp_path: Path, classes: tuple[Any, ...]) -> None:
    fitted = model(tmp_path / "m", classes=classes)
    predictor = load(tmp_path / "m")
    assert predictor.manifest.classes == classes
    assert [type(label) for label in predictor.manifest.classes] == [type(label) for label in classes]
    own = list(fitted.classes_)
    answers = predictor.predict_proba(ROWS)
    for position, label in enumerate(classes):
        np.testing.assert_array_equal(answers[:, position], fitted.predict_proba(ROWS.to_pandas())[:, own.index(label)])


def test_a_class_never_seen_has_probability_0(tmp_path: Path) -> None:
    data = frame()
    fitted = LogisticRegression().fit(data, labels(data))
    folders.save_sklearn(tmp_path / "m", fitted, manifest(("maybe", "no", "yes")))
    answers = load(tmp_path / "m").predict_proba(ROWS)
    assert answers.shape == (40, 3)
    assert (answers[:, 0] == 0).all()
    np.testing.assert_allclose(answers.sum(axis=1), 1)


@pytest.mark.parametrize("classes", [("no", "never"), (0, 1), (True, False)])
def test_classes_that_are_not_the_manifests_are_refused(tmp_path: Path, classes: tuple[Any, ...]) -> None:
    data = frame()
    fitted = LogisticRegression().fit(data, labels(data))
    with pytest.raises(ModelError, match="'yes'"):
        folders.save_sklearn(tmp_path / "m", fitted, manifest(classes))


def test_true_is_not_1(tmp_path: Path) -> None:
    data = frame()
    fitted = LogisticRegression().fit(data, labels(data, (0, 1)))
    with pytest.raises(ModelError, match="classes that are not"):
        folders.save_sklearn(tmp_path / "m", fitted, manifest((False, True)))


@pytest.mark.parametrize("estimator", [LinearSVC(), SGDClassifier(), RidgeClassifier()], ids=lambda e: type(e).__name__)
def test_an_estimator_without_probabilities_is_refused_with_the_way_out(tmp_path: Path, estimator: Any) -> None:
    with pytest.raises(ModelError, match="gives no probabilities") as caught:
        model(tmp_path / "m", estimator)
    assert "CalibratedClassifierCV" in str(caught.value)
    assert not (tmp_path / "m").exists()


def test_an_unfitted_estimator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a fitted classifier"):
        folders.save_sklearn(tmp_path / "m", LogisticRegression(), manifest())


def test_types_are_refused_unless_the_reader_allows_them(tmp_path: Path) -> None:
    model(tmp_path / "m", NotTrusted())
    with pytest.raises(ModelError, match=r"models_make\.NotTrusted") as caught:
        load(tmp_path / "m")
    assert "estimators" in str(caught.value)
    predictor = load(tmp_path / "m", allowed=["tests.unit.models.models_make.NotTrusted"])
    assert predictor.predict_proba(ROWS).shape == (40, 2)


def test_the_file_has_no_say_in_what_is_trusted(tmp_path: Path) -> None:
    model(tmp_path / "m", NotTrusted())
    path = tmp_path / "m" / "manifest.json"
    told = json.loads(path.read_text())
    told["trusted"] = told["libraries"]["trusted"] = "tests.unit.models.models_make.NotTrusted"
    path.write_text(json.dumps(told))
    with pytest.raises(ModelError):
        load(tmp_path / "m")


def test_nothing_runs_that_a_file_names(tmp_path: Path) -> None:
    model(tmp_path / "m")
    path = tmp_path / "m" / "model.skops"
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(files["schema.json"])
    schema.update(__class__="system", __module__="os", __loader__="FunctionNode")
    files["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    with pytest.raises(ModelError, match=r"os\.system"):
        load(tmp_path / "m")


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "pickle", "no manifest", "manifest", "one class"])
def test_a_damaged_folder_is_a_model_error(tmp_path: Path, damage: str) -> None:
    model(tmp_path / "m")
    path, told = tmp_path / "m" / "model.skops", tmp_path / "m" / "manifest.json"
    if damage == "missing":
        path.unlink()
    elif damage == "no manifest":
        told.unlink()
    elif damage == "manifest":
        told.write_text(told.read_text()[:50])
    elif damage == "one class":
        told.write_text(told.read_text().replace('"yes"', '"no"'))
    else:
        path.write_bytes({"empty": b"", "cut": path.read_bytes()[:-200], "pickle": b"\x80\x04N."}[damage])
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "m")
    assert caught.value.problems[0].fix
    assert str(tmp_path) in str(caught.value)


@settings(max_examples=40)
@given(st.data())
def test_a_flipped_byte_is_a_model_error_or_does_nothing_worse(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("flip") / "m"
    model(folder, RandomForestClassifier(n_estimators=2, max_depth=2, random_state=0))
    path = folder / "model.skops"
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    with contextlib.suppress(ModelError):
        load(folder).predict_proba(ROWS)


def test_no_rows_one_row_and_rows_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model(tmp_path / "m")
    predictor = load(tmp_path / "m")
    whole = predictor.predict_proba(ROWS)
    monkeypatch.setattr(folders, "BATCH_ROWS", 7)
    np.testing.assert_allclose(predictor.predict_proba(ROWS), whole, rtol=0, atol=1e-15)
    assert predictor.predict_proba(ROWS.slice(0, 0)).shape == (0, 2)
    assert predictor.predict_proba(ROWS.slice(3, 1)).shape == (1, 2)
    with pytest.raises(ModelError, match="column b is missing"):
        predictor.predict_proba(ROWS.slice(0, 0).select(["a"]))


def test_columns_are_brought_to_their_kind_or_refused_by_name(tmp_path: Path) -> None:
    model(tmp_path / "m")
    predictor = load(tmp_path / "m")
    text = pa.table({"b": pa.array(["2", "0"]), "a": pa.array([True, False]), "more": [1, 2]})
    numbers = pa.table({"a": [1.0, 0.0], "b": [2.0, 0.0]})
    np.testing.assert_array_equal(predictor.predict_proba(text), predictor.predict_proba(numbers))
    with pytest.raises(ModelError, match="column a holds 'x'") as caught:
        predictor.predict_proba(pa.table({"a": ["1", "x"]}))
    assert len(caught.value.problems) == 2  # b is missing, too
    assert caught.value.problems[0].where.row == 2


def test_nulls_that_the_model_cannot_take_are_named(tmp_path: Path) -> None:
    model(tmp_path / "m")
    with pytest.raises(ModelError, match="cannot take nulls, and there are some in b"):
        load(tmp_path / "m").predict_proba(pa.table({"a": [1.0], "b": pa.array([None], pa.float64())}))


@pytest.mark.parametrize("wrong", [[[np.nan, 1.0]], [[0.7, 0.7]], [[-0.5, 1.5]], [[np.inf, 0.0]], [[1.0]]])
def test_an_answer_that_is_no_probability_is_refused(wrong: list[list[float]]) -> None:
    with pytest.raises(ModelError):
        folders.checked(np.array(wrong), (1, 2))


def _members(tmp_path: Path) -> dict[str, Path]:
    model(tmp_path / "a")
    model(tmp_path / "b", DummyClassifier(strategy="prior"))
    return {"one": tmp_path / "a", "two": tmp_path / "b"}


def test_a_soft_vote_is_the_weighted_mean(tmp_path: Path) -> None:
    members = _members(tmp_path)
    save_ensemble(tmp_path / "e", members, replace(manifest(), weights=(3.0, 1.0)))
    one, two = (load(path).predict_proba(ROWS) for path in members.values())
    np.testing.assert_allclose(load(tmp_path / "e").predict_proba(ROWS), (3 * one + two) / 4, rtol=0, atol=1e-15)
    assert load(tmp_path / "e").predict_proba(ROWS.slice(0, 0)).shape == (0, 2)
    assert read_manifest(tmp_path / "e").members == ("one", "two")
    assert folders.model_depth(tmp_path / "e") == 1


def test_stacking_asks_the_final_estimator(tmp_path: Path) -> None:
    members = _members(tmp_path)
    data = frame()
    answers = [load(path).predict_proba(pa.Table.from_pandas(data)) for path in members.values()]
    final = LogisticRegression().fit(stack(answers), labels(data))
    save_ensemble(tmp_path / "e", members, manifest(), final_estimator=final)
    got = load(tmp_path / "e").predict_proba(pa.Table.from_pandas(data))
    np.testing.assert_array_equal(got, final.predict_proba(stack(answers)))
    assert load(tmp_path / "e").predict_proba(ROWS.slice(0, 0)).shape == (0, 2)


def test_members_with_fewer_classes_are_brought_in_line(tmp_path: Path) -> None:
    model(tmp_path / "a", classes=("yes", "no"))
    model(tmp_path / "b", classes=("maybe", "no", "yes"))
    members = {"a": tmp_path / "a", "b": tmp_path / "b"}
    save_ensemble(tmp_path / "e", members, replace(manifest(("no", "maybe", "yes")), weights=(1.0, 1.0)))
    answers = load(tmp_path / "e").predict_proba(ROWS)
    one, two = (load(path).predict_proba(ROWS) for path in members.values())
    np.testing.assert_allclose(answers[:, 0], (one[:, 1] + two[:, 1]) / 2)
    np.testing.assert_allclose(answers[:, 1], two[:, 0] / 2)


@pytest.mark.parametrize("change", [{"members": ["../a", "two"]}, {"members": []}, {"weights": [1.0]}])
def test_an_ensemble_manifest_cannot_lead_elsewhere(tmp_path: Path, change: dict[str, Any]) -> None:
    save_ensemble(tmp_path / "e", _members(tmp_path), replace(manifest(), weights=(1.0, 1.0)))
    path = tmp_path / "e" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError):
        load(tmp_path / "e")


def test_ensembles_do_not_nest_for_ever(tmp_path: Path) -> None:
    inner = _members(tmp_path)
    for depth in range(folders.MAX_DEPTH + 1):
        save_ensemble(tmp_path / f"e{depth}", inner, replace(manifest(), weights=(1.0, 1.0)))
        inner = {"one": tmp_path / f"e{depth}", "two": tmp_path / "b"}
    assert load(tmp_path / f"e{folders.MAX_DEPTH - 1}")
    with pytest.raises(ModelError, match="too deep"):
        load(tmp_path / f"e{folders.MAX_DEPTH}")
