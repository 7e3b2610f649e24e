"""Rollouts by fire: real servers, Envoy, Git and store, under load, with a controller that is killed at every effect.

``make fire`` is the longer version: 200 requests a second, three steps.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster_make import wait_for
from tests.e2e.rollout_make import Rollouts

RATE = int(os.environ.get("UPKEEP_FIRE_RATE", "50"))
STEPS = os.environ.get("UPKEEP_FIRE_STEPS", "25%")


@pytest.fixture
def rollouts(tmp_path: Path) -> Iterator[Rollouts]:
    made = Rollouts(tmp_path, steps=STEPS)
    made.release(1, None)
    made.cluster.up()
    try:
        wait_for("v1 serves", lambda: made.cluster.ask().status_code == 200)
        yield made
    finally:
        made.cluster.down()


def under_load(rollouts: Rollouts, drive: Callable[[], None]) -> Counter[str]:
    """How requests ended, while ``drive`` ran."""
    return Counter(rollouts.cluster.load(drive, per_second=RATE))


@pytest.mark.slow
def test_killed_at_every_effect_and_under_load_a_rollout_ends_as_it_should_and_loses_nothing(
    rollouts: Rollouts,
) -> None:
    # a good challenger, and a controller that dies at every effect
    rollouts.release(2, "v1")
    answers = under_load(rollouts, rollouts.watch_killed)
    assert set(answers) == {"200"}
    assert rollouts.state.phase == "succeeded"
    assert rollouts.state.champion.version == "v2"
    subjects = [entry.subject for entry in rollouts.history()]
    assert len(subjects) == len(set(subjects)), "a step was made twice"
    effects = {place.partition(": ")[2] for place in rollouts.killed}
    assert effects >= {"ledger", "evidence", "intent", "commit", "refresh", "tell", "done"}

    # a bad one: its own requests fail until it is taken back, nobody else's
    rollouts.release(3, "v2", fails=True)
    answers = under_load(rollouts, rollouts.watch_killed)
    assert set(answers) <= {"200", "500"}
    told = [f"{entry.subject}: {entry.reason}" for entry in rollouts.history()]
    assert rollouts.state.phase == "rolled_back", (answers, told)
    assert rollouts.state.champion.version == "v2"
    assert [each.version for each in rollouts.state.barred] == ["v3"]
    subjects = [entry.subject for entry in rollouts.history()]
    assert len(subjects) == len(set(subjects)), "a step was made twice"
    assert "brake" in {place.partition(": ")[2] for place in rollouts.killed}

    # a person goes back to v1, and an ordinary controller sees to it
    def back() -> None:
        done = rollouts.run("rollback", "--reason", "support reports wrong answers")
        assert done.returncode == 0, done.stderr
        end = rollouts.run("watch", "--until-rest")
        assert end.returncode == 0, end.stderr

    answers = under_load(rollouts, back)
    assert set(answers) == {"200"}
    assert rollouts.state.champion.version == "v1"
    assert [each.version for each in rollouts.state.barred] == ["v3", "v2"]
    newest = rollouts.history()[0]
    assert newest.serving is not None
    assert newest.serving.champion == rollouts.state.champion
