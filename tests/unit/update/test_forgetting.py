"""From update to update: the model before, and the rounds, through the store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.unit.data import make
from tests.unit.update.rounds_make import updates
from upkeep.spec.model import ForgettingRule, Incremental

ONLINE = Incremental(
    name="online",
    strategy="incremental",
    estimator="sklearn.linear_model.SGDClassifier",
    params={"loss": "log_loss"},
    rehearsal=0.0,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what asks the models a thousand times."""
    monkeypatch.setattr("upkeep.evaluation.evaluate._curves", lambda *_, **__: None)
    monkeypatch.setattr("upkeep.evaluation.evaluate.measure_cost", lambda *_, **__: None)
    monkeypatch.setattr("upkeep.evaluation.evaluate.permutation_importance", lambda *_, **__: ())


def test_the_matrix_grows_by_a_round_an_update(tmp_path: Path) -> None:
    rule = ForgettingRule(worse_by_at_most=0.3, min_rows=20)
    made = updates(tmp_path, 3, ONLINE, min_rows=20, forgetting=rule)
    months = ("2024-01", "2024-02", "2024-03")

    def said() -> list[tuple[str, str]]:
        return [(one.rule, one.finding) for one in made.last.verdict.reasons if one.rule.startswith("gate.forgetting")]

    first = made.round(months[0])
    assert said() == [("gate.forgetting", "note")]
    (begun,) = first.forgetting
    assert (begun.went_on_from, begun.periods, begun.backward) == ("", (), None)
    assert [(one.periods, set(one.scores)) for one in begun.matrix.rounds] == [(months[:1], set(months[:1]))]

    second = made.round(months[1])
    assert said() == [("gate.forgetting", "pass")]
    (found,) = second.forgetting
    assert found.went_on_from == "where it last stood"
    assert [(one.period, one.known_before) for one in found.periods] == [(months[0], True), (months[1], False)]
    assert [one.model for one in found.matrix.rounds] == [first.chosen_model, second.chosen_model]
    assert set(found.matrix.rounds[0].scores) == set(months[:2])  # how good it was at the month it had not seen
    assert found.forward_over == found.backward_over == 1

    third = made.round(months[2])
    (found,) = third.forgetting
    assert found.matrix == made.rounds("online")
    rows = found.matrix.rounds
    assert [one.periods for one in rows] == [months[:1], months[:2], months]
    gaps = [rows[2].scores[months[i]] - rows[i].scores[months[i]] for i in range(2)]  # type: ignore[operator]
    assert found.backward == pytest.approx(sum(gaps) / 2)
    assert made.metrics["backward_transfer"] == pytest.approx(found.backward)
    assert made.metrics["worst_change_on_an_old_period"] == min(
        one.change.estimate for one in found.periods if one.known_before and one.change
    )
    # the same rows once more: nothing is learned, nothing is forgotten, and no round is added
    again = made.round(months[2])
    assert again.chosen_model == third.chosen_model
    assert len(again.forgetting[0].matrix.rounds) == 3
    assert {one.change.estimate for one in again.forgetting[0].periods if one.change} == {0.0}
    assert made.round(months[2]).forgetting == again.forgetting  # as KFP's cache would have it


def test_a_candidate_that_starts_anew_starts_its_rounds_anew(tmp_path: Path) -> None:
    made = updates(tmp_path, 2, ONLINE, min_rows=20)
    made.round("2024-01")
    other = replace(ONLINE, params={"loss": "log_loss", "alpha": 0.01})
    made.spec = replace(made.spec, candidates=(other,))
    (found,) = made.round("2024-02").forgetting
    assert found.went_on_from == ""
    assert len(found.matrix.rounds) == len(made.rounds("online").rounds) == 1


def test_one_that_loses_is_told_on_validation_rows_and_leaves_no_round(tmp_path: Path) -> None:
    made = updates(tmp_path, 2, make.ONE, ONLINE, min_rows=20)
    made.spec = replace(made.spec, candidates=(make.ONE, replace(ONLINE, params={"loss": "log_loss", "alpha": 10.0})))
    made.round("2024-01")
    found = made.round("2024-02")
    assert found.chosen == "one"
    assert [(one.candidate, one.row_set) for one in found.forgetting] == [("online", "validation")]
    assert made.registry.latest_rounds("online") == ""


def test_a_sweep_keeps_the_newest_rounds_and_what_a_training_went_on_from(tmp_path: Path) -> None:
    made = updates(tmp_path, 2, ONLINE, min_rows=20)
    made.round("2024-01")
    made.round("2024-02")
    kept = made.rounds("online")
    late = datetime.now(UTC) + timedelta(days=60)
    assert made.registry.sweep(datetime.now(UTC), timedelta(days=30)) == ()
    gone = made.registry.sweep(late, timedelta(days=30))
    assert [key for key in gone if "/rounds/" in key]
    assert made.rounds("online") == kept
