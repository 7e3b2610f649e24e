"""A KerasHub preset reads a column of text, fine-tuned with low-rank adapters on its attention."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.tensorflow import keras_make as make
from tests.unit.data import make as data
from upkeep.errors import ModelError, SpecError
from upkeep.models import keras_file
from upkeep.models.folder import folder_digest, load
from upkeep.models.keras_runtime import keras, quiet
from upkeep.spec.model import Features, Lora, Optimizer, TrainedLayers
from upkeep.training.task import TrainingTask
from upkeep.training.train import train

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "product", "is", "good", "bad", "great", "awful", "it"]


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("presets") / "tiny"
    with quiet():
        keras().utils.set_random_seed(3)
        import keras_hub

        tokenizer = keras_hub.models.BertTokenizer(vocabulary=WORDS, lowercase=True)
        sizes = {"num_layers": 1, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 16, "max_sequence_length": 8}
        keras_hub.models.BertBackbone(vocabulary_size=len(WORDS), **sizes).save_to_preset(str(folder))
        keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=8).save_to_preset(str(folder))
    return folder


def task(tmp_path: Path, preset: Path, **fields: object) -> TrainingTask:
    rng = np.random.default_rng(1)
    good = rng.random(400) < 0.5
    texts = [f"the product is {rng.choice(['good', 'great'] if yes else ['bad', 'awful'])}" for yes in good]
    rows = pa.table(
        {"id": [f"r{i}" for i in range(400)], "text": texts, "size": rng.normal(size=400),
         "label": np.where(good, "yes", "no")}
    )  # fmt: skip
    data.write(rows, tmp_path / "data" / "part.parquet")
    settings: dict[str, object] = {
        "base": str(preset),
        "digest": folder_digest(preset),
        "text": "text",
        "train": TrainedLayers(lora=Lora(rank=2)),
        "optimizer": Optimizer(rate=0.02),
        "epochs": 6,
        "batch_rows": 32,
    }
    candidate = make.tuned(**{**settings, **fields})
    features = Features(numeric=("size",), categorical=("text",))
    spec = data.spec(tmp_path / "data", candidates=(candidate,), features=features, slices=())
    return TrainingTask(candidate=candidate, spec=spec, prepared=data.prepared(tmp_path, spec), seed=2)


def test_adapters_learn_alone_beside_the_answering_layer(tmp_path: Path, preset: Path) -> None:
    given = task(tmp_path, preset, epochs=2)
    result = train(given, tmp_path / "model", tmp_path / "state")
    assert result.curve[-1].loss < result.curve[0].loss
    adapter = 16 * 2 * 2 + 2 * 8  # Keras': kernel (16, 2 heads, 8) → (16, 2, rank) and (rank, 8)
    answer = 2 * (16 + 1) + 2  # from the pooled text and one number
    assert result.params["trained_parameters"] == 2 * adapter + answer
    train(task(tmp_path / "other", preset, epochs=1), tmp_path / "spare", tmp_path / "spare-state")
    again = train(given, tmp_path / "again", tmp_path / "state-again")
    assert folder_digest(tmp_path / "again") == folder_digest(tmp_path / "model")
    assert again.curve == result.curve


def test_the_model_takes_raw_text(tmp_path: Path, preset: Path) -> None:
    result = train(task(tmp_path, preset, train=TrainedLayers()), tmp_path / "model", tmp_path / "state")
    assert result.curve[-1].loss < 0.5 * result.curve[0].loss
    rows = pa.table({"text": ["The Product is GREAT", "the zzz is awful", None, "zzz"], "size": [0.0, 0.0, None, 1.0]})
    answers = load(tmp_path / "model").predict_proba(rows)
    assert answers[0, 1] > 0.8
    assert answers[1, 1] < 0.2
    code = (
        "import sys, numpy as np, pyarrow as pa, pathlib\nfrom upkeep.models.folder import load\n"
        "texts = ['The Product is GREAT', 'the zzz is awful', None, 'zzz']\n"
        "rows = pa.table({'text': texts, 'size': [0.0, 0.0, None, 1.0]})\n"
        "np.save(sys.argv[2], load(pathlib.Path(sys.argv[1])).predict_proba(rows))"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "model", tmp_path / "out.npy"], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), answers)


def _lambda(folder: Path) -> None:
    _put(folder, {"module": "keras.layers", "class_name": "Lambda", "config": {}})


def _reads_a_path(folder: Path) -> None:  # CVE-2025-12058
    _put(folder, {"vocabulary": "/etc/passwd"})


def _switches_safe_mode_off(folder: Path) -> None:  # CVE-2025-9906
    _put(folder, {"module": "keras.config", "class_name": "function", "config": "enable_unsafe_deserialization"})


def _of_their_own(folder: Path) -> None:
    _put(folder, {"module": "their.package", "class_name": "Their", "registered_name": "Their", "config": {}})


def _put(folder: Path, node: dict[str, object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["config"]["more"] = node
    (folder / "config.json").write_text(json.dumps(config))


def _weights_elsewhere(folder: Path) -> None:
    (path,) = folder.glob("*.weights.h5")
    path.unlink()
    (folder / "secret").write_bytes(bytes(64))
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("vars/0", (4,), dtype="f4", external=[(str(folder / "secret"), 0, 16)])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_lambda, r"keras\.layers\.Lambda"),
        (_reads_a_path, "a path to read"),
        (_switches_safe_mode_off, "enable_unsafe_deserialization"),
        (_of_their_own, r"their\.package\.Their"),
        (_weights_elsewhere, "point to other files"),
    ],
)
def test_a_preset_is_refused_before_keras_sees_it(
    tmp_path: Path, preset: Path, change: Callable[[Path], None], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = Path(shutil.copytree(preset, tmp_path / "strange"))
    change(strange)
    import keras_hub

    monkeypatch.setattr(keras_hub.models.Backbone, "from_preset", lambda *_: pytest.fail("KerasHub was asked"))
    with pytest.raises(ModelError, match=says):
        keras_file.load_preset(strange)


def test_a_preset_needs_its_column_and_holds_nothing_strange(tmp_path: Path, preset: Path) -> None:
    with pytest.raises(SpecError, match="no column is named to read"):
        train(task(tmp_path, preset, text=""), tmp_path / "model", tmp_path / "state")
    strange = tmp_path / "strange"
    shutil.copytree(preset, strange)
    config = json.loads((strange / "config.json").read_text())
    config.update(module="os", class_name="system")
    (strange / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"os\.system"):
        keras_file.load_preset(strange)
    (strange / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="no KerasHub preset"):
        keras_file.load_preset(strange)
