"""A dataset: the files an update uses, pinned by digest. Never a copy of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from upkeep import records


@dataclass(frozen=True, kw_only=True)
class DataFile:
    uri: str
    """A path or an s3:// address."""
    name: str
    """The path below ``data.source``: how a file is known from one update to the next."""
    format: str
    """``csv``, ``csv.gz`` or ``parquet``."""
    period: str | None
    """The ``period=…`` folder's value, or the file's stem where each file is a period; None: from ``data.time``."""
    digest: str
    """SHA-256 of its bytes."""
    size: int
    """Bytes."""
    rows: int | None
    """Rows where the format says so without reading all (Parquet)."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    files: tuple[DataFile, ...]
    """In the order of (period, name)."""
    until: str | None = None
    """The newest period that may be used; None: all."""
    ignored: tuple[str, ...] = ()
    """Names of files in the source that are no data: hidden ones, those that start with _, other formats."""
    schema_version: int = 1

    @property
    def digest(self) -> str:
        """Names the content: file names and digests, and ``until``; not where the files lie."""
        return records.digest(
            records.to_json([[file.name, file.digest, file.period] for file in self.files] + [self.until])
        )


def period_order(period: str) -> tuple[tuple[int, int, str], ...]:
    """The key that sorts periods: numbers within a name count as numbers, so ``9`` comes before ``10``."""
    parts = re.findall(r"[0-9]+|[^0-9]+", period)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts)
