"""Object storage: a folder on this machine or any S3 server, behind one protocol.

Keys are relative and ``/``-separated. What is written is there whole or not at all, and :meth:`Store.create` is
atomic: of many writers of one key exactly one gets True. Everything that must not be decided twice (a version's
number, a lock) stands on that one call.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar, cast
from urllib.parse import unquote, urlsplit

from upkeep.errors import AccessError, InputError, OutsideError, UpkeepError, Where, from_os
from upkeep.spec.model import ObjectStore

R = TypeVar("R")

READ_AHEAD = 1 << 20
"""Bytes that :meth:`Store.open` asks an S3 server for at least."""

_CONNECT = timedelta(seconds=2)
_GIVE_UP = timedelta(seconds=10)
"""An endpoint that does not answer fails after about this long, retries included."""
_SILENCE = timedelta(seconds=60)
_REQUEST = timedelta(minutes=10)

_BAD_KEY = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|[\x00-\x1f\x7f\\]|#\d+$")
"""An empty, ``.`` or ``..`` part, control characters, and what obstore calls the files it is still writing."""
_NOT_THERE = ("NoSuchKey", "NoSuchVersion", "NotFound")
"""Only these codes of a 404 mean that the object is missing; servers use it for unknown users, too."""
_PARTIAL = re.compile(r"#\d+$")


class MissingObject(UpkeepError):  # noqa: N818 (what it names is the thing that is missing)
    """Nothing is stored under that key. Exit 3, no retry: it will not appear by itself."""


class MissingBucket(InputError):  # noqa: N818
    """The bucket is not there. Exit 2: make it, or name another."""


class Entry(NamedTuple):
    """One stored object."""

    key: str
    size: int
    """Bytes."""
    modified: datetime
    """UTC, by the store's own clock."""


_fields = itemgetter("path", "size", "last_modified")
_entry = partial(tuple.__new__, Entry)
"""``Entry._make`` without its count of the fields: a listing is long."""


class Store(Protocol):
    """Where bytes are kept.

    Every method raises :class:`InputError` on a key that is not relative, :class:`MissingBucket`,
    :class:`AccessError` on credentials or permissions, and :class:`OutsideError` when the store cannot be reached
    or is full.
    """

    @property
    def uri(self) -> str:
        """Opens the same store again from any working directory; no ``/`` at the end."""
        ...

    def get(self, key: str) -> bytes:
        """The object's bytes. Raises :class:`MissingObject`."""
        ...

    def get_to(self, key: str, path: Path) -> None:
        """Stream the object into the file ``path``, whole or not at all. Raises :class:`MissingObject`."""
        ...

    def open(self, key: str) -> BinaryIO:
        """A seekable reader. Raises :class:`MissingObject`."""
        ...

    def put(self, key: str, data: bytes | Path) -> None:
        """Write bytes, or a file's, over whatever is there."""
        ...

    def create(self, key: str, data: bytes | Path) -> bool:
        """Write if nothing is there, in one atomic step; False when something is. At most 5 GB.

        After a lost reply False may mean one's own write: compare what is there.
        """
        ...

    def exists(self, key: str) -> bool: ...

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every object below the folder ``prefix``, in no order."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens when it is not there."""
        ...

    def delete_partials(self, before: datetime, *, prefix: str = "", dry_run: bool = False) -> tuple[str, ...]:
        """Remove what crashed writers left below ``prefix``, last written before the moment given; the names.

        An S3 server does this by itself (see :mod:`upkeep.registry.server`).
        """
        ...


def open_store(uri: str, object_store: ObjectStore = ObjectStore(), *, make: bool = True) -> Store:  # noqa: B008
    """Open a folder (a path or ``file://``), ``s3://bucket/prefix``, or ``memory://`` (a new, empty one; for tests).

    ``make`` makes a folder that is not there; without it that is an :class:`InputError`. Nothing is sent to an S3
    server yet. Its endpoint and region come from ``object_store``, else from AWS_ENDPOINT_URL and AWS_REGION, its
    credentials from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or what the machine provides.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return _open_folder(Path(uri), make)
    if scheme == "file":
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost"):
            raise InputError(
                f"{uri} names a host",
                where=Where(file=uri),
                fix="write file:/// and an absolute path, or just the path",
            )
        return _open_folder(Path(unquote(parts.path)), make)
    if scheme == "s3":
        return _open_s3(uri, rest, object_store)
    if scheme == "memory":
        from obstore.store import MemoryStore

        return _Objects("memory://", MemoryStore(), None, "memory://")
    raise InputError(
        f"{uri} is no store that Upkeep can open",
        where=Where(file=uri),
        fix="use a folder or s3://bucket/prefix",
    )


def _open_folder(path: Path, make: bool) -> Store:
    from obstore.store import LocalStore

    root = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 (Path.resolve would follow links: names stay as given)
    place = Where(file=str(root))
    try:
        if make:
            root.mkdir(parents=True, exist_ok=True)
        if not root.is_dir():
            problem = "is not a folder" if root.exists() else "is not there"
            raise InputError(f"the folder {problem}", where=place, fix="name a folder that exists")
        backend = LocalStore(root)
    except OSError as error:
        raise from_os(error.errno, str(error), str(root)) from error
    return _Objects(str(root), backend, root, str(root))


def _open_s3(uri: str, rest: str, settings: ObjectStore) -> Store:
    from obstore.store import S3Store

    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if not bucket or (prefix and _BAD_KEY.search(prefix)):
        raise InputError(f"{uri} names no bucket and prefix", where=Where(file=uri), fix="write s3://bucket/prefix")
    endpoint = endpoint_of(settings)
    # by this name, since as `endpoint` it would come after AWS_ENDPOINT_URL_S3, whatever the spec says
    options: dict[str, Any] = {"aws_endpoint_url_s3": endpoint} if endpoint else {}
    backend = S3Store(
        bucket,
        prefix=prefix or None,
        checksum_algorithm="SHA256",  # costs nothing: requests are signed with it; and object lock asks for one
        region=region_of(settings),
        client_options={
            "allow_http": bool(endpoint and endpoint.startswith("http://")),
            "connect_timeout": _CONNECT,
            "read_timeout": _SILENCE,
            "timeout": _REQUEST,
        },
        retry_config={
            "max_retries": 4,
            "retry_timeout": _GIVE_UP,
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
        },
        **options,
    )
    clean = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
    return _Objects(clean, backend, None, endpoint or "Amazon S3")


def endpoint_of(settings: ObjectStore) -> str | None:
    """The S3 endpoint: the spec's, else the environment's; None: Amazon's own. Raises :class:`InputError`."""
    endpoint = (
        settings.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    ).rstrip("/")
    if endpoint and not re.match(r"https?://[^/]", endpoint):
        raise InputError(
            f"the S3 endpoint {endpoint!r} is no http:// or https:// address",
            where=Where(field="object_store.endpoint"),
            fix="write it like http://127.0.0.1:9000",
        )
    return endpoint or None


def region_of(settings: ObjectStore) -> str:
    """The S3 region: the spec's, else the environment's, else ``us-east-1``, which other servers take too."""
    return settings.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


class _Objects:
    """A :class:`Store` over any of obstore's."""

    def __init__(self, uri: str, backend: Any, root: Path | None, server: str) -> None:
        import obstore

        self._obstore = obstore
        self._backend = backend
        self._root = root
        self._server = server
        self._bucket_seen = root is not None or uri == "memory://"
        self._there = (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError)
        self._failures = (obstore.exceptions.BaseError, OSError, ValueError)
        self.uri = uri

    def __repr__(self) -> str:
        return f"<Store {self.uri}>"

    def get(self, key: str) -> bytes:
        _check(key)
        try:
            return bytes(self._obstore.get(self._backend, key).bytes())
        except self._failures as error:
            raise self._error(error, key) from error

    def get_to(self, key: str, path: Path) -> None:
        _check(key)
        try:
            chunks = self._obstore.get(self._backend, key).stream()
        except self._failures as error:
            raise self._error(error, key) from error
        partial = path.with_name(path.name + ".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                while (chunk := self._call(key, next, chunks, None)) is not None:
                    file.write(chunk)
            partial.replace(path)
        except OSError as error:
            raise from_os(error.errno, str(error), str(path)) from error
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def open(self, key: str) -> BinaryIO:
        _check(key)
        if self._root is not None:
            return cast(BinaryIO, self._call(key, (self._root / key).open, "rb"))
        size = self._call(key, self._obstore.head, self._backend, key)["size"]

        def read(start: int, length: int) -> bytes:
            return bytes(
                self._call(key, lambda: self._obstore.get_range(self._backend, key, start=start, length=length))
            )

        return cast(BinaryIO, io.BufferedReader(_Ranges(size, read), READ_AHEAD))

    def put(self, key: str, data: bytes | Path) -> None:
        self._write(key, data, "overwrite")

    def create(self, key: str, data: bytes | Path) -> bool:
        return self._write(key, data, "create")

    def _write(self, key: str, data: bytes | Path, mode: str) -> bool:
        _check(key)
        if isinstance(data, Path):
            try:
                with data.open("rb") as file:
                    return self._send(key, file, mode)
            except OSError as error:
                raise from_os(error.errno, str(error), str(data)) from error
        return self._send(key, data, mode)

    def _send(self, key: str, data: bytes | BinaryIO, mode: str) -> bool:
        try:
            self._obstore.put(self._backend, key, data, mode=mode)
        except self._there:
            return False
        except self._failures as error:
            raise self._error(error, key, writing=True) from error
        return True

    def exists(self, key: str) -> bool:
        _check(key)
        try:
            self._obstore.head(self._backend, key)
        except FileNotFoundError:
            # S3's HEAD says 404 for a missing bucket too: ask once in a way that tells them apart
            if not self._bucket_seen:
                next(self.list(), None)
            return False
        except self._failures as error:
            raise self._error(error, key) from error
        return True

    def list(self, prefix: str = "") -> Iterator[Entry]:
        prefix = prefix.rstrip("/")
        if prefix:
            _check(prefix)
        try:
            for chunk in self._obstore.list(self._backend, prefix or None):
                self._bucket_seen = True
                yield from map(_entry, map(_fields, chunk))
        except self._failures as error:
            raise self._error(error, prefix) from error
        self._bucket_seen = True

    def delete(self, key: str) -> None:
        _check(key)
        with suppress(FileNotFoundError):
            try:
                self._obstore.delete(self._backend, key)
            except FileNotFoundError:
                raise
            except self._failures as error:
                raise self._error(error, key) from error

    def delete_partials(self, before: datetime, *, prefix: str = "", dry_run: bool = False) -> tuple[str, ...]:
        if self._root is None:
            return ()
        if prefix:
            _check(prefix)
        gone = []
        for path in (self._root / prefix).rglob("*#*"):
            # another sweep, or the writer itself, may be faster
            with suppress(FileNotFoundError):
                if _PARTIAL.search(path.name) and path.is_file() and path.stat().st_mtime < before.timestamp():
                    if not dry_run:
                        path.unlink()
                    gone.append(path.relative_to(self._root).as_posix())
        return tuple(sorted(gone))

    def _call(self, key: str, function: Callable[..., R], *arguments: Any) -> R:
        try:
            return function(*arguments)
        except self._failures as error:
            raise self._error(error, key) from error

    def _error(self, error: Exception, key: str, *, writing: bool = False) -> UpkeepError:
        """What obstore raised, in this project's words. obstore tells S3 failures apart only in its text."""
        text = str(error)
        place = f"{self.uri}/{key}" if key else self.uri
        where = Where(file=place)
        exceptions = self._obstore.exceptions
        if "NoSuchBucket" in text:
            bucket = self.uri.removeprefix("s3://").partition("/")[0]
            return MissingBucket(
                f"there is no bucket {bucket!r} at {self._server}",
                where=where,
                fix="make it with `upkeep store init`, or correct the name",
            )
        code = re.search(r"<Code>([^<]*)</Code>", text)
        if isinstance(error, FileNotFoundError) and not writing and (not code or code[1] in _NOT_THERE):
            return MissingObject(
                "nothing is stored there",
                where=where,
                fix="check the name; if it should be there, it was removed by hand or by a sweep",
            )
        found = re.search(r"\(os error (\d+)\)", text)
        if self._root is not None:
            number = found and int(found[1])
            return from_os(number or getattr(error, "errno", None), _first_line(text), place)
        if "169.254.169.254" in text or "169.254.170.2" in text:
            return AccessError(
                f"no credentials for {self._server}",
                where=where,
                fix="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )
        refused = isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError)
        if refused or re.search(
            r"status code: 40[13]|InvalidAccessKeyId|UserNotFound|SignatureDoesNotMatch|AccessDenied", text
        ):
            return AccessError(
                f"{self._server} refused the credentials, or they do not allow this{_reason(text)}",
                where=where,
                fix="check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may do with the bucket",
            )
        if re.search(r"status code: 30\d|without LOCATION|AuthorizationHeaderMalformed|PermanentRedirect", text):
            return InputError(
                f"the bucket is not in the region that was asked{_reason(text)}",
                where=where,
                fix="set object_store.region in upkeep.yaml, or AWS_REGION",
            )
        if "InvalidBucketName" in text:
            return InputError(
                f"{self._server} takes no bucket of that name{_reason(text)}", where=where, fix="correct the name"
            )
        if re.search(r"status code: 507|StorageFull|QuotaExceeded|[Nn]o space left", text):
            return OutsideError(
                f"{self._server} has no space left{_reason(text)}", where=where, fix="make room, then try again"
            )
        if re.search(r"status code: [45]\d\d", text):
            return OutsideError(
                f"{self._server} failed{_reason(text)}", where=where, fix="look at the server, then try again"
            )
        return OutsideError(
            f"{self._server} cannot be reached: {_first_line(text)}",
            where=where,
            fix="check the endpoint (object_store.endpoint, AWS_ENDPOINT_URL) and the network, then try again",
        )


class _Ranges(io.RawIOBase):
    """A seekable file over ranged reads."""

    def __init__(self, size: int, read: Callable[[int, int], bytes]) -> None:
        self._size, self._read, self._at = size, read, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"cannot seek to {start + offset}, before the start")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._at)
        if length <= 0:
            return 0
        data = self._read(self._at, length)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _check(key: str) -> None:
    if _BAD_KEY.search(key):
        raise InputError(
            f"{key!r} is no key of a store",
            fix="use a relative name: parts separated by single slashes, none of them . or ..",
        )


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else "no reason given"


def _reason(text: str) -> str:
    """The server's own code and sentence, where its answer carries them."""
    code = re.search(r"<Code>([^<]*)</Code>", text)
    message = re.search(r"<Message>([^<]*)</Message>", text)
    status = re.search(r"status code: (\d+)", text)
    parts = [found[1] for found in (code or status, message) if found]
    return f" ({': '.join(parts)})" if parts else ""
