"""Adopting says that a model serves only where it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.data import make
from tests.unit.registry.registry_fakes import model_folder
from upkeep.errors import ConflictError, InputError
from upkeep.rollout.release import Proposal
from upkeep.update import adopt


def test_a_champion_that_came_first_is_a_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(make.spec(make.months(tmp_path / "data", 1)), store=str(tmp_path / "store"))
    model = SimpleNamespace(predict_proba=lambda rows: rows, format="sklearn")

    def folder(source: Path, spec: Any, to: Path, *, rows: Any) -> None:
        model_folder(to)

    monkeypatch.setattr(adopt, "adopt_folder", folder)
    monkeypatch.setattr(adopt, "load", lambda *_, **__: model)
    monkeypatch.setattr(adopt, "read_manifest", lambda *_: model)
    monkeypatch.setattr(adopt, "verify_served", lambda *_, **__: SimpleNamespace(ok=True))
    late = Proposal(outcome="champion_changed", reason="v7 serves now", commit="abc", attempts=2)
    monkeypatch.setattr(adopt, "propose", lambda *_, **__: late)
    with pytest.raises(ConflictError, match="v1 is registered, but does not serve: v7 serves now"):
        adopt.adopt_model(spec, tmp_path / "model.skops", trained_until="2024-01", environ={})


@pytest.mark.parametrize(("unit", "words"), [("month", "is no month"), (None, "has no period '2024-1'")])
def test_a_cut_off_that_is_no_period(tmp_path: Path, unit: Any, words: str) -> None:
    spec = make.spec(make.months(tmp_path / "data", 1), period=unit)
    spec = replace(spec, store=str(tmp_path / "store"))
    with pytest.raises(InputError, match=words):
        adopt.adopt_model(spec, tmp_path / "model.skops", trained_until="2024-1", environ={})
    assert not list((tmp_path / "store").rglob("*.json"))
