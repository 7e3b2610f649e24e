"""Files as streams of Arrow record batches: CSV (plain, gzip) and Parquet, from a folder or from S3.

CSV columns come as text, whatever they hold: :func:`upkeep.data.kinds.to_kind` brings them to their kind, so that one
odd value costs one row and not the file. What is wrong with a whole file is a :class:`DataError` that says where.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import difflib
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from upkeep.data.dataset import DataFile
from upkeep.data.layout import ROW_NUMBER, UNREADABLE, layout
from upkeep.errors import AccessError, DataError, OutsideError, UpkeepError, Where
from upkeep.spec.model import ModelSpec, ObjectStore

FORMATS = {".csv": "csv", ".csv.gz": "csv.gz", ".parquet": "parquet"}
"""The name's ending → the format."""
BATCH_ROWS = 65_536
_BLOCK_BYTES = 4 << 20
_HEAD_BYTES = 1 << 20
_DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
NULLS = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null", "None"]
"""What stands for null in a CSV file, unless it is quoted."""


def format_of(name: str) -> str | None:
    """``csv``, ``csv.gz`` or ``parquet``; None for any other ending."""
    return next((kind for ending, kind in FORMATS.items() if name.lower().endswith(ending)), None)


def local_path(uri: str) -> Path | None:
    """The path of a local ``uri``, with or without ``file://``; None for another scheme."""
    if uri.startswith("file://"):
        return Path(uri.removeprefix("file://"))
    return None if "://" in uri else Path(uri)


@contextlib.contextmanager
def open_file(uri: str, object_store: ObjectStore) -> Iterator[Any]:
    """A seekable ``pa.NativeFile``. Raises :class:`DataError` when it is not there, :class:`AccessError` when it may
    not be read."""
    path = local_path(uri)
    if path is None:
        from upkeep.store import open_store

        bucket, _, key = uri.removeprefix("s3://").partition("/")
        with open_store(f"s3://{bucket}", object_store).open(key) as stream, pa.PythonFile(stream, mode="r") as file:
            yield file
        return
    try:
        file = pa.OSFile(str(path), "rb")
    except PermissionError as error:
        raise AccessError(
            "the file may not be read", where=Where(file=uri), fix="give yourself permission to read it"
        ) from error
    except OSError as error:
        message = "the file is not there" if not path.exists() else f"the file cannot be opened: {_first_line(error)}"
        raise DataError(message, where=Where(file=uri), fix="check the path") from error
    with file:
        yield file


def stream_digest(file: Any) -> tuple[str, int]:
    """The SHA-256 of an open file, in hexadecimal, and its size in bytes."""
    sha256, size = hashlib.sha256(), 0
    while block := file.read(1 << 20):
        sha256.update(block)
        size += len(block)
    return sha256.hexdigest(), size


def read_batches(file: DataFile, spec: ModelSpec, *, batch_rows: int = BATCH_ROWS) -> Iterator[Any]:
    """The columns that ``spec.data`` uses (:attr:`Layout.names`), and ``_row_number`` and ``_unreadable``.

    CSV columns are string, Parquet ones what the file says. A CSV row with too few or too many fields is a row of
    nulls with its reason in ``_unreadable``. Raises :class:`DataError` for what is wrong with the whole file.
    """
    names = layout(spec.data).names
    with _explained(file.uri), open_file(file.uri, spec.object_store) as stream:
        if file.format == "parquet":
            yield from _numbered(_parquet_batches(stream, file.uri, names, batch_rows))
        else:
            yield from _csv_batches(
                stream,
                file.uri,
                names,
                gzipped=file.format == "csv.gz",
                delimiter=spec.data.delimiter,
                encoding=spec.data.encoding,
            )


def open_table_batches(
    uri: str,
    columns: Sequence[str] | None = None,
    *,
    delimiter: str = ",",
    encoding: str = "utf-8",
    object_store: ObjectStore | None = None,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[Any]:
    """The record batches of one plain file. ``columns=None``: all of them, in the file's order.

    CSV columns are string (see :func:`upkeep.data.kinds.guess_kind`), Parquet ones what the file says. Raises
    :class:`DataError`; also for a CSV row with too few or too many fields.
    """
    kind = format_of(uri)
    if kind is None:
        raise DataError("this is no format that can be read", where=Where(file=uri), fix=f"give {', '.join(FORMATS)}")
    with _explained(uri), open_file(uri, object_store or ObjectStore()) as stream:
        if kind == "parquet":
            yield from _parquet_batches(stream, uri, columns, batch_rows)
            return
        batches = _csv_batches(stream, uri, columns, gzipped=kind == "csv.gz", delimiter=delimiter, encoding=encoding)
        for batch in batches:
            if batch.column(UNREADABLE).null_count < batch.num_rows:
                raise DataError(
                    f"the row {batch.column(UNREADABLE)[0]}",
                    where=Where(file=uri, row=batch.column(ROW_NUMBER)[0].as_py()),
                    fix="repair the row, or quote the field that holds the delimiter",
                )
            yield batch.drop_columns([ROW_NUMBER, UNREADABLE])


def parquet_rows(stream: Any, uri: str) -> int:
    """The row count of an open Parquet file, from its footer."""
    with _explained(uri):
        return int(_open_parquet(stream, uri).metadata.num_rows)


def require_columns(found: Sequence[str], wanted: Sequence[str], uri: str) -> None:
    """Raises :class:`DataError` that names every missing column, and the nearest one there is."""
    missing = [name for name in wanted if name not in found]
    if not missing:
        return
    near = {name: difflib.get_close_matches(name, found, 1, cutoff=0.5) for name in missing}
    near = {name: match or [other for other in found if other.lower() == name.lower()] for name, match in near.items()}
    hints = "; ".join(f"{name}: did you mean {match[0]}?" for name, match in near.items() if match)
    one = len(missing) == 1
    raise DataError(
        f"the {'column' if one else 'columns'} {', '.join(missing)} {'is' if one else 'are'} not in the file, "
        f"which has {', '.join(found[:20])}{', …' if len(found) > 20 else ''}",
        where=Where(file=uri, field=missing[0] if one else ""),
        fix=hints or "take the column out of upkeep.yaml, or deliver files that have it",
    )


def _refuse_duplicates(found: Sequence[str], uri: str) -> None:
    twice = [name for name, count in Counter(found).items() if count > 1 and name.strip()]
    if twice:
        raise DataError(
            f"the file has more than one column named {', '.join(twice)}",
            where=Where(file=uri, field=twice[0]),
            fix="give every column a name of its own",
        )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def _explained(uri: str) -> Iterator[None]:
    """What Arrow says about a broken file, as errors of ours."""
    try:
        yield
    except UpkeepError:
        raise
    except UnicodeError as error:
        raise _wrong_encoding(uri, str(error)) from error
    except zlib.error as error:
        raise DataError(
            f"the file is damaged: {error}", where=Where(file=uri), fix="write or upload the file again"
        ) from error
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        text = _first_line(error)
        if "UTF8" in text:
            raise _wrong_encoding(uri, text) from error
        if "straddl" in text:
            raise DataError(
                f"a row is longer than {_BLOCK_BYTES >> 20} MB: a quote is probably not closed",
                where=Where(file=uri),
                fix="close the quote",
            ) from error
        raise DataError(
            f"the file cannot be read: {text}", where=Where(file=uri), fix="write or upload the file again"
        ) from error
    except OSError as error:
        text = _first_line(error)
        if "runcated" in text or "end of stream" in text or "Couldn't deserialize" in text or "zlib" in text:
            raise DataError(
                f"the file is cut off or damaged: {text}", where=Where(file=uri), fix="write or upload the file again"
            ) from error
        if uri.startswith("s3://"):
            raise OutsideError(
                f"reading stopped: {text}", where=Where(file=uri), fix="try again; is the store reachable?"
            ) from error
        raise DataError(
            f"the file cannot be read: {text}",
            where=Where(file=uri),
            fix="write the file again; is the disk all right?",
        ) from error


def _wrong_encoding(uri: str, detail: str) -> DataError:
    return DataError(
        f"the file's bytes are not what data.encoding says: {detail}",
        where=Where(file=uri),
        fix="set data.encoding to the file's encoding (cp1252 and utf-16 are common), or write the file as UTF-8",
    )


# --- Parquet


def _open_parquet(stream: Any, uri: str) -> Any:
    if stream.size() == 0:
        raise DataError("the file is empty", where=Where(file=uri), fix="deliver the file with its rows")
    try:
        return pq.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"this is no whole Parquet file: it is cut off, damaged or something else ({_first_line(error)})",
            where=Where(file=uri),
            fix="write or upload the file again",
        ) from error


def _parquet_batches(stream: Any, uri: str, names: Sequence[str] | None, batch_rows: int) -> Iterator[Any]:
    file = _open_parquet(stream, uri)
    schema = file.schema_arrow
    _refuse_duplicates(schema.names, uri)
    wanted = list(schema.names if names is None else names)
    require_columns(schema.names, wanted, uri)
    for name in wanted if names is not None else ():
        if pa.types.is_nested(schema.field(name).type):
            raise DataError(
                f"the column holds a {schema.field(name).type} in every row, and a feature is one value",
                where=Where(file=uri, field=name),
                fix="make columns of its parts",
            )
    if file.metadata.num_rows == 0:
        raise DataError(
            "the file has columns and no rows", where=Where(file=uri), fix="deliver the rows, or remove the file"
        )
    for batch in file.iter_batches(batch_rows, columns=wanted, use_threads=False):
        if batch.num_rows:
            yield batch.select(wanted).replace_schema_metadata(None)


def _numbered(batches: Iterator[Any]) -> Iterator[Any]:
    row = 1
    for batch in batches:
        numbers = pa.array(np.arange(row, row + batch.num_rows, dtype=np.int64))
        row += batch.num_rows
        yield _with_marks(batch, numbers, pa.nulls(batch.num_rows, pa.string()))


def _with_marks(batch: Any, numbers: Any, unreadable: Any) -> Any:
    return pa.RecordBatch.from_arrays(
        [*batch.columns, numbers, unreadable], names=[*batch.schema.names, ROW_NUMBER, UNREADABLE]
    )


# --- CSV


def _csv_batches(
    stream: Any, uri: str, names: Sequence[str] | None, *, gzipped: bool, delimiter: str, encoding: str
) -> Iterator[Any]:
    if stream.size() == 0:
        raise DataError("the file is empty", where=Where(file=uri), fix="deliver the file with its rows")
    header = _header(stream, uri, gzipped=gzipped, delimiter=delimiter, encoding=encoding)
    _refuse_duplicates(header, uri)
    wanted = list(header if names is None else names)
    _refuse_wrong_delimiter(header, wanted, delimiter, uri)
    require_columns(header, wanted, uri)
    ragged: list[tuple[int, str]] = []

    def skip_ragged(row: Any) -> str:
        fields = f"{row.actual_columns} field" + ("" if row.actual_columns == 1 else "s")
        # the header is row 1 for Arrow
        ragged.append(((row.number or 0) - 1, f"has {fields} where the header has {row.expected_columns}"))
        return "skip"

    stream.seek(0)
    source = pa.CompressedInputStream(stream, "gzip") if gzipped else stream
    utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")
    reader = pyarrow.csv.open_csv(
        source,
        read_options=pyarrow.csv.ReadOptions(
            use_threads=False, block_size=_BLOCK_BYTES, encoding="utf8" if utf8 else encoding
        ),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip_ragged
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=wanted,
            column_types=dict.fromkeys(wanted, pa.string()),
            null_values=NULLS,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    row, any_row = 1, False
    skipped = np.zeros(0, np.int64)
    for batch in reader:
        # the parser runs ahead of the batches: it has met every ragged row before this batch's last row
        skipped = np.append(skipped[skipped >= row], [number for number, _ in ragged]).astype(np.int64)
        if batch.num_rows:
            any_row = True
            numbers = _row_numbers(row, batch.num_rows, skipped)
            row = int(numbers[-1]) + 1
            yield _with_marks(batch, pa.array(numbers), pa.nulls(batch.num_rows, pa.string()))
        if ragged:
            any_row = True
            yield _ragged_rows(ragged, batch.schema)
            ragged.clear()
    if ragged:
        any_row = True
        yield _ragged_rows(ragged, reader.schema)
    if not any_row:
        raise _header_only(uri)


def _row_numbers(first: int, count: int, skipped: Any) -> Any:
    """The numbers of ``count`` rows from ``first`` on, where the skipped numbers belong to other rows."""
    numbers = np.arange(first, first + count + len(skipped), dtype=np.int64)
    return numbers[~np.isin(numbers, skipped)][:count] if len(skipped) else numbers


def _ragged_rows(rows: Sequence[tuple[int, str]], schema: Any) -> Any:
    empty = pa.RecordBatch.from_arrays([pa.nulls(len(rows), field.type) for field in schema], schema=schema)
    return _with_marks(
        empty, pa.array([number for number, _ in rows], pa.int64()), pa.array([reason for _, reason in rows])
    )


def _header_only(uri: str) -> DataError:
    return DataError(
        "the file has a header and no rows", where=Where(file=uri), fix="deliver the rows, or remove the file"
    )


def _header(stream: Any, uri: str, *, gzipped: bool, delimiter: str, encoding: str) -> list[str]:
    """The header's names, from the file's beginning; raises what can be told from there."""
    head = stream.read(_HEAD_BYTES)
    whole = len(head) < _HEAD_BYTES
    if not gzipped and head[:2] == b"\x1f\x8b":
        raise DataError("the file is gzip, and its name does not say so", where=Where(file=uri), fix="call it .csv.gz")
    if head[:4] == b"PAR1":
        raise DataError(
            "the file is Parquet, and its name does not say so", where=Where(file=uri), fix="call it .parquet"
        )
    if gzipped:
        if head[:2] != b"\x1f\x8b":
            raise DataError("the file is not gzip, and its name says so", where=Where(file=uri), fix="call it .csv")
        unzip = zlib.decompressobj(wbits=31)
        head = unzip.decompress(head, _HEAD_BYTES)
        whole = unzip.eof and not unzip.unused_data
    try:
        codec = codecs.lookup(encoding)
    except LookupError as error:
        raise DataError(
            f"there is no encoding {encoding}", where=Where(field="data.encoding"), fix="utf-8 is the usual one"
        ) from error
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and not codec.name.startswith("utf-16"):
        raise _wrong_encoding(uri, "they begin with UTF-16's mark; set data.encoding: utf-16")
    text = codec.incrementaldecoder("strict").decode(head).removeprefix("\ufeff")
    if "\0" in text[:1000]:
        raise _wrong_encoding(uri, "they hold zeros, as no text does")
    try:
        records = [row for row in _first_records(text, delimiter) if row]
    except csv.Error as error:
        raise DataError(
            f"the header cannot be read: {error}", where=Where(file=uri, line=1), fix="write the file as plain CSV"
        ) from error
    if not records and whole:
        raise DataError("the file is empty", where=Where(file=uri), fix="deliver the file with its rows")
    if len(records) == 1 and whole:
        raise _header_only(uri)
    return records[0] if records else []


def _first_records(text: str, delimiter: str) -> Iterator[list[str]]:
    found = 0
    for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
        yield record
        found += bool(record)
        if found == 2:
            return


def _refuse_wrong_delimiter(header: Sequence[str], wanted: Sequence[str], delimiter: str, uri: str) -> None:
    if len(header) != 1:
        return
    others = [other for other in _DELIMITERS if other != delimiter and other in header[0]]
    if others and (list(wanted) == list(header) or header[0] not in wanted):
        likely = max(others, key=header[0].count)
        raise DataError(
            f"the delimiter is {_DELIMITERS.get(delimiter, repr(delimiter))}, and so the file has one column, named "
            f"{header[0]!r}: it looks as if {_DELIMITERS[likely]} were meant",
            where=Where(file=uri, line=1),
            fix=f"set data.delimiter: {likely!r}",
        )
