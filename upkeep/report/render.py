"""Templates to text: Jinja with autoescape on, and the project's words as its filters."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from upkeep.drift.result import ColumnDrift
from upkeep.report import words

_TONES = {
    "pass": "pass",
    "stable": "pass",
    "better": "pass",
    "fail": "fail",
    "drift": "drift",
    "decay": "drift",
    "worse": "fail",
    "unfinished": "fail",
    "insufficient": "unsure",
}


def tone(finding: str) -> str:
    """Which of the page's tones a finding has: pass, fail, unsure, drift or plain."""
    return _TONES.get(finding, "plain")


def tick(value: float, sign: bool = True) -> str:
    """The label at an axis' end."""
    text = f"{value:+g}" if sign and value else f"{value:g}"
    return text.replace("-", words.MINUS)


def statistic_names(columns: Sequence[ColumnDrift]) -> list[str]:
    """The statistics that occur, in the order of the words' table, others after."""
    known = {name for column in columns for name in column.statistics}
    return [name for name in words.STATISTIC_NAMES if name in known] + sorted(known - set(words.STATISTIC_NAMES))


def statistic_name(name: str) -> str:
    return words.STATISTIC_NAMES.get(name, name)


def has_bins(columns: Sequence[ColumnDrift], plots: Mapping[tuple[str, str], object]) -> bool:
    """One of the columns is drawn as bins."""
    return any(column.kind == "numeric" and plots.get((column.role, column.column)) for column in columns)


def web(address: str) -> bool:
    """A browser can open it; nothing else becomes a link."""
    return address.startswith(("https://", "http://"))


_FILTERS: tuple[Callable[..., object], ...] = (
    words.number,
    words.fixed,
    words.signed,
    words.count,
    words.percent,
    words.level,
    words.p_value,
    words.e_value,
    words.interval,
    words.size,
    words.seconds,
    words.moment,
    words.plural,
    words.listing,
    words.span,
    words.label,
    words.in_order,
    words.metric_name,
    words.metric_meaning,
    words.finding_word,
    tone,
    tick,
    web,
    statistic_names,
    statistic_name,
    has_bins,
)


@functools.cache
def environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters.update({function.__name__: function for function in _FILTERS})
    return found


def render(template: str, **values: Any) -> str:
    """The page. Characters that no page may hold are replaced."""
    return words.clean(environment().get_template(template).render(**values))
