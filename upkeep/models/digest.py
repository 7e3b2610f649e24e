"""How a folder of files is named by its content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

BASE = "base"
"""Below it a folder has what it stands on: a folder with a digest of its own, and no part of this one's."""


def folder_files(folder: Path) -> dict[str, str]:
    """Every file's relative name, ``/``-separated → SHA-256 of its bytes, sorted by name; none below :data:`BASE`."""
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in _files(folder)}


def digest_of_files(files: Mapping[str, str]) -> str:
    """SHA-256 over every file's name and digest, in the order of the names."""
    return hashlib.sha256("".join(f"{name}\0{files[name]}\n" for name in sorted(files)).encode()).hexdigest()


def folder_digest(folder: Path) -> str:
    """Names the folder's content: :func:`digest_of_files` of :func:`folder_files`."""
    return digest_of_files(folder_files(folder))


def folder_size(folder: Path) -> int:
    """The bytes of all files; none below :data:`BASE`."""
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> list[Path]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return [path for name, path in sorted(found.items()) if not name.startswith(f"{BASE}/")]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
