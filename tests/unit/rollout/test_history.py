from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from upkeep.rollout.history import history
from upkeep.rollout.release import NewVersion, open_repository, propose, serving_now
from upkeep.spec.model import ModelSpec


def test_history_tells_what_served_since_when_and_by_which_commit(
    spec: ModelSpec, version: Callable[..., NewVersion]
) -> None:
    hours = iter(range(10))
    assert history(spec) == []

    def now() -> datetime:
        return datetime(2026, 3, 1, next(hours), tzinfo=UTC)

    commits = [
        propose(spec, version(1), expected_champion=None, now=now).commit,
        propose(spec, version(2), expected_champion="v1", now=now).commit,
    ]
    with open_repository(spec) as repository:
        broken = {"models/flight-delays/route.yaml": b"nonsense"}
        by_hand = repository.commit_and_push("main", commits[-1], broken, "try something\n", now())
    entries = history(spec)
    assert [entry.commit for entry in entries] == [by_hand, commits[1], commits[0]]
    assert [entry.when.hour for entry in entries] == [2, 1, 0]
    person, proposal, first = entries
    assert (person.serving, person.trailers) == (None, {})
    assert "route.yaml:1" in person.problem
    assert proposal.serving is not None
    assert proposal.serving.canary is not None
    assert (proposal.serving.canary.version, proposal.trailers["Upkeep-Version"]) == ("v2", "v2")
    assert first.serving is not None
    assert first.serving.champion is not None
    assert (first.serving.champion.version, first.serving.canary) == ("v1", None)
    assert first.subject == "flight-delays: serve v1 at 100 %"


def test_serving_is_what_the_newest_entry_says(spec: ModelSpec, version: Callable[..., NewVersion]) -> None:
    propose(spec, version(1), expected_champion=None)
    assert history(spec)[0].serving == serving_now(spec)
