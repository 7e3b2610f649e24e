"""Rows of a data file as live requests, paced, and their labels, which come later: a month can be lived in minutes.

Requests carry what a client would send: features, and where the spec names them the row's id, time, slices and split
key; never the target. The load is bounded in count and time.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import orjson
import pyarrow as pa

from upkeep.data.collect import collect
from upkeep.data.dataset import DataFile
from upkeep.data.kinds import to_kind
from upkeep.data.layout import layout
from upkeep.data.privacy import protect
from upkeep.data.read import format_of, local_path, read_batches
from upkeep.data.split import period_of
from upkeep.errors import DataError, InputError, OutsideError, Where
from upkeep.monitor.labels import label_rules
from upkeep.serving.manifests import VERSION_HEADER, host
from upkeep.spec.model import ModelSpec
from upkeep.store import open_store

IN_FLIGHT = 128
"""Requests under way at most; beyond, the pace waits."""
TIMEOUT = 10.0
BATCH_ROWS = 1024


class Row(NamedTuple):
    """One row to be asked."""

    id: str | None
    """``data.id``; None where the spec has none."""
    body: bytes
    """The v1 request."""
    label: str | None


@dataclass(kw_only=True)
class Traffic:
    """What was sent, and what came back."""

    sent: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    """HTTP status, or why there was none → requests."""
    versions: Counter[str] = field(default_factory=Counter)
    """Version → answers with status 200."""
    behind: int = 0
    """Requests that went out more than a second late: this machine, or what answers, could not keep the pace."""
    labels: int = 0
    """Labels written."""
    labels_lost: int = 0
    """Labels that were still to come when it was stopped."""
    seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)
    """Of each answered request."""

    @property
    def answered(self) -> int:
        return self.statuses["200"]

    @property
    def lost(self) -> int:
        """Requests without an answer, and those that ended in a 5xx."""
        return sum(count for status, count in self.statuses.items() if not status.isdecimal() or status >= "500")

    def summary(self) -> dict[str, Any]:
        """JSON's own types."""
        times = np.array(self.milliseconds or [math.nan])
        quantiles = {f"p{at}_ms": float(np.percentile(times, at)) for at in (50, 95, 99)} if self.milliseconds else {}
        return {
            "sent": self.sent,
            "answered": self.answered,
            "lost": self.lost,
            "statuses": dict(sorted(self.statuses.items())),
            "versions": dict(sorted(self.versions.items())),
            "behind": self.behind,
            "labels": self.labels,
            "labels_lost": self.labels_lost,
            "seconds": round(self.seconds, 3),
            "per_second": round(self.sent / self.seconds, 1) if self.seconds else 0.0,
            **{name: round(value, 2) for name, value in quantiles.items()},
        }


# --- rows ----------------------------------------------------------------------------------------------------------


def rows_of(spec: ModelSpec, data: str, environ: Mapping[str, str]) -> Iterator[Row]:
    """The rows of ``data``: a file, a folder, an s3:// address, or the name of a period of ``data.source``.

    Columns of ``privacy.hash`` go out as hashes, as the model learned them. Raises :class:`DataError`.
    """
    hide = protect(spec.data.privacy, environ)
    found = layout(spec.data)
    period = "" if _is_there(data) else data
    source = spec if period else replace(spec, data=replace(spec.data, source=data))
    files = [DataFile(uri=data, name=Path(data).name, format=format_of(data) or "", period=None, digest="", size=0,
                      rows=None)] if format_of(data) else collect(source, environ=environ).files  # fmt: skip
    if period:
        files = [file for file in files if file.period in (None, period)]
        if not files or (files[0].period is None and (found.time is None or spec.data.period is None)):
            raise DataError(
                f"{data} is no file, and no period of the source either",
                where=Where(file=spec.data.source),
                fix="name a data file, a folder or a period",
            )
    for file in files:
        for batch in read_batches(file, spec, batch_rows=BATCH_ROWS):
            good = batch.filter(batch.column("_unreadable").is_null())
            yield from _batch_rows(spec, hide(good), period if file.period is None else "")


def _is_there(data: str) -> bool:
    path = local_path(data)
    return path is None or path.exists()


def _batch_rows(spec: ModelSpec, batch: Any, period: str) -> Iterator[Row]:
    found = layout(spec.data)
    if period and found.time is not None and spec.data.period is not None:
        times, _ = to_kind(batch.column(found.time), "datetime")
        batch = batch.filter(pa.compute.equal(period_of(times, spec.data.period), period))
    values = {}
    for column in found.columns:
        array = to_kind(batch.column(column.name), column.kind)[0]
        plain = array.to_pylist()
        if column.kind == "datetime":
            plain = [None if value is None else value.isoformat() for value in plain]
        elif column.kind == "numeric":
            plain = [value if value is not None and math.isfinite(value) else None for value in plain]
        values[column.name] = plain
    labels = to_kind(batch.column(found.target), "categorical")[0].to_pylist()
    ids = values[spec.data.id] if spec.data.id else [None] * len(labels)
    for place, label in enumerate(labels):
        row = {name: column[place] for name, column in values.items()}
        yield Row(ids[place], orjson.dumps({"instances": [row]}), label)


# --- requests ------------------------------------------------------------------------------------------------------


def gateway_url(spec: ModelSpec) -> str:
    """The one-machine cluster's address. Raises :class:`OutsideError` when none runs."""
    from upkeep.serving.local.ask import running_gateway
    from upkeep.serving.local.folder import Folder, default_folder

    return f"http://127.0.0.1:{running_gateway(Folder(default_folder(spec))).port}"


def is_labelled(key: str, share: float) -> bool:
    """Whether a row's label will come: by a hash of its key, so that it depends on nothing else."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") < share * 2**64


class LabelWriter:
    """Writes labels that are due as JSON-lines files, each whole or not at all."""

    def __init__(self, spec: ModelSpec) -> None:
        """Raises what :func:`upkeep.store.open_store` does."""
        self._rules = label_rules(spec)
        self._store = open_store(spec.monitoring.labels, spec.object_store)
        self._run = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
        self._files = 0

    def write(self, labels: list[tuple[str, str, datetime]]) -> None:
        """(id, label, when it became known)."""
        rules = self._rules
        lines = [
            orjson.dumps({rules.id: key, rules.label: label} | ({rules.time: known.isoformat()} if rules.time else {}))
            for key, label, known in labels
        ]
        self._files += 1
        self._store.put(f"replay-{self._run}-{self._files:05}.jsonl", b"\n".join(lines) + b"\n")


def send(
    spec: ModelSpec,
    rows: Iterator[Row],
    *,
    url: str,
    rate: float,
    most_seconds: float,
    most_rows: int | None = None,
    label_delay: float = 30.0,
    label_share: float = 1.0,
    tick: Callable[[Traffic], None] | None = None,
) -> Traffic:
    """Send ``rows`` at ``rate`` a second until they end, or ``most_rows`` or ``most_seconds`` are over; then wait for
    the labels that are still to come.

    A label comes ``label_delay`` seconds after its answer, for ``label_share`` of the rows; where the spec does not say
    where labels arrive, none does. ``tick`` is told once a second. Raises :class:`OutsideError` where nothing listens.
    """
    sender = _Sender(spec, url, rate, most_seconds, most_rows, label_delay, label_share, tick)
    try:
        asyncio.run(sender.run(rows))
    finally:
        sender.done.labels_lost = len(sender.coming)
    return sender.done


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where requests go, taken apart."""

    url: str
    host: str
    port: int
    tls: bool
    head: bytes
    """A request's first lines, which are always the same."""

    @staticmethod
    def of(url: str, path: str, model_host: str) -> Address:
        """Raises :class:`InputError` where the URL is none of http or https."""
        parts = urlsplit(url)
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            port = 0
        if parts.scheme not in ("http", "https") or not parts.hostname or not port:
            raise InputError(f"{url} is no http:// or https:// address", fix="write it like http://127.0.0.1:8080")
        target = f"{parts.path.rstrip('/')}{path}"
        head = f"POST {target} HTTP/1.1\r\nhost: {model_host}\r\ncontent-type: application/json\r\n"
        whole = f"{parts.scheme}://{parts.netloc}{target}"
        return Address(url=whole, host=parts.hostname, port=port, tls=parts.scheme == "https", head=head.encode())


class Connection:
    """One kept-alive connection, a request at a time. A client library costs several times the CPU, which on one
    machine is what the servers need."""

    def __init__(self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._head, self._reader, self._writer = address.head, reader, writer

    @staticmethod
    async def open(address: Address) -> Connection:
        """Raises ``OSError``."""
        return Connection(address, *await asyncio.open_connection(address.host, address.port, ssl=address.tls or None))

    async def post(self, body: bytes, identity: str) -> tuple[int, dict[str, str]]:
        """The answer's status and headers, its body read. Raises ``OSError``, ``ValueError`` for what is no HTTP, and
        what :class:`asyncio.StreamReader` does."""
        self._writer.write(
            self._head
            + f"ce-id: {identity}\r\nx-request-id: {identity}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split(" ", 2)[1])
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
                await self._reader.readexactly(size + 2)
            await self._reader.readuntil(b"\r\n")
        else:
            await self._reader.readexactly(int(headers.get("content-length", "0")))
        return status, headers

    def close(self) -> None:
        self._writer.close()


class _Sender:
    def __init__(
        self,
        spec: ModelSpec,
        url: str,
        rate: float,
        most_seconds: float,
        most_rows: int | None,
        label_delay: float,
        label_share: float,
        tick: Callable[[Traffic], None] | None,
    ) -> None:
        self._address = Address.of(url, f"/v1/models/{spec.name}:predict", host(spec))
        self._idle: list[Connection] = []
        self._rate, self._most_seconds, self._most_rows = rate, most_seconds, most_rows
        self._delay, self._share, self._tick = label_delay, label_share, tick
        self._writer = LabelWriter(spec) if spec.monitoring.labels else None
        self.done = Traffic()
        self.coming: list[tuple[float, str, str]] = []
        """(due, id, label), by due."""

    async def run(self, rows: Iterator[Row]) -> None:
        await self._reach()
        clock = asyncio.create_task(self._clock())
        try:
            await self._send(rows)
            while self.coming:
                await asyncio.sleep(max(min(self.coming[0][0] - time.monotonic(), 1.0), 0.01))
                self._write_due()
        finally:
            clock.cancel()
            for connection in self._idle:
                connection.close()
        if self._tick:
            self._tick(self.done)

    async def _reach(self) -> None:
        """Open the first connection."""
        try:
            self._idle.append(await self._connect())
        except (OSError, TimeoutError) as error:
            raise OutsideError(
                f"nothing answers there: {error or type(error).__name__}",
                where=Where(file=self._address.url),
                fix="start the cluster with `upkeep up`, or give another --url",
            ) from error

    async def _connect(self) -> Connection:
        return await asyncio.wait_for(Connection.open(self._address), TIMEOUT)

    async def _send(self, rows: Iterator[Row]) -> None:
        places = asyncio.Semaphore(IN_FLIGHT)
        tasks: set[asyncio.Task[None]] = set()
        start = time.monotonic()
        for number, row in enumerate(rows):
            due = start + number / self._rate
            if number == self._most_rows or due - start >= self._most_seconds:
                break
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            await places.acquire()
            now = time.monotonic()
            if now - start >= self._most_seconds:
                places.release()
                break
            self.done.behind += now > due + 1.0
            self.done.sent += 1
            task = asyncio.create_task(self._ask(row))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(lambda _: places.release())
        await asyncio.gather(*tasks)
        self.done.seconds = time.monotonic() - start

    async def _ask(self, row: Row) -> None:
        identity = uuid.uuid4().hex
        start = time.monotonic()
        connection: Connection | None = None
        try:
            connection = self._idle.pop() if self._idle else await self._connect()
            status, headers = await asyncio.wait_for(connection.post(row.body, identity), TIMEOUT)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            if connection is not None:
                connection.close()
            self.done.statuses["no answer" if isinstance(error, TimeoutError) else "connection lost"] += 1
            return
        if headers.get("connection", "").lower() == "close":
            connection.close()
        else:
            self._idle.append(connection)
        now = time.monotonic()
        self.done.statuses[str(status)] += 1
        if status != 200:
            return
        self.done.milliseconds.append((now - start) * 1000)
        self.done.versions[headers.get(VERSION_HEADER, "unknown")] += 1
        key = row.id or identity
        if self._writer is not None and row.label is not None and is_labelled(key, self._share):
            self.coming.append((now + self._delay, key, row.label))

    async def _clock(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._write_due()
            if self._tick:
                self._tick(self.done)

    def _write_due(self) -> None:
        now = time.monotonic()
        due = [each for each in self.coming if each[0] <= now]
        if due and self._writer is not None:
            moment = datetime.now(UTC)
            self._writer.write([(key, label, moment) for _, key, label in due])
            self.coming = self.coming[len(due) :]
            self.done.labels += len(due)
