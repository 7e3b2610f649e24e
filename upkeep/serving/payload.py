"""The payload log: requests and answers as CloudEvents, one JSON line each, in a folder or in object storage.

::

    <place>/date=2026-03-01/hour=14/<service>-<pid>-<start>.jsonl       UTC, by the time of the request

An object cannot be added to: there each minute is one of its own, and the names end in a random word, since in
containers processes have the same id, and in a number.

The attributes are those that KServe's agent sets (``pkg/logger/worker.go``), and ``upkeepversion``: the version that
answered. A request and its response carry the same ``id``. A line is in CloudEvents' structured form: ``data`` holds a
JSON body as it came, ``data_base64`` any other; both are left out where the body must not be kept.
"""

from __future__ import annotations

import base64
import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol

import orjson

from upkeep.errors import UpkeepError
from upkeep.spec.model import ModelSpec
from upkeep.store import Store

REQUEST: Final = "org.kubeflow.serving.inference.request"
RESPONSE: Final = "org.kubeflow.serving.inference.response"

FLUSH_SECONDS = 0.1
MOST_EVENTS = 20_000
MOST_BYTES = 64 << 20
"""What may wait to be written; beyond either, events are dropped and counted."""
WRITE_EVENTS = 1_000
"""Events in one write."""
PART_SECONDS = 60.0
PART_BYTES = 8 << 20
"""An object is put after so long, or when it is so large; a crash loses what was not put."""

log = logging.getLogger("upkeep.serving.server")


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of the log."""

    id: str
    """The request's: the caller's ``Ce-Id``, else ``x-request-id``, else one that the server made."""
    kind: Literal["request", "response"]
    time: datetime
    """UTC: when the request had come in whole, or when the response was ready."""
    service: str
    """The InferenceService's name: ``flight-delays-v12``."""
    namespace: str
    version: str
    """``v12``; empty when KServe's own agent wrote the event."""
    source: str = ""
    component: str = ""
    endpoint: str = ""
    content_type: str = ""
    data: Any = None
    """The body: JSON's own types, or bytes when it was no JSON; None when it was not kept."""


class _Waiting(NamedTuple):
    kind: str
    id: str
    requested: float
    at: float
    content_type: str
    body: bytes
    is_json: bool | None


def server_options(spec: ModelSpec) -> dict[str, str]:
    """The model server's options for the log that a spec asks for; without one, none."""
    payloads, privacy = spec.monitoring.payloads, spec.data.privacy
    if not payloads.log:
        return {}
    place = payloads.source or f"{spec.store.rstrip('/')}/{spec.name}/payloads"
    kept_out = ",".join((*privacy.drop, *privacy.hash))
    return {
        "--namespace": spec.serving.namespace,
        "--payloads": place,
        **({"--payload-drop": kept_out} if kept_out else {}),
    }


class PayloadLog:
    """The writer: :meth:`put` never blocks and never raises; a thread writes what was put, every 0.1 s.

    ``place``: a folder, or what opens an object store: that it cannot be opened now keeps no server from answering.
    ``columns``: the model's, in its manifest's order, so that ``drop`` finds the dropped ones in rows that are lists.
    ``drop``: columns that must not be kept. With any, bodies are written anew without them, and a body in which they
    cannot be found for certain is left out. :meth:`put` is for one thread (the event loop's).
    """

    def __init__(
        self,
        place: Path | Callable[[], Store],
        *,
        service: str,
        namespace: str,
        version: str,
        source: str = "",
        columns: Sequence[str] = (),
        drop: Sequence[str] = (),
        most_events: int = MOST_EVENTS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.columns = tuple(columns)
        self._drop = frozenset(drop)
        self._most_events, self._most_bytes = most_events, most_bytes
        name = f"{service}-{os.getpid()}-{time.time_ns() // 1_000_000}"
        self._place: _Place
        if isinstance(place, Path):
            self._place = _Files(place, f"{name}.jsonl")
        else:
            self._place = _Objects(place, f"{name}-{secrets.token_hex(4)}", most_bytes)
        self._heads = {
            kind: orjson.dumps(
                {
                    "specversion": "1.0",
                    "type": kind,
                    "source": source or f"/{namespace}/{service}",
                    "inferenceservicename": service,
                    "namespace": namespace,
                    "component": "predictor",
                    "endpoint": "",
                    "upkeepversion": version,
                }
            )[:-1]
            for kind in (REQUEST, RESPONSE)
        }
        self._queue: deque[_Waiting] = deque()
        self._bytes_in = self._bytes_out = 0
        self._dropped = {"full": 0, self._place.lost_for: 0}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="payload-log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> dict[str, int]:
        """Events that are not in the log, by reason: ``full`` (the queue), ``disk`` or ``store`` (it could not be
        written)."""
        return dict(self._dropped)

    def put(
        self,
        kind: Literal["request", "response"],
        id: str,
        *,
        requested: float,
        at: float,
        body: bytes,
        content_type: str = "application/json",
        is_json: bool | None = True,
    ) -> None:
        """Keep one event.

        ``requested``, ``at``: seconds since the epoch of the request and of this event; the first names the file.
        ``is_json``: None when nobody has looked.
        """
        if len(self._queue) >= self._most_events or self._bytes_in - self._bytes_out + len(body) > self._most_bytes:
            self._dropped["full"] += 1
            return
        self._bytes_in += len(body)
        cloud_type = REQUEST if kind == "request" else RESPONSE
        self._queue.append(_Waiting(cloud_type, id, requested, at, content_type, body, is_json))

    def close(self) -> None:
        """Write what waits, and end the thread. What is put afterwards is lost."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self._write_waiting()
        self._write_waiting()
        self._dropped[self._place.lost_for] += self._place.close()

    def _write_waiting(self) -> None:
        while self._queue:
            lines: dict[str, list[bytes]] = {}
            size = 0
            for _ in range(min(len(self._queue), WRITE_EVENTS)):
                event = self._queue.popleft()
                size += len(event.body)
                hour = datetime.fromtimestamp(event.requested, UTC).strftime("date=%Y-%m-%d/hour=%H")
                lines.setdefault(hour, []).append(self._line(event))
            for hour, some in lines.items():
                if not self._place.append(hour, some):
                    self._dropped[self._place.lost_for] += len(some)
            self._bytes_out += size
        self._place.tick()

    def _line(self, event: _Waiting) -> bytes:
        moment = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="microseconds")
        parts = [
            self._heads[event.kind],
            b',"id":',
            orjson.dumps(event.id),
            b',"time":"',
            moment[:-6].encode(),
            b'Z","datacontenttype":',
            orjson.dumps(event.content_type),
        ]
        body, is_json = event.body, event.is_json
        if self._drop and event.kind == REQUEST:
            kept = without_columns(body, self._drop, self.columns)
            if kept is not None:
                parts += [b',"data":', kept]
        elif is_json or (is_json is None and _is_json(body)):
            if b"\n" in body or b"\r" in body:  # only between JSON's values: within text they are escaped
                body = body.replace(b"\n", b" ").replace(b"\r", b" ")
            parts += [b',"data":', body]
        else:
            parts += [b',"data_base64":"', base64.b64encode(body), b'"']
        parts.append(b"}\n")
        return b"".join(parts)


class _Place(Protocol):
    """Where lines are kept. Never raises."""

    lost_for: str
    """Why a line that it could not keep is lost."""

    def append(self, hour: str, lines: list[bytes]) -> bool:
        """Whether it keeps them; if not, none of them."""

    def tick(self) -> None:
        """Called often."""

    def close(self) -> int:
        """How many lines are lost after all."""


class _Files:
    """One file an hour."""

    lost_for = "disk"

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._files: dict[str, _File] = {}

    def append(self, hour: str, lines: list[bytes]) -> bool:
        if hour not in self._files:
            for old in sorted(self._files)[:-1]:  # a long request's response may still belong to the hour before
                self._files.pop(old).close()
            self._files[hour] = _File(self._folder / hour / self._name)
        return self._files[hour].append(b"".join(lines))

    def tick(self) -> None:
        pass

    def close(self) -> int:
        for file in self._files.values():
            file.close()
        return 0


class _Objects:
    """Several objects an hour. What the store does not take now waits in memory for the next time."""

    lost_for = "store"

    def __init__(self, open_store: Callable[[], Store], name: str, most_bytes: int) -> None:
        self._open, self._name, self._most_bytes = open_store, name, most_bytes
        self._store: Store | None = None
        self._waiting: dict[str, list[bytes]] = {}
        self._size = 0
        self._number = 0
        self._next = time.monotonic() + PART_SECONDS
        self._failing = False

    def append(self, hour: str, lines: list[bytes]) -> bool:
        size = sum(map(len, lines))
        if self._size + size > self._most_bytes:
            return False
        self._waiting.setdefault(hour, []).extend(lines)
        self._size += size
        return True

    def tick(self) -> None:
        if time.monotonic() >= self._next or (self._size >= PART_BYTES and not self._failing):
            self._put()

    def close(self) -> int:
        self._put()
        return sum(map(len, self._waiting.values()))

    def _put(self) -> None:
        self._next = time.monotonic() + PART_SECONDS
        for hour in list(self._waiting):
            data = b"".join(self._waiting[hour])
            try:
                self._store = self._store or self._open()
                # the same name until it is certain: what is put again starts with what may be there already
                self._store.put(f"{hour}/{self._name}-{self._number}.jsonl", data)
            except UpkeepError as error:
                if not self._failing:
                    log.warning("the payload log cannot be written; it waits in memory: %s", error)
                self._failing = True
                return
            self._number += 1
            self._failing = False
            self._size -= len(data)
            del self._waiting[hour]


class _File:
    """Appends whole lines; what a full disk cut is taken back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._torn = False

    def append(self, data: bytes) -> bool:
        """Whether all of ``data`` is in the file now; if not, nothing of it counts."""
        try:
            if self._descriptor is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
            if self._torn:
                data = b"\n" + data
            start = os.fstat(self._descriptor).st_size
        except OSError:
            return False
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            self._torn = True
            with suppress(OSError):
                os.ftruncate(self._descriptor, start)
                self._torn = False
            return False
        self._torn = False
        return True

    def close(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


def without_columns(body: bytes, drop: frozenset[str], columns: Sequence[str]) -> bytes | None:
    """A request's body without the values of some columns; None when they cannot be found for certain.

    Objects lose the keys, rows that are lists (in the order of ``columns``) get null there, v2 loses the tensors.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict):
        return None
    kept: dict[str, Any] = {}
    instances, inputs = document.get("instances"), document.get("inputs")
    if isinstance(instances, list):
        places = {place for place, name in enumerate(columns) if name in drop}
        rows: list[Any] = []
        for row in instances:
            if isinstance(row, dict):
                rows.append({name: value for name, value in row.items() if name not in drop})
            elif isinstance(row, list) and len(row) == len(columns):
                rows.append([None if place in places else value for place, value in enumerate(row)])
            else:
                return None
        kept["instances"] = rows
    elif isinstance(inputs, list) and all(
        isinstance(tensor, dict) and isinstance(tensor.get("name"), str) for tensor in inputs
    ):
        kept["inputs"] = [tensor for tensor in inputs if tensor["name"] not in drop]
    else:
        return None
    if isinstance(document.get("id"), str) and "id" not in drop:
        kept = {"id": document["id"], **kept}
    try:
        return orjson.dumps(kept)
    except orjson.JSONEncodeError:  # it has more levels than can be written
        return None


# --- read back -----------------------------------------------------------------------------------------------------


def read_events(folder: Path) -> Iterator[Event]:
    """The log's events, hour by hour; within an hour file by file, each in the order of writing.

    What is no event (a line that a crash cut, or that is still being written) is skipped, and so is a file that goes
    away meanwhile. No folder is an empty log.
    """
    for path in sorted(folder.glob("date=*/hour=*/*.jsonl")):
        with suppress(FileNotFoundError), path.open("rb") as file:
            for line in file:
                event = read_line(line)
                if event is not None:
                    yield event


def read_line(line: bytes) -> Event | None:
    """The line's event; None when it is none."""
    try:
        fields = orjson.loads(line)
        kind: Literal["request", "response"] = {REQUEST: "request", RESPONSE: "response"}[fields["type"]]  # type: ignore[assignment]
        moment = datetime.fromisoformat(fields["time"])
        data = fields.get("data")
        if "data_base64" in fields:
            data = base64.b64decode(fields["data_base64"], validate=True)
        texts = {
            name: fields.get(key, "")
            for name, key in (
                ("service", "inferenceservicename"),
                ("namespace", "namespace"),
                ("version", "upkeepversion"),
                ("source", "source"),
                ("component", "component"),
                ("endpoint", "endpoint"),
                ("content_type", "datacontenttype"),
            )
        }
        identity = fields["id"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(identity, str) or not all(isinstance(text, str) for text in texts.values()):
        return None
    if moment.tzinfo is None:
        return None
    return Event(id=identity, kind=kind, time=moment.astimezone(UTC), data=data, **texts)
