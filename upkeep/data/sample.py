"""A bounded sample of a table of any size, spread over the whole of it.

The data is read in one stream and thinned; of Parquet, only some row groups, and the statistics of all.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from upkeep.data.read import format_of, local_path, open_file, open_table_batches
from upkeep.errors import AccessError, DataError, Where
from upkeep.spec.model import ObjectStore

SAMPLE_ROWS = 200_000
SAMPLE_CELLS = 10_000_000
"""A wide table gets fewer rows, so that the sample fits any laptop."""
SAMPLE_FILES = 12


@dataclass(frozen=True)
class Sample:
    table: Any
    """pa.Table with at most about ``SAMPLE_ROWS`` rows, spread over the whole."""
    rows: int
    """Rows of all data, or an estimate."""
    files: int
    folder_periods: tuple[str, ...]
    """The values of ``period=…`` folders."""
    ranges: dict[str, tuple[float, float]]
    """Column → (least, greatest) of all rows, where the files' statistics say so."""
    delimiter: str = ","
    encoding: str = "utf-8"


def take_sample(source: str, store: ObjectStore) -> Sample:
    """Of the data at ``source`` (a file, a folder, or s3://).

    Raises :class:`DataError` when it cannot be read, :class:`AccessError` without permission.
    """
    files = _files(source, store)
    chosen = [files[index] for index in _spread(len(files), SAMPLE_FILES)]
    tables, rows, delimiter, encoding = [], 0, ",", "utf-8"
    ranges: list[dict[str, tuple[float, float]]] = []
    for uri in chosen:
        if format_of(uri) == "parquet":
            table, count, statistics = _parquet_sample(uri, store, SAMPLE_ROWS // len(chosen))
            ranges.append(statistics)
        else:
            delimiter, encoding = _dialect(uri, store)
            batches = open_table_batches(uri, delimiter=delimiter, encoding=encoding, object_store=store)
            table, count = _thinned(batches, SAMPLE_ROWS // len(chosen))
        tables.append(table)
        rows += count
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"the files do not agree on a column's type: {str(error).splitlines()[0]}",
            where=Where(file=source),
            fix="write all files with the same types",
        ) from error
    folders = [part[7:] for uri in files for part in uri.split("/") if part.startswith("period=")]
    return Sample(
        table=table,
        rows=rows * len(files) // len(chosen),
        files=len(files),
        folder_periods=tuple(sorted(set(folders))),
        ranges=_merged(ranges) if len(ranges) == len(files) else {},
        delimiter=delimiter,
        encoding=encoding,
    )


def _files(source: str, store: ObjectStore) -> list[str]:
    """The data files at ``source``, sorted by name."""
    root = local_path(source)
    if format_of(source) is not None and not (root is not None and root.is_dir()):
        return [source]
    if root is None:
        from upkeep.store import open_store

        keys = [entry.key for entry in open_store(source, store).list()]
        found = [f"{source.rstrip('/')}/{key}" for key in keys if _is_data(key)]
    else:
        if not root.exists():
            raise DataError("there is no such file or folder", where=Where(file=source), fix="check the path")
        if root.is_file():
            raise DataError(
                "this is no format that can be read",
                where=Where(file=source),
                fix="give a .csv, .csv.gz or .parquet file, or a folder of them",
            )
        try:
            next(root.iterdir(), None)
        except PermissionError as error:
            raise AccessError(
                "the folder may not be listed", where=Where(file=source), fix="give yourself permission to read it"
            ) from error
        relative = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
        found = [str(root / name) for name in relative if _is_data(name)]
    if not found:
        raise DataError(
            "there are no data files here", where=Where(file=source), fix="deliver .csv, .csv.gz or .parquet files"
        )
    return sorted(found)


def _is_data(name: str) -> bool:
    hidden = any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)
    return not hidden and format_of(name) is not None


def _spread(count: int, wanted: int) -> list[int]:
    """``wanted`` indices, or all, spread evenly over ``range(count)`` with both ends."""
    if count <= wanted:
        return list(range(count))
    return sorted({round(index * (count - 1) / max(wanted - 1, 1)) for index in range(wanted)})


def _parquet_sample(uri: str, store: ObjectStore, wanted: int) -> tuple[Any, int, dict[str, tuple[float, float]]]:
    """Some row groups of one Parquet file, its row count, and its columns' ranges from the footer."""
    import pyarrow.parquet as pq

    first = next(open_table_batches(uri, object_store=store, batch_rows=1024))  # says what is wrong with the file
    wanted = min(wanted, max(SAMPLE_CELLS // max(first.num_columns, 1), 1))
    try:
        with open_file(uri, store) as stream:
            file = pq.ParquetFile(stream)
            groups = file.metadata.num_row_groups
            largest = max(file.metadata.row_group(index).num_rows for index in range(groups))
            chosen = _spread(groups, max(wanted // max(largest, 1), min(groups, 8)))
            each = max(wanted // len(chosen), 1)
            tables = [_group_rows(file, index, each) for index in chosen]
            return pa.concat_tables(tables), file.metadata.num_rows, _statistics(file.metadata)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"the file cannot be read: {str(error).splitlines()[0]}",
            where=Where(file=uri),
            fix="write or upload the file again",
        ) from error


def _group_rows(file: Any, group: int, wanted: int) -> Any:
    """About ``wanted`` rows, spread over one row group; the group is read in batches."""
    rows = file.metadata.row_group(group).num_rows
    keep = max(rows // max(wanted, 1), 1)
    batches = []
    for batch in file.iter_batches(min(8192, max(rows, 1)), row_groups=[group], use_threads=False):
        batches.append(batch.take(pa.array(np.arange(0, batch.num_rows, keep))) if keep > 1 else batch)
    return pa.Table.from_batches(batches, schema=file.schema_arrow).replace_schema_metadata(None)


def _statistics(metadata: Any) -> dict[str, tuple[float, float]]:
    """Column → (least, greatest), of the numeric columns for which every row group says them."""
    found: dict[str, list[tuple[float, float]]] = {}
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            statistics = column.statistics
            if statistics is None or not statistics.has_min_max:
                continue
            ends = statistics.min, statistics.max
            if all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
                found.setdefault(column.path_in_schema, []).append((float(ends[0]), float(ends[1])))
    whole = {name: ends for name, ends in found.items() if len(ends) == metadata.num_row_groups}
    return {name: (min(low for low, _ in ends), max(high for _, high in ends)) for name, ends in whole.items()}


def _merged(ranges: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    shared = set(ranges[0]).intersection(*ranges) if ranges else set()
    return {name: (min(r[name][0] for r in ranges), max(r[name][1] for r in ranges)) for name in shared}


def _thinned(batches: Iterator[Any], wanted: int) -> tuple[Any, int]:
    """At most about twice ``wanted`` rows, spread over the stream, and the stream's row count.

    Rows whose number is a multiple of ``keep`` stay; ``keep`` doubles when there are too many.
    """
    kept: list[Any] = []
    rows, keep, held = 0, 1, 0
    for batch in batches:
        wanted = min(wanted, max(SAMPLE_CELLS // max(batch.num_columns, 1), 1))
        picked = np.arange(-rows % keep, batch.num_rows, keep)
        rows += batch.num_rows
        kept.append(batch.take(pa.array(picked)) if keep > 1 else batch)
        held += len(picked)
        while held > 2 * wanted:
            keep *= 2
            table = pa.Table.from_batches(kept)
            table = table.take(pa.array(np.arange(0, table.num_rows, 2)))
            kept, held = table.combine_chunks().to_batches(), table.num_rows
    return pa.Table.from_batches(kept), rows


def _dialect(uri: str, store: ObjectStore) -> tuple[str, str]:
    """The delimiter and the encoding that a CSV file seems to have."""
    with open_file(uri, store) as stream:
        head = stream.read(1 << 20)
        if format_of(uri) == "csv.gz" and head[:2] == b"\x1f\x8b":
            import zlib

            head = zlib.decompressobj(wbits=31).decompress(head, 1 << 20)
    encoding = "utf-8"
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    else:
        try:
            codecs.getincrementaldecoder("utf-8")().decode(head)
        except UnicodeDecodeError:
            encoding = "cp1252"
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head).removeprefix("\ufeff")
    lines = text.splitlines()[:2]
    if not lines:
        return ",", encoding
    fields = {
        each: [len(next(csv.reader(io.StringIO(line), delimiter=each), [])) for line in lines] for each in ",;\t|"
    }
    # A delimiter cuts the header and the first row alike; among several, the one that cuts most.
    alike = {each: counts[0] for each, counts in fields.items() if len(set(counts)) == 1} or {",": 1}
    return max(alike, key=lambda each: alike[each]), encoding
