"""Drift between any two plain files, without a spec. Memory does not grow with the files.

Parquet is read column by column, strings as dictionaries: a column's chunk at a time is all that is held. Everything
else streams as record batches (``upkeep.data.read``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from upkeep.data.kinds import Column, Kind, guess_kind, to_kind
from upkeep.drift import profile as profiles
from upkeep.drift.detect import Watched
from upkeep.drift.profile import Baseline, ColumnProfile, ColumnReference, Profile, Reference, Values
from upkeep.drift.report import drift_report
from upkeep.drift.result import ColumnDrift, DriftReport
from upkeep.errors import AccessError, DataError, OutsideError, Where
from upkeep.spec.model import Drift

BATCH = 1 << 16
"""Rows at once: half a megabyte a column, which stays in a core's cache while it is sorted."""
KEPT_ROWS = 1 << 22
"""Up to here one column of the reference (32 MB) is kept between its two passes; beyond, it is read again."""


def compare(
    reference: str,
    current: str,
    settings: Drift = Drift(),  # noqa: B008 - a frozen record
) -> DriftReport:
    """The drift of ``current`` against ``reference``: paths or addresses of Parquet or CSV files.

    Kinds follow from the Arrow types (numbers numeric; text and booleans categorical; times by their hour of the
    day), in CSV files from the values. A column that one side lacks, or that cannot be compared, is
    reported as insufficient. ``settings.classifier_rows`` = 0 leaves out the two-sample classifier.

    Raises :class:`DataError` for a file that is missing, damaged or shares no column with the other.
    """
    old, new = open_source(reference), open_source(current)
    columns, unlike = _common(old, new)
    if not columns:
        raise DataError(
            "the two files have no column that could be compared",
            where=Where(file=current),
            fix=f"compare files with the same columns; {Path(reference).name} has {', '.join(old.schema.names[:10])}",
        )
    baseline = old.baseline(columns)
    now = new.profile(baseline.reference)

    def values(name: str) -> tuple[Values, Values]:
        return _finite(old, name), _finite(new, name)

    two_sample = None
    if settings.classifier_rows and baseline.profile.rows and now.rows:
        from upkeep.drift.two_sample import sample_rows, two_sample_test

        names = [column.name for column in columns]
        two_sample = two_sample_test(
            sample_rows(old.batches(names), settings.classifier_rows, seed=0),
            sample_rows(new.batches(names), settings.classifier_rows, seed=1),
            columns,
            settings,
            seed=0,
        )
    return drift_report(
        [Watched(baseline, [now], values=values if settings.exact_ks else None)],
        settings,
        reference=reference,
        two_sample=two_sample,
        also=[_not_compared(name, why, baseline.profile.rows, now.rows) for name, why in unlike.items()],
    )


class Source:
    """A file that streams record batches."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        with reading(uri):
            first = next(iter(self._open(None)), None)
        if first is None:
            raise DataError("the file has no rows", where=Where(file=uri), fix="give a file with a header and rows")
        self.schema: Any = first.schema
        typed = uri.lower().endswith(".parquet")
        self.kinds: dict[str, Kind | None] = {
            name: infer_kind(column.type) if typed else guess_kind(column)
            for name, column in zip(first.schema.names, first.columns, strict=True)
        }
        """What each column's type, or in a file of text its first values, speak for; None: cannot be compared."""
        self.read_as: dict[str, Kind] = {}
        """The kinds that columns are brought to; a value that cannot be read as its kind becomes null."""

    def _open(self, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        from upkeep.data.read import open_table_batches

        batches: Iterator[pa.RecordBatch] = open_table_batches(self.uri, columns=columns)
        return batches

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows, these columns, brought to their kinds."""
        with reading(self.uri):
            for batch in self._open(list(columns)):
                arrays = [self._as_kind(batch.column(name), name) for name in columns]
                yield pa.RecordBatch.from_arrays(arrays, names=list(columns))

    def _as_kind(self, array: pa.Array, name: str) -> pa.Array:
        kind = self.read_as.get(name)
        if kind is None or infer_kind(array.type) == kind:
            return array
        return to_kind(array, kind)[0]

    def arrays(self, column: str) -> Iterator[pa.Array]:
        """All values of one column."""
        for batch in self.batches([column]):
            yield batch.column(0)

    def baseline(self, columns: Sequence[Column]) -> Baseline:
        """How to measure these columns, and their profile."""
        names = [column.name for column in columns]
        return profiles.make_baseline(lambda: self.batches(names), columns)

    def profile(self, reference: Reference) -> Profile:
        """The profile of all rows by this reference."""
        return profiles.profile(self.batches(list(reference.columns)), reference)


class ParquetSource(Source):
    """A local Parquet file, read a column at a time."""

    def __init__(self, uri: str, path: Path) -> None:
        import pyarrow.parquet as pq

        self.uri = uri
        with reading(uri):
            schema = pq.read_schema(path)
            text = [field.name for field in schema if _is_text(field.type)]
            # no pre-buffering: it would hold whole row groups
            self._file = pq.ParquetFile(path, read_dictionary=text, pre_buffer=False, buffer_size=1 << 20)
        self.schema = schema
        self.kinds = {field.name: infer_kind(field.type) for field in schema}
        self.read_as = {}
        self.rows = int(self._file.metadata.num_rows)

    def _open(self, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        batches: Iterator[pa.RecordBatch] = self._file.iter_batches(BATCH, columns=columns, use_threads=False)
        return batches

    def baseline(self, columns: Sequence[Column]) -> Baseline:
        """How to measure these columns, and their profile."""
        measures: dict[str, ColumnReference] = {}
        states: dict[str, ColumnProfile] = {}
        for column in columns:
            gathered = profiles.start_column(column)
            kept = []
            for array in self.arrays(column.name):
                gathered.add(array, column.name)
                if self.rows <= KEPT_ROWS:
                    kept.append(array)
            measures[column.name] = gathered.finish()
            arrays = kept if self.rows <= KEPT_ROWS else self.arrays(column.name)
            states[column.name] = _profile_arrays(arrays, measures[column.name], column.name)
        reference = Reference(measures)
        return Baseline(reference, Profile(reference=reference.digest, rows=self.rows, columns=states))

    def profile(self, reference: Reference) -> Profile:
        """The profile of all rows by this reference."""
        columns = {
            name: _profile_arrays(self.arrays(name), measure, name) for name, measure in reference.columns.items()
        }
        return Profile(reference=reference.digest, rows=self.rows, columns=columns)


def _profile_arrays(arrays: Iterable[pa.Array], measure: ColumnReference, name: str) -> ColumnProfile:
    state = profiles.empty_column(measure)
    for array in arrays:
        state = profiles.add_columns(state, profiles.profile_column(array, measure, name=name))
    return state


def open_source(uri: str) -> Source:
    """The file behind a path or an address."""
    path = Path(uri.removeprefix("file://"))
    if "://" not in uri.removeprefix("file://") and path.suffix.lower() in (".parquet", ".pq"):
        return ParquetSource(uri, path)
    return Source(uri)


@contextmanager
def reading(uri: str) -> Iterator[None]:
    """Turns what reading may raise into Upkeep's errors."""
    where = Where(file=uri)
    try:
        yield
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=where, fix="check the path") from error
    except IsADirectoryError as error:
        raise DataError("this is a folder, not a file", where=where, fix="name one file") from error
    except PermissionError as error:
        raise AccessError("the file may not be read", where=where, fix="give yourself permission to read it") from error
    except pa.ArrowException as error:
        raise DataError(
            f"the file is damaged or not what its name says: {str(error).splitlines()[0]}",
            where=where,
            fix="write or fetch the file again",
        ) from error
    except OSError as error:
        if error.errno is None:  # Arrow's own, about the content
            message = f"the file is damaged: {str(error).splitlines()[0]}"
            raise DataError(message, where=where, fix="write or fetch the file again") from error
        raise OutsideError(f"the file cannot be read: {error}", where=where, fix="try again") from error


def infer_kind(type_: pa.DataType) -> Kind | None:
    """The kind an Arrow type suggests; None where a column of it cannot be compared."""
    kinds = pa.types
    if kinds.is_dictionary(type_):
        return "categorical"
    if _is_text(type_) or kinds.is_boolean(type_) or kinds.is_string_view(type_):
        return "categorical"
    if kinds.is_integer(type_) or kinds.is_floating(type_) or kinds.is_decimal(type_) or kinds.is_duration(type_):
        return "numeric"
    if profiles.is_time(type_):
        return "datetime"
    return None


def _is_empty(type_: pa.DataType) -> bool:
    return bool(pa.types.is_null(type_))


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _common(old: Source, new: Source) -> tuple[list[Column], dict[str, str]]:
    """The columns to compare, and why each other column cannot be."""
    columns: list[Column] = []
    unlike: dict[str, str] = {}
    for source in (old, new):
        names = source.schema.names
        double = {name for name in names if names.count(name) > 1}
        if double:
            raise DataError(
                f"the column {min(double)} is there twice",
                where=Where(file=source.uri, field=min(double)),
                fix="give each column a name of its own",
            )
    for name in dict.fromkeys([*old.schema.names, *new.schema.names]):
        if name not in new.schema.names:
            unlike[name] = "The column is missing in the current file."
        elif name not in old.schema.names:
            unlike[name] = "The column is missing in the reference file."
        else:
            types = [source.schema.field(name).type for source in (old, new)]
            # a column without any value takes the other side's kind
            found = [
                source.kinds[name] for source, type_ in zip((old, new), types, strict=True) if not _is_empty(type_)
            ]
            kind = found[0] if found else "categorical"
            if kind is None or None in found:
                unlike[name] = f"A column of type {types[0]} cannot be compared."
            elif len(set(found)) > 1:
                unlike[name] = f"The column is {found[0]} in the reference and {found[1]} now."
            else:
                columns.append(Column(name=name, kind=kind))
    for source in (old, new):
        source.read_as = {column.name: column.kind for column in columns}
    return columns, unlike


def _finite(source: Source, name: str) -> Values:
    parts: Iterable[Values] = (profiles.numbers(array, name) for array in source.arrays(name))
    values: Values = np.concatenate([np.zeros(0), *parts])
    finite: Values = values[np.isfinite(values)]
    return finite


def _not_compared(name: str, why: str, reference_rows: int, current_rows: int) -> ColumnDrift:
    return ColumnDrift(
        column=name,
        role="feature",
        kind="categorical",
        finding="insufficient",
        reason=why,
        reference_rows=reference_rows,
        current_rows=current_rows,
        statistics={},
        p_value=None,
        adjusted_p_value=None,
        effect=None,
        threshold=0.0,
        reference_nulls=0.0,
        current_nulls=0.0,
        new_categories=(),
        vanished_categories=(),
        periods_in_a_row=0,
        histogram=None,
    )
