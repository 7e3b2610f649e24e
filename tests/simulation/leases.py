"""Elections under faults: ``python -m tests.simulation.leases --count 2000 [--start 0]``.

Some processes with clocks of their own (off by hours, up to 15 % fast or slow) try to lead by one Lease of a small API
server. Requests are slow, fail, or lose their answers; processes freeze, die and come back. One true time runs: while
one process waits for an answer, the others go on. Never may two lead.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tests.simulation.tally import Tally, report, tally
from tests.simulation.world import BrokenError
from upkeep.serving.kubernetes.api import Api
from upkeep.serving.kubernetes.fake import FakeKubernetes, refusal
from upkeep.serving.kubernetes.lease import JITTER, Election, Timing

TIMING = Timing()
SLOWEST = 1.15
"""How much faster than true time a clock may run, or how much slower."""


@dataclass
class Process:
    election: Election
    rate: float
    due: float
    """True time of its next try."""
    busy: bool = False
    """It waits for an answer."""
    dead: bool = False


class Elections:
    def __init__(self, seed: int, timing: Timing = TIMING) -> None:
        self.random = random.Random(seed)
        self.timing = timing
        self.now = 0.0
        self.calm = False
        self.counts: Counter[str] = Counter()
        self.server = FakeKubernetes()
        self.server.before = lambda method, path: self._travels()
        self.server.after = lambda method, path: self._travels()
        self.born = 0
        self.processes = [self.process() for _ in range(self.random.choice((2, 2, 3)))]

    def process(self) -> Process:
        self.born += 1
        rate = self.random.uniform(1 / SLOWEST, SLOWEST)
        offset = self.random.uniform(-1e6, 1e6)
        wrong = timedelta(seconds=self.random.uniform(-1e5, 1e5))

        def wall() -> datetime:
            return datetime(2026, 3, 1, tzinfo=UTC) + wrong + timedelta(seconds=self.now)

        election = Election(
            Api(self.server.client(), tries=1),
            "upkeep-system",
            "upkeep-controller",
            f"pod-{self.born}",
            timing=self.timing,
            clock=lambda: offset + rate * self.now,
            now=wall,
        )
        return Process(election, rate, self.now + self.random.uniform(0, 2))

    def leaders(self) -> list[str]:
        return [each.election.me for each in self.processes if not each.dead and each.election.leads()]

    def check(self) -> None:
        leaders = self.leaders()
        if len(leaders) > 1:
            raise BrokenError(f"at {self.now:.3f} s {' and '.join(leaders)} lead")

    def until(self, end: float) -> None:
        """True time runs, and with it every process that waits for no answer."""
        while True:
            free = [each for each in self.processes if not (each.busy or each.dead) and each.due <= end]
            if not free:
                break
            process = min(free, key=lambda each: each.due)
            self.now = max(self.now, process.due)
            self.attempt(process)
        self.now = max(self.now, end)
        self.check()

    def attempt(self, process: Process) -> None:
        process.busy = True
        self.check()
        before = process.election.leads()
        leads = process.election.attempt()
        self.check()
        if leads and not before:
            self.counts["took over"] += 1
        if process.election.trouble:
            self.counts["failed"] += 1
        process.busy = False
        wait = self.timing.retry * self.random.uniform(1, JITTER) / process.rate
        if not self.calm and self.random.random() < 0.02:
            self.counts["frozen"] += 1
            wait += self.random.uniform(0, 40)
        process.due = self.now + wait

    def _travels(self) -> None:
        """A request on its way, or its answer."""
        luck = 1.0 if self.calm else self.random.random()
        self.until(self.now + self.random.choice((0.001, 0.01, 0.1)))
        if luck < 0.03:
            self.until(self.now + self.random.uniform(0, 12))
        if luck < 0.06:
            self.counts["lost"] += 1
            raise OSError("the connection broke")
        if luck < 0.08:
            raise refusal(503)

    def run(self) -> Counter[str]:
        for _ in range(20):
            self.until(self.now + self.random.uniform(0, 60))
            if self.random.random() < 0.3:
                process = self.random.choice(self.processes)
                if not process.busy and self.random.random() < 0.5:
                    self.counts["given back"] += 1
                    process.election.give_back()
                process.dead = True
                self.processes.append(self.process())
        self.calm = True
        # two durations: those that are frozen come back within 40 s, and then one must lead
        self.until(self.now + 60)
        for _ in range(10):
            if len(self.leaders()) != 1:
                raise BrokenError(f"in calm {self.leaders() or 'nobody'} lead at {self.now:.0f} s")
            self.until(self.now + 5)
        return self.counts


def many(count: int, start: int = 0, timing: Timing = TIMING) -> Tally:
    """What happened in ``count`` elections, and the seeds that broke an invariant."""
    return tally(lambda seed: Elections(seed, timing).run(), range(start, start + count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0)
    arguments = parser.parse_args()
    found = many(arguments.count, arguments.start)
    report(found, f"{arguments.count:,} elections", "python -m tests.simulation.leases --start {seed} --count 1")


if __name__ == "__main__":
    main()
