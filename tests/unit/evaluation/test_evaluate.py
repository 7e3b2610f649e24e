"""An evaluation from models to verdict on a small prepared folder: the whole, and every case."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.evaluation.evaluation_fakes import FakePredictor, knows, model_spec, prepared_folder
from upkeep import records
from upkeep.data.prepared import Prepared
from upkeep.evaluation.answers import ask, collect, union_of_classes
from upkeep.evaluation.evaluate import CandidateInput, ChampionInput, Portion, Retrained, evaluate
from upkeep.evaluation.result import Evaluation
from upkeep.spec.model import Better, Ensemble, Explain, Fairness, Gate, ModelSpec, OldRows

GATE = Gate(better=Better(metric="f1", by=0.01), resamples=300, min_rows=100, old=OldRows(worse_by_at_most=0.05))


def candidate(name: str = "one", strength: float = 1.0, **more: Any) -> CandidateInput:
    fields: dict[str, Any] = {"predictor": FakePredictor(knows(strength))} | more
    return CandidateInput(name=name, strategy="retrain", digest=f"digest-{name}", folder=None, **fields)


def champion(strength: float = 0.4, until: str | None = "2013-03", **more: Any) -> ChampionInput:
    fields: dict[str, Any] = {"predictor": FakePredictor(knows(strength))} | more
    return ChampionInput(version="v1", digest="digest-v1", until=until, **fields)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def run(
    prepared: Prepared, candidates: list[CandidateInput], serves: ChampionInput | None, spec: ModelSpec | None = None,
    **more: Any,
) -> Evaluation:  # fmt: skip
    made = evaluate(spec or model_spec(GATE), prepared, candidates, serves, seed=0, clock=Clock(), **more)
    records.to_json(made)  # a record: no NaN, no numpy
    return made


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return prepared_folder(tmp_path / "prepared")


def test_a_better_candidate_on_new_rows_passes(prepared: Prepared) -> None:
    made = run(prepared, [candidate()], champion())
    assert made.verdict.verdict == "pass"
    assert made.verdict.case == "champion"
    new, old, every = made.paired
    assert (new.row_set, new.periods) == ("new", ("2013-04",))
    assert (old.row_set, old.periods) == ("old", ("2013-01", "2013-02", "2013-03"))
    assert every.rows == new.rows + old.rows == prepared.count(parts=("held_out",))
    assert new.groups == 8
    assert set(made.scores["candidate"]) == set(made.scores["champion"]) == {"all", "new", "old"}
    assert set(made.by_period["champion"]) == set(prepared.periods)
    assert sum(scores.rows for scores in made.by_period["champion"].values()) == every.rows
    findings = {part.value: part.finding for part in made.slices}
    assert findings["EWR"] == "better"
    assert findings["OO"] == "insufficient"
    assert {one.column for one in made.importance} == {"x", "noise"}
    assert made.importance[0].column == "x"
    assert set(made.cost) == {"candidate", "champion"}
    assert made.candidates[0].note == "the only candidate"
    assert {one.measure for one in made.fairness} >= {"equalized_odds_difference"}


def test_a_worse_candidate_fails(prepared: Prepared) -> None:
    assert run(prepared, [candidate(strength=0.2)], champion(1.0)).verdict.verdict == "fail"


def test_the_best_on_validation_rows_is_chosen_and_only_it_meets_the_held_out_rows(prepared: Prepared) -> None:
    several = [candidate("bad", 0.1), candidate("good", 1.0), candidate("alike", 1.0), candidate("fair", 0.6)]
    made = run(prepared, several, champion())
    assert made.chosen == "good"  # and not the equal one that comes later
    validation = prepared.count(parts=("validation",))
    for one in several:
        assert isinstance(one.predictor, FakePredictor)
        assert (one.predictor.asked == validation) == (one.name != "good")
    good = made.candidates[1]
    assert good.chosen
    assert good.validation is not None
    assert good.validation.rows == validation
    assert good.note.startswith("the best: f1 0.")


def test_with_stacking_half_of_the_validation_keys_choose(prepared: Prepared) -> None:
    spec = model_spec(GATE)
    stacked = Ensemble(name="stack", strategy="ensemble", members=("a", "b"), method="stacking")
    made = run(prepared, [candidate("a"), candidate("b")], None, replace(spec, candidates=(*spec.candidates, stacked)))
    assert made.candidates[0].validation is not None
    assert 0 < made.candidates[0].validation.rows < prepared.count(parts=("validation",))


def test_the_first_version_is_judged_on_its_own(prepared: Prepared) -> None:
    made = run(prepared, [candidate()], None)
    assert (made.verdict.verdict, made.verdict.case) == ("pass", "first")
    assert made.paired == ()
    assert set(made.scores) == {"candidate"}
    strict = replace(GATE, at_least={"f1": 0.999})
    assert run(prepared, [candidate()], None, model_spec(strict)).verdict.verdict == "fail"


def test_a_champion_that_cannot_be_loaded_or_asked(prepared: Prepared) -> None:
    made = run(prepared, [candidate()], champion(predictor=None, unreadable="a byte is flipped"))
    assert (made.verdict.verdict, made.verdict.case) == ("insufficient", "champion_unreadable")
    assert "a byte is flipped" in made.verdict.summary

    def broken(rows: pa.Table) -> np.ndarray:
        raise RuntimeError("no such kernel")

    made = run(prepared, [candidate()], champion(predictor=FakePredictor(broken)))
    assert (made.verdict.verdict, made.verdict.case) == ("insufficient", "champion_unreadable")
    assert "no such kernel" in made.verdict.summary
    assert set(made.scores) == {"candidate"}


def test_changed_features(tmp_path: Path, prepared: Prepared) -> None:
    fewer = candidate(predictor=FakePredictor(lambda rows: knows(1.0)(rows), columns=("x", "noise", "place")))
    made = run(prepared, [fewer], champion())
    assert (made.verdict.verdict, made.verdict.case) == ("pass", "changed_features")
    assert any("new: place" in reason.text for reason in made.verdict.reasons)
    without = prepared_folder(tmp_path / "without", drop=("noise",))
    only_x = FakePredictor(lambda rows: 1 / (1 + np.exp(-3 * rows.column("x").to_numpy())), columns=("x",))
    made = run(without, [candidate(predictor=only_x)], champion())
    assert (made.verdict.verdict, made.verdict.case) == ("insufficient", "changed_features")
    assert "noise" in made.verdict.summary
    assert "data.slices" in made.verdict.summary


def test_changed_classes(prepared: Prepared) -> None:
    knew_more = FakePredictor(knows(0.4), classes=("cancelled", False, True))
    made = run(prepared, [candidate()], champion(predictor=knew_more))
    assert (made.verdict.verdict, made.verdict.case) == ("pass", "changed_classes")
    assert made.classes == (False, True, "cancelled")
    others = FakePredictor(knows(0.4), classes=("on time", "late"))
    made = run(prepared, [candidate()], champion(predictor=others))
    assert (made.verdict.verdict, made.verdict.case) == ("insufficient", "changed_classes")


def test_an_adopted_champion_is_judged_only_after_its_cut_off(prepared: Prepared) -> None:
    made = run(prepared, [candidate()], champion(adopted=True))
    assert (made.verdict.verdict, made.verdict.case) == ("pass", "adopted_unknown")
    assert [one.row_set for one in made.paired] == ["new"]
    assert set(made.by_period["champion"]) == {"2013-04"}
    assert set(made.scores["champion"]) == {"new"}
    unknown = run(prepared, [candidate()], champion(adopted=True, until=None))
    assert unknown.verdict.verdict == "insufficient"
    assert "upkeep adopt --trained-until" in unknown.verdict.summary


def test_a_champion_of_another_split_is_judged_only_on_periods_it_did_not_know(prepared: Prepared) -> None:
    made = run(prepared, [candidate()], champion(other_split=True))
    assert made.verdict.verdict == "pass"
    assert [one.row_set for one in made.paired] == ["new"]
    assert set(made.scores["champion"]) == {"new"}
    assert any("another split" in reason.text for reason in made.verdict.reasons)


@pytest.mark.parametrize("how", [{"adopted": True}, {"other_split": True}])
def test_one_test_set_for_ever_does_not_decide_on_rows_that_may_have_taught_the_champion(
    prepared: Prepared, how: dict[str, bool]
) -> None:
    made = run(prepared, [candidate()], champion(until="2013-04", **how), model_spec(GATE, method="random_state"))
    assert made.verdict.verdict == "insufficient"
    assert made.scores["champion"].keys() <= {"new"}


def test_under_prequential_no_period_that_taught_the_champion_judges_it(prepared: Prepared) -> None:
    made = run(prepared, [candidate()], champion(until="2013-03"), model_spec(GATE, method="prequential"))
    assert [one.row_set for one in made.paired] == ["new"]
    assert set(made.by_period["champion"]) == {"2013-04"}


def test_no_newer_rows_is_insufficient(prepared: Prepared) -> None:
    made = run(prepared, [candidate()], champion(until="2013-04"))
    assert made.verdict.verdict == "insufficient"
    assert "0 held-out rows are newer" in made.verdict.summary


def test_one_test_set_for_ever_decides_on_all_of_it(prepared: Prepared) -> None:
    made = run(prepared, [candidate()], champion(until="2013-04"), model_spec(GATE, method="random_state"))
    assert made.verdict.verdict == "pass"
    assert [one.row_set for one in made.paired] == ["all"]


def test_failed_candidates_are_named_and_without_one_nothing_passes(prepared: Prepared) -> None:
    failed = candidate("broken", predictor=None, failed="it ran out of memory")
    made = run(prepared, [failed, candidate("two")], champion())
    assert made.chosen == "two"
    assert made.verdict.verdict == "pass"
    assert made.candidates[0].failed == "it ran out of memory"
    alone = run(prepared, [failed], champion())
    assert alone.verdict.verdict == "insufficient"
    assert "out of memory" in alone.verdict.reasons[0].text


@pytest.mark.parametrize("value", [np.nan, -5.0])
def test_a_candidate_that_answers_nonsense_fails(prepared: Prepared, value: float) -> None:
    class Nonsense(FakePredictor):
        def predict_proba(self, rows: pa.Table) -> np.ndarray:
            return np.full((rows.num_rows, 2), value)

    made = run(prepared, [candidate(predictor=Nonsense(knows(1.0)))], champion())
    assert made.verdict.verdict == "insufficient"
    assert made.chosen is None
    assert "no probabilities" in made.candidates[0].failed
    several = run(prepared, [candidate("n", predictor=Nonsense(knows(1.0))), candidate("ok")], champion())
    assert several.chosen == "ok"


def test_fairness_columns_and_progress_and_curves(prepared: Prepared) -> None:
    told: list[str] = []
    gate = replace(GATE, fairness=(Fairness(column="place", demographic_parity_difference=0.3, min_rows=50),))
    asked: list[Portion] = []

    def retrain(name: str) -> Any:
        assert name == "one"

        def on(portion: Portion) -> Retrained | None:
            asked.append(portion)
            if portion.share == 0.125:
                raise ValueError("one class only")
            return Retrained(predictor=FakePredictor(knows(0.5)), rows=100)

        return on

    made = run(
        prepared, [candidate()], champion(), model_spec(gate), retrain=retrain,
        progress=lambda text, share: told.append(text)
    )  # fmt: skip
    assert made.verdict.verdict == "pass"
    assert any(one.finding == "pass" and one.too_small == ("OO",) for one in made.fairness)
    assert made.curves is not None
    assert len(made.curves.by_rows) == 3  # the share that could not be trained is left out
    assert made.curves.by_age
    assert len(asked) > 4
    assert "learning curves" in told


def test_without_curves_nothing_is_trained_and_the_page_says_why(prepared: Prepared) -> None:
    def retrain(name: str) -> Any:
        raise AssertionError(f"{name} was to be trained on less")

    spec = replace(model_spec(), explain=Explain(curves=0))
    made = run(prepared, [candidate()], champion(), spec, retrain=retrain)
    assert made.curves is not None
    assert made.curves.more_data == "Not measured: explain.curves is 0, so that nothing was trained on less."
    assert made.curves.by_age  # the champion's own answers tell of that


def test_the_same_inputs_give_the_same_record(prepared: Prepared) -> None:
    first, again = (records.to_json(run(prepared, [candidate()], champion())) for _ in range(2))
    assert first == again


def test_rows_without_groups_are_resampled_as_rows(tmp_path: Path) -> None:
    made = run(prepared_folder(tmp_path / "p", group=None), [candidate()], champion())
    assert made.paired[0].groups is None
    assert made.paired[0].mcnemar_p is not None
    assert made.verdict.verdict == "pass"


def test_answers_stream_in_batches_and_line_up(prepared: Prepared) -> None:
    rows, failed = collect(prepared, {"candidate": FakePredictor(knows(1.0))}, slices=("place",))
    assert failed == {}
    table = prepared.table(parts=("held_out",))
    assert (rows.truth == prepared.codes(table)).all()
    codes, values = rows.slices["place"]
    assert [values[code] for code in codes] == table.column("place").to_pylist()
    assert [rows.periods[code] for code in rows.period] == table.column("_period").to_pylist()
    assert (rows.answers["candidate"].predicted == (table.column("x").to_numpy() > 0)).all()
    assert rows.truth.dtype == codes.dtype == np.uint8


def test_answers_come_in_the_order_of_the_classes_asked_for() -> None:
    table = pa.table({"x": [0.9]})
    model = FakePredictor(lambda rows: rows.column("x").to_numpy(), classes=("b", "a"))
    assert ask(model, table, ("a", "b", "c")).tolist() == [[0.9, pytest.approx(0.1), 0.0]]
    numbered = FakePredictor(lambda rows: rows.column("x").to_numpy(), classes=(0, 1))
    assert ask(numbered, table, (False, True)).tolist() == [[0.0, 0.0]]  # 1 is not True
    assert union_of_classes((False, True), (1, True)) == (False, True, 1)


def test_periods_keep_the_order_of_the_prepared_rows(tmp_path: Path) -> None:
    prepared = prepared_folder(tmp_path / "p", periods=("week-9", "week-10"))
    rows, _ = collect(prepared, {})
    assert rows.periods == rows.present == ("week-9", "week-10")
    table = prepared.table(parts=("held_out",))
    assert [rows.periods[code] for code in rows.period] == table.column("_period").to_pylist()
    made = run(prepared, [candidate()], champion(until="week-9"))
    assert made.paired[0].periods == ("week-10",)
    made = run(prepared, [candidate()], champion(until="week-8"))  # its data is gone: the names' order tells
    assert made.paired[0].periods == ("week-9", "week-10")
