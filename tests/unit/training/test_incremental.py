from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.data import make
from tests.unit.training.training_make import spec
from upkeep.errors import SpecError
from upkeep.models import skops_file
from upkeep.spec.model import Incremental, Preprocess, Split
from upkeep.training.incremental import PIPELINE
from upkeep.training.state import LEARNED, STATE
from upkeep.training.task import TrainingTask
from upkeep.training.train import train

ONLINE = Incremental(
    name="online", strategy="incremental", estimator="sklearn.linear_model.SGDClassifier", params={"loss": "log_loss"}
)


@pytest.fixture
def begun(tmp_path: Path) -> TrainingTask:
    """A task whose state has learned January and February; March is new."""
    model = spec(tmp_path, ONLINE)
    first = make.prepared(tmp_path, model, until="2024-02", out=tmp_path / "first")
    task = TrainingTask(candidate=ONLINE, spec=model, prepared=first, seed=1)
    train(task, tmp_path / "m1", tmp_path / "s1")
    return replace(task, prepared=make.prepared(tmp_path, model), state=tmp_path / "s1")


def _go_on(task: TrainingTask, tmp_path: Path) -> Any:
    return train(task, tmp_path / "m2", tmp_path / "s2")


def test_only_new_rows_are_learned_beside_a_rehearsal(
    begun: TrainingTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.linear_model import SGDClassifier

    seen: list[int] = []
    real = SGDClassifier.partial_fit

    def spy(self: Any, X: Any, y: Any, classes: Any = None) -> Any:
        assert classes.tolist() == ["no", "yes"]
        seen.append(len(y))
        return real(self, X, y, classes=classes)

    monkeypatch.setattr(SGDClassifier, "partial_fit", spy)
    begun = replace(begun, candidate=replace(ONLINE, epochs=2, batch_rows=50, rehearsal=0.5))
    _go_on(begun, tmp_path)
    new = begun.prepared.count(parts=("train",), periods=["2024-03"])
    lesson = new + round(0.5 * new)
    assert sum(seen) == 2 * lesson
    assert max(seen) == 50


def test_preprocessing_stays_as_it_was_fitted_first(begun: TrainingTask, tmp_path: Path) -> None:
    _go_on(begun, tmp_path)
    one, two = (skops_file.load(tmp_path / folder / PIPELINE) for folder in ("s1", "s2"))
    scaler = [pipeline[0].named_transformers_["numbers"]["scale"].mean_ for pipeline in (one, two)]
    np.testing.assert_array_equal(*scaler)
    assert not np.array_equal(one[-1].coef_, two[-1].coef_)
    assert two[-1].t_ > one[-1].t_


def test_a_late_file_of_an_old_period_is_new(begun: TrainingTask, tmp_path: Path) -> None:
    late = make.table(100, seed=9, first=9000, start="2024-01-10", days=5)
    make.write(late, tmp_path / "data" / "period=2024-01" / "late.parquet")
    more = make.prepared(tmp_path, begun.spec, out=tmp_path / "more")
    result = _go_on(replace(begun, prepared=more), tmp_path)
    assert result.warm_started
    assert result.rows == more.count(parts=("train",))


@pytest.mark.parametrize("change", ["params", "preprocess", "seed", "damaged", "missing", "held out", "choosing"])
def test_a_state_that_does_not_fit_is_left_and_why_is_told(begun: TrainingTask, tmp_path: Path, change: str) -> None:
    assert begun.state is not None
    if change == "params":
        begun = replace(begun, candidate=replace(ONLINE, params={"loss": "log_loss", "alpha": 0.1}))
    elif change == "preprocess":
        begun = replace(begun, spec=replace(begun.spec, preprocess=Preprocess(scale="robust")))
    elif change == "seed":
        begun = replace(begun, seed=2)
    elif change == "damaged":
        (begun.state / PIPELINE).write_bytes(b"PK")
    elif change == "missing":
        (begun.state / STATE).unlink()
    elif change == "held out":  # another salt: other rows are held out now
        other = make.spec(tmp_path / "data", candidates=(ONLINE,), split=Split(salt="other"))
        begun = replace(begun, spec=other, prepared=make.prepared(tmp_path, other, out=tmp_path / "other"))
    else:  # a second candidate: some of the rows choose between the two now
        other = make.spec(tmp_path / "data", candidates=(ONLINE, make.TWO))
        begun = replace(begun, spec=other, prepared=make.prepared(tmp_path, other, out=tmp_path / "other"))
        assert begun.prepared.count(parts=("validation",)) > 0
    result = _go_on(begun, tmp_path)
    assert not result.warm_started
    assert "it started anew" in result.notes[0]
    assert result.rows == begun.prepared.count(parts=("train",))
    assert len(np.load(tmp_path / "s2" / LEARNED)) == result.rows


def test_a_learned_row_whose_content_is_held_out_later_is_not_gone_on_from(begun: TrainingTask, tmp_path: Path) -> None:
    assert begun.state is not None
    learned = set(np.load(begun.state / LEARNED).tolist())
    row = make.table(150, seed=0, first=0, start="2024-01-01", days=28)
    again = row.set_column(0, "id", pa.array([f"again-{n}" for n in range(150)]))
    make.write(again, tmp_path / "data" / "period=2024-03" / "again.parquet")
    more = make.prepared(tmp_path, begun.spec, out=tmp_path / "more")
    kept_out = set(more.table(parts=("kept_out",), columns=["_row"]).column(0).to_pylist())
    assert kept_out & learned  # content that training learned under another id is held out now
    result = _go_on(replace(begun, prepared=more), tmp_path)
    assert not result.warm_started
    assert "it started anew" in result.notes[0]
    assert not kept_out & set(np.load(tmp_path / "s2" / LEARNED).tolist())


def test_an_estimator_without_partial_fit_is_refused(begun: TrainingTask, tmp_path: Path) -> None:
    candidate = replace(ONLINE, estimator="sklearn.tree.DecisionTreeClassifier", params={})
    with pytest.raises(SpecError, match="no partial_fit"):
        _go_on(replace(begun, candidate=candidate), tmp_path)
