"""Which columns a spec reads, and as what: what the row-wise functions need to know, small enough to send anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from upkeep.data.kinds import Column, Kind
from upkeep.errors import Problem, SpecError, Where
from upkeep.spec.model import Data

TimeUnit = Literal["day", "week", "month", "quarter", "year"]
_GROUP_UNITS: dict[str, TimeUnit] = {"day": "day", "week": "week", "month": "month"}

ROW_NUMBER = "_row_number"
"""int64: the row's number in its file, from 1, counting neither the header nor blank lines."""
UNREADABLE = "_unreadable"
"""string: why the file's row could not be read at all; null where it could."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The columns of one model's rows. Every name is read once, whatever it is for."""

    features: tuple[Column, ...]
    """In the order of the spec."""
    extra: tuple[Column, ...]
    """Slices, id, time and group where they are no features."""
    target: str
    id: str | None
    time: str | None
    group_column: str | None
    """The split key's column; None: a unit of time, the id, or the content."""
    group_unit: TimeUnit | None
    """The split key as a unit of ``time``."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Every column but the target."""
        return self.features + self.extra

    @property
    def names(self) -> tuple[str, ...]:
        """Every column that is read: features, extra, target."""
        return (*(column.name for column in self.columns), self.target)

    @property
    def group(self) -> str | None:
        """What the split key is, in words of the spec."""
        return self.group_column or self.group_unit


def content_is_key(data: Data) -> bool:
    """Whether rows are split by a hash of all they hold, since nothing else names them."""
    return data.split.method == "hash" and data.id is None and data.split.group is None


def layout(data: Data) -> Layout:
    """The layout of ``spec.data``. Raises :class:`SpecError` where two uses of a column contradict each other."""
    kinds: dict[str, Kind] = {}
    problems: list[Problem] = []

    def problem(message: str, field: str, fix: str) -> None:
        problems.append(Problem(message, Where(field=field), fix))

    for kind, names in (
        ("numeric", data.features.numeric),
        ("categorical", data.features.categorical),
        ("datetime", data.features.datetime),
    ):
        for name in names:
            if name in kinds:
                problem(f"{name} is listed as a feature twice", f"data.features.{kind}", "list it once")
            kinds[name] = kind  # type: ignore[assignment]  # one of the three literals above
    if not kinds:
        problem("there are no features", "data.features", "name at least one column")
    features = tuple(Column(name=name, kind=kind) for name, kind in kinds.items())
    unit = _GROUP_UNITS.get(data.split.group or "") if data.time else None
    group_column = data.split.group if unit is None else None
    extra: dict[str, Kind] = {}
    if data.time is not None:
        extra[data.time] = "datetime"
        if kinds.get(data.time, "datetime") != "datetime":
            problem(f"{data.time} is the time and cannot be a {kinds[data.time]} feature", "data.time",
                    "list it among data.features.datetime, or not as a feature")  # fmt: skip
    for name in (*data.slices, *((data.id,) if data.id else ()), *((group_column,) if group_column else ())):
        extra.setdefault(name, "categorical")
    target = data.target.column
    for name in (*kinds, *extra):
        if name == target:
            problem(f"{name} is the target and cannot be anything else: the model would be told the answer",
                    "data.target.column", "take it out of features, slices, id, time and split.group")  # fmt: skip
        if name.startswith("_"):
            problem(f"{name}: names that start with _ are kept for Upkeep's own columns", "data", "rename the column")
    used = {*kinds, *extra, target}
    for name in data.privacy.drop:
        if name in used:
            problem(f"{name} is dropped and used", "data.privacy.drop", "do one of the two")
    for name in data.privacy.hash:
        if name == target or kinds.get(name) in ("numeric", "datetime") or name == data.time:
            problem(f"{name} is hashed, and a hash is neither a number, a date nor a label", "data.privacy.hash",
                    "use it as a category, id, group or slice, or do not hash it")  # fmt: skip
    if problems:
        raise SpecError(problems=tuple(problems))
    return Layout(
        features=features,
        extra=tuple(Column(name=name, kind=kind) for name, kind in extra.items() if name not in kinds),
        target=target,
        id=data.id,
        time=data.time,
        group_column=group_column,
        group_unit=unit,
    )
