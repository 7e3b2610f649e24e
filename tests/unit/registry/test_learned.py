"""Whether held-out rows may have taught a champion: adopted, or another split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.data import make
from tests.unit.registry.registry_fakes import card, dataset
from upkeep.errors import OutsideError
from upkeep.registry.card import Card
from upkeep.registry.learned import may_have_learned, other_split
from upkeep.registry.registry import Registry
from upkeep.spec.load import canonical
from upkeep.spec.model import Features, ModelSpec, Privacy, Split
from upkeep.store import open_store


@pytest.fixture
def spec() -> ModelSpec:
    return make.spec("data", time="time", split=Split(group="day", salt="s"))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(open_store(str(tmp_path / "store")), "toy")


def made_with(registry: Registry, spec: ModelSpec) -> Card:
    return card("digest", spec=registry.put_spec(canonical(spec)))


def test_the_same_split_with_other_settings_is_the_same(registry: Registry, spec: ModelSpec) -> None:
    champion = made_with(registry, spec)
    now = replace(spec, candidates=(make.ONE, make.TWO), data=replace(spec.data, features=Features(numeric=("size",))))
    assert not other_split(now, registry, champion, privacy_key="")
    assert not may_have_learned(now, registry, champion, privacy_key="")


@pytest.mark.parametrize(
    "change", [{"group": None}, {"salt": "other"}, {"held_out": 0.3}, {"method": "prequential"}], ids=str
)
def test_another_split_is_told(registry: Registry, spec: ModelSpec, change: dict[str, Any]) -> None:
    champion = made_with(registry, spec)
    now = replace(spec, data=replace(spec.data, split=replace(spec.data.split, **change)))
    assert other_split(now, registry, champion, privacy_key="")
    assert may_have_learned(now, registry, champion, privacy_key="")


def test_without_a_key_the_content_is_the_key(registry: Registry) -> None:
    spec = make.spec("data", id=None)
    champion = made_with(registry, spec)
    now = replace(spec, data=replace(spec.data, features=Features(numeric=("size",))))
    assert other_split(now, registry, champion, privacy_key="")


@pytest.mark.parametrize(
    ("privacy", "data", "moved"),
    [
        (Privacy(hash=("id",)), {"split": Split(salt="s")}, True),
        (Privacy(hash=("colour",)), {"split": Split(salt="s")}, False),
        (Privacy(hash=("colour",)), {"split": Split(group="colour", salt="s")}, True),
        (Privacy(hash=("colour",)), {"id": None, "split": Split(salt="s")}, True),
        (Privacy(hash=("id",)), {"time": "time", "split": Split(group="day", salt="s")}, False),
        (Privacy(), {"split": Split(salt="s")}, False),
    ],
    ids=str,
)
def test_another_privacy_key_moves_the_split_where_a_hashed_column_decides_it(
    registry: Registry, privacy: Privacy, data: dict[str, Any], moved: bool
) -> None:
    spec = make.spec("data", privacy=privacy, **data)
    then = replace(dataset("a.csv"), privacy_key="one")
    champion = replace(made_with(registry, spec), dataset=registry.put_dataset(then))
    assert not other_split(spec, registry, champion, privacy_key="one")
    assert other_split(spec, registry, champion, privacy_key="two") == moved


def test_a_spec_that_is_gone_is_another_and_a_store_that_is_away_an_error(
    registry: Registry, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert other_split(spec, registry, card("digest", spec="0" * 64), privacy_key="")

    def away(digest: str) -> bytes:
        raise OutsideError("the store cannot be reached")

    monkeypatch.setattr(registry, "get_spec", away)
    with pytest.raises(OutsideError):
        other_split(spec, registry, card("digest"), privacy_key="")


def test_what_taught_an_adopted_model_is_not_known(registry: Registry, spec: ModelSpec) -> None:
    champion = made_with(registry, spec)
    champion = replace(champion, trained=replace(champion.trained, strategy="adopted"))
    assert may_have_learned(spec, registry, champion, privacy_key="")
    assert not other_split(spec, registry, champion, privacy_key="")
