"""What a source holds now, pinned by digest: the same dataset gives the same update, whenever it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from upkeep.data.dataset import DataFile, Dataset, check_period, period_order
from upkeep.data.privacy import key_name
from upkeep.data.read import FORMATS, format_of, local_path, open_file, parquet_rows, stream_digest
from upkeep.errors import AccessError, DataError, InputError, OutsideError, Problem, Where
from upkeep.spec.model import ModelSpec


def collect(
    spec: ModelSpec,
    *,
    until: str | None = None,
    previous: Sequence[Dataset] = (),
    accept_changed: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> Dataset:
    """Lists ``spec.data.source`` and pins every file by its SHA-256, and by its name the privacy key in ``environ``.

    ``until``: only periods up to this one; where periods are cut from ``data.time``, preparing applies it row by row.
    ``previous``: the datasets of earlier updates. Raises :class:`InputError` when ``until`` is no period;
    :class:`DataError` when the source is empty, when a file has the name of an earlier one and other bytes (unless
    ``accept_changed``), or when files stand beside ``period=`` folders; :class:`SpecError` when the privacy key is
    missing, :class:`InputError` when it is not that of the earlier datasets (unless ``accept_changed``);
    :class:`AccessError` when the source may not be read.
    """
    names, ignored = _listed(spec)
    periods = _periods(spec, names)
    if until is not None and names:
        known = {period for period in periods.values() if period is not None}
        check_period(until, known=known, unit=spec.data.period, name="until")
    files = []
    for name in names:
        period = periods[name]
        if until is not None and period is not None and period_order(period) > period_order(until):
            continue
        files.append(_pin(spec, name, period))
    if not files:
        only = f" up to period {until}" if until is not None and names else ""
        raise DataError(
            f"the source holds no data{only}" + (f" (ignored: {', '.join(ignored[:5])})" if ignored else ""),
            where=Where(file=spec.data.source, field="data.source"),
            fix=f"deliver {', '.join(FORMATS)} files there" if not only else "name a later period",
        )
    privacy_key = key_name(spec.data.privacy, environ)
    if not accept_changed:
        _refuse_changed_key(spec, privacy_key, previous)
        _refuse_changed(files, previous)
    files.sort(key=lambda file: (period_order(file.period or ""), file.name))
    return Dataset(files=tuple(files), until=until, ignored=tuple(ignored), privacy_key=privacy_key)


def file_uri(source: str, name: str) -> str:
    """Where the file called ``name`` lies."""
    if format_of(source) is not None and PurePosixPath(source).name == name:
        path = local_path(source)
        if path is None or not path.is_dir():
            return source
    return f"{source.rstrip('/')}/{name}"


def _listed(spec: ModelSpec) -> tuple[list[str], list[str]]:
    names: list[str] = []
    ignored: list[str] = []
    for name in sorted(_names(spec)):
        hidden = any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)
        (ignored if hidden or format_of(name) is None else names).append(name)
    return names, ignored


def _names(spec: ModelSpec) -> Iterator[str]:
    source = spec.data.source
    root = local_path(source)
    if root is None:
        from upkeep.store import open_store

        if format_of(source) is not None:
            yield PurePosixPath(source).name
            return
        for entry in open_store(source, spec.object_store).list():
            if not entry.key.endswith("/"):
                yield entry.key
        return
    if root.is_file():
        if format_of(source) is None:
            raise DataError(
                "this is no format that can be read",
                where=Where(file=source, field="data.source"),
                fix=f"give {', '.join(FORMATS)}",
            )
        yield root.name
        return
    if not root.exists():
        raise DataError(
            "the source is not there",
            where=Where(file=source, field="data.source"),
            fix="name a file, a folder or an s3:// address; a path in a file is relative to that file's folder",
        )
    # a folder that may not be listed is an error, never passed over: a whole period would be missing unseen
    for folder, _, files in os.walk(root, onerror=_refuse_folder):
        for name in files:
            if (path := Path(folder, name)).is_file():
                yield path.relative_to(root).as_posix()


def _refuse_folder(error: OSError) -> None:
    where = Where(file=str(error.filename), field="data.source")
    if isinstance(error, PermissionError):
        fix = "give yourself permission to read it"
        raise AccessError("the folder may not be listed", where=where, fix=fix) from error
    raise OutsideError(f"the folder could not be listed: {error.strerror}", where=where, fix="try again") from error


def _periods(spec: ModelSpec, names: Sequence[str]) -> dict[str, str | None]:
    """Each file's period: its ``period=`` folder; else cut from ``data.time``; else the file is a period."""
    folders = {
        name: next(
            (unquote(part.removeprefix("period=")) for part in PurePosixPath(name).parts if part.startswith("period=")),
            None,
        )
        for name in names
    }
    outside = [name for name, period in folders.items() if not period]
    if len(outside) < len(names):
        if outside:
            raise DataError(
                f"some files stand in period= folders and others do not: {', '.join(outside[:5])}",
                where=Where(file=spec.data.source, field="data.source"),
                fix="put every file into a period= folder, or none",
            )
        return dict(folders)
    if spec.data.time is not None and spec.data.period is not None:
        return dict.fromkeys(names, None)
    return {name: _stem(name) for name in names}


def _stem(name: str) -> str:
    return name[: -len(next(ending for ending in FORMATS if name.lower().endswith(ending)))]


def _pin(spec: ModelSpec, name: str, period: str | None) -> DataFile:
    uri = file_uri(spec.data.source, name)
    kind = format_of(name)
    assert kind is not None  # _listed lets no other name through
    with open_file(uri, spec.object_store) as stream:
        digest, size = stream_digest(stream)
        rows = None
        if kind == "parquet":
            stream.seek(0)
            rows = parquet_rows(stream, uri)
    return DataFile(uri=uri, name=name, format=kind, period=period, digest=digest, size=size, rows=rows)


def _refuse_changed_key(spec: ModelSpec, key: str, previous: Sequence[Dataset]) -> None:
    known = {dataset.privacy_key for dataset in previous if dataset.privacy_key}
    if not key or not known or key in known:
        return
    privacy = spec.data.privacy
    raise InputError(
        f"the key in {privacy.key} is not the one that earlier updates hashed {', '.join(privacy.hash)} with: their "
        "hashes are others now, so no model and no held-out row of before would know them again",
        where=Where(field="data.privacy.key"),
        fix=f"set {privacy.key} to the earlier key; if it is lost, accept the new one (upkeep run --accept-changed): "
        "the champion is then judged on newer periods only",
    )


def _refuse_changed(files: Sequence[DataFile], previous: Sequence[Dataset]) -> None:
    known: dict[str, dict[str, None]] = {}
    for dataset in previous:
        for file in dataset.files:
            known.setdefault(file.name, {})[file.digest] = None  # several: a change was accepted before
    problems = tuple(
        Problem(
            "the file was used before with other bytes: SHA-256 "
            f"{' or '.join(known[file.name])} then, {file.digest} now",
            Where(file=file.uri),
            "put the old file back and deliver corrections as a new file; or accept the change "
            "(upkeep run --accept-changed), knowing that earlier results can then not be repeated",
        )
        for file in files
        if file.digest not in known.get(file.name, {file.digest: None})
    )
    if problems:
        raise DataError(problems=problems)


def verify_pin(file: DataFile, spec: ModelSpec) -> None:
    """Raises :class:`DataError` when the file's bytes are no longer what the dataset pinned."""
    with open_file(file.uri, spec.object_store) as stream:
        digest, _ = stream_digest(stream)
    if digest != file.digest:
        raise DataError(
            f"the file changed after it was collected: SHA-256 {file.digest} then, {digest} now",
            where=Where(file=file.uri),
            fix="start a new update; write files whole, under another name, and rename them when they are done",
        )
