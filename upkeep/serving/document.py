"""Reads a YAML file that stands in Git, where people edit too: strictly, each problem with its line and column."""

from __future__ import annotations

import functools
import json
import math
from typing import Any, TypeVar, cast

import yaml

from upkeep.errors import InputError, Problem, Where
from upkeep.spec.load import dotted, plain_scalar

T = TypeVar("T")
KeyPath = tuple[str | int, ...]

MAX_BYTES = 1 << 20
MAX_NODES = 20_000
"""A manifest has a few hundred; aliases must not make a small file fill the memory."""

RESTORE = "correct it, or take the file back from an earlier commit"


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Document:
    """A YAML mapping in JSON's own types, and the place of every key."""

    def __init__(self, data: bytes, file: str) -> None:
        """Raises :class:`InputError` when ``data`` is no YAML mapping; ``file`` is the name that problems carry."""
        self.file = file
        self.value: dict[str, Any] = {}
        self._places: dict[KeyPath, tuple[int, int]] = {}
        self._problems: list[Problem] = []
        self._nodes = 0
        node = self._compose(data)
        if not isinstance(node, yaml.MappingNode):
            raise InputError("this is no mapping of keys to values", where=Where(file, 1), fix=RESTORE)
        try:
            self.value = self._make(node, ())
        except RecursionError:
            raise InputError("this is nested too deep, or without end", where=Where(file, 1), fix=RESTORE) from None
        if self._problems:
            raise InputError(problems=tuple(self._problems))

    def where(self, *path: str | int) -> Where:
        """The place of the key at ``path``, or of the nearest key above it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._places:
                line, column = self._places[path[:length]]
                return Where(self.file, line, column, dotted(path))
        return Where(self.file, 1, 1, dotted(path))

    def problem(self, message: str, *path: str | int, fix: str = RESTORE) -> InputError:
        return InputError(message, where=self.where(*path), fix=fix)

    def read(self, kind: Any) -> Any:
        """The document as a ``kind`` (a dataclass or a TypedDict), strictly.

        Raises :class:`InputError` with every problem.
        """
        from pydantic import ValidationError

        try:
            return _adapter(kind).validate_json(json.dumps(self.value), strict=True)
        except ValidationError as error:
            raise InputError(problems=tuple(self._explain(each) for each in error.errors(include_url=False))) from error

    def _explain(self, error: Any) -> Problem:
        path = tuple(part for part in error["loc"] if part != "[key]")
        kind = error["type"]
        if kind == "missing":
            return Problem(f"`{dotted(path)}` is missing", self.where(*path), RESTORE)
        if kind in ("extra_forbidden", "unexpected_keyword_argument"):
            return Problem(f"`{dotted(path)}` is nothing that Upkeep writes or knows", self.where(*path), RESTORE)
        shown = json.dumps(error.get("input"), ensure_ascii=False, default=str)
        shown = shown if len(shown) <= 60 else shown[:57] + "…"
        reason = error["msg"][:1].lower() + error["msg"][1:]
        return Problem(f"`{dotted(path)}` cannot be {shown}: {reason}", self.where(*path), RESTORE)

    def _compose(self, data: bytes) -> yaml.Node | None:
        if len(data) > MAX_BYTES:
            raise InputError("the file is too large to be a manifest", where=Where(self.file), fix=RESTORE)
        try:
            return yaml.compose(data.decode(), Loader=_Loader)
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise InputError("this is not UTF-8 text", where=Where(self.file, line), fix=RESTORE) from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = Where(self.file, mark.line + 1, mark.column + 1) if mark else Where(self.file)
            raise InputError(f"this is no YAML: {error.problem}", where=where, fix=RESTORE) from None
        except (yaml.YAMLError, RecursionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"this is no YAML: {reason}", where=Where(self.file), fix=RESTORE) from None

    def _make(self, node: yaml.Node, path: KeyPath) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise InputError("the file is too large to be a manifest", where=Where(self.file), fix=RESTORE)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._place((*path, index), item)
            return [self._make(item, (*path, index)) for index, item in enumerate(node.value)]
        if getattr(node, "style", None):  # quoted, or a block: text
            return str(node.value)
        value = plain_scalar(str(node.value))
        if isinstance(value, float) and not math.isfinite(value):
            self._fail("this is no finite number", path, node)
            return None
        return value

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                self._fail("a key must be plain text", path, key_node)
                continue
            key = str(key_node.value)
            if key in made:
                self._fail(f"the key `{key}` is here twice", (*path, key), key_node)
                continue
            self._place((*path, key), key_node)
            made[key] = self._make(value_node, (*path, key))
        return made

    def _place(self, path: KeyPath, node: yaml.Node) -> None:
        self._places[path] = (node.start_mark.line + 1, node.start_mark.column + 1)

    def _fail(self, message: str, path: KeyPath, node: yaml.Node) -> None:
        where = Where(self.file, node.start_mark.line + 1, node.start_mark.column + 1, dotted(path))
        self._problems.append(Problem(message, where, RESTORE))


def read(kind: type[T], data: bytes, file: str) -> T:
    """The file's content as a ``kind``. Raises :class:`InputError` with every problem, its line and column."""
    return cast(T, Document(data, file).read(kind))


def write(value: dict[str, Any], header: str) -> bytes:
    """``value`` as YAML in the given order of keys, below ``header`` as a comment; the same value, the same bytes."""
    comment = "".join(f"# {line}\n" for line in header.splitlines())
    return (comment + yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)).encode()


class Quoted(str):
    """Text that every YAML reader must take as text, whatever it looks like (``12e45``, ``no``)."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (the base class's signature)
        return True


_Dumper.add_representer(
    Quoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"')
)


@functools.cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
