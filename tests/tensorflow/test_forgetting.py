"""What a network forgot: from its own state, and from the champion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.tensorflow.keras_make import network, tuned
from tests.unit.registry.registry_fakes import card
from tests.unit.update.rounds_make import updates
from upkeep import records
from upkeep.models import keras_file
from upkeep.spec.load import canonical
from upkeep.spec.model import Network


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what asks the models a thousand times."""
    monkeypatch.setattr("upkeep.evaluation.evaluate._curves", lambda *_, **__: None)
    monkeypatch.setattr("upkeep.evaluation.evaluate.measure_cost", lambda *_, **__: None)
    monkeypatch.setattr("upkeep.evaluation.evaluate.permutation_importance", lambda *_, **__: ())


def test_a_network_is_held_against_where_it_last_stood(tmp_path: Path) -> None:
    made = updates(tmp_path, 2, tuned(epochs=1), rows=150, min_rows=10)
    first = made.round("2024-01")
    (found,) = made.round("2024-02").forgetting
    assert (found.went_on_from, found.failed) == ("where it last stood", "")
    assert [one.periods for one in found.matrix.rounds] == [("2024-01",), ("2024-01", "2024-02")]
    assert found.matrix.rounds[0].model == first.chosen_model  # the state's network is that model, to the byte
    assert found.backward is not None


def test_a_network_that_goes_on_from_the_champion_is_held_against_it(tmp_path: Path) -> None:
    candidate = tuned(base="champion", network=Network(hidden=(6,)), epochs=1)
    made = updates(tmp_path, 2, candidate, rows=150, min_rows=10)
    first = made.round("2024-01")
    assert first.forgetting[0].went_on_from == ""
    assert first.chosen_model is not None
    serves = card(first.chosen_model, spec=made.registry.put_spec(canonical(made.spec)))
    trained = replace(serves.trained, strategy="fine_tune", periods=("2024-01",), until="2024-01")
    made.registry.register(replace(serves, model=made.spec.name, dataset=None, trained=trained))
    (found,) = made.round("2024-02", champion="v1").forgetting
    assert (found.went_on_from, found.failed) == ("champion v1", "")
    assert [(one.period, one.known_before) for one in found.periods] == [("2024-01", True), ("2024-02", False)]
    assert found.matrix.rounds[0].model == first.chosen_model


def test_a_networks_first_update_is_told_against_its_base_and_the_later_ones_against_itself(tmp_path: Path) -> None:
    base = tmp_path / "base.keras"
    base.write_bytes(keras_file.dump(network()))
    candidate = tuned(base=str(base), digest=records.digest(base.read_bytes()), epochs=1)
    made = updates(tmp_path, 2, candidate, rows=150, min_rows=10)
    (found,) = made.round("2024-01").forgetting
    assert (found.went_on_from, found.failed) == ("its base", "")
    assert [(one.period, one.known_before) for one in found.periods] == [("2024-01", False)]
    assert [one.periods for one in found.matrix.rounds] == [(), ("2024-01",)]
    (found,) = made.round("2024-02").forgetting
    assert found.went_on_from == "where it last stood"
    assert [one.periods for one in found.matrix.rounds] == [(), ("2024-01",), ("2024-01", "2024-02")]
