"""Content-addressed folders in a store: a model's bytes, a candidate's state.

``<root>/<digest>/…`` holds the files, ``<listing>/<digest>.json`` their names, sizes and digests. The listing hashes to
the folder's digest, so it needs no trust of its own, and a flipped byte is traced to its file. It is written last:
where it is, all files were.

What a folder has below ``base/`` is a folder of its own, which many may stand on: it is stored once, and comes and goes
with those that do.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from upkeep import records
from upkeep.errors import AccessError, InputError, IntegrityError, OutsideError, Problem, Where
from upkeep.models.digest import BASE, digest_of_files, folder_files
from upkeep.store import Entry, MissingObject, Store


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a folder."""

    files: dict[str, str]
    """Relative name, ``/``-separated → SHA-256 of the bytes."""
    sizes: dict[str, int]
    """Relative name → bytes."""
    base: str = ""
    """The digest of the folder that it stands on."""
    schema_version: int = 1

    @property
    def digest(self) -> str:
        """The folder's: over names and file digests."""
        return digest_of_files(self.files)


@dataclass(frozen=True)
class Folders:
    """All folders of one kind."""

    store: Store
    root: str
    """The key below which each folder's bytes lie under their digest."""
    listings: str
    """The key below which the listings lie."""
    bases: Folders | None = None
    """Where what these folders stand on lies; None: among themselves."""

    def key(self, digest: str, name: str = "") -> str:
        return f"{self.root}/{digest}/{name}" if name else f"{self.root}/{digest}"

    def listing_key(self, digest: str) -> str:
        return f"{self.listings}/{digest}.json"

    def put(self, folder: Path) -> str:
        """Upload what is not there yet, its base first; the digest. Twice, or at the same time, is the same."""
        files = folder_files(folder)
        if not files:
            raise InputError("the folder holds no file", where=Where(file=str(folder)), fix="name a folder with files")
        base = (self.bases or self).put(folder / BASE) if (folder / BASE).is_dir() else ""
        sizes = {name: (folder / name).stat().st_size for name in files}
        listing = Listing(files=files, sizes=sizes, base=base)
        digest = listing.digest
        for name in files:
            key = self.key(digest, name)
            # a server may count a deleted object's mark as an object (versitygw, with versioning)
            if not self.store.create(key, folder / name) and not self.store.exists(key):
                self.store.put(key, folder / name)
        if not self.store.create(self.listing_key(digest), records.to_json(listing)):
            self.store.put(self.listing_key(digest), records.to_json(listing))
        return digest

    def listing(self, digest: str) -> Listing:
        """The folder's listing, checked against its digest.

        Raises :class:`MissingObject`; :class:`IntegrityError` when it is not that folder's.
        """
        key = self.listing_key(digest)
        listing = records.from_json(Listing, self.store.get(key), source=f"{self.store.uri}/{key}")
        if listing.digest != digest or listing.files.keys() != listing.sizes.keys():
            raise _damaged(f"{self.store.uri}/{key}", "the listing does not hash to the digest it stands under")
        for name in listing.files:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise _damaged(f"{self.store.uri}/{key}", f"the listing names {name!r}, which is no relative name")
        return listing

    def get(self, digest: str, to: Path) -> Path:
        """Download to the new folder ``to`` and check every byte, its base below it; ``to``.

        A folder of these very bytes at ``to`` is left as it is. Raises :class:`MissingObject`;
        :class:`IntegrityError`, naming the file whose bytes are not what they were; :class:`InputError` when
        something else is at ``to``. Nothing is left at ``to`` after an error.
        """
        if to.exists():
            if to.is_dir() and digest_of_files(folder_files(to)) == digest:
                return to
            raise InputError("something else is there already", where=Where(file=str(to)), fix="name a new folder")
        listing = self.listing(digest)
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
        except PermissionError as error:
            raise AccessError("no permission to make the folder", where=Where(file=str(to))) from error
        except OSError as error:
            raise OutsideError(f"the folder cannot be made: {error.strerror}", where=Where(file=str(to))) from error
        try:
            for name, expected in listing.files.items():
                self.store.get_to(self.key(digest, name), work / name)
                with (work / name).open("rb") as file:
                    if _sha256(file) != expected:
                        raise _damaged(f"{self.store.uri}/{self.key(digest, name)}")
            if listing.base:
                (self.bases or self).get(listing.base, work / BASE)
            work.chmod(0o755)
            work.replace(to)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return to

    def missing(self, digest: str) -> tuple[str, ...]:
        """Keys of the folder, and of its base, that are not there, or not of their size; no byte is read.

        Raises :class:`IntegrityError` for a damaged listing.
        """
        try:
            listing = self.listing(digest)
        except MissingObject:
            return (self.listing_key(digest),)
        there = {entry.key: entry.size for entry in self.store.list(self.key(digest))}
        wanted = {self.key(digest, name): size for name, size in listing.sizes.items()}
        beneath = (self.bases or self).missing(listing.base) if listing.base else ()
        return (*(key for key, size in wanted.items() if there.get(key) != size), *beneath)

    def base_of(self, digest: str) -> str:
        """The digest of what the folder stands on; empty: nothing, or there is no such folder.

        Raises :class:`IntegrityError` for a damaged listing.
        """
        try:
            return self.listing(digest).base
        except MissingObject:
            return ""

    def verify(self, digest: str) -> tuple[Problem, ...]:
        """Read every byte, the base's too: what is missing, damaged or too much."""
        try:
            listing = self.listing(digest)
        except (MissingObject, IntegrityError) as error:
            return error.problems
        problems: list[Problem] = []
        for name, expected in listing.files.items():
            key = self.key(digest, name)
            try:
                with self.store.open(key) as file:
                    if _sha256(file) != expected:
                        problems += _damaged(f"{self.store.uri}/{key}").problems
            except MissingObject as error:
                problems += error.problems
        known = {self.key(digest, name) for name in listing.files}
        for entry in sorted(self.store.list(self.key(digest))):
            if entry.key not in known:
                problems.append(
                    Problem(
                        "this file does not belong to the folder; a server that loads the folder would get it too",
                        Where(file=f"{self.store.uri}/{entry.key}"),
                        "find out who put it there, and remove it",
                    )
                )
        if listing.base:
            problems += (self.bases or self).verify(listing.base)
        return tuple(problems)

    def entries(self) -> dict[str, list[Entry]]:
        """Digest → every object of that folder that is there, its listing first."""
        found: dict[str, list[Entry]] = {}
        for entry in self.store.list(self.listings):
            found.setdefault(entry.key[len(self.listings) + 1 :].removesuffix(".json"), []).append(entry)
        for entry in self.store.list(self.root):
            found.setdefault(entry.key[len(self.root) + 1 :].partition("/")[0], []).append(entry)
        return found


def _damaged(place: str, problem: str = "the bytes are not those that were stored") -> IntegrityError:
    return IntegrityError(
        problem,
        where=Where(file=place),
        fix="restore the file from a backup; or, when no version needs it, remove it and run the update again",
    )


def _sha256(file: BinaryIO) -> str:
    total = hashlib.sha256()
    while chunk := file.read(1 << 20):
        total.update(chunk)
    return total.hexdigest()
