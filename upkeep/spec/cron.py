"""Schedules as people write them: crontab(5)'s five fields, in UTC.

``minute hour day-of-the-month month day-of-the-week``: numbers, names (``jan``, ``mon``), ``*``, ranges ``1-5``, lists
``1,15`` and steps ``*/10``. Sunday is 0 and 7. Where both days are restricted either one is enough, as in crontab.
"""

from __future__ import annotations

import calendar
import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, ("", *_MONTHS)),
    ("day of the week", 0, 7, _DAYS),
)
_YEARS = 8
"""Between two 29ths of February there may be so many."""


@dataclass(frozen=True)
class Cron:
    """A schedule that was read: the values that each field takes."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    any_day: bool
    """The day of the month begins with ``*``."""
    any_weekday: bool

    def fires_on(self, day: datetime) -> bool:
        """Whether it starts anything on this day (of its hours and minutes nothing is read)."""
        if day.month not in self.months:
            return False
        by_date, by_weekday = day.day in self.days, (day.weekday() + 1) % 7 in self.weekdays
        return by_date and by_weekday if self.any_day or self.any_weekday else by_date or by_weekday

    def next(self, after: datetime) -> datetime | None:
        """The first moment later than ``after``, UTC; None: there is none (the 30th of February)."""
        moment = after.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        day, earliest = moment.replace(hour=0, minute=0), (moment.hour, moment.minute)
        for _ in range(366 * _YEARS + 2):
            if self.fires_on(day):
                times = ((hour, minute) for hour in sorted(self.hours) for minute in sorted(self.minutes))
                if (found := next((time for time in times if time >= earliest), None)) is not None:
                    return day.replace(hour=found[0], minute=found[1])
            day, earliest = day + timedelta(days=1), (0, 0)
        return None

    def for_kfp(self) -> str:
        """Six fields, the seconds first, numbers only: KFP takes five as well, and means something else by them."""
        both = self.any_day or self.any_weekday
        every_day = not both and (len(self.days) == 31 or len(self.weekdays) == 7)
        fields = (
            _written(self.minutes, 0, 59),
            _written(self.hours, 0, 23),
            "*" if every_day else _written(self.days, 1, 31, star=both),
            _written(self.months, 1, 12),
            "*" if every_day else _written(self.weekdays, 0, 6, star=both),
        )
        return " ".join(("0", *fields))


def read_cron(text: str) -> Cron:
    """Raises ``ValueError`` with what is wrong and where."""
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"it has {len(fields)} fields, not five (minute, hour, day of the month, month, day of the week)"
        )
    values = []
    for part, (name, low, high, words) in zip(fields, _FIELDS, strict=True):
        taken: set[int] = set()
        for item in part.split(","):
            found = _item(item, low, high, words)
            if found is None:
                raise ValueError(f"{item!r} is no {name} (from {low} to {high})")
            taken.update(found)
        values.append(frozenset(taken))
    minutes, hours, days, months, weekdays = values
    made = Cron(
        minutes,
        hours,
        days,
        months,
        frozenset(day % 7 for day in weekdays),
        any_day=fields[2].startswith("*"),
        any_weekday=fields[4].startswith("*"),
    )
    stepped = [
        name for name, field, all_of in (("day of the month", fields[2], len(made.days) == 31),
                                         ("day of the week", fields[4], len(made.weekdays) == 7))
        if field.startswith("*") and not all_of
    ]  # fmt: skip
    if stepped and len(made.days) < 31 and len(made.weekdays) < 7:
        raise ValueError(
            f"crontabs differ in what a stepped {stepped[0]} means beside another day; restrict one of them"
        )
    longest = max(calendar.monthrange(2024, month)[1] for month in months)
    if min(days) > longest and made.any_weekday:
        raise ValueError(f"no month of it has a day {min(days)}: it would never start anything")
    return made


def _item(item: str, low: int, high: int, words: tuple[str, ...]) -> range | None:
    """The values of one item of a field, None where it is none."""
    span, slash, step = item.partition("/")
    if slash and not (step.isascii() and step.isdigit() and int(step) > 0):
        return None
    if span == "*":
        first, last = low, high if high != 7 else 6
    else:
        start, dash, end = span.partition("-")
        numbers = [_number(each, words) for each in ([start, end] if dash else [start])]
        if None in numbers or (slash and not dash):
            return None
        first, last = numbers[0] or 0, numbers[-1] or 0
        if not low <= first <= last <= high:
            return None
    return range(first, last + 1, int(step) if slash else 1)


def _number(text: str, words: tuple[str, ...]) -> int | None:
    if text.isascii() and text.isdigit():
        return int(text)
    return words.index(text.lower()) if text and text.lower() in words else None


def _written(values: frozenset[int], low: int, high: int, *, star: bool = True) -> str:
    """``*`` for all values, else as many steps or numbers as it takes; ``star``: whether ``*`` may stand for all."""
    numbers = sorted(values)
    if star:
        if len(numbers) == high - low + 1:
            return "*"
        steps = {b - a for a, b in itertools.pairwise(numbers)}
        if len(steps) == 1 and numbers == list(range(low, high + 1, step := steps.pop())):
            return f"*/{step}"
    return ",".join(map(str, numbers))
