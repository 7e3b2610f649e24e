"""Labels that come later: CSV, Parquet and JSON-lines files with a row's id, its label and perhaps a time.

A file is pinned by the digest of its bytes: the same bytes are read once, whatever they are called. A file that is
still being written is left for the next look. A row that makes no sense is refused with a reason; the others count.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from upkeep.data.kinds import to_kind
from upkeep.data.read import NULLS
from upkeep.data.validate import label_text, label_type, to_labels
from upkeep.errors import InputError
from upkeep.spec.model import Label, ModelSpec
from upkeep.store import Entry

FORMATS = (".csv", ".csv.gz", ".parquet", ".jsonl", ".jsonl.gz", ".ndjson")
SETTLED = timedelta(seconds=2)
"""A file on this machine that changed since is still being written."""
SETTLED_WITHOUT_END = timedelta(minutes=1)
"""The same for a text file that does not end with its line."""

SCHEMA = pa.schema([("id", pa.string()), ("label", pa.string()), ("time", pa.timestamp("us", tz="UTC"))])


@dataclass(frozen=True, kw_only=True)
class LabelRules:
    """How label files of one model are read."""

    id: str
    label: str
    time: str
    """The column; empty: the file's own time counts."""
    classes: tuple[Label, ...]
    """The labels that may occur; empty: any."""
    delimiter: str = ","
    encoding: str = "utf-8"
    """Of CSV files."""


def label_rules(spec: ModelSpec, classes: Sequence[Label] = ()) -> LabelRules:
    """``classes``: the model's; the spec's own come first."""
    columns = spec.monitoring.label_columns
    return LabelRules(
        id=columns.id or spec.data.id or "request_id",
        label=columns.label or spec.data.target.column,
        time=columns.time,
        classes=spec.data.target.classes or tuple(classes),
        delimiter=spec.data.delimiter,
        encoding=spec.data.encoding,
    )


def is_label_file(key: str) -> bool:
    """Whether a file may hold labels: known by its ending; hidden ones and those that begin with ``_`` do not."""
    parts = PurePosixPath(key).parts
    return key.lower().endswith(FORMATS) and not any(part.startswith((".", "_")) for part in parts)


def is_whole(entry: Entry, data: bytes, *, seen: tuple[int, datetime, datetime] | None, now: datetime) -> bool:
    """Whether a file on this machine is written to its end, as far as can be told.

    ``seen``: its size and time at an earlier look, and when that was. A clock that goes wrong (a file of the future)
    only makes it wait for a second look.
    """
    text = not entry.key.lower().endswith((".parquet", ".gz"))
    patience = SETTLED_WITHOUT_END if text and data and not data.endswith(b"\n") else SETTLED
    if entry.size != len(data):
        return False
    if entry.modified + patience <= now:
        return True
    return seen is not None and (seen[0], seen[1]) == (entry.size, entry.modified) and seen[2] + patience <= now


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """What a file says."""

    rows: Any
    """``pa.Table`` of :data:`SCHEMA`, in the file's order; a null time: it does not say."""
    refused: dict[str, int]
    """Reason → rows."""


def parse_labels(name: str, data: bytes, rules: LabelRules) -> LabelFile:
    """A file's labels. Raises :class:`InputError` when it is no such file as a whole: its reason is for people."""
    refused: Counter[str] = Counter()
    try:
        table = _table(name.lower(), data, rules, refused)
    except (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"the file cannot be read: {first}") from error
    missing = [column for column in (rules.id, rules.label, rules.time) if column and column not in table.column_names]
    if missing:
        raise InputError(
            f"there is no column {', '.join(missing)}; the file has {', '.join(table.column_names[:20]) or 'none'}",
            fix="name the columns in monitoring.label_columns",
        )
    ids, odd_ids = to_kind(table.column(rules.id), "categorical")
    labels, odd_labels = _labels(table.column(rules.label), rules)
    times, odd_times = (
        to_kind(table.column(rules.time), "datetime")
        if rules.time
        else (pa.nulls(len(table), SCHEMA.field("time").type), pa.array([False] * len(table), pa.bool_()))
    )
    bad = pa.array([False] * len(table), pa.bool_())
    for mask, reason in (
        (pc.or_(odd_ids, ids.is_null()), f"{rules.id} names no row"),
        (odd_labels, f"{rules.label} is no label of the model"),
        (labels.is_null(), f"{rules.label} is empty"),
        (odd_times, f"{rules.time} is no time"),
    ):
        new = pc.and_(mask, pc.invert(bad))
        if count := pc.sum(new).as_py():
            refused[reason] += count
        bad = pc.or_(bad, mask)
    good = pa.table([ids, labels, times], schema=SCHEMA).filter(pc.invert(bad))
    return LabelFile(rows=good, refused=dict(refused))


def _labels(column: Any, rules: LabelRules) -> tuple[Any, Any]:
    """Labels as text, and which are none of the model's."""
    column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if not rules.classes:
        return to_kind(column, "categorical")
    if pa.types.is_nested(column.type):
        return pa.nulls(len(column), pa.string()), column.is_valid()
    kind = label_type(_Hints(rules.classes), column)  # type: ignore[arg-type]
    labels, odd = to_labels(column, kind)
    texts = labels if pa.types.is_string(labels.type) else labels.cast(pa.string())
    known = pc.is_in(texts, pa.array([label_text(label) for label in rules.classes]))
    return texts, pc.or_(odd, pc.and_(texts.is_valid(), pc.invert(known)))


@dataclass(frozen=True)
class _Hints:
    classes: tuple[Label, ...]
    positive: None = None


def _table(name: str, data: bytes, rules: LabelRules, refused: Counter[str]) -> Any:
    if name.endswith(".parquet"):
        return pq.read_table(io.BytesIO(data))
    if name.endswith(".gz"):
        data = gzip.decompress(data)
    if name.endswith((".csv", ".csv.gz")):
        return _csv(data, rules, refused)
    rows = []
    for line in data.splitlines():
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            refused["the line is no JSON object"] += 1
    wanted = [column for column in (rules.id, rules.label, rules.time) if column]
    there = [column for column in wanted if any(column in row for row in rows)]
    return pa.table({column: pa.array([_json_text(row.get(column)) for row in rows], pa.string()) for column in there})


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    # an object or a list becomes text that is no label
    return label_text(value) if isinstance(value, bool | int) else orjson.dumps(value).decode()


def _csv(data: bytes, rules: LabelRules, refused: Counter[str]) -> Any:
    data = data.decode("utf-8-sig" if rules.encoding == "utf-8" else rules.encoding).encode()
    if not data.strip():
        raise InputError("the file is empty")

    def skip(row: Any) -> str:
        refused[f"the row has {row.actual_columns} fields where the header has {row.expected_columns}"] += 1
        return "skip"

    header = pyarrow.csv.open_csv(
        io.BytesIO(data),
        parse_options=pyarrow.csv.ParseOptions(delimiter=rules.delimiter, invalid_row_handler=lambda _: "skip"),
    ).schema.names
    return pyarrow.csv.read_csv(
        io.BytesIO(data),
        read_options=pyarrow.csv.ReadOptions(use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=rules.delimiter, newlines_in_values=True, invalid_row_handler=skip
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()),
            null_values=NULLS,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
