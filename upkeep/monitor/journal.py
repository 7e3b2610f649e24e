"""Where answers and labels meet: a DuckDB database that is made anew from the payload log and the labels at any time.

It is no truth of its own, only what was read of them so far: lose it, and the next look reads everything again. Rows
and the marks of what was read are kept in one transaction, so a crash anywhere reads nothing twice. In memory it
serves a single question.

Of several labels of one id the earliest counts (by its own time, else its file's; then by the file's name and the
row), however they arrive; of several answers of one version to one row the earliest request. Both are what a set says:
the order of arrival changes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from upkeep import records
from upkeep.data.layout import layout
from upkeep.data.read import local_path
from upkeep.data.split import hash_values, seed
from upkeep.errors import ConflictError, InputError, OutsideError, Problem, UpkeepError, Where, from_os
from upkeep.monitor.labels import LabelRules, is_label_file, is_whole, parse_labels
from upkeep.monitor.payloads import Half, Pairing, Read, Wanted, read_answers
from upkeep.serving.payload import read_line
from upkeep.spec.model import ModelSpec
from upkeep.store import Entry, MissingObject, Store

SCHEMA_VERSION = 1
BUSY_SECONDS = 20.0
"""How long another process's look is waited for."""


@dataclass
class Look:
    """What one look at log and labels found."""

    answers: Read = field(default_factory=Read)
    label_files: int = 0
    labels: int = 0
    """Rows of the files that were new."""
    refused: dict[str, int] = field(default_factory=dict)
    """Reason → rows of label files that were not taken."""
    waiting: tuple[str, ...] = ()
    """Label files that are still being written."""
    problems: tuple[Problem, ...] = ()
    """Label files that were refused as a whole: they are looked at again when they change."""


class Journal:
    """Opened by :func:`open_journal`. One thread at a time."""

    def __init__(self, database: Any, wanted: Wanted, salt: str, unit: str | None) -> None:
        """``unit``: the column whose equal values are one unit (a customer, say); None: each row is its own."""
        self.database = database
        self.wanted = wanted
        self.unit = unit
        self._salt = salt
        self._make()

    def _make(self) -> None:
        names = [f"{quoted(column.name)} {_SQL[column.kind]}" for column in self.wanted.columns]
        for statement in (
            "CREATE TABLE IF NOT EXISTS meta (epoch VARCHAR, layout VARCHAR)",
            "CREATE TABLE IF NOT EXISTS marks (file VARCHAR, bytes BIGINT)",
            "CREATE TABLE IF NOT EXISTS waiting (line BLOB, since TIMESTAMP)",
            f"""CREATE TABLE IF NOT EXISTS answers (
                _key VARCHAR, _by_id BOOLEAN, _whole BOOLEAN, _request VARCHAR, _row INTEGER, _time TIMESTAMP,
                _version VARCHAR, _predicted VARCHAR, _probability DOUBLE,
                {"".join(f"{name}, " for name in names)} _hash UBIGINT, _unit UBIGINT, _seen BIGINT)""",
            """CREATE TABLE IF NOT EXISTS labels (
                id VARCHAR, label VARCHAR, time TIMESTAMP, file VARCHAR, row BIGINT, _seen BIGINT)""",
            "CREATE TABLE IF NOT EXISTS label_files (digest VARCHAR, name VARCHAR, refused VARCHAR)",
            """CREATE TABLE IF NOT EXISTS looks (
                name VARCHAR, size BIGINT, modified TIMESTAMP, looked TIMESTAMP, done BOOLEAN, problem VARCHAR)""",
            """CREATE TABLE IF NOT EXISTS outcomes (
                seq BIGINT, hash UBIGINT, unit UBIGINT, key VARCHAR, version VARCHAR, time TIMESTAMP, label VARCHAR,
                predicted VARCHAR, probability DOUBLE, request VARCHAR, row INTEGER)""",
            "CREATE TABLE IF NOT EXISTS met (name VARCHAR, value BIGINT)",
        ):
            self.database.execute(statement)
        if not self._one("SELECT count(*) FROM meta"):
            self.database.execute("INSERT INTO meta VALUES (?, ?)", [uuid.uuid4().hex, layout_name(self.wanted)])

    @property
    def epoch(self) -> str:
        """Names this journal: after it was lost and made again, numbers of outcomes begin anew under another name."""
        return str(self._one("SELECT epoch FROM meta"))

    def _one(self, query: str, values: Sequence[Any] = ()) -> Any:
        found = self.database.execute(query, list(values)).fetchall()
        return found[0][0] if found else None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        self.database.execute("BEGIN")
        try:
            yield
        except BaseException:
            self.database.execute("ROLLBACK")
            raise
        self.database.execute("COMMIT")

    # ---- reading ----

    def look(
        self,
        log: Store | None,
        labels: Store | None,
        rules: LabelRules,
        *,
        now: datetime,
        since: datetime | None = None,
        tick: Callable[[int], None] | None = None,
        meet: bool = True,
    ) -> Look:
        """Read what is new. ``since``: without hours of the log that end before. None: there is no such folder yet.
        ``meet=False``: no outcome gets a number, where only figures are asked for."""
        found = Look()
        if log is not None:
            self._read_log(log, found, now=now, since=since, tick=tick)
        if labels is not None:
            self._read_labels(labels, rules, found, now=now)
        if meet:
            self._meet()
        return found

    def _read_log(
        self, log: Store, found: Look, *, now: datetime, since: datetime | None, tick: Callable[[int], None] | None
    ) -> None:
        marks = dict(self.database.execute("SELECT file, bytes FROM marks").fetchall())
        pairing = Pairing()
        for line, read_at in self.database.execute("SELECT line, since FROM waiting").fetchall():
            event = read_line(bytes(line))
            if event is not None:
                half = Half(event, bytes(line), _utc(read_at))
                pairing.waiting.setdefault((event.kind, event.service, event.id), []).append(half)
        batches = read_answers(
            log, self.wanted, marks=marks, pairing=pairing, now=now, since=since, read=found.answers, tick=tick
        )
        for batch, new in batches:
            halves = pairing.halves()
            with self.transaction():
                if batch.num_rows:
                    self._add_answers(batch)
                self._register("new_marks", pa.table({"file": list(new), "bytes": pa.array(new.values(), pa.int64())}))
                self.database.execute("DELETE FROM marks WHERE file IN (SELECT file FROM new_marks)")
                self.database.execute("INSERT INTO marks SELECT file, bytes FROM new_marks")
                self.database.execute("DELETE FROM waiting")
                if halves:
                    waiting = {"line": [half.line for half in halves], "since": [_naive(half.since) for half in halves]}
                    self._register("halves", pa.table(waiting))
                    self.database.execute("INSERT INTO waiting SELECT line, since FROM halves")

    def _add_answers(self, batch: Any) -> None:
        hashes = hash_values(batch.column("_key"), seed("outcome", self._salt))
        units = hashes
        if self.unit is not None:
            column = batch.column(self.unit)
            valid = column.is_valid().to_numpy(zero_copy_only=False)
            units = hashes.copy()
            units[valid] = hash_values(column, seed("unit", self._salt))[valid]
        rows = batch.append_column("_hash", pa.array(hashes)).append_column("_unit", pa.array(units))
        self._register("batch", pa.Table.from_batches([rows]))
        self.database.execute("INSERT INTO answers BY NAME SELECT *, ? AS _seen FROM batch", [self._next("answers")])

    def _register(self, name: str, table: Any) -> None:
        for place, column in enumerate(table.schema):
            if pa.types.is_timestamp(column.type):
                table = table.set_column(place, column.name, table.column(place).cast(pa.timestamp("us")))
        self.database.register(name, table)

    def _next(self, table: str) -> int:
        return int(self._one(f"SELECT coalesce(max(_seen), 0) + 1 FROM {table}"))

    def _read_labels(self, labels: Store, rules: LabelRules, found: Look, *, now: datetime) -> None:
        """Take every whole file of which this is the first look at its bytes."""
        local = local_path(labels.uri) is not None
        looks = {
            name: (size, _utc(modified), _utc(at), done, problem)
            for name, size, modified, at, done, problem in self.database.execute("SELECT * FROM looks").fetchall()
        }
        waiting, problems = [], []
        for entry in sorted(labels.list()):
            if not is_label_file(entry.key):
                continue
            entry = entry._replace(modified=_utc(entry.modified))  # noqa: PLW2901
            seen = looks.get(entry.key)
            same = seen is not None and seen[:2] == (entry.size, entry.modified)
            if same and seen is not None and seen[3]:
                if seen[4]:
                    problems.append(_problem(labels, entry, seen[4]))
                continue
            try:
                data = labels.get(entry.key)
            except MissingObject:
                continue  # somebody took it away
            if local and not is_whole(entry, data, seen=seen[:3] if seen else None, now=now):
                if not same:
                    self._looked(entry, now, done=False)
                waiting.append(entry.key)
                continue
            digest = records.digest(data)
            problem = ""
            if not self._one("SELECT count(*) FROM label_files WHERE digest = ?", [digest]):
                problem = self._take(entry, data, digest, rules, found, now)
                if problem:
                    problems.append(_problem(labels, entry, problem))
            else:
                self._looked(entry, now, done=True)
        found.waiting, found.problems = tuple(waiting), tuple(problems)

    def _take(self, entry: Entry, data: bytes, digest: str, rules: LabelRules, found: Look, now: datetime) -> str:
        """Add a file's labels, all or none; what is wrong with the file, empty: nothing."""
        try:
            parsed = parse_labels(entry.key, data, rules)
        except InputError as error:
            problem = error.problems[0]
            words = problem.message + (f"; {problem.fix}" if problem.fix else "")
            self._looked(entry, now, done=True, problem=words)
            return words
        rows = parsed.rows.append_column("row", pa.array(range(len(parsed.rows)), pa.int64()))
        with self.transaction():
            self._looked(entry, now, done=True)
            refused = ", ".join(f"{reason}: {count}" for reason, count in parsed.refused.items())
            self.database.execute("INSERT INTO label_files VALUES (?, ?, ?)", [digest, entry.key, refused])
            self._register("rows", rows)
            self.database.execute(
                """CREATE OR REPLACE TEMP TABLE new_labels AS
                SELECT id, label, min({'time': coalesce(time, ?::TIMESTAMP), 'file': ?, 'row': row}) AS first
                FROM rows GROUP BY id, label""",
                [_naive(entry.modified), entry.key],
            )
            self.database.execute(
                """UPDATE labels SET time = first.time, file = first.file, row = first.row FROM new_labels
                WHERE labels.id = new_labels.id AND labels.label = new_labels.label
                AND first < {'time': labels.time, 'file': labels.file, 'row': labels.row}"""
            )
            self.database.execute(
                """INSERT INTO labels SELECT id, label, first.time, first.file, first.row, ?
                FROM new_labels ANTI JOIN labels USING (id, label)""",
                [self._next("labels")],
            )
        found.label_files += 1
        found.labels += len(parsed.rows)
        for reason, count in parsed.refused.items():
            found.refused[reason] = found.refused.get(reason, 0) + count
        return ""

    def _looked(self, entry: Entry, now: datetime, *, done: bool, problem: str = "") -> None:
        self.database.execute("DELETE FROM looks WHERE name = ?", [entry.key])
        values = [entry.key, entry.size, _naive(entry.modified), _naive(now), done, problem]
        self.database.execute("INSERT INTO looks VALUES (?, ?, ?, ?, ?, ?)", values)

    # ---- answers meet labels ----

    def _meet(self) -> None:
        """Give every pair of row and version that now has a label a number, once and for ever."""
        key = "SELECT coalesce(max(value), 0) FROM met WHERE name = ?"
        answers, labels = (int(self._one(key, [name])) for name in ("answers", "labels"))
        newest = {name: self._next(name) - 1 for name in ("answers", "labels")}
        if newest == {"answers": answers, "labels": labels}:
            return
        with self.transaction():
            self.database.execute(
                """INSERT INTO outcomes
                WITH touched AS (
                    SELECT _key AS key FROM answers SEMI JOIN labels ON answers._key = labels.id
                    WHERE answers._seen > $answers
                    UNION SELECT id FROM labels WHERE _seen > $labels),
                label AS (
                    SELECT id, arg_min(label, {'time': time, 'file': file, 'row': row}) AS label,
                        min({'time': time, 'file': file, 'row': row}) AS first
                    FROM labels SEMI JOIN touched ON labels.id = touched.key GROUP BY id),
                answer AS (
                    SELECT * FROM answers SEMI JOIN touched ON answers._key = touched.key
                    QUALIFY row_number() OVER (PARTITION BY _version, _key ORDER BY _time, _request, _row) = 1),
                fresh AS (
                    SELECT answer.*, label.label, label.first
                    FROM answer JOIN label ON answer._key = label.id
                    ANTI JOIN outcomes ON outcomes.key = answer._key AND outcomes.version = answer._version)
                SELECT (SELECT coalesce(max(seq), 0) FROM outcomes)
                        + row_number() OVER (ORDER BY first, _time, _version, _request, _row),
                    _hash, _unit, _key, _version, _time, label, _predicted, _probability, _request, _row
                FROM fresh""",
                {"answers": answers, "labels": labels},
            )
            self.database.execute("DELETE FROM met")
            for name, value in newest.items():
                self.database.execute("INSERT INTO met VALUES (?, ?)", [name, value])

    def forget(self, before: datetime) -> int:
        """Delete answers of requests before that time, as their log's hours go; how many. Outcomes keep no features
        and stay, so that none is counted twice."""
        gone = int(self._one("SELECT count(*) FROM answers WHERE _time < ?", [_naive(before)]))
        if gone:
            self.database.execute("DELETE FROM answers WHERE _time < ?", [_naive(before)])
        return gone

    def close(self) -> None:
        self.database.close()


_SQL = {"numeric": "DOUBLE", "categorical": "VARCHAR", "datetime": "TIMESTAMP"}


def quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _naive(moment: datetime) -> datetime:
    """As the database holds times: UTC, without saying so (its time zones are an extension that may not be there)."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _utc(moment: datetime) -> datetime:
    """A time of the database's, or one that knows its zone."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _problem(store: Store, entry: Entry, words: str) -> Problem:
    return Problem(
        words, Where(file=f"{store.uri}/{entry.key}"), "write it again, under this name or another", severity="warning"
    )


def layout_name(wanted: Wanted) -> str:
    """Names what a journal holds: one of another name is made anew."""
    columns = [[column.name, column.kind] for column in wanted.columns]
    return records.digest(records.to_json([SCHEMA_VERSION, wanted.id, columns, wanted.positive]))


def journal_path(spec: ModelSpec) -> Path:
    """Where a model's journal is kept: beside a store that is a folder, else in this user's cache."""
    root = local_path(spec.store)
    if root is not None:
        return root / spec.name / "monitor" / "journal.duckdb"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "upkeep" / f"{spec.name}-{records.digest(spec.store.encode())[:12]}" / "journal.duckdb"


@contextlib.contextmanager
def open_journal(
    spec: ModelSpec, wanted: Wanted, path: Path | None = None, *, busy_seconds: float = BUSY_SECONDS
) -> Iterator[Journal]:
    """The journal at ``path``; without one, an empty one in memory.

    A damaged one, or one of another layout, is made anew. Raises :class:`ConflictError` when another process looks
    for longer than ``busy_seconds``; :class:`OutsideError` when the disk is full.
    """
    found = layout(spec.data)
    kept = [column.name for column in wanted.columns]
    unit = found.group_column if found.group_column in kept else None
    salt = spec.data.split.salt or spec.name
    database = _connect(path, layout_name(wanted), busy_seconds)
    try:
        yield Journal(database, wanted, salt, unit)
    except (duckdb.OperationalError, duckdb.InternalError, duckdb.FatalException) as error:
        raise _words(error, path) from error
    finally:
        database.close()


def _connect(path: Path | None, name: str, busy_seconds: float) -> Any:
    config = {"threads": "1"}
    if path is None:
        return duckdb.connect(":memory:", config=config)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds what clients sent
    except OSError as error:
        raise from_os(error.errno, str(error), str(path)) from error
    deadline = time.monotonic() + busy_seconds
    fresh = False
    while True:
        try:
            database = duckdb.connect(str(path), config=config)
            tables = database.execute("SELECT table_name FROM duckdb_tables() WHERE table_name = 'meta'").fetchall()
            if tables and database.execute("SELECT layout FROM meta").fetchall() not in ([], [(name,)]):
                database.close()
                _remove(path)
                continue
            return database
        except (
            duckdb.IOException,
            duckdb.SerializationException,
            duckdb.InternalException,
            duckdb.FatalException,
        ) as error:
            text = str(error)
            if "set lock" in text:
                if time.monotonic() > deadline:
                    raise ConflictError(
                        "another process reads the labels of this model now",
                        where=Where(file=str(path)),
                        fix="try again in a moment",
                    ) from error
                time.sleep(0.1)
            elif "ermission denied" in text or "Read-only" in text:
                raise from_os(errno.EACCES, text, str(path)) from error
            elif fresh or isinstance(error, duckdb.OutOfMemoryException) or "No space" in text:
                raise _words(error, path) from error
            else:  # damaged: it is made anew from log and labels
                fresh = True
                _remove(path)


def _remove(path: Path) -> None:
    try:
        for each in (path, path.with_name(path.name + ".wal")):
            each.unlink(missing_ok=True)
    except OSError as error:
        raise from_os(error.errno, str(error), str(path)) from error


def _words(error: Exception, path: Path | None) -> UpkeepError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return OutsideError(
        f"answers and labels could not be joined: {first}",
        where=Where(file=str(path or "")),
        fix="make room on the disk or in memory, then try again; if the file is damaged, delete it: it is made anew",
    )
