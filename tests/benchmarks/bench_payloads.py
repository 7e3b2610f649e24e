"""Reading the payload log and joining it with labels: a million answered rows, CPU and memory.

    python tests/benchmarks/bench_payloads.py [--rows 1000000]

The flights example's columns, a request a row, 30 % of them labelled, a file an hour. Each measurement is a process of
its own: from nothing into memory (what `upkeep metrics` does), into a journal on disk (what a rollout's first look
does), and a later look of that rollout at a thousand new rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson

EXAMPLE = Path(__file__).parents[2] / "examples" / "flights" / "upkeep.yaml"
START = datetime(2026, 3, 1, tzinfo=UTC)
HOURS = 24
SHARE = 0.3


def make_spec(folder: Path) -> Any:
    from upkeep.spec.load import load

    spec = load(EXAMPLE)
    payloads = replace(spec.monitoring.payloads, source=str(folder / "log"), keep=1e10)
    monitoring = replace(spec.monitoring, payloads=payloads, labels=str(folder / "labels"))
    return replace(spec, store=str(folder / "store"), monitoring=monitoring)


def write(folder: Path, spec: Any, first: int, rows: int) -> None:
    """Rows from number ``first`` on: log and labels, as a model server logs and people label them."""
    rng = np.random.default_rng(first)
    features = spec.data.features
    numbers = rng.normal(size=(rows, len(features.numeric))).round(3).tolist()
    labels, files = [], {}
    for place in range(rows):
        number = first + place
        at = START + timedelta(hours=place % HOURS, milliseconds=place // HOURS)
        path = folder / "log" / at.strftime("date=%Y-%m-%d/hour=%H") / f"{first}.jsonl"
        if path not in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            files[path] = path.open("wb")
        row = dict(zip(features.numeric, numbers[place], strict=True))
        row |= {"carrier": f"C{number % 14}", "origin": ("EWR", "JFK", "LGA")[number % 3], "dest": f"D{number % 90}"}
        row |= {"flight_id": f"2026-03-01-{number}", "scheduled_departure": at.isoformat()}
        version = "v2" if number % 4 == 0 else "v1"
        head = {"specversion": "1.0", "source": f"/models/flight-delays-{version}", "namespace": "models",
                "inferenceservicename": f"flight-delays-{version}", "component": "predictor", "endpoint": "",
                "upkeepversion": version, "id": f"{number:032x}", "datacontenttype": "application/json"}  # fmt: skip
        late = bool(numbers[place][0] > 1)
        chances = {"False": 0.75, "True": 0.25} if not late else {"False": 0.25, "True": 0.75}
        answer = {"predictions": [{"label": late, "probabilities": chances}], "model_name": "flight-delays"}
        for kind, data in (("request", {"instances": [row]}), ("response", answer)):
            event = head | {"type": f"org.kubeflow.serving.inference.{kind}", "time": at.isoformat(), "data": data}
            files[path].write(orjson.dumps(event) + b"\n")
        if number % 10 < SHARE * 10:
            labels.append(f"{row['flight_id']},{str(late != (number % 7 == 0)).lower()}\n")
    for file in files.values():
        file.close()
    (folder / "labels").mkdir(exist_ok=True)
    (folder / "labels" / f"{first}.csv").write_text("flight_id,delayed\n" + "".join(labels))


def peak_mib() -> float:
    """This process's own peak: getrusage's is that of its parent, where that had more."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def measure(folder: Path, what: str, after: int) -> None:
    """In a process of its own: prints seconds, CPU seconds and the peak of memory as JSON."""
    from upkeep.monitor.journal import open_journal
    from upkeep.monitor.labels import label_rules
    from upkeep.monitor.outcomes import coverage, outcomes, production
    from upkeep.monitor.payloads import wanted
    from upkeep.store import open_store

    spec = make_spec(folder)
    started, cpu = time.monotonic(), time.process_time()
    path = None if what == "memory" else folder / "journal.duckdb"
    with open_journal(spec, wanted(spec, features=what != "memory"), path) as journal:
        stores = open_store(str(folder / "log")), open_store(str(folder / "labels"))
        now = datetime.now(UTC) + timedelta(days=1)
        look = journal.look(*stores, label_rules(spec, (False, True)), now=now, meet=what != "memory")
        if what == "memory":
            rows = production(journal, classes=(False, True), positive=True, window=timedelta(days=1))
            coverage(journal)
            found = sum(row.labelled for row in rows)
        else:
            found = len(outcomes(journal, after=after, slices=spec.data.slices))
    print(
        json.dumps(
            {
                "read": look.answers.rows,
                "found": found,
                "seconds": time.monotonic() - started,
                "cpu": time.process_time() - cpu,
                "mib": peak_mib(),
            }
        )
    )


def run(folder: Path, what: str, after: int = 0) -> dict[str, float]:
    """``after``: outcomes that were read before."""
    words = [sys.executable, __file__, "--measure", what, "--folder", folder, "--after", str(after)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Reading the payload log, and joining it with labels.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--measure", default="")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--after", type=int, default=0)
    given = parser.parse_args()
    if given.measure:
        measure(given.folder, given.measure, given.after)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = make_spec(folder)
        write(folder, spec, 0, given.rows)
        size = sum(path.stat().st_size for path in folder.glob("log/**/*.jsonl"))
        cases = {"all, into memory, with metrics": run(folder, "memory"), "all, into a journal": run(folder, "disk")}
        write(folder, spec, given.rows, 1000)
        cases["a later look: 1,000 new rows"] = run(folder, "disk", int(cases["all, into a journal"]["found"]))
        print("## Payload log and labels\n")
        print(
            f"{given.rows:,} answered rows of {len(spec.data.features.all)} features, a request each "
            f"({size / 2**20:,.0f} MiB of log), {SHARE:.0%} labelled: read, paired, joined.\n"
        )
        print("| what | rows read | outcomes | seconds | CPU seconds | peak memory |")
        print("| --- | --- | --- | --- | --- | --- |")
        for what, found in cases.items():
            print(
                f"| {what} | {found['read']:,} | {found['found']:,} | {found['seconds']:.1f} | {found['cpu']:.1f} | "
                f"{found['mib']:,.0f} MiB |"
            )


if __name__ == "__main__":
    main()
