"""``delta.npz``: what a network holds beyond the model it stands on.

A zip of plain arrays, named ``<layer>/<what>``. ``layer``: its place among :func:`weighted`. ``what``: the number of
one of its own variables as Keras saves them (a layer that learned whole), or ``a``, ``b`` and ``alpha`` of a low-rank
adapter: the layer's first variable, the kernel, gets ``alpha ÷ rank × a @ b`` added (Hu et al., 2021).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from upkeep.errors import ModelError, Where
from upkeep.models.keras_runtime import keras

DELTA = "delta.npz"

Arrays = dict[str, npt.NDArray[Any]]
_ADAPTER = ("a", "alpha", "b")


def weighted(model: Any) -> list[Any]:
    """The layers that hold weights themselves, in the order of the network; the one that answers is the last."""
    found: dict[int, Any] = {}
    for layer in model._flatten_layers(include_self=False):
        if layer.weights and not any(True for _ in layer._flatten_layers(include_self=False)):
            found.setdefault(id(layer), layer)
    return list(found.values())


def changes(model: Any, learned: Iterable[str], before: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """What ``model`` holds beyond its base. ``learned``: paths of the layers that learned since ``before``."""
    paths = set(learned)
    found: Arrays = {}
    for number, layer in enumerate(weighted(model)):
        if getattr(layer, "lora_enabled", False):
            a, b = _adapter(layer)
            alpha = np.array(layer.lora_alpha, dtype=np.float32)
            found |= {f"{number}/a": a.numpy(), f"{number}/b": b.numpy(), f"{number}/alpha": alpha}
            found |= {name: array for name, array in before.items() if _is_own(name, number)}  # frozen beneath it
        elif layer.path in paths:
            found |= {f"{number}/{name}": value for name, value in _own(layer).items()}
        else:
            found |= {name: array for name, array in before.items() if _is_own(name, number)}
    return found


def add(model: Any, arrays: Mapping[str, npt.NDArray[Any]], where: Where, *, merged: bool) -> None:
    """Make the base ``model`` the one that the delta tells of, in place. ``merged``: adapters become part of the
    weights, as when Keras saves them; else they go on learning.

    Raises :class:`ModelError` for an array that fits no layer; the model is then of no use.
    """
    layers = weighted(model)
    groups: dict[int, Arrays] = {}
    for name, array in arrays.items():
        place, _, what = name.partition("/")
        if not place.isdecimal() or int(place) >= len(layers) or not (what in _ADAPTER or what.isdecimal()):
            raise _strange(where, f"{name} fits no layer of the base")
        groups.setdefault(int(place), {})[what] = array
    for number, group in groups.items():
        layer, own = layers[number], _own(layers[number])
        for what in group.keys() - _ADAPTER:
            if what not in own or own[what].shape != group[what].shape or own[what].dtype != group[what].dtype:
                raise _strange(where, f"{number}/{what} is not of the shape or type of {layer.path}")
            own[what] = group[what]
        if present := group.keys() & _ADAPTER:
            _check_adapter(layer, group, own, where, f"{number}/{', '.join(sorted(present))}")
            if merged:
                own["0"] = _merged(own["0"], group)
        layer.load_own_variables(own)
        if present and not merged:
            layer.enable_lora(group["a"].shape[-1], lora_alpha=float(group["alpha"]))
            for variable, name in zip(_adapter(layer), ("a", "b"), strict=True):
                variable.assign(group[name])


def dump(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The same bytes for the same arrays."""
    target = io.BytesIO()
    np.savez(target, allow_pickle=False, **dict(sorted(arrays.items())))
    return target.getvalue()


def read(path: Path) -> Arrays:
    """The arrays in the file; nothing is unpickled. Raises :class:`ModelError` when it is missing or none."""
    where = Where(file=str(path))
    if not path.is_file():
        raise ModelError("what the model adds to its base is missing", where=where, fix="fetch the folder again")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            return {name: saved[name] for name in saved.files}
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise _strange(where, f"it cannot be read ({str(error)[:200]})") from error


def _own(layer: Any) -> Arrays:
    store: dict[str, Any] = {}
    layer.save_own_variables(store)
    return {name: np.asarray(value) for name, value in store.items()}


def _is_own(name: str, number: int) -> bool:
    layer, _, what = name.partition("/")
    return layer == str(number) and what not in _ADAPTER


def _adapter(layer: Any) -> tuple[Any, Any]:
    kind = "kernel" if hasattr(layer, "lora_kernel_a") else "embeddings"
    return getattr(layer, f"lora_{kind}_a"), getattr(layer, f"lora_{kind}_b")


def _check_adapter(layer: Any, group: Arrays, own: Arrays, where: Where, name: str) -> None:
    if group.keys() & set(_ADAPTER) != set(_ADAPTER) or not hasattr(layer, "enable_lora") or "0" not in own:
        raise _strange(where, f"{name} is no adapter of {layer.path}")
    a, b, kernel = group["a"], group["b"], own["0"]
    rank = a.shape[-1] if a.ndim else 0
    fits = rank > 0 and a.shape == (*kernel.shape[:-1], rank) and b.shape == (rank, kernel.shape[-1])
    if not fits or group["alpha"].shape != () or {each.dtype for each in (a, b, kernel)} != {np.dtype(np.float32)}:
        raise _strange(where, f"{name} is not of the shape or type of {layer.path}")


def _merged(kernel: npt.NDArray[Any], group: Arrays) -> npt.NDArray[Any]:
    """As Keras' own layers do it, so that the bits are the same."""
    ops = keras().ops
    scale = float(group["alpha"]) / group["a"].shape[-1]
    return np.asarray(ops.add(kernel, scale * ops.matmul(group["a"], group["b"])))


def _strange(where: Where, what: str) -> ModelError:
    return ModelError(f"this is not what the model adds to its base: {what}", where=where, fix="fetch it again")
