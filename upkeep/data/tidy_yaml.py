"""An inferred spec as YAML that people like to read: comments beside what was guessed, short collections in a line."""

from __future__ import annotations

import json
import re
import textwrap
from typing import Any

from upkeep.data.infer import Inferred, stem
from upkeep.spec.load import plain_scalar

LINE = 110
COMMENT_COLUMN = 46


def render(inferred: Inferred) -> str:
    """The spec as commented YAML that :func:`upkeep.spec.load.load` accepts."""
    spec, comments = inferred.spec, inferred.comments
    lines = [
        f"# Written by `upkeep init` from {_comment(stem(spec['data']['source']))} ({inferred.seen}).",
        "# Comments say what was guessed. `upkeep check` tells what is wrong.",
        *(f"{key}: {_scalar(spec[key])}" for key in ("apiVersion", "kind")),
        f"metadata: {_flow(spec['metadata'])}",
        "data:",
    ]
    for key, value in spec["data"].items():
        lines += _entry(key, value, comments.get(f"data.{key}", ""))
        if key == "features" and inferred.left_out:
            lines.append("  # Left out of the features:")
            for name, why in inferred.left_out.items():
                lines += textwrap.wrap(
                    _comment(f"{name}: {why}"), LINE, initial_indent="  #   ", subsequent_indent="  #     "
                )
    lines.append("candidates:")
    lines += [f"  - {_flow(candidate)}" for candidate in spec["candidates"]]
    lines.append("gate:")
    for key, value in spec["gate"].items():
        lines += _entry(key, value, comments.get(f"gate.{key}", ""))
    return "\n".join(lines) + "\n"


def _entry(key: str, value: Any, comment: str) -> list[str]:
    """One key of a section, indented by two: mappings of lists and mappings in a block, all else in one line."""
    if isinstance(value, dict) and key in ("features", "columns"):
        lines = _commented(f"  {key}:", comment)
        for name, item in value.items():
            lines += _wrapped(f"    {_scalar(name)}: {_flow(item)}")
        return lines
    return _commented(f"  {key}: {_flow(value)}", comment)


def _commented(text: str, comment: str) -> list[str]:
    """``text`` with the comment beside it, or above it where the line would be long."""
    beside = f"{text.ljust(COMMENT_COLUMN)}  # {_comment(comment)}"
    if not comment or len(beside) > LINE:
        indent = " " * (len(text) - len(text.lstrip()))
        above = textwrap.wrap(_comment(comment), LINE, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        return above + _wrapped(text)
    return [beside]


def _comment(text: str) -> str:
    """On one line, whatever a column's name holds."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _wrapped(text: str) -> list[str]:
    """A long flow collection broken after commas outside quotes; the rest is indented further."""
    if len(text) <= LINE:
        return [text]
    indent = len(text) - len(text.lstrip()) + 2
    parts = re.findall(r'(?:"(?:\\.|[^"\\])*"|[^",])*(?:,\s?|$)', text)
    lines = [""]
    for part in parts:
        if lines[-1].strip() and len(lines[-1]) + len(part.rstrip()) > LINE:
            lines.append(" " * indent)
        lines[-1] += part
    return [line.rstrip() for line in lines if line.strip()]


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


_WORDS_OF_YAML_1_1 = re.compile(r"y|n|yes|no|on|off|true|false|null|~", re.I)
_SAFE_TEXT = re.compile(r"(?:[^\W\d]|[/._])(?:[\w./+@-]|(?<![:#]) (?![:#-]))*")


def _scalar(value: Any) -> str:
    """Text without quotes only where every YAML reads it as the same text."""
    if isinstance(value, float):
        mantissa, e, exponent = repr(value).partition("e")  # YAML 1.1 wants a point: 1.0e-06
        return mantissa + (".0" if e and "." not in mantissa else "") + e + exponent
    if not isinstance(value, str):
        return json.dumps(value)
    safe = _SAFE_TEXT.fullmatch(value) and not value.endswith(" ") and not _WORDS_OF_YAML_1_1.fullmatch(value)
    if safe and plain_scalar(value) == value:
        return value
    if re.fullmatch(r"[a-z][a-z0-9+]*://[\w./=@+-]+|[0-9]+%", value, re.A):
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in quoted)
