"""collect: find the data, pin it by digest, and read what serves."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from upkeep import records
from upkeep.data import collect as data
from upkeep.evaluation.attributions import require
from upkeep.rollout.release import serving_now
from upkeep.update.context import ArtifactLike, Context, step


class Collected(NamedTuple):
    """Parameters of the later steps: KFP caches by them, so everything a step depends on must show here."""

    dataset_digest: str
    champion: str
    """The version that serves (``v3``), or nothing."""
    states: dict[str, str]
    """Candidate → the name of the state it goes on from."""
    seen: str
    """Names the held-out rows of earlier updates."""
    swept: str
    """Names the newest sweep: what trainings before it had made may be gone."""
    rounds: dict[str, str]
    """Candidate → the name of the record of what it scored after each round of learning."""


@step
def collect(context: Context, *, until: str, accept_changed: bool, dataset: ArtifactLike) -> Collected:
    spec, registry = context.spec, context.registry
    require(spec.explain)  # told before anything is trained
    context.progress("looking for data")
    found = data.collect(spec, until=until or None, previous=registry.datasets(), accept_changed=accept_changed)
    records.write(Path(dataset.path), found)
    registry.put_dataset(found)
    context.progress(f"{len(found.files)} files, digest {found.digest[:12]}", 1.0)
    dataset.metadata.update(digest=found.digest, files=len(found.files))
    serving = serving_now(spec)
    champion = serving.champion.version if serving.champion else ""
    states = {name: state for c in spec.candidates if (state := registry.latest_state(name := c.name))}
    rounds = {name: record for c in spec.candidates if (record := registry.latest_rounds(name := c.name))}
    return Collected(found.digest, champion, states, registry.held_out_name(), registry.last_sweep(), rounds)
