"""What a person may say to a rollout: pure functions from one state to the next, which the caller commits.

Each raises :class:`~upkeep.errors.RefusedError`, in words, where it makes no sense. A person's word stands for
evidence, never for readiness: nobody can give traffic to a version that does not answer. Windows and the freeze bind
Upkeep, not people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from upkeep.errors import RefusedError
from upkeep.rollout.decide import not_ready, promoted, taken_back
from upkeep.rollout.observation import Observation
from upkeep.rollout.plan import Plan
from upkeep.rollout.state import WITHOUT_TRAFFIC, Canary, Phase, State, moment, one_line, rollout_id


def pause(state: State, *, by: str, reason: str, now: datetime) -> State:
    """Nothing moves until :func:`resume`; what fails is told, and not taken back."""
    _under_way(state)
    if state.phase == "paused":
        raise RefusedError(f"it is paused already: {state.reason}")
    return _to(state, "paused", _said(by, "paused it", reason), now, came_from=state.came_from or state.phase)


def resume(state: State, *, by: str, reason: str = "", now: datetime) -> State:
    """Go on from where it was held or paused; its time starts anew.

    Where it was held, this is also the approval to leave the step (once its evidence passes).
    """
    _under_way(state)
    if state.phase not in ("held", "paused") or state.came_from is None:
        raise RefusedError(f"nothing holds it: it is in the phase {state.phase}")
    phase = state.came_from
    if state.weight and phase in WITHOUT_TRAFFIC:
        phase = "step"  # a person gave it traffic meanwhile
    approved = max(state.approved, state.step) if state.phase == "held" else state.approved
    return _to(state, phase, _said(by, "resumed it", reason), now, approved=approved)


def promote(
    plan: Plan, state: State, observation: Observation, *, by: str, reason: str = "", full: bool = False, now: datetime
) -> State:
    """One step on without the evidence; ``full``: all traffic at once; in the bake time: the end of it."""
    name = _under_way(state).version
    phase = state.came_from or state.phase
    if phase == "promoting":
        raise RefusedError(f"{name} is being given all traffic already", fix="resume it, if it is held or paused")
    if missing := not_ready(state, observation, now):
        raise RefusedError(
            f"{name} may not get more traffic: it waits for {missing}",
            fix="a person's word stands for evidence, not for a version that does not answer; mend that first",
        )
    if phase == "baking":
        began = datetime.fromisoformat(state.since) if state.since else now
        if (now - began).total_seconds() < plan.settle:
            raise RefusedError(f"requests to {state.champion.version} may be under way", fix="try again in a moment")
        return promoted(state, _said(by, "ended the bake time", reason), now)
    step = None if full or state.direct else plan.step_after(state.weight)
    if step is None:
        return _to(state, "promoting", _said(by, f"gave {name} all traffic", reason), now, weight=100)
    weight = plan.steps[step - 1]
    return _to(state, "step", _said(by, f"gave {name} {weight} %", reason), now, weight=weight, step=step)


def abort(state: State, *, by: str, reason: str, now: datetime) -> State:
    """Take the canary back, and bar its bytes."""
    _under_way(state, fix="`upkeep rollout rollback` goes back to the champion before")
    return taken_back(state, _said(by, "aborted it", reason), now)


def rollback(
    state: State, earlier: Sequence[Canary], *, to: str | None = None, by: str, reason: str, now: datetime
) -> State:
    """During a rollout: :func:`abort`. At rest: the way back to version ``to``, without steps, once it is ready.

    ``earlier`` are the versions that were once the champion, newest first; only they can be gone back to, the newest
    one that is not barred by default. Naming one that is barred lifts its bar: that is a person's explicit word, and
    the only way. The champion that is replaced is barred when its traffic has moved.
    """
    if state.canary is not None:
        if to not in (None, state.champion.version):
            raise RefusedError(
                f"{state.canary.version} is under way, beside {state.champion.version}",
                fix=f"`upkeep rollout abort` goes back to {state.champion.version}; then go back to {to}",
            )
        return abort(state, by=by, reason=reason, now=now)
    serves = state.champion
    barred = {each.digest for each in state.barred}
    choice = [each for each in earlier if each.digest != serves.digest]
    found = next((each for each in choice if each.version == to or (to is None and each.digest not in barred)), None)
    if to == serves.version:
        raise RefusedError(f"{to} serves already")
    if found is None:
        known = ", ".join(dict.fromkeys(each.version for each in choice))
        raise RefusedError(
            f"{to} was never the champion" if to else "there is no earlier champion that is not barred",
            fix=f"name one with `--to`; earlier champions: {known}" if known else "there was no other champion yet",
        )
    return replace(
        _to(state, "pending", _said(by, f"went back from {serves.version} to {found.version}", reason), now),
        canary=found,
        update=found.update,
        rollout=rollout_id(found.version, now),
        weight=0,
        step=0,
        approved=-1,
        direct=True,
        barred=tuple(each for each in state.barred if each.digest != found.digest),
    )


def _under_way(state: State, fix: str = "") -> Canary:
    if state.canary is None:
        raise RefusedError(f"no rollout is under way: {state.champion.version} has all traffic", fix=fix)
    if state.phase == "rolling_back":
        raise RefusedError(f"{state.canary.version} is being taken back: {state.reason}")
    return state.canary


def _to(state: State, phase: Phase, reason: str, now: datetime, **changes: Any) -> State:
    began: dict[str, Any] = {"phase": phase, "since": moment(now), "reason": reason}
    return replace(state, **({"came_from": None, "evidence": None} | began | changes))


def _said(by: str, did: str, reason: str) -> str:
    return one_line(f"{by} {did}: {reason}" if reason else f"{by} {did}")
