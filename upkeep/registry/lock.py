"""One update of a model at a time: a lock of create-only epochs.

``lock/000001.json`` says who holds the first epoch and until when, ``lock/000001.released.json`` that it is over. The
next epoch may be created once the newest one is released or past its time, and creating is atomic: of many who try,
one gets it. A crashed holder's lock ends by itself. It keeps others from wasting work; what guards correctness are
the create-only version and the Git push, so a clock that is a little off does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from upkeep import records
from upkeep.errors import ConflictError, UpkeepError, Where
from upkeep.store import Store

ATTEMPTS = 20
"""How often a lost race is run again: each loss means that somebody else held the lock and gave it back."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Who holds the lock, and until when."""

    holder: str
    token: str
    """Tells two attempts of one holder apart."""
    since: str
    """UTC, ISO 8601."""
    until: str
    """UTC, ISO 8601: from then on the lock is free, released or not."""
    schema_version: int = 1


@contextmanager
def hold(
    store: Store,
    prefix: str,
    holder: str,
    *,
    now: Callable[[], datetime],
    seconds: float,
    token: Callable[[], str] = lambda: uuid4().hex,
) -> Iterator[Epoch]:
    """Hold the lock at ``prefix`` while the block runs, ``seconds`` at most.

    Raises :class:`ConflictError`, which names the holder and until when, where somebody else has it.
    """
    own = token()
    tried: list[int] = []
    epoch = None
    try:
        epoch = _acquire(store, prefix, holder, now, seconds, own, tried)
        yield epoch
    finally:
        # where the store is away the lock ends by its time; what the block did or raised matters more
        with suppress(UpkeepError):
            _give_back(store, prefix, own, tried, epoch)


def _acquire(
    store: Store,
    prefix: str,
    holder: str,
    now: Callable[[], datetime],
    seconds: float,
    token: str,
    tried: list[int],
) -> Epoch:
    for _ in range(ATTEMPTS):
        newest, released = newest_epoch(store, prefix)
        moment = now().astimezone(UTC)
        if newest and not released:
            key = _epoch(prefix, newest)
            held = records.from_json(Epoch, store.get(key), source=f"{store.uri}/{key}")
            if moment < datetime.fromisoformat(held.until):
                raise _held(held, f"{store.uri}/{key}")
        epoch = Epoch(
            holder=holder,
            token=token,
            since=moment.isoformat(timespec="seconds"),
            until=(moment + timedelta(seconds=seconds)).isoformat(timespec="seconds"),
        )
        key = _epoch(prefix, newest + 1)
        tried.append(newest + 1)
        data = records.to_json(epoch)
        # after a lost reply the epoch that is there may be one's own
        if store.create(key, data) or store.get(key) == data:
            return epoch
    raise ConflictError(
        f"the lock went to others {ATTEMPTS} times in a row", where=Where(file=f"{store.uri}/{prefix}"), fix="try again"
    )


def _give_back(store: Store, prefix: str, token: str, tried: list[int], epoch: Epoch | None) -> None:
    """Release the epoch that is one's own, also when an interrupt or a lost reply hid that it is."""
    for number in tried[-1:]:
        there = epoch or records.from_json(Epoch, store.get(_epoch(prefix, number)))
        if there.token == token:
            store.create(_released(prefix, number), records.to_json(there))


def past_epochs(store: Store, prefix: str) -> list[str]:
    """Keys of all epochs before the newest."""
    newest, _ = newest_epoch(store, prefix)
    numbers = {entry.key: entry.key[len(prefix) + 1 :].partition(".")[0] for entry in store.list(prefix)}
    return sorted(key for key, number in numbers.items() if number.isdecimal() and int(number) < newest)


def newest_epoch(store: Store, prefix: str) -> tuple[int, bool]:
    """The newest epoch's number, 0 without any, and whether it was released."""
    names = {entry.key[len(prefix) + 1 :] for entry in store.list(prefix)}
    numbers = [int(name.partition(".")[0]) for name in names if name.partition(".")[0].isdecimal()]
    newest = max(numbers, default=0)
    return newest, _released("", newest)[1:] in names


def _epoch(prefix: str, number: int) -> str:
    return f"{prefix}/{number:06d}.json"


def _released(prefix: str, number: int) -> str:
    return f"{prefix}/{number:06d}.released.json"


def _held(held: Epoch, place: str) -> ConflictError:
    return ConflictError(
        f"{held.holder} is at work on this model, since {held.since}",
        where=Where(file=place),
        fix=f"wait until it is done; if it crashed, the lock ends by itself at {held.until}",
    )
