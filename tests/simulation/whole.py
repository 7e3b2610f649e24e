"""The same under the real controller: files, ledger, analysis and all, so fewer rollouts a second::

python -m tests.simulation.whole --count 200 [--start 0]
python -m tests.simulation.whole --seed 4711
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.tally import Tally, report, tally
from tests.simulation.world import BrokenError
from tests.unit.rollout.world import Git, World, quick
from upkeep.errors import ConflictError, OutsideError, UpkeepError
from upkeep.rollout import commands
from upkeep.rollout.controller import Effect, effects
from upkeep.rollout.git import Commit, Tree
from upkeep.rollout.release import changes_of, commit_message, read_release
from upkeep.rollout.state import AT_REST, State
from upkeep.spec.model import Data, Features, Metadata, ModelSpec, Retrain, Target

FOLDER = "models/flight-delays"
LOOKS, CALM_LOOKS = 60, 400


@dataclass
class WeakGit(Git):
    """A remote that refuses pushes, fails, and loses its answers."""

    chosen: random.Random = field(default_factory=random.Random)
    calm: bool = False

    def read(self, branch: str, folder: str = "") -> Tree:
        if not self.calm and self.chosen.random() < 0.03:
            raise OutsideError("the remote is gone")
        return super().read(branch, folder)

    def push_aside(
        self, branch: str, base: str, changes: Mapping[str, bytes | None], message: str, when: datetime
    ) -> str:
        if not self.calm and self.chosen.random() < 0.1:
            raise OutsideError("the push failed")
        made = super().push_aside(branch, base, changes, message, when)
        if not self.calm and self.chosen.random() < 0.1:
            raise OutsideError("the connection broke; the branch is there")
        return made

    def commit_and_push(
        self, branch: str, base: str | None, changes: Mapping[str, bytes | None], message: str, when: datetime
    ) -> str:
        luck = 1.0 if self.calm else self.chosen.random()
        if luck < 0.05:
            self.add({"other/notes.md": str(len(self.commits)).encode()}, "another model's\n", when, "Bo <b@c>")
            raise ConflictError("somebody else pushed first")
        if luck < 0.08:
            raise OutsideError("the push failed")
        made = super().commit_and_push(branch, base, changes, message, when)
        if luck < 0.13:
            raise OutsideError("the connection broke; the commit is there")
        return made


class Rollout:
    """One seed's rollout, and what must hold of it. With two ``controllers`` neither knows of the other: a lock or a
    Lease failed, or one was frozen in the middle of a look and goes on from there an hour later."""

    def __init__(self, seed: int, log: list[str] | None = None, controllers: int = 1) -> None:
        self.random = random.Random(seed)
        self.controllers = controllers
        self.looks: list[Iterator[Effect]] = []
        self.log = log
        self.counts: Counter[str] = Counter()
        spec = ModelSpec(
            metadata=Metadata(name="flight-delays"),
            store="memory://",
            data=Data(source="x", target=Target(column="y"), features=Features()),
            candidates=(Retrain(name="a", strategy="retrain", estimator="sklearn.tree.DecisionTreeClassifier"),),
        )
        limits = replace(
            spec.rollout.limits, ready=600.0, step=3600.0, otherwise=self.random.choice(("hold", "roll_back"))
        )
        by_request = self.random.random() < 0.3
        approval = {"approve_by": "pull_request", "approve": (0.0, 0.25)} if by_request else {}
        brake = by_request or self.random.random() < 0.7
        self.spec = quick(spec, path=FOLDER, repository="memory", limits=limits, brake=brake, **approval)
        self.git = WeakGit(chosen=self.random, calm=True)
        self.world = World(
            self.spec,
            git=self.git,
            rate=self.random.choice((5.0, 50.0, 200.0)),
            bad={"v2": self.random.choice((0.002, 0.002, 0.05, 0.5))},
            lag=self.random.choice((0.5, 2.0, 20.0)),
        )
        self.world.propose(1, None)
        self.world.wait(30)
        self.world.propose(2, "v1")
        self.barred: set[str] = set()
        self.seen = len(self.git.commits)
        self.removed = False

    def say(self, text: str) -> None:
        if self.log is not None:
            self.log.append(f"{self.world.now:%H:%M:%S}  {text}")

    # --- the world goes on

    def faults(self) -> None:
        world, luck = self.world, self.random.random()
        name = self.random.choice(("v1", "v2"))
        for likely, places, what in (
            (0.04, world.away, "cluster"),
            (0.04, world.away, "counters"),
            (0.04, world.away, "sync"),
            (0.02, world.unready, name),
            (0.01, world.unwell, name),
            (0.01, world.vanished, name),
        ):
            if what in places:
                if self.random.random() < 0.3:
                    places.discard(what)
            elif self.random.random() < likely:
                places.add(what)
                self.counts[f"fault {what}"] += 1
                self.say(f"fault: {what}")
        if luck < 0.01:
            world.now -= timedelta(seconds=self.random.choice((30, 1000)))
            self.counts["fault clock"] += 1
        elif luck < 0.02:
            world.epoch, world.counts = str(world.random.integers(10**9)), {}
            self.counts["fault counters anew"] += 1

    def calm(self) -> None:
        self.git.calm = True
        for places in (self.world.away, self.world.unready, self.world.unwell, self.world.vanished):
            places.clear()
        self.say("the faults stop")

    def person(self) -> None:
        act = self.random.choice(("pause", "resume", "resume", "abort", "lower", "raise", "revert", "remove"))
        newest, world = self.git.commits[-1], self.world
        with suppress(UpkeepError):
            released = read_release(self.spec, Tree(newest.id, newest.files))
            if released is None:
                return
            state, author = released.state, "Ann <ann@example.com>"
            if act == "revert":
                self.git.revert(world.now)
                self.removed = True
            elif act in ("lower", "raise", "remove") and state.canary is not None:
                if act == "remove":
                    files: dict[str, bytes | None] = {f"{FOLDER}/{state.canary.version}.yaml": None}
                    self.removed = True
                else:
                    weight = self.random.randrange(101)
                    changed = changes_of(self.spec, released.files, replace(state, weight=weight), released.versions)
                    files = {path: content for path, content in changed.items() if path.endswith("route.yaml")}
                self.git.add(files, f"{act} by hand\n", world.now, author)
            elif act in ("pause", "resume", "abort"):
                new = getattr(commands, act)(state, by="Ann", reason="says so", now=world.now)
                changes = changes_of(self.spec, released.files, new, released.versions)
                trailers = {"Upkeep-Model": self.spec.name, "Upkeep-Command": act}
                self.git.add(changes, commit_message(f"m: {act}", [], trailers), world.now, author)
            else:
                return
            self.counts[f"person {act}"] += 1
            self.say(f"person: {act}")

    def merge(self) -> None:
        branch = self.random.choice(list(self.git.branches))
        with suppress(ConflictError):
            self.git.merge(branch, self.world.now)
            self.counts["person merge"] += 1
            self.say(f"person: merge {branch}")

    # --- one look, and what must hold after each of its effects

    def look(self) -> None:
        if self.controllers > 1 and not self.git.calm:
            self.looks_at_once()
            return
        self.looks.clear()
        kill = self.random.randrange(12) if not self.git.calm and self.random.random() < 0.15 else None
        try:
            for number, effect in enumerate(effects(self.world.model, self.world.now)):
                if number == kill:
                    self.counts["killed"] += 1
                    self.say(f"killed before {effect.name}")
                    return
                try:
                    effect.run()
                finally:
                    self.check()
        except UpkeepError as error:
            self.counts[type(error).__name__] += 1
            self.say(f"broke off: {error.problems[0].message}")

    def looks_at_once(self) -> None:
        """Each controller goes some effects on; one that is broken off or killed begins anew."""
        while len(self.looks) < self.controllers:
            self.looks.append(effects(self.world.model, self.world.now))
        for look in self.random.sample(self.looks, len(self.looks)):
            for _ in range(self.random.choice((0, 1, 2, 5, 20))):
                try:
                    next(look).run()
                except StopIteration:
                    self.looks.remove(look)
                    break
                except UpkeepError as error:
                    self.counts[type(error).__name__] += 1
                    self.looks.remove(look)
                    break
                finally:
                    self.check()
            else:
                if self.random.random() < 0.1:
                    self.counts["killed"] += 1
                    self.looks.remove(look)

    def check(self) -> None:
        world, commits = self.world, self.git.commits
        for number in range(self.seen, len(commits)):
            if commits[number].author.startswith("upkeep"):
                self.check_commit(commits[number - 1], commits[number])
        self.seen = len(commits)
        if world.forced is not None and sum(world.forced.values()) != 100:
            raise BrokenError(f"forced to {world.forced}")
        if world.lost and not self.removed:
            raise BrokenError(f"{world.lost} requests went to a service that is not there")

    def check_commit(self, before: Commit, after: Commit) -> None:
        released = read_release(self.spec, Tree(after.id, after.files))  # it can be read, whole
        assert released is not None
        new = released.state
        self.say(f"commit {new.phase} {new.weight} %: {new.reason}")
        self.counts[new.phase] += 1
        self.barred |= {each.digest for each in new.barred}
        if new.canary is not None and new.weight and new.canary.digest in self.barred:
            raise BrokenError(f"{new.canary.version} was taken back and has {new.weight} %")
        try:
            was = read_release(self.spec, Tree(before.id, before.files))
        except UpkeepError:
            return  # a person's
        if was is None:
            return
        old = was.state
        where = ("phase", "step", "weight", "rollout")
        again = all(getattr(old, name) == getattr(new, name) for name in where)
        if again and before.author.startswith("upkeep") and not self.counts["fault clock"]:
            raise BrokenError(f"{new.phase} {new.weight} % is committed a second time")
        for version in was.versions.keys() - released.versions.keys():
            if old.weights.get(version):
                raise BrokenError(f"{version} goes in the commit that takes its traffic")
        if new.weight > old.weight and new.phase != "paused":
            self.check_forward(old, new, after)

    def check_forward(self, old: State, new: State, commit: Commit) -> None:
        assert new.canary is not None
        name = new.canary.version
        # of two one may act on what it saw before it was frozen: there the lock's time would end its look
        if self.controllers == 1 and name in self.world.unready | self.world.unwell | self.world.vanished:
            raise BrokenError(f"{name} gets {new.weight} % and is not ready")
        if old.phase != "pending" and commit.trailers.get("Upkeep-Verdict") != "pass":
            raise BrokenError(f"{old.weight} % was left on {commit.trailers.get('Upkeep-Verdict')}")
        if new.evidence is None or new.evidence != commit.trailers.get("Upkeep-Evidence"):
            raise BrokenError("the commit cites no evidence")

    def ended(self) -> str:
        newest = self.git.commits[-1]
        try:
            released = read_release(self.spec, Tree(newest.id, newest.files))
        except UpkeepError:
            return ""
        assert released is not None
        state, world = released.state, self.world
        if state.phase in ("held", "paused"):
            return state.phase
        live = {version: weight for version, weight in (world.forced or world.weights).items() if weight}
        return (
            state.phase
            if state.phase in AT_REST and world.forced is None and live == {state.champion.version: 100}
            else ""
        )

    def run(self) -> Counter[str]:
        self.git.calm = False
        for _ in range(self.random.randrange(LOOKS)):
            self.faults()
            if self.random.random() < 0.02:
                self.person()
            if self.git.branches and self.random.random() < 0.2:
                self.merge()
            self.look()
            self.world.wait(self.random.choice((1.0, 10.0, 10.0, 60.0)))
        self.calm()
        told = 0
        for _ in range(CALM_LOOKS):
            if how := self.ended():
                self.counts[f"ended {how}"] += 1
                return self.counts
            before = len(self.git.commits)
            self.look()
            self.world.wait(self.random.choice((1.0, 10.0, 60.0)))
            told = told + 1 if len(self.git.commits) == before else 0
            if told > 30 and any(event.kind == "problem" and "take the folder back" in event.message
                                 for event in self.world.posted):  # fmt: skip
                self.counts["ended nonsense"] += 1
                return self.counts
        raise BrokenError(f"it does not end; live {self.world.forced or self.world.weights}")


def many(count: int, start: int = 0, controllers: int = 1) -> Tally:
    """As :func:`tests.simulation.run.many`."""
    return tally(lambda seed: Rollout(seed, controllers=controllers).run(), range(start, start + count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--controllers", type=int, default=1)
    arguments: Any = parser.parse_args()
    if arguments.seed is not None:
        log: list[str] = []
        try:
            told = str(dict(Rollout(arguments.seed, log, arguments.controllers).run()))
        except BrokenError as error:
            told = f"an invariant does not hold: {error}"
        print("\n".join(log))
        print(told)
        sys.exit(told.startswith("an invariant"))
    found = many(arguments.count, arguments.start, arguments.controllers)
    report(found, f"{arguments.count:,} rollouts", "python -m tests.simulation.whole --seed {seed}")


if __name__ == "__main__":
    main()
