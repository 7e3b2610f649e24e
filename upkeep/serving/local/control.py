"""Start a cluster from outside, and stop it: ``upkeep up --detach``, ``upkeep down``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from upkeep.errors import OutsideError, Where
from upkeep.serving.local.ask import left_behind, process_records
from upkeep.serving.local.folder import Folder, read_json
from upkeep.serving.local.process import Identity, Process, last_words, started

_GRACE = 10.0
_DAEMON_SECONDS = 90.0
_READY_SECONDS = 120.0


def start_detached(folder: Folder, specs: Sequence[str], port: int | None) -> dict[str, Any]:
    """Start the daemon in a process of its own; its status, once all that should serve is ready.

    Raises :class:`RefusedError` when one runs here, :class:`OutsideError` when it ends or is not ready in time: it
    goes on trying then.
    """
    folder.make()
    os.close(folder.hold())  # refuse here, where a person sees it
    log = folder.logs / "daemon.log"
    command = [sys.executable, "-c", "from upkeep.cli import main; main()", "up", "--folder", str(folder.root)]
    command += [word for spec in specs for word in ("--spec", str(Path(spec).absolute()))]
    command += ["--port", str(port)] if port else []
    process = Process.spawn(command, log=log, environ=os.environ, cwd=folder.root)
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end:
        if not process.alive:
            raise OutsideError(
                f"the cluster did not start: {last_words(log)}", where=Where(str(log)), fix="see its log"
            )
        status: dict[str, Any] | None = read_json(folder.status)
        if status is not None and folder.daemon() == process.identity.pid and _is_up(status):
            return status
        time.sleep(0.05)
    raise OutsideError(
        f"not everything is ready after {_READY_SECONDS:g} seconds; it goes on",
        where=Where(str(folder.root)),
        fix="`upkeep status` says what is missing",
    )


def _is_up(status: Mapping[str, Any]) -> bool:
    return bool(status["gateway"]) and all(
        model["looked"]
        and not model["problems"]
        and model["weights"] == model["git_weights"]
        and all(
            condition["status"] == "True" for each in model["services"] for condition in each["status"]["conditions"]
        )
        for model in status["models"].values()
    )


def stop(folder: Folder) -> list[str]:
    """Stop the daemon, and what an earlier one left behind; what was stopped, a sentence each."""
    said = []
    pid = folder.daemon()
    if pid is not None and (began := started(pid)):
        daemon = Identity(pid=pid, started=began)
        with suppress(ProcessLookupError):  # it ended by itself just now
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + _DAEMON_SECONDS
        while daemon.alive:
            if time.monotonic() > end:
                raise OutsideError(
                    f"the cluster did not stop within {_DAEMON_SECONDS:g} seconds",
                    where=Where(str(folder.root)),
                    fix=f"see {folder.logs / 'daemon.log'}, and try again",
                )
            time.sleep(0.05)
        said.append("stopped the cluster")
    for name, process in left_behind(folder):
        asyncio.run(process.stop(_GRACE))
        said.append(f"stopped {name}, which an earlier cluster had left")
    for record in process_records(folder):
        record.unlink(missing_ok=True)
    folder.status.unlink(missing_ok=True)
    return said
