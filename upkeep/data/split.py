"""Which rows no training ever sees: a hash of the split key decides, for ever, whichever file brings the row.

The hash is part of the contract with every model that was ever trained: it must never change (golden values in the
tests hold it). A value's bytes are read as little-endian 64-bit words, the last one filled with zeros, and folded
with splitmix64's finaliser (Steele, Lea & Flood, OOPSLA 2014)::

    h = mix(seed + GAMMA × (length + 1))
    for word in words:  h = mix((h ^ word) + GAMMA)

It is no cryptographic hash: the salt makes a model's split its own, it does not keep a secret.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from upkeep.data.kinds import to_kind
from upkeep.data.layout import TimeUnit

Hashes = npt.NDArray[np.uint64]

TRAIN, VALIDATION, HELD_OUT, KEPT_OUT = "train", "validation", "held_out", "kept_out"
PARTS = (TRAIN, VALIDATION, HELD_OUT, KEPT_OUT)
"""What ``_part`` may be."""
FINGERPRINT = ""
"""The salt of ``_row`` and ``_content``, whatever the split's is."""

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_HALF, _HELD_OUT, _VALIDATION = (np.uint64(number) for number in (0x5851F42D4C957F2D, 0xA24BAED4963EE407, 1))
_MISSING, _WORD = 0x2545F4914F6CDD1D, 0x8EBC6AF09C88C6E3


def mix(hashes: Hashes) -> Hashes:
    """splitmix64's finaliser: a bijection of 64-bit numbers in which every bit of the input moves every bit."""
    hashes = hashes ^ (hashes >> np.uint64(30))
    hashes = hashes * np.uint64(0xBF58476D1CE4E5B9)
    hashes = hashes ^ (hashes >> np.uint64(27))
    hashes = hashes * np.uint64(0x94D049BB133111EB)
    return np.asarray(hashes ^ (hashes >> np.uint64(31)), dtype=np.uint64)


def seed(purpose: str, salt: str) -> int:
    """A 64-bit seed of its own for every purpose and salt (BLAKE2b)."""
    return int.from_bytes(hashlib.blake2b(f"{purpose}\0{salt}".encode(), digest_size=8).digest(), "little")


def hash_values(array: Any, seed: int) -> Hashes:
    """A 64-bit hash a value. ``array``: a ``pa.Array`` of text, numbers, booleans or timestamps; null has one too.

    Equal values of the same type have equal hashes; -0.0 is 0.0. Raises ``TypeError`` for nested types.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type):
        known = hash_values(array.dictionary, seed)
        codes = array.indices.fill_null(0).to_numpy(zero_copy_only=False)
        hashes = known[codes] if len(known) else np.zeros(len(array), np.uint64)
    elif pa.types.is_string(array.type):
        hashes = _hash_text(array, seed)
    elif pa.types.is_floating(array.type):
        numbers = pc.fill_null(array.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False) + 0.0
        hashes = _hash_words(numbers.view(np.uint64), seed)
    elif pa.types.is_timestamp(array.type) or pa.types.is_integer(array.type) or pa.types.is_boolean(array.type):
        integers = (
            array if pa.types.is_timestamp(array.type) else array.cast(pa.int8() if _is_bool(array) else pa.int64())
        )
        words = pc.fill_null(integers.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
        hashes = _hash_words(words.view(np.uint64), seed)
    elif pa.types.is_null(array.type):
        hashes = np.zeros(len(array), np.uint64)
    else:
        raise TypeError(f"a {array.type} has no hash")
    if array.null_count:
        missing = mix(np.array([(seed + _MISSING) % 2**64], np.uint64))[0]
        hashes = np.where(array.is_null().to_numpy(zero_copy_only=False), missing, hashes)
    return hashes


def _is_bool(array: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_boolean(array.type))


def _hash_words(words: Hashes, seed: int) -> Hashes:
    start = mix(np.array([(seed + _WORD) % 2**64], np.uint64))
    return mix((words ^ start) + _GAMMA)


def _hash_text(array: Any, seed: int) -> Hashes:
    count = len(array)
    if count == 0:
        return np.zeros(0, np.uint64)
    _, offset_buffer, data = array.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[array.offset : array.offset + count + 1].astype(np.int64)
    lengths = np.diff(offsets)
    first, last = int(offsets[0]), int(offsets[-1])
    # eight zero bytes behind the text, so that the last word of the last value can be read whole
    text = bytearray(last - first + 8)
    if data is not None:
        text[: last - first] = memoryview(data)[first:last]
    at_every_byte: Hashes = np.ndarray((last - first + 1,), dtype="<u8", buffer=text, strides=(1,))
    starts = offsets[:-1] - first
    hashes = mix(np.array([seed], np.uint64) + _GAMMA * (lengths.astype(np.uint64) + np.uint64(1)))
    for done in range(0, int(lengths.max()), 8):
        alive = np.flatnonzero(lengths > done)
        words = at_every_byte[starts[alive] + done].astype(np.uint64)
        spare = np.maximum(8 - (lengths[alive] - done), 0).astype(np.uint64) * np.uint64(8)
        words &= np.uint64(0xFFFFFFFFFFFFFFFF) >> spare
        hashes[alive] = mix((hashes[alive] ^ words) + _GAMMA)
    return hashes


def hash_content(columns: Mapping[str, Any], salt: str) -> Hashes:
    """A 64-bit hash of whole rows: the columns by name, in whatever order they are given. At least one column."""
    hashes: Hashes | None = None
    for name in sorted(columns):
        values = hash_values(columns[name], seed(f"content\0{name}", salt))
        hashes = values if hashes is None else mix((hashes ^ values) + _GAMMA)
    if hashes is None:
        raise ValueError("content needs a column")
    return hashes


def hash_place(file_digest: str, row_numbers: npt.NDArray[np.int64]) -> Hashes:
    """A 64-bit hash of a row's place, for rows without an id: the file's digest and the row's number."""
    return _hash_words(row_numbers.astype(np.uint64), seed("place", file_digest))


def share(hashes: Hashes) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each hash: its upper 53 bits."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True, kw_only=True)
class HashSplit:
    """The split by hash of the split key: which part a key belongs to, and nothing else decides."""

    held_out: float
    """The share of keys held out, in [0, 1]."""
    validation: float
    """The share of the other keys on which the best candidate is chosen."""

    def held_out_mask(self, group: Hashes) -> npt.NDArray[np.bool_]:
        """True where the key is held out. ``group``: the keys' hashes, uint64."""
        return share(mix(group ^ _HELD_OUT)) < self.held_out

    def validation_mask(self, group: Hashes) -> npt.NDArray[np.bool_]:
        """True where the key, if it is not held out, is a validation key."""
        return share(mix(group ^ _VALIDATION)) < self.validation


def choose_half(group: Hashes) -> npt.NDArray[np.bool_]:
    """True for the half of the validation keys that chooses among candidates; the other half teaches a stacking's
    final estimator. ``group``: ``_group``, uint64. Independent of what is held out and of what is validation."""
    return (mix(group ^ _HALF) >> np.uint64(63)).astype(bool)


def random_state_held_out(rows: int, held_out: float, random_state: int) -> npt.NDArray[np.bool_]:
    """True for the rows that ``sklearn.model_selection.train_test_split(range(rows), test_size=held_out,
    random_state=random_state)`` puts in its test set. Shape (rows,).

    scikit-learn's ShuffleSplit: the first ⌈rows × held_out⌉ of ``RandomState(random_state).permutation(rows)``.
    """
    mask = np.zeros(rows, dtype=bool)
    chosen = int(np.ceil(rows * held_out))
    mask[np.random.RandomState(random_state).permutation(rows)[:chosen]] = True
    return mask


@dataclass(frozen=True, kw_only=True)
class Assign:
    """A row function: adds ``_period``, ``_part``, ``_group``, ``_row`` and ``_content`` to cleaned rows of one file.

    ``_part`` is by hash alone: preparing overrides it where the newest period or ``random_state`` decides, and marks
    what is kept out. Rows of no period (their time is null) have a null ``_period``.
    """

    salt: str
    split: HashSplit
    content: tuple[str, ...]
    """The columns whose values are the row's content: features, time and target."""
    id: str | None
    group_column: str | None
    group_unit: TimeUnit | None
    time: str | None
    period: str | None
    """The file's period; None: from ``time``."""
    period_unit: TimeUnit | None
    file_digest: str

    def __call__(self, batch: Any) -> Any:
        import pyarrow as pa

        rows = batch.num_rows
        if self.period is not None:
            period = pa.array([self.period] * rows, pa.string())
        elif self.time is not None and self.period_unit is not None:
            period = period_of(batch.column(self.time), self.period_unit)
        else:
            raise ValueError("a file without a period needs a time and a unit")
        # what a row is known by later must outlive a new salt, which moves only what is held out
        content = hash_content({name: batch.column(name) for name in self.content}, FINGERPRINT)
        by_id = None if self.id is None else _text(batch.column(self.id))
        row = (
            hash_place(self.file_digest, batch.column("_row_number").to_numpy(zero_copy_only=False))
            if by_id is None
            else hash_values(by_id, seed("row", FINGERPRINT))
        )
        key = by_id
        if self.group_column is not None:
            key = _text(batch.column(self.group_column))
        elif self.group_unit is not None:
            key = period_of(batch.column(self.time), self.group_unit)
        # rows without any key: the content is the key, so that a row that comes back is in the same part
        group_seed = seed("group", self.salt)
        group = mix(content ^ np.uint64(group_seed)) if key is None else hash_values(key, group_seed)
        held_out = self.split.held_out_mask(group)
        part = np.where(held_out, 2, self.split.validation_mask(group).astype(np.int8)).astype(np.int8)
        added = {
            "_period": period,
            "_part": pa.DictionaryArray.from_arrays(pa.array(part), pa.array(list(PARTS))).dictionary_decode(),
            "_group": pa.array(group),
            "_row": pa.array(row),
            "_content": pa.array(content),
        }
        return pa.RecordBatch.from_arrays([*batch.columns, *added.values()], names=[*batch.schema.names, *added])


def period_of(times: Any, unit: TimeUnit) -> Any:
    """The period each time falls in (UTC), as text: 2013-04-01, 2013-W14 (ISO), 2013-04, 2013-Q2 or 2013.

    ``times``: a ``pa.Array`` of timestamp[us, UTC]. Null stays null.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    wall = times.cast(pa.timestamp("us"))  # without a zone Arrow needs no time-zone database
    unique = pc.floor_temporal(wall, unit=unit).dictionary_encode()
    starts = unique.dictionary
    if unit == "quarter":
        names = pc.binary_join_element_wise(pc.strftime(starts, "%Y"), pc.quarter(starts).cast(pa.string()), "-Q")
    else:
        names = pc.strftime(starts, {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m", "year": "%Y"}[unit])
    return names.take(unique.indices)


def _text(array: Any) -> Any:
    return to_kind(array, "categorical")[0]
