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

import os
from dataclasses import dataclass
from errno import EACCES, EDQUOT, EFBIG, EISDIR, ENOSPC, ENOTDIR, EPERM, EROFS
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


def from_os(number: int | None, text: str, place: str) -> UpkeepError:
    """What the operating system refused, by its error number; ``text`` where there is none."""
    where = Where(file=place)
    if number in (EACCES, EPERM, EROFS):
        return AccessError(
            f"no permission: {os.strerror(number)}", where=where, fix="change the permissions, or use another folder"
        )
    if number in (ENOSPC, EDQUOT, EFBIG):
        return OutsideError(
            f"the disk is full: {os.strerror(number)}", where=where, fix="make room, then try again; nothing was lost"
        )
    if number in (ENOTDIR, EISDIR):
        return InputError(
            f"a file stands where a folder is needed, or the other way round: {os.strerror(number)}",
            where=where,
            fix="move it away, or use another folder",
        )
    return OutsideError(
        f"this machine's file system failed: {os.strerror(number) if number else text}",
        where=where,
        fix="see whether the disk is there and healthy, then try again",
    )


def known(error: Exception) -> UpkeepError | None:
    """``error`` in this tree: itself, or what the machine refused; None: nobody foresaw it, so it is a bug."""
    if isinstance(error, UpkeepError):
        return error
    if isinstance(error, OSError):
        return from_os(error.errno, str(error) or type(error).__name__, str(error.filename or ""))
    if isinstance(error, MemoryError):
        return OutsideError("this machine has too little memory for it", fix="give it more, or train on fewer rows")
    return None
