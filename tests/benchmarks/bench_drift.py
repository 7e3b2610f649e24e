"""The drift report of two Parquet files: CPU seconds and peak memory, Upkeep beside its peers.

    python tests/benchmarks/bench_drift.py [--rows 1000000] [--large 10000000] [--runs 3] [--slow-runs 1]

30 columns: 20 float, 5 int, 5 strings of 20 to 2,000 levels. Each run is a process of its own, imports included, whose
user and system seconds and largest resident set are the operating system's own figures: wall time says little on a busy
machine. A run of each on a few rows comes first, so that modules are compiled; it does not count. Upkeep runs without
the two-sample classifier (which works on a sample).

*Plain exact* is a good hand-written peer of pyarrow, numpy and scipy: a column at a time, exact Kolmogorov–Smirnov of
sorted values, chi² of dictionary codes. It computes these two and nothing else.

Evidently and frouros need other versions of our own libraries, so each gets an environment in build/peers, made here
when UPKEEP_BENCH_PEERS is set (``make bench PEERS=1``): about 600 MB from the package index, once.
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
from typing import NamedTuple

PEERS = Path(__file__).parents[2] / "build" / "peers"
LEVELS = (20, 50, 200, 800, 2000)
CHUNK = 100_000
WARM_ROWS = 2_000

UPKEEP = """
from upkeep.drift.files import compare
from upkeep.spec.model import Drift
report = compare(A, B, Drift(classifier_rows=0))
print(sum(column.finding == "drift" for column in report.columns))
"""

PLAIN = """
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from scipy.special import chdtrc, kolmogorov

def ks(x, y):
    x, y = np.sort(x), np.sort(y)
    rank = np.arange(len(x) + 1) / len(x)
    # each supremum lies at a value of x: just from it on, or just before it; among ties one of them has it exactly
    above = (rank[1:] - np.searchsorted(y, x, side="right") / len(y)).max()
    below = (np.searchsorted(y, x, side="left") / len(y) - rank[:-1]).max()
    effect = max(above, below)
    return effect, kolmogorov(effect * np.sqrt(len(x) * len(y) / (len(x) + len(y))))

def chi2(x, y):
    chunks = pa.chunked_array(x.chunks + y.chunks).unify_dictionaries().chunks
    levels = len(chunks[0].dictionary)
    sides = chunks[:x.num_chunks], chunks[x.num_chunks:]
    t = np.array([sum(np.bincount(c.indices, minlength=levels) for c in side) for side in sides], dtype=float)
    e = np.outer(t.sum(1), t.sum(0)) / t.sum()
    effect = np.abs(t[0] / t[0].sum() - t[1] / t[1].sum()).sum() / 2
    return effect, chdtrc(levels - 1, ((t - e) ** 2 / e).sum())

schema = pq.read_schema(A)
text = [field.name for field in schema if pa.types.is_string(field.type)]
a, b = (pq.ParquetFile(path, read_dictionary=text) for path in (A, B))
drifted = 0
for name in schema.names:
    x, y = (file.read([name]).column(0) for file in (a, b))
    effect, p = chi2(x, y) if name in text else ks(x.to_numpy(), y.to_numpy())
    drifted += effect >= 0.1 and p < 0.05
print(drifted)
"""

EVIDENTLY = """
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
report = Report([DataDriftPreset()]).run(pd.read_parquet(B), pd.read_parquet(A))
print(int(report.dict()["metrics"][0]["value"]["count"]))
"""

FROUROS = """
import numpy as np, pandas as pd
from frouros.detectors.data_drift import ChiSquareTest, KSTest
a, b = pd.read_parquet(A), pd.read_parquet(B)
drifted = 0
for name in a.columns:
    detector = ChiSquareTest() if name.startswith("s") else KSTest()
    detector.fit(X=a[name].to_numpy())
    found, _ = detector.compare(X=b[name].to_numpy())
    effect = np.sqrt(found.statistic / (len(a) + len(b))) if name.startswith("s") else found.statistic
    drifted += effect >= 0.1 and found.p_value < 0.05
print(drifted)
"""


class Contender(NamedTuple):
    name: str
    python: str
    """Its interpreter; empty: there is none."""
    missing: str
    """Why there is none."""
    code: str
    runs: int


def peer(name: str, code: str, runs: int, *requirements: str) -> Contender:
    """A contender in an environment of its own, made where UPKEEP_BENCH_PEERS is set."""
    python = PEERS / name / "bin" / "python"
    missing = ""
    if os.environ.get("UPKEEP_BENCH_PEERS"):
        uv = [sys.executable, "-m", "uv"]
        for command in (
            [*uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(PEERS / name)],
            [*uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *requirements],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                missing = f"cannot be installed: {(done.stderr.strip().splitlines() or ['uv failed'])[-1]}"
                break
    elif not python.exists():
        missing = "`make bench PEERS=1` installs it"
    return Contender(f"{requirements[0].replace('==', ' ')}", "" if missing else str(python), missing, code, runs)


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


def write_both(folder: Path, rows: int) -> tuple[Path, Path]:
    """The reference and the current file, made in a process of its own: a child's peak begins with its parent's."""
    files = folder / f"a-{rows}.parquet", folder / f"b-{rows}.parquet"
    for seed, (file, shift) in enumerate(zip(files, (0.0, 0.3), strict=True)):
        arguments = ["--make", str(file), str(rows), str(seed), str(shift)]
        subprocess.run([sys.executable, __file__, *arguments], check=True)
    return files


def measure(python: str, code: str, files: tuple[Path, Path]) -> tuple[float, float, str] | str:
    """CPU seconds, peak MB and answer of one process; or why there is none."""
    script = f"A, B = {str(files[0])!r}, {str(files[1])!r}\n{code}"
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen([python, "-W", "ignore", "-c", script], stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)  # of this child alone
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            err.seek(0)
            return (err.read().strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        out.seek(0)
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, out.read().strip()


def compared(contenders: list[Contender], files: tuple[Path, Path], small: tuple[Path, Path], rows: int) -> None:
    """Run them in turns, and print their lines of the table."""
    failed = {who.name: who.missing for who in contenders if who.missing}
    results: dict[str, list[tuple[float, float, str]]] = {who.name: [] for who in contenders}
    for turn in range(-1, max(who.runs for who in contenders)):
        for who in contenders:
            if who.name in failed or turn >= who.runs:
                continue
            result = measure(who.python, who.code, small if turn < 0 else files)
            if isinstance(result, str):
                failed[who.name] = f"failed: {result}"
            elif turn >= 0:
                results[who.name].append(result)
    for name, found in results.items():
        if name in failed:
            print(f"| {name} | {rows:,} | not measured: {failed[name]} | | | |", flush=True)
            continue
        cpu, memory = sorted(result[0] for result in found), [result[1] for result in found]
        spread = f"{statistics.median(cpu):.1f}" + (f" ({cpu[0]:.1f}–{cpu[-1]:.1f})" if len(cpu) > 1 else "")
        cells = [name, f"{rows:,}", spread, f"{len(cpu)}", f"{statistics.median(memory):.0f}", found[0][2]]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=10_000_000, help="0 leaves it out")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--slow-runs", type=int, default=1, help="of Evidently, which takes minutes")
    parser.add_argument("--make", nargs=4, metavar=("FILE", "ROWS", "SEED", "SHIFT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make:
        file, rows, seed, shift = given.make
        make(Path(file), int(rows), int(seed), float(shift))
        return
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    upkeep = Contender("Upkeep", sys.executable, "", UPKEEP, given.runs)
    plain = Contender("plain exact pyarrow + numpy + scipy", sys.executable, "", PLAIN, given.runs)
    evidently = peer("evidently", EVIDENTLY, given.slow_runs, "evidently==0.7.23", "pandas<3", "pyarrow")
    frouros = peer("frouros", FROUROS, given.runs, "frouros==0.9.0", "pandas<3", "pyarrow")
    print("## Drift report: 30 columns, two Parquet files\n")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.")
    print(
        "Median (least–most), each run a process of its own, imports included. *Plain exact* computes exact KS and chi²"
    )
    print("alone; Upkeep also PSI, Jensen–Shannon, Wasserstein and moments, from bins. Two columns were moved.\n")
    print("| contender | rows a side | CPU-s | runs | peak MB | columns found to drift |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory(prefix="bench-drift-") as temporary:
        folder = Path(temporary)
        small = write_both(folder, WARM_ROWS)
        compared([upkeep, plain, frouros, evidently], write_both(folder, given.rows), small, given.rows)
        if given.large:
            compared([upkeep, plain], write_both(folder, given.large), small, given.large)


if __name__ == "__main__":
    main()
