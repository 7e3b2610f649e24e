"""Roll out under faults, many times. A failing seed is told, and replays with everything that happened::

python -m tests.simulation.run --count 10000 [--start 0] [--jobs 2]
python -m tests.simulation.run --seed 4711
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from tests.simulation.tally import Tally, report, tally
from tests.simulation.world import CALM, BrokenError, Tree, World, first_world, name_of, propose
from upkeep.errors import ConflictError, OutsideError, RefusedError
from upkeep.rollout import commands
from upkeep.rollout.decide import decide
from upkeep.rollout.observation import Edit, Observation
from upkeep.rollout.state import AT_REST, State

LOOKS = 120
"""Looks of the controller under faults, before they stop."""
CALM_LOOKS = 400
"""So many more must end it."""


# --- the controller, as small as it can be ---------------------------------------------------------------------------


def last_of(world: World, trees: list[Tree]) -> Tree:
    """What Upkeep committed last: the newest such commit of a branch as it was read, unless the ledger's is not in it
    (any more, or yet): then what the ledger says."""
    ledger = world.ledger
    assert ledger is not None
    if trees[-1].by == "upkeep" and trees[-1].state == world.intent:
        return trees[-1]
    if all(each.id != ledger.id for each in trees):
        return ledger
    return next(each for each in reversed(trees) if each.by != "hand")


def edit_of(last: Tree, tree: Tree) -> Edit | None:
    """:func:`upkeep.rollout.edit.read_edit` on trees."""

    def edit(kind: str, weight: int | None = None) -> Edit:
        return Edit(kind=kind, commit=str(tree.id), author="a person", weight=weight, message="by hand")  # type: ignore[arg-type]

    state = last.state
    name = name_of(state)
    if not tree.sane or state.champion.version not in tree.files:
        return edit("nonsense")
    if name and name not in tree.files:
        return edit("removed", 0)
    if tree.files - state.weights.keys():
        return edit("nonsense")
    weight = tree.weights.get(name, 0)
    if weight != state.weight:
        return edit("lowered" if weight < state.weight else "raised", weight)
    return edit("nonsense") if tree.state != state else None


def look(world: World) -> Iterator[str]:
    """One look: each effect is done after its name was given, so that whoever drives it may stop between any two."""
    if world.chance("lost_read"):
        return
    trees = list(world.git.trees)
    if len(trees) > 1 and world.ledger is trees[-1] and world.chance("stale_read"):
        del trees[-1]  # from a replica of the remote that is behind
    tree, last = trees[-1], last_of(world, trees)
    state, edit = last.state, None if last is tree else edit_of(last, tree)
    live = world.live()
    canary = state.canary
    applied = None
    if live is not None and live.commit is not None:
        # the commit that holds the state, or a later one that says the same
        same = {each.id for each in world.git.trees if each.id >= last.id}
        applied = int(live.commit) in same and (edit is not None or tree.state == state)
    judged = canary is not None and state.phase not in ("pending", "rolling_back")
    found = world.evidence(state) if judged else None
    observation = Observation(
        live=live,
        probe=world.probe(canary.version) if canary else None,
        verified=canary is not None and canary.digest in world.registry,
        shadow=found if "shadow" in (state.phase, state.came_from) else None,
        analysis=found if "shadow" not in (state.phase, state.came_from) else None,
        edit=edit,
        applied=applied,
    )
    decision = decide(world.plan, state, observation, world.now)
    world.counts["decisions"] += 1
    for event in decision.events:
        world.counts[f"event {event.kind}"] += 1
    if decision.brake is not None:
        yield "brake"
        with contextlib.suppress(OutsideError):
            world.brake(decision.brake)
    if decision.state != state:
        yield "intent"
        world.intent = decision.state
        yield "commit"
        world.commit(tree, decision.state)
        yield "ledger"
        world.ledger = world.git.head
    elif edit is None and last.id != world.ledger.id:  # type: ignore[union-attr]
        yield "ledger"
        world.ledger = last
    if decision.refresh:
        yield "refresh"
        world.refresh()
    if decision.release:
        yield "release"
        with contextlib.suppress(OutsideError):
            world.release()


def control(world: World) -> None:
    for _ in range(5):
        try:
            for name in look(world):
                if world.chance("crash"):
                    world.say(f"killed before {name}")
                    return
                world.check()
                if world.random.random() < 0.1:
                    world.pass_time(world.random.choice((0.5, 3.0)))
            world.check()
            return
        except ConflictError:
            world.counts["conflict"] += 1
        except OutsideError as error:
            world.say(f"broke off: {error}")
            return


# --- people ----------------------------------------------------------------------------------------------------------


def person(world: World) -> None:
    """One thing that somebody does, sensible or not."""
    act = world.random.choice(
        ("pause", "resume", "resume", "abort", "promote", "rollback", "raise", "lower", "revert", "remove", "nonsense",
         "other", "mend", "mend")
    )  # fmt: skip
    world.counts[f"person {act}"] += 1
    tree = world.git.head
    if act in ("pause", "resume", "abort", "promote", "rollback"):
        if tree.by == "hand":
            return  # the commands refuse a folder that does not agree with the rollout
        with contextlib.suppress(RefusedError, ConflictError, OutsideError):
            world.commit(tree, command(world, act, tree.state), by="person")
        return
    name = name_of(tree.state)
    if act in ("raise", "lower") and name in tree.files and tree.sane:
        weight = world.random.randrange(101)
        world.hand(weights={tree.state.champion.version: 100 - weight, name: weight})
    elif act == "revert" and len(world.git.trees) > 1:
        old = world.git.trees[-2]
        world.hand(state=old.state, weights=old.weights, files=old.files, sane=old.sane)
    elif act == "remove" and name in tree.files:
        weights = {version: weight for version, weight in tree.weights.items() if version != name}
        world.hand(files=tree.files - {name}, weights=weights if sum(weights.values()) == 100 else tree.weights)
    elif act == "nonsense":
        world.hand(sane=False)
    elif act == "other":
        world.git.push(tree.id, replace(tree, state=tree.state))
    elif act == "mend" and tree.by == "hand":
        last = last_of(world, world.git.trees)
        world.hand(state=last.state, weights=dict(last.state.weights), files=last.files, sane=True)


def command(world: World, act: str, state: State) -> State:
    said = {"by": "Ann", "reason": "she says so", "now": world.now}
    if act == "promote":
        live = world.truth()
        canary = state.canary
        probe = world.probe(canary.version) if canary else None
        verified = canary is not None and canary.digest in world.registry
        seen = Observation(live=live, probe=probe, verified=verified, shadow=None, analysis=None)
        full = world.random.random() < 0.3
        return commands.promote(world.plan, state, seen, full=full, **said)  # type: ignore[arg-type]
    if act == "rollback":
        to = world.random.choice([None, *(each.version for each in world.champions)])
        return commands.rollback(state, world.champions, to=to, **said)  # type: ignore[arg-type]
    return getattr(commands, act)(state, **said)  # type: ignore[no-any-return]


def rewrite(world: World) -> None:
    """Somebody forces the branch back to an earlier commit."""
    ledger = world.ledger
    if ledger is not None and len(world.git.trees) > 2 and world.git.head.id == ledger.id:
        del world.git.trees[-world.random.choice((1, 2)) :]
        world.hands = True
        world.git.trees[-1] = replace(world.git.trees[-1], by="hand")
        world.say(f"the branch was forced back to {world.git.head.id}")


# --- one rollout -----------------------------------------------------------------------------------------------------


def ended(world: World) -> str:
    """How it ended; empty: it has not."""
    tree = world.git.head
    last = last_of(world, world.git.trees)
    edit = edit_of(last, tree) if tree.by == "hand" else None
    if edit is not None:
        return "nonsense" if edit.kind == "nonsense" or last.state.canary is None else ""
    state = last.state
    if state.phase in ("held", "paused"):
        return state.phase
    settled = world.cluster.forced is None and _nonzero(world.cluster.weights) == _nonzero(state.weights)
    return state.phase if state.phase in AT_REST and settled else ""


def _nonzero(weights: object) -> dict[str, int]:
    return {version: weight for version, weight in dict(weights).items() if weight}  # type: ignore[call-overload]


def simulate(seed: int, log: list[str] | None = None) -> Counter[str]:
    """One rollout (or two, one after the other). Raises :class:`BrokenError` where an invariant does not hold."""
    world = first_world(seed, log)
    calm = world.faults == CALM
    looks = 0 if calm else world.random.randrange(LOOKS)
    for _ in range(looks):
        world.pass_time(world.random.choice((1.0, 5.0, 10.0, 10.0, 30.0, 60.0)))
        if world.chance("person"):
            person(world)
        if world.chance("rewrite"):
            rewrite(world)
        control(world)
        if world.git.head.state.phase in AT_REST and world.random.random() < 0.05:
            propose(world, world.random.choice((2, 3, 4)))
    world.faults, world.skew, world.sync_at = CALM, 0.0, 0.0
    if world.foreign:
        world.cluster.forced, world.foreign, world.hands = (
            None,
            False,
            True,
        )  # whoever forced the traffic past Git lets go
    world.say("the faults stop")
    for _ in range(CALM_LOOKS):
        if how := ended(world):
            world.counts[f"ended {how}"] += 1
            if calm:
                kind = "approved" if world.plan.approve else "stepless" if not world.plan.steps else "plain"
                world.counts[f"calm {kind} {world.quality} {how}"] += 1
            return world.counts
        world.pass_time(world.random.choice((5.0, 10.0, 30.0)))
        control(world)
    raise BrokenError(
        f"it does not end: {last_of(world, world.git.trees).state.phase}, live {dict(world.cluster.weights)}"
    )


def many(count: int, start: int = 0, jobs: int = 1) -> Tally:
    """The counts of ``count`` rollouts from seed ``start`` on, and the seeds that broke an invariant."""
    parts = [range(first, min(first + 200, start + count)) for first in range(start, start + count, 200)]
    counts: Counter[str] = Counter()
    broken: list[tuple[int, str]] = []
    with multiprocessing.Pool(jobs) if jobs > 1 else contextlib.nullcontext() as pool:
        some = partial(tally, simulate)
        for found, wrong in pool.imap(some, parts) if pool else map(some, parts):
            counts += found
            broken += wrong
    return counts, broken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="replay one, with all that happens")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.seed is not None:
        log: list[str] = []
        try:
            told = str(dict(simulate(arguments.seed, log)))
        except BrokenError as error:
            told = f"an invariant does not hold: {error}"
        print("\n".join(log))
        sys.exit(print(told) or told.startswith("an invariant"))
    began = time.perf_counter()
    found = many(arguments.count, arguments.start, arguments.jobs)
    what = f"{arguments.count:,} rollouts in {time.perf_counter() - began:.0f} s"
    report(found, what, "python -m tests.simulation.run --seed {seed}")


if __name__ == "__main__":
    main()
