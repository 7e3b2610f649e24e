"""``rollout.yaml``: how far a model's rollout is. It stands beside the manifests, and kustomize does not apply it.

The weights stand here as well as in ``route.yaml``: where the two differ, a person changed the traffic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

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
"""``idle``: no rollout yet. ``pending``: a challenger is committed at 0 % and waits. The others belong to the
rollout's way from there; this version writes only the first two, and reads all."""
AT_REST: tuple[Phase, ...] = ("idle", "succeeded", "rolled_back")
"""The phases without a canary."""
WITHOUT_TRAFFIC: tuple[Phase, ...] = ("pending", "shadow")

_EDGE = ConfigDict(extra="forbid", populate_by_name=True)
Version = Annotated[str, Field(pattern=r"^v[1-9][0-9]*$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Moment = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
"""UTC, ISO 8601, seconds."""


@dataclass(frozen=True, kw_only=True)
class Champion:
    __pydantic_config__ = _EDGE
    version: Version
    digest: Digest
    since: Moment
    """When the commit was made that gave it all traffic."""


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
    """Digest of that update's record in the object store; None: adopted without one."""
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
    if state.weight and (state.canary is None or state.phase in WITHOUT_TRAFFIC):
        raise document.problem(f"the weight must be 0 in the phase {state.phase}", "weight")
    if state.canary is not None and state.canary.version == state.champion.version:
        raise document.problem("champion and canary are the same version", "canary", "version")
    return state
