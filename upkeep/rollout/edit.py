"""What a person's commit did to the traffic, against what Upkeep last committed. Pure.

Weights are compared with the *last known* state, not only ``route.yaml`` with ``rollout.yaml``: a ``git revert`` of a
step brings both files back together, and they agree with each other.
"""

from __future__ import annotations

from typing import Literal

from upkeep.errors import InputError
from upkeep.rollout.git import Commit, Tree
from upkeep.rollout.observation import Edit
from upkeep.rollout.release import release_folder, standing_files
from upkeep.rollout.state import STATE_FILE, State, one_line, read_state
from upkeep.serving.drivers import driver_of
from upkeep.serving.manifests import version_file
from upkeep.spec.model import ModelSpec


def read_edit(spec: ModelSpec, last: State, tree: Tree, newest: Commit) -> Edit | None:
    """What the folder in ``tree`` says otherwise than ``last``; None: nothing about the traffic or the rollout.

    ``last`` is what Upkeep committed last, by whoever knows: where somebody rewrote the branch so that this commit is
    not in it any more, it counts all the same. ``newest`` is the newest commit that touched the folder.
    """

    def edit(kind: Literal["lowered", "raised", "removed", "nonsense"], weight: int | None, message: str) -> Edit:
        said = one_line(message)
        return Edit(kind=kind, commit=newest.id, author=one_line(newest.author), weight=weight, message=said)

    def nonsense(message: str) -> Edit:
        return edit("nonsense", None, f"{message}; take the folder back to the commit before {newest.id[:12]}")

    driver = driver_of(spec)
    folder = release_folder(spec)
    prefix = f"{folder}/" if folder else ""
    files = standing_files(spec, tree)
    champion, canary = last.champion, last.canary
    if canary is not None:
        own = version_file(canary.version)
        if driver.owns(own) and own not in files and version_file(champion.version) in files:
            return edit("removed", 0, f"{own} is gone")
    try:
        deployed = driver.read(spec, files, prefix)
    except InputError as error:
        return nonsense(error.problems[0].message)
    versions, weights = deployed.versions, deployed.weights
    known = {role.version: role.digest for role in (champion, canary) if role is not None}
    odd = [name for name, each in versions.items() if known.get(name) != each.digest]
    if odd or champion.version not in versions:
        return nonsense(f"the folder serves {', '.join(versions)}, and the rollout is of {', '.join(known)}")
    if canary is not None and canary.version not in versions:
        return edit("removed", 0, f"{canary.version} is gone")
    weight = weights.get(canary.version, 0) if canary is not None else 0
    if weight < last.weight:
        return edit("lowered", weight, f"{weight} % of the traffic instead of {last.weight} %")
    if weight > last.weight:
        return edit("raised", weight, f"{weight} % of the traffic instead of {last.weight} %")
    try:
        state = read_state(files.get(STATE_FILE, b""), spec.name, prefix + STATE_FILE)
    except InputError as error:
        return nonsense(f"{STATE_FILE}: {error.problems[0].message}")
    if state.canary == canary and state.weight < last.weight:
        return edit("lowered", state.weight, f"{STATE_FILE} says {state.weight} % instead of {last.weight} %")
    if state != last:
        return nonsense(
            f"{STATE_FILE} says {state.phase} at {state.weight} %, and Upkeep committed {last.phase} at {last.weight} %"
        )
    return None
