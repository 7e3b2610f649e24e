"""A .keras file is the same bytes for the same model, and nothing in it is built that is not on our list."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.tensorflow import keras_make as make
from upkeep.errors import ModelError
from upkeep.models import keras_file
from upkeep.models.folder import folder_digest, load
from upkeep.models.keras_folder import save_keras
from upkeep.models.keras_runtime import keras

ROWS = pa.table({"size": [0.5, None, 1e300, -2.0], "colour": ["red", None, "never seen", "green"]})


def edited(data: bytes, edit: Callable[[dict[str, bytes]], None]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        files = {name: source.read(name) for name in source.namelist()}
    edit(files)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def config_edited(edit: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        config = json.loads(files["config.json"])
        edit(config)
        files["config.json"] = json.dumps(config).encode()

    return change


def layer(config: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in config["config"]["layers"] if each["config"]["name"] == name)
    return found


def test_the_same_model_is_the_same_bytes_in_another_process_too() -> None:
    here = keras_file.dump(make.network())
    assert keras_file.dump(make.network()) == here
    code = (
        "import hashlib, sys\nfrom tests.tensorflow import keras_make as make\nfrom upkeep.models import keras_file\n"
        "for _ in range(3): make.network()\n"
        "sys.stdout.write(hashlib.sha256(keras_file.dump(make.network())).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == hashlib.sha256(here).hexdigest()
    assert keras_file.dump(make.network(seed=2)) != here


def test_what_is_loaded_is_written_as_the_same_bytes_and_opens_in_keras_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(keras_file.dump(make.network()))
    assert keras_file.dump(keras_file.load(path)) == path.read_bytes()
    assert keras().saving.load_model(path).count_params() == make.network().count_params()


def test_a_folder_answers_raw_rows(tmp_path: Path) -> None:
    save_keras(tmp_path / "a", make.network(), make.manifest())
    save_keras(tmp_path / "b", make.network(), make.manifest())
    assert folder_digest(tmp_path / "a") == folder_digest(tmp_path / "b")
    predictor = load(tmp_path / "a")
    assert set(predictor.manifest.libraries) >= {"keras", "tensorflow", "python", "upkeep"}
    usable = ROWS.take([0, 3])
    answers = predictor.predict_proba(usable)
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-12)
    one = predictor.predict_proba(usable.slice(1, 1))
    np.testing.assert_allclose(one[0], answers[1], rtol=0, atol=1e-6)
    with pytest.raises(ModelError, match="no probability"):  # this base has nothing that fills nulls
        predictor.predict_proba(ROWS)
    with pytest.raises(ModelError, match="column colour is missing"):
        predictor.predict_proba(ROWS.select(["size"]))


@pytest.mark.parametrize(
    ("model", "classes", "says"),
    [
        (lambda: make.network(3), ("no", "yes"), r"shape \(None, 3\)"),
        (lambda: _other_input(), ("no", "yes"), "takes age"),
    ],
)
def test_a_model_that_does_not_fit_is_not_written(
    model: Callable[[], Any], classes: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=says):
        save_keras(tmp_path / "m", model(), make.manifest(classes))
    assert not (tmp_path / "m").exists()


def _other_input() -> Any:
    K = keras()
    age = K.Input((1,), name="age")
    return K.Model({"age": age}, K.layers.Dense(2, activation="softmax")(age))


def _lambda(config: dict[str, Any]) -> None:
    hidden = layer(config, "hidden")
    hidden["class_name"], hidden["config"]["function"] = "Lambda", {"class_name": "__lambda__", "config": {"code": "x"}}


def _switches_safe_mode_off(config: dict[str, Any]) -> None:  # CVE-2025-9906
    config["config"]["layers"].insert(
        0,
        {
            "module": "keras.config",
            "class_name": "function",
            "config": "enable_unsafe_deserialization",
            "registered_name": "enable_unsafe_deserialization",
        },
    )


def _runs_a_command(config: dict[str, Any]) -> None:
    layer(config, "hidden").update(module="os", class_name="system", registered_name="Dense")


def _fetches(config: dict[str, Any]) -> None:
    activation = {"module": "keras.utils", "class_name": "function", "config": "get_file", "registered_name": "x"}
    layer(config, "hidden")["config"]["activation"] = activation


def _reads_a_path(config: dict[str, Any]) -> None:  # CVE-2025-12058
    layer(config, "look")["config"]["vocabulary"] = "/etc/passwd"


def _saved_model_layer(config: dict[str, Any]) -> None:
    layer(config, "hidden")["class_name"] = "TFSMLayer"


def _custom(config: dict[str, Any]) -> None:
    layer(config, "hidden").update(module="their.package", class_name="Their", registered_name="Their")


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_lambda, "__lambda__, keras.layers.Lambda"),
        (_switches_safe_mode_off, "keras.config.enable_unsafe_deserialization"),
        (_runs_a_command, "os.system"),
        (_fetches, "keras.utils.get_file"),
        (_reads_a_path, "a path to read"),
        (_saved_model_layer, "TFSMLayer"),
        (_custom, "their.package.Their"),
    ],
)
def test_what_is_not_trusted_is_refused_before_keras_sees_it(
    edit: Callable[[dict[str, Any]], None], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(edited(keras_file.dump(make.network()), config_edited(edit)))
    monkeypatch.setattr(keras().saving, "load_model", lambda *_, **__: pytest.fail("Keras was asked"))
    with pytest.raises(ModelError, match=says):
        keras_file.load(path)


def test_weights_that_stand_in_another_file_are_refused(tmp_path: Path) -> None:
    import h5py

    secret = tmp_path / "secret"
    secret.write_bytes(bytes(64))

    def outside(files: dict[str, bytes]) -> None:
        target = io.BytesIO()
        with h5py.File(target, "w") as file:
            file.create_dataset("layers/hidden/vars/0", (4,), dtype="f4", external=[(str(secret), 0, 16)])
        files["model.weights.h5"] = target.getvalue()

    def linked(files: dict[str, bytes]) -> None:
        target = io.BytesIO()
        with h5py.File(target, "w") as file:
            file["layers"] = h5py.ExternalLink(str(secret), "/x")
        files["model.weights.h5"] = target.getvalue()

    for edit in (outside, linked):
        path = tmp_path / "model.keras"
        path.write_bytes(edited(keras_file.dump(make.network()), edit))
        with pytest.raises(ModelError, match="point to other files"):
            keras_file.load(path)


def test_a_damaged_file_an_h5_file_and_a_strange_archive_are_told(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with pytest.raises(ModelError, match="missing"):
        keras_file.load(path)
    good = keras_file.dump(make.network())
    for data in (b"", b"\x89HDF\r\n\x1a\n" + bytes(100), good[: len(good) // 2]):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"no readable \.keras file"):
            keras_file.load(path)
    path.write_bytes(edited(good, lambda files: files.update({"assets/../../evil": b"x"})))
    with pytest.raises(ModelError, match="evil"):
        keras_file.load(path)
    path.write_bytes(edited(good, lambda files: files.update({"model.weights.h5": b"no HDF5"})))
    with pytest.raises(ModelError, match="its weights"):
        keras_file.load(path)


def test_a_layer_of_the_users_own_loads_where_the_spec_allows_it(tmp_path: Path) -> None:
    from tests.tensorflow.their_layer import Scale

    path = tmp_path / "model.keras"
    path.write_bytes(keras_file.dump(make.network(extra=Scale(2.0, name="scale"))))
    with pytest.raises(ModelError, match=r"their_layer\.Scale"):
        keras_file.load(path)
    loaded = keras_file.load(path, allowed=["sklearn.svm.SVC", "tests.tensorflow.their_layer.Scale"])
    assert loaded.get_layer("scale").by == 2.0


def test_nothing_of_ours_imports_tensorflow_before_it_is_needed() -> None:
    code = (
        "import sys\nimport upkeep.api, upkeep.training.train, upkeep.models.folder, upkeep.update.train\n"
        "import upkeep.serving.server.model, upkeep.spec.check\n"
        "sys.stdout.write(','.join(name for name in ('tensorflow', 'keras', 'h5py') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
