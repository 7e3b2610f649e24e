"""What came of a registered version: the card says what the gate found, and this what followed."""

from __future__ import annotations

from dataclasses import dataclass

from upkeep import records
from upkeep.errors import OutsideError
from upkeep.evaluation.result import VerdictName
from upkeep.registry.card import Card
from upkeep.registry.registry import Registry
from upkeep.rollout.release import serving_now
from upkeep.spec.model import ModelSpec
from upkeep.store import MissingObject
from upkeep.update.record import UpdateRecord


@dataclass(frozen=True, kw_only=True)
class Outcome:
    verdict: VerdictName | None
    """The update's own, at its end; None: its record is not there, or there was nothing to judge the model on."""
    outcome: str
    """As in :class:`~upkeep.update.record.UpdateRecord`; ``adopted``; or ``unknown``, where no record is left."""
    message: str
    """What the update did, in a sentence."""
    taken_back: bool
    """The card says ``pass``, and the update did not end so."""
    now: str
    """What Git says of the version's bytes today, in a sentence."""


def outcome_of(spec: ModelSpec, registry: Registry, version: str) -> Outcome:
    """Raises :class:`~upkeep.errors.InputError` when there is no such version."""
    card = registry.card(version)
    now = _now(spec, card)
    if card.trained.strategy == "adopted":
        return Outcome(verdict=None, outcome="adopted", message="it served already", taken_back=False, now=now)
    try:
        data = registry.get_update(card.update, "record.json")
    except MissingObject:
        text = f"update {card.update} left no record: it ended before it could tell what came of the version"
        return Outcome(verdict=None, outcome="unknown", message=text, taken_back=True, now=now)
    record = records.from_json(UpdateRecord, data, source=f"updates/{card.update}/record.json")
    passed = card.verdict is not None and card.verdict.verdict == "pass"
    return Outcome(
        verdict=record.verdict.verdict,
        outcome=record.outcome,
        message=record.message,
        taken_back=passed and record.verdict.verdict != "pass",
        now=now,
    )


def _now(spec: ModelSpec, card: Card) -> str:
    try:
        serving = serving_now(spec)
    except OutsideError:
        return "not known: the repository cannot be reached"
    barred = next((each for each in serving.barred if each.digest == card.digest), None)
    if barred is not None:
        return f"barred since {barred.since}, taken back as {barred.version}: {barred.reason}"
    if serving.champion is not None and serving.champion.digest == card.digest:
        return f"serves as the champion since {serving.champion.since}"
    if serving.canary is not None and serving.canary.digest == card.digest:
        return f"is the challenger, at {serving.weight} % ({serving.phase})"
    return "does not serve"
