"""``model.keras``: a Keras model as bytes, the same bytes for the same model, and read back only where trusted.

A ``.keras`` file is a zip of the model's config as JSON, its weights as HDF5 and assets. Keras builds whatever the
config names, and its safe mode has been walked around more than once (CVE-2025-9905: ``.h5`` ignores it; CVE-2025-9906:
the config switches it off; CVE-2025-12058: a ``vocabulary`` that is a path is read; external HDF5 data is a path too).
So the config and the weights are read here first, as plain data, and nothing is built that is not on our list: the side
that loads holds the list, and the file has no say in it.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from upkeep.errors import ModelError, Where
from upkeep.models.canonical import nodes, zipped
from upkeep.models.keras_runtime import keras, quiet
from upkeep.models.skops_file import resolve

MODEL = "model.keras"
_CONFIG, _METADATA, _WEIGHTS, _ASSETS = "config.json", "metadata.json", "model.weights.h5", "assets"

_OWN = ("upkeep>DateParts", "upkeep>Graph", "upkeep>Numbers", "upkeep>Replace", "upkeep>Tokens")
_GRAPH = "upkeep>Graph"
_TRUSTED = {
    "keras": ("DTypePolicy", "DTypePolicyMap", "Functional", "Sequential"),
    "keras.dtype_policies": ("DTypePolicy", "DTypePolicyMap"),
    "keras.models": ("Functional", "Sequential"),
    "keras.src.models.functional": ("Functional",),
    "keras.src.models.sequential": ("Sequential",),
}
_TRUSTED_MODULES = ("keras.constraints", "keras.initializers", "keras.layers", "keras.regularizers")
_RUNS_CODE = ("FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper")
"""Classes of ``keras.layers`` that run what the file brings along, or load a path that it names."""
_HUB = "keras_hub.src."
_DATA = ("__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__", "__tuple__")
"""Markers by which a config writes plain values."""
_ACTIVATIONS = ("keras.activations", "keras.src.activations.activations", "builtins")
_PATHS = ("vocabulary", "idf_weights", "merges", "proto")
"""Keys that Keras takes as a path to read where they hold text: here they are lists or nothing."""


def dump(model: Any) -> bytes:
    """The model as a ``.keras`` file: the same bytes for the same model, in whatever process it was made.

    Keras stamps its archive with the time and numbers shared objects by memory address; here the time is fixed and the
    numbers count up. Its HDF5 holds no time. Raises :class:`ModelError` when Keras cannot write the model.
    """
    with tempfile.TemporaryDirectory(prefix="upkeep-keras-") as name:
        path = Path(name) / MODEL
        try:
            with quiet():
                model.save(path)
        except Exception as error:  # Keras raises whatever a layer's own get_config raises
            raise ModelError(
                f"this model cannot be kept as .keras: {str(error)[:300]}",
                fix="build it from Keras' own layers, or give each layer of yours a get_config",
            ) from error
        with zipfile.ZipFile(path) as source:
            files = {name: source.read(name) for name in source.namelist()}
    config, metadata = json.loads(files[_CONFIG]), json.loads(files[_METADATA])
    numbers: dict[int, int] = {}
    for node in nodes(config):
        if node.get("lora_rank"):
            node["lora_rank"] = node["lora_alpha"] = None  # Keras writes the weights with the adapters merged in
        if node.get("class_name") == "DTypePolicy":
            node.pop("shared_object_id", None)  # a policy is its name: who shares it means nothing
        if "shared_object_id" in node:
            node["shared_object_id"] = numbers.setdefault(node["shared_object_id"], len(numbers) + 1)
    files[_CONFIG] = json.dumps(config, separators=(",", ":")).encode()
    files[_METADATA] = json.dumps({**metadata, "date_saved": "1980-01-01@00:00:00"}).encode()
    return zipped(files, stored={_WEIGHTS})


def load(path: Path, *, allowed: Sequence[str] = ()) -> Any:
    """The ``keras.Model`` in the file at ``path``, not compiled.

    ``allowed``: import paths of layers and functions that may be built beyond Keras', KerasHub's and Upkeep's own.
    Raises :class:`ModelError` when the file is missing, is no ``.keras`` file, or holds anything else; then nothing
    of it was built.
    """
    check(path, allowed=allowed)
    where = Where(file=str(path))
    backend = keras(where)
    import upkeep.models.keras_layers  # registers them

    if _reads_text(path):
        import keras_hub  # noqa: F401  # registers its own

        import upkeep.models.keras_text  # noqa: F401

    custom: dict[str, Any] = {}
    for name in allowed:
        try:
            found = resolve(name)
        except ModelError:
            continue  # of scikit-learn models, it may be; the config does not name it, or Keras says so
        custom[found.__name__] = found
    try:
        with quiet():
            return backend.saving.load_model(path, custom_objects=custom, compile=False, safe_mode=True)
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise _unreadable(where, f"{type(error).__name__}: {str(error)[:200]}") from error


def load_preset(folder: Path) -> tuple[Any, Any]:
    """The backbone and the preprocessing layer for text in a KerasHub preset folder; nothing is ever downloaded.

    Raises :class:`ModelError` when it holds no such two, or anything that is not trusted; then nothing was built.
    """
    where = Where(file=str(folder))
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".json":
            try:
                refused = _untrusted(json.loads(path.read_bytes()), ())
            except ValueError as error:
                raise _unreadable(where, f"{path.name}: {error}") from error
            if refused:
                raise _refused(where, f"the preset holds what is not trusted: {', '.join(refused)}")
        elif path.suffix == ".h5":
            _check_weights(path.read_bytes(), where)
    keras(where)
    try:
        with quiet():
            import keras_hub

            models = keras_hub.models
            return (
                models.Backbone.from_preset(str(folder)),
                models.TextClassifierPreprocessor.from_preset(str(folder)),
            )
    except Exception as error:  # what a damaged preset raises depends on where it is damaged
        raise ModelError(
            f"this is no KerasHub preset of a text model ({type(error).__name__}: {str(error)[:200]})",
            where=where,
            fix="write backbone and preprocessor there with save_to_preset",
        ) from error


def _reads_text(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return b"keras_hub" in archive.read(_CONFIG)


def check(path: Path, *, allowed: Sequence[str] = ()) -> None:
    """Raise :class:`ModelError` unless everything in the file at ``path`` may be built; nothing of it is."""
    where = Where(file=str(path))
    if not path.is_file():
        raise ModelError("the model file is missing", where=where, fix="fetch the model's folder again, whole")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            config = json.loads(archive.read(_CONFIG))
            weights = archive.read(_WEIGHTS)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, RecursionError) as error:
        raise _unreadable(where, str(error)[:200] or type(error).__name__) from error
    strange = [name for name in names if not _known_entry(name)]
    if strange or len(set(names)) != len(names):
        raise _refused(where, f"the archive holds {', '.join(strange) or 'a name twice'}, which no .keras file does")
    if isinstance(config, dict):
        config.pop("compile_config", None)  # not read: models are loaded without it
    refused = _untrusted(config, allowed)
    if refused:
        raise _refused(where, f"the model holds what is not trusted: {', '.join(refused)}")
    _check_weights(weights, where)


def _untrusted(config: Any, allowed: Sequence[str]) -> list[str]:
    return sorted({found for node in nodes(config) if (found := _refuse(node, allowed))})


def _known_entry(name: str) -> bool:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        return False
    return name in (_CONFIG, _METADATA, _WEIGHTS) or path.parts[0] == _ASSETS


def _refuse(node: dict[str, Any], allowed: Sequence[str]) -> str:
    """What this object of the config is called, if it may not be built; else nothing."""
    for key in _PATHS:
        if isinstance(node.get(key), str):
            return f"a path to read ({key}: {node[key][:80]})"
    if "class_name" not in node:
        return ""
    kind, module, registered = (node.get(key) or "" for key in ("class_name", "module", "registered_name"))
    if kind in _DATA and not module:
        return ""
    if kind == "function":
        named = f"{module}.{node.get('config')}"
        known = module in _ACTIVATIONS and _is_activation(node.get("config"))
        return "" if known or named in allowed else named
    if registered == _GRAPH:
        from upkeep.models.keras_graph import read_graph

        settings = node.get("config")
        read_graph(settings.get("graph", "") if isinstance(settings, dict) else "")
    named = f"{module}.{kind}" if module else str(registered or kind)
    if named in allowed or registered in _OWN:
        return ""
    if module in _TRUSTED_MODULES and kind not in _RUNS_CODE and "." not in kind:
        return ""
    if kind in _TRUSTED.get(module, ()) or module.startswith(_HUB):
        return ""
    return named


def _is_activation(name: object) -> bool:
    return isinstance(name, str) and name in _ACTIVATION_NAMES


_ACTIVATION_NAMES = frozenset(
    (
        *("celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish"),
        *("hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu"),
        *("sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid"),
        *("sparsemax", "squareplus", "swish", "tanh", "tanh_shrink", "threshold"),
    )
)


def _check_weights(data: bytes, where: Where) -> None:
    """HDF5 may point to other files; a model's weights stand in its own."""
    import h5py

    def look(group: Any) -> Iterator[str]:
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                yield name
            elif isinstance(group[name], h5py.Group):
                yield from look(group[name])
            elif group[name].external or group[name].is_virtual:
                yield name

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            outside = list(look(file))
    except (OSError, KeyError, ValueError, RuntimeError, RecursionError) as error:
        raise _unreadable(where, f"its weights: {str(error)[:200]}") from error
    if outside:
        raise _refused(where, f"its weights point to other files: {', '.join(outside[:5])}")


def _refused(where: Where, message: str) -> ModelError:
    return ModelError(
        message,
        where=where,
        fix="if you know a layer to be harmless, add its import path to `estimators` in upkeep.yaml; "
        "replace a Lambda by a layer",
    )


def _unreadable(where: Where, what: str) -> ModelError:
    return ModelError(
        f"this is no readable .keras file ({what})",
        where=where,
        fix="fetch it again; write models with model.save('….keras'), not as .h5",
    )
