from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tests.unit.data import make
from tests.unit.models.models_make import NotTrusted
from upkeep.errors import ModelError
from upkeep.models.adopt import adopt_folder
from upkeep.models.folder import load
from upkeep.spec.model import Features, Target

TABLE = make.table(200)
SPEC = make.spec("data", features=Features(numeric=("size", "weight"), categorical=("colour",)))


def _data() -> pd.DataFrame:
    return TABLE.select(["colour", "weight", "size"]).to_pandas()


def _pipeline(last: Any = None, y: Any = None) -> Any:
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["colour"]), (StandardScaler(), ["weight", "size"])
    )
    labels = np.asarray(TABLE.column("label").to_pylist()) if y is None else y
    return make_pipeline(columns, last or LogisticRegression()).fit(_data(), labels)


def _dump(model: Any, path: Path) -> Path:
    skops.io.dump(model, path)
    return path


def test_a_users_pipeline_becomes_a_model_folder(tmp_path: Path) -> None:
    theirs = _pipeline()
    manifest = adopt_folder(_dump(theirs, tmp_path / "m.skops"), SPEC, tmp_path / "out", rows=TABLE)
    assert manifest.classes == ("no", "yes")
    assert manifest.positive == "yes"
    assert [column.name for column in manifest.columns] == ["colour", "weight", "size"]  # the model's own order
    answers = load(tmp_path / "out").predict_proba(TABLE)
    np.testing.assert_array_equal(answers, theirs.predict_proba(_data()))


def test_without_rows_a_made_up_one_is_asked(tmp_path: Path) -> None:
    assert adopt_folder(_dump(_pipeline(), tmp_path / "m.skops"), SPEC, tmp_path / "out")


def test_the_specs_classes_go_first(tmp_path: Path) -> None:
    spec = make.spec("data", features=SPEC.data.features, target=Target(column="label", classes=("yes", "no", "never")))
    manifest = adopt_folder(_dump(_pipeline(), tmp_path / "m.skops"), spec, tmp_path / "out")
    assert manifest.classes == ("yes", "no", "never")


def test_a_pickle_is_refused_with_how_to_convert_it(tmp_path: Path) -> None:
    path = tmp_path / "m.joblib"
    path.write_bytes(pickle.dumps(_pipeline()))
    with pytest.raises(ModelError, match="pickle") as caught:
        adopt_folder(path, SPEC, tmp_path / "out")
    assert "skops.io.dump(joblib.load('m.joblib'), 'm.skops')" in caught.value.problems[0].fix


def _wrong(case: str, folder: Path) -> tuple[Any, Any]:
    if case == "is no fitted classifier":
        return LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0]), SPEC
    if case == "classes that are not the data's":
        return _pipeline(), make.spec("d", features=SPEC.data.features, target=Target(column="l", classes=("a", "b")))
    if case == "does not know the positive class":
        return _pipeline(), make.spec("d", features=SPEC.data.features, target=Target(column="l", positive="maybe"))
    if case == "no features of the spec: colour":
        return _pipeline(), make.spec("d", features=Features(numeric=("size", "weight")))
    if case == "takes 5 columns":
        return LogisticRegression().fit(np.eye(5), [0, 1, 0, 1, 0]), SPEC
    if case == "does not answer rows":
        numbers = LogisticRegression().fit(np.eye(3), [0, 1, 0])
        return numbers, make.spec("d", features=SPEC.data.features, target=Target(column="label"))
    return NotTrusted().fit(np.eye(3), [0, 1, 0]), SPEC


@pytest.mark.parametrize(
    "case",
    [
        "is no fitted classifier",
        "classes that are not the data's",
        "does not know the positive class",
        "no features of the spec: colour",
        "takes 5 columns",
        "does not answer rows",
        "not trusted",
    ],
)
def test_what_cannot_be_adopted_is_told(tmp_path: Path, case: str) -> None:
    model, spec = _wrong(case, tmp_path)
    with pytest.raises(ModelError, match=case) as caught:
        adopt_folder(_dump(model, tmp_path / "m.skops"), spec, tmp_path / "out", rows=TABLE)
    assert caught.value.problems[0].fix


def test_the_specs_estimators_are_allowed(tmp_path: Path) -> None:
    path = _dump(_pipeline(NotTrusted()), tmp_path / "m.skops")
    spec = replace(SPEC, estimators=("tests.unit.models.models_make.NotTrusted",))
    assert adopt_folder(path, spec, tmp_path / "one", rows=pa.table(TABLE))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 but no more", b"a,b\n1,2\n"])
def test_no_skops_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.skops").write_bytes(data)
    with pytest.raises(ModelError, match="no skops file"):
        adopt_folder(tmp_path / "m.skops", SPEC, tmp_path / "out")
    with pytest.raises(ModelError, match="no such file"):
        adopt_folder(tmp_path / "other.skops", SPEC, tmp_path / "out")
