"""The rows of one training: streamed from Parquet into tf.data in a seeded order, never the table in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from upkeep.data.kinds import Column
from upkeep.data.prepared import Prepared
from upkeep.data.split import TRAIN, mix, share
from upkeep.errors import UpkeepError
from upkeep.models import keras_feed
from upkeep.models.features import Fence
from upkeep.models.frame import to_frame
from upkeep.models.keras_runtime import tensorflow
from upkeep.models.manifest import Predictor
from upkeep.training.state import Hashes, among

T = TypeVar("T")
READ_ROWS = 8192
BUFFER_ROWS = 65_536
"""Rows that are in memory at once, and shuffled together."""
HASHES = ("_group", "_row")
NO_LOOKUPS: Mapping[str, Any] = {}
OPEN_PERIODS = 8
"""Periods that are read side by side, so that one buffer holds rows of several."""
WATCHED_ROWS = 20_000
"""At most so many watched rows are kept."""
_WATCH, _WATCHED, _FRACTION = (
    np.uint64(number) for number in (0x8A5CD789635D2DFF, 0x121FD2155C472F96, 0x3C79AC492BA7B653)
)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which training rows teach, and which are watched; a pure function of each row's hashes."""

    learned: Hashes = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    """Sorted: rows that were learned before."""
    rehearsal: float = 0.0
    """The share of those that teach again."""
    watched: float = 0.0
    """The share of the split keys that is watched."""
    fraction: float = 1.0
    """The share of the split keys that is there at all; the same ones as :func:`upkeep.training.rows.read_rows`."""
    only: Hashes | None = None
    """Sorted: only these rows are there at all."""
    salt: int = 0
    """Draws another sample of old rows each round."""

    @property
    def everything(self) -> bool:
        """Every row teaches, whatever its hashes."""
        return len(self.learned) == 0 and self.only is None and self.fraction >= 1 and self.watched == 0

    def new(self, keys: Hashes) -> npt.NDArray[np.bool_]:
        return ~among(keys, self.learned)

    def there(self, keys: Hashes, groups: Hashes) -> npt.NDArray[np.bool_]:
        there = np.ones(len(keys), dtype=bool)
        if self.fraction < 1:
            there &= share(mix(groups ^ _FRACTION)) < self.fraction
        if self.only is not None:
            there &= among(keys, self.only)
        return there

    def watches(self, groups: Hashes) -> npt.NDArray[np.bool_]:
        return share(mix(groups ^ _WATCH)) < self.watched

    def teaches(self, keys: Hashes, groups: Hashes) -> npt.NDArray[np.bool_]:
        chosen = self.there(keys, groups)
        if len(self.learned):
            again = share(mix(keys ^ mix(np.full(1, self.salt, dtype=np.uint64)))) < self.rehearsal
            chosen &= self.new(keys) | again
        if self.watched:
            chosen &= ~self.watches(groups)
        return chosen


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What one training learns from."""

    prepared: Prepared
    columns: tuple[Column, ...]
    periods: tuple[str, ...]
    choice: Choice
    fence: Fence | None = None
    """Rows with a number outside teach nothing."""
    teacher: Predictor | None = None
    """Whose answers are learned too."""
    weights: npt.NDArray[np.float32] | None = None
    """Of each class; None: all 1."""
    seed: int = 0
    failures: list[UpkeepError] = field(default_factory=list)
    """What went wrong while TensorFlow was reading: it would tell of it in its own words."""

    @property
    def names(self) -> list[str]:
        columns = self.prepared.summary.columns if self.teacher else self.columns  # a teacher may take others
        own = [self.prepared.summary.target, *HASHES]
        return list(dict.fromkeys([*(column.name for column in columns), *own]))

    def batches(self, periods: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows that teach, in the order they stand; text as dictionaries."""
        for batch in self._read(self.periods if periods is None else periods):
            chosen = self.prepared.codes(batch) >= 0
            if not self.choice.everything:
                chosen &= self.choice.teaches(*_hashes(batch))
            rows = batch if chosen.all() else batch.filter(pa.array(chosen))
            if self.fence is not None and rows.num_rows:
                numeric = [column for column in self.columns if column.kind == "numeric"]
                rows = rows.filter(pa.array(~self.fence.outside(to_frame(rows, numeric)).any(axis=1)))
            if rows.num_rows:
                yield rows

    def _read(self, periods: Sequence[str]) -> Iterator[pa.RecordBatch]:
        texts = [column.name for column in self.prepared.summary.columns if column.kind == "categorical"]
        return self.prepared.batches(periods=periods, columns=self.names, batch_rows=READ_ROWS, coded=texts)

    def watched(self) -> pa.Table:
        """The watched rows, or of many a sample drawn by hash."""
        kept: list[pa.RecordBatch] = []
        count = 0
        for wanted in (None, WATCHED_ROWS):
            if wanted is not None and count <= wanted:
                break
            limit = 1.0 if wanted is None else wanted / count
            kept, count = [], 0
            for batch in self.prepared.batches(periods=self.periods, columns=self.names, batch_rows=READ_ROWS):
                keys, groups = _hashes(batch)
                chosen = self.choice.there(keys, groups) & self.choice.watches(groups)
                chosen &= (self.prepared.codes(batch) >= 0) & (share(mix(keys ^ _WATCHED)) < limit)
                count += int(chosen.sum())
                if chosen.any() and (wanted is not None or count <= WATCHED_ROWS):
                    kept.append(batch.filter(pa.array(chosen)))
        schema = pa.schema([self.prepared.schema.field(name) for name in self.names])
        return pa.Table.from_batches(kept, schema)

    def chunks(self, epoch: int, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """The rows that teach, once, in an order that seed and epoch decide; without their hashes.

        Whole batches, but the last of all; what is left of a buffer goes into the next one.
        """
        rng = np.random.default_rng([self.seed, epoch, 0x1E5507])
        names = [name for name in self.names if name not in HASHES]
        waiting = [self.periods[i] for i in rng.permutation(len(self.periods))]
        streams: list[Iterator[pa.RecordBatch]] = []
        buffer: list[pa.RecordBatch] = []
        while waiting or streams or buffer:
            while waiting and len(streams) < OPEN_PERIODS:
                streams.append(self.batches([waiting.pop()]))
            if streams:
                place = int(rng.integers(len(streams)))
                batch = next(streams[place], None)
                if batch is None:
                    del streams[place]
                else:
                    buffer.append(batch.select(names))
            last = not waiting and not streams
            rows = sum(part.num_rows for part in buffer)
            if rows >= max(BUFFER_ROWS, batch_rows) or (last and buffer):
                # arrow's own memory, not numpy's: it comes back, where a new large array is paged in each time
                (together,) = pa.Table.from_batches(buffer).unify_dictionaries().combine_chunks().to_batches()
                shuffled = together.take(pa.array(rng.permutation(rows)))
                whole = rows - rows % batch_rows
                if whole:
                    yield shuffled.slice(0, whole)
                left = [shuffled.slice(whole)] if whole < rows else []
                if last:
                    yield from left
                buffer = [] if last else left

    def dataset(self, epoch: int, batch_rows: int, *, skip: int = 0, lookups: Mapping[str, Any] = NO_LOOKUPS) -> Any:
        """A ``tf.data.Dataset`` of one epoch: (inputs, codes), and a teacher's answers; ``batch_rows`` each.

        ``skip``: batches at the start that are left out. ``lookups``: of the inputs that are taken as places
        (:func:`upkeep.models.keras_feed.places`). Rows cross from Python in large blocks, and are cut into batches on
        the other side.
        """
        tf = tensorflow()
        classes = len(self.prepared.summary.classes)

        def generate() -> Iterator[Any]:
            left = skip
            try:
                for chunk in self.chunks(epoch, batch_rows):
                    rows = min(batch_rows, chunk.num_rows)
                    gone = min(left, chunk.num_rows // rows)
                    left -= gone
                    table = chunk.slice(gone * rows)
                    if table.num_rows == 0:
                        continue
                    given = keras_feed.places(keras_feed.parts(table, self.columns), lookups)
                    codes = self.prepared.codes(table).reshape(-1, rows)
                    answers = []
                    if self.teacher is not None:
                        taught = self.teacher.predict_proba(pa.Table.from_batches([table])).astype(np.float32)
                        answers.append(taught.reshape(-1, rows, classes))
                    yield keras_feed.blocks(given, rows), codes, *answers
            except UpkeepError as error:
                self.failures.append(error)
                raise

        answers = [tf.TensorSpec((None, None, classes), tf.float32)] if self.teacher else []
        of_blocks = keras_feed.block_signature(self.columns, lookups)
        blocks = tf.data.Dataset.from_generator(
            lambda: _ahead(generate()), output_signature=(of_blocks, tf.TensorSpec((None, None), tf.int64), *answers)
        )

        def cut(given: Any, *rest: Any) -> Any:
            texts = {name: value for name, value in given.items() if name.endswith("/texts")}
            rows = {name: value for name, value in given.items() if name not in texts}
            batches = tf.data.Dataset.from_tensor_slices((rows, *rest))
            if not texts:
                return batches
            inputs = tf.autograph.experimental.do_not_convert(
                lambda batch, *rest: (keras_feed.tensors({**batch, **texts}), *rest)
            )
            return batches.map(inputs)

        return blocks.flat_map(tf.autograph.experimental.do_not_convert(cut))


def _ahead(blocks: Iterator[T]) -> Iterator[T]:
    """The same, each made in a thread while the one before is used: with deterministic operations TensorFlow itself
    prefetches nothing that comes from Python."""
    with ThreadPoolExecutor(1, thread_name_prefix="feed") as thread:
        coming = thread.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = thread.submit(next, blocks, None)
            yield block


def _hashes(batch: Any) -> tuple[Hashes, Hashes]:
    keys, groups = (batch.column(name).to_numpy().astype(np.uint64, copy=False) for name in ("_row", "_group"))
    return keys, groups


@dataclass(frozen=True)
class Scan:
    """What there is to learn, counted."""

    keys: Hashes
    """Sorted: every row that is there and was not learned before, watched ones too."""
    rows: int
    """Rows that are there."""
    taught: npt.NDArray[np.int64]
    """Rows that teach, by class."""
    new: int
    """Rows that were not learned before."""
    periods: tuple[str, ...]
    """Of the new rows."""
    digest: str
    """Names the rows that are there, in their order."""


def scan(lesson: Lesson) -> Scan:
    """One pass over hashes and labels alone. Of all that a training holds, ``keys`` alone grows with the rows."""
    prepared, choice = lesson.prepared, lesson.choice
    names = [prepared.summary.target, *HASHES]
    keys = np.empty(prepared.count(parts=(TRAIN,), periods=lesson.periods), dtype=np.uint64)
    taught = np.zeros(len(prepared.summary.classes), dtype=np.int64)
    new, rows, periods, digest = 0, 0, [], hashlib.sha256()
    for period in lesson.periods:
        before = new
        for batch in prepared.batches(periods=[period], columns=names, batch_rows=BUFFER_ROWS):
            own, groups = _hashes(batch)
            codes = prepared.codes(batch)
            there = (codes >= 0) & choice.there(own, groups)
            first = own[there & choice.new(own)]
            keys[new : new + len(first)] = first
            new, rows = new + len(first), rows + int(there.sum())
            digest.update(own[there].tobytes())
            taught += np.bincount(codes[there & choice.teaches(own, groups)], minlength=len(taught))
        if new > before:
            periods.append(period)
    found = keys[:new]
    found.sort()
    if (found[1:] == found[:-1]).any():
        found = np.unique(found)
    return Scan(found, rows, taught, new, tuple(periods), digest.hexdigest())
