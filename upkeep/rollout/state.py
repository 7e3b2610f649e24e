"""``rollout.yaml``: how far a model's rollout is. It stands beside the manifests, and kustomize does not apply it.

The weights stand here as well as in ``route.yaml``: where the two differ, a person changed the traffic.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from upkeep.serving.document import Document, Quoted, write

STATE_FILE = "rollout.yaml"

Phase = Literal[
    "idle",
    "pending",
    "shadow",
    "step",
    "promoting",
    "baking",
    "succeeded",
    "rolling_back",
    "rolled_back",
    "held",
    "paused",
]
"""``idle``: no rollout yet. ``pending``: a challenger is committed at 0 % and waits to be ready. ``shadow``: at 0 %,
compared in pairs. ``step``: at the plan's step ``State.step``. ``promoting``: the commit gave the canary all traffic,
which has not moved yet. ``baking``: it has all traffic, and the old champion stays warm. ``succeeded``: it is the
champion. ``rolling_back``: the commit gave the canary 0 %, and traffic has not moved yet or requests are under way.
``rolled_back``: the canary is gone and its bytes are barred. ``held``: waits for a person, since the evidence is
insufficient at the limit or the plan asks for approval; a fail still takes it back. ``paused``: a person moved the
traffic or stopped the rollout; nothing moves until a person says so."""
AT_REST: tuple[Phase, ...] = ("idle", "succeeded", "rolled_back")
"""The phases without a canary."""
WAITING: tuple[Phase, ...] = ("held", "paused")
"""The phases that wait for a person, and remember where they came from."""
WITHOUT_TRAFFIC: tuple[Phase, ...] = ("pending", "shadow")
FULL: tuple[Phase, ...] = ("promoting", "baking")
"""The phases in which the canary has all traffic."""

_EDGE = ConfigDict(extra="forbid", populate_by_name=True)
Version = Annotated[str, Field(pattern=r"^v[1-9][0-9]*$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _real(text: str) -> str:
    datetime.fromisoformat(text)
    return text


Moment = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"), AfterValidator(_real)]
"""UTC, ISO 8601, seconds."""


@dataclass(frozen=True, kw_only=True)
class Champion:
    __pydantic_config__ = _EDGE
    version: Version
    digest: Digest
    since: Moment
    """When the commit was made that made it the champion."""


@dataclass(frozen=True, kw_only=True)
class Canary:
    __pydantic_config__ = _EDGE
    version: Version
    digest: Digest
    update: str
    """The update that made it."""


@dataclass(frozen=True, kw_only=True)
class Barred:
    """Model bytes that were taken back once: no rollout may bring them again, under whatever version."""

    __pydantic_config__ = _EDGE
    version: Version
    digest: Digest
    since: Moment
    reason: str


@dataclass(frozen=True, kw_only=True)
class State:
    __pydantic_config__ = _EDGE
    model: str
    phase: Phase
    weight: Annotated[int, Field(ge=0, le=100)]
    """The canary's share of the traffic, per cent."""
    champion: Champion
    canary: Canary | None
    update: str
    """The update that this state goes back to."""
    evidence: Digest | None
    """Digest of what the last change was decided on, in the object store (an update's evaluation, or an analysis);
    None: without one."""
    rollout: str = ""
    """The rollout's id: ``v13-20260301T120000Z``; empty: none yet."""
    since: Moment | None = None
    """When the phase (or the step) began: the time of the commit that did it."""
    step: Annotated[int, Field(ge=0)] = 0
    """How far the canary came: 0 before the first step, k at the k-th of the plan. Kept while it waits."""
    came_from: Phase | None = None
    """Where ``held`` and ``paused`` go back to."""
    reason: str = ""
    """Why it is where it is: one plain sentence."""
    approved: Annotated[int, Field(ge=-1)] = -1
    """The last step that a person allowed to leave; -1: none yet."""
    direct: bool = False
    """A person's way back to an earlier version: once it is ready it gets all traffic, without steps."""
    barred: tuple[Barred, ...] = ()
    api_version: Annotated[Literal["upkeep.dev/v1alpha1"], Field(alias="apiVersion")] = "upkeep.dev/v1alpha1"
    kind: Literal["Rollout"] = "Rollout"

    @property
    def weights(self) -> dict[str, int]:
        """Version → per cent, as ``route.yaml`` must say it."""
        weights = {self.champion.version: 100 - self.weight}
        if self.canary is not None:
            weights[self.canary.version] = self.weight
        return weights


def moment(time: datetime) -> str:
    """A time as the state holds it. ``time`` must know its zone."""
    return time.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def one_line(text: str) -> str:
    """``text`` without line ends and what cannot be printed: it can pose as nothing else in a file or a message."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def barred_with(
    barred: tuple[Barred, ...], version: str, digest: str, reason: str, now: datetime
) -> tuple[Barred, ...]:
    """``barred`` and these bytes, once."""
    if any(each.digest == digest for each in barred):
        return barred
    return (*barred, Barred(version=version, digest=digest, since=moment(now), reason=one_line(reason)))


def rollout_id(version: str, now: datetime) -> str:
    """``v13-20260301T120000Z``: one version's way, begun at one time."""
    return f"{version}-{now.astimezone(UTC).strftime('%Y%m%dT%H%M%SZ')}"


def render_state(state: State) -> bytes:
    """The file's bytes; the same state gives the same."""
    canary = state.canary
    return write(
        {
            "apiVersion": state.api_version,
            "kind": state.kind,
            "model": state.model,
            "phase": state.phase,
            "weight": state.weight,
            "champion": {
                "version": state.champion.version,
                "digest": Quoted(state.champion.digest),
                "since": Quoted(state.champion.since),
            },
            "canary": canary
            and {"version": canary.version, "digest": Quoted(canary.digest), "update": Quoted(canary.update)},
            "update": Quoted(state.update),
            "evidence": state.evidence and Quoted(state.evidence),
            "rollout": Quoted(state.rollout),
            "since": state.since and Quoted(state.since),
            "step": state.step,
            "came_from": state.came_from,
            "reason": Quoted(state.reason),
            "approved": state.approved,
            "direct": state.direct,
            "barred": [
                {
                    "version": each.version,
                    "digest": Quoted(each.digest),
                    "since": Quoted(each.since),
                    "reason": Quoted(each.reason),
                }
                for each in state.barred
            ],
        },
        "Written by Upkeep: how far the rollout is. This file is not applied to the cluster.",
    )


def read_state(data: bytes, model: str, file: str = STATE_FILE) -> State:
    """The state back. Raises :class:`~upkeep.errors.InputError`, with file and line, when it makes no sense."""
    document = Document(data, file)
    if document.value.get("apiVersion") != "upkeep.dev/v1alpha1":
        raise document.problem(
            "this version of Upkeep does not know the file's format", "apiVersion", fix="use the version that wrote it"
        )
    state: State = document.read(State)
    if state.model != model:
        raise document.problem(f"this is the rollout of {state.model}, not of {model}", "model")
    if (state.canary is None) != (state.phase in AT_REST):
        has = "no canary" if state.canary is None else f"the canary {state.canary.version}"
        raise document.problem(f"the phase is {state.phase}, and there is {has}", "phase")
    if state.weight and (state.canary is None or state.phase in (*WITHOUT_TRAFFIC, "rolling_back")):
        raise document.problem(f"the weight must be 0 in the phase {state.phase}", "weight")
    if state.phase in FULL and state.weight != 100:
        raise document.problem(f"the weight must be 100 in the phase {state.phase}", "weight")
    if (state.came_from is not None) != (state.phase in WAITING):
        raise document.problem(f"the phase is {state.phase}, and `came_from` is {state.came_from or 'empty'}", "phase")
    if state.canary is not None and state.canary.version == state.champion.version:
        raise document.problem("champion and canary are the same version", "canary", "version")
    return state
