"""What must not be written: columns that are dropped, and columns of which only a keyed hash goes on.

Dropped columns are never read (only columns that the spec uses are, and using a dropped one is an error). Hashing is
the first thing that happens to a row, before validation: the quarantine holds hashes too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from upkeep.data.kinds import to_kind
from upkeep.errors import SpecError, Where
from upkeep.spec.model import Privacy

_DIGEST_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class Protect:
    """A row function: the named columns' values become keyed BLAKE2b hashes, 32 hexadecimal digits; null stays null.

    Equal values have equal hashes, whatever type they came in (``7`` and ``"7"``): a column can still be an id, a
    group, a category or a slice.
    """

    columns: tuple[str, ...]
    key: bytes = field(repr=False)
    """At most 64 bytes."""

    def __call__(self, batch: Any) -> Any:
        for name in self.columns:
            if name in batch.schema.names:
                index = batch.schema.get_field_index(name)
                batch = batch.set_column(index, name, hash_column(batch.column(index), self.key))
        return batch


def hash_column(array: Any, key: bytes) -> Any:
    """A ``pa.StringArray`` of hashes; each distinct value is hashed once. Unreadable values are null."""
    import pyarrow as pa

    text, _ = to_kind(array, "categorical")
    unique = text.dictionary_encode()
    hashes = [
        None if value is None else hashlib.blake2b(value.encode(), digest_size=_DIGEST_BYTES, key=key).hexdigest()
        for value in unique.dictionary.to_pylist()
    ]
    return pa.array(hashes, pa.string()).take(unique.indices)


def key_name(privacy: Privacy, environ: Mapping[str, str]) -> str:
    """Names the key, so that two can be told apart and neither be found from it; empty where nothing is hashed.

    A keyed BLAKE2b of a fixed text. Raises :class:`SpecError` when the key is not in ``environ``.
    """
    key = protect(privacy, environ).key
    return hashlib.blake2b(b"the name of this key", digest_size=_DIGEST_BYTES, key=key).hexdigest() if key else ""


def protect(privacy: Privacy, environ: Mapping[str, str]) -> Protect:
    """The row function for ``spec.data.privacy``. Raises :class:`SpecError` when the key is not in ``environ``."""
    if not privacy.hash:
        return Protect(columns=(), key=b"")
    secret = environ.get(privacy.key, "")
    if not secret:
        raise SpecError(
            f"{', '.join(privacy.hash)} must be hashed, and the environment variable {privacy.key} holds no key",
            where=Where(field="data.privacy.key"),
            fix=f"set {privacy.key} to a long random text, and keep it: another key gives other hashes",
        )
    return Protect(columns=privacy.hash, key=hashlib.blake2b(secret.encode()).digest())
