"""One at a time: a lock of create-only epochs, each a short lease that its holder renews while it lives.

``000001.json`` says who holds the first epoch and until when, ``000001.released.json`` that it is over. The next
epoch may be created once the newest one is released or past its time, and creating is atomic: of many who try, one
gets it. Renewing is creating the next epoch, too, before one's own is over: so it cannot go on beside somebody who
came in between. A crashed holder's lock is free within :data:`LEASE_SECONDS`; a person can end any at once
(:func:`unlock`), and a holder that is still alive then finds out (:meth:`Lease.check`). It keeps others from wasting
work; what guards correctness are the create-only version and the Git push, so a clock that is a little off does no
harm.

A holder may be many processes, one after another and beside one another (:func:`take_part`): the steps of an update on
a cluster, where nobody stands around them. They are one holder by their token. Between two of them nobody renews, so a
lease lasts :data:`APART_SECONDS` there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from upkeep import records
from upkeep.errors import ConflictError, UpkeepError, Where
from upkeep.store import MissingObject, Store

LEASE_SECONDS = 120.0
"""How long a crashed holder keeps others waiting."""
APART_SECONDS = 3600.0
"""How long a holder of many processes may be without any that lives: a pod waits for its node, and for its image."""
FAILED_SECONDS = 600.0
"""How long it is kept for such a holder after one of its processes failed: it may be tried again."""
APART_BEAT = 60.0
"""Seconds between two renewals there: well within both."""
BEATS = 4
"""How often a lease is renewed in its time: three may fail before it ends."""
ATTEMPTS = 20
"""How often a lost race is run again: each loss means that somebody else held the lock and gave it back."""
KEPT_EPOCHS = 100
"""A holder that renews removes its epochs before the newest so many: one that lives for weeks leaves no thousands."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Who holds the lock, and until when."""

    holder: str
    token: str
    """Tells two attempts of one holder apart."""
    since: str
    """UTC, ISO 8601: when the holder came in, not when it last renewed."""
    until: str
    """UTC, ISO 8601: from then on the lock is free, released or not."""
    schema_version: int = 1


@dataclass(frozen=True, kw_only=True)
class Release:
    """An epoch is over."""

    epoch: Epoch
    broken: str = ""
    """Why a person ended it; empty: its holder gave it back."""
    schema_version: int = 1


class Lease:
    """The lock as its holder has it: made by :func:`hold`."""

    def __init__(
        self, store: Store, prefix: str, holder: str, *, now: Callable[[], datetime], seconds: float, token: str
    ) -> None:
        self._store, self._prefix, self._now, self._seconds = store, prefix, now, seconds
        self.holder = holder
        self._token = token
        self.since = ""
        """UTC, ISO 8601."""
        self._number = 0
        """The newest epoch that is known to be one's own."""
        self._tried = 0
        """The newest epoch that one tried to create: where an error or a lost reply hid the answer, it may be own."""
        self.until = ""
        """UTC, ISO 8601: when it ends unless it is renewed."""
        self._taken = ""
        self._trouble = ""

    def check(self) -> None:
        """Raises :class:`ConflictError` when the lock is no longer this holder's. Reads no store."""
        where = Where(file=f"{self._store.uri}/{self._prefix}")
        if self._taken:
            raise ConflictError(
                f"{self.holder} lost the lock: {self._taken}", where=where, fix="see who is at work, then start again"
            )
        if self._now().astimezone(UTC) >= datetime.fromisoformat(self.until):
            why = f" ({self._trouble})" if self._trouble else ""
            raise ConflictError(
                f"{self.holder} lost the lock: it was not renewed before {self.until}{why}",
                where=where,
                fix="see that the store can be reached, then start again",
            )

    @property
    def cut_off(self) -> bool:
        """Whether it is not renewed since the store does not take it; nobody else is known to have come in."""
        return bool(self._trouble) and not self._taken

    def acquire(self) -> None:
        """Raises :class:`ConflictError` where somebody else has it."""
        for _ in range(ATTEMPTS):
            try:
                newest, held = holder_of(self._store, self._prefix)
            except MissingObject:  # removed since it was listed: it is long over
                continue
            moment = self._now().astimezone(UTC)
            if held and moment < datetime.fromisoformat(held.until):
                raise _held(held, self._store.uri, _epoch(self._prefix, newest))
            self.since = moment.isoformat(timespec="seconds")
            # a number that was removed since it was read can be created again, and is not the newest any more
            if self._create(newest + 1, moment) and newest_epoch(self._store, self._prefix)[0] == newest + 1:
                self._number = newest + 1
                return
        raise ConflictError(
            f"the lock went to others {ATTEMPTS} times in a row",
            where=Where(file=f"{self._store.uri}/{self._prefix}"),
            fix="try again",
        )

    def join(self, *, first: bool) -> None:
        """Go on as the holder that others of the same token are; ``first``: or become it, where the lock is free.

        Raises :class:`ConflictError` where somebody else has it, or has had it since, or a person ended it.
        """
        for _ in range(ATTEMPTS):
            try:
                newest, held = holder_of(self._store, self._prefix)
                if held is not None and held.token == self._token:  # also past its time: nobody came
                    self._number, self.since = newest, held.since
                    if self.renew():
                        return
                    continue
                if newest and not first:
                    self._taken = self._why_over(newest, held)
            except MissingObject:
                continue
            if self._taken:
                self.check()
            self.acquire()
            return
        raise ConflictError(
            f"the lock changed hands {ATTEMPTS} times in a row",
            where=Where(file=f"{self._store.uri}/{self._prefix}"),
            fix="try again",
        )

    def _why_over(self, newest: int, held: Epoch | None) -> str:
        """Why the newest epoch, which is not one's own, says that one's turn is over; empty: it was given back."""
        if held is not None:
            return f"{held.holder} has it since {held.since}"
        over = records.from_json(Release, self._store.get(_released(self._prefix, newest)))
        if over.epoch.token != self._token:
            return f"{over.epoch.holder} had it since {over.epoch.since}"
        return f"it was ended by hand: {over.broken}" if over.broken else ""

    def last(self, seconds: float) -> None:
        """Make it end ``seconds`` from now."""
        self._seconds = seconds
        self.renew()

    def renew(self) -> bool:
        """Make it last ``seconds`` from now; False when it is somebody else's, or a person ended it."""
        names = _names(self._store, self._prefix)
        newest, released = _newest(names)
        if newest != self._number or released:
            there = records.from_json(Epoch, self._store.get(_epoch(self._prefix, newest)))
            if there.token != self._token or released:
                self._taken = self._who_took(newest, released=released)
                return False
            self._number = newest  # one's own, of which the reply was lost
        if not self._create(newest + 1, self._now().astimezone(UTC)):
            self._taken = self._who_took(newest + 1, released=False)
            return False
        self._number = newest + 1
        self._trouble = ""
        for name in sorted(names)[:BEATS]:
            if _number(name) < newest - KEPT_EPOCHS:
                self._store.delete(f"{self._prefix}/{name}")
        return True

    def beat(self, stop: threading.Event, every: float) -> None:
        """Renew until told to stop, or until it is lost."""
        while not stop.wait(every):
            try:
                if not self.renew():
                    return
            except Exception as error:  # noqa: BLE001 - whatever it is, the next beat may work; check() tells if not
                self._trouble = str(error).partition("\n")[0]

    def give_back(self) -> None:
        """Release the epoch that is one's own, also when an interrupt or a lost reply hid that it is."""
        if self._number and self._number == self._tried:
            self._release(self._number, self._record(self.until))
            return
        for number in dict.fromkeys((self._tried, self._number)):
            if number:
                with suppress(MissingObject):
                    there = records.from_json(Epoch, self._store.get(_epoch(self._prefix, number)))
                    if there.token == self._token:
                        self._release(number, there)
                        return

    def _record(self, until: str) -> Epoch:
        return Epoch(holder=self.holder, token=self._token, since=self.since, until=until)

    def _create(self, number: int, moment: datetime) -> bool:
        until = (moment + timedelta(seconds=self._seconds)).isoformat(timespec="seconds")
        data = records.to_json(self._record(until))
        self._tried = number
        key = _epoch(self._prefix, number)
        if self._store.create(key, data):
            self.until = until
            return True
        # after a lost reply, or where several are one holder, the epoch that is there may be one's own
        there = records.from_json(Epoch, self._store.get(key))
        if there.token != self._token:
            return False
        self.until = there.until
        return True

    def _release(self, number: int, epoch: Epoch) -> None:
        self._store.create(_released(self._prefix, number), records.to_json(Release(epoch=epoch)))

    def _who_took(self, number: int, *, released: bool) -> str:
        if released:
            data = self._store.get(_released(self._prefix, number))
            return f"it was ended by hand: {records.from_json(Release, data).broken or 'no reason given'}"
        there = records.from_json(Epoch, self._store.get(_epoch(self._prefix, number)))
        return f"{there.holder} has it since {there.since}"


@contextmanager
def hold(
    store: Store,
    prefix: str,
    holder: str,
    *,
    now: Callable[[], datetime],
    seconds: float = LEASE_SECONDS,
    every: float | None = None,
) -> Iterator[Lease]:
    """Hold the lock at ``prefix`` while the block runs, renewed in the background.

    ``seconds``: how long others wait after a crash; ``every``: seconds between two renewals, a quarter of that without.
    Raises :class:`ConflictError`, which names the holder and until when, where somebody else has it. The block asks
    :meth:`Lease.check` before what must not be done by two.
    """
    lease = Lease(store, prefix, holder, now=now, seconds=seconds, token=uuid4().hex)
    stop = threading.Event()
    beat = threading.Thread(
        target=lease.beat, args=(stop, seconds / BEATS if every is None else every), name=f"lock {prefix}", daemon=True
    )
    try:
        lease.acquire()
        beat.start()
        yield lease
    finally:
        stop.set()
        if beat.ident is not None:
            beat.join()
        # where the store is away the lock ends by its time; what the block did or raised matters more
        with suppress(UpkeepError):
            lease.give_back()


@contextmanager
def take_part(
    store: Store,
    prefix: str,
    holder: str,
    *,
    first: bool,
    last: bool,
    now: Callable[[], datetime],
) -> Iterator[Lease]:
    """Be, while the block runs, one of the processes that hold the lock at ``prefix`` together: all that name
    ``holder``.

    The ``first`` one takes it, the ``last`` one gives it back, each renews it while it lives. Where the block fails the
    lock is free within :data:`FAILED_SECONDS`, unless the block is tried again. Raises :class:`ConflictError` where
    somebody else has it (it names who), or where it was ended by hand.
    """
    lease = Lease(store, prefix, holder, now=now, seconds=APART_SECONDS, token=holder)
    lease.join(first=first)
    stop = threading.Event()
    beat = threading.Thread(target=lease.beat, args=(stop, APART_BEAT), name=f"lock {prefix}", daemon=True)
    beat.start()
    try:
        yield lease
    except BaseException:
        stop.set()
        beat.join()
        with suppress(UpkeepError):  # it ends by its time then
            lease.last(FAILED_SECONDS)
        raise
    finally:
        stop.set()
        beat.join()
    if last:
        with suppress(UpkeepError):
            lease.give_back()


def unlock(store: Store, prefix: str, reason: str, *, holder: str = "") -> Epoch | None:
    """End whoever's epoch is the newest (``holder``: only that one's); who held it, or None: nobody did.

    A holder that is alive renews no more and is told at its next :meth:`Lease.check`.
    """
    for _ in range(ATTEMPTS):
        newest, held = holder_of(store, prefix)
        if held is None or (holder and held.holder != holder):
            return None
        store.create(_released(prefix, newest), records.to_json(Release(epoch=held, broken=reason)))
        if newest_epoch(store, prefix) == (newest, True):
            return held
    raise ConflictError(
        "the lock was taken again and again",
        where=Where(file=f"{store.uri}/{prefix}"),
        fix="stop those who take it, then try again",
    )


def holder_of(store: Store, prefix: str) -> tuple[int, Epoch | None]:
    """The newest epoch's number, 0 without any, and what it says unless it was released: its time may be past."""
    newest, released = newest_epoch(store, prefix)
    if not newest or released:
        return newest, None
    key = _epoch(prefix, newest)
    return newest, records.from_json(Epoch, store.get(key), source=f"{store.uri}/{key}")


def past_epochs(store: Store, prefix: str) -> list[str]:
    """Keys of all epochs before the newest."""
    names = _names(store, prefix)
    newest, _ = _newest(names)
    return sorted(f"{prefix}/{name}" for name in names if _number(name) < newest)


def newest_epoch(store: Store, prefix: str) -> tuple[int, bool]:
    """The newest epoch's number, 0 without any, and whether it was released."""
    return _newest(_names(store, prefix))


def _names(store: Store, prefix: str) -> set[str]:
    names = {entry.key[len(prefix) + 1 :] for entry in store.list(prefix)}
    return {name for name in names if name.partition(".")[0].isdecimal()}


def _newest(names: set[str]) -> tuple[int, bool]:
    newest = max(map(_number, names), default=0)
    return newest, _released("", newest)[1:] in names


def _number(name: str) -> int:
    return int(name.partition(".")[0])


def _epoch(prefix: str, number: int) -> str:
    return f"{prefix}/{number:06d}.json"


def _released(prefix: str, number: int) -> str:
    return f"{prefix}/{number:06d}.released.json"


def _held(held: Epoch, uri: str, key: str) -> ConflictError:
    of = key.split("/")[-2]
    return ConflictError(
        f"{held.holder} is at work on this model, since {held.since}",
        where=Where(file=f"{uri}/{key}"),
        fix=f"wait until it is done; if it crashed, the lock ends by itself at {held.until}; "
        f"`upkeep store unlock --of {of} --reason …` ends it now",
    )
