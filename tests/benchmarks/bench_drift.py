"""The drift report of two Parquet files: CPU seconds and peak memory, Upkeep beside its peers.

    python tests/benchmarks/bench_drift.py [--rows 1000000] [--large 10000000] [--runs 3]
                                           [--evidently PYTHON] [--frouros PYTHON]

30 columns: 20 float, 5 int, 5 strings of 20 to 2,000 levels. Each run is a process of its own, imports included, whose
user and system seconds and largest resident set are the operating system's own figures: wall time says little on a busy
machine. Upkeep runs without the two-sample classifier (which works on a sample). *Plain exact* is what one would write
by hand with pyarrow, numpy and scipy: read both files, exact Kolmogorov–Smirnov over sorted columns, chi² over value
counts. Evidently and frouros are measured where they can be imported, by this Python or by that of an environment of
their own. One run of each warms the disk cache and the compiled modules, and does not count.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

LEVELS = (20, 50, 200, 800, 2000)
CHUNK = 100_000

UPKEEP = """
from upkeep.drift.files import compare
from upkeep.spec.model import Drift
report = compare(A, B, Drift(classifier_rows=0))
print(sum(column.finding == "drift" for column in report.columns))
"""

PLAIN = """
import numpy as np, pyarrow.parquet as pq, pyarrow.compute as pc
from scipy.special import chdtrc, kolmogorov
a, b = pq.read_table(A), pq.read_table(B)
drifted = 0
for name in a.column_names:
    x, y = a.column(name), b.column(name)
    if name.startswith("s"):
        both = [pc.value_counts(column.combine_chunks()) for column in (x, y)]
        counts = [{v["values"].as_py(): v["counts"].as_py() for v in values} for values in both]
        levels = sorted(set(counts[0]) | set(counts[1]))
        t = np.array([[c.get(level, 0) for level in levels] for c in counts], dtype=float)
        e = np.outer(t.sum(1), t.sum(0)) / t.sum()
        p = chdtrc(len(levels) - 1, ((t - e) ** 2 / e).sum())
        effect = np.abs(t[0] / t[0].sum() - t[1] / t[1].sum()).sum() / 2
    else:
        x, y = np.sort(x.to_numpy()), np.sort(y.to_numpy())
        both = np.concatenate([x, y])
        f, g = np.searchsorted(x, both, side="right") / len(x), np.searchsorted(y, both, side="right") / len(y)
        effect = np.abs(f - g).max()
        p = kolmogorov(effect * np.sqrt(len(x) * len(y) / (len(x) + len(y))))
    drifted += effect >= 0.1 and p < 0.05
print(drifted)
"""

EVIDENTLY = """
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
Report([DataDriftPreset()]).run(pd.read_parquet(B), pd.read_parquet(A)).dict()
print("done")
"""

FROUROS = """
import numpy as np, pandas as pd
from frouros.detectors.data_drift import ChiSquareTest, KSTest
a, b = pd.read_parquet(A), pd.read_parquet(B)
for name in a.columns:
    detector = ChiSquareTest() if name.startswith("s") else KSTest()
    detector.fit(X=a[name].to_numpy())
    detector.compare(X=b[name].to_numpy())
print("done")
"""


def make(path: Path, rows: int, seed: int, shift: float) -> None:
    """A file of 30 columns in row groups of 100,000; two of the float columns are moved by ``shift``."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    writer = None
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        columns = {}
        for i in range(20):
            values = rng.normal(0, 1, count) if i % 2 else rng.lognormal(0, 1, count)
            columns[f"f{i}"] = values + shift * (i < 2)
        for i in range(5):
            columns[f"i{i}"] = rng.integers(0, 10 ** (i + 1), count)
        for i, levels in enumerate(LEVELS):
            codes = np.minimum((rng.random(count) ** 2 * levels).astype(np.int64), levels - 1)
            columns[f"s{i}"] = pa.array([f"level_{k}" for k in range(levels)]).take(pa.array(codes))
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def measure(python: str, code: str, files: tuple[Path, Path], folder: Path) -> tuple[float, float, str] | str:
    """CPU seconds, peak MB and answer of one process; or why there is none."""
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPYCACHEPREFIX"] = str(folder / "pycache")
    script = f"A, B = {str(files[0])!r}, {str(files[1])!r}\n{code}"
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        process = subprocess.Popen([python, "-W", "ignore", "-c", script], stdout=out, stderr=err, env=environ)
        _, status, usage = os.wait4(process.pid, 0)  # of this child alone
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            err.seek(0)
            return (err.read().strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        out.seek(0)
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, out.read().strip()


def row(name: str, rows: int, results: list[tuple[float, float, str] | str]) -> str:
    """A line of the table; the first result was the warm-up."""
    if isinstance(results[0], str):
        return f"| {name} | {rows:,} | not measured: {results[0]} | | |"
    good = [result for result in results[1:] if not isinstance(result, str)]
    if not good:
        return f"| {name} | {rows:,} | failed: {results[-1]} | | |"
    cpu, memory = sorted(result[0] for result in good), [result[1] for result in good]
    spread = f"{statistics.median(cpu):.1f} ({cpu[0]:.1f}–{cpu[-1]:.1f})"
    return f"| {name} | {rows:,} | {spread} | {statistics.median(memory):.0f} | {good[0][2]} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=10_000_000, help="0 leaves it out")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--evidently", default=os.environ.get("UPKEEP_BENCH_EVIDENTLY", sys.executable))
    parser.add_argument("--frouros", default=os.environ.get("UPKEEP_BENCH_FROUROS", sys.executable))
    parser.add_argument("--make", nargs=4, metavar=("FILE", "ROWS", "SEED", "SHIFT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make:
        file, rows, seed, shift = given.make
        make(Path(file), int(rows), int(seed), float(shift))
        return
    print("## Drift report: 30 columns, two Parquet files\n")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.")
    print(f"Median of {given.runs} runs (least–most), each a process of its own, imports included.\n")
    print("| contender | rows a side | CPU-s | peak MB | columns found to drift |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="bench-drift-") as temporary:
        folder = Path(temporary)
        for rows, all_of_them in ((given.rows, True), (given.large, False)):
            if not rows:
                continue
            files = folder / "a.parquet", folder / "b.parquet"
            for seed, (file, shift) in enumerate(zip(files, (0.0, 0.3), strict=True)):
                # in a process of its own: a child's peak memory begins with its parent's
                arguments = ["--make", str(file), str(rows), str(seed), str(shift)]
                subprocess.run([sys.executable, __file__, *arguments], check=True)
            contenders = [("Upkeep", sys.executable, UPKEEP)]
            if all_of_them:
                contenders += [
                    ("plain exact pyarrow + numpy + scipy", sys.executable, PLAIN),
                    ("Evidently", given.evidently, EVIDENTLY),
                    ("frouros", given.frouros, FROUROS),
                ]
            results: dict[str, list[tuple[float, float, str] | str]] = {name: [] for name, _, _ in contenders}
            for turn in range(given.runs + 1):
                for contender, python, code in contenders:
                    if turn == 0 or not isinstance(results[contender][0], str):
                        results[contender].append(measure(python, code, files, folder))
            for contender, found in results.items():
                print(row(contender, rows, found), flush=True)


if __name__ == "__main__":
    main()
