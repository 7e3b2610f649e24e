"""``python part_of_lock.py LOCK [--without NAME ...] [--only NAME ...] [--minus FILE]``: the part an image needs.

Prints the lock's own lines, hashes and all, of what is reached from the project's dependencies (or from ``--only``)
when those in ``--without`` are left out; what only they need goes with them. A dependency that is new is thus in every
image until somebody leaves it out. Who needs whom stands in the lock's ``# via`` comments.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection
from pathlib import Path

PROJECT = "upkeep"


def entries(lock: str) -> dict[str, str]:
    """Each package's name and its lines of the lock."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in lock.splitlines(keepends=True):
        if begins := re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)==", line):
            lines = found.setdefault(begins[1].lower(), [])
        lines.append(line)
    return {name: "".join(each) for name, each in found.items()}


def needed_by(entry: str) -> set[str]:
    """Who needs the package, as its ``# via`` comment says."""
    comments = re.findall(r"^ *#(?: via)? +([A-Za-z0-9][A-Za-z0-9._-]*)(?: \(.*\))?$", entry, re.MULTILINE)
    return {name.lower() for name in comments} - {"via"}


def part(lock: str, *, only: Collection[str] = (), without: Collection[str] = (), minus: str = "") -> str:
    """The lines of what is reached.

    Raises :class:`ValueError` where the lock has no package of a given name.
    """
    whole = entries(lock)
    if missing := {*only, *without} - whole.keys():
        raise ValueError(f"the lock has no {', '.join(sorted(missing))}")
    by = {name: needed_by(entry) for name, entry in whole.items()}
    reached = {*only} or {name for name in whole if PROJECT in by[name]}
    reached -= {*without}
    while more := {name for name in whole if by[name] & reached} - reached - {*without}:
        reached |= more
    return "".join(entry for name, entry in whole.items() if name in reached - entries(minus).keys())


def main() -> None:
    """Print the part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lock", type=Path)
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--without", nargs="*", default=())
    parser.add_argument("--minus", type=Path, help="a part that is there already")
    given = parser.parse_args()
    minus = given.minus.read_text(encoding="utf-8") if given.minus else ""
    sys.stdout.write(part(given.lock.read_text("utf-8"), only=given.only, without=given.without, minus=minus))


if __name__ == "__main__":
    main()
