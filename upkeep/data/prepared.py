"""The prepared folder: the rows an update uses, cleaned and split. Written by :mod:`upkeep.data.prepare`.

::

    summary.json                         :class:`Summary`
    rows/period=<p>/part-00000.parquet   the columns the spec names, and _period, _part, _group, _row
    quarantine.parquet                   every refused row as text, and _reason, _file, _row_number, _period
    heldout.parquet                      fingerprints of the held-out rows: _row, _content

Numeric features are float64, categorical ones string, datetime ones timestamp[us, UTC]; the target is string, bool or
int64; slices, id and group are string; time is timestamp[us, UTC]. ``_part`` is train, validation, held_out or
kept_out (training rows that are a held-out row come back); ``_group`` is the split key's hash, ``_row`` the id's, or
the place's where there is no id (uint64). ``_content`` is the hash of features, time and target. Neither of the last
two depends on the split's salt. When the features change, earlier fingerprints still match by id and no longer by
content.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from upkeep import records
from upkeep.data.kinds import Column
from upkeep.errors import DataError, Where
from upkeep.spec.model import Label

SUMMARY = "summary.json"
QUARANTINE = "quarantine.parquet"
FINGERPRINTS = "heldout.parquet"


@dataclass(frozen=True, kw_only=True)
class PeriodCounts:
    """What became of one period's rows: read = quarantined + duplicates + train + validation + held_out + kept_out."""

    period: str
    read: int
    quarantined: int
    duplicates: int
    """Rows that were there before, id and content; one of them is kept."""
    train: int
    validation: int
    held_out: int
    kept_out: int
    """Rows of the training side whose id or content is a held-out row's."""
    reasons: dict[str, int]
    """Why rows were quarantined, and how many; a row with two reasons counts for both."""
    by_class: dict[str, int]
    """Label as text → rows of train, validation and held_out."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    dataset: str
    """The dataset's digest."""
    periods: tuple[PeriodCounts, ...]
    """Oldest first."""
    classes: tuple[Label, ...]
    """``data.target.classes``; without it, the labels that occur, sorted."""
    columns: tuple[Column, ...]
    """The features, in the order of the spec."""
    target: str
    positive: Label | None
    group: str | None
    undated: int = 0
    """Quarantined rows that belong to no period, since their time could not be read."""
    undated_reasons: dict[str, int] | None = None
    privacy_key: str = ""
    """Names the key that columns were hashed with; empty: none was."""
    warnings: tuple[str, ...] = ()
    """What a person should look at, a sentence each."""
    schema_version: int = 1


def period_folder(period: str) -> str:
    """The folder of a period below ``rows/``; the period's name is percent-encoded."""
    return f"period={quote(period, safe='')}"


class Prepared:
    """Reads a prepared folder. Batches come in the order of period, file and row, and are never all in memory."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`DataError` when ``path`` holds no finished prepared folder."""
        self.path = path
        if not (path / SUMMARY).is_file():
            refused = (path / QUARANTINE).is_file()
            raise DataError(
                "the data was refused, so there are no prepared rows" if refused else "this is no prepared folder",
                where=Where(file=str(path)),
                fix=f"look at {path / QUARANTINE}" if refused else "run the preprocess step first",
            )
        self.summary = records.read(Summary, path / SUMMARY)

    @property
    def periods(self) -> tuple[str, ...]:
        """Oldest first."""
        return tuple(counts.period for counts in self.summary.periods)

    @property
    def schema(self) -> Any:
        """The ``pa.Schema`` of a batch with all columns."""
        import pyarrow.parquet as pq

        for period in self.periods:
            for file in self._files(period):
                return pq.read_schema(file).remove_metadata()
        raise DataError("the prepared folder has no rows", where=Where(file=str(self.path)), fix="run preprocess again")

    def batches(
        self,
        *,
        parts: Sequence[str] = ("train",),
        periods: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        batch_rows: int = 65536,
        coded: Sequence[str] = (),
    ) -> Iterator[Any]:
        """``pa.RecordBatch``es of at most ``batch_rows`` rows, none empty.

        ``periods=None``: all; ``columns=None``: all, ``_``-columns too; columns come in the order asked for.
        ``coded``: columns of text that come as dictionary arrays, as the file has them, which costs less by far.
        """
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        names = list(columns) if columns is not None else self.schema.names
        wanted = pa.array(list(parts), pa.string())
        dictionaries = [*coded] if "_part" in names else [*coded, "_part"]
        for counts in self.summary.periods:
            if (periods is not None and counts.period not in periods) or _count(counts, parts) == 0:
                continue
            for path in self._files(counts.period):
                # without pre_buffer=False the whole file is in memory from the first batch on
                with pq.ParquetFile(path, read_dictionary=dictionaries, pre_buffer=False) as file:
                    read = list(dict.fromkeys([*names, "_part"]))
                    for batch in file.iter_batches(batch_rows, columns=read, use_threads=False):
                        rows, own = batch.select(names), batch.column("_part")
                        different = own.dictionary if pa.types.is_dictionary(own.type) else own
                        if own.null_count or not pc.all(pc.is_in(different, wanted)).as_py():
                            rows = rows.filter(pc.is_in(own, wanted))
                        if rows.num_rows:
                            yield rows.replace_schema_metadata(None)

    def table(
        self, *, parts: Sequence[str], periods: Sequence[str] | None = None, columns: Sequence[str] | None = None
    ) -> Any:
        """The same rows as one ``pa.Table``; without rows, an empty one of the same schema."""
        import pyarrow as pa

        schema = self.schema
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])
        return pa.Table.from_batches(list(self.batches(parts=parts, periods=periods, columns=columns)), schema)

    def codes(self, table: Any) -> npt.NDArray[np.int64]:
        """The target as positions in ``summary.classes``, shape (rows,); -1 where it is none of them.

        ``table``: a table or batch that has the target.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        target = table.column(self.summary.target)
        if pa.types.is_dictionary(target.type):
            target = target.cast(target.type.value_type)
        positions = pc.index_in(target, pa.array(list(self.summary.classes), target.type))
        return np.asarray(pc.fill_null(positions, -1), dtype=np.int64)

    def count(self, *, parts: Sequence[str], periods: Sequence[str] | None = None) -> int:
        """How many rows :meth:`batches` gives, without reading them."""
        return sum(
            _count(counts, parts) for counts in self.summary.periods if periods is None or counts.period in periods
        )

    def _files(self, period: str) -> list[Path]:
        return sorted((self.path / "rows" / period_folder(period)).glob("*.parquet"))


def _count(counts: PeriodCounts, parts: Sequence[str]) -> int:
    by_part = {
        "train": counts.train,
        "validation": counts.validation,
        "held_out": counts.held_out,
        "kept_out": counts.kept_out,
    }
    return sum(by_part[part] for part in dict.fromkeys(parts))
