"""How every record (a card, a dataset, a drift report) is written and read: canonical JSON of a frozen dataclass.

Canonical: UTF-8, sorted keys, no NaN or infinity (an unknown number is ``null``), two-space indent, newline at
the end. The same record always gives the same bytes, so a digest names it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from pathlib import Path
from typing import Any, TypeVar, cast

from upkeep.errors import IntegrityError, Where

T = TypeVar("T")


def digest(data: bytes) -> str:
    """The SHA-256 of ``data`` in hexadecimal: how content is named everywhere."""
    return hashlib.sha256(data).hexdigest()


def plain(value: Any) -> Any:
    """``value`` as JSON's own types. Raises ``ValueError`` on NaN or infinity: a record never holds one."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a record cannot hold {value}; say None where a number is unknown")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a record cannot hold a {type(value).__name__}")


def to_json(record: Any) -> bytes:
    """The record's canonical bytes."""
    return (json.dumps(plain(record), sort_keys=True, ensure_ascii=False, indent=2) + "\n").encode()


@functools.cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def from_json(kind: type[T], data: bytes, *, source: str = "") -> T:
    """A record read back, its schema checked. Raises :class:`IntegrityError` when it is not what it should be."""
    try:
        return cast(T, _adapter(cast(Any, kind)).validate_json(data))
    except ValueError as error:
        raise IntegrityError(
            f"this is not a readable {kind.__name__} record: {str(error).splitlines()[0]}",
            where=Where(file=source),
            fix="restore the file from a backup, or use the version of Upkeep that wrote it",
        ) from error


def write(path: Path, record: Any) -> None:
    """Write the record to ``path`` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, to_json(record))


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` over whatever is at ``path``, whole or not at all; its folder must be there."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)


def read(kind: type[T], path: Path) -> T:
    """Read the record at ``path``."""
    return from_json(kind, path.read_bytes(), source=str(path))
