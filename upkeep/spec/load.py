"""Reads ``upkeep.yaml``: every problem at once, with its line and column, in plain words.

The file is composed into nodes first (their places are known then), made into JSON's own types by YAML 1.2's core
rules (``no`` and ``2013-01-01`` are text, ``1e-4`` is a number), and validated by pydantic in strict mode: what
``upkeep spec schema`` tells an editor is what is accepted here.
"""

from __future__ import annotations

import copy
import difflib
import errno
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from pydantic import ValidationError

from upkeep import records
from upkeep.errors import Problem, SpecError, Where
from upkeep.spec import schema
from upkeep.spec.model import Candidate, FineTune, ModelSpec

MAX_BYTES = 1 << 20
"""A spec is a page; a larger file is something else (data, most likely)."""
MAX_NODES = 100_000
"""Nodes after aliases are followed: a small file of nested aliases must not fill the memory."""
SAFE_INTEGER = 2**63 - 1

KeyPath = tuple[str | int, ...]


def dotted(path: Sequence[str | int]) -> str:
    """``("candidates", 0, "window")`` → ``candidates[0].window``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass(frozen=True)
class Positions:
    """Where each key of a spec stands in its file."""

    file: str = ""
    places: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)
    """Key path → 1-based line and column of the key (of the item, in a list)."""

    def known(self, path: Iterable[str | int]) -> KeyPath:
        """The longest way along ``path`` that the file has; parts it does not have are stepped over."""
        known: KeyPath = ()
        for part in path:
            if (*known, part) in self.places:
                known = (*known, part)
        return known

    def where(self, *path: str | int) -> Where:
        """The place of the key at ``path``, or of the nearest key above it that the file has; else its beginning."""
        line, column = self.places.get(self.known(path), (1, 1) if self.places else (None, None))
        return Where(file=self.file, line=line, column=column, field=dotted(path))


@dataclass(frozen=True)
class Parsed:
    """A spec file as read: ``spec`` is None when ``problems`` says why."""

    spec: ModelSpec | None
    positions: Positions
    problems: tuple[Problem, ...]
    repaired: ModelSpec | None = None
    """Where ``spec`` is None: the spec without what is wrong, if it can be had; only to look for more problems."""


def load(path: str | Path) -> ModelSpec:
    """The spec in the file at ``path``, as written (see :func:`resolve` for its paths).

    Raises :class:`SpecError` with every problem of its form; rules between keys are :mod:`upkeep.spec.check`'s.
    """
    parsed = read(path)
    if parsed.spec is None:
        raise SpecError(problems=parsed.problems)
    return parsed.spec


def read(path: str | Path) -> Parsed:
    """The file at ``path`` with the places of its keys. Raises :class:`SpecError` when it is no YAML mapping."""
    return parse(_bytes(Path(path)), str(path))


def parse(data: bytes, file: str) -> Parsed:
    """Like :func:`read`, of bytes; ``file`` is the name that problems carry."""
    document, positions, problems = _document(data, file)
    taken = {problem.where.field for problem in problems}
    found, failed = _validate(document, positions)
    problems += [problem for problem in failed.problems if problem.where.field not in taken]
    if not problems:
        return Parsed(found, positions, ())
    problems.sort(key=lambda problem: (problem.where.line or 0, problem.where.column or 0))
    repaired = found
    if found is None:
        repaired, _ = _validate(_repaired(document, failed), positions)
    return Parsed(None, positions, tuple(problems), repaired)


def canonical(spec: ModelSpec) -> bytes:
    """The spec's canonical JSON: the same spec gives the same bytes, so that their digest names it.

    Without ``kubeflow``: a step that failed for want of memory finds the ones before it in KFP's cache when it gets
    more.
    """
    document = records.plain(spec)
    del document["kubeflow"]
    return records.to_json(document)


def from_canonical(data: bytes, source: str = "") -> ModelSpec:
    """The spec that :func:`canonical` wrote. Raises :class:`~upkeep.errors.IntegrityError` when it is not one."""
    return records.from_json(ModelSpec, data, source=source)


# --- paths ---------------------------------------------------------------------------------------------------------

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SCP = re.compile(r"[^/\\:]+@[^/\\:]+:")  # git@host:path


def resolve(spec: ModelSpec, folder: str | Path) -> ModelSpec:
    """The spec with paths that are absolute: relative ones start from ``folder``, the spec file's.

    URLs (``s3://``, ``https://``, ``file://``) and Git's ``user@host:path`` stay as they are. Without
    ``rollout.repository``, ``rollout.path`` or ``data.split.salt`` their defaults are written out. Resolving
    twice changes nothing. Raises :class:`SpecError` when the store is in S3 and there is no repository.
    """
    base = Path(folder).expanduser().absolute()

    def located(text: str) -> str:
        if not text or _URL.match(text) or _SCP.match(text):
            return text
        return _normal(base / Path(text).expanduser())

    missing = missing_repository(spec)
    if missing is not None:
        raise SpecError(problems=(missing,))
    store = located(spec.store)
    repository = located(spec.rollout.repository)
    if not repository:
        repository = _normal(_local(store) / spec.name / "releases.git")
    return replace(
        spec,
        candidates=tuple(_with_base(candidate, located) for candidate in spec.candidates),
        store=store,
        data=replace(
            spec.data,
            source=located(spec.data.source),
            split=replace(spec.data.split, salt=spec.data.split.salt or spec.name),
        ),
        rollout=replace(spec.rollout, repository=repository, path=spec.rollout.path or f"models/{spec.name}"),
        monitoring=replace(
            spec.monitoring,
            labels=located(spec.monitoring.labels),
            payloads=replace(
                spec.monitoring.payloads,
                source=located(spec.monitoring.payloads.source) or f"{store.rstrip('/')}/{spec.name}/payloads",
            ),
        ),
    )


def _with_base(candidate: Candidate, located: Callable[[str], str]) -> Candidate:
    """A base's path is a path of the spec, unless it is the champion."""
    if not isinstance(candidate, FineTune) or candidate.base == "champion":
        return candidate
    return replace(candidate, base=located(candidate.base))


def missing_repository(spec: ModelSpec, where: Where | None = None) -> Problem | None:
    """The problem of a store that is no folder and a rollout without a repository, if it is there."""
    if spec.rollout.repository or not spec.store.startswith("s3://"):
        return None
    return Problem(
        f"the store {spec.store} is no folder, so there is no default place for the Git repository of the rollout",
        where or Where(field="rollout.repository"),
        "set `rollout.repository` to the path or URL of the repository that Argo CD or Flux applies",
    )


def _local(store: str) -> Path:
    return Path(unquote(urlsplit(store).path)) if store.startswith("file://") else Path(store)


def _normal(path: Path) -> str:
    """Without ``.`` and ``..``, by the text alone: a link on the way stays a link."""
    import os.path

    return os.path.normpath(path)


# --- from bytes to JSON's own types --------------------------------------------------------------------------------


def _bytes(path: Path) -> bytes:
    where = Where(file=str(path))
    try:
        if path.is_dir():
            raise SpecError(
                "this is a folder, not a spec file", where=where, fix=f"name the file in it: {path / 'upkeep.yaml'}"
            )
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SpecError(
            "there is no such file",
            where=where,
            fix="check the path, or write a spec with `upkeep init DATA --target COLUMN`",
        ) from None
    except PermissionError:
        raise SpecError(
            "the file may not be read: no permission", where=where, fix=f"try `chmod u+r {path}`, or ask its owner"
        ) from None
    except OSError as error:
        reason = "a part of the path is a file, not a folder" if error.errno == errno.ENOTDIR else error.strerror
        raise SpecError(f"the file cannot be read: {reason}", where=where, fix="check the path") from None
    if len(data) > MAX_BYTES:
        raise SpecError(
            "the file is larger than 1 MiB, which no spec is",
            where=where,
            fix="give the path of upkeep.yaml; for a data file use `upkeep init`",
        )
    return data


def _text(data: bytes, file: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        guess = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "another encoding, or no text at all"
        raise SpecError(
            f"the file is not UTF-8 (byte 0x{data[error.start]:02x}): {guess}",
            where=Where(file=file, line=line, column=column),
            fix="save it as UTF-8",
        ) from None


def _compose(text: str, file: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        raise SpecError(
            f"the character U+{error.character:04X} may not stand in YAML",
            where=Where(file=file, line=before.count("\n") + 1, column=error.position - (before.rfind("\n") + 1) + 1),
            fix="remove it (it may be invisible)",
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        parts = [part for part in (error.context, error.problem) if part]
        raise SpecError(
            f"this is not valid YAML: {', '.join(parts)}",
            where=Where(file=file, line=mark.line + 1 if mark else None, column=mark.column + 1 if mark else None),
            fix=_yaml_fix(error.problem or ""),
        ) from None
    except RecursionError:
        raise SpecError(
            "lists or mappings are nested too deep", where=Where(file=file), fix="a spec needs at most ten levels"
        ) from None


def _yaml_fix(problem: str) -> str:
    if "\\t" in problem:
        return "indent with spaces, never with tabs"
    if "mapping values are not allowed" in problem:
        return "look for a missing line break or indentation; quote a text that contains `: `"
    if "single document" in problem or "another document" in problem:
        return "one file describes one model: remove everything from the second `---` on"
    if "expected ',' or" in problem or "expected <block end>" in problem:
        return "check brackets, quotes and indentation in this line and the one above"
    if "undefined alias" in problem:
        return "quote a text that begins with `*`"
    return "check indentation, quotes and brackets here"


class _Maker:
    """Makes JSON's own types from YAML nodes, notes the place of each key, and collects problems."""

    def __init__(self, file: str) -> None:
        self.positions = Positions(file)
        self.problems: list[Problem] = []
        self._open: list[yaml.Node] = []
        self._nodes = 0

    def make(self, node: yaml.Node, path: KeyPath) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or any(node is other for other in self._open):
            self._fail(node, path, "aliases make this part endless or very large", "write it out without aliases")
            raise SpecError(problems=tuple(self.problems))
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return self._sequence(node, path)
            return self._scalar(node, path)
        finally:
            self._open.pop()

    def _place(self, path: KeyPath, node: yaml.Node) -> None:
        self.positions.places[path] = (node.start_mark.line + 1, node.start_mark.column + 1)

    def _fail(self, node: yaml.Node, path: KeyPath, message: str, fix: str) -> None:
        """A problem with the key at ``path``; ``node`` is where it stands if it is no key with a place already."""
        beside = (node.start_mark.line + 1, node.start_mark.column + 1)
        line, column = self.positions.places.get(path, beside)
        self.problems.append(Problem(message, Where(self.positions.file, line, column, dotted(path)), fix))

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._fail(key_node, path, "a key must be plain text", "quote it, if it is meant to be text")
                continue
            key = str(key_node.value)
            below = (*path, key)
            if key_node.tag == "tag:yaml.org,2002:merge":
                self._fail(key_node, below, "`<<` (a merge key) is not supported", "write the keys out")
            elif key in made:
                line, _ = self.positions.places[below]
                second = Where(
                    self.positions.file, key_node.start_mark.line + 1, key_node.start_mark.column + 1, dotted(below)
                )
                message = f"the key `{key}` is here twice; it was set in line {line}"
                self.problems.append(Problem(message, second, "remove one of them"))
            else:
                self._place(below, key_node)
                made[key] = self.make(value_node, below)
                if not _encodable(key):
                    self._fail(key_node, below, "the key holds half a character (a lone surrogate)", "retype it")
        return made

    def _sequence(self, node: yaml.SequenceNode, path: KeyPath) -> list[Any]:
        for index, item in enumerate(node.value):
            self._place((*path, index), item)
        return [self.make(item, (*path, index)) for index, item in enumerate(node.value)]

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        text = str(node.value)
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        tag = node.tag.removeprefix("tag:yaml.org,2002:")
        if not _is_core(tag):
            self._fail(node, path, f"the tag {node.tag} is not allowed", "remove the tag")
            return text
        if not _encodable(text):
            self._fail(node, path, "the text holds half a character (a lone surrogate)", "retype it")
            return "?"
        # A plain scalar's tag was guessed by YAML 1.1's rules; 1.2's are the ones that people and editors expect.
        if not plain:
            return text
        value = plain_scalar(text)
        if isinstance(value, float) and not math.isfinite(value):
            self._fail(node, path, f"{text} is no number that can be used here", "write a finite number")
            return text
        if isinstance(value, int) and abs(value) > SAFE_INTEGER:
            self._fail(node, path, "the number does not fit 64 bits", "write a smaller one, or quote it as text")
            return 0
        return value


def _is_core(tag: str) -> bool:
    return tag in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge")


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def plain_scalar(text: str) -> str | bool | int | float | None:
    """What an unquoted scalar means by YAML 1.2's core schema (https://yaml.org/spec/1.2.2/, 10.3.2)."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text[0] in "tT"
    if _INT.fullmatch(text):
        return int(text) if len(text) < 100 else SAFE_INTEGER + 1
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return math.nan
    return text


def _document(data: bytes, file: str) -> tuple[dict[str, Any], Positions, list[Problem]]:
    text = _text(data, file)
    node = _compose(text, file)
    if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
        raise SpecError(
            "the file is empty",
            where=Where(file=file, line=1, column=1),
            fix="write a spec, or let `upkeep init DATA --target COLUMN` write one",
        )
    if not isinstance(node, yaml.MappingNode):
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "plain text"
        raise SpecError(
            f"a spec is a mapping of keys to values; this is {kind}",
            where=Where(file=file, line=node.start_mark.line + 1, column=node.start_mark.column + 1),
            fix="begin with `apiVersion: upkeep.dev/v1alpha1`; `upkeep init DATA --target COLUMN` writes a whole spec",
        )
    maker = _Maker(file)
    try:
        document = maker.make(node, ())
    except RecursionError:
        raise SpecError(
            "lists or mappings are nested too deep", where=Where(file=file), fix="a spec needs at most ten levels"
        ) from None
    return document, maker.positions, maker.problems


# --- from JSON's own types to the spec -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Failed:
    problems: tuple[Problem, ...] = ()
    drop: tuple[KeyPath, ...] = ()
    """Keys to leave out so that the rest can be read."""
    rename: tuple[tuple[KeyPath, str], ...] = ()
    """Misspelt keys, and what they seem to mean."""


def _validate(document: dict[str, Any], positions: Positions) -> tuple[ModelSpec | None, _Failed]:
    try:
        # Strict JSON: "12" is no number and 1 no boolean, exactly as the JSON Schema has it.
        text = json.dumps(document)
        return schema.adapter().validate_json(text, strict=True, by_alias=True, by_name=False), _Failed()
    except ValidationError as error:
        return None, _explain(error, document, positions)


def _explain(error: ValidationError, document: dict[str, Any], positions: Positions) -> _Failed:
    by_path: dict[KeyPath, list[Any]] = {}
    for each in error.errors(include_url=False):
        location = tuple(part for part in each["loc"] if part != "[key]")
        path = positions.known(location)
        if each["type"] == "missing":
            path = (*path, location[-1])
        by_path.setdefault(path, []).append(each)
    # pydantic calls a list too short when its items are wrong; only the items' problems help.
    paths = [
        path
        for path, errors in by_path.items()
        if not (errors[0]["type"] in ("too_short", "missing") and _is_above(path, by_path))
    ]
    problems: list[Problem] = []
    drop: list[KeyPath] = []
    rename: list[tuple[KeyPath, str]] = []
    for path in paths:
        errors = by_path[path]
        where = positions.where(*path)
        if _is_unknown(errors[0]):
            message, fix, meant = _unknown_key(path, document)
            if meant:
                rename.append((path, meant))
            else:
                drop.append(path)
        else:
            message, fix = _sentence(path, errors, document)
            drop.append(path)
        problems.append(Problem(message, where, fix))
    # A misspelt key that is required is reported once, as misspelt.
    meant_paths = {(*path[:-1], meant) for path, meant in rename}
    kept = [problem for path, problem in zip(paths, problems, strict=True) if path not in meant_paths]
    return _Failed(tuple(kept), tuple(drop), tuple(rename))


def _is_above(path: KeyPath, others: Iterable[KeyPath]) -> bool:
    return any(len(other) > len(path) and other[: len(path)] == path for other in others)


def _is_unknown(error: Any) -> bool:
    return error["type"] in ("unexpected_keyword_argument", "extra_forbidden") or error["loc"][-1] == "[key]"


def _bare(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "")


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that ``word`` most likely means, or an empty string."""
    by_lower = {_bare(each): each for each in known}
    found = difflib.get_close_matches(_bare(word), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else ""


def _unknown_key(path: KeyPath, document: dict[str, Any]) -> tuple[str, str, str]:
    """(message, fix, the key that is meant or "")."""
    key = str(path[-1])
    place = f"`{dotted(path[:-1])}`" if len(path) > 1 else "the spec"
    known = schema.keys_at(path[:-1], document)
    message = f"`{key}` is not a key of {place}"
    meant = nearest(key, known)
    if meant and meant in _get(document, path[:-1]):
        return message, f"did you mean `{meant}`, which is there too? remove one of them", ""
    if meant:
        return message, f"did you mean `{meant}`?", meant
    elsewhere = schema.sections_with(key)
    if elsewhere:
        return message, f"`{key}` belongs under `{elsewhere[0]}`", ""
    return message, f"known keys: {', '.join(known)}" if known else "remove it", ""


def _get(document: Any, path: KeyPath) -> Any:
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return None
    return document


_SHOULD_BE: dict[str, str] = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "dataclass_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
}


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, ensure_ascii=False)
    kind = "the text " if isinstance(value, str) else ""
    return kind + (text if len(text) <= 60 else text[:57] + '…"')


def _article(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


_Sentence = Callable[[str, Any, Any], tuple[str, str]]


def _sentence(path: KeyPath, errors: list[Any], document: dict[str, Any]) -> tuple[str, str]:
    """A plain sentence, and a fix, for what pydantic says of one key."""
    error = errors[0]
    kind, context = error["type"], error.get("ctx", {})
    key = dotted(path[-1:]) if isinstance(path[-1], str) else dotted(path[-2:]) if len(path) > 1 else "the spec"
    if kind == "missing":
        return _missing(path, document)
    value = _get(document, path)
    description = schema.node_at(path, document).get("description", "").replace("``", "`")
    about = f" ({description.rstrip('.')})" if description else ""
    if kind in _SHOULD_BE:
        wanted = _article(list(dict.fromkeys(_SHOULD_BE[e["type"]] for e in errors if e["type"] in _SHOULD_BE)))
        percent = wanted == "a number" and "%" in json.dumps(schema.node_at(path, document))
        if percent:
            wanted = "a number or a percentage"
        message = (
            f"`{key}` is empty; it must be {wanted}"
            if value is None
            else (f"`{key}` must be {wanted}, and is {_shown(value)}")
        )
        return message, _type_fix(key, kind, value, percent=percent, about=about)
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        return _bounds(key, value, schema.node_at(path, document), context)
    if kind == "literal_error":
        return _choice(key, value, schema.node_at(path, document))
    if kind == "union_tag_invalid":
        strategies = [each.strip("' ") for each in str(context["expected_tags"]).split(",")]
        given = str(context["tag"])
        meant = nearest(given, strategies)
        fix = f"did you mean `{meant}`?" if meant else f"write one of {', '.join(strategies)}"
        return f"`strategy` is {given}, which is none that Upkeep knows", fix
    if kind == "union_tag_not_found":
        return "this candidate says no `strategy`", "add `strategy: retrain` (or incremental, ensemble, custom)"
    if kind in ("too_short", "string_too_short"):
        least = context["min_length"]
        return f"`{key}` must have at least {least} {'item' if least == 1 else 'items'}", f"add to it{about}"
    if kind in ("too_long", "string_too_long"):
        return f"`{key}` is longer than {context['max_length']}", "shorten it"
    if kind == "string_pattern_mismatch":
        return _pattern(key, value)
    return f"`{key}` cannot be {_shown(value)}: {error['msg']}", f"correct the value{about}"


def _missing(path: KeyPath, document: dict[str, Any]) -> tuple[str, str]:
    above = f"`{dotted(path[:-1])}`" if len(path) > 1 else "the spec"
    if isinstance(path[-1], int):
        return f"{above} has too few items", "give one value for each"
    description = schema.node_at(path, document).get("description", "").replace("``", "`")
    return f"{above} lacks `{path[-1]}`", f"add `{path[-1]}:`" + (f" {description}" if description else "")


def _type_fix(key: str, kind: str, value: Any, *, percent: bool, about: str) -> str:
    if value is None:
        return f"give it a value, or remove the key{about}"
    if kind in ("int_type", "float_type") and isinstance(value, str) and isinstance(plain_scalar(value), int | float):
        return f"write it without quotes: `{key}: {value}`"
    if kind == "bool_type" and str(value).lower() in ("yes", "on", "no", "off", "1", "0", "true", "false"):
        return f"write `{key}: {'true' if str(value).lower() in ('yes', 'on', '1', 'true') else 'false'}`"
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f'quote it: `{key}: "{json.dumps(value)}"`'
    if kind in ("tuple_type", "list_type") and not isinstance(value, dict | list):
        return f"write it as a list: `{key}: [{value}]`"
    if percent:
        return "write a share such as 0.2 or 20%"
    return f"correct the value{about}"


def _bounds(key: str, value: Any, node: dict[str, Any], context: dict[str, Any]) -> tuple[str, str]:
    branches = [node, *node.get("anyOf", ())]
    signs = (("minimum", "at least"), ("exclusiveMinimum", "more than"))
    ends = (("maximum", "at most"), ("exclusiveMaximum", "less than"))
    words = []
    for names in (signs, ends):
        for name, word in names:
            numbers = [branch[name] for branch in branches if name in branch]
            if numbers:
                words.append(f"{word} {numbers[0]:g}")
                break
    if not words:
        words = [f"within {next(iter(context.values()), 'its limits')}"]
    fix = f"write a number that is {' and '.join(words)}"
    if isinstance(value, int | float) and 1 < value <= 100 and _takes_percent(value, branches):
        fix = f"did you mean `{key}: {value:g}%`?"
    return f"`{key}` must be {' and '.join(words)}, and is {_shown(value)}", fix


def _takes_percent(value: float, branches: list[dict[str, Any]]) -> bool:
    """Whether ``value`` percent would do, of a share that was given as ``value``."""
    ends = [branch.get("maximum", branch.get("exclusiveMaximum")) for branch in branches]
    is_share = any("%" in str(branch.get("pattern")) for branch in branches)
    return is_share and any(end is not None and value / 100 <= end for end in ends)


def _choice(key: str, value: Any, node: dict[str, Any]) -> tuple[str, str]:
    known = [str(each) for each in node.get("enum", [node["const"]] if "const" in node else [])]
    meant = nearest(str(value), known)
    message = f"`{key}` cannot be {_shown(value)}"
    choices = f"write one of {', '.join(known)}" if len(known) > 1 else f"write {known[0]}" if known else ""
    return message, f"did you mean `{meant}`?" if meant and len(known) > 1 else choices


def _pattern(key: str, value: Any) -> tuple[str, str]:
    if key == "function":
        return f"`function` must look like package.module:function, and is {_shown(value)}", (
            "put the module's import path before the colon and the function's name after it"
        )
    slug = re.sub(r"[^a-z0-9]+", "-", str(value).lower()).strip("-0123456789")
    message = (
        f"`{key}` may only have lower-case letters, digits and inner hyphens, after a letter; it is {_shown(value)}"
    )
    return message, f"for example `{key}: {slug}`" if slug else "choose another name"


def _repaired(document: dict[str, Any], failed: _Failed) -> dict[str, Any]:
    """The document with misspelt keys renamed and wrong values left out (not list items: others would move up)."""
    repaired = copy.deepcopy(document)
    for path, meant in failed.rename:
        above = _get(repaired, path[:-1])
        above.setdefault(meant, above.pop(path[-1]))
    for path in failed.drop:
        above = _get(repaired, path[:-1])
        if isinstance(above, dict):
            above.pop(path[-1], None)
    return repaired
