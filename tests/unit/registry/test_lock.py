"""The lock: one holder, and a way out of every crash."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upkeep import records
from upkeep.errors import ConflictError, OutsideError
from upkeep.registry import lock
from upkeep.registry.lock import hold
from upkeep.store import Store, open_store

from .registry_fakes import NOON, FailingStore


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


def at(moment: datetime) -> Callable[[], datetime]:
    return lambda: moment


def refused(store: Store, holder: str, moment: datetime) -> ConflictError:
    """Try to take the lock, and be told no."""
    with pytest.raises(ConflictError) as caught, hold(store, "l", holder, now=at(moment), seconds=60):
        raise AssertionError("two hold the lock")
    return caught.value


def test_one_at_a_time(store: Store) -> None:
    with hold(store, "l", "first", now=at(NOON), seconds=60) as epoch:
        assert (epoch.holder, epoch.until) == ("first", "2026-03-01T12:01:00+00:00")
        error = refused(store, "second", NOON)
        assert "first is at work" in str(error)
        assert "2026-03-01T12:01:00" in str(error)
        assert (error.exit_code, error.retry) == (3, True)
    with hold(store, "l", "second", now=at(NOON), seconds=60):
        pass


def test_the_same_holder_twice_is_two(store: Store) -> None:
    with hold(store, "l", "u1", now=at(NOON), seconds=60):
        refused(store, "u1", NOON)


def test_errors_give_it_back(store: Store) -> None:
    for error in (ValueError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)), hold(store, "l", "u1", now=at(NOON), seconds=60):
            raise error
    with hold(store, "l", "u2", now=at(NOON), seconds=60):
        pass


def test_a_crashed_holder_waits_out_its_time(store: Store) -> None:
    crashed = lock.Epoch(
        holder="crashed", token="t", since=NOON.isoformat(), until=(NOON + timedelta(hours=1)).isoformat()
    )
    store.create("l/000001.json", records.to_json(crashed))
    assert "crashed" in str(refused(store, "next", NOON + timedelta(minutes=59)))
    with hold(store, "l", "next", now=at(NOON + timedelta(hours=1)), seconds=60):
        assert lock.newest_epoch(store, "l") == (2, False)
    assert lock.newest_epoch(store, "l") == (2, True)
    assert lock.past_epochs(store, "l") == ["l/000001.json"]


def test_other_time_zones(store: Store) -> None:
    east = NOON.astimezone(timezone(timedelta(hours=9)))
    with hold(store, "l", "east", now=at(east), seconds=60) as epoch:
        assert epoch.since == "2026-03-01T12:00:00+00:00"
        refused(store, "west", NOON + timedelta(seconds=59))


def test_sixteen_want_it(store: Store) -> None:
    def work(who: int) -> bool:
        try:
            with hold(store, "l", str(who), now=at(NOON), seconds=60):
                held.append(who)
                assert held == [who]
                held.remove(who)
                return True
        except ConflictError:
            return False

    held: list[int] = []
    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(work, range(16)))
    assert any(got)
    with hold(store, "l", "last", now=at(NOON), seconds=60):
        pass


@pytest.mark.parametrize("after", [False, True], ids=["not done", "reply lost"])
@pytest.mark.parametrize("error", [OutsideError("gone"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_a_failure_at_any_call_leaves_no_lock(error: BaseException, after: bool) -> None:
    counting = FailingStore(open_store("memory://"), error)
    with hold(counting, "l", "u1", now=at(NOON), seconds=60):
        pass
    for number in range(1, len(counting.calls) + 1):
        inner = open_store("memory://")
        failing = FailingStore(inner, error, number, after)
        worked = False
        try:
            with hold(failing, "l", "u1", now=at(NOON), seconds=60):
                worked = True
        except (OutsideError, KeyboardInterrupt):
            pass
        # giving it back is the last call: where that one never arrives, only time helps
        stuck = worked and not after
        moment = NOON + timedelta(seconds=60 if stuck else 0)
        with hold(inner, "l", "u2", now=at(moment), seconds=60):
            pass


def test_losing_every_race_is_a_conflict() -> None:
    class Slow:
        """Sees the lock free, and is always too late."""

        uri = "x"

        def list(self, prefix: str = "") -> list[object]:
            return []

        def create(self, key: str, data: bytes) -> bool:
            return False

        def get(self, key: str) -> bytes:
            return records.to_json(lock.Epoch(holder="other", token="o", since="", until=""))

    assert "in a row" in str(refused(Slow(), "u1", NOON))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 100), st.booleans()), max_size=12))
def test_never_two_holders(steps: list[tuple[str, int, bool]]) -> None:
    """Whoever comes whenever, and crashes or not: nobody gets in before the one inside is out or past its time."""
    store = open_store("memory://")
    free_from = datetime(2026, 1, 1, tzinfo=UTC)
    now = free_from
    for holder, passed, crashes in steps:
        now += timedelta(seconds=passed)
        try:
            with hold(NoRelease(store) if crashes else store, "l", holder, now=at(now), seconds=60):
                assert now >= free_from
        except ConflictError:
            assert now < free_from
            continue
        free_from = now + timedelta(seconds=60) if crashes else now


class NoRelease(FailingStore):
    """What a holder that crashed leaves: a lock that nobody gives back."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner, OutsideError("crashed"))

    def create(self, key: str, data: bytes | Path) -> bool:
        if "released" in key:
            raise self.error
        return super().create(key, data)
