"""Drives a rollout with a controller that is killed: ``python -m tests.e2e.rollout_killed SPEC KILLED``.

Every look is a process of its own. The first time that an effect comes in a phase, the process is killed (SIGKILL)
right after it, so before the next one; the file KILLED lists where. Ends when nothing is under way.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from upkeep import api
from upkeep.rollout.connect import connect
from upkeep.rollout.controller import effects, see

RESTS = 17


def look(spec_path: str, killed: Path) -> None:
    """One look, in this very process. Exits with RESTS when nothing is under way."""
    with connect(api.load_spec(spec_path)) as model:
        known = set(killed.read_text().splitlines()) if killed.exists() else set()
        phase = see(model, datetime.now(UTC)).state.phase
        steps = effects(model, datetime.now(UTC))
        while True:
            try:
                effect = next(steps)
            except StopIteration as end:
                os._exit(RESTS if end.value.rests else 0)
            effect.run()
            place = f"{phase}: {effect.name}"
            if place not in known:
                with killed.open("a") as file:
                    file.write(place + "\n")
                os.kill(os.getpid(), signal.SIGKILL)


def main(spec_path: str, killed: Path) -> None:
    end = time.monotonic() + 200
    while time.monotonic() < end:
        child = os.fork()
        if child == 0:
            try:
                look(spec_path, killed)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == RESTS:
            return
        time.sleep(0.3)
    sys.exit("it did not come to rest")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
