"""``upkeep drift --period P``: of that period and no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.unit.data import make
from tests.unit.registry.registry_fakes import card
from upkeep.drift.result import DriftReport
from upkeep.errors import InputError
from upkeep.registry.registry import Registry
from upkeep.rollout.release import Serving
from upkeep.rollout.state import Champion
from upkeep.spec.load import canonical
from upkeep.spec.model import Drift, ModelSpec
from upkeep.store import open_store
from upkeep.update import drift

ROWS = 1500


class Answers:
    """A champion that goes by the size."""

    manifest = SimpleNamespace(classes=("no", "yes"))

    def predict_proba(self, rows: pa.Table) -> Any:
        yes = 1 / (1 + np.exp(-rows.column("size").to_numpy()))
        return np.stack([1 - yes, yes], axis=1)


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """Four months, the champion is of the first; in the third all sizes are three larger and the labels turned."""
    data = make.months(tmp_path / "data", 4, rows=ROWS)
    changed = make.table(ROWS, seed=9, first=2 * ROWS, start="2024-03-01", days=28)
    turned = pc.if_else(pc.equal(changed.column("label"), "yes"), "no", "yes")
    changed = changed.set_column(2, "size", pc.add(changed.column("size"), 3.0)).set_column(6, "label", turned)
    make.write(changed, data / "period=2024-03" / "part-0.parquet")
    spec = replace(
        make.spec(data),
        store=str(tmp_path / "store"),
        drift=Drift(classifier_rows=400, min_rows=100),
    )
    registry = Registry(open_store(spec.store), spec.name)
    digest = "c" * 64
    made = card(digest, model="toy", spec=registry.put_spec(canonical(spec)))
    made = replace(made, version="v1", trained=replace(made.trained, until="2024-01", periods=("2024-01",)))
    monkeypatch.setattr(Registry, "card", lambda self, version: made)
    serving = Serving(
        champion=Champion(version="v1", digest=digest, since="2024-02-01T00:00:00Z"),
        canary=None, phase="idle", weight=0, commit="abc",
    )  # fmt: skip
    monkeypatch.setattr("upkeep.rollout.release.serving_now", lambda spec: serving)
    monkeypatch.setattr(drift, "_predictor", lambda *_: Answers())
    return spec


def of(spec: ModelSpec, period: str) -> DriftReport:
    report = drift.drift_of_period(spec, period=period, environ={})
    assert report.periods == (period or "2024-04",)
    assert report.decay is not None
    assert report.two_sample is not None
    return report


def test_a_bad_month_is_told_of_that_month_and_of_no_other(spec: ModelSpec) -> None:
    before, bad, after, newest = (of(spec, period) for period in ("2024-02", "2024-03", "2024-04", ""))
    assert newest == after
    for one in (before, bad, after):
        assert one.decay is not None
        assert one.decay.current_rows < ROWS / 3, "held-out rows of one month"
        assert one.current_rows == ROWS
    assert [one.two_sample and one.two_sample.finding for one in (before, bad, after)] == ["stable", "drift", "stable"]
    assert [one.decay and one.decay.finding for one in (before, bad, after)] == ["stable", "decay", "stable"]
    assert [one.finding for one in (before, bad, after)] == ["stable", "drift", "stable"]


def test_periods_in_a_row_are_still_counted(spec: ModelSpec) -> None:
    """``drift.persist`` asks for what came before the period, too."""
    again = make.table(ROWS, seed=9, first=3 * ROWS, start="2024-04-01", days=28)
    again = again.set_column(2, "size", pc.add(again.column("size"), 3.0))
    make.write(again, Path(spec.data.source) / "period=2024-04" / "part-0.parquet")
    patient = replace(spec, drift=replace(spec.drift, persist=2, classifier_rows=0))
    found = {}
    for period in ("2024-03", "2024-04"):
        columns = drift.drift_of_period(patient, period=period, environ={}).columns
        (found[period],) = [column for column in columns if column.column == "size"]
    assert [(one.finding, one.periods_in_a_row) for one in found.values()] == [("stable", 1), ("drift", 2)]


def test_a_period_that_is_not_in_the_data(spec: ModelSpec) -> None:
    with pytest.raises(InputError, match="2023-01"):
        drift.drift_of_period(spec, period="2023-01", environ={})
