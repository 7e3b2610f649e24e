from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from upkeep.rollout.history import Entry, at, history
from upkeep.rollout.release import NewVersion, open_repository, propose, serving_now
from upkeep.spec.model import ModelSpec


def test_history_tells_what_served_since_when_and_by_which_commit(
    spec: ModelSpec, version: Callable[..., NewVersion]
) -> None:
    hours = iter(range(10))
    assert history(spec) == []
    assert not Path(spec.rollout.repository).exists(), "a question makes nothing"

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


def _at(hour: float) -> datetime:
    return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=hour)


def test_weights_that_a_person_edited_are_what_was_applied(spec: ModelSpec, version: Callable[..., NewVersion]) -> None:
    """Argo CD and Flux apply the route, whatever Upkeep's own note beside it says."""
    propose(spec, version(1), expected_champion=None, now=lambda: _at(9))
    commit = propose(spec, version(2), expected_champion="v1", now=lambda: _at(10)).commit
    path = "models/flight-delays/route.yaml"
    with open_repository(spec) as repository:
        route = repository.read("main").files[path]
        shifted = route.replace(b"weight: 100", b"weight: 60").replace(b"weight: 0", b"weight: 40")
        assert shifted != route
        by_hand = repository.commit_and_push("main", commit, {path: shifted}, "more for v2\n", _at(11))
        broken = repository.commit_and_push("main", by_hand, {path: b"nonsense"}, "oops\n", _at(12))
    entries = history(spec)
    (found,) = at(entries, _at(11.5))
    assert (found.commit, found.weights, found.serving) == (by_hand, {"v1": 60, "v2": 40}, None)
    assert "v1 60 %, v2 40 %" in found.problem
    (before,) = at(entries, _at(10.5))
    assert (before.commit, before.weights) == (commit, {"v1": 100, "v2": 0})
    # what cannot be read may or may not have been applied: it is told, with what counts if it was not
    assert [each.commit for each in at(entries, _at(13))] == [broken, by_hand]


def test_nothing_served_after_the_folder_was_removed(spec: ModelSpec, version: Callable[..., NewVersion]) -> None:
    commit = propose(spec, version(1), expected_champion=None, now=lambda: _at(9)).commit
    with open_repository(spec) as repository:
        gone = dict.fromkeys(repository.read("main").files)
        repository.commit_and_push("main", commit, gone, "no more\n", _at(10))
    (found,) = at(history(spec), _at(11))
    assert (found.subject, found.weights) == ("no more", {})
    assert found.serving is not None


def _entries(*hours: float) -> list[Entry]:
    """Newest first, of commits made in this order."""
    made = [
        Entry(
            commit=str(number), when=_at(hour), author="a", subject="", trailers={}, serving=None, weights={"v1": 100}
        )
        for number, hour in enumerate(hours)
    ]
    return made[::-1]


@pytest.mark.parametrize(
    ("hours", "when", "counted"),
    [
        ((9, 10, 11), 8, []),
        ((9, 10, 11), 9, ["0"]),
        ((9, 10, 11), 10.5, ["1"]),
        ((9, 9, 9), 9, ["2"]),  # within one second the last one counts
        # a clock was wrong: either 0 came before 9, or 1 after 10
        ((10, 9), 9.5, ["1", "0"]),
        ((10, 9), 8, []),
        ((10, 9), 10, ["1"]),
        ((9, 12, 11), 10, ["1", "0"]),
        ((9, 12, 11), 11.5, ["2", "1", "0"]),
        ((9, 12, 11), 12, ["2"]),
        ((8, 9, 11, 10, 12), 8.5, ["0"]),
        ((8, 9, 11, 10, 12), 9.5, ["2", "1"]),
        ((8, 9, 11, 10, 12), 12.5, ["4"]),
    ],
)
def test_of_dates_that_go_back_every_commit_that_may_have_counted_is_told(
    hours: tuple[float, ...], when: float, counted: list[str]
) -> None:
    assert [each.commit for each in at(_entries(*hours), _at(when))] == counted


def test_nothing_of_a_commit_can_move_the_terminal(spec: ModelSpec, version: Callable[..., NewVersion]) -> None:
    commit = propose(spec, version(1), expected_champion=None).commit
    path = "models/flight-delays/kustomization.yaml"
    with open_repository(spec) as repository:
        changed = {path: repository.read("main").files[path] + b"# mine\n"}
        repository.commit_and_push("main", commit, changed, "all is well\x1b[2J\n", _at(9))
    assert history(spec)[0].subject == "all is well [2J"
