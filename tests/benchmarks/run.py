"""``make bench``: run every ``bench_*.py`` beside this file, one after another, and write docs/benchmarks.md.

Each prints its own Markdown section. ``make bench ONLY=drift`` runs one and leaves the file alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmarks.md"


def machine() -> str:
    """One line: processor, cores, memory, Python."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, {platform.system()}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure, and write docs/benchmarks.md.")
    parser.add_argument("--only", default="", help="one bench: its name after bench_")
    only = parser.parse_args().only
    sections = []
    for script in sorted(HERE.glob(f"bench_{only or '*'}.py")):
        print(f"measuring {script.stem} …", file=sys.stderr, flush=True)
        done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"{script.name} ended with {done.returncode}")
        print(done.stdout, flush=True)
        sections.append(done.stdout.strip())
    if only:
        return
    head = (
        "# Benchmarks\n\n"
        "Made by `make bench`: every contender of a table ran in the same run, in a process of its own, in turns;\n"
        "figures are the median of the runs with their spread; CPU seconds are user and system together.\n\n"
        f"Machine: {machine()}; measured on {datetime.now(UTC):%Y-%m-%d}.\n"
    )
    PAGE.write_text(head + "\n" + "\n\n".join(sections) + "\n")
    print(f"wrote {PAGE}", file=sys.stderr)


if __name__ == "__main__":
    main()
