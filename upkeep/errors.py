"""Every error Upkeep raises on purpose: one tree.

::

    UpkeepError
    ├── InputError            exit 2, never retry: what the user gave is wrong
    │   ├── SpecError         upkeep.yaml: every problem at once, with line and column
    │   ├── DataError         a file, a column or a row; also past the limit of bad rows
    │   └── ModelError        a model file that is refused or does not do what it says
    ├── RefusedError          exit 1, never retry: a check or a gate said no
    ├── IntegrityError        exit 3, never retry: stored bytes are not what their digest says
    └── OutsideError          exit 3, a retry may help: store, Git, network, disk
        ├── AccessError       exit 3, never retry: credentials or permissions
        └── ConflictError     exit 3, retry: somebody else was first

Each error says what happened, where, and what to do. The command line prints it without a traceback.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Where:
    """A place a person can open: any part may be unknown."""

    file: str = ""
    line: int | None = None
    """1-based line of a text file."""
    column: int | None = None
    """1-based column of that line."""
    field: str = ""
    """A data column, or a dotted key of the spec (``data.target.column``)."""
    row: int | None = None
    """1-based row of a table."""

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part not in (None, ""))
        details = []
        if self.field:
            details.append(self.field)
        if self.row is not None:
            details.append(f"row {self.row}")
        return ", ".join(([place] if place else []) + details)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, where, and what to do about it."""

    message: str
    where: Where = Where()
    fix: str = ""
    severity: str = "error"
    """``error`` or ``warning``."""

    def __str__(self) -> str:
        place = str(self.where)
        text = f"{place}: {self.message}" if place else self.message
        return f"{text}\n    → {self.fix}" if self.fix else text


class UpkeepError(Exception):
    """The root. ``problems`` holds one or more; the message is theirs, joined."""

    exit_code: ClassVar[int] = 3
    retry: ClassVar[bool] = False

    def __init__(
        self,
        message: str = "",
        *,
        where: Where | None = None,
        fix: str = "",
        problems: tuple[Problem, ...] = (),
    ) -> None:
        self.problems = problems or (Problem(message, where or Where(), fix),)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.problems))


def _rebuild(kind: type[UpkeepError], problems: tuple[Problem, ...]) -> UpkeepError:
    return kind(problems=problems)


class InputError(UpkeepError):
    exit_code = 2


class SpecError(InputError):
    pass


class DataError(InputError):
    pass


class ModelError(InputError):
    pass


class RefusedError(UpkeepError):
    exit_code = 1


class IntegrityError(UpkeepError):
    pass


class OutsideError(UpkeepError):
    retry = True


class AccessError(OutsideError):
    retry = False


class ConflictError(OutsideError):
    pass
