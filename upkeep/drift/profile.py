"""What a data set looks like, column by column, in little space: profiles that add up exactly.

A :class:`Reference` fixes, once, how columns are measured: a numeric column's bin edges and the unit its sums are
taken in, a categorical column's vocabulary. A :class:`Profile` holds counts and sums in those terms. As every value
counts by itself, and in whole numbers, ``profile(a) + profile(b) == profile(a + b)`` for any way to cut the rows:
periods, files, batches and machines can be profiled apart and added later, to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from upkeep import records
from upkeep.data.kinds import Column
from upkeep.errors import DataError, IntegrityError, Where

_TAIL = np.array([0.0001, 0.0003, 0.001, 0.003])
LEVELS = np.concatenate([_TAIL, np.arange(1, 120) / 120, 1 - _TAIL[::-1]])
"""The quantiles at which a numeric column is cut: even, and closer in the tails, where values lie far apart."""
BINS = len(LEVELS) + 1
"""At most this many bins a numeric column."""
VOCABULARY = 2000
"""The most frequent categories counted each by itself; all others share one count."""
OTHERS = 1000
"""Categories outside the vocabulary that a profile names: the first in the order of their text."""
SAMPLE = 1 << 16
"""Values a column from which edges are taken."""
COUNTED = 100_000
"""Categories counted at once while the vocabulary is chosen."""
UNIT_BITS = 28
"""Sums are taken in units of 2⁻²⁸ of the sample's span."""
RANGE = float(1 << 39)
"""Units up to which a value is summed by numpy; beyond, by Python's integers."""
BLOCK = 8192
"""Values summed at once: 8192 · 2⁴⁰ = 2⁵³, up to which float64 adds whole numbers exactly."""
HALF = float(1 << 20)

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NumericReference:
    edges: tuple[float, ...]
    """Ascending, finite. Bin i holds the values in (edges[i − 1], edges[i]]; the first and last bin are open."""
    discrete: bool
    """The edges are all values that the sample has."""
    center: float
    """Sums are of the distances from here."""
    exponent: int
    """… in units of two to this power."""
    time_of_day: bool = False
    """A column of times, measured in hours since midnight (a date itself always moves on)."""
    kind: Literal["numeric"] = "numeric"


@dataclass(frozen=True, kw_only=True)
class CategoricalReference:
    vocabulary: tuple[str, ...]
    """Most frequent first."""
    kind: Literal["categorical"] = "categorical"


ColumnReference = NumericReference | CategoricalReference


@dataclass(frozen=True)
class Reference:
    """How each column is measured. Its digest names it; profiles of another reference do not add to its own."""

    columns: dict[str, Annotated[ColumnReference, Field(discriminator="kind")]]
    schema_version: int = 1

    @cached_property
    def digest(self) -> str:
        return records.digest(records.to_json(self))


@dataclass(frozen=True, kw_only=True)
class NumericProfile:
    nulls: int
    """Nulls and NaN."""
    counts: tuple[int, ...]
    """Rows in each bin; infinite values count in the outermost."""
    infinite: int
    """Infinite values: in no sum, and neither smallest nor largest."""
    total: int
    """Σ k over the finite values: k = (value − center) / unit, rounded."""
    squares: int
    """Σ k²."""
    smallest: float | None
    largest: float | None
    kind: Literal["numeric"] = "numeric"

    @property
    def rows(self) -> int:
        """Rows with a value."""
        return sum(self.counts)

    def __add__(self, other: NumericProfile) -> NumericProfile:
        return NumericProfile(
            nulls=self.nulls + other.nulls,
            counts=_add(self.counts, other.counts),
            infinite=self.infinite + other.infinite,
            total=self.total + other.total,
            squares=self.squares + other.squares,
            smallest=min((x for x in (self.smallest, other.smallest) if x is not None), default=None),
            largest=max((x for x in (self.largest, other.largest) if x is not None), default=None),
        )

    def mean(self, reference: NumericReference) -> float | None:
        """The mean of the finite values, None without any."""
        finite = self.rows - self.infinite
        if not finite:
            return None
        return _float(Fraction(reference.center) + Fraction(self.total, finite) * _unit(reference))

    def deviation(self, reference: NumericReference) -> float | None:
        """The standard deviation (of the population) of the finite values, None without any."""
        finite = self.rows - self.infinite
        if not finite:
            return None
        variance = Fraction(finite * self.squares - self.total**2, finite**2)
        root = math.isqrt((variance.numerator << 128) // variance.denominator)
        return _float(Fraction(root, 1 << 64) * _unit(reference))


@dataclass(frozen=True, kw_only=True)
class CategoricalProfile:
    nulls: int
    counts: tuple[int, ...]
    """Rows of each category of the vocabulary."""
    rest: int
    """Rows of all other categories."""
    others: dict[str, int]
    """Rows of those others: the first ``OTHERS`` of them in the order of their text."""
    kind: Literal["categorical"] = "categorical"

    @property
    def rows(self) -> int:
        """Rows with a value."""
        return sum(self.counts) + self.rest

    def __add__(self, other: CategoricalProfile) -> CategoricalProfile:
        others = dict(self.others)
        for name, count in other.others.items():
            others[name] = others.get(name, 0) + count
        return CategoricalProfile(
            nulls=self.nulls + other.nulls,
            counts=_add(self.counts, other.counts),
            rest=self.rest + other.rest,
            others=_first(others),
        )

    def surely_lacks(self, category: str) -> bool:
        """Whether no row had this category, which is not in the vocabulary."""
        if category in self.others:
            return False
        return len(self.others) < OTHERS or category < max(self.others)


ColumnProfile = NumericProfile | CategoricalProfile


@dataclass(frozen=True, kw_only=True)
class Profile:
    reference: str
    """The digest of the reference it is measured by."""
    rows: int
    columns: dict[str, Annotated[ColumnProfile, Field(discriminator="kind")]]
    schema_version: int = 1

    def __add__(self, other: Profile) -> Profile:
        if self.reference != other.reference:
            raise DataError(
                f"profiles of different references do not add up ({self.reference[:12]} and {other.reference[:12]})",
                fix="profile both sets of rows by the same reference",
            )
        return Profile(
            reference=self.reference,
            rows=self.rows + other.rows,
            columns={name: add_columns(column, other.columns[name]) for name, column in self.columns.items()},
        )


@dataclass(frozen=True)
class Baseline:
    """A reference and the profile of the rows it came from: all that later rows are compared with."""

    reference: Reference
    profile: Profile
    schema_version: int = 1

    def __post_init__(self) -> None:
        if self.profile.reference != self.reference.digest:
            raise IntegrityError(
                "this profile was not measured by this reference",
                fix="restore both from a backup, or profile the reference rows anew",
            )

    @cached_property
    def digest(self) -> str:
        return records.digest(records.to_json(self))


def add_columns(one: ColumnProfile, other: ColumnProfile) -> ColumnProfile:
    """Two profiles of one column by the same reference, added."""
    if isinstance(one, NumericProfile) and isinstance(other, NumericProfile):
        return one + other
    if isinstance(one, CategoricalProfile) and isinstance(other, CategoricalProfile):
        return one + other
    raise DataError("a numeric and a categorical profile do not add up", fix="profile both by the same reference")


# ---- measuring ----


@dataclass(frozen=True)
class ProfileFold:
    """Profiling as a fold over record batches (``upkeep.data.batches.Fold``)."""

    reference: Reference

    def zero(self) -> Profile:
        columns = {name: empty_column(column) for name, column in self.reference.columns.items()}
        return Profile(reference=self.reference.digest, rows=0, columns=columns)

    def add(self, state: Profile, batch: pa.RecordBatch) -> Profile:
        missing = [name for name in self.reference.columns if name not in batch.schema.names]
        if missing:
            raise DataError(
                f"the rows to profile have no column {', '.join(missing)}",
                where=Where(field=missing[0]),
                fix="compare data that has the reference's columns",
            )
        columns = {
            name: profile_column(batch.column(name), column, name=name)
            for name, column in self.reference.columns.items()
        }
        return state + Profile(reference=self.reference.digest, rows=batch.num_rows, columns=columns)

    def merge(self, one: Profile, other: Profile) -> Profile:
        return one + other


def profile(batches: Iterable[pa.RecordBatch], reference: Reference) -> Profile:
    """The profile of all rows. Raises :class:`DataError` when a column is missing or of another kind."""
    fold = ProfileFold(reference)
    state = fold.zero()
    for batch in batches:
        state = fold.add(state, batch)
    return state


def empty_column(reference: ColumnReference) -> ColumnProfile:
    """The profile of no rows."""
    if isinstance(reference, CategoricalReference):
        return CategoricalProfile(nulls=0, counts=(0,) * len(reference.vocabulary), rest=0, others={})
    counts = (0,) * (len(reference.edges) + 1)
    return NumericProfile(nulls=0, counts=counts, infinite=0, total=0, squares=0, smallest=None, largest=None)


def profile_column(array: pa.Array, reference: ColumnReference, *, name: str = "") -> ColumnProfile:
    """The profile of one column's values. Raises :class:`DataError` when they cannot be read as its kind."""
    if isinstance(reference, CategoricalReference):
        return _profile_categories(array, reference, name)
    return _profile_numbers(array, reference, name)


def _profile_numbers(array: pa.Array, reference: NumericReference, name: str) -> NumericProfile:
    ordered = np.sort(numbers(array, name))  # one sort gives bins, ends and NaN; numpy's is vectorised
    valid = int(np.searchsorted(ordered, np.nan, side="left"))
    ordered = ordered[:valid]
    below = np.searchsorted(ordered, np.asarray(reference.edges), side="right")
    counts = np.diff(below, prepend=0, append=valid)
    start = int(np.searchsorted(ordered, -np.inf, side="right"))
    finite = ordered[start : int(np.searchsorted(ordered, np.inf, side="left"))]
    total, squares = exact_sums(finite, reference.center, reference.exponent)
    return NumericProfile(
        nulls=len(array) - valid,
        counts=tuple(counts.tolist()),
        infinite=valid - len(finite),
        total=total,
        squares=squares,
        smallest=float(finite[0]) + 0.0 if len(finite) else None,  # + 0.0: no negative zero
        largest=float(finite[-1]) + 0.0 if len(finite) else None,
    )


def exact_sums(ordered: Values, center: float, exponent: int) -> tuple[int, int]:
    """Σ k and Σ k² with k = round((value − center) / 2^exponent), exactly, for finite ascending values.

    Each k is below 2³⁹ and split in two halves of 20 bits, so that every sum of a block stays below 2⁵³, where float64
    adds whole numbers without rounding in whatever order; a value beyond goes through Python's integers.
    """
    with np.errstate(over="ignore"):
        units = (ordered - center) * math.ldexp(1.0, -exponent)
    np.rint(units, out=units)
    first = int(np.searchsorted(units, -RANGE, side="right"))
    last = int(np.searchsorted(units, RANGE, side="left"))
    total = squares = 0
    for start in range(first, last, BLOCK):
        block = units[start : min(start + BLOCK, last)]
        high = np.floor(block * (1 / HALF))
        low = block - high * HALF
        total += int(block.sum())
        squares += (int(high @ high) << 40) + (int(high @ low) << 21) + int(low @ low)
    if first or last < len(units):
        unit = Fraction(2) ** exponent
        for value in np.concatenate([ordered[:first], ordered[last:]]).tolist():
            k = round((Fraction(value) - Fraction(center)) / unit)
            total += k
            squares += k * k
    return total, squares


def _profile_categories(array: pa.Array, reference: CategoricalReference, name: str) -> CategoricalProfile:
    names, counts, nulls = categories(array, name)
    place = pc.index_in(names, value_set=_vocabulary(reference.vocabulary))
    known = _mask(place.is_valid())
    inside = np.zeros(len(reference.vocabulary), dtype=np.int64)
    np.add.at(inside, _view(place.drop_null(), np.int32), counts[known])
    others: dict[str, int] = {}
    rest = 0
    outside = ~known & (counts > 0)
    if outside.any():
        rest = int(counts[outside].sum())
        for text, count in zip(names.filter(_flags(outside)).to_pylist(), counts[outside].tolist(), strict=True):
            others[text] = others.get(text, 0) + count
    return CategoricalProfile(nulls=nulls, counts=tuple(inside.tolist()), rest=rest, others=_first(others))


@lru_cache(maxsize=64)
def _vocabulary(names: tuple[str, ...]) -> pa.Array:
    encoded = [name.encode() for name in names]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(names), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


# ---- reading a column ----


def is_time(type_: pa.DataType) -> bool:
    """Whether a column of this Arrow type is measured by its time of day."""
    return bool(pa.types.is_temporal(type_) and not pa.types.is_duration(type_))


def numbers(array: pa.Array, name: str = "", *, nulls: bool = False) -> Values:
    """The values as float64 (rows,), without nulls or with nulls as NaN; a time as hours since midnight.

    Raises :class:`DataError` for what is not a number.
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    values = _hours(array) if is_time(array.type) else _view(_float64(array, name), np.float64)
    if not array.null_count:
        return values
    valid = _mask(array.is_valid())
    kept: Values = np.where(valid, values, np.nan) if nulls else values[valid]
    return kept


def _float64(array: pa.Array, name: str) -> pa.Array:
    if pa.types.is_float64(array.type):
        return array
    try:
        if pa.types.is_boolean(array.type):
            array = array.cast(pa.uint8())
        elif pa.types.is_duration(array.type):
            array = array.cast(pa.int64())
        return array.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"a numeric column holds what is not a number: {str(error).splitlines()[0]}",
            where=Where(field=name),
            fix="compare columns of the same kind, or name the column categorical",
        ) from error


def _hours(array: pa.Array) -> Values:
    if pa.types.is_date(array.type):
        return np.zeros(len(array))
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("us", array.type.tz), safe=False)
    else:
        array = array.cast(pa.time64("us"), safe=False)
    microseconds = _view(array.cast(pa.int64()), np.int64)
    hours: Values = np.mod(microseconds, 86_400_000_000) / 3_600_000_000
    return hours


def categories(array: pa.Array, name: str = "") -> tuple[pa.Array, npt.NDArray[np.int64], int]:
    """Distinct texts (a name may stand there twice), the rows of each, and the nulls."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if not pa.types.is_dictionary(array.type):
        try:
            array = array.dictionary_encode()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"a column of type {array.type} has no categories",
                where=Where(field=name),
                fix="leave the column out, or turn it into text",
            ) from error
    indices = array.indices
    if indices.null_count:
        indices = indices.drop_null()
    names = array.dictionary
    counts = np.bincount(_view(indices, indices.type.to_pandas_dtype()), minlength=len(names)).astype(np.int64)
    if names.type != pa.string():
        names = names.cast(pa.string())
    if names.null_count:
        valid = _mask(names.is_valid())
        names, counts = names.drop_null(), counts[valid]
    return names, counts, len(array) - int(counts.sum())


# ---- choosing the reference ----


class NumberSample:
    """Every n-th value of a column, at most ``SAMPLE`` of them; the same for the same rows however they are cut."""

    def __init__(self, *, time_of_day: bool = False) -> None:
        self._time_of_day = time_of_day
        self._step = 1
        self._next = 0
        self._parts: list[Values] = []
        self._held = 0

    def add(self, array: pa.Array, name: str = "") -> None:
        self._time_of_day = self._time_of_day or is_time(array.type)
        values = numbers(array, name)
        values = values[np.isfinite(values)]
        taken = values[self._next :: self._step].copy()
        self._next = (self._next - len(values)) % self._step
        if len(taken):
            self._parts.append(taken)
            self._held += len(taken)
        while self._held > SAMPLE:
            sample = np.concatenate(self._parts)
            # keep every second one; the next to be taken is on the doubled grid when an even number is held
            if len(sample) % 2:
                self._next += self._step
            self._parts = [sample[::2]]
            self._held = len(self._parts[0])
            self._step *= 2

    def finish(self) -> NumericReference:
        sample = np.sort(np.concatenate(self._parts)) if self._parts else np.zeros(0)
        if not len(sample):
            exponent = -UNIT_BITS
            return NumericReference(
                edges=(0.0,), discrete=False, center=0.0, exponent=exponent, time_of_day=self._time_of_day
            )
        distinct = np.unique(sample) + 0.0
        discrete = len(distinct) < BINS
        quantiles = sample[(LEVELS * len(sample)).astype(np.int64)]
        edges = distinct if discrete else np.unique(quantiles) + 0.0
        center = float(sample[len(sample) // 2]) + 0.0
        with np.errstate(over="ignore"):
            span = float(max(sample[-1] - center, center - sample[0])) or abs(center) or 1.0
        exponent = math.frexp(min(span, 1e300))[1] - UNIT_BITS
        return NumericReference(
            edges=tuple(edges.tolist()),
            discrete=discrete,
            center=center,
            exponent=max(-1000, exponent),
            time_of_day=self._time_of_day,
        )


class CategoryCount:
    """The most frequent categories of a column, in bounded memory."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, array: pa.Array, name: str = "") -> None:
        names, counts, _ = categories(array, name)
        for text, count in zip(names.to_pylist(), counts.tolist(), strict=True):
            if count:
                self._counts[text] = self._counts.get(text, 0) + count
        if len(self._counts) > 2 * COUNTED:
            self._counts = dict(self._ranked()[:COUNTED])

    def _ranked(self) -> list[tuple[str, int]]:
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))

    def finish(self) -> CategoricalReference:
        return CategoricalReference(vocabulary=tuple(text for text, _ in self._ranked()[:VOCABULARY]))


def start_column(column: Column) -> NumberSample | CategoryCount:
    """What gathers a column's reference."""
    if column.kind == "categorical":
        return CategoryCount()
    return NumberSample(time_of_day=column.kind == "datetime")


def make_reference(batches: Iterable[pa.RecordBatch], columns: Sequence[Column]) -> Reference:
    """How to measure these columns, from one pass over the reference rows.

    Raises :class:`DataError` when a column is missing or of another kind.
    """
    gathered = {column.name: start_column(column) for column in columns}
    for batch in batches:
        for name, gather in gathered.items():
            if name not in batch.schema.names:
                raise DataError(
                    "the reference rows have no such column",
                    where=Where(field=name),
                    fix="compare data that has the reference's columns",
                )
            gather.add(batch.column(name), name)
    return Reference({name: gather.finish() for name, gather in gathered.items()})


def make_baseline(read: Callable[[], Iterable[pa.RecordBatch]], columns: Sequence[Column]) -> Baseline:
    """Reference and profile of the rows that ``read()`` streams; it is called twice."""
    reference = make_reference(read(), columns)
    return Baseline(reference, profile(read(), reference))


# ---- prepared rows ----


def profile_prepared(
    prepared: Any,
    reference: Reference,
    parts: Sequence[str] = ("train", "validation", "held_out"),
    periods: Sequence[str] | None = None,
    extend: Callable[[pa.RecordBatch], pa.RecordBatch] | None = None,
) -> dict[str, Profile]:
    """The profile of each period of a ``Prepared`` folder, in its order.

    ``extend`` may add columns (a model's predictions, say) to each batch before it is measured; it then gets all of
    the folder's columns.
    """
    profiles = {}
    for period in prepared.periods if periods is None else periods:
        profiles[period] = profile(_prepared_batches(prepared, reference.columns, parts, [period], extend), reference)
    return profiles


def baseline_prepared(
    prepared: Any,
    columns: Sequence[Column],
    parts: Sequence[str] = ("train",),
    periods: Sequence[str] | None = None,
    extend: Callable[[pa.RecordBatch], pa.RecordBatch] | None = None,
) -> Baseline:
    """The baseline of some rows of a ``Prepared`` folder; ``extend`` as in :func:`profile_prepared`."""
    names = {column.name: column for column in columns}
    return make_baseline(lambda: _prepared_batches(prepared, names, parts, periods, extend), columns)


def _prepared_batches(
    prepared: Any,
    columns: Mapping[str, object],
    parts: Sequence[str],
    periods: Sequence[str] | None,
    extend: Callable[[pa.RecordBatch], pa.RecordBatch] | None,
) -> Iterator[pa.RecordBatch]:
    wanted = None if extend else list(columns)
    batches = prepared.batches(parts=tuple(parts), periods=periods, columns=wanted)
    return map(extend, batches) if extend else iter(batches)


# ---- small helpers ----


def _view(array: pa.Array, dtype: type[np.generic]) -> npt.NDArray[Any]:
    """The values of an array in place; whatever stands there for a null.

    As everywhere here, buffers and not ``Array.to_numpy``, ``pa.array`` or ``pa.scalar``: those import pandas, which
    costs more than profiling a million rows.
    """
    size = np.dtype(dtype).itemsize
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(len(array), dtype)
    return np.frombuffer(buffer, dtype, count=len(array), offset=array.offset * size)


def _mask(array: pa.Array) -> npt.NDArray[np.bool_]:
    return _view(array.cast(pa.uint8()), np.uint8).view(np.bool_)


def _flags(mask: npt.NDArray[np.bool_]) -> pa.Array:
    return pa.Array.from_buffers(pa.bool_(), len(mask), [None, pa.py_buffer(np.packbits(mask, bitorder="little"))])


def _add(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _first(others: dict[str, int]) -> dict[str, int]:
    if len(others) <= OTHERS:
        return others
    return {name: others[name] for name in sorted(others)[:OTHERS]}


def _unit(reference: NumericReference) -> Fraction:
    return Fraction(2) ** reference.exponent


def _float(value: Fraction) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None
