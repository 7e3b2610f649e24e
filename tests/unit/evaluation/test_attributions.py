"""SHAP values of trees and lines by raw column: they add up, and what is not known is said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.evaluation.evaluation_fakes import FakePredictor, knows
from upkeep.data.kinds import Column
from upkeep.errors import SpecError
from upkeep.evaluation import attributions as module
from upkeep.evaluation.attributions import attributions, require
from upkeep.evaluation.parts import OTHERS
from upkeep.evaluation.result import Attributions
from upkeep.models.folder import SklearnPredictor
from upkeep.models.frame import to_frame
from upkeep.models.manifest import Manifest
from upkeep.spec.model import Explain, Preprocess
from upkeep.training.preprocessing import build_pipeline

COLUMNS = (
    Column(name="size", kind="numeric"),
    Column(name="noise", kind="numeric"),
    Column(name="colour", kind="categorical"),
    Column(name="when", kind="datetime"),
)
ASKED = Explain(shap=True, rows=30)


def table(rows: int = 300, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    size = rng.normal(size=rows)
    colour = rng.choice(["red", "green", "blue", "grey"], rows)
    when = np.datetime64("2024-01-01") + rng.integers(0, 86_400 * 300, rows).astype("timedelta64[s]")
    label = size + (colour == "red") + 0.2 * rng.normal(size=rows) > 0.4
    return pa.table(
        {
            "size": pa.array(size, mask=rng.random(rows) < 0.05),
            "noise": rng.normal(size=rows),
            "colour": colour,
            "when": pa.array(when.astype("datetime64[us]"), pa.timestamp("us", tz="UTC")),
            "label": label,
        }
    )


def fitted(estimator: Any, rows: pa.Table, positive: bool | None = True, labels: Sequence[Any] | None = None) -> Any:
    pipeline = build_pipeline(COLUMNS, Preprocess(), estimator, seed=0)
    classes = (False, True) if labels is None else tuple(sorted(set(labels)))
    pipeline.fit(to_frame(rows, COLUMNS), rows.column("label").to_numpy() if labels is None else labels)
    manifest = Manifest(format="sklearn", columns=COLUMNS, classes=classes, positive=positive, libraries={})
    return SklearnPredictor(manifest, pipeline, np.arange(len(classes)))


def told(predictor: Any, settings: Explain = ASKED, rows: pa.Table | None = None) -> tuple[Attributions, ...]:
    rows = table() if rows is None else rows
    return attributions(
        predictor, rows, [True] * rows.num_rows, settings, seed=0, clock=lambda: 0.0, progress=lambda *_: None
    )


def trees_and_lines() -> list[Any]:
    from sklearn.ensemble import (
        GradientBoostingClassifier,
        HistGradientBoostingClassifier,
        RandomForestClassifier,
    )
    from sklearn.linear_model import LogisticRegression, SGDClassifier
    from sklearn.tree import DecisionTreeClassifier

    return [
        HistGradientBoostingClassifier(max_iter=10),
        GradientBoostingClassifier(n_estimators=10),
        RandomForestClassifier(10, random_state=0),
        DecisionTreeClassifier(max_depth=4),
        LogisticRegression(),
        SGDClassifier(loss="log_loss", random_state=0),
    ]


@pytest.mark.parametrize("estimator", trees_and_lines(), ids=lambda found: type(found).__name__)
def test_parts_add_up_and_find_the_columns_that_decide(estimator: Any) -> None:
    (found,) = told(fitted(estimator, table()))
    assert found.missing == ""
    assert found.gap is not None
    assert found.gap < 1e-4
    assert found.rows == 30
    sizes = {one.column: one.size for one in found.columns}
    assert set(sizes) - {OTHERS} <= {"size", "noise", "colour", "when"}
    assert found.columns[0].column == "size"
    assert sizes["size"] > sizes["colour"] > sizes.get("noise", 0.0)
    assert "“true”" in found.explains
    # categories as such are what the library gets wrong: there the columns are permuted
    assert found.method == ("shap_permutation" if type(estimator).__name__.startswith("Hist") else "shap")


def test_more_classes_than_two_are_told_by_the_mean_over_them() -> None:
    from sklearn.linear_model import LogisticRegression

    rows = table()
    labels = np.digitize(rows.column("noise").to_numpy(), [-0.5, 0.5])
    (found,) = told(fitted(LogisticRegression(), rows, positive=None, labels=labels.tolist()))
    assert found.columns[0].column == "noise"
    assert found.columns[0].mean is None
    assert found.explains == "the margin of each class"


def test_the_same_rows_give_the_same_parts() -> None:
    from sklearn.tree import DecisionTreeClassifier

    predictor = fitted(DecisionTreeClassifier(max_depth=3), table())
    assert told(predictor) == told(predictor)


def test_a_kind_that_is_not_known_says_so_and_nothing_else_happens() -> None:
    from sklearn.naive_bayes import GaussianNB

    (found,) = told(fitted(GaussianNB(), table()))
    assert found.missing == "SHAP values are of trees and linear models; this is GaussianNB"
    assert found.columns == ()
    rows = pa.table({"x": [0.0, 1.0], "noise": [1.0, 0.0]})
    (found,) = told(FakePredictor(knows(1.0)), rows=rows)
    assert "this is another model" in found.missing


def test_nothing_is_told_that_was_not_asked() -> None:
    assert told(FakePredictor(knows(1.0)), Explain()) == ()
    assert told(FakePredictor(knows(1.0)), ASKED, table(0)) == ()


def test_without_the_package_what_to_install_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SpecError, match="not installed") as caught:
        require(ASKED)
    assert "pip install 'upkeep[shap]'" in caught.value.problems[0].fix
    assert caught.value.problems[0].where.field == "explain.shap"
    require(Explain())
