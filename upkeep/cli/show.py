"""How answers and errors are written: text for people by rich, JSON for machines."""

from __future__ import annotations

import json
import re
from typing import Any

import click

from upkeep import records
from upkeep.errors import Problem, UpkeepError

COLOURS = {"pass": "green", "fail": "red", "insufficient": "yellow", "error": "red", "warning": "yellow"}
SIGNS = {"pass": "✓", "fail": "✗", "insufficient": "?", "note": "·", "better": "✓", "worse": "✗", "same": "·"}
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What moves a terminal's cursor or turns its text around: values of data and words of commits may hold it."""
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def show_json(record: Any) -> None:
    """``record`` (a dataclass, or plain JSON types) as JSON on standard output."""
    click.echo(json.dumps(records.plain(record), ensure_ascii=False, indent=2))


def show_error(error: UpkeepError, *, as_json: bool) -> None:
    """The error on standard error: what happened, where, what to do, whether to retry."""
    if as_json:
        answer = {
            "error": type(error).__name__,
            "exit_code": error.exit_code,
            "retry": error.retry,
            "problems": records.plain(list(error.problems)),
            "notes": list(getattr(error, "__notes__", ())),
        }
        click.echo(json.dumps(answer, ensure_ascii=False, indent=2), err=True)
        return
    for problem in error.problems:
        show_problem(problem)
    for note in getattr(error, "__notes__", ()):
        click.echo(f"    {note}", err=True)
    if error.retry:
        click.echo("    a retry may help", err=True)


def show_problem(problem: Problem) -> None:
    """One problem on standard error."""
    sign = click.style(problem.severity, fg=COLOURS[problem.severity], bold=True)
    place = f"{problem.where}: " if str(problem.where) else ""
    click.echo(f"{sign}: {_seen(f'{place}{problem.message}')}", err=True)
    if problem.fix:
        click.echo(f"    → {_seen(problem.fix)}", err=True)


def _seen(text: str) -> str:
    return _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", text)


def console(*, stderr: bool = False) -> Any:
    """A rich console on standard output, or for what is only for people's eyes, on standard error."""
    from rich.console import Console
    from rich.segment import Segment

    class Shown(Console):
        def render(self, renderable: Any, options: Any = None) -> Any:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else _seen(text), style, control)

    return Shown(highlight=False, stderr=stderr)


def table(*columns: str, right: tuple[str, ...] = (), whole: tuple[str, ...] = ()) -> Any:
    """A light rich table; columns named in ``right`` are right-aligned, the cells of those in ``whole`` never wrap."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True, header_style="bold")
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in whole)
    return made


def hanging(*columns: str) -> Any:
    """A rich grid of one row whose last cell wraps below itself, not below the first ones."""
    from rich.table import Table

    made = Table.grid(padding=(0, 1), pad_edge=False)
    for name in columns:
        made.add_column(no_wrap=name is not columns[-1])
    made.add_row(*columns)
    return made


def short(text: str) -> str:
    """A digest by its first twelve digits; other text as it is."""
    return text[:12] if _DIGEST.fullmatch(text) else text


def number(value: float | None, digits: int = 3) -> str:
    """A number for a table; ``–`` where it is not known."""
    return "–" if value is None else f"{value:.{digits}f}"
