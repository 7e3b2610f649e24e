"""A trained candidate, as one record from train to deploy: stored under its digest, passed on by that digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from upkeep import records
from upkeep.errors import OutsideError, Where
from upkeep.models.folder import load
from upkeep.models.manifest import Predictor
from upkeep.registry.registry import Registry
from upkeep.store import MissingObject
from upkeep.training.task import TrainingResult


@dataclass(frozen=True, kw_only=True)
class TrainedCandidate:
    model: str
    """Digest of the model's bytes."""
    format: str
    """Of the model's manifest."""
    size_bytes: int
    parents: tuple[str, ...]
    """Digests of the models it was made from."""
    result: TrainingResult
    base: str = ""
    """Of a delta: the digest of the model that it stands on."""
    state: str = ""
    """Digest of the state that it left; empty: it does not go on learning."""
    went_on_from: str = ""
    """Digest of the model that it went on from; empty: it learned all anew."""
    state_before: str = ""
    """Digest of the state that model was part of; empty: it was the champion."""
    knew: tuple[str, ...] = ()
    """The periods that this model had learned."""
    from_base: bool = False
    """It was the candidate's base: what that had learned is not known."""
    schema_version: int = 1


def put(registry: Registry, trained: TrainedCandidate) -> str:
    """Store the record; its digest."""
    return registry.put_trained(records.to_json(trained))


def get(registry: Registry, name: str) -> TrainedCandidate:
    """The record of what a training made, whose bytes are all there.

    Raises :class:`OutsideError` where a sweep took them since: the training was a cached one, and trains again in the
    next update.
    """
    try:
        record = records.from_json(TrainedCandidate, registry.get_trained(name), source=f"trained/{name}.json")
        missing = registry.missing(record.model)
        if record.went_on_from:
            missing += registry.missing(record.went_on_from)
    except MissingObject as error:
        raise _swept(error.problems[0].where) from error
    if missing:
        raise _swept(Where(file=f"{registry.store.uri}/{missing[0]}"))
    return record


def _swept(where: Where) -> OutsideError:
    return OutsideError(
        "what a training had made is not there any more: a sweep took it while a cached task still named it",
        where=where,
        fix="run the update again: it trains anew",
    )


def get_all(registry: Registry, names: Mapping[str, str]) -> dict[str, TrainedCandidate]:
    """Candidate → its record, in the order given."""
    return {candidate: get(registry, name) for candidate, name in names.items()}


def predictor(registry: Registry, digest: str, folder: Path, allowed: tuple[str, ...]) -> Predictor:
    """Fetch the model's bytes to ``folder/<digest>``, check them, and load them."""
    return load(registry.get_model(digest, folder / digest), allowed=allowed)
