"""The peak memory of a fine-tune on 100 MB and on 1 GB of Parquet: of the first one, and of one that goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import networks

from upkeep import records
from upkeep.data.prepared import SUMMARY, Prepared, Summary

ROW_BYTES = 68  # of a made row, as Parquet
STEPS = 200
PERIODS = 12


def peak() -> float:
    """MB: the most this process held in memory since it began (its parent's does not count, as in ``ru_maxrss``)."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1000 for line in status.splitlines() if line.startswith("VmHWM:"))


def train(folder: str, state: str, out: str) -> None:
    from upkeep.training.train import train

    task = networks.task(Path(folder), max_steps=STEPS, epochs=1, batch_rows=256)
    if state:
        task = replace(task, state=Path(state))
    started = time.monotonic()
    result = train(task, Path(out) / "model", Path(out) / "state")
    print(json.dumps([peak(), time.monotonic() - started, result.rows, result.curve[-1].steps]))


def said(*words: str) -> list[float]:
    done = subprocess.run([sys.executable, "-W", "ignore", __file__, *words], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, check=True)  # fmt: skip
    return json.loads(done.stdout.strip().splitlines()[-1])


def make(folder: str, megabytes: str) -> None:
    networks.make(Path(folder), rows=int(megabytes) * 1_000_000 // ROW_BYTES, periods=PERIODS, held_out=0.2)
    print("[]")


def all_but_the_last(folder: Path, to: Path) -> None:
    """A prepared folder without the newest period: what the first fine-tune saw."""
    to.mkdir()
    (to / "rows").symlink_to(folder / "rows")
    summary = records.read(Summary, folder / SUMMARY)
    records.write(to / SUMMARY, replace(summary, periods=summary.periods[:-1]))


def main() -> None:
    if not Path("/proc/self/status").exists():
        print("## Memory of a fine-tune\n\nNot measured: this needs Linux.")
        return
    cells: dict[str, dict[str, list[float]]] = {}
    sizes = {}
    with TemporaryDirectory(prefix="upkeep-bench-") as name:
        for label, megabytes in (("100 MB", "100"), ("1 GB", "1000")):
            folder, before = Path(name) / megabytes, Path(name) / f"{megabytes}-before"
            said("make", str(folder), megabytes)
            all_but_the_last(folder, before)
            sizes[label] = (networks.size_of(folder) / 1e6, Prepared(folder).count(parts=("train",)))
            first = said("train", str(before), "", str(Path(name) / f"{megabytes}-first"))
            state = str(Path(name) / f"{megabytes}-first" / "state")
            later = said("train", str(folder), state, str(Path(name) / f"{megabytes}-later"))
            cells[label] = {"the first": first, "one that goes on": later}
    print("## Memory of a fine-tune\n")
    print(
        f"A network (64, 32) from nothing on made rows: six numbers that do not compress, three categories; {PERIODS} "
        f"periods, snappy, as prepare writes them; {STEPS} steps of 256 rows, the whole training step of an update "
        "with state and model written. Peak resident memory of the process (VmHWM), TensorFlow's own with it. The "
        "first learns from 11 periods; the other goes on from its state, with the twelfth.\n"
    )
    print("| Parquet | training rows | fine-tune | peak, MB | against 100 MB | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for label, runs in cells.items():
        for run, (megabytes, seconds, rows, steps) in runs.items():
            assert steps == STEPS
            against = megabytes / cells["100 MB"][run][0]
            print(
                f"| {sizes[label][0]:.0f} MB | {rows:,.0f} | {run} | {megabytes:.0f} | {against:.2f} | {seconds:.0f} |"
            )
    print("\nWhat grows with the rows is eight bytes each: which of them were learned.")


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            main()
        case ["make", folder, megabytes]:
            make(folder, megabytes)
        case ["train", folder, state, out]:
            train(folder, state, out)
