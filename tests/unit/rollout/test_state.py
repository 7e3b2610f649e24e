from __future__ import annotations

import pytest

from upkeep.errors import InputError
from upkeep.rollout.state import Barred, Canary, Champion, State, read_state, render_state

CHAMPION = Champion(version="v12", digest="1" * 64, since="2026-03-01T12:00:00Z")
CANARY = Canary(version="v13", digest="e" * 64, update="2e5")
BARRED = Barred(version="v11", digest="3" * 64, since="2026-02-01T12:00:00Z", reason="no: it's worse\n# by far")
IDLE = State(model="m", phase="idle", weight=0, champion=CHAMPION, canary=None, update="u", evidence=None)
PENDING = State(model="m", phase="pending", weight=0, champion=CHAMPION, canary=CANARY, update="2e5", evidence="4" * 64)
STEP = State(
    model="m", phase="step", weight=25, champion=CHAMPION, canary=CANARY, update="no", evidence=None, barred=(BARRED,)
)


@pytest.mark.parametrize("state", [IDLE, PENDING, STEP])
def test_what_is_written_is_read_back(state: State) -> None:
    data = render_state(state)
    assert read_state(data, "m") == state
    assert render_state(read_state(data, "m")) == data
    assert data.startswith(b"# Written by Upkeep")


def test_the_weights_sum_to_all() -> None:
    assert (IDLE.weights, STEP.weights) == ({"v12": 100}, {"v12": 75, "v13": 25})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("phase: step", "phase: stepp", r"rollout.yaml:5:1, phase: `phase` cannot be \"stepp\""),
        ("phase: step", "phase: succeeded", r"there is the canary v13"),
        ("phase: step", "phase: pending", r"weight must be 0 in the phase pending"),
        ("phase: step", "phase: promoting", r"weight must be 100 in the phase promoting"),
        ("phase: step", "phase: rolling_back", r"weight must be 0 in the phase rolling_back"),
        ("2026-03-01T12:00:00Z", "2026-02-30T12:00:00Z", r"champion.since"),
        ("weight: 25", "weight: 101", r"rollout.yaml:6:1, weight"),
        ("weight: 25", "weight: .nan", r"no finite number"),
        ("weight: 25", 'weight: "25"', r"rollout.yaml:6:1, weight"),
        ("weight: 25", "weight: 25\nweight: 30", r"rollout.yaml:7:1, weight: the key `weight` is here twice"),
        ("weight: 25\n", "", r"`weight` is missing"),
        ("  version: v13", "  version: 13", r"canary.version"),
        ("  version: v13", "  version: v12", r"same version"),
        ("  version: v13", "  version: v13\n  extra: 1", r":13:3, canary.extra: `canary.extra` is nothing"),
        ("1" * 64, "1" * 63, r"champion.digest"),
        ("model: m", "model: n", r"the rollout of n, not of m"),
        ("v1alpha1", "v2", r":2:1, apiVersion: this version of Upkeep does not know"),
        ("2026-03-01T12:00:00Z", "yesterday", r"champion.since"),
    ],
)
def test_nonsense_is_refused_with_its_line(old: str, new: str, message: str) -> None:
    text = render_state(STEP).decode()
    assert old in text
    with pytest.raises(InputError, match=message):
        read_state(text.replace(old, new, 1).encode(), "m")


def test_every_problem_is_told_at_once() -> None:
    text = render_state(STEP).decode().replace("weight: 25", "weight: x").replace("phase: step", "phase: y")
    with pytest.raises(InputError) as caught:
        read_state(text.encode(), "m")
    assert [problem.where.line for problem in caught.value.problems] == [5, 6]
