"""The lock: one holder, and a way out of every crash."""

import os
import signal
import subprocess
import sys
import threading
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
from upkeep.registry.lock import APART_SECONDS, FAILED_SECONDS, Lease, hold, take_part, unlock
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


@settings(max_examples=60)
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


# ---- renewed while its holder lives, ended by hand ----


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def leased(store: Store, clock: Clock, holder: str = "u1", seconds: float = 60) -> Lease:
    lease = Lease(store, "l", holder, now=clock, seconds=seconds, token=holder)
    lease.acquire()
    return lease


def test_a_holder_that_renews_keeps_it_past_its_time(store: Store, clock: Clock) -> None:
    lease = leased(store, clock)
    for _ in range(10):
        clock.pass_(40)
        assert lease.renew()
        lease.check()
        error = refused(store, "u2", clock.now)
        assert f"u1 is at work on this model, since {NOON.isoformat()}" in str(error)
    lease.give_back()
    with hold(store, "l", "u2", now=clock, seconds=60):
        pass


def test_the_heart_beats_in_the_background(store: Store, clock: Clock) -> None:
    with hold(store, "l", "u1", now=clock, seconds=60, every=0.001) as lease:
        for _ in range(3):
            clock.pass_(59)
            before, beaten = lock.newest_epoch(store, "l")[0], threading.Event()
            for _ in range(5000):
                # the second beat from here began after the clock moved
                if lock.newest_epoch(store, "l")[0] >= before + 2:
                    beaten.set()
                    break
                beaten.wait(0.002)
            assert beaten.is_set(), "no beat"
            lease.check()
            refused(store, "u2", clock.now)
    assert lock.newest_epoch(store, "l")[1], "given back"
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("lock")] == []


def test_a_killed_holder_is_out_in_a_lease(tmp_path: Path) -> None:
    """For real: a process that holds it, killed; nothing else ends it, and two minutes do."""
    code = (
        "import sys, time\nfrom datetime import datetime, UTC\nfrom upkeep.registry.lock import hold\n"
        "from upkeep.store import open_store\n"
        f"with hold(open_store({str(tmp_path)!r}), 'l', 'victim', now=lambda: datetime.now(UTC)):\n"
        "    print('held', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "held\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    store = open_store(str(tmp_path))
    assert "victim" in str(refused(store, "next", datetime.now(UTC)))
    with hold(store, "l", "next", now=at(datetime.now(UTC) + timedelta(seconds=lock.LEASE_SECONDS + 1)), seconds=60):
        pass


def test_who_came_in_between_keeps_it(store: Store, clock: Clock) -> None:
    """A holder that slept past its time may go on only where nobody came."""
    sleeper = leased(store, clock)
    clock.pass_(61)
    with pytest.raises(ConflictError, match="not renewed before"):
        sleeper.check()
    assert sleeper.renew()
    sleeper.check()
    clock.pass_(61)
    other = leased(store, clock, "u2")
    assert not sleeper.renew()
    with pytest.raises(ConflictError, match="u1 lost the lock: u2 has it since"):
        sleeper.check()
    sleeper.give_back()
    other.check()
    assert other.renew()
    refused(store, "u3", clock.now)


def test_ended_by_hand(store: Store, clock: Clock) -> None:
    assert unlock(store, "l", "nobody there") is None
    lease = leased(store, clock)
    held = unlock(store, "l", "its machine is gone")
    assert held is not None
    assert (held.holder, held.until) == ("u1", lease.until)
    assert unlock(store, "l", "again") is None
    with hold(store, "l", "u2", now=clock, seconds=60):
        pass
    assert not lease.renew()
    with pytest.raises(ConflictError) as caught:
        lease.check()
    assert caught.value.retry


def test_a_holder_that_is_alive_is_told_why(store: Store, clock: Clock) -> None:
    lease = leased(store, clock)
    unlock(store, "l", "wrong data")
    assert not lease.renew()
    with pytest.raises(ConflictError, match="ended by hand: wrong data"):
        lease.check()


def test_ended_while_its_holder_renews(clock: Clock) -> None:
    """The holder looked, then it is ended, then the holder's next epoch comes: that is ended, too."""
    inner = open_store("memory://")
    lease = leased(inner, clock)

    class Between(FailingStore):
        def create(self, key: str, data: bytes | Path) -> bool:
            done = super().create(key, data)
            if "000001.released" in key:
                lease._create(2, clock.now)
            return done

    assert unlock(Between(inner, OutsideError("")), "l", "stop") is not None
    assert lock.newest_epoch(inner, "l") == (2, True)


def test_a_store_that_is_away_for_a_beat(clock: Clock) -> None:
    inner = open_store("memory://")
    for number in range(1, 3):
        for after in (False, True):
            holder = f"u{number}{after}"
            counting = FailingStore(inner, OutsideError("gone"), 0)
            lease = leased(counting, clock, holder)  # type: ignore[arg-type]
            counting.fail_at, counting.after = len(counting.calls) + number, after
            with pytest.raises(OutsideError):
                lease.renew()
            clock.pass_(30)
            assert lease.renew(), "the next beat works, also where the lost reply hid that the last one did"
            lease.check()
            refused(inner, "other", clock.now)
            lease.give_back()
            assert lock.newest_epoch(inner, "l")[1]


def test_a_long_life_leaves_few_epochs(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "KEPT_EPOCHS", 5)
    lease = leased(store, clock)
    for _ in range(30):
        assert lease.renew()
    assert len(list(store.list("l"))) <= 8


def test_an_epoch_that_was_removed_since_it_was_read_is_not_taken_again(clock: Clock) -> None:
    """One who read the list long ago, and creates an epoch whose number is free again, is behind the holder."""
    inner = open_store("memory://")
    with hold(inner, "l", "u0", now=clock, seconds=60):
        pass
    late = FailingStore(inner, OutsideError(""))
    first: list[Lease] = []

    def create(key: str, data: bytes | Path) -> bool:
        if not first:
            first.append(leased(inner, clock, "u1"))
            first[0].renew()
            inner.delete("l/000002.json")
        return inner.create(key, data)

    late.create = create  # type: ignore[method-assign]
    assert "u1" in str(refused(late, "late", clock.now))  # type: ignore[arg-type]
    first[0].check()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 80), st.sampled_from(["in", "beat", "out", "end"]))))
def test_never_two_who_may_go_on(steps: list[tuple[str, int, str]]) -> None:
    """Whoever comes, renews, sleeps, leaves or is ended by hand: of two whose check passes after their beat, none."""
    store, clock = open_store("memory://"), Clock()
    inside: dict[str, Lease] = {}
    for who, passed, what in steps:
        clock.pass_(passed)
        if what == "in" and who not in inside:
            lease = Lease(store, "l", who, now=clock, seconds=60, token=who + str(clock.now))
            try:
                lease.acquire()
            except ConflictError:
                continue
            inside[who] = lease
        elif what == "beat" and who in inside:
            inside[who].renew()
        elif what == "out" and who in inside:
            inside.pop(who).give_back()
        elif what == "end":
            unlock(store, "l", "test")
            for lease in inside.values():
                assert not lease.renew()
        going = [lease for lease in inside.values() if _goes_on(lease)]
        assert len(going) <= 1


def _goes_on(lease: Lease) -> bool:
    try:
        lease.check()
    except ConflictError:
        return False
    return True


# --- a holder of many processes: the steps of an update on a cluster --------------------------------------------------


def step(store: Store, clock: Clock, update: str, *, first: bool = False, last: bool = False) -> None:
    with take_part(store, "l", update, first=first, last=last, now=clock) as lease:
        clock.pass_(30)
        lease.check()


def told_no(store: Store, clock: Clock, update: str, *, first: bool) -> str:
    with (
        pytest.raises(ConflictError) as caught,
        take_part(store, "l", update, first=first, last=False, now=clock),
    ):
        raise AssertionError("two hold the lock")
    return str(caught.value)


def test_the_steps_of_an_update_hold_it_together(store: Store, clock: Clock) -> None:
    step(store, clock, "run-1", first=True)
    clock.pass_(APART_SECONDS - 60)  # a pod waits for its node
    step(store, clock, "run-1")
    assert "run-1 is at work on this model, since 2026-03-01T12:00:00" in told_no(store, clock, "run-2", first=True)
    step(store, clock, "run-1", last=True)
    step(store, clock, "run-2", first=True)


def test_steps_beside_one_another(store: Store, clock: Clock) -> None:
    step(store, clock, "run-1", first=True)
    one, other = (Lease(store, "l", "run-1", now=clock, seconds=60, token="run-1") for _ in range(2))
    for lease in (one, other):
        lease.join(first=False)
    for _ in range(5):
        clock.pass_(30)
        assert one.renew()
        assert other.renew()
    one.check()
    other.check()


def test_the_first_step_tried_again_goes_on(store: Store, clock: Clock) -> None:
    for _ in range(2):
        step(store, clock, "run-1", first=True)
    assert "run-1" in told_no(store, clock, "run-2", first=True)


def test_the_last_step_tried_again_goes_on_unless_another_came(store: Store, clock: Clock) -> None:
    step(store, clock, "run-1", first=True)
    step(store, clock, "run-1", last=True)
    step(store, clock, "run-1", last=True)  # its pod died before it could say that it was done
    step(store, clock, "run-2", first=True)
    assert "run-1 lost the lock: run-2 has it since" in told_no(store, clock, "run-1", first=False)
    step(store, clock, "run-2", last=True)
    assert "run-1 lost the lock: run-2 had it since" in told_no(store, clock, "run-1", first=False)


def test_a_run_that_died_frees_it_by_its_time(store: Store, clock: Clock) -> None:
    step(store, clock, "run-1", first=True)
    clock.pass_(APART_SECONDS)
    step(store, clock, "run-2", first=True)
    assert "lost the lock" in told_no(store, clock, "run-1", first=False)


def test_past_its_time_it_goes_on_where_nobody_came(store: Store, clock: Clock) -> None:
    step(store, clock, "run-1", first=True)
    clock.pass_(3 * APART_SECONDS)
    step(store, clock, "run-1")
    assert "run-1" in told_no(store, clock, "run-2", first=True)


def test_a_step_that_failed_keeps_it_for_another_try_only(store: Store, clock: Clock) -> None:
    step(store, clock, "run-1", first=True)
    with pytest.raises(ValueError, match="x"), take_part(store, "l", "run-1", first=False, last=False, now=clock):
        raise ValueError("x")
    clock.pass_(FAILED_SECONDS - 1)
    assert "run-1" in told_no(store, clock, "run-2", first=True)
    clock.pass_(1)
    step(store, clock, "run-2", first=True)


def test_only_the_one_who_is_meant_is_ended(store: Store, clock: Clock) -> None:
    step(store, clock, "run-2", first=True)
    assert unlock(store, "l", "run-1 ended", holder="run-1") is None
    step(store, clock, "run-2")
    ended = unlock(store, "l", "run-2 ended", holder="run-2")
    assert ended is not None
    step(store, clock, "run-3", first=True)


def test_a_run_whose_lock_was_ended_by_hand_stops(store: Store, clock: Clock) -> None:
    step(store, clock, "run-1", first=True)
    unlock(store, "l", "stuck")
    assert "run-1 lost the lock: it was ended by hand: stuck" in told_no(store, clock, "run-1", first=False)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5000), st.booleans(), st.booleans())))
def test_never_two_runs_inside(steps: list[tuple[str, int, bool, bool]]) -> None:
    """Whichever steps of whichever runs come when: one that goes in finds no other run's lease that counts."""
    store, clock = open_store("memory://"), Clock()
    until: dict[str, datetime] = {}
    for run, passed, first, last in steps:
        clock.pass_(passed)
        try:
            with take_part(store, "l", run, first=first, last=last, now=clock):
                others = {other: end for other, end in until.items() if other != run}
                assert all(end <= clock.now for end in others.values())
                until[run] = clock.now + timedelta(seconds=APART_SECONDS)
        except ConflictError:
            continue
        if last:
            until.pop(run)
