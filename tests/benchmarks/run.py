"""``make bench``: run every ``bench_*.py`` beside this file, one after another, and write docs/benchmarks.md.

``make bench ONLY=drift`` runs one and leaves the page alone. To add a section, add a file ``bench_<name>.py`` that

- called without arguments, prints its section to standard output: ``## A title``, what was done, a table; anything
  else goes to standard error;
- measures each contender in the same run, in a process of its own, in turns, and gives CPU seconds and the spread;
- where a peer or a server is not there, says so in its row and ends with 0. Any other exit code fails the whole: the
  page is written whole or not at all.

Nothing is registered: the file's name is enough, and sections come in the order of names.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import time
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


def busy() -> tuple[float, float]:
    """CPU seconds since the start: of the whole machine (what a host took from it, too), and of our ended children."""
    ticks = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = ticks
    whole = (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    return whole, own.ru_utime + own.ru_stime


def section(script: Path) -> str | None:
    """What the script prints, and how much other work disturbed it; None when it failed."""
    print(f"measuring {script.stem} …", file=sys.stderr, flush=True)
    linux = Path("/proc/stat").exists()
    before, start = busy() if linux else (0.0, 0.0), time.monotonic()
    done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return None
    text = done.stdout.strip()
    if linux:
        seconds = (time.monotonic() - start) * (os.cpu_count() or 1)
        whole, own = (now - then for now, then in zip(busy(), before, strict=True))
        text += f"\n\nOther work took {max(0.0, whole - own) / seconds:.0%} of the machine's CPU time meanwhile."
    print(text + "\n", flush=True)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure, and write docs/benchmarks.md.")
    parser.add_argument("--only", default="", help="one bench: its name after bench_")
    only = parser.parse_args().only
    scripts = sorted(HERE.glob(f"bench_{only or '*'}.py"))
    if not scripts:
        sys.exit(f"there is no bench_{only}.py")
    sections = {script.name: section(script) for script in scripts}
    failed = [name for name, text in sections.items() if text is None]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}" + ("" if only else f"; {PAGE.name} was left as it was"))
    if only:
        return
    head = (
        "# Benchmarks\n\n"
        "Made by `make bench`, in one run (each table alone: `make bench ONLY=drift`). Contenders of a table ran in\n"
        "processes of their own, in turns; figures are the median of the runs with their spread; CPU seconds are user\n"
        "and system together. Where other work took much of the machine, rates and wall times are noisy, CPU seconds\n"
        "and memory less so.\n\n"
        f"Machine: {machine()}; measured on {datetime.now(UTC):%Y-%m-%d}.\n"
    )
    partial = PAGE.with_suffix(".partial")
    partial.write_text(head + "\n" + "\n\n".join(text for text in sections.values() if text) + "\n")
    partial.replace(PAGE)
    print(f"wrote {PAGE}", file=sys.stderr)


if __name__ == "__main__":
    main()
