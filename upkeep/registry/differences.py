"""What differs between two versions, field by field: data for ``upkeep versions diff``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from upkeep import records
from upkeep.data.dataset import Dataset
from upkeep.registry.card import Card

Value = str | float | int | bool | None
Side = tuple[Card, bytes | None, Dataset | None]

_OWN = ("version", "created", "update", "kind", "schema_version", "scores", "verdict", "drift", "model")
"""Fields in which any two cards differ, or that are told apart below."""


@dataclass(frozen=True)
class Difference:
    """One field that differs."""

    field: str
    """A dotted path: ``trained.params.max_iter``, ``scores.new.f1``, ``spec.gate.better.by``, ``data.<file name>``."""
    a: Value
    """None: not there."""
    b: Value


def card_differences(one: Side, other: Side) -> tuple[Difference, ...]:
    """The fields of two cards, their specs (canonical JSON) and datasets that differ; those of the card first."""
    a, b = _fields(*one), _fields(*other)
    names = list(dict.fromkeys([*a, *b]))
    return tuple(
        Difference(name, a.get(name), b.get(name))
        for name in names
        if _differ(a.get(name), b.get(name)) or (name in a) != (name in b)
    )


def _differ(a: Value, b: Value) -> bool:
    return type(a) is not type(b) or a != b


def _fields(card: Card, spec: bytes | None, dataset: Dataset | None) -> dict[str, Value]:
    plain = records.plain(card)
    found = _flat("", {name: value for name, value in plain.items() if name not in _OWN})
    for row_set, scores in card.scores.items():
        found[f"scores.{row_set}.rows"] = scores.rows
        for metric, value in scores.metrics.items():
            found[f"scores.{row_set}.{metric}"] = value
    if card.verdict:
        found |= {"verdict": card.verdict.verdict, "verdict.case": card.verdict.case}
    if spec is not None:
        found |= _flat("spec", json.loads(spec))
    if dataset is not None:
        found |= {f"data.{file.name}": file.digest for file in dataset.files}
        found["data.until"] = dataset.until
    return found


def _flat(path: str, value: Any) -> dict[str, Value]:
    """Every leaf under its dotted path. A list of plain values is one leaf, a list of named things goes by name."""
    if isinstance(value, dict):
        found: dict[str, Value] = {}
        for name, item in value.items():
            found |= _flat(f"{path}.{name}" if path else name, item)
        return found
    if isinstance(value, list):
        if any(isinstance(item, dict | list) for item in value):
            named = [item.get("name") if isinstance(item, dict) else None for item in value]
            keys = named if all(named) and len(set(named)) == len(named) else range(len(value))
            found = {}
            for key, item in zip(keys, value, strict=True):
                found |= _flat(f"{path}[{key}]", item)
            return found
        return {path: ", ".join(map(str, value))}
    return {path: value}
