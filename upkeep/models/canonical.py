"""What makes a model's file the same bytes for the same model."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Container, Iterator, Mapping
from typing import Any


def zipped(files: Mapping[str, bytes], *, stored: Container[str] = ()) -> bytes:
    """A zip of the ``files``, in order of their names and with a fixed time; those ``stored`` are not deflated."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            entry.compress_type = zipfile.ZIP_STORED if name in stored else zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name], compresslevel=6)
    return target.getvalue()


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of the JSON tree, parents first, in order."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(reversed(list(node.values())))
        elif isinstance(node, list):
            waiting.extend(reversed(node))
