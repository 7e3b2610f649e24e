"""Where the bars' marks lie."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from upkeep.evaluation.result import Interval
from upkeep.report import bars

VALUES = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)))


@given(VALUES)
def test_a_scale_holds_zero_and_every_value_in_order(values: list[float | None]) -> None:
    scale = bars.scale(values)
    known = sorted([value for value in values if value is not None] + [0.0])
    assert scale.low < scale.high
    slack = 1e-6 * (scale.high - scale.low)
    assert scale.low <= known[0] + slack
    assert known[-1] <= scale.high + slack
    places = [scale.x(value) for value in known]
    assert places == sorted(places)
    assert all(bars.MARGIN <= place <= bars.WIDTH - bars.MARGIN for place in places)


def test_ends_are_round_and_limits_are_on_the_scale() -> None:
    found = bars.interval_scale([Interval(estimate=0.0431, low=0.0182, high=0.0677), None], [-0.05])
    assert (found.low, found.high) == (-0.06, 0.08)
    assert not found.beyond(-0.05)
    assert found.beyond(0.081)


def test_nothing_known_is_still_a_scale() -> None:
    found = bars.scale([None])
    assert found.low < 0 < found.high


def test_values_beyond_the_scale_are_drawn_at_its_edge() -> None:
    scale = bars.Scale(0, 1)
    assert scale.x(7) == scale.x(1) == bars.WIDTH - bars.MARGIN
    assert scale.x(-7) == bars.MARGIN
