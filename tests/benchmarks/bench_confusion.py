"""Confusion counts of 10 million predictions by slice: Upkeep, scikit-learn and fairlearn.

    python tests/benchmarks/bench_confusion.py [--rows 10000000] [--runs 3] [--fairlearn-rows 1000000]

Each run is a process of its own that makes the same input, counts, and reports the CPU seconds of counting alone and
the peak memory of the whole process beyond what it held before (its input and imports). fairlearn takes minutes at 10
million rows, so it gets a tenth by default. All give the same counts; the table ends with whether they did.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

VALUES = {"one column of 8 values": (8,), "8 columns of 2 to 50 values": (2, 3, 5, 8, 12, 16, 20, 50)}


def make(rows: int, values: tuple[int, ...]) -> tuple[Any, Any, list[Any]]:
    import numpy as np

    rng = np.random.default_rng(0)
    truth = (rng.random(rows, np.float32) < 0.25).astype(np.uint8)
    predicted = np.where(rng.random(rows, np.float32) < 0.8, truth, 1 - truth).astype(np.uint8)
    return truth, predicted, [rng.integers(0, count, rows, dtype=np.uint8) for count in values]


def upkeep(truth: Any, predicted: Any, columns: list[Any], values: tuple[int, ...]) -> list[Any]:
    from upkeep.evaluation.metrics import confusion_counts

    return [
        counts.tolist() for counts in confusion_counts(truth, predicted, 2, list(zip(columns, values, strict=True)))[1]
    ]


def scikit_learn(truth: Any, predicted: Any, columns: list[Any], values: tuple[int, ...]) -> list[Any]:
    from sklearn.metrics import confusion_matrix

    result = []
    for codes, count in zip(columns, values, strict=True):
        masks = (codes == value for value in range(count))
        result.append([confusion_matrix(truth[mask], predicted[mask], labels=[0, 1]).tolist() for mask in masks])
    return result


def fairlearn(truth: Any, predicted: Any, columns: list[Any], values: tuple[int, ...]) -> list[Any]:
    from fairlearn.metrics import MetricFrame
    from sklearn.metrics import confusion_matrix

    result = []
    for codes in columns:
        frame = MetricFrame(
            metrics=lambda y, said: confusion_matrix(y, said, labels=[0, 1]),
            y_true=truth,
            y_pred=predicted,
            sensitive_features=codes,
        )
        result.append([counts.tolist() for counts in frame.by_group])
    return result


WAYS = {"upkeep": upkeep, "scikit-learn": scikit_learn, "fairlearn": fairlearn}


def resident(key: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (peak) of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return 0


def child(way: str, what: str, rows: int) -> None:
    values = VALUES[what]
    warnings.simplefilter("ignore")
    truth, predicted, columns = make(rows, values)
    WAYS[way](*make(1000, values), values)  # imports
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of making the input
    before = resident("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    counts = WAYS[way](truth, predicted, columns, values)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    said = hashlib.sha256(json.dumps(counts).encode()).hexdigest()
    print(json.dumps({"cpu": cpu, "wall": wall, "peak": resident("VmHWM") - before, "counts": said}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--fairlearn-rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", nargs=3, metavar=("WAY", "WHAT", "ROWS"))
    arguments = parser.parse_args()
    if arguments.child:
        way, what, rows = arguments.child
        child(way, what, int(rows))
        return
    one, eight = VALUES
    plan = [
        ("upkeep", one, arguments.rows),
        ("upkeep", eight, arguments.rows),
        ("scikit-learn", one, arguments.rows),
        ("scikit-learn", eight, arguments.rows),
        ("upkeep", one, arguments.fairlearn_rows),
        ("fairlearn", one, arguments.fairlearn_rows),
    ]
    print("## Confusion counts by slice\n")
    print("| who | slices | predictions | CPU s (median; least–most) | wall s | extra peak memory MB |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    said: dict[tuple[str, int], set[str]] = {}
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for way, what, rows in plan:
        command = [sys.executable, __file__, "--child", way, what, str(rows)]
        runs = []
        for _ in range(arguments.runs):
            done = subprocess.run(command, check=True, capture_output=True, env=os.environ | threads, text=True)
            runs.append(json.loads(done.stdout))
        cpu, wall = sorted(run["cpu"] for run in runs), sorted(run["wall"] for run in runs)
        said.setdefault((what, rows), set()).update(run["counts"] for run in runs)
        peak = statistics.median(run["peak"] for run in runs) / 1e6
        print(
            f"| {way} | {what} | {rows:,} | {statistics.median(cpu):.2f}; {cpu[0]:.2f}–{cpu[-1]:.2f} "
            f"| {statistics.median(wall):.2f} | {peak:.0f} |"
        )
    agree = all(len(counts) == 1 for counts in said.values())
    print(f"\nAll counts agree: {'yes' if agree else 'NO'}.")


if __name__ == "__main__":
    main()
