"""May rows that are held out now have taught a version?"""

from __future__ import annotations

from typing import Any

from upkeep.errors import OutsideError, UpkeepError
from upkeep.registry.card import Card
from upkeep.registry.registry import Registry
from upkeep.spec.load import from_canonical
from upkeep.spec.model import ModelSpec


def adopted(card: Card) -> bool:
    """Its training rows are not known."""
    return card.trained.strategy == "adopted"


def other_split(spec: ModelSpec, registry: Registry, card: Card) -> bool:
    """Whether it was trained when other rows were held out; also where that cannot be told."""
    if adopted(card):
        return False
    try:
        then = from_canonical(registry.get_spec(card.spec), card.spec)
    except OutsideError:
        raise
    except UpkeepError:
        return True
    return _split(then) != _split(spec)


def may_have_learned(spec: ModelSpec, registry: Registry, card: Card) -> bool:
    """Whether held-out rows of its own periods may have taught it."""
    return adopted(card) or other_split(spec, registry, card)


def _split(spec: ModelSpec) -> tuple[Any, ...]:
    """Everything that decides which rows are held out."""
    data, split = spec.data, spec.data.split
    if split.method == "prequential":
        return (split.method,)
    if split.method == "random_state":
        return (split.method, split.held_out, split.random_state)
    # without a key of its own, a row's content is its key
    content = None if data.id or split.group else (data.features, data.time, data.target.column)
    return (split.method, split.held_out, split.salt or spec.name, split.group, data.id, data.time, content)
