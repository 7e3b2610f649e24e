from __future__ import annotations

from tests.simulation.leases import many
from upkeep.serving.kubernetes.lease import Timing


def test_never_do_two_lead_and_in_calm_one_does() -> None:
    counts, broken = many(80)
    assert broken == []
    assert all(counts[name] for name in ("took over", "lost", "frozen", "given back", "failed"))


def test_the_simulation_finds_a_deadline_that_is_too_late() -> None:
    _, broken = many(40, timing=Timing(duration=15, renew_deadline=14.9))
    assert any(why.endswith("lead") for _, why in broken)
