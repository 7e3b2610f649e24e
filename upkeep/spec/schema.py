"""The JSON Schema of ``upkeep.yaml`` for editors, and the reference page: both made from :mod:`upkeep.spec.model`."""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

SCHEMA_ID = "https://upkeep.dev/schema/v1alpha1/upkeep.schema.json"
Node = dict[str, Any]


@functools.cache
def adapter() -> Any:
    """pydantic's validator of a :class:`~upkeep.spec.model.ModelSpec`, built once."""
    from pydantic import TypeAdapter

    from upkeep.spec.model import ModelSpec

    return TypeAdapter(ModelSpec)


def json_schema() -> Node:
    """The JSON Schema (draft 2020-12) of ``upkeep.yaml``, as a new dict.

    It says what one key may hold. What keys must be to one another is :func:`upkeep.spec.check.check`'s.
    """
    return copy.deepcopy(_schema())


@functools.cache
def _schema() -> Node:
    from pydantic.alias_generators import to_snake

    made: Node = adapter().json_schema(by_alias=True, mode="validation")
    docstrings = _attribute_docstrings()
    for definition in (made, *made["$defs"].values()):
        for name, each in definition.get("properties", {}).items():
            each.pop("title", None)
            if said := docstrings.get((definition["title"], to_snake(name))):
                each["description"] = said
            if "description" not in each and "$ref" in each:
                each["description"] = _follow(each, made).get("description", "")
    made.pop("title")
    # The schema comes first for a reader of the file; pydantic's own order would begin with $defs.
    definitions = made.pop("$defs")
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "upkeep.yaml",
    }
    return _one_line({**head, **made, "$defs": definitions})  # type: ignore[no-any-return]  # a dict goes in


def _attribute_docstrings() -> dict[tuple[str, str], str]:
    """(Class, attribute) → the string below the attribute in :mod:`upkeep.spec.model`.

    pydantic's own ``use_attribute_docstrings`` reads the module anew for each class, whenever a spec is validated:
    0.1 CPU-s in every command and step, for what only the schema needs.
    """
    from upkeep.spec import model

    found = {}
    for definition in ast.parse(inspect.getsource(model)).body:
        if isinstance(definition, ast.ClassDef):
            for attribute, below in itertools.pairwise(definition.body):
                match attribute, below:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        found[definition.name, name] = inspect.cleandoc(text)
    return found


def _one_line(value: Any) -> Any:
    """Descriptions without the line breaks of the source."""
    if isinstance(value, dict):
        return {
            key: " ".join(item.split()) if key == "description" and isinstance(item, str) else _one_line(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_one_line(item) for item in value]
    return value


def _follow(node: Node, root: Node) -> Node:
    while "$ref" in node:
        found: Node = root["$defs"][node["$ref"].rsplit("/", 1)[1]]
        node = found
    return node


def node_at(path: Sequence[str | int], document: Any) -> Node:
    """The schema of what stands at ``path`` in ``document``; ``{}`` where the schema knows of nothing.

    The document is needed where a key decides what its neighbours may be (a candidate's ``strategy``).
    """
    root = _schema()
    node = _choose(root, document)
    for part in path:
        document = _child(document, part)
        if isinstance(part, int):
            node = node.get("items", {})
        elif part in node.get("properties", {}):
            node = node["properties"][part]
        else:
            extra = node.get("additionalProperties")
            node = extra if isinstance(extra, dict) else {}
        node = _choose(node, document)
    return node


def _child(document: Any, part: str | int) -> Any:
    try:
        return document[part]
    except (KeyError, IndexError, TypeError):
        return None


def _choose(node: Node, document: Any) -> Node:
    """The branch of ``node`` that is meant: by discriminator, else by the document's shape."""
    root = _schema()
    node = {**_follow(node, root), **{key: item for key, item in node.items() if key == "description"}}
    branches = [_follow(branch, root) for branch in node.get("oneOf") or node.get("anyOf") or ()]
    if "discriminator" in node:
        tag = _child(document, node["discriminator"]["propertyName"])
        chosen = [b for b in branches if b["properties"]["strategy"].get("const") == tag]
    else:
        shape = "object" if isinstance(document, dict) else "array" if isinstance(document, list) else None
        chosen = [branch for branch in branches if branch.get("type") == shape]
    return chosen[0] if chosen else node


def keys_at(path: Sequence[str | int], document: Any) -> tuple[str, ...]:
    """The keys that a mapping at ``path`` may have; empty where any key may stand."""
    node = node_at(path, document)
    if "properties" in node:
        return tuple(node["properties"])
    return tuple(node.get("propertyNames", {}).get("enum", ()))


def sections_with(key: str) -> tuple[str, ...]:
    """The dotted sections, below the root, in which ``key`` is known: where a misplaced key may belong."""
    return tuple(section for section, node in _sections(_schema(), "") if section and key in node["properties"])


def _sections(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    """Every mapping of the spec with its dotted path, depth first, in the order of the spec."""
    yield path, node
    for key, each in node["properties"].items():
        below = f"{path}.{key}" if path else key
        yield from _sections_below(each, below)


def _sections_below(each: Node, path: str) -> Iterator[tuple[str, Node]]:
    found = _follow(each, _schema())
    if "properties" in found:
        yield from _sections(found, path)
    elif isinstance(found.get("additionalProperties"), dict):
        yield from _sections_below(found["additionalProperties"], f"{path}.<name>")
    elif found.get("type") == "array":
        yield from _sections_below(found.get("items", {}), f"{path}[]")
    elif "discriminator" in found:
        for branch in found["oneOf"]:
            chosen = _follow(branch, _schema())
            yield from _sections(chosen, f"{path} ({chosen['properties']['strategy']['const']})")
    else:
        # A rule or a list of them: one entry, the rule's.
        named = [b for b in found.get("anyOf", ()) if "properties" in _follow(b, _schema())]
        for branch in named:
            yield from _sections(_follow(branch, _schema()), path)


def reference() -> str:
    """The reference page of ``upkeep.yaml``, in Markdown: every key with its type, default and meaning."""
    lines = [
        "# upkeep.yaml",
        "",
        "One file describes one model. Only `metadata`, `data` and `candidates` must be there; every other key has a",
        "default. This page is made from `upkeep/spec/model.py`; do not edit it by hand.",
        "",
        "For help while you type, save the output of `upkeep spec schema` beside the file as `upkeep.schema.json` and",
        "begin the file with `# yaml-language-server: $schema=upkeep.schema.json`.",
        "",
        "A share is a number from 0 to 1 or a percentage: `0.2` and `20%` are the same. A duration is a number of",
        "seconds, or a number with `ms`, `s`, `m`, `h` or `d`: `600` and `10m` are the same. Relative paths start from",
        "the folder of the file.",
    ]
    for path, node in _sections(_schema(), ""):
        lines += ["", f"## `{path}`" if path else "## The whole file", ""]
        if node.get("description"):
            lines += [_markdown(node["description"]), ""]
        lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        required = node.get("required", [])
        for key, each in node["properties"].items():
            default = "required" if key in required else _default(each)
            lines.append(f"| `{key}` | {_type(each)} | {default} | {_markdown(each.get('description', ''))} |")
    return "\n".join(lines) + "\n"


def _markdown(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


def _default(each: Node) -> str:
    if "const" in each and "default" not in each:
        return "required"
    default = each.get("default")
    if default is None or default in ("", [], {}) or "$ref" in each:
        return ""
    if isinstance(default, float):
        default = f"{default:.10g}"
    text = default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)
    return f"`{text}`"


def _type(each: Node) -> str:
    """A short name of what ``each`` may hold, as a person would say it."""
    found = _follow(each, _schema())
    if "const" in found:
        return f"`{found['const']}`"
    if "enum" in found:
        return " \\| ".join(f"`{item}`" for item in found["enum"])
    if "discriminator" in found:
        return "a candidate"
    if "anyOf" in found:
        return _union([branch for branch in found["anyOf"] if branch.get("type") != "null"])
    kind = found.get("type")
    if kind == "array":
        if "prefixItems" in found:
            return f"list of {len(found['prefixItems'])}: {_type(found['prefixItems'][0])}"
        if "discriminator" in found.get("items", {}):
            return "list of candidates"
        return f"list of {_type(found['items'])}" if found.get("items") else "list"
    if kind == "object":
        extra = found.get("additionalProperties")
        return f"mapping to {_type(extra)}" if isinstance(extra, dict) else "mapping"
    if kind in ("number", "integer"):
        return _range("number" if kind == "number" else "whole number", found)
    if kind == "string":
        return "one character" if found.get("maxLength") == 1 else "text"
    return {"boolean": "`true` \\| `false`"}.get(str(kind), "anything")


def _union(branches: list[Node]) -> str:
    from upkeep.spec.model import DURATION

    types = [branch.get("type") for branch in branches]
    if types[-2:] == ["number", "string"]:
        kind = "duration" if branches[-1].get("pattern") == DURATION else "share"
        said = kind if kind == "share" and branches[-2].get("maximum") == 1 else _range(kind, branches[-2])
        return " or ".join([*map(_type, branches[:-2]), said])
    if types == ["string", "boolean", "integer"]:
        return "a label"
    if len(branches) == 2 and branches[1].get("type") == "array":
        return "mapping, or a list of them"
    return " or ".join(_type(branch) for branch in branches)


def _range(name: str, node: Node) -> str:
    signs = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    bounds = [f"{sign} {node[key]:g}" for key, sign in signs if key in node]
    return f"{name} {', '.join(bounds)}".strip()
