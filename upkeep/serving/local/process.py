"""One process that this cluster started, in this daemon's life or in an earlier one's.

A process is known by its id and its start time together: an id that the system gave away again is never taken for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_POLL = 0.1
MOST_LOG_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Identity:
    pid: int
    started: str
    """When, in the kernel's own words."""

    @property
    def alive(self) -> bool:
        return started(self.pid) == self.started


def started(pid: int) -> str | None:
    """When the process began; None: it is not there, or has ended and only waits to be collected."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
    else:
        return None if fields[0] in (b"Z", b"X") else fields[19].decode()
    said = subprocess.run(
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, when = said.stdout.strip().partition(" ")
    return None if said.returncode or state.startswith("Z") else when.strip()


class Process:
    """A running process, started here or adopted."""

    def __init__(self, identity: Identity, child: subprocess.Popen[bytes] | None = None) -> None:
        self.identity = identity
        self._child = child

    @classmethod
    def spawn(cls, command: Sequence[str], *, log: Path, environ: Mapping[str, str], cwd: Path) -> Process:
        """Start it in a session of its own: it outlives this daemon. What it says goes to the end of ``log``."""
        trim(log)
        with log.open("ab") as file:
            child = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=dict(environ),
                cwd=cwd,
                start_new_session=True,
            )
        return cls(Identity(pid=child.pid, started=started(child.pid) or "ended"), child)

    @classmethod
    def adopt(cls, record: Any) -> Process | None:
        """The process of an earlier daemon, by what :attr:`record` was; None: it is not there any more."""
        try:
            identity = Identity(pid=int(record["pid"]), started=str(record["started"]))
        except (KeyError, TypeError, ValueError):
            return None
        return cls(identity) if identity.alive else None

    @property
    def record(self) -> dict[str, Any]:
        return {"pid": self.identity.pid, "started": self.identity.started}

    @property
    def alive(self) -> bool:
        return self._child.poll() is None if self._child is not None else self.identity.alive

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs, after a signal, and for an adopted one."""
        code = self._child.returncode if self._child is not None else None
        return code if code is not None and code >= 0 else None

    async def wait(self) -> str:
        """Return as soon as it has ended: how it did, for people."""
        loop = asyncio.get_running_loop()
        while self.alive:
            try:
                descriptor = os.pidfd_open(self.identity.pid)
            except (AttributeError, OSError):  # no such system call here, or it has just ended
                await asyncio.sleep(_POLL)
                continue
            ended = asyncio.Event()
            loop.add_reader(descriptor, ended.set)
            try:
                if self.alive:
                    await ended.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        if self._child is None:
            return "ended"
        code = self._child.wait()
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def signal(self, number: int) -> None:
        """Send a signal to exactly this process; one that has ended is let be."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.identity.pid, number)

    async def stop(self, grace: float) -> None:
        """SIGTERM; SIGKILL when it has not ended after ``grace`` seconds."""
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), grace)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.wait()


def trim(log: Path, most: int = MOST_LOG_BYTES) -> None:
    """Keep a log bounded: past ``most`` bytes its content moves to ``<log>.1``, in place of what is there.

    It is truncated in place: processes append to the same file.
    """
    try:
        if log.stat().st_size <= most:
            return
        with log.open("rb+") as file, log.with_name(log.name + ".1").open("wb") as old:
            file.seek(-most, os.SEEK_END)
            old.write(file.read())
            file.truncate(0)
    except FileNotFoundError:
        return


_INFO = re.compile(r"\S+ \S+ INFO ")
"""How a model server's log tells of what goes well: date, time, level."""


def last_words(log: Path) -> str:
    """The line of a log that says most about an end: the last that begins with ``error``, else the last one that is not
    about a good start; empty: none does."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return ""
    errors = [line for line in lines if line.lower().startswith(("error", "upkeep:"))]
    others = [line for line in lines if not _INFO.match(line)]
    return (errors or others or [""])[-1][:300]
