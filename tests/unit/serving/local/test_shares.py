"""Who gets the traffic where servers are missing."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkeep.serving.local.shares import shares

VERSIONS = ("v1", "v2", "v3")


@st.composite
def weights(draw: st.DrawFn) -> Mapping[str, int]:
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=2, max_size=2)))
    return dict(zip(VERSIONS, (cuts[0], cuts[1] - cuts[0], 100 - cuts[1]), strict=True))


@pytest.mark.parametrize(
    ("said", "ready", "trusted", "expected"),
    [
        pytest.param({"v1": 50, "v2": 50}, {"v1", "v2"}, {}, {"v1": 50, "v2": 50}, id="all are there"),
        pytest.param({"v1": 50, "v2": 50}, {"v1"}, {}, {"v1": 100, "v2": 0}, id="the canary died"),
        pytest.param({"v1": 95, "v2": 5}, {"v2"}, {}, {"v1": 0, "v2": 100}, id="the champion died, the canary serves"),
        pytest.param({"v1": 100, "v2": 0}, {"v2"}, {"v1"}, {"v1": 100, "v2": 0}, id="no user has met the challenger"),
        pytest.param({"v1": 0, "v2": 100}, {"v1"}, {"v1", "v2"}, {"v1": 100, "v2": 0}, id="baking, the old is warm"),
        pytest.param({"v1": 0, "v2": 0, "v3": 100}, {"v1", "v2"}, {"v1", "v2"}, {"v1": 0, "v2": 100, "v3": 0}, id="3"),
        pytest.param({"v1": 60, "v2": 40}, {}, {"v1"}, {"v1": 60, "v2": 40}, id="nobody is there"),
        pytest.param({"v1": 50, "v2": 30, "v3": 20}, {"v1", "v2"}, {}, {"v1": 62, "v2": 38, "v3": 0}, id="shared"),
    ],
)  # fmt: skip
def test_the_share_of_a_missing_version_goes_to_who_may_take_it(
    said: Mapping[str, int], ready: set[str], trusted: set[str], expected: Mapping[str, int]
) -> None:
    assert shares(said, ready=ready, trusted=trusted) == expected


@given(weights(), st.sets(st.sampled_from(VERSIONS)), st.sets(st.sampled_from(VERSIONS)))
def test_laws(said: Mapping[str, int], ready: set[str], trusted: set[str]) -> None:
    given_ = shares(said, ready=ready, trusted=trusted)
    assert {*given_} == {*said}
    assert sum(given_.values()) == 100
    assert min(given_.values()) >= 0
    if given_ != said:
        assert all(version in ready for version, weight in given_.items() if weight)
        assert all(said[version] or version in trusted for version, weight in given_.items() if weight)
    for version in ready:
        assert given_[version] >= said[version] or not said[version]
