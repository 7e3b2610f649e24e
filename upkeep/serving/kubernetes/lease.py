"""Who of several processes leads, by a Lease of ``coordination.k8s.io/v1``: client-go's algorithm.

What the Lease says of time is never compared with this machine's clock. A process remembers when it *saw* the Lease
change last, by its own monotonic clock, and takes over when it has not changed for the whole duration that its holder
wrote into it. The holder acts only until ``renew_deadline`` after the moment at which it *sent* its last renewal that
succeeded. Since that is shorter than the duration, no other process can have taken over by then, whatever their clocks
say, as long as they run about equally fast (within a fifth, by the defaults).

A process that is frozen between asking :meth:`Election.leads` and acting may act beside the next one: a Lease is no
fence. Nothing correct hangs on it: the Git push lets in only what was decided on the newest commit.

:func:`observe` and :func:`wish` decide, purely; :class:`Election` asks the API server.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from upkeep.errors import ConflictError, UpkeepError
from upkeep.serving.kubernetes.api import Api, MissingError
from upkeep.serving.kubernetes.paths import LEASES, path

JITTER = 1.2
"""Tries come between once and so many times the retry period apart, so that those who wait do not come in step."""

Wish = Literal["create", "take", "renew", "wait"]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds. The defaults are those of Kubernetes' own controllers."""

    duration: float = 15.0
    """How long a holder that is not heard of keeps the others waiting."""
    renew_deadline: float = 10.0
    """A holder that could not renew for so long leads no more."""
    retry: float = 2.0
    """Between two tries."""

    def __post_init__(self) -> None:
        if not 0 < self.retry * JITTER < self.renew_deadline < self.duration:
            raise ValueError(f"a Lease's times must rise: retry, renewal, duration: {self}")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A Lease as it was read, and when it was first seen so."""

    version: str
    """Its ``resourceVersion``; empty: there is no Lease."""
    holder: str
    """Empty: nobody's, given back."""
    duration: float
    """Seconds, as its holder wrote; for one that wrote none, one's own."""
    transitions: int
    at: float
    """When it was first seen like this, by the monotonic clock; after the answer came, so not before it was written."""


def observe(before: Seen | None, found: Mapping[str, Any] | None, at: float, duration: float) -> Seen:
    """What is known after reading ``found`` (None: it is not there), which came in at ``at``.

    The time of ``before`` is kept where nothing has changed. ``duration`` stands in where the Lease names none.
    """
    if found is None:
        return Seen(version="", holder="", duration=duration, transitions=0, at=at)
    version = str(found["metadata"].get("resourceVersion", ""))
    if before is not None and before.version == version:
        return before
    spec = found.get("spec") or {}
    said = spec.get("leaseDurationSeconds")
    return Seen(
        version=version,
        holder=str(spec.get("holderIdentity") or ""),
        duration=float(said) if isinstance(said, int | float) and said > 0 else duration,
        transitions=int(spec.get("leaseTransitions") or 0),
        at=at,
    )


def wish(me: str, seen: Seen, now: float) -> Wish:
    """What ``me`` may ask of the API server at ``now``, having read ``seen``; it may still come second."""
    if not seen.version:
        return "create"
    if seen.holder == me:
        return "renew"
    return "take" if not seen.holder or now - seen.at > seen.duration else "wait"


class Election:
    """One process' part in it, for one Lease ``namespace/name``. :meth:`leads` may be asked from any thread.

    ``me`` must be this process' alone: a name that two share would make both lead.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        me: str,
        *,
        timing: Timing = Timing(),
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``api``: one that tries once, and gives up well before ``timing.renew_deadline``."""
        self._api, self._path, self._name, self.me = api, path(LEASES, namespace, name), name, me
        self._all = path(LEASES, namespace)
        self._timing, self._clock, self._now = timing, clock, now
        self._seen: Seen | None = None
        self._until = float("-inf")
        self._written: datetime | None = None
        self.trouble: UpkeepError | None = None
        """Why the last try came to nothing; None: it did not."""

    def __str__(self) -> str:
        return f"the Lease {self._all.split('/')[-2]}/{self._name}"

    @property
    def leader(self) -> str:
        """Who led when it was read last; empty: nobody, or nothing was read yet."""
        return self._seen.holder if self._seen else ""

    def leads(self) -> bool:
        """Whether this process may act at this very moment. Asks nobody."""
        return self._clock() < self._until

    def attempt(self) -> bool:
        """Try once to take or to renew it; whether this process leads then. Raises nothing of the API server's."""
        self.trouble = None
        try:
            self._attempt()
        except ConflictError:
            self._forget()  # somebody came first: what they wrote is read at the next try
        except UpkeepError as error:
            self.trouble = error
        return self.leads()

    def give_back(self) -> None:
        """Lead no more, and let the next one in at once. Where that fails, the others wait for its end."""
        held, self._until = self._seen, float("-inf")
        if held is None or held.holder != self.me:
            return
        spec = {"holderIdentity": None, "leaseDurationSeconds": 1, "renewTime": self._moment()}
        try:
            self._api.patch(self._path, {"metadata": {"resourceVersion": held.version}, "spec": spec})
        except UpkeepError:
            return
        finally:
            self._seen = None

    def run(self, stop: threading.Event, told: Callable[[Election], None] = lambda _: None) -> None:
        """Try again and again until ``stop``, and give it back then. ``told`` hears of each try."""
        try:
            while True:
                self.attempt()
                told(self)
                if stop.wait(self._timing.retry * random.uniform(1, JITTER)):
                    return
        finally:
            self.give_back()

    # --- how -------------------------------------------------------------------------------------------------------

    def _attempt(self) -> None:
        seen = self._seen
        if seen is None or seen.holder != self.me:  # one's own needs no reading: the renewal names its version
            seen = self._read()
        wanted = wish(self.me, seen, self._clock())
        if wanted == "wait":
            return
        sent = self._clock()
        moment = self._moment()
        spec: dict[str, Any] = {
            "holderIdentity": self.me,
            "leaseDurationSeconds": max(1, round(self._timing.duration)),
            "renewTime": moment,
        }
        if wanted == "create":
            spec |= {"acquireTime": moment, "leaseTransitions": 0}
            body = {"apiVersion": LEASES[0], "kind": "Lease", "metadata": {"name": self._name}, "spec": spec}
            found: Mapping[str, Any] = self._api.create(self._all, body)
        else:
            if wanted == "take":
                spec |= {"acquireTime": moment, "leaseTransitions": seen.transitions + 1}
            found = self._write(seen, spec)
        self._seen = observe(None, found, self._clock(), self._timing.duration)
        self._until = sent + self._timing.renew_deadline

    def _read(self) -> Seen:
        try:
            found: Mapping[str, Any] | None = self._api.get(self._path)
        except MissingError:
            found = None
        self._seen = observe(self._seen, found, self._clock(), self._timing.duration)
        return self._seen

    def _write(self, seen: Seen, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return self._api.patch(self._path, {"metadata": {"resourceVersion": seen.version}, "spec": spec})
        except MissingError as error:
            raise ConflictError(f"{self} was deleted meanwhile") from error

    def _forget(self) -> None:
        """Read it before the next wish. Where it was one's own it is not known any more whose it is."""
        if self._seen is not None and self._seen.holder == self.me:
            self._seen = None

    def _moment(self) -> str:
        """As ``MicroTime`` has it; never the same as before: a renewal that changes nothing would be none."""
        found = self._now().astimezone(UTC)
        if found == self._written:
            found += timedelta(microseconds=1)
        self._written = found
        return found.isoformat(timespec="microseconds").replace("+00:00", "Z")
