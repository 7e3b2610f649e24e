"""Watch only while this process leads: of several pods one drives the models, and the next one takes over.

The election is about who looks; the lock of each model, in its store, still keeps a person's controller and those of
another cluster apart.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from upkeep.rollout.watch import Watch
from upkeep.serving.kubernetes.lease import Election

_LOOK = 0.5
"""Seconds between two looks whether the election still runs, while another process leads."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Whose turn it is, as far as this process knows."""

    at: datetime
    leads: bool
    """Whether this process leads."""
    leader: str
    """Who led when it was read last; empty: nobody, or it is not known."""
    trouble: str = ""
    """Why it could not be asked, in one line; empty: it could."""
    model: str = "election"
    """Where a report names its model."""

    def line(self) -> str:
        """In one line, for people."""
        if self.leads:
            return "this process leads"
        said = f"stands by: {self.leader or 'nobody'} leads"
        return f"{said} ({self.trouble})" if self.trouble else said

    def record(self) -> dict[str, Any]:
        """As JSON's own types, for machines."""
        event = "leads" if self.leads else "stands_by"
        at = self.at.astimezone(UTC).isoformat()
        return {"at": at, "event": event, "leader": self.leader, "message": self.line()}


def in_turn(
    election: Election,
    make: Callable[[], Watch],
    told: Callable[[Turn], None],
) -> Watch:
    """Watch with a new :class:`Watch` of ``make`` whenever this process leads, until one has ended by itself; that one.

    ``told`` hears of each try to lead. What interrupts it (Ctrl-C) ends the watching first, and then gives the Lease
    back, so that the next one begins at once and not beside it.
    """
    stop, leading = threading.Event(), threading.Event()
    current: list[Watch] = []

    def tried(tried: Election) -> None:
        leads = tried.leads()
        trouble = "" if tried.trouble is None else str(tried.trouble).replace("\n    → ", " → ").replace("\n", "; ")
        if leads:
            leading.set()
        else:
            leading.clear()
            for watch in current:
                watch.stop()
        told(Turn(at=datetime.now(UTC), leads=leads, leader=tried.leader, trouble=trouble))

    thread = threading.Thread(target=election.run, args=(stop, tried), name="election", daemon=True)
    thread.start()
    try:
        while True:
            while not leading.wait(_LOOK):
                if not thread.is_alive():
                    raise RuntimeError("the election has ended by itself")
            watch = make()
            current[:] = [watch]
            if leading.is_set():
                watch.run()
                if election.leads():
                    return watch
    finally:
        stop.set()
        thread.join()
