"""Whether a controller lives and does its work: what ``/healthz`` and ``/readyz`` of its process answer.

*Lives*: every model is looked at when it should be; a process whose look hangs for :data:`LONGEST_LOOK` is to be
started again, and the next one goes on from what stands. *Ready*: the newest look at every model came to an end, or
another controller drives it and this one stands by. A rolling update with a wrong token or spec then stops at its first
pod.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from upkeep.errors import ConflictError
from upkeep.rollout.lead import Turn
from upkeep.rollout.watch import Report

LONGEST_LOOK = 900.0
"""Seconds that one look may take: several git commands, each with a limit of its own."""
LONGEST_ELECTION = 60.0
"""Seconds between two tries to lead, at most."""


@dataclass(frozen=True)
class Answer:
    """What a probe gets: 200 where ``ok``, else 503; a line a model, for people."""

    ok: bool
    text: str


@dataclass(frozen=True)
class _Seen:
    ready: bool
    text: str
    due: float
    """When the next sign of life must have come, by the monotonic clock."""


class Health:
    """Fed with each report, and with who leads. Safe from several threads; ``clock`` gives monotonic seconds."""

    def __init__(self, models: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._models: dict[str, _Seen] = {}
        self._standing_by: _Seen | None = None
        self._names = tuple(models)
        self._begin()

    def _begin(self) -> None:
        first = _Seen(ready=False, text="not looked at yet", due=self._clock() + LONGEST_LOOK)
        self._models = dict.fromkeys(self._names, first)

    def observe(self, news: Report | Turn) -> None:
        """A look at a model has ended, well or not; or it was asked whose turn it is."""
        now = self._clock()
        with self._lock:
            if isinstance(news, Report):
                ready = news.told is not None or isinstance(news.error, ConflictError)
                self._models[news.model] = _Seen(ready, news.line(), now + news.wait + LONGEST_LOOK)
            elif not news.leads:
                self._standing_by = _Seen(not news.trouble, news.line(), now + LONGEST_ELECTION)
            elif self._standing_by is not None:
                self._standing_by = None
                self._begin()

    def alive(self) -> Answer:
        now = self._clock()
        late = [f"{name}: no sign of life for too long: {seen.text}" for name, seen in self._all() if now > seen.due]
        return Answer(not late, "\n".join(late or ["ok"]) + "\n")

    def ready(self) -> Answer:
        found = self._all()
        return Answer(all(seen.ready for _, seen in found), "".join(f"{name}: {seen.text}\n" for name, seen in found))

    def _all(self) -> list[tuple[str, _Seen]]:
        with self._lock:
            return [("election", self._standing_by)] if self._standing_by else list(self._models.items())
