"""From evidence to traffic: how long a look of the controller and what follows take, on the one-machine cluster.

Rollouts of tiny models under load, good ones and at last a failing one, the controller's own ``tick`` in this process.
For each look that moved the weights, the seconds from its beginning (nothing is read yet) until Envoy divides traffic
as decided: reading Git and counters, the evidence, the decision, the commit, the daemon's applying it, and Envoy's.

python tests/benchmarks/bench_move.py [--rate 50] [--rounds 2]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.e2e.cluster_make import wait_for
from tests.e2e.rollout_make import Rollouts
from upkeep.rollout.connect import connect
from upkeep.rollout.controller import tick
from upkeep.rollout.state import AT_REST

LONGEST = 300.0


def drive(rollouts: Rollouts, took: dict[str, list[float]]) -> None:
    """Look until it rests; the seconds of every move, by kind."""
    with connect(rollouts.spec) as model:
        end = time.monotonic() + LONGEST
        while time.monotonic() < end:
            began = time.monotonic()
            told = tick(model, datetime.now(UTC))
            before, after = told.before, told.state
            if before is not None and after is not None and before.weight != after.weight and after.canary is not None:
                wanted = {version: weight for version, weight in after.weights.items() if weight}

                def follows(wanted: dict[str, int] = wanted) -> bool:
                    weights = model.cluster.live(rollouts.spec).weights or {}
                    return {version: weight for version, weight in weights.items() if weight} == wanted

                wait_for("traffic moves", follows)
                took["back" if after.weight < before.weight else "on"].append(time.monotonic() - began)
            if after is not None and after.phase in AT_REST and told.rests:
                return
            time.sleep(told.next_look)
    raise SystemExit("the rollout did not end in time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=2)
    words = parser.parse_args()
    took: dict[str, list[float]] = {"on": [], "back": []}
    answers: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="upkeep-bench-") as folder:
        rollouts = Rollouts(Path(folder), steps="5%, 25%, 50%")
        rollouts.release(1, None)
        rollouts.cluster.up()
        try:
            wait_for("v1 serves", lambda: rollouts.cluster.ask().status_code == 200)
            last = 2 + words.rounds
            for number in range(2, last + 1):
                rollouts.release(number, f"v{number - 1}", fails=number == last)
                answers.update(rollouts.cluster.load(lambda: drive(rollouts, took), per_second=words.rate))
        finally:
            rollouts.cluster.down()
    print("## From evidence to traffic moved\n")
    print(f"The one-machine cluster under {words.rate} requests/s; seconds from the beginning of the look that decided")
    print("until Envoy divides traffic as decided. Asked for: at most 2 s.\n")
    print("| what | moves | seconds (median; least–most) |")
    print("| --- | ---: | ---: |")
    for name, text in (("on", "one step on: look, decide, commit, Envoy"), ("back", "back to 0 %: with the brake")):
        found = took[name]
        spread = f"{statistics.median(found):.2f}; {min(found):.2f}–{max(found):.2f}" if found else "none seen"
        print(f"| {text} | {len(found)} | {spread} |")
    ends = ", ".join(f"{count:,} {end}" for end, count in answers.most_common())
    print(f"\nHow the {sum(answers.values()):,} requests of {words.rounds + 1} rollouts ended: {ends}")
    print("(the failing canary's own answers are 500).")


if __name__ == "__main__":
    main()
