"""A trained candidate, as one record from train to deploy: stored under its digest, passed on by that digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from upkeep import records
from upkeep.models.folder import load
from upkeep.models.manifest import Predictor
from upkeep.registry.registry import Registry
from upkeep.training.task import TrainingResult


@dataclass(frozen=True, kw_only=True)
class TrainedCandidate:
    model: str
    """Digest of the model's bytes."""
    format: str
    """Of the model's manifest: sklearn or ensemble."""
    size_bytes: int
    parents: tuple[str, ...]
    """Digests of the models it was made from."""
    result: TrainingResult
    schema_version: int = 1


def put(registry: Registry, trained: TrainedCandidate) -> str:
    """Store the record; its digest."""
    data = records.to_json(trained)
    name = records.digest(data)
    registry.store.create(f"{registry.model}/trained/{name}.json", data)
    return name


def get(registry: Registry, name: str) -> TrainedCandidate:
    key = f"{registry.model}/trained/{name}.json"
    return records.from_json(TrainedCandidate, registry.store.get(key), source=key)


def get_all(registry: Registry, names: Mapping[str, str]) -> dict[str, TrainedCandidate]:
    """Candidate → its record, in the order given."""
    return {candidate: get(registry, name) for candidate, name in names.items()}


def predictor(registry: Registry, digest: str, folder: Path, allowed: tuple[str, ...]) -> Predictor:
    """Fetch the model's bytes to ``folder/<digest>``, check them, and load them."""
    return load(registry.get_model(digest, folder / digest), allowed=allowed)
