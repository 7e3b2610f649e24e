"""The folder of a one-machine cluster: everything that its parts tell each other stands in files.

::

    <folder>/cluster.json          the ports, kept over restarts
             status.json           what runs and serves, written at every change
             gateway.json          the running Envoy; envoy/ holds its configuration
             servers/<service>.json   a running model server
             applied/<model>.json  the newest manifests that made sense
             brakes/<model>.json   weights that are forced
             wake                  touched: look at Git now
             logs/                 of every process, and the gateway's access log
             lock                  held by the daemon for as long as it lives
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from upkeep.errors import RefusedError, Where
from upkeep.spec.model import ModelSpec

VARIABLE = "UPKEEP_CLUSTER"
"""The environment variable that names the folder, where it is not the default one."""


class Folder:
    """The paths, and the few files that more than one process writes or reads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = root / "cluster.json"
        self.status = root / "status.json"
        self.gateway = root / "gateway.json"
        self.envoy = root / "envoy"
        self.servers = root / "servers"
        self.applied = root / "applied"
        self.brakes = root / "brakes"
        self.wake = root / "wake"
        self.logs = root / "logs"
        self._lock = root / "lock"

    def make(self) -> None:
        for path in (self.root, self.envoy, self.servers, self.applied, self.brakes, self.logs):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def hold(self) -> int:
        """Take the lock for as long as this process lives; its file descriptor.

        Raises :class:`RefusedError` when another daemon holds it.
        """
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise RefusedError(
                "a cluster runs in this folder already",
                where=Where(str(self.root)),
                fix="`upkeep status` shows it and `upkeep down` stops it; for a second one give another --folder",
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        return descriptor

    def daemon(self) -> int | None:
        """The running daemon's process id; None: none runs."""
        try:
            descriptor = os.open(self._lock, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            text = os.read(descriptor, 32).decode(errors="replace")
            return int(text) if text.isdecimal() else None
        finally:
            os.close(descriptor)
        return None

    def read_wake(self) -> bytes:
        try:
            return self.wake.read_bytes()
        except FileNotFoundError:
            return b""

    def write_wake(self) -> None:
        """Ask the daemon to look at Git now. Nothing happens where there is no cluster."""
        if self.root.is_dir():
            self.wake.write_text(str(time.time_ns()))

    def read_brake(self, model: str) -> dict[str, int] | None:
        """The forced weights; None: nothing is forced, or the file makes no sense."""
        weights = (read_json(self.brakes / f"{model}.json") or {}).get("weights")
        if not isinstance(weights, dict) or not all(isinstance(weight, int) for weight in weights.values()):
            return None
        return {str(version): weight for version, weight in weights.items()}

    def write_brake(self, model: str, weights: Mapping[str, int] | None) -> None:
        path = self.brakes / f"{model}.json"
        if weights is None:
            path.unlink(missing_ok=True)
        else:
            write_json(path, {"weights": dict(weights)})


def default_folder(spec: ModelSpec, environ: Mapping[str, str] | None = None) -> Path:
    """Where the cluster of ``spec`` (resolved) is: what ``UPKEEP_CLUSTER`` says, ``<store>/cluster`` when the store
    is a folder, else a folder of the user's own for the repository."""
    environ = os.environ if environ is None else environ
    if given := environ.get(VARIABLE):
        return Path(given).expanduser().absolute()
    store = spec.store
    if "://" not in store:
        return Path(store).absolute() / "cluster"
    if store.startswith("file://"):
        return Path(unquote(urlsplit(store).path)) / "cluster"
    home = Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / "upkeep" / hashlib.sha256(spec.rollout.repository.encode()).hexdigest()[:12]


def write_json(path: Path, value: Any) -> None:
    """Write whole or not at all: others read at any time."""
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(value, file, indent=1)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any | None:
    """The file's value; None when it is not there, or no JSON (a disk that was full)."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
