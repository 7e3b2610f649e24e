"""What the auditor reads of a version whose card says pass: how its update ended, and what Git says today."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.data import make
from tests.unit.registry.registry_fakes import card, model_folder
from upkeep import newest_update, records
from upkeep.api import _shown_update
from upkeep.cli.main import main
from upkeep.errors import InputError, OutsideError
from upkeep.evaluation.result import Reason, Verdict
from upkeep.registry.card import Card
from upkeep.registry.registry import Registry
from upkeep.rollout.release import Serving
from upkeep.rollout.state import Barred, Canary, Champion
from upkeep.spec.model import ModelSpec
from upkeep.store import open_store
from upkeep.update import outcome
from upkeep.update.outcome import outcome_of
from upkeep.update.record import UpdateRecord

SERVING = Serving(
    champion=Champion(version="v9", digest="9" * 64, since="2026-03-01T12:00:00Z"),
    canary=None, phase="idle", weight=0, commit="abc",
)  # fmt: skip


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return replace(make.spec("data"), store=str(tmp_path / "store"))


@pytest.fixture
def registry(spec: ModelSpec) -> Registry:
    return Registry(open_store(spec.store), spec.name)


@pytest.fixture
def version(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    monkeypatch.setattr(outcome, "serving_now", lambda spec: SERVING)
    digest = registry.put_model(model_folder(tmp_path / "model"))
    return registry.register(card(digest, model=registry.model, update="u1"))


def record(registry: Registry, verdict: Any, ended: str, message: str, *, update: str = "u1", day: int = 1) -> None:
    made = UpdateRecord(
        update=update, model=registry.model, finished=f"2026-03-{day:02}T12:05:00+00:00", drift=None, chosen="one",
        verdict=Verdict(verdict=verdict, summary=message, case="champion",
                        reasons=(Reason(rule="barred", finding="fail", text=message),)),
        champion="v9", outcome=ended, message=message, version="v1", commit=None, repository="r", dataset="d",
        spec="s", page="p",
    )  # fmt: skip
    registry.put_update(update, "record.json", records.to_json(made))


@pytest.mark.parametrize(
    ("verdict", "ended", "taken_back"),
    [
        ("pass", "proposed", False),
        ("pass", "pending_other", False),
        ("fail", "barred", True),
        ("insufficient", "champion_changed", True),
        ("insufficient", "failed", True),
    ],
)
def test_how_the_update_ended_stands_beside_the_card(
    spec: ModelSpec, registry: Registry, version: Card, verdict: Any, ended: str, taken_back: bool
) -> None:
    record(registry, verdict, ended, "so it was")
    found = outcome_of(spec, registry, "v1")
    assert version.verdict is not None
    assert version.verdict.verdict == "pass"
    assert (found.verdict, found.outcome, found.taken_back) == (verdict, ended, taken_back)
    assert found.now == "does not serve"


def test_an_update_that_left_no_record_is_no_pass(spec: ModelSpec, registry: Registry, version: Card) -> None:
    found = outcome_of(spec, registry, version.version)
    assert (found.verdict, found.outcome, found.taken_back) == (None, "unknown", True)


def test_the_newest_update_is_the_last_that_ended(spec: ModelSpec, registry: Registry) -> None:
    assert newest_update(spec) is None
    assert _shown_update(spec) is None
    record(registry, "insufficient", "failed", "the disk was full")
    registry.put_update("u2", "errors/train.json", b"{}")  # under way
    found = newest_update(spec)
    assert found is not None
    assert found.update == "u1"
    shown = _shown_update(spec)
    assert shown is not None
    assert (shown.update, shown.verdict, shown.outcome, shown.drift) == ("u1", "insufficient", "failed", "")
    assert shown.finished.isoformat() == found.finished


def test_of_updates_whose_ids_tell_no_order_the_one_that_ended_last_is_the_newest(
    spec: ModelSpec, registry: Registry
) -> None:
    """On Kubeflow an update's id is its run's. The store's clock says which are new; where all are (it was restored),
    the records do."""
    record(registry, "pass", "proposed", "newest", update="0b1c", day=9)
    record(registry, "fail", "barred", "oldest", update="ff00", day=1)
    record(registry, "fail", "barred", "between", update="7a7a", day=5)
    found = newest_update(spec)
    assert found is not None
    assert found.update == "0b1c"
    place = Path(spec.store) / registry.model / "updates"
    for update, hours in (("0b1c", 50), ("7a7a", 5)):
        written = (place / update / "record.json").stat().st_mtime - 3600 * hours
        os.utime(place / update / "record.json", (written, written))
    found = newest_update(spec)
    assert found is not None
    assert found.update == "ff00"


def test_an_adopted_model_has_no_update(spec: ModelSpec, registry: Registry, version: Card) -> None:
    trained = replace(version.trained, strategy="adopted")
    registry.register(replace(version, update="adopt-1", trained=trained, verdict=None))
    found = outcome_of(spec, registry, "v2")
    assert (found.outcome, found.taken_back) == ("adopted", False)


def test_what_git_says_today(
    spec: ModelSpec, registry: Registry, version: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    def now(serving: Serving) -> str:
        monkeypatch.setattr(outcome, "serving_now", lambda spec: serving)
        return outcome_of(spec, registry, "v1").now

    digest = version.digest
    since = "2026-03-02T12:00:00Z"
    assert now(replace(SERVING, champion=Champion(version="v1", digest=digest, since=since))).startswith("serves as")
    canary = replace(SERVING, canary=Canary(version="v1", digest=digest, update="u1"), phase="step", weight=25)
    assert now(canary) == "is the challenger, at 25 % (step)"
    barred = (Barred(version="v1", digest=digest, since=since, reason="more errors"),)
    assert now(replace(SERVING, barred=barred)) == f"barred since {since}, taken back as v1: more errors"

    def away(spec: ModelSpec) -> Serving:
        raise OutsideError("git is away")

    monkeypatch.setattr(outcome, "serving_now", away)
    assert outcome_of(spec, registry, "v1").now.startswith("not known")
    with pytest.raises(InputError):
        outcome_of(spec, registry, "v7")


def test_the_command_shows_it(
    spec: ModelSpec, registry: Registry, version: Card, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(registry, "fail", "barred", "the bytes of v1 were taken back as v0")
    source = make.months(tmp_path / "data", 1)
    (tmp_path / "upkeep.yaml").write_text(
        f"metadata: {{name: toy}}\nstore: {tmp_path / 'store'}\ndata:\n  source: {source}\n"
        "  target: {column: label, positive: 'yes'}\n  features: {numeric: [size]}\n"
        "candidates:\n  - {name: one, strategy: retrain, estimator: sklearn.linear_model.LogisticRegression}\n"
    )

    def said(*words: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["versions", *words, "--spec", str(tmp_path / "upkeep.yaml")])
        assert stop.value.code == 0
        return capsys.readouterr().out

    text = " ".join(said("show", "v1").split())
    assert "taken back the update ended as fail: the card's verdict does not stand" in text
    assert "barred: the bytes of v1 were taken back as v0" in text
    shown = json.loads(said("show", "v1", "--output", "json"))
    assert (shown["version"], shown["verdict"]["verdict"]) == ("v1", "pass")
    assert (shown["outcome"]["verdict"], shown["outcome"]["taken_back"]) == ("fail", True)
