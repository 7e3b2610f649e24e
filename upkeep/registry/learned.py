"""May rows that are held out now have taught a version?"""

from __future__ import annotations

from typing import Any

from upkeep.data.layout import content_is_key
from upkeep.errors import OutsideError, UpkeepError
from upkeep.registry.card import Card
from upkeep.registry.registry import Registry
from upkeep.spec.load import from_canonical
from upkeep.spec.model import ModelSpec


def adopted(card: Card) -> bool:
    """Its training rows are not known."""
    return card.trained.strategy == "adopted"


def other_split(spec: ModelSpec, registry: Registry, card: Card, *, privacy_key: str) -> bool:
    """Whether it was trained when other rows were held out; also where that cannot be told.

    ``privacy_key``: the name of the key that the rows at hand were hashed with.
    """
    if adopted(card):
        return False
    try:
        then = from_canonical(registry.get_spec(card.spec), card.spec)
        key_then = registry.get_dataset(card.dataset).privacy_key if card.dataset else ""
    except OutsideError:
        raise
    except UpkeepError:
        return True
    return _split(then, key_then) != _split(spec, privacy_key)


def may_have_learned(spec: ModelSpec, registry: Registry, card: Card, *, privacy_key: str) -> bool:
    """Whether held-out rows of its own periods may have taught it."""
    return adopted(card) or other_split(spec, registry, card, privacy_key=privacy_key)


def _split(spec: ModelSpec, privacy_key: str) -> tuple[Any, ...]:
    """Everything that decides which rows are held out."""
    data, split = spec.data, spec.data.split
    if split.method == "prequential":
        return (split.method,)
    if split.method == "random_state":
        return (split.method, split.held_out, split.random_state)
    # without a key of its own, a row's content is its key
    content = (data.features, data.time, data.target.column) if content_is_key(data) else None
    key = data.features.all if content else (split.group or data.id,)
    hashed = {privacy_key} if set(key) & set(data.privacy.hash) else set()
    return (split.method, split.held_out, split.salt or spec.name, split.group, data.id, data.time, content, hashed)
