"""How fast :func:`upkeep.rollout.decide.decide` is: one process, one core, over every phase and a grid of observations.

python tests/benchmarks/bench_decide.py [--decisions 100000] [--runs 3]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))


def child(decisions: int) -> None:
    from tests.simulation.grid import cases
    from upkeep.rollout.decide import decide

    inputs = list(cases())
    looked = itertools.islice(itertools.cycle(inputs), decisions)
    began = time.process_time()
    moved = sum(decide(case.plan, case.state, case.observation, case.now).state != case.state for case in looked)
    print(json.dumps({"cpu": time.process_time() - began, "moved": moved, "inputs": len(inputs)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", action="store_true")
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.decisions)
        return
    command = [sys.executable, __file__, "--child", "--decisions", str(arguments.decisions)]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(arguments.runs)
    ]
    cpu = sorted(run["cpu"] for run in runs)
    print("## Decisions on a rollout\n")
    print("| what | decisions | different inputs | of them moves | CPU s (median; least–most) |")
    print("| --- | ---: | ---: | ---: | ---: |")
    print(
        f"| `decide` | {arguments.decisions:,} | {runs[0]['inputs']:,} | {runs[0]['moved']:,} "
        f"| {statistics.median(cpu):.2f}; {cpu[0]:.2f}–{cpu[-1]:.2f} |"
    )


if __name__ == "__main__":
    main()
