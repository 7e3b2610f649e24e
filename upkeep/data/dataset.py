"""A dataset: the files an update uses, pinned by digest. Never a copy of them."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection
from dataclasses import dataclass

from upkeep import records
from upkeep.errors import InputError, Where


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
    privacy_key: str = ""
    """Names the key that columns are hashed with (:func:`upkeep.data.privacy.key_name`); empty: none is hashed."""
    schema_version: int = 1

    @property
    def digest(self) -> str:
        """Names the content: file names and digests, ``until``, and the privacy key; not where the files lie."""
        content: list[object] = [[file.name, file.digest, file.period] for file in self.files]
        content.append(self.until)
        if self.privacy_key:
            content.append(self.privacy_key)
        return records.digest(records.to_json(content))


def period_order(period: str) -> tuple[tuple[int, int, str], ...]:
    """The key that sorts periods: numbers within a name count as numbers, so ``9`` comes before ``10``."""
    parts = re.findall(r"[0-9]+|[^0-9]+", period)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts)


_SHAPES = {
    "day": (r"\d{4}-\d\d-\d\d", "2024-03-31"),
    "week": (r"\d{4}-W\d\d", "2024-W13"),
    "month": (r"\d{4}-\d\d", "2024-03"),
    "quarter": (r"\d{4}-Q[1-4]", "2024-Q1"),
    "year": (r"\d{4}", "2024"),
}
"""Unit → how its periods are written, and an example."""


def check_period(text: str, *, known: Collection[str], unit: str | None, name: str) -> None:
    """Raises :class:`InputError` unless ``text`` is one of the data's periods or reads like one of its unit.

    ``known``: the periods that the data has, as far as its names tell; ``unit``: ``data.period``; ``name``: what the
    period is for, in the error.
    """
    if text in known or (unit and _reads_like(text, unit)):
        return
    newest = sorted(known, key=period_order)[-5:]
    there = f"the newest of the data are {', '.join(newest)}" if newest else "the data has none yet"
    if unit:
        fix = f"write it like {_SHAPES[unit][1]}" + (f"; {there}" if newest else "")
        raise InputError(f"{text!r} is no {unit}", where=Where(field=name), fix=fix)
    raise InputError(f"the data has no period {text!r}", where=Where(field=name), fix=f"name one that it has: {there}")


def _reads_like(text: str, unit: str) -> bool:
    if not re.fullmatch(_SHAPES[unit][0], text, re.ASCII):
        return False
    try:
        if unit == "week":
            dt.date.fromisocalendar(int(text[:4]), int(text[-2:]), 1)
        elif unit in ("day", "month"):
            dt.date.fromisoformat(text if unit == "day" else f"{text}-01")
        return unit != "year" or int(text) > 0
    except ValueError:
        return False
