"""Rows and what each model answered on them, as codes and probabilities: all that evaluation keeps in memory.

Raw columns stream through batch by batch and are dropped. A row costs 2 bytes of codes, one a slice column (two or
four where a column has more than 256 or 65,536 values), 8 of its group, and 1 byte and the probabilities a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from upkeep.data.prepared import Prepared
from upkeep.data.split import choose_half
from upkeep.errors import DataError, ModelError, UpkeepError
from upkeep.evaluation.metrics import Codes, code_type
from upkeep.models.manifest import Predictor
from upkeep.spec.model import Label

NULL = "(null)"
"""How a missing value of a slice column is named."""


@dataclass(frozen=True)
class Answers:
    """One model's answers."""

    predicted: Codes
    """Codes, shape (rows,): the class of the highest probability, the first of equals."""
    probabilities: npt.NDArray[Any]
    """Shape (rows, classes); float64 for two classes, float32 for more."""

    def take(self, which: npt.NDArray[Any]) -> Answers:
        return Answers(self.predicted[which], self.probabilities[which])


@dataclass(frozen=True)
class Rows:
    """Held-out (or validation) rows, in the order they were read."""

    classes: tuple[Label, ...]
    positive: int | None
    """Code of the positive class."""
    truth: Codes
    """Codes, shape (rows,)."""
    periods: tuple[str, ...]
    period: Codes
    """Index into ``periods``, shape (rows,)."""
    groups: npt.NDArray[np.uint64] | None
    """Hash of the split key, shape (rows,); None: every row stands for itself."""
    slices: dict[str, tuple[Codes, tuple[str, ...]]] = field(default_factory=dict)
    """Slice column → codes, shape (rows,), and the values they stand for."""
    answers: dict[str, Answers] = field(default_factory=dict)
    """``champion`` and ``candidate``, or the candidates by name."""

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, which: npt.NDArray[Any]) -> Rows:
        """The rows that a boolean mask or an array of indices names."""
        return replace(
            self,
            truth=self.truth[which],
            period=self.period[which],
            groups=None if self.groups is None else self.groups[which],
            slices={name: (codes[which], values) for name, (codes, values) in self.slices.items()},
            answers={name: answers.take(which) for name, answers in self.answers.items()},
        )

    def in_periods(self, keep: Callable[[str], bool]) -> Rows:
        """The rows of the periods that ``keep`` says yes to."""
        kept = np.array([keep(period) for period in self.periods], dtype=bool)
        mask = kept[self.period] if len(self.periods) else np.zeros(len(self), dtype=bool)
        return self if mask.all() else self.take(mask)

    @property
    def present(self) -> tuple[str, ...]:
        """The periods that have rows, in order."""
        rows = np.bincount(self.period, minlength=len(self.periods))
        return tuple(period for period, number in zip(self.periods, rows, strict=True) if number)


@dataclass
class _Growing:
    """Codes of a text column whose values turn up as rows come."""

    known: dict[str, int] = field(default_factory=dict)
    parts: list[npt.NDArray[np.uint32]] = field(default_factory=list)

    def add(self, column: Any) -> None:
        texts = (
            column.cast(pa.string()).combine_chunks()
            if isinstance(column, pa.ChunkedArray)
            else column.cast(pa.string())
        )
        encoded = pc.fill_null(texts, NULL).dictionary_encode()
        codes = np.array([self.known.setdefault(value, len(self.known)) for value in encoded.dictionary.to_pylist()])
        self.parts.append(codes.astype(code_type(max(len(self.known), 1)))[encoded.indices.to_numpy()])

    def codes(self) -> tuple[Codes, tuple[str, ...]]:
        """Codes in the order of the sorted values."""
        values = tuple(sorted(self.known))
        kind = code_type(max(len(values), 1))
        rank = np.zeros(max(len(values), 1), dtype=kind)
        for position, value in enumerate(values):
            rank[self.known[value]] = position
        return rank[np.concatenate(self.parts)] if self.parts else np.zeros(0, kind), values


def checked_probabilities(predictor: Predictor, table: pa.Table) -> npt.NDArray[np.float64]:
    """The predictor's answer, shape (rows, its classes). Raises ``ModelError`` when it is no probability."""
    raw = np.asarray(predictor.predict_proba(table), dtype=np.float64)
    expected = (table.num_rows, len(predictor.manifest.classes))
    if raw.shape != expected:
        raise ModelError(
            f"the model answered an array of shape {raw.shape} where {expected} is due",
            fix="predict_proba must give one row of probabilities a row, one column a class",
        )
    if not np.isfinite(raw).all() or (raw < -1e-9).any() or (np.abs(raw.sum(axis=1) - 1) > 1e-3).any():
        raise ModelError(
            "the model answered with numbers that are no probabilities (NaN, negative, or not summing to 1)",
            fix="look for missing values that the estimator cannot take, or for a custom predict_proba",
        )
    return raw


def ask(predictor: Predictor, table: pa.Table, classes: Sequence[Label]) -> npt.NDArray[np.float64]:
    """Probabilities in the order of ``classes``, shape (rows, classes): 0 for a class that the model does not know."""
    raw = checked_probabilities(predictor, table)
    own = {_key(label): position for position, label in enumerate(predictor.manifest.classes)}
    columns = [own.get(_key(label)) for label in classes]
    result = np.zeros((len(raw), len(classes)))
    for position, column in enumerate(columns):
        if column is not None:
            result[:, position] = raw[:, column]
    return result


def _key(label: Label) -> tuple[str, Label]:
    return type(label).__name__, label  # True is not 1 here


def union_of_classes(first: Sequence[Label], *others: Sequence[Label]) -> tuple[Label, ...]:
    """``first``, then the labels that only the others know: a code for every answer that may come."""
    seen = {_key(label): label for label in first}
    for labels in others:
        for label in labels:
            seen.setdefault(_key(label), label)
    return tuple(seen.values())


def collect(
    prepared: Prepared,
    models: Mapping[str, Predictor],
    *,
    parts: Sequence[str] = ("held_out",),
    periods: Sequence[str] | None = None,
    slices: Sequence[str] = (),
    classes: Sequence[Label] | None = None,
    only_choosing_half: bool = False,
    tick: Callable[[int], None] | None = None,
) -> tuple[Rows, dict[str, str]]:
    """Stream the rows of ``parts`` through every model; returns them with the answers, and the models that failed.

    ``classes``: the codes to use, the data's own first; the default is the data's. A model that raises, or answers
    something that is no probability, is left out and its reason returned: nothing it said counts.
    ``only_choosing_half``: only rows that :func:`upkeep.data.split.choose_half` selects. ``tick`` is told the rows
    done. Raises ``DataError`` for a label that is none of the classes.
    """
    summary = prepared.summary
    classes = tuple(classes or summary.classes)
    kind = code_type(len(classes))
    probability_type = np.float64 if len(classes) <= 2 else np.float32
    wanted = {summary.target, "_period", "_group", *slices}
    for predictor in models.values():
        wanted |= {column.name for column in predictor.manifest.columns}
    truth: list[npt.NDArray[Any]] = []
    period, groups = _Growing(), []
    slice_codes = {name: _Growing() for name in slices}
    predicted: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in models}
    probabilities: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in models}
    failed: dict[str, str] = {}
    done = 0
    for batch in prepared.batches(parts=tuple(parts), periods=periods, columns=sorted(wanted)):
        table = pa.Table.from_batches([batch])
        keys = np.asarray(table.column("_group").to_numpy(), dtype=np.uint64)
        if only_choosing_half:
            half = choose_half(keys)
            table, keys = table.filter(pa.array(half)), keys[half]
            if not table.num_rows:
                continue
        codes = prepared.codes(table)
        if (codes < 0).any():
            raise DataError("a prepared row has a label that is none of the classes", fix="run preprocess again")
        truth.append(codes.astype(kind))
        period.add(table.column("_period"))
        if summary.group:
            groups.append(keys)
        for name, growing in slice_codes.items():
            growing.add(table.column(name))
        for name, predictor in models.items():
            if name in failed:
                continue
            try:
                answer = ask(predictor, table, classes)
            except Exception as error:  # noqa: BLE001  a model is somebody's code: whatever it raises, it failed
                failed[name] = reason_of(error)
                continue
            predicted[name].append(answer.argmax(axis=1).astype(kind))
            probabilities[name].append(answer.astype(probability_type))
        done += table.num_rows
        if tick:
            tick(done)
    period_codes, names = period.codes()
    order = [name for name in prepared.periods if name in names]
    place: Codes = np.array([order.index(name) for name in names] or [0]).astype(code_type(max(len(names), 1)))
    positive = None if summary.positive is None else [_key(c) for c in classes].index(_key(summary.positive))
    rows = Rows(
        classes=classes,
        positive=positive,
        truth=np.concatenate(truth) if truth else np.zeros(0, kind),
        periods=tuple(order),
        period=place[period_codes],
        groups=(np.concatenate(groups) if groups else np.zeros(0, np.uint64)) if summary.group else None,
        slices={name: growing.codes() for name, growing in slice_codes.items()},
        answers={
            name: Answers(
                np.concatenate(predicted[name]) if predicted[name] else np.zeros(0, kind),
                np.concatenate(probabilities[name])
                if probabilities[name]
                else np.zeros((0, len(classes)), probability_type),
            )
            for name in models
            if name not in failed
        },
    )
    return rows, failed


def reason_of(error: BaseException) -> str:
    """What went wrong, in one line."""
    text = error.problems[0].message if isinstance(error, UpkeepError) else str(error).strip().partition("\n")[0]
    return text or type(error).__name__


def sample_table(
    prepared: Prepared, columns: Sequence[str], *, periods: Sequence[str], rows: int, most: int, seed: int
) -> pa.Table:
    """At most ``most`` of the ``rows`` held-out rows of ``periods``, chosen by ``seed``, in their order."""
    names = list(dict.fromkeys(columns))
    if rows <= most:
        return prepared.table(parts=("held_out",), periods=periods, columns=names)
    wanted = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    taken = []
    start = 0
    for batch in prepared.batches(parts=("held_out",), periods=periods, columns=names):
        here = wanted[(wanted >= start) & (wanted < start + batch.num_rows)] - start
        if len(here):
            taken.append(batch.take(pa.array(here)))
        start += batch.num_rows
    return pa.Table.from_batches(taken)
