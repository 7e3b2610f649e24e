"""What a fine_tune candidate does beyond what every strategy owes (tests/contract/test_strategies.py)."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tensorflow import keras_make as make
from upkeep.data.kinds import Column, Kind
from upkeep.errors import IntegrityError, ModelError, SpecError
from upkeep.models import keras_file, keras_runtime
from upkeep.models.folder import folder_digest, load
from upkeep.models.keras_folder import save_keras
from upkeep.spec.model import (
    Distill,
    EarlyStopping,
    Features,
    FineTune,
    Lora,
    Network,
    Optimizer,
    Outliers,
    Preprocess,
    Search,
    SearchSpace,
    TrainedLayers,
)
from upkeep.training.keras.features import fit_features
from upkeep.training.keras.loop import rate_at
from upkeep.training.task import TrainingResult, TrainingTask
from upkeep.training.train import refit, train


def run(task: TrainingTask, out: Path) -> TrainingResult:
    return train(task, out / "model", out / "state")


def pinned(tmp_path: Path, model: Any) -> dict[str, Any]:
    path = tmp_path / "base.keras"
    path.write_bytes(keras_file.dump(model))
    return {"base": str(path), "digest": hashlib.sha256(path.read_bytes()).hexdigest()}


TWO = Features(numeric=("size",), categorical=("colour",))


def test_a_base_file_is_taken_with_its_answers_or_gets_a_new_layer(tmp_path: Path) -> None:
    same = run(make.task(tmp_path, make.tuned(**pinned(tmp_path, make.network())), features=TWO), tmp_path / "same")
    assert any("taken as no, yes" in note for note in same.notes)
    three = make.tuned(**pinned(tmp_path, make.network(3)))
    other = run(make.task(tmp_path, three, features=make.FEATURES), tmp_path / "other")
    assert any("does not take weight, flag, time" in note for note in other.notes)
    assert any("new layer for 2 classes" in note for note in other.notes)
    rows = pa.table({"size": [1.0], "weight": [None], "colour": ["red"], "flag": ["x"], "time": [None]})
    assert load(tmp_path / "other" / "model").predict_proba(rows).shape == (1, 2)


def test_a_model_folder_is_a_base_too(tmp_path: Path) -> None:
    save_keras(tmp_path / "base", make.network(), make.manifest())
    candidate = make.tuned(base=str(tmp_path / "base"), digest=folder_digest(tmp_path / "base"))
    result = run(make.task(tmp_path, candidate, features=TWO), tmp_path)
    assert result.notes == ()


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"digest": "0" * 64}, IntegrityError, "hash to"),
        ({"base": "/nowhere/base.keras"}, ModelError, "there is no base"),
    ],
)
def test_a_base_that_is_not_the_pinned_one_is_refused(
    tmp_path: Path, change: dict[str, str], kind: type[Exception], says: str
) -> None:
    candidate = make.tuned(**{**pinned(tmp_path, make.network()), **change})
    with pytest.raises(kind, match=says):
        run(make.task(tmp_path, candidate, features=TWO), tmp_path)
    assert not (tmp_path / "model").exists()


def test_only_the_chosen_layers_learn(tmp_path: Path) -> None:
    base = pinned(tmp_path, make.network())
    before = {v.path: v.numpy() for v in make.network().variables}
    moved: dict[str, set[str]] = {}
    for name, chosen in {
        "all": TrainedLayers(),
        "last": TrainedLayers(last=1),
        "named": TrainedLayers(layers=("embed",)),
        "lora": TrainedLayers(lora=Lora(rank=1, layers=("hidden",))),
    }.items():
        result = run(make.task(tmp_path, make.tuned(**base, train=chosen), features=TWO), tmp_path / name)
        after = keras_file.load(tmp_path / name / "model" / "model.keras")
        moved[name] = {v.path for v in after.variables if not np.array_equal(v.numpy(), before[v.path])}
        assert all(layer.trainable for layer in after.layers)
        assert 0 < result.params["trained_parameters"] <= result.params["parameters"]
    assert moved["all"] == set(before)
    assert moved["last"] == {"last/kernel", "last/bias"}
    assert moved["named"] == {"embed/embeddings", "last/kernel", "last/bias"}
    assert moved["lora"] == {"hidden/kernel", "last/kernel", "last/bias"}
    change = keras_file.load(tmp_path / "lora" / "model" / "model.keras").get_layer("hidden").kernel.numpy()
    assert np.linalg.matrix_rank(change - before["hidden/kernel"], tol=1e-6) == 1


def test_a_layer_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    candidate = make.tuned(**pinned(tmp_path, make.network()), train=TrainedLayers(layers=("hiden",)))
    with pytest.raises(SpecError, match="no layer hiden") as raised:
        run(make.task(tmp_path, candidate, features=TWO), tmp_path)
    assert "embed, hidden, last" in raised.value.problems[0].fix


def test_from_the_champion_and_taught_by_it(tmp_path: Path) -> None:
    champion = run(make.task(tmp_path, make.tuned()), tmp_path / "champion")
    members = {"champion": tmp_path / "champion" / "model"}
    from_it = make.tuned(base="champion", epochs=1, optimizer=Optimizer(rate=1e-9))
    result = run(make.task(tmp_path, from_it, members=members), tmp_path / "next")
    assert result.curve[0].loss < champion.curve[0].loss  # it starts where the champion ended
    nobody = run(make.task(tmp_path, from_it), tmp_path / "nobody")
    assert any("no champion" in note for note in nobody.notes)

    rows = make.task(tmp_path, make.tuned()).prepared.table(parts=("held_out",))
    wanted = load(members["champion"]).predict_proba(rows)
    apart = {}
    for weight in (0.01, 0.99):
        taught = make.tuned(distill=Distill(weight=weight), epochs=5)
        run(make.task(tmp_path, replace(taught), members=members), tmp_path / f"taught-{weight}")
        apart[weight] = np.abs(load(tmp_path / f"taught-{weight}" / "model").predict_proba(rows) - wanted).mean()
    assert apart[0.99] < apart[0.01]


def test_a_champion_of_other_columns_or_kind_is_left_alone(tmp_path: Path) -> None:
    save_keras(tmp_path / "other", make.network(), replace(make.manifest(), columns=make.OTHER_COLUMNS))
    members = {"champion": tmp_path / "other"}
    candidate = make.tuned(base="champion", network=Network(hidden=(4,)), distill=Distill(), epochs=1)
    result = run(make.task(tmp_path, candidate, members=members), tmp_path)
    assert [note for note in result.notes if "age" in note and "started from nothing" in note]
    assert [note for note in result.notes if "age" in note and "labels alone" in note]


def test_a_teacher_may_take_columns_that_the_base_does_not(tmp_path: Path) -> None:
    run(make.task(tmp_path, make.tuned(epochs=1)), tmp_path / "champion")
    members = {"champion": tmp_path / "champion" / "model"}
    candidate = make.tuned(**pinned(tmp_path, make.network()), distill=Distill(), epochs=1)
    assert run(make.task(tmp_path, candidate, members=members), tmp_path / "next").curve


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_learns_and_is_kept_in_float32(tmp_path: Path, precision: Any) -> None:
    result = run(make.task(tmp_path, make.tuned(precision=precision, epochs=6)), tmp_path)
    assert result.curve[-1].loss < result.curve[0].loss
    kept = keras_file.load(tmp_path / "model" / "model.keras")
    assert {layer.compute_dtype for layer in kept.layers if layer.weights} == {"float32"}


@pytest.mark.parametrize("action", ["clip", "flag", "drop"])
def test_preprocessing_lives_in_the_model(tmp_path: Path, action: Any) -> None:
    settings = Preprocess(
        outliers=Outliers(method="iqr", action=action, factor=1.0),
        scale="robust",
        impute_categorical="most_frequent",
        max_categories=2,
        dates=("hour", "month", "year"),
    )
    result = run(make.task(tmp_path, make.tuned(), preprocess=settings), tmp_path)
    assert result.curve[-1].loss < result.curve[0].loss
    rows = pa.table(
        {"size": [None, 1e308], "weight": [0.1, None], "colour": [None, "new"], "flag": ["true", None],
         "time": pa.array([None, 0], pa.timestamp("us", tz="UTC"))}
    )  # fmt: skip
    assert np.isfinite(load(tmp_path / "model").predict_proba(rows)).all()


@pytest.mark.parametrize("kind", ["numeric", "categorical", "datetime"])
def test_columns_of_one_kind_are_enough(tmp_path: Path, kind: Kind) -> None:
    make.task(tmp_path, make.tuned())  # writes the data
    names = getattr(make.FEATURES, kind)
    table = pq.read_table(next((tmp_path / "data").rglob("*.parquet"))).select(names)
    rows = table.append_column("_row", pa.array(range(table.num_rows), pa.uint64()))
    found = fit_features(rows.to_batches(), [Column(name=name, kind=kind) for name in names], make.PLAIN)
    assert (found.numbers is not None, found.dates is not None, bool(found.texts)) == (
        kind == "numeric",
        kind == "datetime",
        kind == "categorical",
    )


def test_early_stopping_keeps_the_best_weights(tmp_path: Path) -> None:
    stopping = EarlyStopping(share=0.3, patience=2)
    wild = make.tuned(early_stopping=stopping, epochs=30, optimizer=Optimizer(rate=0.3))
    result = run(make.task(tmp_path, wild), tmp_path)
    watched = [epoch.watched for epoch in result.curve]
    assert len(watched) < 30
    shares = [epoch.accuracy for epoch in result.curve]
    assert all(share is not None and 0.5 < share <= 1 for share in shares)
    assert watched.index(min(watched)) == len(watched) - 3  # type: ignore[type-var]


def test_steps_are_capped_and_a_loss_that_is_no_number_is_told(tmp_path: Path) -> None:
    result = run(make.task(tmp_path, make.tuned(max_steps=4)), tmp_path / "capped")
    assert result.curve[-1].steps == 4
    wild = make.tuned(optimizer=Optimizer(kind="sgd", rate=1e38), epochs=30)
    with pytest.raises(ModelError, match="no number any more"):
        run(make.task(tmp_path, wild), tmp_path / "wild")


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("constant", [0.5, 1, 1, 1]), ("linear", [0.5, 1, 1, 0.5]), ("cosine", [0.5, 1, 1, 0.5])],
)
def test_the_rate_rises_and_falls(schedule: Any, rates: list[float]) -> None:
    settings = Optimizer(rate=1.0, schedule=schedule, warm_up=0.5)
    found = [rate_at(step, 4, settings) for step in range(4)]
    np.testing.assert_allclose(found, rates)


def test_a_search_finds_settings_ends_bad_trials_and_is_kept_in_the_state(tmp_path: Path) -> None:
    space = {"optimizer.rate": SearchSpace(choices=(1e-7, 0.05)), "network.hidden": SearchSpace(choices=((4,), (6,)))}
    candidate = make.tuned(search=Search(space=space, trials=6, folds=2), epochs=2)
    task = make.task(tmp_path, candidate, until="2024-02")
    result = run(task, tmp_path / "first")
    assert result.params["optimizer.rate"] == 0.05
    assert len(result.trials) == 6
    assert any("ended early" in trial.failed for trial in result.trials)
    later = run(make.task(tmp_path, candidate, state=tmp_path / "first" / "state"), tmp_path / "later")
    assert later.warm_started
    assert later.trials == ()
    assert later.params["optimizer.rate"] == 0.05


def test_a_point_of_a_learning_curve(tmp_path: Path) -> None:
    task = make.task(tmp_path, make.tuned())
    half = refit(task, params={}, fraction=0.5)
    whole = refit(task, params={})
    assert half is not None
    assert whole is not None
    assert 0 < half[1] < whole[1] == task.prepared.count(parts=("train",))
    assert half[0].predict_proba(task.prepared.table(parts=("held_out",))).shape[1] == 2


class Memory:
    def __init__(self) -> None:
        self.saved: list[bytes] = []

    def read(self) -> bytes | None:
        return self.saved[-1] if self.saved else None

    def write(self, data: bytes) -> None:
        self.saved.append(data)


LONG: dict[str, Any] = {
    "network": Network(hidden=(6,), dropout=0.2),
    "epochs": 4,
    "batch_rows": 8,
    "checkpoint": 1e-6,
    "early_stopping": EarlyStopping(),
    "unfreeze": 2,
}


def test_from_any_checkpoint_it_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    task = make.task(tmp_path, make.tuned(**LONG))
    undisturbed = run(task, tmp_path / "undisturbed")
    memory = Memory()
    assert replace(run(replace(task, checkpoints=memory), tmp_path / "saved"), seconds=0) == replace(
        undisturbed, seconds=0
    )
    assert len(memory.saved) > 4
    for number in (0, len(memory.saved) - 1):
        broken = Memory()
        broken.saved = [memory.saved[number]]
        again = run(replace(task, checkpoints=broken), tmp_path / f"again-{number}")
        assert replace(again, seconds=0) == replace(undisturbed, seconds=0)
        assert folder_digest(tmp_path / f"again-{number}") == folder_digest(tmp_path / "undisturbed")
        assert len(broken.saved) < len(memory.saved) + 1 - number
    strange = Memory()
    strange.saved = [memory.saved[-1]]
    other = run(replace(task, seed=6, checkpoints=strange), tmp_path / "other")  # another training's is as none
    assert other.curve == run(replace(task, seed=6), tmp_path / "other-alone").curve
    strange.saved = [b"torn"]
    assert run(replace(task, checkpoints=strange), tmp_path / "torn").curve == undisturbed.curve


def test_killed_it_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    task = make.task(tmp_path, make.tuned(**LONG))
    undisturbed = run(task, tmp_path / "undisturbed")
    place = tmp_path / "checkpoint"
    command = [sys.executable, "-m", "tests.tensorflow.train_slowly", str(tmp_path), str(place), str(tmp_path / "out")]
    child = subprocess.Popen(command, env={**os.environ, "PYTHONHASHSEED": "0"}, stderr=subprocess.PIPE, text=True)
    ends = time.monotonic() + 120
    while not place.exists() and child.poll() is None and time.monotonic() < ends:
        time.sleep(0.05)
    time.sleep(0.3)
    child.send_signal(signal.SIGKILL)
    _, said = child.communicate()
    assert child.returncode == -signal.SIGKILL, said
    assert not (tmp_path / "out").exists()
    memory = Memory()
    memory.saved = [place.read_bytes()]
    resumed = run(replace(task, checkpoints=memory), tmp_path / "resumed")
    assert replace(resumed, seconds=0) == replace(undisturbed, seconds=0)
    assert folder_digest(tmp_path / "resumed") == folder_digest(tmp_path / "undisturbed")


def test_without_tensorflow_a_spec_and_a_training_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upkeep.training.keras.fine_tune.installed", lambda: False)
    with pytest.raises(SpecError, match="TensorFlow is not installed") as raised:
        run(make.task(tmp_path, make.tuned()), tmp_path)
    assert keras_runtime.FIX in raised.value.problems[0].fix


def test_a_scikit_learn_training_imports_no_tensorflow(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom tests.unit.data import make\nfrom upkeep.training.task import TrainingTask\n"
        "from upkeep.training.train import train\n"
        "root = pathlib.Path(sys.argv[1])\nspec = make.spec(make.months(root / 'data', rows=60))\n"
        "task = TrainingTask(candidate=spec.candidates[0], spec=spec, prepared=make.prepared(root, spec), seed=1)\n"
        "train(task, root / 'model', root / 'state')\n"
        "sys.stdout.write(','.join(name for name in ('tensorflow', 'keras', 'h5py') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_progress_says_rate_and_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from upkeep.training.keras import loop

    ticks = iter(range(10_000))
    monkeypatch.setattr(loop.learn, "__kwdefaults__", {**loop.learn.__kwdefaults__, "now": lambda: float(next(ticks))})
    said: list[str] = []
    candidate: FineTune = make.tuned(batch_rows=4)
    run(make.task(tmp_path, candidate, progress=lambda text, share=None: said.append(text)), tmp_path)
    assert any("epoch 1 of 3" in text and "rows/s" in text and "s left" in text for text in said)
