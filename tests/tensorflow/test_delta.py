"""A delta: what a network learned, kept beside the digest of the network that it stands on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from tests.tensorflow import keras_make as make
from tests.unit.registry.registry_fakes import SPEC, card
from upkeep.errors import IntegrityError, ModelError
from upkeep.models import keras_delta, keras_file
from upkeep.models.folder import folder_digest, folder_size, load, read_manifest
from upkeep.models.keras_folder import open_delta, save_keras, write_delta
from upkeep.models.manifest import Manifest
from upkeep.registry.registry import Registry
from upkeep.registry.verify import verify_served
from upkeep.spec.model import Features, FineTune, Lora, TrainedLayers
from upkeep.store import open_store
from upkeep.training.before import before
from upkeep.training.task import TrainingResult, TrainingTask
from upkeep.training.train import train

TWO = Features(numeric=("size",), categorical=("colour",))
ROWS = pa.table({"size": [0.5, 3.0, -2.0], "colour": ["red", "never seen", "green"]})
LORA = TrainedLayers(lora=Lora(rank=1, layers=("hidden",)))


def tuned(root: Path, **fields: Any) -> FineTune:
    """On the model folder ``root/base``."""
    if not (root / "base").exists():
        save_keras(root / "base", make.network(), make.manifest())
    pinned = {"base": str(root / "base"), "digest": folder_digest(root / "base")}
    return make.tuned(**{**pinned, "train": LORA, "keep": "delta", **fields})


def run(task: TrainingTask, out: Path) -> TrainingResult:
    return train(task, out / "model", out / "state")


def trained(root: Path, out: str = "first", until: str | None = None, **fields: Any) -> Path:
    task = make.task(root, tuned(root, **fields), features=TWO, until=until)
    run(task, root / out)
    return root / out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("made"), epochs=2)


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    """A delta's folder, its base below it."""
    return Path(shutil.copytree(made / "model", tmp_path / "model"))


def answers(folder: Path) -> npt.NDArray[np.float64]:
    return load(folder).predict_proba(ROWS)


@pytest.mark.parametrize("chosen", [LORA, TrainedLayers(last=1), TrainedLayers(layers=("embed",))])
def test_it_answers_to_the_bit_as_the_whole_model_does(tmp_path: Path, chosen: TrainedLayers) -> None:
    delta = trained(tmp_path, "delta", train=chosen) / "model"
    whole = trained(tmp_path, "whole", train=chosen, keep="whole") / "model"
    np.testing.assert_array_equal(answers(delta), answers(whole))
    assert not np.array_equal(answers(delta), answers(tmp_path / "base"))
    assert read_manifest(delta).base == folder_digest(tmp_path / "base")
    assert folder_size(delta) < folder_size(whole)


def test_an_adapter_on_every_kind_of_layer_is_merged_as_keras_merges_it(tmp_path: Path) -> None:
    chosen = TrainedLayers(lora=Lora(rank=2, layers=("hidden", "embed")))
    folder = trained(tmp_path, train=chosen) / "model"
    live, arrays = open_delta(folder, read_manifest(folder), (), merged=False)
    assert {name.partition("/")[2] for name in arrays} == {"a", "alpha", "b", "0", "1"}
    (tmp_path / "whole.keras").write_bytes(keras_file.dump(live))
    merged, _ = open_delta(folder, read_manifest(folder), (), merged=True)
    for one, other in zip(keras_file.load(tmp_path / "whole.keras").variables, merged.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_it_goes_on_with_the_same_adapter_on_the_same_base(tmp_path: Path) -> None:
    first = trained(tmp_path, "first", until="2024-02")
    for number in (2, 3):
        other = TrainedLayers(lora=Lora(rank=number, layers=("hidden",)))  # it keeps the rank that it has
        task = make.task(tmp_path, tuned(tmp_path, train=other), features=TWO, state=first / "state")
        result = run(task, tmp_path / f"next-{number}")
        assert result.warm_started
    learned = before(task, result, tmp_path / "before")
    assert learned == ("2024-01", "2024-02")
    np.testing.assert_array_equal(answers(tmp_path / "before"), answers(first / "model"))
    arrays = keras_delta.read(tmp_path / "next-2" / "model" / "delta.npz")
    older = keras_delta.read(first / "model" / "delta.npz")
    assert {name: array.shape for name, array in arrays.items()} == {n: a.shape for n, a in older.items()}
    assert not np.array_equal(arrays["1/b"], older["1/b"])
    assert read_manifest(tmp_path / "next-2" / "model").base == folder_digest(tmp_path / "base")
    assert folder_digest(tmp_path / "next-2" / "model") == folder_digest(tmp_path / "next-3" / "model")
    task = make.task(tmp_path, tuned(tmp_path), features=TWO, state=tmp_path / "next-2" / "state")
    run(task, tmp_path / "idle")
    assert folder_digest(tmp_path / "idle" / "model") == folder_digest(tmp_path / "next-2" / "model")
    assert folder_digest(tmp_path / "idle" / "state") == folder_digest(tmp_path / "next-2" / "state")


def test_what_is_kept_may_change_and_loses_nothing(tmp_path: Path) -> None:
    delta = trained(tmp_path, "delta")
    rows = answers(delta / "model")
    whole = make.task(tmp_path, tuned(tmp_path, keep="whole"), features=TWO, state=delta / "state")
    assert run(whole, tmp_path / "whole").warm_started
    assert read_manifest(tmp_path / "whole" / "model").format == "keras"
    np.testing.assert_array_equal(answers(tmp_path / "whole" / "model"), rows)
    again = make.task(tmp_path, tuned(tmp_path), features=TWO, state=tmp_path / "whole" / "state")
    assert run(again, tmp_path / "again").warm_started
    np.testing.assert_array_equal(answers(tmp_path / "again" / "model"), rows)
    assert read_manifest(tmp_path / "again" / "model").base == folder_digest(tmp_path / "again" / "model" / "base")


def test_on_a_champion_that_is_a_delta_it_stands_on_the_champions_base(tmp_path: Path) -> None:
    champion = trained(tmp_path, "champion") / "model"
    candidate = make.tuned(base="champion", train=LORA, keep="delta")
    run(make.task(tmp_path, candidate, features=TWO, members={"champion": champion}), tmp_path / "next")
    assert read_manifest(tmp_path / "next" / "model").base == read_manifest(champion).base
    whole = replace(candidate, keep="whole")
    run(make.task(tmp_path, whole, features=TWO, members={"champion": champion}), tmp_path / "whole")
    assert not np.array_equal(answers(tmp_path / "next" / "model"), answers(champion))
    assert read_manifest(tmp_path / "whole" / "model").format == "keras"


def test_where_the_base_answers_otherwise_the_network_that_training_starts_from_is_the_base(tmp_path: Path) -> None:
    save_keras(tmp_path / "base", make.network(3), make.manifest(("a", "b", "c")))
    model = trained(tmp_path) / "model"
    assert read_manifest(model).base != folder_digest(tmp_path / "base")
    assert load(model / "base").manifest.classes == ("no", "yes")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(open_store(str(tmp_path / "store")), "m")


def test_the_store_keeps_the_base_once_and_no_sweep_takes_it(tmp_path: Path, registry: Registry) -> None:
    first, second = trained(tmp_path, "first") / "model", trained(tmp_path, "second", epochs=2) / "model"
    digests = [registry.put_model(folder) for folder in (first, second)]
    assert digests == [folder_digest(first), folder_digest(second)]
    base = folder_digest(tmp_path / "base")
    stored = {entry.key.split("/")[2] for entry in registry.store.list("m/models")}
    assert stored == {*digests, base}
    fetched = registry.get_model(digests[0], tmp_path / "fetched")
    np.testing.assert_array_equal(answers(fetched), answers(first))
    registry.put_spec(SPEC)
    version = registry.register(card(digests[0]))
    assert registry.verify(version.version) == () == registry.missing(digests[0])

    later = datetime.now(UTC) + timedelta(days=9)
    assert {key.split("/")[2] for key in registry.sweep(later, timedelta(hours=1)) if "/models/" in key} == {digests[1]}
    assert registry.verify(version.version) == ()
    registry.store.delete(f"m/models/{base}/model.keras")
    assert registry.missing(digests[0]) == (f"m/models/{base}/model.keras",)
    assert "model.keras" in str(registry.verify(version.version)[0].where)


def test_no_sweep_takes_the_base_of_a_state(made: Path, tmp_path: Path, registry: Registry) -> None:
    digest = registry.put_state("net", made / "state")
    assert registry.sweep(datetime.now(UTC) + timedelta(days=9), timedelta(hours=1)) == ()
    fetched = registry.get_state("net", digest, tmp_path / "fetched")
    assert folder_digest(fetched / "base") == folder_digest(made.parent / "base")


def test_as_a_store_has_it_the_base_stands_beside_it_and_verify_asks_it_in_a_fresh_process(model: Path) -> None:
    wanted = answers(model)
    shutil.move(model / "base", model.parent / read_manifest(model).base)
    assert verify_served(model, ROWS, wanted, tolerance=0.0).ok


def test_a_base_that_is_away_or_another_is_refused(model: Path, tmp_path: Path) -> None:
    away = shutil.copytree(model, tmp_path / "away", ignore=shutil.ignore_patterns("base"))
    with pytest.raises(ModelError, match="which is not there"):
        load(away)
    other = shutil.copytree(model, tmp_path / "other")
    (other / "base" / "model.keras").write_bytes(keras_file.dump(make.network(seed=9)))
    with pytest.raises(IntegrityError, match="another model"):
        load(other)
    chain = tmp_path / "chain"
    write_delta(chain, (model / "delta.npz").read_bytes(), model, read_manifest(model))
    shutil.copytree(model, chain / "base")
    with pytest.raises(ModelError, match="no whole network"):
        load(chain)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda arrays: arrays.update({"99/0": np.zeros(1, np.float32)}), "99/0 fits no layer"),
        (lambda arrays: arrays.update({"1/evil": np.zeros(1, np.float32)}), "1/evil fits no layer"),
        (lambda arrays: arrays.update({"2/0": np.zeros((4, 3), np.float32)}), "shape or type of last"),
        (lambda arrays: arrays.update({"2/0": np.zeros((4, 2))}), "shape or type of last"),
        (lambda arrays: arrays.pop("1/alpha"), "no adapter of hidden"),
        (lambda arrays: arrays.update({"1/b": np.zeros((2, 4), np.float32)}), "shape or type of hidden"),
    ],
)
def test_arrays_that_do_not_fit_the_base_are_refused(model: Path, change: Any, says: str) -> None:
    arrays = keras_delta.read(model / "delta.npz")
    change(arrays)
    (model / "delta.npz").write_bytes(keras_delta.dump(arrays))
    with pytest.raises(ModelError, match=says):
        load(model)


def test_a_file_that_is_no_delta_runs_nothing(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "pickled.npz", **{"1/a": np.array([object()], dtype=object)})
    for data in (b"", b"PK\x03\x04torn", (tmp_path / "pickled.npz").read_bytes()):
        (model / "delta.npz").write_bytes(data)
        with pytest.raises(ModelError, match="cannot be read"):
            load(model)
    (model / "delta.npz").unlink()
    with pytest.raises(ModelError, match="is missing"):
        load(model)


def test_the_base_is_held_to_the_same_list_of_layers(tmp_path: Path) -> None:
    from tests.tensorflow.their_layer import Scale

    save_keras(tmp_path / "b", make.network(extra=Scale(2.0, name="scale")), make.manifest())
    manifest = Manifest(format="delta", columns=make.COLUMNS, classes=("no", "yes"), positive=None, libraries={})
    write_delta(tmp_path / "m", keras_delta.dump({}), tmp_path / "b", manifest)
    shutil.copytree(tmp_path / "b", tmp_path / "m" / "base")
    with pytest.raises(ModelError, match=r"their_layer\.Scale"):
        load(tmp_path / "m")
    own = ["tests.tensorflow.their_layer.Scale"]
    np.testing.assert_array_equal(
        load(tmp_path / "m", allowed=own).predict_proba(ROWS), load(tmp_path / "b", allowed=own).predict_proba(ROWS)
    )
