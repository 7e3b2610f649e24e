"""Asks the running daemon by its status, and the running Envoy: what it really does, not what was written for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upkeep.errors import OutsideError, Where
from upkeep.serving.local.folder import Folder, read_json
from upkeep.serving.local.process import Process
from upkeep.serving.trust import trusted

START = "start it with `upkeep up`; `upkeep status` says what runs"


@dataclass(frozen=True, kw_only=True)
class RunningGateway:
    port: int
    """Where clients come in."""
    admin: str
    latencies: tuple[float, ...]
    """The objectives past which it counts a request as slow, in seconds."""
    epoch: str
    """Names this Envoy's life."""

    def get(self, path: str, parameters: Mapping[str, str]) -> Any:
        """A JSON answer of its admin interface. Raises :class:`OutsideError` when it gives none."""
        import httpx

        try:
            answer = httpx.get(
                f"{self.admin}{path}", params=dict(parameters), timeout=5.0, trust_env=False, verify=trusted()
            )
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise OutsideError(
                f"Envoy does not answer: {error or type(error).__name__}", where=Where(self.admin), fix=START
            ) from error


def running_gateway(folder: Folder) -> RunningGateway:
    """Raises :class:`OutsideError` when none runs."""
    record = read_json(folder.gateway)
    process = Process.adopt(record)
    if process is None or record is None:
        raise OutsideError("no gateway runs here", where=Where(str(folder.root)), fix=START)
    return RunningGateway(
        port=int(record["port"]),
        admin=str(record["admin"]),
        latencies=tuple(record.get("latencies", ())),  # one started by an older version says none
        epoch=f"{process.identity.pid}-{process.identity.started}",
    )


def read_status(folder: Folder) -> dict[str, Any]:
    """``status.json`` of the running cluster. Raises :class:`OutsideError` when none runs."""
    pid = folder.daemon()
    status: dict[str, Any] | None = read_json(folder.status)
    if pid is not None and status is not None and status["pid"] == pid:
        return status
    where = Where(str(folder.root))
    if pid is not None:
        raise OutsideError("the cluster here is starting, or stopping", where=where, fix="try again in a moment")
    left = ", ".join(name for name, _ in left_behind(folder))
    raise OutsideError(
        f"no cluster runs here any more; it left {left} running" if left else "no cluster runs here",
        where=where,
        fix=START,
    )


def left_behind(folder: Folder) -> list[tuple[str, Process]]:
    """What still runs by the records, the gateway first."""
    found = [(record.stem, Process.adopt(read_json(record))) for record in process_records(folder)]
    return [(name, process) for name, process in found if process is not None]


def process_records(folder: Folder) -> list[Path]:
    return [folder.gateway, *sorted(folder.servers.glob("*.json"))]
