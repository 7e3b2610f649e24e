"""A base, and a delta with what it stands on, come from any store: for a training and for a model server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.contract.strategies import backbone
from upkeep.errors import IntegrityError, ModelError
from upkeep.models import keras_runtime
from upkeep.models.folder import folder_digest, load, read_manifest
from upkeep.registry.registry import Registry
from upkeep.registry.server import ensure_bucket
from upkeep.serving.server.fetch import model_folder
from upkeep.spec.model import Features, FineTune, Lora, ObjectStore, TrainedLayers
from upkeep.store import MissingObject, Store, open_store
from upkeep.training.train import train

pytestmark = pytest.mark.skipif(
    not keras_runtime.installed(), reason="TensorFlow is not installed: make setup-tensorflow"
)

TWO = Features(numeric=("size",), categorical=("colour",))
ROWS = pa.table({"size": [0.5, 3.0, -2.0], "colour": ["red", "never seen", "green"]})
LORA = TrainedLayers(lora=Lora(rank=1, layers=("hidden",)))
Place = tuple[str, ObjectStore]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network as a file, ``base.keras``, and as a model folder, ``base``."""
    from tests.tensorflow import keras_make as make
    from upkeep.models.keras_folder import save_keras

    root = tmp_path_factory.mktemp("network")
    save_keras(root / "base", make.network(), make.manifest())
    (root / "base.keras").write_bytes((root / "base" / "model.keras").read_bytes())
    return root


@pytest.fixture(scope="module")
def delta(network: Path) -> Path:
    root = network / "delta"
    train_on(network / "base", root, keep="delta")
    return root / "model"


def train_on(address: Path | str, root: Path, place: Place | None = None, digest: str = "", **fields: object) -> None:
    from tests.tensorflow import keras_make as make

    if isinstance(address, Path):
        digest = digest or digest_of(address)
    settings = {"base": str(address), "digest": digest, "train": LORA, "epochs": 1, **fields}
    candidate: FineTune = make.tuned(**settings)
    task = make.task(root, candidate, features=TWO)
    if place is not None:
        task = replace(task, spec=replace(task.spec, object_store=place[1]))
    train(task, root / "model", root / "state")


def digest_of(path: Path) -> str:
    return folder_digest(path) if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


def upload(store: Store, path: Path, key: str) -> None:
    if path.is_file():
        store.put(key, path)
    for file in path.rglob("*"):
        if file.is_file():
            store.put(f"{key}/{file.relative_to(path).as_posix()}", file)


@pytest.mark.parametrize("kind", ["base.keras", "base"])
def test_a_base_from_any_store_is_pinned_by_its_digest(
    kind: str, network: Path, place: Place, store: Store, tmp_path: Path
) -> None:
    upload(store, network / kind, f"bases/{kind}")
    address = f"{store.uri}/bases/{kind}"
    train_on(address, tmp_path / "there", place, digest_of(network / kind))
    train_on(network / kind, tmp_path / "here")
    assert folder_digest(tmp_path / "there" / "model") == folder_digest(tmp_path / "here" / "model")
    with pytest.raises(IntegrityError, match="hash to"):
        train_on(address, tmp_path / "other", place, "0" * 64)
    with pytest.raises((ModelError, MissingObject)):
        train_on(f"{store.uri}/bases/none.keras", tmp_path / "none", place, "0" * 64)


def test_a_preset_from_an_s3_server(endpoint: str, tmp_path: Path) -> None:
    place = "s3://contract/presets", ObjectStore(endpoint=endpoint)
    ensure_bucket(*place)
    store = open_store(*place)
    backbone(tmp_path / "preset", ["red", "green", "blue"])
    upload(store, tmp_path / "preset", "bases/preset")
    reading = {"text": "colour", "train": TrainedLayers(lora=Lora(rank=1)), "keep": "delta"}
    train_on(f"{store.uri}/bases/preset", tmp_path / "there", place, digest_of(tmp_path / "preset"), **reading)
    assert load(tmp_path / "there" / "model").predict_proba(ROWS).shape == (3, 2)


def test_a_delta_in_a_store_is_a_base_and_its_own_base_is_found_beside_it(
    delta: Path, place: Place, store: Store, tmp_path: Path
) -> None:
    digest = Registry(store, "m").put_model(delta)
    train_on(f"{store.uri}/m/models/{digest}", tmp_path / "next", place, digest, keep="delta")
    assert read_manifest(tmp_path / "next" / "model").base == read_manifest(delta).base


@pytest.fixture
def served(place: Place, store: Store, delta: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Where a store keeps the delta, and its digest."""
    if place[1].endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", place[1].endpoint)
    digest = Registry(open_store(*place), "m").put_model(delta)
    return f"{store.uri}/m/models", digest


def test_a_server_gets_a_delta_whole(served: tuple[str, str], delta: Path) -> None:
    models, digest = served
    wanted = load(delta).predict_proba(ROWS)
    with model_folder(f"{models}/{digest}", digest) as (folder, found):
        np.testing.assert_array_equal(load(folder).predict_proba(ROWS), wanted)
    assert found == digest


@pytest.fixture
def initialized(delta: Path, tmp_path: Path) -> Path:
    """As KServe's storage initializer leaves it: one folder, and nothing beside it."""
    folder = tmp_path / "mnt" / "models"
    folder.mkdir(parents=True)
    for name in ("manifest.json", "delta.npz"):
        (folder / name).write_bytes((delta / name).read_bytes())
    return folder


def test_where_kserve_fetched_one_folder_the_server_fetches_the_base(
    served: tuple[str, str], initialized: Path, delta: Path
) -> None:
    models, digest = served
    with model_folder(str(initialized), digest, models=models) as (folder, found):
        np.testing.assert_array_equal(load(folder).predict_proba(ROWS), load(delta).predict_proba(ROWS))
    assert found == digest
    with model_folder(str(initialized), digest) as (folder, _), pytest.raises(ModelError, match="which is not there"):
        load(folder)


@pytest.mark.parametrize("damage", ["lost", "changed"])
def test_a_base_that_is_lost_or_changed_is_not_served(
    damage: str, served: tuple[str, str], initialized: Path, delta: Path, store: Store
) -> None:
    models, digest = served
    base = f"m/models/{read_manifest(delta).base}"
    remove: dict[str, Callable[[], None]] = {
        "lost": lambda: [store.delete(entry.key) for entry in store.list(base)] and None,
        "changed": lambda: store.put(f"{base}/model.keras", b"other"),
    }
    remove[damage]()
    with (
        pytest.raises((MissingObject, IntegrityError, ModelError)),
        model_folder(str(initialized), digest, models=models) as (folder, _),
    ):
        load(folder)
