"""A network that reads reviews, pre-trained, then adapted month by month: what ``make demo-tensorflow`` runs first.

1. A small network learns from last year's reviews, without labels, which words go together: the base.
2. January to March: the base, fine-tuned with low-rank adapters, against counted words. The first champion.
3. April: new products and new words. How much worse does the champion get, and does the update help?
4. May: sarcasm. The same questions.

``--small`` looks in two minutes whether all parts run; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import os
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
    words = (*words, "--spec", "work/upkeep.yaml")
    print(f"\n$ upkeep {' '.join(words)}", flush=True)
    subprocess.run([UPKEEP, *words], cwd=HERE, check=True)


def say(text: str) -> None:
    print(f"\n── {text}", flush=True)


def pretrain(*words: str) -> None:
    """``pretrain.py`` in a process of its own; what TensorFlow says of the machine goes to a file."""
    words = ("work/base", *words)
    print(f"\n$ python pretrain.py {' '.join(words)}", flush=True)
    log = WORK / "pretrain.log"
    with log.open("w") as out:
        done = subprocess.run([sys.executable, "pretrain.py", *words], cwd=HERE, check=False, stderr=out)
    if done.returncode:
        sys.exit(f"pre-training failed:\n{log.read_text()[-2000:]}")


def show(month: str, *words: str) -> None:
    """A complaint and another review of the month, as they are; with some of the words, where there are any."""
    rows = make_data.reviews(month, 500).to_pylist()
    fitting = [row for row in rows if not words or any(word in row["review"] for word in words)]
    for complaint in (True, False):
        found = next((row["review"] for row in fitting if row["complaint"] is complaint), None)
        if found:
            print(f"   {'complains' if complaint else 'does not':<10} “{found}”")


def main(*, small: bool) -> None:
    started = time.monotonic()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    os.environ.setdefault("COLUMNS", "100")
    # where the candidate `words` finds its function
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    rows = 900 if small else 3000

    say("reviews that a seeded grammar makes; nobody wrote them, so that we know what changes and when")
    show("2025-01")
    say("a small network learns from last year's reviews, without labels, which words go together")
    pretrain(*(["--rows", "2400", "--epochs", "1"] if small else []))

    say("January to March are here: adapters on that network against counted words; the first champion")
    make_data.write(DATA, ["2025-01", "2025-02", "2025-03"], rows=rows)
    upkeep("run")

    if not small:
        say("April: three new products, and new words of praise and blame")
        show("2025-04", *make_data.NEWER_GOOD, *make_data.NEWER_BAD)
        make_data.write(DATA, ["2025-04"], rows=rows)
        upkeep("run", "--supersede")

    say("May: a third of the complaints praise what they complain about")
    show("2025-05", "slow clap", "bravo", "obviously")
    make_data.write(DATA, ["2025-05"], rows=rows)
    upkeep("run", "--supersede")

    say("what there is now")
    upkeep("versions", "list")
    print(f"\ndone in {time.monotonic() - started:.0f} s")
    print(f"the updates' pages: {WORK / 'store/review-complaints/updates'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A network that reads reviews, adapted month by month.")
    parser.add_argument("--small", action="store_true", help="look whether all parts run; the figures mean nothing")
    main(small=parser.parse_args().small)
