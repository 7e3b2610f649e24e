from dataclasses import replace

import numpy as np

from tests.unit.evaluation.evaluation_fakes import Rows, binary_rows
from upkeep.evaluation import slices
from upkeep.evaluation.result import SliceResult
from upkeep.evaluation.slices import slice_results


def three_slices() -> Rows:
    """``up`` is better, ``down`` worse, ``same`` alike; ``tiny`` has 20 rows, ``none`` no positives."""
    rng = np.random.default_rng(0)
    sizes = {"down": 600, "none": 300, "same": 600, "tiny": 20, "up": 600}
    codes = np.repeat(np.arange(5), list(sizes.values())).astype(np.uint8)
    truth = rng.random(len(codes)) < 0.4
    truth[codes == 1] = False
    right = {"champion": np.array([0.9, 1, 0.7, 0.7, 0.6]), "candidate": np.array([0.7, 1, 0.7, 0.7, 0.9])}
    said = {
        name: np.where(rng.random(len(codes)) < chance[codes], truth, ~truth).astype(float)
        for name, chance in right.items()
    }
    return replace(binary_rows(truth, **said), slices={"carrier": (codes, tuple(sizes))})


def judged(rows: Rows) -> dict[str, SliceResult]:
    results = slice_results(rows, ["carrier"], "f1", min_rows=100, confidence=0.95, resamples=300, seed=0)
    return {result.value: result for result in results}


def test_each_slice_gets_its_finding() -> None:
    results = judged(three_slices())
    findings = {value: result.finding for value, result in results.items()}
    assert findings == {
        "up": "better",
        "down": "worse",
        "same": "same",
        "tiny": "insufficient",
        "none": "insufficient",
    }
    assert results["tiny"].reason == "20 rows, below 100: not judged"
    assert "not defined" in results["none"].reason
    assert results["tiny"].difference is None
    assert results["up"].candidate["f1"] is not None
    assert results["up"].positives is not None
    assert sum(result.rows for result in results.values()) == 2120


def test_groups_too_few_for_an_interval_are_said() -> None:
    rows = three_slices()
    results = judged(replace(rows, groups=(np.arange(len(rows)) % 3).astype(np.uint64)))
    assert results["up"].finding == "insufficient"
    assert "3 groups" in results["up"].reason


def test_past_the_largest_values_the_rest_is_listed_as_one(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(slices, "MOST_VALUES", 2)
    results = judged(three_slices())
    assert len(results) == 3
    rest = results["(3 smaller values)"]
    assert rest.finding == "insufficient"
    assert rest.rows == 920


def test_a_little_worse_is_the_same_when_the_interval_holds_zero() -> None:
    rows = three_slices()
    codes, _ = rows.slices["carrier"]
    champion, candidate = (rows.answers[name].predicted.copy() for name in ("champion", "candidate"))
    candidate[codes == 2] = champion[codes == 2]
    candidate[np.flatnonzero((codes == 2) & (champion == rows.truth))[:2]] ^= 1
    answers = {
        name: replace(rows.answers[name], predicted=said)
        for name, said in (("champion", champion), ("candidate", candidate))
    }
    found = judged(replace(rows, answers=answers))["same"]
    assert found.difference is not None
    assert found.difference.estimate < 0
    assert found.finding == "same"
