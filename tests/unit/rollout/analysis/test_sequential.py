"""The e-processes: by exact enumeration under the hypothesis, against references, by law, and by short simulations."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, multinomial

from upkeep.records import from_json, to_json
from upkeep.rollout.analysis.sequential import (
    FAIL_START,
    FRACTIONS,
    GRID,
    PAIRED_FAIL,
    PASS_START,
    Block,
    OpenBlock,
    Paired,
    Pairs,
    Side,
    TwoArm,
    fail_bets,
    largest_bet,
    log_growth,
    log_paired_above,
    log_paired_below,
    log_sum,
    pass_bets,
    pooled_rate,
    step_margin,
)

rates = st.floats(0.0, 1.0).map(lambda rate: round(rate, 6))
inner = st.floats(0.001, 0.999)
sizes = st.integers(1, 5)
sides = st.sampled_from([1, -1])


@st.composite
def blocks(draw: st.DrawFn, most: int = 60) -> Block:
    canary, champion = draw(st.integers(1, most)), draw(st.integers(1, most))
    return Block(
        canary_n=canary,
        canary_bad=draw(st.integers(0, canary)),
        champion_n=champion,
        champion_bad=draw(st.integers(0, champion)),
    )


pair_batches = st.builds(
    Pairs,
    both_right=st.integers(0, 50),
    both_wrong=st.integers(0, 20),
    only_champion=st.integers(0, 12),
    only_canary=st.integers(0, 12),
)


def one(value: float) -> np.ndarray:
    return np.array([value], np.float64)


def binomial(x: int, n: int, rate: float) -> float:
    return math.comb(n, x) * rate**x * (1 - rate) ** (n - x)


def growth(side: Side, block: Block, centre: float, difference: float) -> np.ndarray:
    counts = (block.canary_n, block.canary_bad, block.champion_n, block.champion_bad)
    used = bets(side, block.canary_n / (block.canary_n + block.champion_n), centre, difference)
    return log_growth(side, *(one(count) for count in counts), one(centre), one(difference), used)[0]


def bets(side: Side, share: float, centre: float, difference: float) -> np.ndarray:
    """As the state takes them: the fail's six; the pass's four, with room to hope for."""
    at = one(share), one(centre), one(difference)
    return fail_bets(*at) if side > 0 else pass_bets(*at, one(max(abs(difference), 0.0005)))


# --- two arms: validity --------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(
    side=sides,
    canary_n=sizes,
    champion_n=sizes,
    champion=rates,
    centre=inner,
    difference=st.sampled_from([-0.3, -0.01, 0.0, 0.005, 0.02, 0.3]),
    beyond=st.sampled_from([0.0, 0.01, 0.5]),
)
def test_a_block_is_expected_to_win_nothing_while_the_hypothesis_holds(
    side: Side, canary_n: int, champion_n: int, champion: float, centre: float, difference: float, beyond: float
) -> None:
    canary = float(np.clip(champion + difference - side * beyond, 0, 1))
    if side * (canary - champion) > side * difference:
        return  # clipped out of the hypothesis
    expected = 0.0
    for canary_bad, champion_bad in product(range(canary_n + 1), range(champion_n + 1)):
        block = Block(canary_n=canary_n, canary_bad=canary_bad, champion_n=champion_n, champion_bad=champion_bad)
        chance = binomial(canary_bad, canary_n, canary) * binomial(champion_bad, champion_n, champion)
        expected += chance * np.exp(growth(side, block, centre, difference))
    assert np.max(expected) <= 1 + 1e-9


@settings(max_examples=60)
@given(
    block=st.tuples(sizes, sizes),
    canary=st.tuples(rates, rates),
    champion=st.tuples(rates, rates),
    centre=inner,
)
def test_rates_that_move_within_a_block_change_nothing(
    block: tuple[int, int], canary: tuple[float, float], champion: tuple[float, float], centre: float
) -> None:
    """Each outcome has a rate of its own; only the mean of the canary's is not above that of the champion's."""
    arms = [np.linspace(*ends, n) for ends, n in zip((canary, champion), block, strict=True)]
    arms[0] = arms[0] * min(1.0, arms[1].mean() / max(arms[0].mean(), 1e-12))
    counts = []
    for each in arms:
        chances = np.ones(1)
        for rate in each:
            chances = np.convolve(chances, [1 - rate, rate])
        counts.append(chances)
    expected = sum(
        counts[0][x]
        * counts[1][y]
        * np.exp(growth(1, Block(canary_n=block[0], canary_bad=x, champion_n=block[1], champion_bad=y), centre, 0.0))
        for x, y in product(range(block[0] + 1), range(block[1] + 1))
    )
    assert np.max(expected) <= 1 + 1e-9


@settings(max_examples=100)
@given(side=sides, block=blocks(), centre=inner, difference=st.floats(-0.5, 0.5))
def test_growth_is_the_product_in_the_docstring(side: Side, block: Block, centre: float, difference: float) -> None:
    share = block.canary_n / (block.canary_n + block.champion_n)
    largest = largest_bet(side, one(share), one(centre), one(difference))[0]
    sizes_of_bets = bets(side, share, centre, difference)[0]
    assert (sizes_of_bets > 0).all() and (sizes_of_bets < largest).all()
    canary = [1.0] * block.canary_bad + [0.0] * (block.canary_n - block.canary_bad)
    champion = [1.0] * block.champion_bad + [0.0] * (block.champion_n - block.champion_bad)
    for size, log in zip(sizes_of_bets, growth(side, block, centre, difference), strict=True):
        bet = side * size
        factors = [1 + bet * (x - centre - difference) / share for x in canary]
        factors += [1 - bet * (x - centre) / (1 - share) for x in champion]
        assert min(factors) > 0  # nobody goes bankrupt
        assert log == pytest.approx(math.fsum(map(math.log, factors)), abs=1e-7)


@settings(max_examples=100)
@given(block=blocks(), centre=st.floats(0.01, 0.99))
def test_without_a_margin_it_is_the_optimal_likelihood_ratio(block: Block, centre: float) -> None:
    """Turner, Ly & Grünwald (2024): each arm's own rate against the pooled one."""
    share = block.canary_n / (block.canary_n + block.champion_n)
    largest = largest_bet(1, one(share), one(centre), one(0.0))[0]
    for fraction, log in zip(FRACTIONS, growth(1, block, centre, 0.0), strict=True):
        gap = fraction * largest * centre * (1 - centre) / (share * (1 - share))
        canary, champion = centre + (1 - share) * gap, centre - share * gap
        ratio = (
            binom.logpmf(block.canary_bad, block.canary_n, min(canary, 1.0))
            - binom.logpmf(block.canary_bad, block.canary_n, centre)
            + binom.logpmf(block.champion_bad, block.champion_n, max(champion, 0.0))
            - binom.logpmf(block.champion_bad, block.champion_n, centre)
        )
        assert log == pytest.approx(ratio, abs=1e-6)


@pytest.mark.parametrize("champion", [0.02, 0.3, 0.9])
def test_bets_that_follow_from_earlier_blocks_are_expected_to_win_nothing(champion: float) -> None:
    """Every course of two blocks, through the state itself: an equal canary, and one worse by just the margin."""
    margin = 0.05
    expected = {"fail": 0.0, "pass": 0.0}
    for course in product(product(range(3), range(4)), repeat=2):
        state = TwoArm(margin=margin)
        chances = {"fail": 1.0, "pass": 1.0}
        for canary_bad, champion_bad in course:
            state = state.observe(25, Block(canary_n=2, canary_bad=canary_bad, champion_n=3, champion_bad=champion_bad))
            for name, canary in (("fail", champion), ("pass", champion + margin)):
                chances[name] *= binomial(canary_bad, 2, canary) * binomial(champion_bad, 3, champion)
        expected["fail"] += chances["fail"] * state.e_fail
        expected["pass"] += chances["pass"] * state.e_pass
    assert max(expected.values()) <= 1 + 1e-9
    assert min(expected.values()) > 0.1


# --- two arms: laws ------------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(side=sides, block=blocks(), centre=inner, difference=st.floats(-0.4, 0.4))
def test_a_worse_canary_is_more_evidence_against_it_and_less_for_it(
    side: Side, block: Block, centre: float, difference: float
) -> None:
    before = growth(side, block, centre, difference)
    if block.canary_bad < block.canary_n:
        worse = block + Block(canary_n=1, canary_bad=1)
        better = block + Block(canary_n=1)
        assert (side * (growth(side, worse, centre, difference) - growth(side, better, centre, difference)) > 0).all()
    one_more = Block(**{**block.__dict__, "champion_bad": min(block.champion_bad + 1, block.champion_n)})
    assert (side * (growth(side, one_more, centre, difference) - before) <= 0).all()


streams = st.lists(blocks(200), min_size=1, max_size=12)


@settings(max_examples=60)
@given(stream=streams, margin=st.sampled_from([0.003, 0.005, 0.02, 0.3]), bias=st.sampled_from([0, 1, -1]))
def test_the_confidence_sequence_agrees_with_the_decisions_and_only_narrows(
    stream: list[Block], margin: float, bias: int
) -> None:
    state = TwoArm(margin=margin)
    for block in stream:
        canary_bad = {0: block.canary_bad, 1: block.canary_n, -1: 0}[bias]
        block = Block(**{**block.__dict__, "canary_bad": canary_bad})
        after = state.update(block)
        assert after.lower >= state.lower
        assert after.upper <= state.upper
        assert (after.fail_peak >= math.log(100)) == (after.lower >= 0)
        assert (after.pass_peak >= math.log(20)) == (after.upper <= margin)
        state = after


def test_the_confidence_sequence_closes_in_on_the_difference() -> None:
    rng = np.random.default_rng(3)
    state = TwoArm(margin=0.02, prior=0.1)
    for _ in range(300):
        state = state.update(
            Block(
                canary_n=200,
                canary_bad=int(rng.binomial(200, 0.14)),
                champion_n=200,
                champion_bad=int(rng.binomial(200, 0.1)),
            )
        )
    assert 0.02 <= state.lower < 0.04 < state.upper <= 0.05
    assert state.verdict == "fail"


@settings(max_examples=40)
@given(stream=streams)
def test_a_state_is_stored_as_it_is(stream: list[Block]) -> None:
    state = TwoArm(margin=0.02, least=30)
    for weight, block in enumerate(stream):
        state = state.observe(5 + weight % 2, block)
    assert from_json(TwoArm, to_json(state)) == state
    to_json(state.evidence("errors"))


def test_blocks_wait_for_both_arms_and_are_kept_apart_by_weight() -> None:
    state = TwoArm(margin=0.02)
    state = state.observe(5, Block(champion_n=40, champion_bad=1))
    state = state.observe(25, Block(canary_n=3))
    assert state.open == (
        OpenBlock(weight=5, block=Block(champion_n=40, champion_bad=1)),
        OpenBlock(weight=25, block=Block(canary_n=3)),
    )
    assert state.fail == TwoArm(margin=0.02).fail
    assert state.seen == Block(canary_n=3, champion_n=40, champion_bad=1)
    closed = state.observe(5, Block(canary_n=1, canary_bad=1))
    assert [each.weight for each in closed.open] == [25]
    whole = Block(canary_n=1, canary_bad=1, champion_n=40, champion_bad=1)
    assert closed.closed == whole
    assert closed.fail == state.update(whole).fail
    assert closed.e_fail > 1
    assert state.observe(25, Block()) == state


def test_labels_wait_for_ten_of_each_arm() -> None:
    state = TwoArm(margin=0.02, least=10)
    for _ in range(9):
        state = state.observe(25, Block(canary_n=1, champion_n=3))
    assert state.closed == Block()
    state = state.observe(25, Block(canary_n=1, champion_n=3))
    assert state.closed == Block(canary_n=10, champion_n=30)
    assert state.open == ()


def test_a_step_gathers_its_pass_anew_and_keeps_the_fail() -> None:
    state = TwoArm(margin=0.1)
    for _ in range(40):
        state = state.update(Block(canary_n=25, champion_n=475, champion_bad=1))
    assert state.verdict == "pass"
    step = state.begin(0.02)
    assert (step.margin, step.verdict, step.e_pass, step.upper) == (0.02, "insufficient", pytest.approx(1.0), 1.0)
    assert (step.fail, step.fail_peak, step.lower, step.closed) == (
        state.fail,
        state.fail_peak,
        state.lower,
        state.closed,
    )


def test_a_pass_latches_and_a_fail_comes_first() -> None:
    state = TwoArm(margin=0.1)
    for _ in range(40):
        state = state.update(Block(canary_n=25, champion_n=475, champion_bad=1))
    passed = state.e_pass
    for _ in range(3):
        state = state.update(Block(canary_n=25, canary_bad=3, champion_n=475, champion_bad=1))
    assert state.e_pass < passed
    assert state.verdict == "pass"
    for _ in range(5):
        state = state.update(Block(canary_n=25, canary_bad=20, champion_n=475))
    assert state.verdict == "fail"
    evidence = state.evidence("errors")
    assert (evidence.verdict, evidence.fail_at, evidence.pass_at) == ("fail", 100.0, 20.0)
    assert evidence.lower is not None and evidence.lower > 0


def test_no_outcome_is_insufficient_and_says_so() -> None:
    nothing = TwoArm(margin=0.02).evidence("errors")
    assert (nothing.verdict, nothing.lower, nothing.upper, nothing.difference) == ("insufficient", None, None, None)
    assert nothing.text == "errors: no outcome of either yet"
    half = TwoArm(margin=0.02).observe(5, Block(champion_n=4)).evidence("errors", slice="origin=JFK")
    assert half.text == "errors of origin=JFK: no outcome of the canary yet"
    assert Paired(margin=0.02).evidence("accuracy").verdict == "insufficient"


@pytest.mark.parametrize("bad", [0, 1])
def test_any_number_of_outcomes_gives_finite_numbers(bad: int) -> None:
    state = TwoArm(margin=0.02)
    for _ in range(3):
        state = state.update(
            Block(canary_n=10**8, canary_bad=bad * 10**8, champion_n=10**8, champion_bad=(1 - bad) * 10**8)
        )
    assert state.verdict == ("fail" if bad else "pass")
    to_json(state)
    to_json(state.evidence("errors"))
    pairs = Paired(margin=0.02).update(Pairs(only_champion=bad * 10**8, only_canary=(1 - bad) * 10**8))
    assert pairs.verdict == state.verdict
    to_json(pairs.evidence("accuracy"))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Block(canary_n=1, canary_bad=2),
        lambda: Block(canary_n=-1),
        lambda: Pairs(only_canary=-1),
        lambda: TwoArm(margin=0.0),
        lambda: TwoArm(margin=math.nan),
        lambda: TwoArm(margin=0.02, least=0),
        lambda: TwoArm(margin=0.02, prior=0.0),
        lambda: TwoArm(margin=0.02).update(Block(canary_n=3)),
        lambda: TwoArm(margin=0.02, alpha_fail=0.0),
        lambda: Paired(margin=1.0),
        lambda: step_margin(0.005, 0),
    ],
)
def test_nonsense_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        wrong()  # type: ignore[operator]


def test_a_steps_margin_is_the_harm_accepted_over_all_traffic() -> None:
    assert [step_margin(0.005, weight) for weight in (5, 25, 50, 100)] == [
        pytest.approx(each) for each in (0.1, 0.02, 0.01, 0.005)
    ]
    assert step_margin(0.2, 1) == 0.5


# --- pairs ---------------------------------------------------------------------------------------------------------


def counts(minus: int, zero: int, plus: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return one(minus), one(zero), one(plus)


@settings(max_examples=150)
@given(
    n=st.integers(1, 6),
    difference=st.sampled_from([-0.3, -0.02, 0.0, 0.02, 0.3]),
    disagree=st.floats(0, 1),
    beyond=st.sampled_from([0.0, 0.02, 0.3]),
    side=sides,
)
def test_pairs_are_expected_to_win_nothing_while_the_hypothesis_holds(
    n: int, difference: float, disagree: float, beyond: float, side: Side
) -> None:
    worse = difference - side * beyond
    disagree = max(disagree, abs(worse))
    if disagree > 1:
        return
    chances = [(disagree + worse) / 2, 1 - disagree, (disagree - worse) / 2]
    expected = 0.0
    for minus in range(n + 1):
        for plus in range(n + 1 - minus):
            of = counts(minus, n - minus - plus, plus)
            above, below = log_paired_above(*of, one(difference)), log_paired_below(*of, one(difference), 0.02)
            log = (above if side > 0 else below)[0]
            expected += multinomial.pmf([minus, n - minus - plus, plus], n, np.clip(chances, 0, 1)) * math.exp(log)
    assert expected <= 1 + 1e-9


@settings(max_examples=100)
@given(minus=st.integers(0, 200), plus=st.integers(0, 200), zero=st.integers(0, 2000))
def test_without_a_margin_it_is_mcnemars_test(minus: int, plus: int, zero: int) -> None:
    e = math.exp(log_paired_above(*counts(minus, zero, plus), one(0.0))[0])
    n = minus + plus
    ratios = [math.exp(binom.logpmf(minus, n, (1 + bet) / 2) - binom.logpmf(minus, n, 0.5)) for bet in PAIRED_FAIL]
    assert e == pytest.approx(np.mean(ratios), rel=1e-6)
    # What may be looked at at any time never claims more than the exact test that looks once.
    if n:
        assert 1 / e >= binomtest(minus, n, 0.5, alternative="greater").pvalue - 1e-9


@settings(max_examples=60)
@given(batches=st.lists(pair_batches, min_size=1, max_size=8), data=st.data())
def test_the_order_and_size_of_batches_of_pairs_do_not_matter(batches: list[Pairs], data: st.DataObject) -> None:
    def run(order: list[Pairs]) -> Paired:
        state = Paired(margin=0.02)
        for batch in order:
            state = state.update(batch)
        return state

    first = run(batches)
    for other in (run(data.draw(st.permutations(batches))), run([sum(batches, Pairs())])):
        assert (other.pairs, other.e_fail, other.e_pass) == (first.pairs, first.e_fail, first.e_pass)
    assert from_json(Paired, to_json(first)) == first


@settings(max_examples=60)
@given(batches=st.lists(pair_batches, min_size=1, max_size=12), margin=st.sampled_from([0.003, 0.02, 0.3]))
def test_the_confidence_sequence_of_pairs_agrees_with_the_decisions(batches: list[Pairs], margin: float) -> None:
    state = Paired(margin=margin)
    for batch in batches:
        after = state.update(batch)
        assert after.lower >= state.lower
        assert after.upper <= state.upper
        assert (after.fail_peak >= math.log(100)) == (after.lower >= 0)
        assert (after.pass_peak >= math.log(20)) == (after.upper <= margin)
        state = after


@settings(max_examples=60)
@given(batch=pair_batches)
def test_more_pairs_lost_are_more_evidence(batch: Pairs) -> None:
    base, worse = (Paired(margin=0.02).update(batch + more) for more in (Pairs(only_canary=1), Pairs(only_champion=1)))
    assert worse.e_fail > base.e_fail
    assert worse.e_pass < base.e_pass


def test_pairs_go_on_with_the_same_margin_and_begin_anew_with_another() -> None:
    state = Paired(margin=0.05).update(Pairs(both_right=800, both_wrong=100, only_champion=10, only_canary=20))
    assert state.verdict == "pass"
    assert state.begin(0.05) is state
    other = state.begin(0.02)
    assert (other.verdict, other.e_pass, other.upper) == ("insufficient", pytest.approx(1.0), 1.0)
    assert (other.e_fail, other.pairs, other.lower) == (state.e_fail, state.pairs, state.lower)
    alone = Paired(margin=0.02).update(Pairs(both_right=50, only_canary=3))
    assert other.update(Pairs(both_right=50, only_canary=3)).e_pass == pytest.approx(alone.e_pass)


def test_evidence_of_pairs_counts_wrong_answers() -> None:
    evidence = (
        Paired(margin=0.02)
        .update(Pairs(both_right=70, both_wrong=10, only_champion=15, only_canary=5))
        .evidence("accuracy")
    )
    assert (evidence.canary_n, evidence.canary_bad, evidence.champion_bad) == (100, 25, 15)
    assert evidence.difference == pytest.approx(0.1)
    assert evidence.unit == "pairs"


# --- how often they err, in short ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "share", "margin"), [(0.002, 0.05, 0.02), (0.2, 0.5, 0.02)])
def test_looking_at_every_block_errs_as_seldom_as_promised(rate: float, share: float, margin: float) -> None:
    """1,000 null paths of 400 looks; a test of the same size that looks each time errs in more than a third."""
    rng = np.random.default_rng(20)
    paths, looks, canary_n, champion_n = 1000, 400, round(500 * share), round(500 * (1 - share))
    full = np.full(paths, 1.0)
    for side, canary, difference, alpha in ((1, rate, 0.0, 0.01), (-1, rate + margin, margin, 0.05)):
        logs = np.tile(FAIL_START if side > 0 else PASS_START, (paths, 1))
        peak = np.zeros(paths)
        n, bad = np.zeros(paths), np.zeros(paths)
        for _ in range(looks):
            canary_bad, champion_bad = rng.binomial(canary_n, canary, paths), rng.binomial(champion_n, rate, paths)
            at = full * share, pooled_rate(n, bad, 0.01), full * difference
            bet = fail_bets(*at) if side > 0 else pass_bets(*at, full * margin)
            counts = full * canary_n, canary_bad, full * champion_n, champion_bad
            logs = logs + log_growth(side, *counts, *at[1:], bet)  # type: ignore[arg-type]
            n, bad = n + canary_n + champion_n, bad + canary_bad + champion_bad
            peak = np.maximum(peak, log_sum(logs))
        wrong = (peak >= -math.log(alpha)).mean()
        assert wrong <= alpha + 3 * math.sqrt(alpha / paths)


def test_the_confidence_sequence_holds_the_difference_at_all_times() -> None:
    rng = np.random.default_rng(21)
    missed = 0
    for _ in range(60):
        state = TwoArm(margin=0.02, prior=0.1)
        for _ in range(60):
            canary_bad, champion_bad = rng.binomial(50, 0.11), rng.binomial(150, 0.1)
            state = state.update(
                Block(canary_n=50, canary_bad=int(canary_bad), champion_n=150, champion_bad=int(champion_bad))
            )
        missed += not state.lower <= 0.01 <= state.upper
    assert missed <= 0.06 * 60 + 3 * math.sqrt(0.06 * 60)


def test_everything_starts_with_a_wealth_of_one() -> None:
    assert log_sum(np.array([FAIL_START])) == pytest.approx(0.0, abs=1e-12)
    assert log_sum(np.array([PASS_START])) == pytest.approx(0.0, abs=1e-12)
    for state in (TwoArm(margin=0.02), Paired(margin=0.02)):
        assert (state.e_fail, state.e_pass) == (pytest.approx(1.0), pytest.approx(1.0))


def test_an_outage_of_both_arms_delays_a_pass_and_does_not_prevent_it() -> None:
    rng = np.random.default_rng(6)
    state = TwoArm(margin=0.02)
    for look in range(60):
        rate = 0.5 if look in (3, 4) else 0.002
        canary_bad, champion_bad = rng.binomial(125, rate), rng.binomial(375, rate)
        state = state.update(
            Block(canary_n=125, canary_bad=int(canary_bad), champion_n=375, champion_bad=int(champion_bad))
        )
    assert state.verdict == "pass"


def test_the_grid_is_in_order_and_symmetric() -> None:
    assert list(GRID) == sorted(GRID)
    assert [-each for each in reversed(GRID)] == list(GRID)
