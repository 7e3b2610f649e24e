"""What every strategy owes, ours and the user's own: one suite for all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.data import make
from upkeep.data.prepared import Prepared
from upkeep.data.split import choose_half
from upkeep.models import keras_runtime
from upkeep.models.folder import folder_digest, load, read_manifest
from upkeep.spec.model import (
    Candidate,
    Custom,
    EarlyStopping,
    Ensemble,
    Features,
    FineTune,
    Incremental,
    Lora,
    ModelSpec,
    Network,
    Optimizer,
    Outliers,
    Preprocess,
    Retrain,
    TrainedLayers,
)
from upkeep.training.order import training_order
from upkeep.training.task import TrainingResult, TrainingTask
from upkeep.training.train import train

LINEAR, TREES = "sklearn.linear_model", "sklearn.ensemble"
NETWORKS: tuple[Candidate, ...] = (
    FineTune(
        name="tuned",
        strategy="fine_tune",
        network=Network(hidden=(8,), dropout=0.1),
        optimizer=Optimizer(rate=0.02),
        epochs=6,
        batch_rows=64,
    ),
    FineTune(
        name="watched",
        strategy="fine_tune",
        network=Network(hidden=(8, 4)),
        optimizer=Optimizer(kind="sgd", rate=0.1, momentum=0.9, schedule="cosine", warm_up=0.1, clip_norm=1.0),
        epochs=8,
        batch_rows=64,
        early_stopping=EarlyStopping(share=0.15, patience=2),
        class_weight="balanced",
        unfreeze=1,
    ),
    FineTune(  # its base is the network `tuned`
        name="adapted",
        strategy="fine_tune",
        train=TrainedLayers(lora=Lora(rank=2, layers=("hidden_1",))),
        keep="delta",
        optimizer=Optimizer(rate=0.02),
        epochs=3,
        batch_rows=64,
    ),
    FineTune(  # its base is a small backbone
        name="reading",
        strategy="fine_tune",
        text="colour",
        train=TrainedLayers(lora=Lora(rank=2)),
        keep="delta",
        optimizer=Optimizer(rate=0.05),
        epochs=2,
        batch_rows=64,
    ),
    Ensemble(name="vote-across", strategy="ensemble", members=("logistic", "adapted", "champion")),
    Ensemble(name="stack-across", strategy="ensemble", members=("tuned", "online"), method="stacking"),
)
TENSORFLOW = keras_runtime.installed()
FLOAT32 = {"tuned", "watched", "adapted", "reading", "vote-across", "stack-across"}
"""Candidates that answer, or whose members answer, in float32."""
CLASSICAL: tuple[Candidate, ...] = (
    Retrain(name="logistic", strategy="retrain", estimator=f"{LINEAR}.LogisticRegression"),
    Retrain(
        name="boosting",
        strategy="retrain",
        estimator=f"{TREES}.HistGradientBoostingClassifier",
        params={"max_iter": 5},
        window=2,
    ),
    Retrain(name="forest", strategy="retrain", estimator=f"{TREES}.RandomForestClassifier", params={"n_estimators": 5}),
    Retrain(name="bayes", strategy="retrain", estimator="sklearn.naive_bayes.GaussianNB"),
    Retrain(name="neighbours", strategy="retrain", estimator="sklearn.neighbors.KNeighborsClassifier"),
    Incremental(
        name="online", strategy="incremental", estimator=f"{LINEAR}.SGDClassifier", params={"loss": "log_loss"}
    ),
    Incremental(
        name="network",
        strategy="incremental",
        estimator="sklearn.neural_network.MLPClassifier",
        params={"hidden_layer_sizes": [4]},
        epochs=2,
    ),
    Ensemble(name="vote", strategy="ensemble", members=("logistic", "boosting", "champion"), weights=(1.0, 2.0, 1.0)),
    Ensemble(name="stack", strategy="ensemble", members=("vote", "online"), method="stacking"),
    Custom(
        name="theirs",
        strategy="custom",
        function="tests.contract.strategies:through_the_spec",
        params={"max_depth": 4},
    ),
    Custom(name="by-hand", strategy="custom", function="tests.contract.strategies:all_by_hand"),
)
CANDIDATES = CLASSICAL + (NETWORKS if TENSORFLOW else ())
NAMES = [candidate.name for candidate in CANDIDATES]
without_tensorflow = pytest.mark.skipif(not TENSORFLOW, reason="TensorFlow is not installed: make setup-tensorflow")
EACH = [candidate.name for candidate in CLASSICAL] + [
    pytest.param(candidate.name, marks=without_tensorflow) for candidate in NETWORKS
]


def tolerance(name: str) -> float:
    return 1e-6 if name in FLOAT32 else 1e-12


@dataclass(frozen=True)
class World:
    spec: ModelSpec
    prepared: Prepared
    root: Path

    def task(self, name: str, **changes: object) -> TrainingTask:
        candidate = next(candidate for candidate in self.spec.candidates if candidate.name == name)
        members = {other: self.model(other) for other in getattr(candidate, "members", ()) if other != "champion"}
        task = TrainingTask(
            candidate=candidate,
            spec=self.spec,
            prepared=self.prepared,
            seed=3,
            members={**members, "champion": self.model("bayes")} if members else {},
        )
        return replace(task, **changes)  # type: ignore[arg-type]

    def model(self, name: str) -> Path:
        return self.root / "models" / name

    def state(self, name: str) -> Path:
        return self.root / "states" / name


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("strategies")
    source = make.months(root / "data", rows=250)
    spec = make.spec(
        source,
        candidates=CANDIDATES,
        time="time",
        features=Features(numeric=("size", "weight"), categorical=("colour", "flag"), datetime=("time",)),
    )
    spec = replace(spec, preprocess=Preprocess(outliers=Outliers(method="quantile", action="clip")))
    world = World(spec, make.prepared(root, spec), root)
    return _with_bases(world) if TENSORFLOW else world


def _with_bases(world: World) -> World:
    """The candidates that adapt something get it."""
    from tests.contract.strategies import backbone

    backbone(world.root / "backbone", ["red", "green", "blue"])
    train(world.task("tuned"), world.root / "trained", world.root / "trained-state")
    bases = {"adapted": world.root / "trained", "reading": world.root / "backbone"}
    candidates = tuple(
        replace(each, base=str(bases[each.name]), digest=folder_digest(bases[each.name]))
        if isinstance(each, FineTune) and each.name in bases
        else each
        for each in world.spec.candidates
    )
    return replace(world, spec=replace(world.spec, candidates=candidates))


@pytest.fixture(scope="module")
def results(world: World) -> dict[str, TrainingResult]:
    order = training_order(world.spec.candidates)
    return {name: train(world.task(name), world.model(name), world.state(name)) for name in order}


@pytest.fixture(scope="module")
def rows(world: World) -> pa.Table:
    """Held-out rows, with a null and an unseen category in every column that can have them."""
    names = [column.name for column in world.prepared.summary.columns]
    table = world.prepared.table(parts=("held_out",), columns=names)
    for column in world.prepared.summary.columns:
        table = make.replace_value(table, column.name, 0, None)
        if column.kind == "categorical":
            table = make.replace_value(table, column.name, 1, "never seen")
    return table


def test_results_say_what_was_done(world: World, results: dict[str, TrainingResult]) -> None:
    for name, result in results.items():
        assert result.candidate == name
        assert result.seconds > 0
        assert not result.warm_started
        assert set(result.periods) <= set(world.prepared.periods)
    train_rows = world.prepared.count(parts=("train",))
    assert results["logistic"].rows == results["online"].rows == results["theirs"].rows == train_rows
    assert results["boosting"].periods == world.prepared.periods[-2:]
    assert results["boosting"].params["max_iter"] == 5
    assert results["vote"].params["weights"] == [1.0, 2.0, 1.0]


@pytest.mark.parametrize("name", EACH)
def test_same_inputs_give_the_same_bytes(
    world: World, results: dict[str, TrainingResult], name: str, tmp_path: Path
) -> None:
    again = train(world.task(name), tmp_path / "model", tmp_path / "state")
    assert folder_digest(tmp_path / "model") == folder_digest(world.model(name))
    assert replace(again, seconds=0.0) == replace(results[name], seconds=0.0)
    if world.state(name).exists():
        assert folder_digest(tmp_path / "state") == folder_digest(world.state(name))


def test_loads_in_a_fresh_process_to_the_same_answers(
    world: World, results: dict[str, TrainingResult], rows: pa.Table, tmp_path: Path
) -> None:
    pq.write_table(rows, tmp_path / "rows.parquet")
    code = (
        "import sys, pathlib, numpy as np, pyarrow.parquet as pq\n"
        "from upkeep.models.folder import load\n"
        "models, rows, out = map(pathlib.Path, sys.argv[1:4])\n"
        "for name in sys.argv[4:]:\n"
        "    np.save(out / f'{name}.npy', load(models / name).predict_proba(pq.read_table(rows)))\n"
    )
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code, world.root / "models", tmp_path / "rows.parquet", tmp_path, *NAMES],
        check=True,
        cwd=tmp_path,
    )
    for name in NAMES:
        here = load(world.model(name)).predict_proba(rows)
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), here, rtol=0, atol=tolerance(name))


@pytest.mark.parametrize("name", EACH)
def test_answers_raw_rows_nulls_and_unseen_categories_too(
    world: World, results: dict[str, TrainingResult], rows: pa.Table, name: str
) -> None:
    predictor = load(world.model(name))
    answers = predictor.predict_proba(rows)
    assert predictor.manifest.classes == ("no", "yes")
    assert read_manifest(world.model(name)).columns == world.prepared.summary.columns
    assert answers.shape == (rows.num_rows, 2)
    assert np.isfinite(answers).all()
    np.testing.assert_allclose(answers.sum(axis=1), 1.0, atol=1e-9)
    assert predictor.predict_proba(rows.slice(0, 0)).shape == (0, 2)
    for row in range(3):  # a row's answer does not depend on its company
        np.testing.assert_allclose(
            predictor.predict_proba(rows.slice(row, 1))[0], answers[row], rtol=0, atol=tolerance(name)
        )
    shuffled = rows.select(rows.column_names[::-1]).append_column("spare", pa.nulls(rows.num_rows))
    np.testing.assert_array_equal(predictor.predict_proba(shuffled), answers)


@pytest.mark.parametrize("name", EACH)
def test_learns_what_there_is_to_learn(
    world: World, results: dict[str, TrainingResult], rows: pa.Table, name: str
) -> None:
    """``yes`` is likelier with a large ``size``: the probabilities stand in the order of the manifest's classes."""
    answers = load(world.model(name)).predict_proba(rows)[2:, 1]
    size = rows.column("size").to_numpy()[2:]
    assert answers[size > 1].mean() > answers[size < -1].mean() + 0.1


@pytest.mark.parametrize("name", EACH)
def test_never_sees_a_row_that_it_must_not(
    world: World, results: dict[str, TrainingResult], name: str, tmp_path: Path
) -> None:
    stacking = name in ("stack", "stack-across")
    poisoned = _poison(world.prepared, tmp_path / "prepared", stacking=stacking)
    train(world.task(name, prepared=poisoned), tmp_path / "model", tmp_path / "state")
    assert folder_digest(tmp_path / "model") == folder_digest(world.model(name))


def _poison(prepared: Prepared, to: Path, *, stacking: bool) -> Prepared:
    """A copy in which every row that training must not see is absurd, with the wrong label."""
    shutil.copytree(prepared.path, to)
    for path in to.glob("rows/*/*.parquet"):
        rows = pq.ParquetFile(path).read()
        part = np.asarray(rows.column("_part").to_pylist())
        choosing = choose_half(rows.column("_group").to_numpy())
        hidden = np.isin(part, ["held_out", "kept_out"]) | ((part == "validation") & (choosing if stacking else True))
        assert 0 < hidden.sum() < len(hidden)
        pq.write_table(_absurd(rows, hidden), path)
    return Prepared(to)


def _absurd(rows: pa.Table, hidden: npt.NDArray[np.bool_]) -> pa.Table:
    def put(column: str, values: object) -> pa.Table:
        old = np.asarray(rows.column(column).to_pylist(), dtype=object)
        new = pa.array(np.where(hidden, values, old), rows.schema.field(column).type)
        return rows.set_column(rows.column_names.index(column), column, new)

    flipped = np.where(np.asarray(rows.column("label").to_pylist()) == "yes", "no", "yes").astype(object)
    for column, values in (
        ("size", 1e9),
        ("weight", -1e9),
        ("colour", "poison"),
        ("flag", "poison"),
        ("label", flipped),
    ):
        rows = put(column, values)
    return rows


@pytest.mark.parametrize(
    "name",
    [
        "online",
        "network",
        *(pytest.param(name, marks=without_tensorflow) for name in ("tuned", "watched", "adapted", "reading")),
    ],
)
def test_goes_on_from_its_state(world: World, name: str, tmp_path: Path) -> None:
    first = make.prepared(tmp_path, world.spec, until="2024-02", out=tmp_path / "first")
    begun = train(world.task(name, prepared=first), tmp_path / "model-1", tmp_path / "state-1")
    task = world.task(name, state=tmp_path / "state-1")
    ended = train(task, tmp_path / "model-2", tmp_path / "state-2")
    assert not begun.warm_started
    assert ended.warm_started
    assert ended.rows == world.prepared.count(parts=("train",))
    assert ended.periods == world.prepared.periods
    again = train(task, tmp_path / "model-3", tmp_path / "state-3")
    assert folder_digest(tmp_path / "model-3") == folder_digest(tmp_path / "model-2")
    assert folder_digest(tmp_path / "state-3") == folder_digest(tmp_path / "state-2")
    assert replace(again, seconds=0.0) == replace(ended, seconds=0.0)

    idle = train(replace(task, state=tmp_path / "state-2"), tmp_path / "model-4", tmp_path / "state-4")
    assert folder_digest(tmp_path / "model-4") == folder_digest(tmp_path / "model-2")
    assert folder_digest(tmp_path / "state-4") == folder_digest(tmp_path / "state-2")
    assert any("no new rows" in note for note in idle.notes)
