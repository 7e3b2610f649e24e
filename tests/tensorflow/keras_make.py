"""Small networks, specs and tasks."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tests.unit.data import make
from upkeep import records
from upkeep.data.kinds import Column
from upkeep.models.keras_runtime import keras
from upkeep.models.manifest import Manifest
from upkeep.spec.model import Features, FineTune, Network, Optimizer, Preprocess
from upkeep.training.task import TrainingTask

FEATURES = Features(numeric=("size", "weight"), categorical=("colour", "flag"), datetime=("time",))
PLAIN = Preprocess()
COLUMNS = (Column(name="size", kind="numeric"), Column(name="colour", kind="categorical"))

OTHER_COLUMNS = (*COLUMNS, Column(name="age", kind="numeric"))


def manifest(classes: tuple[Any, ...] = ("no", "yes")) -> Manifest:
    return Manifest(format="keras", columns=COLUMNS, classes=classes, positive=None, libraries={})


def network(classes: int = 2, *, extra: Any = None, seed: int = 1) -> Any:
    """A ``keras.Model`` of size and colour that Upkeep did not build; ``extra`` is put before the last layer."""
    K = keras()
    K.utils.set_random_seed(seed)
    size, colour = K.Input((1,), name="size"), K.Input((1,), name="colour", dtype="string")
    places = K.layers.StringLookup(vocabulary=["red", "green"], mask_token=None, name="look")(colour)
    embedded = K.layers.Flatten(name="flat")(K.layers.Embedding(3, 2, name="embed")(places))
    hidden = K.layers.Dense(4, activation="relu", name="hidden")(K.layers.Concatenate(name="join")([size, embedded]))
    if extra is not None:
        hidden = extra(hidden)
    answers = K.layers.Dense(classes, activation="softmax", name="last")(hidden)
    return K.Model({"size": size, "colour": colour}, answers, name="theirs")


def tuned(**fields: Any) -> FineTune:
    settings: dict[str, Any] = {
        "network": None if fields.get("base") else Network(hidden=(6,)),
        "optimizer": Optimizer(rate=0.02),
        "epochs": 3,
        "batch_rows": 64,
    }
    return FineTune(name="net", strategy="fine_tune", **{**settings, **fields})


def task(
    tmp_path: Path, candidate: FineTune, *, preprocess: Preprocess = PLAIN, until: str | None = None,
    features: Features = FEATURES, **fields: Any,
) -> TrainingTask:  # fmt: skip
    source = tmp_path / "data"
    if not source.exists():
        make.months(source, rows=150)
    spec = replace(make.spec(source, candidates=(candidate,), features=features), preprocess=preprocess)
    out = tmp_path / f"prepared-{until}-{records.digest(records.to_json([asdict(preprocess), asdict(features)]))[:8]}"
    prepared = make.Prepared(out) if out.exists() else make.prepared(tmp_path, spec, until=until, out=out)
    return TrainingTask(candidate=candidate, spec=spec, prepared=prepared, seed=5, **fields)
