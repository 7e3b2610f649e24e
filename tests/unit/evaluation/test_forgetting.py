"""Forgetting: the matrix' measures against Lopez-Paz & Ranzato's formulas, and each period's change on unmet rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.evaluation.evaluation_fakes import FakePredictor, answers, binary_rows, knows, model_spec
from tests.unit.evaluation.evaluation_fakes import prepared_folder as folder
from tests.unit.evaluation.test_evaluate import GATE, candidate, champion, run
from upkeep.evaluation.answers import Rows
from upkeep.evaluation.forgetting import WHOLE, backward, forgetting, forward, thinned
from upkeep.evaluation.gate import Evidence, gate
from upkeep.evaluation.inputs import Before, CandidateInput
from upkeep.evaluation.result import Forgetting, Round, Rounds
from upkeep.spec.model import ForgettingRule, Gate

PERIODS = ("2013-01", "2013-02", "2013-03")


def matrix(R: np.ndarray, chance: np.ndarray, metric: str = "f1") -> Rounds:
    """A round a period, as in the paper: round i learns period i."""
    names = [f"p{number}" for number in range(R.shape[1])]
    rounds = tuple(
        Round(
            model=f"m{i}",
            state=f"s{i}",
            periods=tuple(names[: i + 1]),
            scores={name: float(R[i, j]) for j, name in enumerate(names)},
            rows=dict.fromkeys(names, 100),
        )
        for i in range(len(R))
    )
    return Rounds(metric=metric, rounds=rounds, chance=dict(zip(names, map(float, chance), strict=True)))


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000), rounds=st.integers(2, 6))
def test_transfer_is_that_of_the_paper(seed: int, rounds: int) -> None:
    rng = np.random.default_rng(seed)
    R, b = rng.random((rounds, rounds)), rng.random(rounds)
    T = rounds - 1
    bwt = sum(R[T, i] - R[i, i] for i in range(T)) / T
    fwt = sum(R[i - 1, i] - b[i] for i in range(1, rounds)) / T
    assert backward(matrix(R, b)) == (pytest.approx(bwt), T)
    assert forward(matrix(R, b)) == (pytest.approx(fwt), T)
    loss = matrix(R, b, "log_loss")  # lower is better: the sign says so
    assert backward(loss)[0] == pytest.approx(-bwt)


def test_one_round_has_nothing_to_transfer_and_unknown_cells_are_left_out() -> None:
    assert backward(matrix(np.ones((1, 1)), np.zeros(1))) == (None, 0)
    known = matrix(np.array([[0.8, 0.2, 0.3], [0.7, 0.9, 0.4], [0.5, 0.6, 0.9]]), np.zeros(3))
    first = replace(known.rounds[0], scores={"p0": None, "p1": 0.2})
    assert backward(replace(known, rounds=(first, *known.rounds[1:]))) == (pytest.approx(-0.3), 1)
    assert forward(replace(known, chance={})) == (None, 0)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), rounds=st.integers(2, 40))
def test_old_rounds_are_thinned_and_the_measures_stay(seed: int, rounds: int) -> None:
    rng = np.random.default_rng(seed)
    whole = matrix(rng.random((rounds, rounds)), rng.random(rounds))
    thin = thinned(whole)
    assert backward(thin) == backward(whole)
    assert forward(thin) == forward(whole)
    assert thinned(thin) == thin
    assert sum(len(one.scores) for one in thin.rounds) <= min(rounds, WHOLE) * rounds + 2 * rounds


def test_models_that_differ_by_chance_alone_are_hardly_ever_called_forgetful() -> None:
    """Of 40 updates with 8 old periods each, at 95 % together: one in 40 errs on the losing side (6 of 300 did)."""
    rule, failed = Gate(forgetting=ForgettingRule(worse_by_at_most=0.0)), 0
    for update in range(40):
        rng = np.random.default_rng([7, update])
        rows = rows_of(rng.random(8 * 150), rng.random(8 * 150), rng.integers(0, 2, 8 * 150))
        periods = tuple(f"p{number}" for number in range(8))
        rows = replace(rows, periods=periods, period=np.repeat(np.arange(8, dtype=np.uint8), 150))
        gone_on = Before(name="x", model="m0", state="s0", periods=periods, predictor=FakePredictor(knows(1.0)))
        found = forgetting(
            rows, candidate="one", before=gone_on, known=None, metric="accuracy", confidence=0.95, resamples=200,
            seed=1, this=Round(model="m1", state="s1", periods=periods, scores={}, rows={}),
        )  # fmt: skip
        evidence = Evidence(case="first", champion=None, candidate="one", went_on=True, forgetting=found)
        failed += any(
            one.finding == "fail" for one in gate(rule, evidence).reasons if one.rule.startswith("gate.forgetting")
        )
    assert failed <= 4


def before(strength: float = 1.0, **more: object) -> Before:
    fields: dict[str, object] = {"periods": PERIODS, "predictor": FakePredictor(knows(strength))} | more
    return Before(name="where it last stood", model="digest-before", state="state-1", **fields)  # type: ignore[arg-type]


def goes_on(strength: float, gone_on: Before | None, **more: object) -> CandidateInput:
    one = candidate("online", strength, before=gone_on, periods=(*PERIODS, "2013-04"), state="state-2", **more)
    return replace(one, strategy="incremental")


def spec_with(limit: float | None, **rule: int) -> object:
    asked = None if limit is None else ForgettingRule(worse_by_at_most=limit, **rule)
    return model_spec(replace(GATE, forgetting=asked))


def test_what_is_forgotten_fails_the_gate_and_the_record_says_where(tmp_path: Path) -> None:
    prepared = folder(tmp_path)
    made = run(prepared, [goes_on(0.45, before())], champion(0.2), spec_with(0.02, min_rows=50))  # type: ignore[arg-type]
    (found,) = made.forgetting
    assert (found.row_set, found.went_on_from) == ("held_out", "where it last stood")
    old = [one for one in found.periods if one.known_before]
    assert [one.period for one in old] == list(PERIODS)
    assert all(one.change is not None and one.change.high < -0.02 for one in old)
    assert found.confidence == pytest.approx(1 - 0.05 / 3)
    assert made.verdict.verdict == "fail"
    failed = {reason.rule for reason in made.verdict.reasons if reason.finding == "fail"}
    assert failed == {f"gate.forgetting[{period}]" for period in PERIODS}
    # R: the round before, scored on all periods now, and this one
    was, now = found.matrix.rounds
    assert (was.model, was.periods, now.model) == ("digest-before", PERIODS, "digest-online")
    assert set(was.scores) == set(now.scores) == set(prepared.periods)
    assert found.backward is not None
    assert found.backward < -0.02
    expected = float(np.mean([now.scores[p] - was.scores[p] for p in PERIODS]))  # type: ignore[operator]
    assert found.backward == pytest.approx(expected)
    assert found.forward == pytest.approx(was.scores["2013-04"])  # an answer by shares alone finds no positive: F1 0


def test_what_is_kept_passes_and_without_a_rule_it_is_reported(tmp_path: Path) -> None:
    prepared = folder(tmp_path)
    kept = [goes_on(1.0, before(0.9))]
    made = run(prepared, kept, champion(0.2), spec_with(0.02, min_rows=50))  # type: ignore[arg-type]
    assert made.verdict.verdict == "pass"
    (said,) = [reason.text for reason in made.verdict.reasons if reason.rule == "gate.forgetting"]
    assert "No old period lost more than the 0.02 allowed; of 3 the worst is 2013-0" in said
    silent = run(prepared, kept, champion(0.2), spec_with(None))  # type: ignore[arg-type]
    assert len(silent.forgetting) == 1
    assert not [reason for reason in silent.verdict.reasons if reason.rule.startswith("gate.forgetting")]


@pytest.mark.parametrize(
    ("gone_on", "rule", "why"),
    [
        (before(predictor=None, failed="it cannot be loaded"), "gate.forgetting", "it cannot be loaded"),
        (before(periods=("2012-12", *PERIODS)), "gate.forgetting[2012-12]", "no held-out rows now"),
        (before(periods=()), "gate.forgetting", "no period that is known"),
    ],
)
def test_what_cannot_be_known_is_insufficient(tmp_path: Path, gone_on: Before, rule: str, why: str) -> None:
    made = run(folder(tmp_path), [goes_on(1.0, gone_on)], champion(0.2), spec_with(0.05, min_rows=50))  # type: ignore[arg-type]
    assert made.verdict.verdict == "insufficient"
    (reason,) = [one for one in made.verdict.reasons if one.rule == rule]
    assert why in reason.text


def test_a_model_before_that_breaks_on_the_rows_is_insufficient_and_not_the_candidates_fault(tmp_path: Path) -> None:
    def broken(_: object) -> np.ndarray:
        raise RuntimeError("no such kernel")

    gone_on = before(predictor=FakePredictor(broken))  # type: ignore[arg-type]
    made = run(folder(tmp_path), [goes_on(1.0, gone_on)], champion(0.2), spec_with(0.05, min_rows=50))  # type: ignore[arg-type]
    assert made.verdict.verdict == "insufficient"
    assert made.chosen == "online"
    assert made.forgetting[0].failed == "no such kernel"


def test_too_few_rows_of_an_old_period_are_insufficient(tmp_path: Path) -> None:
    made = run(folder(tmp_path), [goes_on(1.0, before())], champion(0.2), spec_with(0.05, min_rows=5000))  # type: ignore[arg-type]
    assert made.verdict.verdict == "insufficient"


def test_one_that_begins_or_learns_anew_has_nothing_to_forget(tmp_path: Path) -> None:
    prepared = folder(tmp_path)
    begun = run(prepared, [goes_on(1.0, None)], None, spec_with(0.02))  # type: ignore[arg-type]
    assert begun.verdict.verdict == "pass"
    assert [one.model for one in begun.forgetting[0].matrix.rounds] == ["digest-online"]
    anew = run(prepared, [candidate()], champion(0.2), spec_with(0.02))  # type: ignore[arg-type]
    assert anew.verdict.verdict == "pass"
    assert anew.forgetting == ()


def test_what_a_base_knew_is_not_known_so_nothing_counts_as_forgotten(tmp_path: Path) -> None:
    one = goes_on(1.0, before(0.6, base=True, periods=()))
    made = run(folder(tmp_path), [one], champion(0.2), spec_with(0.02))  # type: ignore[arg-type]
    (found,) = made.forgetting
    assert not [change for change in found.periods if change.known_before]
    assert (found.backward, found.forward_over) == (None, 4)  # how good the base was before it learned any of these
    (reason,) = [reason for reason in made.verdict.reasons if reason.rule == "gate.forgetting"]
    assert (reason.finding, "had learned is not known" in reason.text) == ("note", True)


def test_one_that_is_not_chosen_is_told_on_validation_rows_alone(tmp_path: Path) -> None:
    prepared = folder(tmp_path)
    loser, gone_on = goes_on(0.3, before()), candidate("winner")
    made = run(prepared, [loser, gone_on], champion(0.2), spec_with(0.02))  # type: ignore[arg-type]
    assert made.chosen == "winner"
    (found,) = made.forgetting
    assert (found.candidate, found.row_set) == ("online", "validation")
    assert sum(one.rows for one in found.periods) == prepared.count(parts=("validation",))
    for one in (loser.predictor, loser.before.predictor if loser.before else None):
        assert isinstance(one, FakePredictor)
        assert one.asked % prepared.count(parts=("validation",)) == 0  # no held-out row among them
    assert made.verdict.verdict == "pass"


def rows_of(now: np.ndarray, was: np.ndarray, truth: np.ndarray) -> Rows:
    rows = binary_rows(truth, candidate=now)
    return replace(rows, answers={**rows.answers, "before": answers(was)})


def ask(known: Rounds | None, gone_on: Before, model: str = "m3", metric: str = "accuracy") -> Forgetting:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 300)
    this = Round(model=model, state="s3", periods=("p0", "p1"), scores={}, rows={})
    return forgetting(
        rows_of(rng.random(300), rng.random(300), truth), candidate="one", before=gone_on, this=this, known=known,
        metric=metric, confidence=0.95, resamples=300, seed=0,  # type: ignore[arg-type]
    )  # fmt: skip


def test_rounds_go_on_from_the_model_that_was_gone_on_from() -> None:
    known = matrix(np.full((3, 3), 0.5), np.zeros(3), "accuracy")
    gone_on = Before(name="x", model="m1", state="s1", periods=("p0", "p1"), predictor=FakePredictor(knows(1.0)))
    assert [one.model for one in ask(known, gone_on).matrix.rounds] == ["m0", "m1", "m3"]
    other_bytes = replace(gone_on, model="the same in other bytes")
    assert [one.model for one in ask(known, other_bytes).matrix.rounds] == ["m0", "m1", "m3"]
    elsewhere = replace(gone_on, model="m9", state="s9")
    assert [one.model for one in ask(known, elsewhere).matrix.rounds] == ["m9", "m3"]
    other_metric = replace(known, metric="f1")
    assert [one.model for one in ask(other_metric, gone_on).matrix.rounds] == ["m1", "m3"]
    nothing_new = ask(known, gone_on, model="m1")
    assert [one.model for one in nothing_new.matrix.rounds] == ["m0", "m1"]
