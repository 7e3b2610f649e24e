"""What is stored of a version is held to Git: a real repository, a store in a folder, and somebody who edits it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.unit.data import make
from tests.unit.registry.registry_fakes import SPEC, card
from tests.unit.report import samples
from tests.unit.serving.server.server_make import flights_model
from upkeep import records
from upkeep.evaluation.result import Evaluation
from upkeep.registry.card import Card
from upkeep.registry.registry import Registry
from upkeep.rollout.controller import Evidence, evidence_key
from upkeep.rollout.release import NewVersion, open_repository, propose, read_release, release_folder
from upkeep.rollout.state import State, render_state
from upkeep.serving.manifests import ServedVersion
from upkeep.spec.model import ModelSpec
from upkeep.store import open_store
from upkeep.update.verify import verify_version

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    made = replace(make.spec("data"), store=str(tmp_path / "store"))
    return replace(made, rollout=replace(made.rollout, repository=str(tmp_path / "store" / made.name / "releases.git")))


@pytest.fixture
def registry(spec: ModelSpec) -> Registry:
    return Registry(open_store(spec.store), spec.name)


def evaluation(digest: str, champion: str | None = None) -> Evaluation:
    found = samples.passing().evaluation
    assert found is not None
    return replace(found, champion=champion, chosen_model=digest)


def model(folder: Path, mark: str = "") -> Path:
    """``mark`` makes other bytes of the same model."""
    flights_model(folder)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text() + mark)
    return folder


def released_as(spec: ModelSpec, registry: Registry, folder: Path, update: str, champion: str | None = None) -> Card:
    """A version, what it was judged on, and the commit that proposes it."""
    digest = registry.put_model(folder)
    result = evaluation(digest, champion)
    registry.put_spec(SPEC)
    registry.put_update(update, "evaluation.json", records.to_json(result))
    made = registry.register(
        card(
            digest, model=registry.model, update=update, champion=champion,
            verdict=result.verdict, scores=result.scores["candidate"],
        )
    )  # fmt: skip
    new = NewVersion(
        served=ServedVersion(version=made.version, digest=digest, update=update),
        verdict="pass",
        evidence=records.digest(records.to_json(result)),
        card=records.digest(records.to_json(made)),
    )
    propose(spec, new, expected_champion=champion, now=lambda: NOW)
    return made


@pytest.fixture
def released(spec: ModelSpec, registry: Registry, tmp_path: Path) -> Card:
    return released_as(spec, registry, model(tmp_path / "one"), "u1")


def told(spec: ModelSpec, registry: Registry, version: str = "v1") -> str:
    return "\n".join(str(problem) for problem in verify_version(spec, registry, version))


def test_what_nobody_touched_is_whole(spec: ModelSpec, registry: Registry, released: Card) -> None:
    assert told(spec, registry) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card: replace(card, rows={"train": 7}), "not the card that commit"),
        (lambda card: replace(card, dataset=None, created="2020-01-01T00:00:00+00:00"), "not the card that commit"),
        (lambda card: replace(card, scores={}), "`scores` in the card"),
        (lambda card: replace(card, verdict=replace(card.verdict, verdict="fail")), "`verdict` in the card"),
        (lambda card: replace(card, champion="v7"), "`champion` in the card"),
    ],
)
def test_an_edited_card_is_told(
    spec: ModelSpec, registry: Registry, released: Card, change: Callable[[Card], Card], words: str
) -> None:
    registry.store.put(f"{registry.model}/versions/v1.json", records.to_json(change(released)))
    assert words in told(spec, registry)


def test_bytes_of_another_model_under_the_versions_name_are_told(
    spec: ModelSpec, registry: Registry, released: Card, tmp_path: Path
) -> None:
    other = registry.put_model(model(tmp_path / "other", "\n"))
    assert other != released.digest
    registry.store.put(f"{registry.model}/versions/v1.json", records.to_json(replace(released, digest=other)))
    said = told(spec, registry)
    assert "other bytes than commit" in said
    assert "`digest` in the card" in said


def test_an_edited_evaluation_is_told_and_a_missing_one(spec: ModelSpec, registry: Registry, released: Card) -> None:
    edited = replace(evaluation(released.digest), metric="recall")
    registry.put_update("u1", "evaluation.json", records.to_json(edited))
    assert "another record" in told(spec, registry)
    registry.store.delete(f"{registry.model}/updates/u1/evaluation.json")
    assert "is not there" in told(spec, registry)


def test_the_evidence_of_each_step_is_held_to_its_commit(
    spec: ModelSpec, registry: Registry, released: Card, tmp_path: Path
) -> None:
    released_as(spec, registry, model(tmp_path / "two", "\n"), "u2", "v1")
    assert told(spec, registry, "v2") == ""
    with open_repository(spec) as repository:
        tree = repository.read("main", release_folder(spec))
        stands = read_release(spec, tree)
        assert stands is not None
        evidence = _evidence(spec, stands.state)
        digest = records.digest(records.to_json(evidence))
        held = replace(stands.state, phase="held", came_from="pending", evidence=digest)
        message = f"held\n\nUpkeep-Model: {spec.name}\nUpkeep-Version: v2\nUpkeep-Evidence: {digest}\n"
        path = f"{release_folder(spec)}/rollout.yaml"
        repository.commit_and_push("main", tree.commit, {path: render_state(held)}, message, NOW)
    assert "is not there" in told(spec, registry, "v2")
    key = evidence_key(spec.name, held.rollout, 1, digest)
    registry.store.put(key, records.to_json(evidence))
    assert told(spec, registry, "v2") == ""
    registry.store.put(key, records.to_json(replace(evidence, verdict="pass")))
    assert "another record" in told(spec, registry, "v2")


def _evidence(spec: ModelSpec, state: State) -> Evidence:
    return Evidence(
        model=spec.name, rollout=state.rollout, number=1, at="2026-03-01T00:00:00Z", before=state, after=state,
        reason="so", verdict="insufficient", weights=None, counters=None, probe=None, edit=None, analysis=None,
        shadow=None, troubles={},
    )  # fmt: skip
