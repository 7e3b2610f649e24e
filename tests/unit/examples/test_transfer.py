"""How the flights' transfer is judged."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.unit.examples.examples_make import load
from upkeep.evaluation.answers import Answers, Rows

transfer = load("flights", "transfer")
DAYS, ROWS = 40, 4000


def rows(seed: int, **strength: float) -> Rows:
    """Held-out rows and what each model answers: the label's own signal, times its strength, and noise."""
    draw = np.random.default_rng(0)  # the same rows in each sample
    truth = (draw.random(ROWS) < 0.3).astype(np.int64)
    days = draw.integers(DAYS, size=ROWS).astype(np.uint64)
    noise = np.random.default_rng(seed)
    answers = {}
    for name, by in strength.items():
        late = np.round(1 / (1 + np.exp(-(by * truth + noise.normal(size=ROWS)))), 2)  # rounded: ties
        probabilities = np.column_stack([1 - late, late])
        answers[name] = Answers(predicted=probabilities.argmax(axis=1), probabilities=probabilities)
    return Rows((False, True), 1, truth, ("2013-01",), np.zeros(ROWS, np.uint8), days, answers=answers)


def test_the_area_is_scikit_learns_with_ties_and_weights() -> None:
    given = rows(1, transfer=1.0)
    weights = np.random.default_rng(3).integers(0, 4, size=(3, ROWS)).astype(np.float64)
    scores = given.answers["transfer"].probabilities[:, 1]
    wanted = [roc_auc_score(given.truth, scores, sample_weight=weight) for weight in weights]
    np.testing.assert_allclose(transfer.area(given, "transfer", weights), wanted)


@pytest.mark.parametrize(
    ("by", "says"), [(1.5, "Transfer is better than"), (0.5, "Transfer is worse than"), (1.0, "not shown to be better")]
)
def test_the_verdict_follows_the_interval(by: float, says: str) -> None:
    samples = [rows(seed, transfer=by, nothing=1.0) for seed in range(4)]
    found = transfer.gain(samples, "nothing")
    assert found.low < found.estimate < found.high
    assert says in transfer.verdict(samples, "nothing")


def test_one_sample_counts_days_alone() -> None:
    alone = transfer.gain([rows(0, transfer=1.5, nothing=1.0)], "nothing")
    assert 0 < alone.low < alone.estimate < alone.high < 0.3


def test_the_table_has_a_line_a_sample_and_one_of_all() -> None:
    samples = [rows(seed, transfer=1.5, base=1.2, open=1.4, nothing=1.0) for seed in range(3)]
    lines = transfer.table_of(samples, ["base", "transfer", "open", "nothing"])
    assert [line.split("|")[1].strip() for line in lines] == ["sample", "---", "1", "2", "3", "all"]
    assert len({line.count("|") for line in lines}) == 1
