"""Templates to text: Jinja with autoescape on, and the project's words as its filters."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
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
    found.filters.update(
        {
            name: getattr(words, name)
            for name in [
                "number",
                "signed",
                "count",
                "percent",
                "level",
                "p_value",
                "interval",
                "size",
                "seconds",
                "moment",
                "plural",
                "listing",
                "span",
                "shorten",
                "label",
                "metric_name",
                "metric_meaning",
                "finding_word",
            ]
        }
        | {
            "tone": tone,
            "tick": tick,
            "statistic_names": statistic_names,
            "statistic_name": statistic_name,
            "has_bins": has_bins,
            "web": lambda address: address.startswith(("https://", "http://")),
        }
    )
    return found


def render(template: str, **values: Any) -> str:
    """The page. Characters that no page may hold are replaced."""
    return words.clean(environment().get_template(template).render(**values))
