"""Approval by pull request: which branch holds the next step, and when it may be merged. Pure.

Where a step waits for a person's word and ``rollout.approve_by`` is ``pull_request``, the controller pushes that step
as one commit on a branch of its own. Merging it is the word. It is offered only while the evidence passes and the
canary is ready, and taken away again when that is no longer so.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from upkeep.errors import RefusedError
from upkeep.rollout import commands
from upkeep.rollout.observation import Observation
from upkeep.rollout.plan import plan_of
from upkeep.rollout.state import State
from upkeep.spec.model import ModelSpec

BACK = ("rolling_back", "rolled_back")
"""Phases that are committed at once, and proposed only where the branch's rules refuse that."""


def by_request(spec: ModelSpec) -> bool:
    return spec.rollout.approve_by == "pull_request"


def branch_of(after: State) -> str:
    """The branch that holds the commit to ``after``."""
    if after.phase in BACK:
        last = "back" if after.phase == "rolling_back" else "removed"
    else:
        last = "promote" if after.weight == 100 else f"step-{after.step}"
    return f"upkeep/{after.model}/{after.rollout}-{last}"


def approved(spec: ModelSpec, state: State, observation: Observation, now: datetime) -> State | None:
    """The state that a merge would make of ``state``; None: nothing waits for an approval, or none may be given now.

    Its ``since`` is empty: its time begins when the merge is seen, however long the review took.
    """
    plan = plan_of(spec)
    if not by_request(spec) or state.phase != "held":
        return None
    if state.weight not in plan.approve or state.approved >= state.step:
        return None
    compared = bool(state.weight) or state.came_from == "shadow"
    analysis = observation.shadow if state.came_from == "shadow" else observation.analysis
    if compared and (analysis is None or analysis.verdict != "pass"):
        return None
    why = analysis.summary if compared and analysis is not None else ""
    try:
        after = commands.promote(plan, state, observation, by="a merged pull request", reason=why, now=now)
    except RefusedError:
        return None
    return replace(after, since=None)


def same_move(one: State, other: State) -> bool:
    """Whether two states are one step, decided at different times."""
    return branch_of(one) == branch_of(other) and (one.phase, one.weight) == (other.phase, other.weight)
