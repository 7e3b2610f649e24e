"""Which layers of a network learn."""

from __future__ import annotations

from typing import Any

from upkeep.errors import SpecError, Where
from upkeep.models.keras_delta import weighted
from upkeep.spec.model import Lora, TrainedLayers


def open_layers(model: Any, wanted: TrainedLayers, where: str) -> tuple[str, ...]:
    """Make ``wanted`` layers learn and no other; their paths. ``where``: the spec's key, for the error.

    Raises :class:`SpecError` naming what there is, where a name fits no layer.
    """
    every = weighted(model)
    for layer in every:
        layer.trainable = True
    chosen = every
    if wanted.lora is not None:
        chosen = [*_adapt(every, wanted.lora, where), every[-1]]
    elif wanted.layers is not None:
        chosen = [*_named(every, wanted.layers, f"{where}.layers"), every[-1]]
    elif wanted.last is not None:
        chosen = every[-wanted.last :]
    ids = {id(layer) for layer in chosen}
    opened = tuple(layer.path for layer in every if id(layer) in ids)
    only_last(model, opened, len(opened))
    return opened


def only_last(model: Any, opened: tuple[str, ...], count: int) -> None:
    """Of the layers in ``opened``, only the last ``count`` learn for now."""
    now = set(opened[-count:])
    for layer in weighted(model):
        layer.trainable = layer.path in now
        if layer.trainable and getattr(layer, "lora_enabled", False):  # the setter opened the weights beneath, too
            for variable in layer.trainable_variables:
                variable.trainable = "lora" in variable.name


def close_all(model: Any) -> None:
    """As a model is kept: every layer may learn again."""
    for layer in weighted(model):
        layer.trainable = True


def _named(every: list[Any], names: tuple[str, ...], where: str) -> list[Any]:
    chosen = []
    for name in names:
        fitting = [layer for layer in every if f"/{layer.path}".endswith(f"/{name}")]
        if not fitting:
            there = ", ".join(dict.fromkeys(layer.path for layer in every))
            raise SpecError(
                f"the network has no layer {name} with weights", where=Where(field=where), fix=f"it has {there[:500]}"
            )
        chosen += fitting
    return chosen


def _adapt(every: list[Any], lora: Lora, where: str) -> list[Any]:
    chosen = _named(every, lora.layers, f"{where}.lora.layers")
    for layer in chosen:
        if not hasattr(layer, "enable_lora"):
            raise SpecError(
                f"the layer {layer.path} takes no low-rank adapter: it is a {type(layer).__name__}",
                where=Where(field=f"{where}.lora.layers"),
                fix="choose Dense, EinsumDense or Embedding layers",
            )
        if not layer.lora_enabled:
            layer.enable_lora(lora.rank)
    return chosen
