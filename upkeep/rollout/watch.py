"""``upkeep rollout watch``: the controllers of many models, each in a thread of its own.

One controller at a time for a model: it holds the model's lock ``rollout``, a short lease that is renewed while it
lives. What goes wrong with one model is told, and tried again after a while that grows; the others go on. Nothing is
remembered here that the next process would miss.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from upkeep.errors import ConflictError, UpkeepError, known
from upkeep.registry.lock import Lease
from upkeep.registry.registry import Registry
from upkeep.rollout.controller import Model, Told, tick
from upkeep.rollout.state import WAITING
from upkeep.spec.model import ModelSpec
from upkeep.store import open_store

LOCK = "rollout"
LEASE = 30.0
"""Seconds after which another controller may take over from one that was killed."""
LONGEST = 120.0
"""Seconds between two tries at most, while something is wrong."""

Ended = Literal["rests", "waits", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """One line of news for the log: a look, or what kept it from being one."""

    model: str
    at: datetime
    told: Told | None = None
    error: UpkeepError | None = None
    bug: str = ""
    """What no one foresaw, in one line."""
    wait: float
    """Seconds until the next look."""

    def line(self) -> str:
        """In one line, for people."""
        if self.told is None:
            text = self.bug and f"a bug: {self.bug}"
            if self.error is not None:
                text = str(self.error).replace("\n    → ", " → ").replace("\n", "; ")
            return f"{text} (again in {self.wait:.0f} s)"
        state = self.told.state
        if state is None:
            return self.told.message
        place = f"{state.phase} {state.step}" if state.phase == "step" else state.phase
        share = f" {state.weight} %" if state.canary else ""
        troubles = "".join(f" | {kind}: {text}" for kind, text in self.told.troubles.items())
        return f"{place}{share}: {self.told.message}{troubles}"

    def record(self) -> dict[str, Any]:
        """As JSON's own types, for machines."""
        said: dict[str, Any] = {"at": self.at.astimezone(UTC).isoformat(), "model": self.model, "wait": self.wait}
        if self.told is None:
            kind = type(self.error).__name__ if self.error else "Bug"
            return said | {"event": "error", "error": kind, "message": str(self.error) if self.error else self.bug}
        state, analysis = self.told.state, self.told.analysis
        said |= {"event": "moved" if self.told.moved else "looked", "message": self.told.message}
        said |= {"troubles": dict(self.told.troubles), "commit": self.told.commit}
        if state is not None:
            said |= {"phase": state.phase, "step": state.step, "weight": state.weight, "rollout": state.rollout}
            said |= {"champion": state.champion.version, "canary": state.canary.version if state.canary else None}
        if analysis is not None:
            said |= {"verdict": analysis.verdict, "e_rollback": analysis.e_rollback}
        return said


Tell = Callable[[Report], None]
Connect = Callable[[ModelSpec], AbstractContextManager[Model]]


class Watch:
    """Watches ``specs`` until :meth:`stop`; or, with ``once``, looks once; or, with ``until_rest``, until no rollout is
    under way, or one waits for a person."""

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        *,
        connect: Connect,
        tell: Tell,
        once: bool = False,
        until_rest: bool = False,
        lease: float = LEASE,
        holder: str = "",
        leads: Callable[[], bool] = lambda: True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``leads``: asked before each effect; False: another process drives these models now."""
        self._connect, self._tell, self._now = connect, tell, now
        self._leads = leads
        self._once, self._until_rest, self._lease = once, until_rest, lease
        self._holder = holder or f"the controller on {socket.gethostname()} (process {os.getpid()})"
        self._stop = threading.Event()
        self.ended: dict[str, Ended] = {}
        """Model → how its watching ended."""
        self.errors: dict[str, UpkeepError] = {}
        """Model → the newest error, with ``once``."""
        self._specs = specs

    def run(self) -> None:
        """Until all have ended. What interrupts it (Ctrl-C) stops all of them first, between two effects."""
        # not by Thread.join: interrupted, Python 3.11 takes a thread that runs for one that has ended (bpo-46726)
        ended = [threading.Event() for _ in self._specs]
        for spec, event in zip(self._specs, ended, strict=True):
            threading.Thread(
                target=self._watch_until_end, args=(spec, event), name=f"watch {spec.name}", daemon=True
            ).start()
        try:
            for event in ended:
                event.wait()
        except BaseException:
            self.stop()
            for event in ended:
                event.wait()
            raise

    def stop(self) -> None:
        """End soon: after the effect that is under way."""
        self._stop.set()

    def _watch_until_end(self, spec: ModelSpec, ended: threading.Event) -> None:
        try:
            self._watch(spec)
        finally:
            ended.set()

    def _watch(self, spec: ModelSpec) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                self.ended[spec.name] = self._hold(spec)
                return
            except Exception as error:  # noqa: BLE001 (one model's trouble, whatever it is, must not stop the others)
                failures += 1
                if not self._failed(spec, error, failures):
                    break
        self.ended[spec.name] = "stopped"

    def _hold(self, spec: ModelSpec) -> Ended:
        """Look again and again while the lock is held."""
        registry = Registry(open_store(spec.store, spec.object_store), spec.name)
        with (
            registry.lock(self._holder, now=self._now, of=LOCK, seconds=self._lease) as lease,
            self._connect(spec) as model,
        ):
            failures = 0
            while not self._stop.is_set():
                _check(lease)
                try:
                    told = tick(model, self._now(), go_on=lambda: self._go_on(lease))
                except Exception as error:  # noqa: BLE001 (as above; the lock is kept)
                    failures += 1
                    if not self._failed(spec, error, failures):
                        return "stopped"
                    continue
                failures = 0
                self._tell(Report(model=spec.name, at=self._now(), told=told, wait=told.next_look))
                if self._until_rest and told.rests:
                    return "rests"
                if self._until_rest and told.state is not None and told.state.phase in WAITING and not told.moved:
                    return "waits"
                if self._once:
                    return "rests" if told.rests else "stopped"
                self._stop.wait(told.next_look)
        return "stopped"

    def _go_on(self, lease: Lease) -> bool:
        """Asked before each effect: an effect must not come from one who lost the lock, or leads no more."""
        _check(lease)
        return self._leads() and not self._stop.is_set()

    def _failed(self, spec: ModelSpec, error: Exception, failures: int) -> bool:
        """Tell, and wait; whether to try again."""
        foreseen = known(error)
        wait = min(LONGEST, spec.rollout.every * 2 ** min(failures - 1, 10))
        if isinstance(foreseen, ConflictError):
            wait = min(wait, self._lease / 2)
        bug = "" if foreseen else f"{type(error).__name__}: {error}"
        self._tell(Report(model=spec.name, at=self._now(), error=foreseen, bug=bug, wait=wait))
        if self._once:
            self.errors[spec.name] = foreseen or UpkeepError(f"a bug: {bug}", fix="please report it")
            return False
        self._stop.wait(wait)
        return not self._stop.is_set()


def _check(lease: Lease) -> None:
    """Raises :class:`ConflictError` when the lock is another's, or is over.

    Not where it is only the store that takes no renewal: it takes no evidence either, so nothing moves forward, and a
    canary that fails has to be taken back all the same.
    """
    if not lease.cut_off:
        lease.check()
