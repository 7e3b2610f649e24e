"""What the simulation runs side by side is what a rollout runs alone; and in short, that it is strong enough."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benchmarks.bench_rollout import Arms, Errors, Quality, upkeep_live, upkeep_paired
from upkeep.rollout.analysis.sequential import Block, TwoArm

margins = st.sampled_from([0.1, 0.02, 0.005])


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), rate=st.floats(0.0, 1.0), margin=margins, later=margins)
def test_many_states_side_by_side_are_the_states_alone(seed: int, rate: float, margin: float, later: float) -> None:
    rng = np.random.default_rng(seed)
    together, alone = Arms(3, prior=0.01), [TwoArm(margin=margin) for _ in range(3)]
    for look in range(8):
        at = np.flatnonzero(rng.random(3) < 0.7)
        if look == 4:
            together.begin(at)
            alone = [state.begin(later) if each in at else state for each, state in enumerate(alone)]
        n = rng.integers(1, 400, (len(at), 2))
        bad = rng.binomial(n, rate)
        block = np.stack([n[:, 0], bad[:, 0], n[:, 1], bad[:, 1]], axis=1).astype(np.float64)
        together.update(at, block, np.array([alone[each].margin for each in at]))
        for each, row in zip(at, block.astype(int).tolist(), strict=True):
            alone[each] = alone[each].update(
                Block(canary_n=row[0], canary_bad=row[1], champion_n=row[2], champion_bad=row[3])
            )
    for each, state in enumerate(alone):
        assert together.fail[each].tolist() == pytest.approx(state.fail, rel=1e-12, abs=1e-12)
        assert together.passing[each].tolist() == pytest.approx(state.passing, rel=1e-12, abs=1e-12)
        assert together.fail_peak[each] == pytest.approx(state.fail_peak, rel=1e-12, abs=1e-12)
        assert together.pass_peak[each] == pytest.approx(state.pass_peak, rel=1e-12, abs=1e-12)


def test_a_good_canary_is_promoted_in_minutes_and_a_broken_one_goes_after_a_look() -> None:
    rng = np.random.default_rng(7)
    good, broken, worse = (upkeep_live(Errors(rate), 300, rng) for rate in (0.002, 0.5, 0.05))
    assert good.passed >= 0.98
    assert good.time()[1] <= 10
    assert broken.taken_back == worse.taken_back == 1
    assert broken.exposed()[1] <= 40
    assert worse.exposed()[1] <= 260


def test_pairs_find_a_worse_model_in_a_few_hundred_requests() -> None:
    rng = np.random.default_rng(8)
    good, worse = (upkeep_paired(Quality(less), 200, rng) for less in (0.0, 0.15))
    assert good.passed >= 0.96
    assert worse.taken_back == 1
    assert worse.exposed()[1] <= 110
