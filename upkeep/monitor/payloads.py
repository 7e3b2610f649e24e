"""From the payload log to answered rows: which row was asked of which version when, and what it said.

A request and its response are two lines of the log with one id, not always in one file and not always in this order:
:class:`Pairing` keeps a line until the other one comes. What was read is known by each file's :data:`Marks`, so lines
that are written later into an old file are read too, and none is read twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from upkeep.data.kinds import Column, arrow_type, to_kind
from upkeep.data.layout import layout
from upkeep.data.read import local_path
from upkeep.data.validate import label_text
from upkeep.serving.payload import Event, read_line
from upkeep.spec.model import Label, ModelSpec, ObjectStore
from upkeep.store import MissingObject, Store, open_store

Marks = Mapping[str, int]
"""Key of a log file → the bytes of it that were read: whole lines only."""

BATCH_ROWS = 16_384
MOST_WAITING = 100_000
"""Lines without their other half that are kept; beyond, the oldest go."""
PATIENCE = timedelta(days=1)
"""How long a line waits for its other half. A request that failed has none."""

_HOUR = re.compile(r"(?:^|/)date=(\d{4}-\d\d-\d\d)/hour=(\d\d)/[^/]*\.jsonl$")
_VERSION = re.compile(r"-(v[1-9][0-9]*)$")

OWN = pa.schema(
    [
        ("_key", pa.string()),  # data.id where the client sent it; else the request's id, and /row where it had several
        ("_by_id", pa.bool_()),  # whether the key is data.id
        ("_whole", pa.bool_()),  # whether every feature was sent and kept: another model can be asked the same
        ("_request", pa.string()),
        ("_row", pa.int32()),  # within the request, from 0
        ("_time", pa.timestamp("us", tz="UTC")),  # of the request
        ("_version", pa.string()),
        ("_predicted", pa.string()),
        ("_probability", pa.float64()),  # of the positive class; without one, of the answer; null: unknown
    ]
)
"""The columns that every table of answers has; the others are the client's, named as in the spec."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is taken from each logged row."""

    id: str | None
    """The column ``data.id``."""
    columns: tuple[Column, ...]
    """The columns that are kept beside the answer."""
    order: tuple[str, ...]
    """What the values of a row that is a list are: the model's columns in their order."""
    positive: Label | None
    """The positive class."""

    @property
    def schema(self) -> Any:
        return pa.schema([*OWN, *((column.name, arrow_type(column.kind)) for column in self.columns)])


def wanted(spec: ModelSpec, *, features: bool = True) -> Wanted:
    """Slices and the split key, and with ``features`` every column that the spec names but the target."""
    found = layout(spec.data)
    kept = {*spec.data.slices, *((found.group_column,) if found.group_column else ())}
    return Wanted(
        id=spec.data.id,
        columns=tuple(column for column in found.columns if features or column.name in kept),
        order=spec.data.features.all,
        positive=spec.data.target.positive,
    )


# --- the log's files -----------------------------------------------------------------------------------------------


def log_files(store: Store, since: datetime | None = None, until: datetime | None = None) -> list[tuple[str, int]]:
    """(key, bytes) of the log's files in the order of their hours; ``since``: without hours that end before.

    With ``until``, too, other days are not even listed: a log of many objects is long.
    """
    days = [""]
    if since is not None and until is not None:
        first, last = (moment.astimezone(UTC).date() for moment in (since - timedelta(hours=2), until))
        days = [f"date={first + timedelta(days=day)}" for day in range((last - first).days + 1)]
    found = []
    for entry in (entry for day in days for entry in store.list(day)):
        start = hour_of(entry.key)
        if start is not None and (since is None or start + timedelta(hours=2) > since):
            found.append((entry.key, entry.size))
    return sorted(found)


def hour_of(key: str) -> datetime | None:
    """The start of the hour that a log file belongs to; None: it is no log file."""
    place = _HOUR.search(key)
    if not place:
        return None
    try:
        return datetime.fromisoformat(f"{place[1]}T{place[2]}:00:00+00:00")
    except ValueError:
        return None


def read_lines(store: Store, key: str, start: int) -> Iterator[tuple[bytes, int]]:
    """The file's whole lines from byte ``start`` on, each with the byte it ends at. A file that goes away ends it;
    a line without its end is still being written."""
    try:
        stream = store.open(key)
    except MissingObject:
        return
    with stream, suppress(FileNotFoundError, MissingObject):
        stream.seek(start)
        at = start
        for line in stream:
            if not line.endswith(b"\n"):
                return
            at += len(line)
            yield line, at


def sweep(store: Store, now: datetime, keep: timedelta, *, dry_run: bool = False) -> tuple[str, ...]:
    """Delete the log's hours that ended longer than ``keep`` ago; the keys. What is no part of the log stays."""
    gone = []
    for entry in store.list():
        start = hour_of(entry.key)
        if start is not None and start + timedelta(hours=1) + keep <= now:
            if not dry_run:
                store.delete(entry.key)
            gone.append(entry.key)
    root = local_path(store.uri)
    if not dry_run and root is not None:
        for folder in {each for key in gone for each in ((root / key).parent, (root / key).parent.parent)}:
            with suppress(OSError):  # something is still in it
                folder.rmdir()
    return tuple(sorted(gone))


# --- pairs of lines ------------------------------------------------------------------------------------------------


class Half(NamedTuple):
    """A line that waits for its other half."""

    event: Event
    line: bytes
    since: datetime
    """When it was read."""


@dataclass
class Pairing:
    """Finds request and response of one id, of one service, in whatever order they come. Of several with one id the
    newest goes with the newest: a request that failed before its client tried again stays alone."""

    waiting: dict[tuple[str, str, str], list[Half]] = field(default_factory=dict)
    """(kind, service, id) → halves, in the order they came."""

    def add(self, event: Event, line: bytes, now: datetime) -> tuple[Event, Event] | None:
        """(request, response) when this event completes them."""
        other = "response" if event.kind == "request" else "request"
        key = (other, event.service, event.id)
        there = self.waiting.get(key)
        if there is None:
            self.waiting.setdefault((event.kind, event.service, event.id), []).append(Half(event, line, now))
            return None
        half = there.pop()
        if not there:
            del self.waiting[key]
        return (event, half.event) if event.kind == "request" else (half.event, event)

    def forget(self, now: datetime) -> None:
        """Drop what waited too long, and the oldest of too many."""
        halves = self.halves()
        kept = [half for half in halves if half.since + PATIENCE > now][-MOST_WAITING:]
        if len(kept) < len(halves):
            self.waiting = {}
            for half in kept:
                self.waiting.setdefault((half.event.kind, half.event.service, half.event.id), []).append(half)

    def halves(self) -> list[Half]:
        """Everything that waits, oldest first."""
        every = [half for halves in self.waiting.values() for half in halves]
        return sorted(every, key=lambda half: half.since)


# --- rows ----------------------------------------------------------------------------------------------------------


class Answers:
    """Collects answered rows, to be taken away as Arrow batches."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.unreadable = 0
        """Pairs whose bodies do not say which rows were answered how."""
        self._own: dict[str, list[Any]] = {name: [] for name in OWN.names}
        self._columns: list[list[Any]] = [[] for _ in wanted.columns]

    def __len__(self) -> int:
        return len(self._own["_key"])

    def add(self, request: Event, response: Event) -> None:
        """One answered request; its rows, if its bodies can be read."""
        said = _predictions(response.data, self.wanted.positive)
        if said is None:
            self.unreadable += 1
            return
        names = [column.name for column in self.wanted.columns]
        values = _values(request.data, [*names, *((self.wanted.id,) if self.wanted.id else ())], self.wanted.order)
        whole = _whole(request.data, self.wanted.order)
        if values is None:
            values = [[None] * len(said) for _ in range(len(names) + bool(self.wanted.id))]
        if set(map(len, values)) - {len(said)}:
            self.unreadable += 1
            return
        version = request.version or response.version or _version_of(request.service)
        ids = [_text(value) for value in values.pop()] if self.wanted.id else [None] * len(said)
        own = self._own
        for row, (identity, (label, probability)) in enumerate(zip(ids, said, strict=True)):
            own["_key"].append(identity or (request.id if len(said) == 1 else f"{request.id}/{row}"))
            own["_by_id"].append(identity is not None)
            own["_whole"].append(whole[row] if row < len(whole) else False)
            own["_request"].append(request.id)
            own["_row"].append(row)
            own["_time"].append(request.time)
            own["_version"].append(version)
            own["_predicted"].append(label)
            own["_probability"].append(probability)
        for kept, column in zip(self._columns, values, strict=True):
            kept.extend(column)

    def take(self) -> Any:
        """The rows so far as a ``pa.RecordBatch`` of the schema :attr:`Wanted.schema`; none of them stays here."""
        arrays = [pa.array(self._own[name], OWN.field(name).type) for name in OWN.names]
        arrays += [_as_kind(values, column) for values, column in zip(self._columns, self.wanted.columns, strict=True)]
        for values in (*self._own.values(), *self._columns):
            values.clear()
        return pa.RecordBatch.from_arrays(arrays, schema=self.wanted.schema)


def _version_of(service: str) -> str:
    """KServe's own agent does not say the version: the service's name does."""
    found = _VERSION.search(service)
    return found[1] if found else ""


def _text(value: Any) -> str | None:
    """A JSON value as text, as :func:`upkeep.data.kinds.to_kind` makes a category of it; None: null, or no scalar."""
    kind = type(value)
    if kind is str:
        return value if value and not value.isspace() and value not in _WORDS else _WORDS.get(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return str(value)
    if kind is float:
        return str(to_kind(pa.array([value]), "categorical")[0][0].as_py())
    return None


_WORDS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}


def _as_kind(values: list[Any], column: Column) -> Any:
    array = pa.array([], pa.string())
    try:
        if column.kind == "numeric" and set(map(type, values)) <= _NUMBERS:
            array = pa.array([None if value is None else float(value) for value in values], pa.float64())
    except OverflowError:
        pass
    if len(array) != len(values):
        array = pa.array([_text(value) for value in values], pa.string())
    return to_kind(array, column.kind)[0]


_NUMBERS = {float, int, bool, type(None)}


def _values(body: Any, names: Sequence[str], order: Sequence[str]) -> list[list[Any]] | None:
    """A v1 or v2 request's values, a list a column; None where it says none (its body was not kept)."""
    if not isinstance(body, dict):
        return None
    rows, tensors = body.get("instances"), body.get("inputs")
    if isinstance(rows, list):
        dicts = [
            row if type(row) is dict
            else dict(zip(order, row, strict=True)) if type(row) is list and len(row) == len(order)
            else {}
            for row in rows
        ]  # fmt: skip
        return [[row.get(name) for row in dicts] for name in names]
    if isinstance(tensors, list):
        data = {
            tensor["name"]: [value[0] if type(value) is list and len(value) == 1 else value for value in tensor["data"]]
            for tensor in tensors
            if isinstance(tensor, dict) and isinstance(tensor.get("name"), str) and isinstance(tensor.get("data"), list)
        }
        length = max(map(len, data.values()), default=0)
        return [data.get(name, [None] * length) for name in names] if data else None
    return None


def _whole(body: Any, columns: Sequence[str]) -> list[bool]:
    """Whether a request's row has all the columns, null or not; a row that is a list does by its length."""
    if not isinstance(body, dict):
        return []
    needed = set(columns)
    if isinstance(body.get("instances"), list):
        return [
            row.keys() >= needed if type(row) is dict else type(row) is list and len(row) == len(columns)
            for row in body["instances"]
        ]
    tensors = body.get("inputs")
    if not isinstance(tensors, list):
        return []
    data = {tensor.get("name"): tensor.get("data") for tensor in tensors if isinstance(tensor, dict)}
    lengths = [len(values) for values in data.values() if isinstance(values, list)]
    return [data.keys() >= needed] * max(lengths, default=0)


def _predictions(body: Any, positive: Label | None) -> list[tuple[str, float | None]] | None:
    """(label, probability) a row of a v1 or v2 response; None when it is none."""
    if not isinstance(body, dict):
        return None
    said: list[tuple[Any, float | None]]
    if isinstance(body.get("predictions"), list):
        said = [_prediction(each, positive) for each in body["predictions"]]
    elif isinstance(body.get("outputs"), list):
        said = _v2_predictions(body["outputs"], positive)
    else:
        return None
    if not said or not all(type(label) in _LABELS for label, _ in said):
        return None
    return [(label_text(label), chance) for label, chance in said]


_LABELS = {str, bool, int}


def _prediction(each: Any, positive: Label | None) -> tuple[Any, float | None]:
    if not isinstance(each, dict):
        return each, None  # other servers answer with the bare label
    label, chances = each.get("label"), each.get("probabilities")
    return label, _chance(chances, label, positive) if isinstance(chances, dict) else None


def _v2_predictions(outputs: list[Any], positive: Label | None) -> list[tuple[Any, float | None]]:
    tensors = {tensor.get("name"): tensor for tensor in outputs if isinstance(tensor, dict)}
    labels = tensors.get("label", {}).get("data")
    if not isinstance(labels, list):
        return []
    chances = tensors.get("probabilities", {})
    try:
        names = [str(name) for name in orjson.loads(chances["parameters"]["classes"])]
        rows = [chances["data"][start : start + len(names)] for start in range(0, len(chances["data"]), len(names))]
        by_name = [dict(zip(names, row, strict=True)) for row in rows]
        return [(label, _chance(row, label, positive)) for label, row in zip(labels, by_name, strict=True)]
    except (KeyError, TypeError, ValueError):
        return [(label, None) for label in labels]


def _chance(chances: Mapping[str, Any], label: Any, positive: Label | None) -> float | None:
    """The probability of the positive class: without one, of the second of two, else of the answer."""
    if positive is None and len(chances) == 2:
        chance = list(chances.values())[1]
    else:
        chance = chances.get(str(label if positive is None else positive))
    return float(chance) if type(chance) in (int, float) and 0 <= chance <= 1 else None


# --- one pass ------------------------------------------------------------------------------------------------------


@dataclass
class Read:
    """What one pass over the log found."""

    lines: int = 0
    unreadable: int = 0
    """Lines that are no event, and pairs whose bodies say nothing."""
    rows: int = 0


def read_answers(
    store: Store,
    wanted: Wanted,
    *,
    marks: Marks,
    pairing: Pairing,
    now: datetime,
    since: datetime | None = None,
    read: Read | None = None,
    tick: Callable[[int], None] | None = None,
) -> Iterator[tuple[Any, dict[str, int]]]:
    """Stream what is new in the log, hour by hour: (batch, marks), of which the marks hold once the batch is kept.

    Every batch, and the last one even without a row, comes with ``pairing`` as it is then: keep that too. Nothing new
    gives nothing. ``read`` is counted up; ``tick`` is told the lines so far.
    """
    read = read or Read()
    answers = Answers(wanted)
    new: dict[str, int] = {}
    for _, files in groupby(
        log_files(store, _reaches_back(store, since, marks), now + PATIENCE), key=lambda file: hour_of(file[0])
    ):
        for key, size in files:
            start = marks.get(key, 0)
            if size < start:  # a full disk cut what was not written whole
                new[key] = size
                continue
            if size == start:
                continue
            for line, end in read_lines(store, key, start):
                read.lines += 1
                new[key] = end
                event = read_line(line)
                if event is None:
                    read.unreadable += line != b"\n"
                    continue
                pair = pairing.add(event, line, now)
                if pair is not None:
                    answers.add(*pair)
                if len(answers) >= BATCH_ROWS:
                    read.rows += len(answers)
                    yield answers.take(), dict(new)
                    new.clear()
                    if tick:
                        tick(read.lines)
    read.unreadable += answers.unreadable
    read.rows += len(answers)
    pairing.forget(now)
    if new:
        yield answers.take(), dict(new)
    if tick:
        tick(read.lines)


def _reaches_back(store: Store, since: datetime | None, marks: Marks) -> datetime | None:
    """From when on the log may hold what is new. A file is added to at any time; an object comes soon after its hour,
    and a log of objects is too long to list all of it at each look."""
    hours = [hour for key in marks if (hour := hour_of(key)) is not None]
    if local_path(store.uri) is not None or not hours:
        return since
    done = max(hours) - PATIENCE
    return done if since is None else max(since, done)


def log_store(spec: ModelSpec) -> Store | None:
    """The payload log's place; None: there is none yet. Raises what :func:`upkeep.store.open_store` does."""
    return existing_store(spec.monitoring.payloads.source, spec.object_store)


def existing_store(address: str, object_store: ObjectStore) -> Store | None:
    """What is at ``address``; None where that is a folder that is not there yet."""
    path = local_path(address)
    if path is not None and not path.exists():
        return None
    return open_store(address, object_store, make=False)
