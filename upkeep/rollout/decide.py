"""The heart of a rollout: what to do next, from what is known. Pure and total: no I/O, no clock, no exception.

Read :func:`decide` first, then the phases in their order. What holds everywhere:

- traffic moves forward only on a ``pass`` (or a person's word), to a canary that is ready, verified and answers,
  and only when live traffic is what Git says. Anything unknown is waited for, up to a limit;
- a ``fail`` takes the canary back from wherever it is, and bars its bytes;
- weights move first; a service goes in a later commit, when its weight has long been 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from upkeep.rollout.analysis.result import Analysis
from upkeep.rollout.observation import Observation
from upkeep.rollout.plan import Plan
from upkeep.rollout.state import Canary, Champion, Phase, State, barred_with, moment, one_line
from upkeep.serving.cluster import Live

GRACE = timedelta(minutes=1)
"""How long traffic may take to follow a commit before it is a problem; an older reading of the cluster is none."""
SKEW = timedelta(minutes=5)
"""A phase that began so far in the future was begun by a wrong clock: its time starts anew."""

EventName = Literal["moved", "promoted", "rolled_back", "held", "paused", "problem", "failing"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """News for people."""

    kind: EventName
    """``moved``: traffic goes one step on. ``promoted``: the canary is the champion. ``rolled_back``: it is being
    taken back. ``failing``: the evidence says fail, and a person has stopped everything."""
    message: str
    """One plain sentence."""
    key: str
    """The same for the same news: whoever sends events sends each key once."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do now. Everything may be done twice."""

    state: State
    """What Git should say. Where it differs from the state that was decided on, it is committed: nothing else changes
    what should serve. ``state.evidence`` is None then: the digest of ``evidence`` belongs there once it is stored."""
    brake: Mapping[str, int] | None = None
    """Force these live weights now, whatever becomes of the commit."""
    release: bool = False
    """Let go of the forced weights: Git and the cluster agree."""
    refresh: bool = False
    """Ask the syncer to look at Git, after the commit if there is one."""
    events: tuple[Event, ...] = ()
    waits_for: str = ""
    """What comes next, in a few words; empty: nothing is under way."""
    until: datetime | None = None
    """When the waiting ends at the latest, or a window opens; None: no limit."""
    evidence: Analysis | None = None
    """What the change was decided on."""


def decide(plan: Plan, state: State, observation: Observation, now: datetime) -> Decision:
    """The next thing to do in ``state`` (what Upkeep committed last), given ``observation`` at ``now`` (with zone)."""
    look = _Look(plan, state, observation, now)
    if state.canary is None:
        decision = _at_rest(look)
    else:
        decision = _edited(look) or _clock(look) or _conflict(look) or _PHASES[state.phase](look)
    return _with_traffic(look, decision)


def not_ready(state: State, observation: Observation, now: datetime) -> str:
    """Why no traffic may be added to the canary, in a few words; empty: it may."""
    return _Look(None, state, observation, now).not_ready()


def taken_back(state: State, reason: str, now: datetime) -> State:
    """``state`` with all traffic for the champion, and the canary's bytes barred."""
    barred = state.barred
    if state.canary is not None:
        barred = barred_with(barred, state.canary.version, state.canary.digest, reason, now)
    began = {"since": moment(now), "reason": one_line(reason), "came_from": None, "evidence": None}
    return replace(state, phase="rolling_back", weight=0, barred=barred, **began)  # type: ignore[arg-type]


def promoted(state: State, reason: str, now: datetime) -> State:
    """``state`` with the canary as the champion. The one before goes; after a person's way back it is barred."""
    canary, barred = state.canary, state.barred
    if canary is None:
        return state
    if state.direct:
        barred = barred_with(barred, state.champion.version, state.champion.digest, state.reason, now)
    champion = Champion(version=canary.version, digest=canary.digest, since=moment(now))
    began = replace(state, champion=champion, since=moment(now), reason=one_line(reason), evidence=None, barred=barred)
    return _without_canary(began, "succeeded")


class _Look:
    """The facts of one decision, derived once."""

    def __init__(self, plan: Plan | None, state: State, seen: Observation, now: datetime) -> None:
        self._plan, self.state, self.seen, self.now = plan, state, seen, now
        self.since = None if state.since is None else datetime.fromisoformat(state.since)
        passed = timedelta() if self.since is None else now - self.since
        self.elapsed = max(0.0, passed.total_seconds())
        """Seconds since the phase began; a clock that went back gives 0."""
        self.wrong_clock = self.since is None or passed < -SKEW
        live = seen.live
        if live is not None and (now - live.at > GRACE or (self.since is not None and live.at < self.since)):
            live = None
        self.live: Live | None = live
        """None too for a reading from before the commit, which says nothing about after it."""
        self.shares = None if live is None or live.weights is None else _shares(live.weights)
        self.follows = self.shares == _shares(state.weights)
        """Whether live traffic is what Git says."""

    @property
    def plan(self) -> Plan:
        assert self._plan is not None
        return self._plan

    @property
    def canary(self) -> Canary:
        assert self.state.canary is not None
        return self.state.canary

    @property
    def share(self) -> int | None:
        """The canary's live share; None: unknown."""
        if self.shares is None or self.state.canary is None:
            return None
        return self.shares.get(self.canary.version, 0)

    def not_ready(self) -> str:
        state, live = self.state, self.live
        if state.canary is None:
            return "a canary"
        name = self.canary.version
        if live is None:
            return "the cluster to answer"
        service = live.services.get(name)
        if service is None:
            return f"{name}'s service to start"
        if not service.ready:
            return f"{name} to be ready" + (f": {service.message}" if service.message else "")
        if service.digest != self.canary.digest:
            return f"{name} to serve the bytes {self.canary.digest[:12]}; it serves {service.digest[:12] or 'unknown'}"
        if not self.seen.verified:
            return f"{name}'s bytes and card in the registry"
        if self.seen.probe is None or not self.seen.probe.ok:
            return f"{name} to answer" + (f": {self.seen.probe.message}" if self.seen.probe else "")
        if any(each.digest == self.canary.digest for each in state.barred):
            return f"a person: the bytes of {name} are barred"
        if live.braked:
            return "the brake to be released"
        return "" if self.follows else self.traffic()

    def traffic(self) -> str:
        said = f"traffic to follow Git ({_words(self.state.weights)}; live: {_words(self.shares)})"
        return said + (f": {self.live.message}" if self.live is not None and self.live.message else "")

    def lost(self) -> str:
        """Why the canary cannot serve what it should, whatever the evidence says; empty: nothing known."""
        name = self.canary.version
        if any(each.digest == self.canary.digest for each in self.state.barred):
            return f"the bytes of {name} are barred"
        if self.live is None:
            return ""
        service = self.live.services.get(name)
        if service is None:
            return f"the service of {name} is gone"
        if service.digest not in ("", self.canary.digest):
            return f"{name} serves other bytes ({service.digest[:12]}) than were verified ({self.canary.digest[:12]})"
        return ""

    def agreed(self) -> bool:
        """Whether what Git says is what would serve without force."""
        if self.live is None or not self.follows:
            return False
        if self.seen.applied is not None:
            return self.seen.applied
        # Nobody can say what was applied. That a canary's service has gone tells it; if it went otherwise, the brake
        # is pulled again as soon as barred bytes have traffic.
        ours = {role.version for role in (self.state.champion, self.state.canary) if role is not None}
        late = self.elapsed >= GRACE.total_seconds()
        return late and self.state.phase != "rolling_back" and self.live.services.keys() <= ours

    def barred_serve(self) -> bool:
        """Whether live traffic reaches a version that was taken back."""
        barred = {each.version for each in self.state.barred} - {self.state.champion.version}
        return self.shares is not None and not barred.isdisjoint(self.shares)

    # --- what can be done ------------------------------------------------------------------------------------------

    def wait(self, waits_for: str, limit: float | None = None, *events: Event) -> Decision:
        """Nothing, for now; ``limit`` in seconds after the phase began."""
        until = None if limit is None or self.since is None else _later(self.since, limit)
        return Decision(state=self.state, waits_for=one_line(waits_for), until=until, events=events)

    def move(self, phase: Phase, reason: str, kind: EventName | None = None, **changes: Any) -> Decision:
        evidence = changes.pop("evidence", None)
        began: dict[str, Any] = {"phase": phase, "since": moment(self.now), "reason": one_line(reason)}
        state = replace(self.state, **({"came_from": None, "evidence": None} | began | changes))
        return Decision(
            state=state,
            events=() if kind is None else (self.event(kind, reason, phase, state.step),),
            evidence=evidence,
        )

    def stop(self, phase: Literal["held", "paused"], reason: str, **changes: Any) -> Decision:
        """Wait for a person, and remember where."""
        came_from = self.state.came_from or self.state.phase
        return self.move(phase, reason, phase, came_from=came_from, **changes)

    def take_back(self, reason: str, evidence: Analysis | None = None) -> Decision:
        text = f"{self.canary.version} is taken back from {self.state.weight} %: {reason}"
        state = taken_back(self.state, reason, self.now)
        return Decision(state=state, events=(self.event("rolled_back", text, "rolling_back"),), evidence=evidence)

    def otherwise(self, reason: str, evidence: Analysis | None) -> Decision:
        """What the plan says where the evidence is insufficient at the limit."""
        if self.plan.otherwise == "roll_back":
            return self.take_back(reason, evidence)
        return self.stop("held", reason, evidence=evidence)

    def event(self, kind: EventName, message: str, *key: object) -> Event:
        parts = (self.state.rollout, self.state.since, *key)
        return Event(kind=kind, message=one_line(message), key="/".join(str(part) for part in parts))


# --- before the phases ---------------------------------------------------------------------------------------------


def _at_rest(look: _Look) -> Decision:
    edit = look.seen.edit
    if edit is None:
        return Decision(state=look.state)
    return look.wait("a person to mend the files", None, look.event("problem", edit.message, "edit", edit.commit))


def _edited(look: _Look) -> Decision | None:
    """What a person's commit did to the traffic."""
    edit, state = look.seen.edit, look.state
    if edit is None:
        return None
    whose = f"{edit.author} in {edit.commit[:12]}"
    name = look.canary.version
    if edit.kind == "removed" and state.weight == 0 and state.phase != "rolling_back":
        reason = f"removed by {whose}"
        event = look.event("rolled_back", f"{name} is {reason}", "removed")
        back = _without_canary(taken_back(state, reason, look.now), "rolled_back")
        return Decision(state=back, events=(event,))
    if edit.kind == "removed":
        # Its service comes back at 0 %: weights first, whoever deletes.
        return look.take_back(f"removed by {whose}")
    if edit.kind == "raised" and state.phase == "rolling_back":
        again = f"{name} was given traffic by {whose} while it is taken back: it is barred, and stays at 0 %"
        return look.move("rolling_back", again, "problem", weight=0)
    if edit.kind == "raised" and edit.weight is not None and state.weight < edit.weight <= 100:
        return look.stop("paused", f"{whose} gave {name} {edit.weight} %", weight=edit.weight)
    if edit.kind == "lowered":
        return look.take_back(f"aborted by {whose}")
    problem = look.event("problem", edit.message, "edit", edit.commit)
    waits = look.wait("a person to mend the files", None, problem)
    # Nothing can be committed on top, but nobody need be harmed meanwhile.
    analysis = look.seen.analysis
    if look.plan.brake and state.weight and analysis is not None and analysis.verdict == "fail" and _warm(look):
        waits = replace(waits, events=(problem, _failing(look, analysis)), brake=_champion_only(state))
    return waits


def _clock(look: _Look) -> Decision | None:
    if look.wrong_clock:
        why = "the clock, which went back" if look.since else "its time to begin"
        return Decision(state=replace(look.state, since=moment(look.now)), waits_for=why)
    return None


def _conflict(look: _Look) -> Decision | None:
    """Traffic that neither Git nor a slow cluster explains."""
    state, live, shares = look.state, look.live, look.shares
    if live is None or shares is None or look.elapsed < GRACE.total_seconds():
        return None
    judged = state.phase in ("step", "promoting", "baking", "held")
    if judged and state.weight and live.braked and look.share == 0 and not look.follows:
        return look.take_back("the brake was pulled, and the commit that belongs to it is missing")
    if state.phase in ("pending", "shadow", "step"):
        foreign = shares.keys() - state.weights.keys()
        if foreign or state.champion.version not in shares:
            # whoever moved the traffic: a canary that fails goes back, if there is somebody to go back to
            if state.weight and (failed := _failed(look, look.seen.analysis)):
                return failed
            reason = f"the champion {state.champion.version} does not serve: live: {_words(shares)}"
            return look.stop("paused" if foreign else "held", reason)
    return None


# --- the phases ----------------------------------------------------------------------------------------------------


def _pending(look: _Look) -> Decision:
    plan, live, name = look.plan, look.live, look.canary.version
    service = live.services.get(name) if live else None
    if service is not None and service.refused:
        return look.stop("held", f"the cluster refuses {name}: {service.message}")
    missing = look.not_ready()
    if missing:
        if look.elapsed >= plan.ready_limit:
            return look.stop("held", f"{name} is not ready after {_span(plan.ready_limit)}: it waits for {missing}")
        return look.wait(missing, plan.ready_limit)
    if look.state.direct:
        return look.move("promoting", look.state.reason, "moved", weight=100)
    if plan.shadow:
        return look.move("shadow", f"{name} is ready, and is compared in pairs")
    return _forward(look, None)


def _shadow(look: _Look) -> Decision:
    return _judged(look, look.seen.shadow, look.plan.shadow_limit, settle=0)


def _step(look: _Look) -> Decision:
    return _judged(look, look.seen.analysis, look.plan.step_limit, settle=look.plan.settle)


def _judged(look: _Look, analysis: Analysis | None, limit: float, settle: float) -> Decision:
    name = look.canary.version
    if look.state.weight and (lost := look.lost()):
        return look.take_back(lost)
    if analysis is not None and analysis.verdict == "fail":
        return look.take_back(analysis.summary, analysis)
    missing = look.not_ready()
    if analysis is None or analysis.verdict != "pass":
        missing = f"evidence: {analysis.summary}" if analysis else f"evidence on {name}: there is none yet"
    if not missing:
        return look.wait("requests under way", settle) if look.elapsed < settle else _forward(look, analysis)
    if look.elapsed >= limit:
        return look.otherwise(f"no verdict after {_span(limit)}: it waits for {missing}", analysis)
    return look.wait(missing, limit)


def _forward(look: _Look, evidence: Analysis | None) -> Decision:
    """One step on, if nothing but the evidence was in the way."""
    state, plan, name = look.state, look.plan, look.canary.version
    if state.weight in plan.approve and state.approved < state.step:
        return look.stop("held", f"{name} at {state.weight} % waits for a person's word", evidence=evidence)
    if plan.freeze:
        return look.wait("the end of the freeze (`rollout.freeze`)")
    if not plan.may_move(look.now):
        return replace(look.wait("the next window (`rollout.windows`)"), until=plan.opens(look.now))
    why = f": {evidence.summary}" if evidence else ""
    step = plan.step_after(state.weight)
    if step is None:
        return look.move("promoting", f"{name} gets all traffic{why}", "moved", weight=100, evidence=evidence)
    weight = plan.steps[step - 1]
    return look.move("step", f"{name} gets {weight} %{why}", "moved", weight=weight, step=step, evidence=evidence)


def _promoting(look: _Look) -> Decision:
    state, plan, name = look.state, look.plan, look.canary.version
    if lost := look.lost():
        return look.take_back(lost)
    if not state.direct and (failed := _failed(look, look.seen.analysis)):
        return failed
    if look.follows and look.live is not None and not look.live.braked:
        if not state.direct:
            return look.move("baking", f"{name} has all traffic; {state.champion.version} stays warm")
        if look.elapsed < plan.settle:
            return look.wait("requests under way", plan.settle)
        if not (missing := look.not_ready()):
            return _succeeded(look, None)
    else:
        missing = look.traffic()
    if look.elapsed >= plan.step_limit:
        return look.otherwise(f"not all traffic after {_span(plan.step_limit)}: it waits for {missing}", None)
    return look.wait(missing, plan.step_limit)


def _baking(look: _Look) -> Decision:
    plan, analysis = look.plan, look.seen.analysis
    if lost := look.lost():
        return look.take_back(lost)
    if failed := _failed(look, analysis):
        return failed
    bake = max(plan.bake, plan.settle)
    if look.elapsed < bake:
        return look.wait("the end of the bake time", bake)
    # Silence is no good news: some request must have been seen.
    if analysis is None or (analysis.verdict != "pass" and not any(each.canary_n > 0 for each in analysis.metrics)):
        missing = f"any evidence on {look.canary.version} at 100 %"
    elif look.seen.steady is not None and (look.now - look.seen.steady).total_seconds() < bake:
        # one that dies and comes back again and again has the champion to stand in for it only until here
        missing = f"{look.canary.version} to have all traffic for {_span(bake)} without a break"
    else:
        missing = look.not_ready()
    if not missing:
        return _succeeded(look, analysis)
    if look.elapsed >= bake + plan.step_limit:
        return look.stop("held", f"the bake time has long passed, and it waits for {missing}", evidence=analysis)
    return look.wait(missing, bake + plan.step_limit)


def _succeeded(look: _Look, evidence: Analysis | None) -> Decision:
    name = look.canary.version
    reason = f"{name} is the champion"
    if evidence is not None and evidence.verdict == "pass":
        reason += f": {evidence.summary}"
    if look.state.direct:
        reason = f"{name} is the champion again: {look.state.reason}"
    event = look.event("promoted", reason, "succeeded")
    return Decision(state=promoted(look.state, reason, look.now), events=(event,), evidence=evidence)


def _rolling_back(look: _Look) -> Decision:
    name, settle = look.canary.version, look.plan.settle
    if look.follows:
        if look.elapsed < settle:
            return look.wait("requests under way", settle)
        moved = look.move("rolled_back", look.state.reason)
        return replace(moved, state=_without_canary(moved.state, "rolled_back"))
    return look.wait(look.traffic() if look.live else f"the cluster to say that {name} has no traffic")


def _held(look: _Look) -> Decision:
    state = look.state
    if state.weight and (lost := look.lost()):
        return look.take_back(lost)
    analysis = look.seen.shadow if state.came_from == "shadow" else look.seen.analysis if state.weight else None
    return _failed(look, analysis) or look.wait(f"a person: {state.reason}")


def _paused(look: _Look) -> Decision:
    analysis = look.seen.analysis
    failing = (_failing(look, analysis),) if analysis is not None and analysis.verdict == "fail" else ()
    return look.wait(f"a person: {look.state.reason}", None, *failing)


_PHASES: Mapping[Phase, Callable[[_Look], Decision]] = {
    "pending": _pending,
    "shadow": _shadow,
    "step": _step,
    "promoting": _promoting,
    "baking": _baking,
    "rolling_back": _rolling_back,
    "held": _held,
    "paused": _paused,
}


def _failed(look: _Look, analysis: Analysis | None) -> Decision | None:
    """Back, if the evidence says so and somebody is there to go back to."""
    if analysis is None or analysis.verdict != "fail":
        return None
    champion = look.state.champion.version
    alone = look.state.weight == 100 or (look.shares is not None and champion not in look.shares)
    if alone and not _warm(look):
        text = f"{look.canary.version} fails, and {champion} is not ready to take the traffic back: {analysis.summary}"
        return look.wait(f"{champion} to be ready", None, look.event("problem", text, "nobody"))
    return look.take_back(analysis.summary, analysis)


def _failing(look: _Look, analysis: Analysis) -> Event:
    guilty = sorted({each.metric for each in analysis.metrics if each.verdict == "fail"})
    text = f"{look.canary.version} fails at {look.state.weight} %: {analysis.summary}"
    return look.event("failing", text, "failing", *guilty)


def _warm(look: _Look) -> bool:
    """Whether nothing is known that keeps the champion from taking the traffic back."""
    if look.live is None:
        return True
    service = look.live.services.get(look.state.champion.version)
    return service is not None and service.ready


# --- and the live traffic ------------------------------------------------------------------------------------------


def _with_traffic(look: _Look, decision: Decision) -> Decision:
    """The brake, its release, the syncer's nudge, and a loud word when traffic does not follow."""
    plan, old, new, live = look.plan, look.state, decision.state, look.live
    braked, agreed, moved = live is not None and live.braked, look.agreed(), new != old
    brake = decision.brake
    # What a person's commit began is braked in the next look, when Upkeep's own commit stands: that one was no race.
    if plan.brake and new.phase == "rolling_back" and not (moved and look.seen.edit):
        on_its_way = (moved and old.weight > 0) or look.share != 0
        brake = _champion_only(new) if on_its_way or (braked and not agreed) else brake
    if plan.brake and new.phase == "rolled_back" and ((braked and not agreed) or look.barred_serve()):
        brake = _champion_only(new)
    # A forced weight that neither Git nor a roll-back asks for came from a look that lost a race.
    stray = new.canary is None and not look.follows
    events = decision.events
    if not moved and live is not None and not look.follows and look.elapsed >= GRACE.total_seconds():
        late = f"{old.model}: still waits for {look.traffic()}"
        events = (*events, look.event("problem", late, "traffic"))
    return replace(
        decision,
        brake=brake,
        release=braked and brake is None and not moved and (agreed or stray),
        refresh=moved or (live is not None and not look.follows) or look.seen.applied is False,
        events=events,
    )


def _champion_only(state: State) -> dict[str, int]:
    return {state.champion.version: 100} | ({state.canary.version: 0} if state.canary else {})


def _without_canary(state: State, phase: Phase) -> State:
    return replace(state, phase=phase, canary=None, weight=0, step=0, came_from=None, approved=-1, direct=False)


def _shares(weights: Mapping[str, int]) -> dict[str, int]:
    return {version: weight for version, weight in weights.items() if weight}


def _words(weights: Mapping[str, int] | None) -> str:
    return "unknown" if weights is None else ", ".join(f"{version} {share} %" for version, share in weights.items())


def _later(since: datetime, seconds: float) -> datetime | None:
    try:
        return since + timedelta(seconds=seconds)
    except OverflowError:
        return None


def _span(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
