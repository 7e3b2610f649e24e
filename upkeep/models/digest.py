"""How a folder of files is named by its content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path


def folder_files(folder: Path) -> dict[str, str]:
    """Every file's relative name, ``/``-separated → SHA-256 of its bytes, sorted by name."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name: _sha256(folder / name) for name in names}


def digest_of_files(files: Mapping[str, str]) -> str:
    """SHA-256 over every file's name and digest, in the order of the names."""
    return hashlib.sha256("".join(f"{name}\0{files[name]}\n" for name in sorted(files)).encode()).hexdigest()


def folder_digest(folder: Path) -> str:
    """Names the folder's content: :func:`digest_of_files` of :func:`folder_files`."""
    return digest_of_files(folder_files(folder))


def folder_size(folder: Path) -> int:
    """The bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
