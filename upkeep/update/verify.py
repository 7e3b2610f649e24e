"""Is a registered version whole, is it what Git and its evaluation say of it, and does it load?"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from upkeep import records
from upkeep.errors import IntegrityError, Problem, UpkeepError, Where
from upkeep.evaluation.result import Evaluation
from upkeep.registry.card import Card
from upkeep.registry.learned import adopted
from upkeep.registry.registry import Registry
from upkeep.rollout.history import Entry, history
from upkeep.spec.model import ModelSpec
from upkeep.store import MissingObject
from upkeep.update import trained
from upkeep.update.evaluated import EVALUATION

_RESTORE = "restore it from a backup; nobody should edit the store by hand"


def verify_version(spec: ModelSpec, registry: Registry, version: str) -> Sequence[Problem]:
    """What is wrong with the version's bytes, card, records and evidence; empty when it is whole and loads.

    The store is held to its own digests, the card to the evaluation that it sums up, and all of them to Git, which has
    the digests of the bytes, of the card and of each piece of evidence. Raises :class:`~upkeep.errors.InputError` when
    there is no such version, and what reading Git raises.
    """
    problems = registry.verify(version)
    if problems:
        return problems
    card = registry.card(version)
    problems = (*_evaluation(registry, card), *_cited(registry, card, history(spec)))
    if problems:
        return problems
    with tempfile.TemporaryDirectory(prefix="upkeep-verify-") as folder:
        try:
            trained.predictor(registry, card.digest, Path(folder), spec.estimators)
        except UpkeepError as error:
            return error.problems
    return ()


def _evaluation(registry: Registry, card: Card) -> Iterator[Problem]:
    """Where the card says otherwise than what was measured."""
    if adopted(card):
        return
    where = Where(file=f"{registry.store.uri}/{registry.model}/versions/{card.version}.json")
    try:
        data = registry.get_update(card.update, EVALUATION)
        found = records.from_json(Evaluation, data, source=f"updates/{card.update}/{EVALUATION}")
    except (MissingObject, IntegrityError) as error:
        yield from error.problems
        return
    said: dict[str, tuple[Any, Any]] = {
        "digest": (card.digest, found.chosen_model),
        "verdict": (card.verdict, found.verdict),
        "scores": (card.scores, found.scores.get("candidate", {})),
        "champion": (card.champion, found.champion),
    }
    for name, (ours, theirs) in said.items():
        if ours != theirs:
            yield Problem(f"`{name}` in the card is not what update {card.update} measured", where, _RESTORE)


def _cited(registry: Registry, card: Card, entries: Sequence[Entry]) -> Iterator[Problem]:
    """Where the store has not what a commit says of the version."""
    store, version = registry.store, card.version
    place = f"{registry.model}/versions/{version}.json"
    digest = records.digest(store.get(place))
    for entry in entries:
        commit = f"commit {entry.commit[:12]}"
        proposed = entry.trailers.get("Upkeep-Version") == version and "Upkeep-Update" in entry.trailers
        if not (proposed or entry.rollout.startswith(f"{version}-")):
            continue
        roles = (entry.serving.champion, entry.serving.canary) if entry.serving else ()
        if any(role and role.version == version and role.digest != card.digest for role in roles):
            yield Problem(f"the card names other bytes than {commit}", Where(file=f"{store.uri}/{place}"), _RESTORE)
        if entry.trailers.get("Upkeep-Card", digest) != digest:
            yield Problem(f"this is not the card that {commit} cites", Where(file=f"{store.uri}/{place}"), _RESTORE)
        if entry.evidence and not (proposed and adopted(card) and entry.evidence == digest):
            yield from _evidence(registry, card, entry, entry.evidence, proposed=proposed)


def _evidence(registry: Registry, card: Card, entry: Entry, digest: str, *, proposed: bool) -> Iterator[Problem]:
    store = registry.store
    if proposed:
        key: str | None = f"{registry.model}/updates/{card.update}/{EVALUATION}"
    else:
        kept = store.list(f"{registry.model}/evidence/{entry.rollout}")
        key = next((each.key for each in kept if each.key.endswith(f"-{digest}.json")), None)
    cites = f"commit {entry.commit[:12]} cites the evidence {digest[:12]}"
    if key is None or not store.exists(key):
        place = f"{store.uri}/{key or f'{registry.model}/evidence/{entry.rollout}'}"
        yield Problem(f"{cites}, and it is not there", Where(file=place), "restore it from a backup")
    elif records.digest(store.get(key)) != digest:
        yield Problem(f"{cites}, and this is another record", Where(file=f"{store.uri}/{key}"), _RESTORE)
