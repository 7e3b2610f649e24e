"""From a pinned dataset to the prepared folder (:mod:`upkeep.data.prepared`), in memory that does not grow with it.

Three passes. The first streams every file through the row functions (privacy, kinds and rules, split) into a staging
file each, and writes what it refuses to the quarantine. The second lets rows meet, by 64-bit hashes in DuckDB: ids
that come twice, and training rows that are a held-out row come back. The third streams the staging files into one
folder a period, and counts. All happens in a hidden folder beside ``out``, which is renamed at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from upkeep import records
from upkeep.data import prepared
from upkeep.data.batches import Chain, RowFunction, fold_batches, map_batches
from upkeep.data.collect import verify_pin
from upkeep.data.dataset import DataFile, Dataset, period_order
from upkeep.data.kinds import to_kind
from upkeep.data.layout import ROW_NUMBER, Layout, content_is_key, layout
from upkeep.data.prepared import PeriodCounts, Summary, period_folder
from upkeep.data.privacy import key_name, protect
from upkeep.data.read import read_batches
from upkeep.data.split import HELD_OUT, KEPT_OUT, TRAIN, VALIDATION, Assign, HashSplit, random_state_held_out
from upkeep.data.validate import JOIN, REASON, LabelType, clean, label_text, label_type
from upkeep.errors import AccessError, DataError, OutsideError, Problem, SpecError, UpkeepError, Where
from upkeep.spec.model import Label, ModelSpec

Progress = Callable[[str, float | None], None]
MAX_CLASSES = 1000
_KEEP, _DUPLICATE, _CONFLICT, _KEPT_OUT = range(4)
_KEYS = pa.schema(
    [
        ("seq", pa.int64()),
        ("file", pa.int32()),
        ("row_number", pa.int64()),
        ("period", pa.int32()),
        ("row", pa.uint64()),
        ("content", pa.uint64()),
        ("held_out", pa.bool_()),
    ]
)
_FINGERPRINTS = pa.schema([("_row", pa.uint64()), ("_content", pa.uint64())])
MEMORY_LIMIT = "256MB"
"""What DuckDB may use before it spills to disk."""


def quiet(step: str, share: float | None) -> None:
    """Progress that nobody looks at."""


def prepare(
    spec: ModelSpec,
    dataset: Dataset,
    out: Path,
    *,
    held_out_before: Any = None,
    environ: Mapping[str, str] = os.environ,
    progress: Progress = quiet,
) -> Summary:
    """Write the prepared folder ``out``, whole or not at all; one that was there before is replaced.

    ``held_out_before``: a ``pa.Table`` of the fingerprints (``_row`` and ``_content``, uint64) that earlier updates of
    this model left in ``heldout.parquet``; rows that match are kept out of training. With ``prequential`` they are not
    looked at (the method learns from what it has scored), with ``random_state`` no guard is on. ``environ``: holds the
    privacy key. ``progress(step, share)``: told what is done, the share in [0, 1].

    Raises :class:`SpecError` when the key is missing or not the dataset's, and :class:`DataError` for data that cannot
    be used, too many refused rows among it: then ``out`` holds the quarantine and nothing else. Raises
    :class:`OutsideError` for a full disk and :class:`AccessError` where it may not write.
    """
    columns = layout(spec.data)
    guard = protect(spec.data.privacy, environ)
    if key_name(spec.data.privacy, environ) != dataset.privacy_key:
        raise SpecError(
            f"the key in {spec.data.privacy.key} is not the one that this update was started with",
            where=Where(field="data.privacy.key"),
            fix="give every step of the update the same key",
        )
    partial = out.with_name(f".{out.name}.partial")
    with _disk(out):
        _remove(partial)
        partial.mkdir(parents=True)
        (partial / "staging").mkdir()
    try:
        with _disk(out):
            state = _State(spec=spec, columns=columns, folder=partial, files=dataset.files, progress=progress)
            with _Quarantine(partial / prepared.QUARANTINE, columns) as quarantine:
                _stage(state, dataset, guard, quarantine)
                _meet(state, held_out_before)
                counts = _write_rows(state, quarantine)
            shutil.rmtree(partial / "staging")
            refused = _problems(state, counts, quarantine, out)
            if refused:
                for path in partial.iterdir():
                    if path.name != prepared.QUARANTINE:
                        _remove(path)
                _put(partial, out)
                raise DataError(problems=refused)
            summary = _summary(state, counts, quarantine, dataset)
            records.write(partial / prepared.SUMMARY, summary)
            _put(partial, out)
            progress("prepared", 1.0)
            return summary
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _put(folder: Path, out: Path) -> None:
    """``folder`` takes the place of ``out``."""
    old = out.with_name(f".{out.name}.old")
    _remove(old)
    if out.exists():
        out.rename(old)
    folder.rename(out)
    _remove(old)


@contextlib.contextmanager
def _disk(out: Path) -> Iterator[None]:
    """What the disk refuses, as errors of ours."""
    import duckdb

    try:
        yield
    except UpkeepError:
        raise
    except (OSError, duckdb.Error) as error:
        text = (str(error).splitlines() or [""])[0]
        code = getattr(error, "errno", None)
        if isinstance(error, PermissionError) or code in (errno.EACCES, errno.EROFS) or "ermission denied" in text:
            raise AccessError(
                f"the prepared rows may not be written here: {text}",
                where=Where(file=str(out)),
                fix="give yourself permission to write there, or name another folder",
            ) from error
        full = code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(
            words in text for words in ("No space left", "max_temp_directory_size")
        )
        raise OutsideError(
            "the disk is full" if full else f"the prepared rows could not be written: {text}",
            where=Where(file=str(out)),
            fix="free some space and try again; nothing was left behind" if full else "try again",
        ) from error


@dataclass(kw_only=True)
class _State:
    """What the passes tell one another."""

    spec: ModelSpec
    columns: Layout
    folder: Path
    files: tuple[DataFile, ...]
    progress: Progress
    labels: LabelType | None = None
    rows: int = 0
    """Rows of a period read so far: the next one's ``_seq``."""
    period_ids: dict[str, int] = field(default_factory=dict)
    """In the order in which they were met."""
    read: Counter[str | None] = field(default_factory=Counter)
    ordered: bool = True
    """The staging files hold the periods one after the other, oldest first."""
    newest: str | None = None
    last_period: str | None = None
    actions: Any = None
    """uint8 a row read, in a file."""

    @property
    def periods(self) -> list[str]:
        """Oldest first."""
        return sorted(self.period_ids, key=period_order)


# --- first pass: row by row


def _stage(state: _State, dataset: Dataset, guard: Any, quarantine: _Quarantine) -> None:
    total = sum(file.size for file in dataset.files) or 1
    done = 0
    with pq.ParquetWriter(
        state.folder / "staging" / "keys.parquet", _KEYS, compression="none", use_dictionary=False
    ) as keys:
        for number, file in enumerate(dataset.files):
            state.progress(f"read {file.name}", done / total)
            verify_pin(file, state.spec)
            with contextlib.ExitStack() as stack:
                writer = None
                for protected in map_batches(guard, read_batches(file, state.spec)):
                    rows, raw = _until(_refine(state, file, protected), protected, dataset.until)
                    if rows.num_rows == 0:
                        continue
                    state.read.update(_tally(rows.column("_period")))
                    rows = _place(state, number, rows)
                    bad = rows.column(REASON).is_valid()
                    if pc.any(bad).as_py():
                        refused = rows.filter(bad)
                        quarantine.add(raw.filter(bad), refused.column(REASON), file.name, refused.column("_period"))
                        rows = rows.filter(pc.invert(bad))
                    rows = rows.drop_columns([REASON])
                    _note_periods(state, rows.column("_period"))
                    keys.write_batch(_keys(state, rows))
                    if writer is None:
                        path = state.folder / "staging" / f"{number:05}.parquet"
                        writer = stack.enter_context(
                            pq.ParquetWriter(path, rows.schema, compression="none", use_dictionary=False)
                        )
                    writer.write_batch(rows)
            done += file.size


def _place(state: _State, file: int, rows: Any) -> Any:
    """Adds ``_file`` and ``_seq``, which counts every row that has a period."""
    dated = rows.column("_period").is_valid().to_numpy(zero_copy_only=False)
    seq = state.rows + np.cumsum(dated, dtype=np.int64) - 1
    state.rows += int(np.count_nonzero(dated))
    return rows.append_column("_file", pa.array(np.full(rows.num_rows, file, np.int32))).append_column(
        "_seq", pa.array(seq)
    )


def row_function(spec: ModelSpec, file: DataFile, labels: LabelType, environ: Mapping[str, str]) -> RowFunction:
    """All that happens to a file's rows one by one, as one function of record batches that can be pickled: from what
    :func:`upkeep.data.read.read_batches` gives to cleaned rows with ``_reason``, ``_period``, ``_part``, ``_group``,
    ``_row`` and ``_content``."""
    steps = (protect(spec.data.privacy, environ), clean(spec.data, labels), _assign(spec, layout(spec.data), file))
    return Chain(steps=steps)


def _assign(spec: ModelSpec, columns: Layout, file: DataFile) -> Assign:
    data = spec.data
    return Assign(
        salt=data.split.salt or spec.name,
        split=HashSplit(
            held_out=data.split.held_out if data.split.method == "hash" else 0.0,
            validation=0.0 if len(spec.candidates) == 1 else data.split.validation,
        ),
        content=(
            *(column.name for column in columns.features),
            *((data.time,) if data.time is not None and data.time not in data.features.all else ()),
            data.target.column,
        ),
        id=data.id,
        group_column=columns.group_column,
        group_unit=columns.group_unit,
        time=data.time,
        period=file.period,
        period_unit=data.period,
        file_digest=file.digest,
    )


def _refine(state: _State, file: DataFile, raw: Any) -> Any:
    data = state.spec.data
    if state.labels is None:
        state.labels = label_type(data.target, raw.column(data.target.column))
    return Chain(steps=(clean(data, state.labels), _assign(state.spec, state.columns, file)))(raw)


def _until(rows: Any, raw: Any, until: str | None) -> tuple[Any, Any]:
    """Without the rows of periods after ``until``; rows of no period stay, to be refused."""
    if until is None:
        return rows, raw
    late = [
        period
        for period in pc.unique(rows.column("_period")).to_pylist()
        if period is not None and period_order(period) > period_order(until)
    ]
    if not late:
        return rows, raw
    keep = pc.invert(pc.is_in(rows.column("_period"), pa.array(late, pa.string())))
    return rows.filter(keep), raw.filter(keep)


def _tally(column: Any) -> dict[Any, int]:
    return {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}


def _note_periods(state: _State, column: Any) -> None:
    met = pc.unique(column).to_pylist()
    for period in met:
        state.period_ids.setdefault(period, len(state.period_ids))
    if not met or not state.ordered:
        return
    runs = column.dictionary_encode().indices.to_numpy()
    # unique keeps the order of first sight: the batch is in runs when codes never fall
    state.ordered = bool(np.all(np.diff(runs) >= 0)) and met == sorted(met, key=period_order)
    if state.last_period is not None and period_order(met[0]) < period_order(state.last_period):
        state.ordered = False
    state.last_period = met[-1]


def _keys(state: _State, rows: Any) -> Any:
    encoded = rows.column("_period").dictionary_encode()
    ids = np.array([state.period_ids[period] for period in encoded.dictionary.to_pylist()], np.int32)
    periods = ids[encoded.indices.to_numpy()] if rows.num_rows else np.zeros(0, np.int32)
    return pa.RecordBatch.from_arrays(
        [
            rows.column("_seq"),
            rows.column("_file"),
            rows.column(ROW_NUMBER),
            pa.array(periods),
            rows.column("_row"),
            rows.column("_content"),
            pc.equal(rows.column("_part"), HELD_OUT),
        ],
        schema=_KEYS,
    )


class _Quarantine:
    """Writes refused rows as text, and counts them by period and reason with an example each."""

    def __init__(self, path: Path, columns: Layout) -> None:
        self.names = columns.names
        self.schema = pa.schema(
            [
                *((name, pa.string()) for name in self.names),
                ("_reason", pa.string()),
                ("_file", pa.string()),
                ("_row_number", pa.int64()),
                ("_period", pa.string()),
            ]
        )
        self.writer = pq.ParquetWriter(path, self.schema)
        self.rows: Counter[str | None] = Counter()
        self.reasons: dict[str | None, Counter[str]] = {}
        self.examples: dict[tuple[str | None, str], Where] = {}

    def __enter__(self) -> _Quarantine:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def add(self, raw: Any, reasons: Any, file: Any, periods: Any, counted_as: str | None = None) -> None:
        """Rows of any types, their reasons and periods; ``file``: a name, or an array of them. ``counted_as``: the one
        reason to count where each row's own names a place."""
        count = raw.num_rows
        files = pa.array([file] * count, pa.string()) if isinstance(file, str) else file
        texts = [_as_text(raw.column(name)) for name in self.names]
        self.writer.write_batch(
            pa.RecordBatch.from_arrays([*texts, reasons, files, raw.column(ROW_NUMBER), periods], schema=self.schema)
        )
        numbers = raw.column(ROW_NUMBER)
        self.rows.update(_tally(periods))
        table = pa.table({"period": periods, "reason": reasons, "file": files, "number": numbers})
        if counted_as is not None:
            table = table.set_column(1, "reason", pa.array([counted_as] * count))
        grouped = table.group_by(["period", "reason"], use_threads=False).aggregate(
            [("reason", "count"), ("file", "first"), ("number", "first")]
        )
        for item in grouped.to_pylist():
            for reason in item["reason"].split(JOIN):
                self.reasons.setdefault(item["period"], Counter())[reason] += item["reason_count"]
                self.examples.setdefault(
                    (item["period"], reason), Where(file=item["file_first"], row=item["number_first"])
                )


def _as_text(array: Any) -> Any:
    return array if pa.types.is_string(array.type) else to_kind(array, "categorical")[0]


# --- second pass: rows meet


def _meet(state: _State, held_out_before: Any) -> None:
    """Decide what becomes of each row that meets another, into ``state.actions``; write the fingerprints."""
    split = state.spec.data.split
    state.progress("compare rows", None)
    periods = state.periods
    state.newest = periods[-1] if periods else None
    path = state.folder / "staging" / "actions"
    path.write_bytes(b"")
    with path.open("r+b") as file:
        file.truncate(max(state.rows, 1))
    state.actions = np.memmap(path, np.uint8, "r+")
    before = _FINGERPRINTS.empty_table()
    if held_out_before is not None and split.method == "hash":
        before = held_out_before.select(_FINGERPRINTS.names).cast(_FINGERPRINTS)
    with _duckdb(state.folder) as database:
        database.read_parquet(str(state.folder / "staging" / "keys.parquet")).create_view("keys")
        database.register("before_rows", before)
        held_out = "held_out"
        if split.method == "prequential":
            newest = -1 if state.newest is None else state.period_ids[state.newest]
            held_out = f"period = {newest:d}"
        if split.method == "random_state":
            held_out = _random_state_rows(state, database)
        if state.spec.data.id is not None and split.method != "random_state":
            database.execute(_REPEATED)
            database.execute(_CONFLICTS)
            _act(state, database, "SELECT seq FROM conflicts", _CONFLICT)
            _act(state, database, _DUPLICATES, _DUPLICATE)
        else:
            database.execute("CREATE TEMP TABLE repeated (row UBIGINT, first BIGINT, last BIGINT, differs BOOLEAN)")
            database.execute("CREATE TEMP TABLE conflicts (seq BIGINT, other_file INTEGER, other_row BIGINT)")
        database.execute(
            f"CREATE TEMP TABLE held AS SELECT row, content FROM keys LEFT JOIN repeated r USING (row) "
            f"WHERE ({held_out}) AND (r.row IS NULL OR (NOT r.differs AND seq = r.first))"
        )
        if split.method != "random_state":
            matched = (["row"] if state.spec.data.id is not None else []) + (["content"] if split.same_content else [])
            for key in matched:
                query = (
                    f"SELECT seq FROM keys SEMI JOIN (SELECT {key} AS known FROM held UNION ALL "
                    f"SELECT _{key} FROM before_rows) ON {key} = known WHERE NOT ({held_out})"
                )
                _act(state, database, query, _KEPT_OUT)
        fingerprints = database.sql("SELECT row AS _row, content AS _content FROM held ORDER BY ALL").to_arrow_reader()
        with pq.ParquetWriter(state.folder / prepared.FINGERPRINTS, _FINGERPRINTS) as writer:
            for batch in fingerprints:
                writer.write_batch(batch.cast(_FINGERPRINTS))
        conflicts = state.folder / "staging" / "conflicts.parquet"
        with pq.ParquetWriter(conflicts, _CONFLICT_SCHEMA) as writer:
            for batch in database.sql("SELECT * FROM conflicts ORDER BY seq").to_arrow_reader():
                writer.write_batch(batch.cast(_CONFLICT_SCHEMA))


_CONFLICT_SCHEMA = pa.schema([("seq", pa.int64()), ("other_file", pa.int32()), ("other_row", pa.int64())])
_REPEATED = """
    CREATE TEMP TABLE repeated AS
    SELECT row, min(seq) AS first, max(seq) AS last, min(content) <> max(content) AS differs
    FROM keys GROUP BY row HAVING count(*) > 1
"""
_CONFLICTS = """
    CREATE TEMP TABLE conflicts AS
    SELECT k.seq, other.file AS other_file, other.row_number AS other_row
    FROM keys k JOIN repeated r USING (row)
    JOIN keys other ON other.seq = CASE WHEN k.seq = r.first THEN r.last ELSE r.first END
    WHERE r.differs
"""
_DUPLICATES = "SELECT seq FROM keys JOIN repeated r USING (row) WHERE NOT r.differs AND seq <> r.first"


@contextlib.contextmanager
def _duckdb(folder: Path) -> Iterator[Any]:
    import duckdb

    settings = {
        "threads": 2,
        "memory_limit": MEMORY_LIMIT,
        "temp_directory": str(folder / "staging" / "duckdb"),
        "preserve_insertion_order": False,
    }
    with duckdb.connect(":memory:", config=settings) as database:
        yield database


def _act(state: _State, database: Any, query: str, action: int) -> None:
    """The rows of the query get the action, unless they have one."""
    for batch in database.sql(query).to_arrow_reader():
        rows = batch.column(0).to_numpy()
        state.actions[rows] = np.where(state.actions[rows] == _KEEP, action, state.actions[rows])


def _random_state_rows(state: _State, database: Any) -> str:
    """Register the held-out rows of ``method: random_state``; a condition on ``keys`` that tells them."""
    chosen = np.flatnonzero(_random_state_mask(state))
    database.register("chosen", pa.table({"seq": pa.array(chosen)}))
    return "seq IN (SELECT seq FROM chosen)"


def _random_state_mask(state: _State) -> npt.NDArray[np.bool_]:
    """By ``_seq``, for the first period's rows as they stand in its files, refused ones among them."""
    split = state.spec.data.split
    periods = state.periods
    if not periods:
        return np.zeros(0, bool)
    if not state.ordered:
        raise DataError(
            "with split.method random_state the first period's rows must come first",
            where=Where(field="data.split.method"),
            fix="deliver a file a period, or use method: hash",
        )
    return random_state_held_out(state.read[periods[0]], split.held_out, split.random_state)


# --- third pass: one folder a period


@dataclass(kw_only=True)
class _Tally:
    """Counts of the rows that are kept."""

    parts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(period, part)."""
    classes: Counter[tuple[str, Label]] = field(default_factory=Counter)
    """(period, label), without kept_out."""
    train_classes: Counter[Label] = field(default_factory=Counter)
    values: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(period, feature): values that are not null, in training rows."""
    duplicates: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class _Count:
    """A fold over written rows."""

    target: str
    features: tuple[str, ...]

    def zero(self) -> _Tally:
        return _Tally()

    def add(self, state: _Tally, batch: Any) -> _Tally:
        table = pa.table(
            {"period": batch.column("_period"), "part": batch.column("_part"), "label": batch.column(self.target)}
        )
        counted = table.group_by(["period", "part", "label"], use_threads=False).aggregate([("label", "count")])
        for item in counted.to_pylist():
            period, part, label, count = item["period"], item["part"], item["label"], item["label_count"]
            state.parts[period, part] += count
            if part != KEPT_OUT:
                state.classes[period, label] += count
            if part == TRAIN:
                state.train_classes[label] += count
        if len(state.classes) > MAX_CLASSES and len({label for _, label in state.classes}) > MAX_CLASSES:
            raise DataError(
                f"the target has more than {MAX_CLASSES:,} classes: it looks like a number or an id",
                where=Where(field=self.target),
                fix="name a column of classes as data.target.column; regression is not there yet",
            )
        train = batch.filter(pc.equal(batch.column("_part"), TRAIN))
        if train.num_rows:
            for name in self.features:
                state.values[train.column("_period")[0].as_py(), name] += train.num_rows - train.column(name).null_count
        return state

    def merge(self, first: _Tally, second: _Tally) -> _Tally:
        pairs = ((getattr(first, item.name), getattr(second, item.name)) for item in dataclasses.fields(_Tally))
        return _Tally(**{item.name: a + b for item, (a, b) in zip(dataclasses.fields(_Tally), pairs, strict=True)})


def _write_rows(state: _State, quarantine: _Quarantine) -> _Tally:
    count = _Count(target=state.columns.target, features=tuple(column.name for column in state.columns.features))
    duplicates: Counter[str] = Counter()
    with contextlib.closing(_written(state, quarantine, duplicates)) as written:
        tally = fold_batches(count, written)
    tally.duplicates = duplicates
    return tally


def _written(state: _State, quarantine: _Quarantine, duplicates: Counter[str]) -> Generator[Any]:
    """Write every row that is kept to its period's folder, and hand it on. Batches are of one period each."""
    text = [name for name in state.columns.names if name not in state.spec.data.features.numeric]
    chosen = _random_state_mask(state) if state.spec.data.split.method == "random_state" else None
    writer: Any = None
    open_period: str | None = None
    written = 0
    try:
        for rows in _staged(state):
            for period, batch in _by_period(rows):
                kept = _apply(state, period, batch, chosen, quarantine, duplicates)
                written += batch.num_rows
                state.progress(f"write {period}", written / max(state.rows, 1))
                if kept.num_rows == 0:
                    continue
                if period != open_period:
                    if writer is not None:
                        writer.close()
                    path = state.folder / "rows" / period_folder(period) / "part-00000.parquet"
                    path.parent.mkdir(parents=True)
                    writer = pq.ParquetWriter(path, kept.schema, use_dictionary=[*text, "_period", "_part"])
                    open_period = period
                writer.write_batch(kept)
                yield kept
    finally:
        if writer is not None:
            writer.close()


def _staged(state: _State) -> Iterator[Any]:
    """The staged rows by period and ``_seq``."""
    paths = sorted((state.folder / "staging").glob("[0-9]*.parquet"))
    if not paths:
        return
    if state.ordered:
        for path in paths:
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(use_threads=False)
        return
    schema = pq.read_schema(paths[0])
    with _duckdb(state.folder) as database:
        ranks = pa.table({"_period": pa.array(state.periods), "rank": pa.array(range(len(state.periods)), pa.int32())})
        database.register("ranks", ranks)
        database.execute("SET TimeZone = 'UTC'")
        database.read_parquet([str(path) for path in paths]).create_view("staged")
        reader = database.sql(
            "SELECT staged.* FROM staged JOIN ranks USING (_period) ORDER BY ranks.rank, staged._seq"
        ).to_arrow_reader(65_536)
        for batch in reader:
            yield batch.select(schema.names).cast(schema)


def _by_period(rows: Any) -> Iterator[tuple[str, Any]]:
    """A batch in which each period's rows stand together, cut into those."""
    column = rows.column("_period")
    codes = column.dictionary_encode().indices.to_numpy()
    starts = [0, *(np.flatnonzero(np.diff(codes)) + 1), rows.num_rows]
    for start, end in itertools.pairwise(starts):
        if end > start:
            yield column[int(start)].as_py(), rows.slice(int(start), int(end - start))


def _apply(
    state: _State,
    period: str,
    rows: Any,
    chosen: npt.NDArray[np.bool_] | None,
    quarantine: _Quarantine,
    duplicates: Counter[str],
) -> Any:
    """The rows that are kept, with their final ``_part``; the others counted or quarantined."""
    seq = rows.column("_seq").to_numpy()
    actions = np.asarray(state.actions[seq])
    part = rows.column("_part")
    if state.spec.data.split.method == "prequential" and period == state.newest:
        part = pa.array([HELD_OUT] * rows.num_rows)
    if chosen is not None:
        part = pc.if_else(pa.array((seq < len(chosen)) & chosen[np.minimum(seq, len(chosen) - 1)]), HELD_OUT, part)
    part = pc.if_else(pa.array(actions == _KEPT_OUT), KEPT_OUT, part)
    rows = rows.set_column(rows.schema.get_field_index("_part"), "_part", part)
    conflicts = actions == _CONFLICT
    if conflicts.any():
        _refuse_conflicts(state, rows.filter(pa.array(conflicts)), quarantine)
    duplicates[period] += int(np.count_nonzero(actions == _DUPLICATE))
    if not np.all((actions == _KEEP) | (actions == _KEPT_OUT)):
        rows = rows.filter(pa.array((actions == _KEEP) | (actions == _KEPT_OUT)))
    return rows.drop_columns(["_seq", "_content", ROW_NUMBER, "_file"])


def _refuse_conflicts(state: _State, rows: Any, quarantine: _Quarantine) -> None:
    places = pq.read_table(
        state.folder / "staging" / "conflicts.parquet",
        filters=pc.field("seq").isin(rows.column("_seq")),
    )
    by_seq = {place["seq"]: place for place in places.to_pylist()}
    found = [by_seq[seq] for seq in rows.column("_seq").to_pylist()]
    name = state.spec.data.id
    reasons = [
        f"{name} is also that of {state.files[place['other_file']].name} row {place['other_row']}, with other content"
        for place in found
    ]
    quarantine.add(
        rows,
        pa.array(reasons),
        pc.take(pa.array([file.name for file in state.files]), rows.column("_file")),
        rows.column("_period"),
        counted_as=f"{name} comes twice with different content",
    )


# --- what came of it


def _problems(state: _State, tally: _Tally, quarantine: _Quarantine, out: Path) -> tuple[Problem, ...]:
    """Why the rows cannot be used; empty where they can."""
    problems = _too_many_refused(state, quarantine, out)
    if problems:
        return problems
    data = state.spec.data
    trained = sum(count for (_, part), count in tally.parts.items() if part == TRAIN)
    kept_out = sum(count for (_, part), count in tally.parts.items() if part == KEPT_OUT)
    source = Where(file=data.source)
    if trained == 0:
        if kept_out:
            return (
                Problem(
                    f"no row is left to train on: all {kept_out:,} equal a held-out row in every column",
                    Where(field="data.split.same_content"),
                    "set it to false where rows are alike by nature (few columns of few values)",
                ),
            )
        return (
            Problem(
                "no row is left to train on",
                source,
                "deliver more periods, or more split keys than one; hold out a smaller share",
            ),
        )
    found: list[Problem] = []
    if len(tally.train_classes) < 2:
        (label,) = tally.train_classes
        found.append(
            Problem(
                f"every training row has the same label, {label_text(label)}: there is nothing to learn",
                dataclasses.replace(source, field=data.target.column),
                "deliver rows of at least two classes",
            )
        )
    for column in state.columns.features:
        if not any(tally.values[period, column.name] for period in state.periods):
            found.append(
                Problem(
                    "the column has no value in any training row",
                    dataclasses.replace(source, field=column.name),
                    "take it out of data.features, or repair what delivers it",
                )
            )
    classes = _classes(state, tally)
    if data.target.positive is not None and data.target.positive not in classes:
        found.append(
            Problem(
                f"no row has the positive class {label_text(data.target.positive)}; the labels are "
                + ", ".join(label_text(label) for label in classes[:20]),
                Where(field="data.target.positive"),
                "name one of them",
            )
        )
    return tuple(found)


def _too_many_refused(state: _State, quarantine: _Quarantine, out: Path) -> tuple[Problem, ...]:
    """One problem for all periods that were refused for the same reasons: a wrong column says it once, not monthly."""
    limit = state.spec.data.limits.bad_rows
    total = sum(state.read.values())
    alike: dict[tuple[bool, frozenset[str]], list[str | None]] = {}
    for period in sorted(state.read, key=lambda name: period_order(name or "")):
        refused, read = quarantine.rows[period], total if period is None else state.read[period]
        if refused > limit * read:
            alike.setdefault((period is None, frozenset(quarantine.reasons[period])), []).append(period)
    problems = []
    for periods in alike.values():
        first, last = periods[0], periods[-1]
        counts: Counter[str] = Counter()
        for period in periods:
            counts.update(quarantine.reasons[period])
        refused = sum(quarantine.rows[period] for period in periods)
        read = total if first is None else sum(state.read[period] for period in periods)
        reasons = "; ".join(
            f"{count:,} × {reason} (as in {quarantine.examples[first, reason]})"
            for reason, count in counts.most_common(8)
        )
        what, each = f"period {first}", ""
        if first is None:
            what = "all files belong to no period and"
        elif len(periods) > 1:
            what, each = f"{len(periods)} periods, {first} to {last},", " in each"
        problems.append(
            Problem(
                f"{refused:,} of {read:,} rows of {what} were refused ({refused / read:.1%}, the limit is "
                f"{limit:.1%}{each}): {reasons}",
                Where(file=str(out / prepared.QUARANTINE)),
                "every refused row is in that file with its reason: repair them at their origin, or raise "
                "data.limits.bad_rows",
            )
        )
    return tuple(problems)


def _classes(state: _State, tally: _Tally) -> tuple[Label, ...]:
    given = state.spec.data.target.classes
    if given is None:
        return tuple(sorted({label for _, label in tally.classes}))
    return tuple(_typed(label, state.labels) for label in given)


def _typed(label: Label, kind: LabelType | None) -> Label:
    return label_text(label) if kind == "string" else int(label) if kind == "int64" else bool(label)


def _summary(state: _State, tally: _Tally, quarantine: _Quarantine, dataset: Dataset) -> Summary:
    data = state.spec.data
    periods = []
    for period in sorted((name for name in state.read if name is not None), key=period_order):
        by_class = {label_text(label): count for (name, label), count in tally.classes.items() if name == period}
        periods.append(
            PeriodCounts(
                period=period,
                read=state.read[period],
                quarantined=quarantine.rows[period],
                duplicates=tally.duplicates[period],
                train=tally.parts[period, TRAIN],
                validation=tally.parts[period, VALIDATION],
                held_out=tally.parts[period, HELD_OUT],
                kept_out=tally.parts[period, KEPT_OUT],
                reasons=dict(quarantine.reasons.get(period, {})),
                by_class=by_class,
            )
        )
    positive = data.target.positive
    return Summary(
        dataset=dataset.digest,
        periods=tuple(periods),
        classes=_classes(state, tally),
        columns=state.columns.features,
        target=state.columns.target,
        positive=None if positive is None else _typed(positive, state.labels),
        group=state.columns.group,
        undated=quarantine.rows[None],
        undated_reasons=dict(quarantine.reasons.get(None, {})),
        privacy_key=dataset.privacy_key,
        warnings=_warnings(state, tally, periods, quarantine, dataset),
    )


def _warnings(
    state: _State, tally: _Tally, periods: list[PeriodCounts], quarantine: _Quarantine, dataset: Dataset
) -> tuple[str, ...]:
    warnings = []
    if dataset.ignored:
        more = len(dataset.ignored) - 5
        names = ", ".join(dataset.ignored[:5]) + (f" and {more} more" if more > 0 else "")
        warnings.append(f"Files in the source that are no data were ignored: {names}.")
    if content_is_key(state.spec.data):
        warnings.append(
            "Rows have neither an id nor a split group, so a row's whole content decides whether it is held out: when "
            "the features change, other rows are, and the champion is then judged on newer periods only. Name data.id "
            "or data.split.group where there is one."
        )
    if quarantine.rows[None]:
        warnings.append(f"{quarantine.rows[None]:,} refused rows belong to no period: their time could not be read.")
    for counts in periods:
        for column in state.columns.features:
            if counts.train and not tally.values[counts.period, column.name]:
                warnings.append(f"{column.name} has no value in any training row of period {counts.period}.")
    kept_out = sum(counts.kept_out for counts in periods)
    learning = sum(counts.train + counts.validation for counts in periods)
    if kept_out > learning:
        warnings.append(
            f"{kept_out:,} rows were kept out of training since they equal held-out rows, more than the {learning:,} "
            "that are left. Where rows are alike by nature, set data.split.same_content to false."
        )
    if not sum(counts.held_out for counts in periods):
        warnings.append("No row is held out: no model can be judged. Hold out a larger share, or use more split keys.")
    return tuple(warnings)
