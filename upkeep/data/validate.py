"""Rows against the spec: each column to its kind, and a reason beside every row that does not keep to its rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from upkeep.data.kinds import Column, to_kind
from upkeep.data.layout import ROW_NUMBER, UNREADABLE, layout
from upkeep.spec.model import Data, Label, Target

LabelType = Literal["string", "bool", "int64"]
REASON = "_reason"
"""string: why a row is refused, several reasons joined by :data:`JOIN`; null where it is not."""
JOIN = "; "
_UNREADABLE_AS = {"numeric": "is not a number", "categorical": "is not text", "datetime": "is not a date"}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What one column may hold, as :class:`upkeep.spec.model.ColumnRule` says, in a form that can be sent anywhere."""

    column: str
    min: float | None = None
    max: float | None = None
    values: tuple[str, ...] | None = None
    """The known categories as text; others are refused."""
    required: bool = False


@dataclass(frozen=True, kw_only=True)
class Clean:
    """A row function: raw columns in; the columns as their kind, ``_row_number`` and ``_reason`` out."""

    columns: tuple[Column, ...]
    rules: tuple[Rule, ...]
    target: str
    label_type: LabelType
    classes: tuple[Label, ...] | None

    def __call__(self, batch: Any) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        arrays: list[Any] = []
        findings: list[tuple[Any, str]] = []
        rules = {rule.column: rule for rule in self.rules}
        for column in self.columns:
            raw = batch.column(column.name)
            array, unreadable = to_kind(raw, column.kind)
            findings.append((unreadable, f"{column.name} {_UNREADABLE_AS[column.kind]}"))
            if column.kind == "numeric":
                findings.append((pc.is_inf(array), f"{column.name} is infinite"))
            if column.name in rules:
                findings += _broken(rules[column.name], column, array, unreadable)
            arrays.append(array)
        labels, unreadable = to_labels(batch.column(self.target), self.label_type)
        no_label = pc.and_(labels.is_null(), pc.invert(unreadable))
        findings += [(no_label, f"{self.target} is null"), (unreadable, f"{self.target} is a label of another type")]
        if self.classes is not None:
            known = pc.is_in(labels, pa.array(list(self.classes), labels.type))
            unknown = pc.and_(labels.is_valid(), pc.invert(known))
            findings.append((unknown, f"{self.target} is a label that data.target.classes does not list"))
        names = [*(column.name for column in self.columns), self.target, ROW_NUMBER, REASON]
        arrays += [labels, batch.column(ROW_NUMBER), _reasons(findings, batch.column(UNREADABLE))]
        return pa.RecordBatch.from_arrays(arrays, names=names)


def clean(data: Data, label_type: LabelType) -> Clean:
    """The row function for ``spec.data``. Raises :class:`SpecError` where uses of a column contradict each other."""
    columns = layout(data)
    required = {data.id, data.time, columns.group_column} - {None}
    rules = []
    for column in columns.columns:
        rule = data.columns.get(column.name)
        values = None
        if rule is not None and rule.values is not None and rule.unknown == "quarantine":
            values = tuple(label_text(value) for value in rule.values)
        made = Rule(
            column=column.name,
            min=None if rule is None else rule.min,
            max=None if rule is None else rule.max,
            values=values,
            required=column.name in required or (rule is not None and rule.required),
        )
        if made != Rule(column=column.name):
            rules.append(made)
    return Clean(
        columns=columns.columns,
        rules=tuple(rules),
        target=data.target.column,
        label_type=label_type,
        classes=data.target.classes,
    )


def _broken(rule: Rule, column: Column, array: Any, unreadable: Any) -> list[tuple[Any, str]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    findings = []
    if rule.required:
        findings.append((pc.and_(array.is_null(), pc.invert(unreadable)), f"{rule.column} is null"))
    if column.kind == "numeric":
        if rule.min is not None:
            findings.append((pc.less(array, rule.min), f"{rule.column} is below {rule.min:g}"))
        if rule.max is not None:
            findings.append((pc.greater(array, rule.max), f"{rule.column} is above {rule.max:g}"))
    if rule.values is not None:
        text, _ = to_kind(array, "categorical")
        values, _ = to_kind(pa.array(list(rule.values), pa.string()), "categorical")
        unknown = pc.and_(text.is_valid(), pc.invert(pc.is_in(text, values)))
        findings.append((unknown, f"{rule.column} is none of the known values"))
    return findings


def _reasons(findings: Sequence[tuple[Any, str]], unreadable: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    nothing = pa.scalar(None, pa.string())
    reasons = pa.nulls(len(unreadable), pa.string())
    for mask, reason in findings:
        if pc.any(mask).as_py():
            found = pc.if_else(mask.fill_null(False), pa.scalar(reason), nothing)
            reasons = pc.coalesce(pc.binary_join_element_wise(reasons, found, JOIN), reasons, found)
    if unreadable.null_count == len(unreadable):
        return reasons
    # a row that could not be read has no values, and nothing to say about them
    whole_row = pc.binary_join_element_wise("the row", unreadable, " ")
    return pc.coalesce(whole_row, reasons)


def label_text(label: Label) -> str:
    """A label as text: ``true`` for True, ``1`` for 1."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def label_type(target: Target, sample: Any) -> LabelType:
    """The type of the target: what the spec's classes or positive class are; else what ``sample`` shows.

    ``sample``: a ``pa.Array`` of labels as read. Text of which every value is a whole number gives int64, and text of
    nothing but true and false bool.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    hints = target.classes or (() if target.positive is None else (target.positive,))
    if hints:
        if any(isinstance(hint, str) for hint in hints):
            return "string"
        return "bool" if all(isinstance(hint, bool) for hint in hints) else "int64"
    if pa.types.is_dictionary(sample.type):
        sample = sample.dictionary_decode()
    if pa.types.is_boolean(sample.type):
        return "bool"
    if sample.null_count == len(sample):
        return "string"
    for candidate in ("bool", "int64"):
        if candidate == "bool" and not (pa.types.is_string(sample.type) or pa.types.is_large_string(sample.type)):
            continue
        if candidate == "bool" and pc.any(pc.is_in(sample.cast(pa.string()), pa.array(["0", "1"]))).as_py():
            continue
        labels, unreadable = to_labels(sample, candidate)
        if labels.null_count < len(labels) and not pc.any(unreadable).as_py():
            return candidate
    return "string"


def to_labels(array: Any, kind: LabelType) -> tuple[Any, Any]:
    """Labels as string, bool or int64, and a mask of those that cannot be; lengths as ``array``'s.

    Text labels stay as they are written; blank text is null. As bool: booleans, 0 and 1, and the words true and false.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    if kind == "string":
        if not pa.types.is_string(array.type):
            return to_kind(array, "categorical")
        blank = pc.equal(pc.binary_length(pc.ascii_trim_whitespace(array)), 0)
        labels = pc.if_else(blank, pa.scalar(None, pa.string()), array)
        return labels, pc.and_(labels.is_valid(), False).fill_null(False)
    if kind == "int64" and pa.types.is_integer(array.type):
        labels = array.cast(pa.int64(), safe=False)
        return labels, pc.and_(labels.is_null(), False)
    if kind == "bool" and pa.types.is_boolean(array.type):
        return array, pc.and_(array.is_null(), False)
    numbers, unreadable = to_kind(array, "numeric")
    if kind == "bool":
        odd = pc.invert(pc.is_in(numbers, pa.array([0.0, 1.0, None])))
        labels = pc.if_else(odd, pa.scalar(None, pa.bool_()), pc.equal(numbers, 1.0))
    else:
        odd = pc.fill_null(pc.not_equal(pc.floor(numbers), numbers), False)
        odd = pc.or_(odd, pc.fill_null(pc.greater_equal(pc.abs(numbers), 2.0**53), False))
        labels = pc.if_else(odd, pa.scalar(None, pa.float64()), numbers).cast(pa.int64())
    return labels, pc.or_(odd, unreadable)
