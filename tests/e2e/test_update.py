"""Whole updates by kfp.local, as a user runs them: from a table to a registered, proposed challenger."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

import upkeep
from upkeep.errors import ConflictError, DataError, IntegrityError, ModelError
from upkeep.evaluation.result import Evaluation
from upkeep.rollout.release import serving_now
from upkeep.store import open_store

ROOT = Path(__file__).parents[2]
UPKEEP = Path(sys.executable).parent / "upkeep"

SPEC = """\
metadata: {name: churn, description: "Will the customer leave?"}
store: store
data:
  source: data
  period: month
  id: id
  target: {column: left, positive: true}
  features: {numeric: [age, spend], categorical: [plan]}
  slices: [plan]
  split: {held_out: 30%}
drift: {classifier_rows: 1500}
candidates:
  - name: logistic
    strategy: retrain
    estimator: sklearn.linear_model.LogisticRegression
  - name: online
    strategy: incremental
    estimator: sklearn.linear_model.SGDClassifier
    params: {loss: log_loss}
  - {name: vote, strategy: ensemble, members: [logistic, online]}
gate:
  better: {metric: accuracy, by: 0.01}
  old: {worse_by_at_most: 1.0}
"""
ONE = SPEC.partition("  - name: online")[0] + "explain: {curves: 0}\ngate:" + SPEC.partition("gate:")[2]
"""The spec with its first candidate only, which is not trained again for curves."""


def month(folder: Path, name: str, *, slope: float, seed: int, rows: int = 900, file: str = "rows.parquet") -> Path:
    """A month whose customers leave by age (``slope`` > 0: the old; < 0: the young) and spend."""
    draw = np.random.default_rng(seed)
    age, spend = draw.normal(size=rows), draw.normal(size=rows)
    plan = draw.choice(["free", "basic", "pro"], size=rows, p=[0.6, 0.35, 0.05])
    chance = 1 / (1 + np.exp(-(2.5 * slope * age + 0.5 * spend + (plan == "free"))))
    table = pd.DataFrame(
        {
            "id": [f"{name}-{file[:1]}-{number}" for number in range(rows)],
            "age": age,
            "spend": np.where(draw.random(rows) < 0.02, np.nan, spend),
            "plan": plan,
            "left": draw.random(rows) < chance,
        }
    )
    path = folder / "data" / f"period={name}" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path, index=False)
    return path


def cli(folder: Path, *words: str) -> tuple[int, str, str]:
    done = subprocess.run([UPKEEP, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def answer(folder: Path, *words: str) -> Any:
    """The JSON that a command prints."""
    code, out, error = cli(folder, *words, "--output", "json")
    assert code == 0, error
    return json.loads(out)


@pytest.mark.slow
def test_the_life_of_a_model(tmp_path: Path) -> None:
    """First champion, no news, a changed world, a challenger, and what is left behind."""
    (tmp_path / "upkeep.yaml").write_text(SPEC)
    month(tmp_path, "2024-01", slope=1, seed=1)
    month(tmp_path, "2024-02", slope=1, seed=2)
    checked = answer(tmp_path, "check")
    assert checked["ok"] is True
    assert checked["rows"]["read"] == 1800

    first = answer(tmp_path, "run")
    assert (first["verdict"]["verdict"], first["outcome"], first["version"]) == ("pass", "first", "v1")
    page = Path(first["page"]).read_text()
    assert "<script" not in page
    assert "churn" in page

    # the young leave now, no longer the old
    month(tmp_path, "2024-03", slope=-1, seed=3)
    month(tmp_path, "2024-04", slope=-1, seed=4)
    report = answer(tmp_path, "drift", "--period", "2024-03")
    assert report["decay"]["finding"] == "decay"
    assert report["decay"]["concept_drift"] == "yes"

    second = answer(tmp_path, "run")
    assert (second["verdict"]["verdict"], second["outcome"], second["version"]) == ("pass", "proposed", "v2")
    assert "decay" in second["drift"].lower() or "error" in second["drift"].lower()
    spec = upkeep.load_spec(tmp_path / "upkeep.yaml")
    serving = serving_now(spec)
    assert serving.champion is not None
    assert serving.canary is not None
    assert (serving.champion.version, serving.canary.version, serving.weight) == ("v1", "v2", 0)
    log = subprocess.run(
        ["git", "--git-dir", spec.rollout.repository, "log", "--format=%B"], capture_output=True, text=True, check=True
    ).stdout
    assert "Upkeep-Version: v2" in log
    assert "Upkeep-Verdict: pass" in log

    listed = upkeep.versions(spec)
    assert [card.version for card in listed.cards] == ["v2", "v1"]
    assert (listed.champion, listed.canary) == ("v1", "v2")
    card = upkeep.version(spec, "v2")
    assert card.trained.until == "2024-04"
    assert card.champion == "v1"
    assert card.dataset is not None
    assert card.rows["held_out"] > 0
    assert upkeep.verify(spec, "v2") == ()
    assert any(field.startswith("trained") for field, _, _ in upkeep.diff(spec, "v1", "v2"))
    for words in (("list",), ("show", "v2"), ("verify", "v2"), ("diff", "v1", "v2")):
        code, out, error = cli(tmp_path, "versions", *words)
        assert code == 0, error
        assert out.strip()
    assert "not the same" in " ".join(out.split())  # the two were scored on other rows

    # a flipped byte is found, by name
    folder = Path(spec.store) / "churn" / "models" / card.digest
    victim = next(path for path in sorted(folder.rglob("*")) if path.is_file() and path.name.endswith(".skops"))
    victim.chmod(0o644)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    code, _, error = cli(tmp_path, "versions", "verify", "v2")
    assert code == 1
    assert victim.name in error


def test_a_changed_file_and_a_failing_candidate_stop_with_the_steps_own_words(tmp_path: Path) -> None:
    two = SPEC.replace("  - {name: vote, strategy: ensemble, members: [logistic, online]}\n", "")
    (tmp_path / "upkeep.yaml").write_text(two.replace("params: {loss: log_loss}", "params: {loss: hinge}"))
    path = month(tmp_path, "2024-01", slope=1, seed=1)
    code, out, error = cli(tmp_path, "run")
    assert code == 2
    assert "online" in error
    assert "→" in error
    assert out == ""
    assert upkeep.versions(tmp_path / "upkeep.yaml").cards == ()

    (tmp_path / "upkeep.yaml").write_text(two)
    month(tmp_path, "2024-01", slope=1, seed=9)
    with pytest.raises(DataError, match=path.name):
        upkeep.run(tmp_path / "upkeep.yaml")


def test_one_update_of_a_model_at_a_time(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from upkeep.registry.registry import Registry

    (tmp_path / "upkeep.yaml").write_text(SPEC)
    month(tmp_path, "2024-01", slope=1, seed=1)
    spec = upkeep.load_spec(tmp_path / "upkeep.yaml")
    registry = Registry(open_store(spec.store, spec.object_store), spec.name)
    with (
        registry.lock("somebody", now=lambda: datetime.now(UTC), seconds=60),
        pytest.raises(ConflictError, match="somebody"),
    ):
        upkeep.run(spec)


def load_module(path: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_textbook_script_and_upkeep_give_the_same_accuracies_to_the_last_digit(tmp_path: Path) -> None:
    example = ROOT / "examples/basics"
    load_module(example / "make_data.py").write(tmp_path / "work/data")
    expected = load_module(example / "script.py").main(tmp_path / "work/data")
    (tmp_path / "upkeep.yaml").write_text((example / "upkeep.yaml").read_text())

    new = tmp_path / "work/data/2-new.csv"
    later = new.rename(tmp_path / "later.csv")
    first = upkeep.run(tmp_path / "upkeep.yaml")
    assert first.version == "v1"
    later.rename(new)
    second = upkeep.run(tmp_path / "upkeep.yaml")

    evaluation = evaluation_of(tmp_path, second.update)
    assert evaluation.scores["champion"]["all"].metrics["accuracy"] == expected["old"]
    assert evaluation.scores["candidate"]["all"].metrics["accuracy"] == expected["new"]
    assert evaluation.scores["candidate"]["all"].rows == 40


def evaluation_of(folder: Path, update: str) -> Evaluation:
    from upkeep import records

    path = folder / "work/store/basics/updates" / update / "evaluation.json"
    return records.read(Evaluation, path)


@pytest.mark.slow
def test_an_adopted_model_is_version_1_and_judged_only_after_its_cut_off(
    tmp_path: Path, adopted_pipeline: Callable[[pd.DataFrame, Any], Any]
) -> None:
    import skops.io

    (tmp_path / "upkeep.yaml").write_text(ONE)
    table = pd.read_parquet(month(tmp_path, "2024-01", slope=1, seed=1))
    pipeline = adopted_pipeline(table[["age", "spend", "plan"]], table["left"])
    (tmp_path / "model.skops").write_bytes(skops.io.dumps(pipeline))
    done = answer(tmp_path, "adopt", "model.skops", "--trained-until", "2024-01")
    assert done["version"] == "v1"
    serving = serving_now(upkeep.load_spec(tmp_path / "upkeep.yaml"))
    assert serving.champion is not None
    assert serving.champion.digest == done["digest"]

    code, _, error = cli(tmp_path, "adopt", "model.skops")
    assert code == 2
    assert "v1" in error

    month(tmp_path, "2024-02", slope=-1, seed=2)
    month(tmp_path, "2024-03", slope=-1, seed=3)
    judged = answer(tmp_path, "run")
    assert (judged["verdict"]["verdict"], judged["version"]) == ("pass", "v2")
    assert judged["champion"] == "v1"


@pytest.fixture
def adopted_pipeline() -> Callable[[pd.DataFrame, Any], Any]:
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    def fit(X: pd.DataFrame, y: Any) -> Any:
        columns = make_column_transformer(
            (SimpleImputer(), ["age", "spend"]), (OneHotEncoder(handle_unknown="ignore"), ["plan"])
        )
        return make_pipeline(columns, LogisticRegression()).fit(X, y)

    return fit


def test_a_pickled_model_is_never_loaded(tmp_path: Path) -> None:
    import pickle

    (tmp_path / "upkeep.yaml").write_text(SPEC)
    month(tmp_path, "2024-01", slope=1, seed=1)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ModelError, match="pickle"):
        upkeep.adopt(tmp_path / "upkeep.yaml", tmp_path / "model.pkl")


def test_a_spec_that_was_edited_in_the_store_is_refused(tmp_path: Path) -> None:
    from upkeep.update.context import open_context

    (tmp_path / "upkeep.yaml").write_text(SPEC)
    store = open_store(str(tmp_path / "store"))
    store.put("churn/specs/abc.json", b"{}")
    with pytest.raises(IntegrityError, match="not the one"):
        open_context(spec=f"{store.uri}/churn/specs/abc.json", spec_digest="abc", step="train", update="u")
