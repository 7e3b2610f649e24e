"""The rows a candidate learns from: read once, as a frame and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from upkeep.data.prepared import Prepared
from upkeep.data.split import TRAIN, mix, share
from upkeep.errors import DataError, Where
from upkeep.models.frame import to_frame
from upkeep.spec.model import Label

_FRACTION = np.uint64(0x3C79AC492BA7B653)  # so that a fraction of the rows is independent of the split


@dataclass(frozen=True)
class Rows:
    """Labelled rows; all members have the same length and order."""

    frame: Any
    """``pandas.DataFrame`` of the raw feature columns, as :func:`upkeep.models.frame.to_frame` makes it."""
    codes: npt.NDArray[np.int64]
    """Position in the classes."""
    groups: npt.NDArray[np.uint64]
    """The split key's hash."""
    keys: npt.NDArray[np.uint64]
    """The row's own hash."""
    periods: npt.NDArray[np.object_]
    """The period each row belongs to."""

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, chosen: npt.NDArray[Any]) -> Rows:
        """The rows of a mask or of positions, in that order."""
        positions = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        return Rows(
            self.frame.iloc[positions].reset_index(drop=True),
            self.codes[positions],
            self.groups[positions],
            self.keys[positions],
            self.periods[positions],
        )

    def period_names(self, order: Sequence[str]) -> tuple[str, ...]:
        """The periods that occur, in the given order."""
        there = set(self.periods.tolist())
        return tuple(period for period in order if period in there)


def read_rows(
    prepared: Prepared, *, parts: Sequence[str] = (TRAIN,), periods: Sequence[str] | None = None, fraction: float = 1.0
) -> Rows:
    """The prepared rows of ``parts``, in order, without those that have no label.

    ``fraction`` below 1 keeps that share of the split groups, the same ones each time, chosen by hash.
    """
    summary = prepared.summary
    columns = [column.name for column in summary.columns]
    own = ["_group", "_row", "_period"]
    table = prepared.table(parts=parts, periods=periods, columns=list(dict.fromkeys([*columns, summary.target, *own])))
    codes = prepared.codes(table)
    groups = table.column("_group").to_numpy().astype(np.uint64)
    keep = codes >= 0
    if fraction < 1:
        keep &= share(mix(groups ^ _FRACTION)) < fraction
    names = np.asarray(table.column("_period").to_pandas(), dtype=object)
    keys = table.column("_row").to_numpy().astype(np.uint64)
    rows = Rows(to_frame(table, summary.columns), codes, groups, keys, names)
    return rows if keep.all() else rows.take(keep)


def labels(classes: Sequence[Label], codes: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """The labels themselves, as an array of str, bool or int64."""
    return np.array(list(classes))[codes]


def require_two_classes(rows: Rows, classes: Sequence[Label], what: str) -> None:
    """Raise :class:`DataError` when there is nothing to tell apart in ``rows``."""
    require_two_labels(np.bincount(rows.codes, minlength=len(classes)), classes, what)


def require_two_labels(counts: npt.NDArray[np.int64], classes: Sequence[Label], what: str) -> None:
    """The same, where rows were counted by class."""
    found = np.flatnonzero(counts)
    if len(found) == 0:
        raise DataError(
            f"there is no row to train {what} on",
            where=Where(field="data"),
            fix="add data, widen the candidate's window, or lower data.split.held_out",
        )
    if len(found) < 2:
        label = classes[int(found[0])]
        raise DataError(
            f"all {counts.sum()} rows to train {what} on have the label {label!r}: there is nothing to learn",
            where=Where(field="data.target.column"),
            fix="add rows of the other classes, or widen the candidate's window",
        )
