"""The model's bytes, here and checked: from a folder, ``file://`` or ``s3://``."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from upkeep.errors import InputError, IntegrityError, ModelError, Where
from upkeep.models.digest import BASE, folder_digest
from upkeep.models.folder import read_manifest
from upkeep.models.manifest import MANIFEST
from upkeep.store import MissingObject, open_store

_DIGEST = re.compile(r"[0-9a-f]{64}")


def expected_digest(address: str, digest: str) -> str:
    """What the bytes must hash to: ``digest``, else what the address ends in; empty when neither is one.

    Raises :class:`InputError` when they disagree, or ``digest`` is none.
    """
    named = address.rstrip("/").rsplit("/", 1)[-1]
    named = named if _DIGEST.fullmatch(named) else ""
    where = Where(field="UPKEEP_DIGEST")
    if digest and not _DIGEST.fullmatch(digest):
        raise InputError(f"{digest!r} is no digest", where=where, fix="give 64 hexadecimal digits")
    if digest and named and digest != named:
        raise InputError(f"the digest is {digest[:12]}…, and the address ends in {named[:12]}…", where=where)
    return digest or named


@contextmanager
def model_folder(address: str, digest: str, *, models: str = "") -> Iterator[tuple[Path, str]]:
    """The model's folder and its digest; what was fetched goes away afterwards.

    ``models``: where other models are, each under its digest: what a delta stands on is fetched from there, unless it
    is below the folder or beside it. Without it: from where the model itself is.

    ``address``: a folder, ``file:///…/models/<digest>`` or ``s3://…/models/<digest>``. ``digest``: what the bytes must
    hash to; empty: what the address ends in, if that is a digest. Raises :class:`IntegrityError` when they do not,
    :class:`MissingObject` when nothing is there, and what :func:`upkeep.store.open_store` raises.
    """
    expected = expected_digest(address, digest)
    scheme, separator, _ = address.partition("://")
    if not separator or scheme == "file":
        folder = Path(unquote(urlsplit(address).path) if separator else address)
        if not folder.is_dir():
            raise MissingObject("there is no model folder", where=Where(file=str(folder)), fix="check the address")
        found = _check(folder, expected, address)
        base = _base(folder)
        if not base or not models or (folder / BASE).is_dir() or (folder.parent / base).is_dir():
            yield folder, found
            return
        with tempfile.TemporaryDirectory(prefix="upkeep-model-") as name:
            whole = Path(shutil.copytree(folder, Path(name) / "model"))
            _download(f"{models.rstrip('/')}/{base}", whole / BASE)
            yield whole, found
        return
    with tempfile.TemporaryDirectory(prefix="upkeep-model-") as name:
        folder = Path(name) / "model"
        _download(address, folder)
        found = _check(folder, expected, address)
        if base := _base(folder):
            _download(f"{(models or address.rstrip('/').rpartition('/')[0]).rstrip('/')}/{base}", folder / BASE)
        yield folder, found


def _download(address: str, folder: Path) -> None:
    store = open_store(address, make=False)
    for entry in store.list():
        store.get_to(entry.key, folder / entry.key)
    if not (folder / MANIFEST).is_file():
        raise MissingObject("there is no model", where=Where(file=address), fix="check the address")


def _base(folder: Path) -> str:
    """What the model stands on; empty: nothing, or the manifest is none, as loading it will say."""
    try:
        return read_manifest(folder).base
    except ModelError:
        return ""


def _check(folder: Path, expected: str, address: str) -> str:
    found = folder_digest(folder)
    if expected and found != expected:
        raise IntegrityError(
            f"the model's bytes hash to {found[:12]}…, not to {expected[:12]}…: they are not what was registered",
            where=Where(file=address),
            fix="fetch them again, or restore them from a backup; this server does not load them",
        )
    return found
