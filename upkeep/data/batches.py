"""The one seam for row-wise work: ``map`` and ``fold`` over Arrow record batches, streaming.

A mapped function takes a ``pa.RecordBatch`` and returns one; it is pure and can be pickled, so that another engine
(Spark's ``mapInArrow``, a pool of processes) can run the same function. A fold's states can be merged in any
grouping, in the order of the batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

S = TypeVar("S")
RowFunction = Callable[[Any], Any]
"""``pa.RecordBatch`` → ``pa.RecordBatch``; pure, and can be pickled."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Row functions one after the other, as one."""

    steps: tuple[RowFunction, ...]

    def __call__(self, batch: Any) -> Any:
        for step in self.steps:
            batch = step(batch)
        return batch


class Fold(Protocol[S]):
    """Sums up batches: ``merge(add(zero(), a), add(zero(), b)) == add(add(zero(), a), b)``."""

    def zero(self) -> S: ...

    def add(self, state: S, batch: Any) -> S:
        """``state`` and one more ``pa.RecordBatch``; may change ``state`` and return it."""
        ...

    def merge(self, first: S, second: S) -> S: ...


def map_batches(function: RowFunction, batches: Iterable[Any]) -> Iterator[Any]:
    """``function`` of each batch, one at a time."""
    for batch in batches:
        yield function(batch)


def fold_batches(fold: Fold[S], batches: Iterable[Any]) -> S:
    """The fold of all batches, of which one at a time is in memory."""
    state = fold.zero()
    for batch in batches:
        state = fold.add(state, batch)
    return state
