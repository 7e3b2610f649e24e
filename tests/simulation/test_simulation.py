"""A few hundred rollouts under faults in every ``make test``; CI runs 10⁴, ``make simulate`` 10⁵."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, get_args

import pytest

from tests.simulation import whole
from tests.simulation.run import many, simulate
from tests.simulation.world import CALM
from upkeep.rollout import decide
from upkeep.rollout.state import Phase

ROLLOUTS = 400


def test_no_fault_breaks_an_invariant() -> None:
    counts, broken = many(ROLLOUTS)
    assert broken == []
    # and it was no walk in the park
    assert {phase for phase in get_args(Phase) if not counts[phase]} <= {"idle"}
    assert {name for name in CALM.__dataclass_fields__ if not counts[name]} <= {"wrong_labels"}
    assert all(counts[f"ended {how}"] for how in ("succeeded", "rolled_back", "held", "paused", "nonsense"))


def test_in_a_calm_world_the_good_get_through_and_the_bad_do_not() -> None:
    counts, broken = many(120, start=0)
    for seed in range(2000, 4000, 10):
        counts += simulate(seed)
    assert broken == []
    ends = {name.removeprefix("calm plain ") for name in counts if name.startswith("calm plain ")}
    assert ends == {"good succeeded", "bad rolled_back"}
    assert {name for name in counts if name.startswith("calm approved")} >= {"calm approved good held"}


def test_a_seed_is_a_rollout() -> None:
    first: list[str] = []
    second: list[str] = []
    assert simulate(7, first) == simulate(7, second)
    assert first == second != []


def _ready(look: Any) -> str:
    return ""


def _never_lost(look: Any) -> str:
    return ""


def _at_once(look: Any) -> Any:
    return look.move("rolled_back", "at once", canary=None, weight=0, step=0)


def _on(look: Any) -> Any:
    return decide._forward(look, None)


def _forgetful(barred: Any, *_: Any) -> Any:
    return barred


MUTATIONS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "readiness is not asked for": (
        lambda patch: patch.setattr(decide._Look, "not_ready", _ready),
        "has not been ready",
    ),
    "a step needs no pass": (
        lambda patch: patch.setitem(decide._PHASES, "step", _on),  # type: ignore[arg-type]
        "without a pass",
    ),
    "a roll-back does not wait for live traffic": (
        lambda patch: patch.setitem(decide._PHASES, "rolling_back", _at_once),  # type: ignore[arg-type]
        "removed while it has traffic|does not end",
    ),
    "nothing is barred": (
        lambda patch: patch.setattr(decide, "barred_with", _forgetful),
        "not barred",
    ),
    "a held rollout goes on by itself": (
        lambda patch: patch.setitem(decide._PHASES, "held", _on),  # type: ignore[arg-type]
        "without a pass|has not been ready|the weights|from held",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_decision_is_found(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    mutate, why = MUTATIONS[name]
    mutate(monkeypatch)
    _, broken = many(200)
    assert any(re.search(why, told) for _, told in broken), broken[:5]


def test_the_whole_controller_holds_too() -> None:
    counts, broken = whole.many(30)
    assert broken == []
    assert min(counts[name] for name in ("ended succeeded", "ended rolled_back", "killed"))


def test_two_controllers_at_once_do_no_step_twice() -> None:
    """Neither lock nor Lease holds, each is frozen and killed anywhere: the push alone keeps them apart."""
    counts, broken = whole.many(25, start=1000, controllers=2)
    assert broken == []
    assert all(counts[name] for name in ("ended succeeded", "ended rolled_back", "killed", "ConflictError"))


def test_a_wrong_decision_is_found_in_the_whole_controller_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(decide._PHASES, "step", _on)  # type: ignore[arg-type]
    _, broken = whole.many(4)
    assert any("was left on" in told for _, told in broken), broken
