"""The registry: which versions of a model exist, and what is in them.

::

    <model>/
      models/<digest>/…              a version's bytes; files/<digest>.json lists them with their digests
      versions/v13.json              the card: created only if absent, and that is when the version exists
      datasets/ specs/ profiles/     records under their own digest
      trained/                       what each training made, for the steps after it; swept after the grace time
      sweeps/000001.json             what a sweep took of that, so that no cached training names it any more
      states/<candidate>/…           what a candidate that goes on learning goes on from
      rounds/<candidate>/            what it scored after each round of learning; the newest record holds them all
      checkpoints/<candidate>.npz    where a training stands, while it is under way
      workers/<job>/                 what a train step hands to its workers, and they to it, meanwhile
      heldout/                       fingerprints of the rows that no training may see
      updates/<id>/                  what each update left: its record, page, drift report, evaluation
      lock/<of>/                     one update (one rollout's controller, …) at a time

Nothing in it but a checkpoint is ever changed: every other write either creates or says the same again. A crash
between any two writes leaves bytes that no version names, which :meth:`Registry.sweep` removes after a grace time, and
never half a version.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from upkeep import records
from upkeep.data.dataset import Dataset
from upkeep.errors import InputError, IntegrityError, Problem, UpkeepError, Where
from upkeep.registry import lock
from upkeep.registry.card import Card
from upkeep.registry.differences import Difference, card_differences
from upkeep.registry.folders import Folders
from upkeep.registry.lock import LEASE_SECONDS, Epoch, Lease
from upkeep.store import MissingObject, Store

if TYPE_CHECKING:
    import pyarrow as pa

    from upkeep.drift.profile import Baseline
    from upkeep.models.manifest import Manifest

T = TypeVar("T")

UPDATE = "update"
"""What a lock is of: ``update``, which updates, adoptions and sweeps hold; ``rollout``, of who moves the traffic."""
_VERSION = re.compile(r"v([1-9][0-9]*)")


@dataclass(frozen=True, kw_only=True)
class StatePointer:
    """One step of a candidate's way: the newest is where it goes on from."""

    state: str
    """The digest of the state's folder."""
    schema_version: int = 1


@dataclass(frozen=True)
class _Made:
    """As much of a training's record as a sweep reads."""

    model: str
    parents: tuple[str, ...] = ()
    went_on_from: str = ""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep took of ``trained/``: written before anything goes."""

    at: str
    """UTC, ISO 8601."""
    trained: tuple[str, ...]
    schema_version: int = 1


class Registry:
    """One model's part of a store. Every method may raise what :class:`upkeep.store.Store` raises."""

    def __init__(self, store: Store, model: str) -> None:
        self.store = store
        self.model = model
        self._models = Folders(store, f"{model}/models", f"{model}/files")

    def __repr__(self) -> str:
        return f"<Registry {self.model} in {self.store.uri}>"

    # ---- model bytes ----

    def put_model(self, folder: Path) -> str:
        """Upload a model folder; its digest. What is there already is left as it is."""
        return self._models.put(folder)

    def get_model(self, digest: str, to: Path) -> Path:
        """Download a model's bytes to the new folder ``to`` and check all of them; ``to``.

        Raises :class:`IntegrityError`, which names the file, when bytes are not those of the digest;
        :class:`MissingObject` when there are none; :class:`InputError` when something else is at ``to``.
        """
        return self._models.get(digest, to)

    def get_manifest(self, digest: str) -> Manifest:
        """What a model takes and answers, without its other bytes; not checked against the digest.

        Raises :class:`MissingObject`, :class:`IntegrityError`.
        """
        from upkeep.models.manifest import MANIFEST, Manifest

        key = self._models.key(digest, MANIFEST)
        return records.from_json(Manifest, self.store.get(key), source=f"{self.store.uri}/{key}")

    def model_uri(self, digest: str) -> str:
        """Where the bytes lie: what a server's ``storageUri`` says."""
        return f"{self.store.uri}/{self._models.key(digest)}"

    def missing(self, digest: str) -> tuple[str, ...]:
        """Keys of the model's bytes that are not there, or not of their size; no byte is read."""
        return self._models.missing(digest)

    # ---- versions ----

    def versions(self) -> tuple[str, ...]:
        """Every version's name, oldest first: ``v9`` before ``v10``."""
        return tuple(f"v{number}" for number in self._numbers())

    def cards(self) -> tuple[Card, ...]:
        """Every version's card, oldest first. Raises :class:`IntegrityError` when one cannot be read."""
        return tuple(self._read_card(version) for version in self.versions())

    def card(self, version: str) -> Card:
        """The version's card. Raises :class:`InputError` when there is no such version, :class:`IntegrityError`."""
        try:
            return self._read_card(version)
        except MissingObject as error:
            known = self.versions()
            if version in known:
                raise
            raise InputError(
                f"{self.model} has no version {version!r}",
                where=Where(file=f"{self.store.uri}/{self._key('versions')}"),
                fix=f"name one of {', '.join(known[-10:])}"
                if known
                else "there is none yet: `upkeep run` makes the first",
            ) from error

    def register(self, card: Card) -> Card:
        """Make ``card`` the next free version (what it says of its version is not read); the card as registered.

        The one write that creates ``versions/vN.json`` is the moment the version exists. Of writers who race, each
        gets a number of its own. The same update registering the same digest again gets the version it has.
        Raises :class:`MissingObject` when the model's bytes are not all there, :class:`InputError` for a card of
        another model.
        """
        if card.model != self.model:
            raise InputError(f"this is a card of {card.model}, not of {self.model}", fix="open that model's registry")
        missing = self.missing(card.digest)
        if missing:
            raise MissingObject(
                f"the model's bytes are not all there: {len(missing)} files are missing or cut short",
                where=Where(file=f"{self.store.uri}/{missing[0]}"),
                fix="upload the model first; if it was, the grace time of a sweep was too short: run the update again",
            )
        numbers = self._numbers()
        for number in reversed(numbers):
            if (own := self._read_card(f"v{number}")).update == card.update and own.digest == card.digest:
                return own
        number = numbers[-1] if numbers else 0
        while True:
            number += 1
            named = replace(card, version=f"v{number}")
            if self.store.create(self._key(f"versions/v{number}.json"), records.to_json(named)):
                return named
            there = self._read_card(f"v{number}")
            if there.update == card.update and there.digest == card.digest:
                return there

    def verify(self, version: str) -> tuple[Problem, ...]:
        """Read all of a version; what is wrong with it, nothing when it is whole.

        Looked at: the card, every byte of the model, the records it names (dataset, spec, profile). Raises
        :class:`InputError` when there is no such version.
        """
        try:
            card = self.card(version)
        except IntegrityError as error:
            return error.problems
        problems = list(self._models.verify(card.digest))
        named: list[tuple[str | None, Callable[[str], Any]]] = [
            (card.spec, self.get_spec),
            (card.dataset, self.get_dataset),
            (card.profile, self.get_profile),
        ]
        for digest, read in named:
            if digest:
                try:
                    read(digest)
                except (MissingObject, IntegrityError) as error:
                    problems += error.problems
        return tuple(problems)

    def diff(self, one: str, other: str) -> tuple[Difference, ...]:
        """What differs between two versions: data, training, rows, scores, spec. Raises :class:`InputError`."""
        a, b = self.card(one), self.card(other)
        return card_differences(
            (a, self._spec_or_none(a.spec), self._dataset_or_none(a.dataset)),
            (b, self._spec_or_none(b.spec), self._dataset_or_none(b.dataset)),
        )

    # ---- records under their digest ----

    def put_spec(self, data: bytes) -> str:
        """Store the spec's canonical JSON; its digest."""
        digest = records.digest(data)
        self.store.create(self._key(f"specs/{digest}.json"), data)
        return digest

    def get_spec(self, digest: str) -> bytes:
        """The spec's canonical JSON. Raises :class:`MissingObject`, :class:`IntegrityError`."""
        return self._get_digested(f"specs/{digest}.json", digest)

    def put_dataset(self, dataset: Dataset) -> str:
        """Store which files an update uses; the dataset's digest."""
        self.store.create(self._key(f"datasets/{dataset.digest}.json"), records.to_json(dataset))
        return dataset.digest

    def get_dataset(self, digest: str) -> Dataset:
        """The dataset. Raises :class:`MissingObject`, :class:`IntegrityError`."""
        dataset = self._read(Dataset, f"datasets/{digest}.json")
        if dataset.digest != digest:
            raise self._damaged(f"datasets/{digest}.json")
        return dataset

    def datasets(self) -> tuple[Dataset, ...]:
        """Every dataset of every update, in the order of their digests."""
        return tuple(self.get_dataset(name.removesuffix(".json")) for name in self._names("datasets"))

    def put_profile(self, baseline: Baseline) -> str:
        """Store what a version's training rows look like; its digest."""
        data = records.to_json(baseline)
        digest = records.digest(data)
        self.store.create(self._key(f"profiles/{digest}.json"), data)
        return digest

    def get_profile(self, digest: str) -> Baseline:
        """What a version's training rows looked like. Raises :class:`MissingObject`, :class:`IntegrityError`."""
        from upkeep.drift.profile import Baseline

        key = f"profiles/{digest}.json"
        return records.from_json(Baseline, self._get_digested(key, digest), source=self._place(key))

    # ---- what a training made, for the steps after it ----

    def put_trained(self, data: bytes) -> str:
        """Store a training's record; its digest."""
        digest = records.digest(data)
        self.store.create(self._key(f"trained/{digest}.json"), data)
        return digest

    def get_trained(self, digest: str) -> bytes:
        """A training's record. Raises :class:`MissingObject`, :class:`IntegrityError`."""
        return self._get_digested(f"trained/{digest}.json", digest)

    def last_sweep(self) -> str:
        """Names the newest sweep that took what trainings had made; empty without any."""
        return max(self._names("sweeps"), default="").removesuffix(".json")

    # ---- what candidates go on from ----

    def put_state(self, candidate: str, folder: Path) -> str:
        """Store the folder a candidate goes on from and make it the candidate's newest; its digest."""
        digest = self._states(candidate).put(folder)
        while True:
            numbers = self._state_numbers(candidate)
            newest = numbers[-1] if numbers else 0
            if newest and self._pointer(candidate, newest).state == digest:
                return digest
            self.store.create(self._pointer_key(candidate, newest + 1), records.to_json(StatePointer(state=digest)))

    def latest_state(self, candidate: str) -> str:
        """The digest of the state a candidate goes on from; empty where it has none."""
        numbers = self._state_numbers(candidate)
        return self._pointer(candidate, numbers[-1]).state if numbers else ""

    def get_state(self, candidate: str, digest: str, to: Path) -> Path:
        """Download a state to the new folder ``to``; ``to``. Raises as :meth:`get_model` does."""
        return self._states(candidate).get(digest, to)

    def put_rounds(self, candidate: str, data: bytes) -> str:
        """Store what a candidate scored after each of its rounds; the record's name, which holds its digest."""
        newest = self.latest_rounds(candidate)
        digest = records.digest(data)
        if newest.endswith(digest):
            return newest
        name = f"{int(newest.partition('-')[0] or 0) + 1:06d}-{digest}"
        self.store.create(self._key(f"rounds/{candidate}/{name}.json"), data)
        return name

    def latest_rounds(self, candidate: str) -> str:
        """The name of the newest record of a candidate's rounds; empty where it has none."""
        return max(self._names(f"rounds/{candidate}"), default="").removesuffix(".json")

    def get_rounds(self, candidate: str, name: str) -> bytes:
        """A record of rounds. Raises :class:`MissingObject`, :class:`IntegrityError`."""
        return self._get_digested(f"rounds/{candidate}/{name}.json", name.rpartition("-")[2])

    def get_checkpoint(self, candidate: str) -> bytes | None:
        """What a training of this candidate saved before it was killed; None: nothing."""
        try:
            return self.store.get(self._checkpoint_key(candidate))
        except MissingObject:
            return None

    def put_checkpoint(self, candidate: str, data: bytes) -> None:
        """Save where a training stands, in place of what was there."""
        self.store.put(self._checkpoint_key(candidate), data)

    def drop_checkpoint(self, candidate: str) -> None:
        """The training ended: nothing goes on from there."""
        self.store.delete(self._checkpoint_key(candidate))

    # ---- rows that no training may see ----

    def put_held_out(self, dataset: str, table: Path) -> None:
        """Keep the fingerprints (a Parquet file) of the rows that were held out of the dataset of that digest."""
        digest = records.digest(table.read_bytes())
        self.store.create(self._key(f"heldout/{dataset}-{digest[:16]}.parquet"), table)

    def held_out_name(self) -> str:
        """Names all fingerprints kept so far; empty without any."""
        names = self._names("heldout")
        return records.digest("\n".join(names).encode()) if names else ""

    def held_out_before(self) -> pa.Table | None:
        """All fingerprints kept so far, each once; None without any."""
        names = self._names("heldout")
        if not names:
            return None
        import pyarrow as pa
        import pyarrow.parquet as pq

        tables = []
        for name in names:
            key = f"heldout/{name}"
            data = self.store.get(self._key(key))
            if records.digest(data)[:16] != name.removesuffix(".parquet").rpartition("-")[2]:
                raise self._damaged(key)  # rows that were held out would be learned from, unseen
            tables.append(pq.read_table(io.BytesIO(data)))
        together = pa.concat_tables(tables)
        return together.group_by(together.column_names, use_threads=False).aggregate([])

    # ---- what updates leave ----

    def ended_updates(self) -> dict[str, datetime]:
        """Update → when its record was written, by the store's clock. Ids tell no order: on Kubeflow they are the
        runs'."""
        root = self._key("updates/")
        found = ((entry.key[len(root) :].partition("/"), entry.modified) for entry in self.store.list(root))
        return {update: modified for (update, _, name), modified in found if name == "record.json"}

    def put_update(self, update: str, name: str, data: bytes | Path) -> str:
        """Keep a file of an update (``record.json``, ``page.html``, ``errors/train.json``); its uri."""
        key = self._key(f"updates/{update}/{name}")
        self.store.put(key, data)
        return f"{self.store.uri}/{key}"

    def get_update(self, update: str, name: str) -> bytes:
        """A file of an update. Raises :class:`MissingObject`."""
        return self.store.get(self._key(f"updates/{update}/{name}"))

    # ---- one at a time, and cleaning up ----

    def lock(
        self, holder: str, *, now: Callable[[], datetime], of: str = UPDATE, seconds: float = LEASE_SECONDS
    ) -> AbstractContextManager[Lease]:
        """Keep others from the same work (``of``: updates, or what else is done by one at a time) while the block runs.

        The lock is renewed in the background; after a crash it is free within ``seconds``. Raises
        :class:`ConflictError`, which names the holder and until when, where one is at work.
        """
        return lock.hold(self.store, self._key(f"lock/{of}"), holder, now=now, seconds=seconds)

    def take_part(
        self, update: str, *, first: bool, last: bool, now: Callable[[], datetime]
    ) -> AbstractContextManager[Lease]:
        """Hold the lock of updates with the other steps of ``update``: :func:`upkeep.registry.lock.take_part`."""
        return lock.take_part(self.store, self._key(f"lock/{UPDATE}"), update, first=first, last=last, now=now)

    def holder(self) -> Epoch | None:
        """Who holds the lock of updates, or None; its time may be past."""
        return lock.holder_of(self.store, self._key(f"lock/{UPDATE}"))[1]

    def unlock(self, reason: str, *, of: str = UPDATE, holder: str = "") -> Epoch | None:
        """End the lock, whoever holds it (or only ``holder``); who did, or None: it was free.

        See :func:`upkeep.registry.lock.unlock`.
        """
        return lock.unlock(self.store, self._key(f"lock/{of}"), reason, holder=holder)

    def sweep(self, now: datetime, grace: timedelta, *, dry_run: bool = False) -> tuple[str, ...]:
        """Delete what nothing names and what has not been touched for the grace time; the keys, in order.

        That is: what trainings made, and bytes of models that neither a card names, not even as a parent, nor a
        training within the grace time, and that none of those, nor a state, stands on; states that no candidate goes
        on from, and records of rounds that a newer one holds; what crashed writers left; lock epochs long over. A
        folder goes as a whole or stays. With ``dry_run`` nothing is deleted. Raises :class:`ConflictError` while an
        update is under way, and :class:`IntegrityError` when a card or a listing cannot be read: what it names is then
        not known, and nothing is deleted.
        """
        if dry_run:
            return self._sweep(now - grace, None)
        started = time.monotonic()
        with self.lock("sweep", now=lambda: now + timedelta(seconds=time.monotonic() - started)) as lease:
            return self._sweep(now - grace, lease)

    def _sweep(self, before: datetime, lease: Lease | None) -> tuple[str, ...]:
        """Without a ``lease`` nothing is deleted."""
        named = {digest for card in self.cards() for digest in (card.digest, *card.parents)}
        trained = [self._key(f"trained/{name}") for name in self._names("trained")]
        stale = self._older(trained, before)
        for key in sorted(set(trained) - set(stale)):
            made = records.from_json(_Made, self.store.get(key), source=f"{self.store.uri}/{key}")
            named |= {made.model, *made.parents, made.went_on_from}
        candidates = sorted({name.partition("/")[0] for name in self._names("states")})
        latest = {candidate: self.latest_state(candidate) for candidate in candidates}
        bases = {self._models.base_of(digest) for digest in named}
        bases |= {self._states(candidate).base_of(state) for candidate, state in latest.items() if state}
        named |= bases
        keys = [*stale, *self._stale_folders(self._models, named, before)]
        for candidate in candidates:
            keys += self._stale_folders(self._states(candidate), {latest[candidate]}, before)
            old = [self._pointer_key(candidate, number) for number in self._state_numbers(candidate)[:-1]]
            keys += self._older(old, before)
        for candidate in sorted({name.partition("/")[0] for name in self._names("rounds")}):
            past = self._names(f"rounds/{candidate}")[:-1]
            keys += self._older([self._key(f"rounds/{candidate}/{name}") for name in past], before)
        keys += self._older([self._key(f"checkpoints/{name}") for name in self._names("checkpoints")], before)
        keys += [entry.key for entry in self.store.list(self._key("workers")) if entry.modified < before]
        for of in sorted({name.partition("/")[0] for name in self._names("lock")}):
            keys += self._older(lock.past_epochs(self.store, self._key(f"lock/{of}")), before)
        if lease:
            if stale:
                self._note_sweep(stale, lease)
            for key in keys:
                lease.check()
                self.store.delete(key)
        partials = self.store.delete_partials(before, prefix=self.model, dry_run=lease is None)
        return tuple(sorted([*keys, *partials]))

    def _note_sweep(self, stale: list[str], lease: Lease) -> None:
        """Before anything goes: a training that is looked up in a cache from now on is not found there."""
        sweep = Sweep(at=lease.since, trained=tuple(key.rpartition("/")[2].removesuffix(".json") for key in stale))
        number = int(self.last_sweep() or 0)
        while not self.store.create(self._key(f"sweeps/{number + 1:06d}.json"), records.to_json(sweep)):
            number += 1

    def _stale_folders(self, folders: Folders, named: set[str], before: datetime) -> list[str]:
        keys: list[str] = []
        for digest, entries in folders.entries().items():
            if digest not in named and max(entry.modified for entry in entries) < before:
                keys += [entry.key for entry in entries]
        return keys

    def _older(self, keys: list[str], before: datetime) -> list[str]:
        if not keys:
            return []
        folder = keys[0].rpartition("/")[0]
        modified = {entry.key: entry.modified for entry in self.store.list(folder)}
        return [key for key in keys if key in modified and modified[key] < before]

    # ---- keys ----

    def _key(self, name: str) -> str:
        return f"{self.model}/{name}"

    def _place(self, name: str) -> str:
        return f"{self.store.uri}/{self._key(name)}"

    def _names(self, folder: str) -> tuple[str, ...]:
        """Names of all objects below a folder, in order."""
        root = self._key(f"{folder}/")
        return tuple(sorted(entry.key[len(root) :] for entry in self.store.list(root)))

    def _numbers(self) -> list[int]:
        names = (name.removesuffix(".json") for name in self._names("versions") if name.endswith(".json"))
        return sorted(int(match[1]) for name in names if (match := _VERSION.fullmatch(name)))

    def _read(self, kind: type[T], name: str) -> T:
        return records.from_json(kind, self.store.get(self._key(name)), source=self._place(name))

    def _read_card(self, version: str) -> Card:
        if not _VERSION.fullmatch(version):
            raise InputError(f"{version!r} is no version", fix="write v and a number, like v3")
        card = self._read(Card, f"versions/{version}.json")
        if card.version != version or card.model != self.model:
            raise self._damaged(f"versions/{version}.json")
        return card

    def _get_digested(self, name: str, digest: str) -> bytes:
        data = self.store.get(self._key(name))
        if records.digest(data) != digest:
            raise self._damaged(name)
        return data

    def _damaged(self, name: str) -> IntegrityError:
        return IntegrityError(
            "this is not the record that stood here",
            where=Where(file=self._place(name)),
            fix="restore it from a backup; nobody should edit the store by hand",
        )

    def _spec_or_none(self, digest: str) -> bytes | None:
        try:
            return self.get_spec(digest)
        except UpkeepError:
            return None

    def _dataset_or_none(self, digest: str | None) -> Dataset | None:
        try:
            return self.get_dataset(digest) if digest else None
        except UpkeepError:
            return None

    def _states(self, candidate: str) -> Folders:
        root = self._key(f"states/{candidate}")
        return Folders(self.store, f"{root}/folders", f"{root}/files", bases=self._models)

    def _checkpoint_key(self, candidate: str) -> str:
        return self._key(f"checkpoints/{candidate}.npz")

    def _pointer_key(self, candidate: str, number: int) -> str:
        return self._key(f"states/{candidate}/latest/{number:06d}.json")

    def _pointer(self, candidate: str, number: int) -> StatePointer:
        key = self._pointer_key(candidate, number)
        return records.from_json(StatePointer, self.store.get(key), source=f"{self.store.uri}/{key}")

    def _state_numbers(self, candidate: str) -> list[int]:
        names = (name.removesuffix(".json") for name in self._names(f"states/{candidate}/latest"))
        return sorted(int(name) for name in names if name.isdecimal())
