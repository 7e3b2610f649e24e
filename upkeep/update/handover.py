"""Where a train step on a cluster and its workers meet: a place in the store, so that they need no volume in common.

::

    <store>/<model>/workers/<job>/
      inputs.json          :class:`Inputs`
      prepared/ files/     the prepared rows, under their digest
      progress.json        :class:`Told`: how far the first worker is
      failed/<index>.json  why a worker ended that has not started again
      record               the digest of the training's record: the first worker is done
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from upkeep import records
from upkeep.data.prepared import QUARANTINE
from upkeep.errors import InputError, Where
from upkeep.registry.folders import Folders
from upkeep.store import MissingObject, Store, open_store
from upkeep.update.record import StepError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What every worker begins with: the inputs of the train step."""

    spec: str
    """The spec's address in the store."""
    spec_digest: str
    champion: str
    """Its version; empty: there is none."""
    candidate: str
    states: dict[str, str]
    members: dict[str, str]
    prepared: str
    """The prepared folder; of a handover, the digest of the one that lies there."""
    model: str = ""
    """The folder that the first worker puts the model in, beside the store; empty: in none."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """How far a training is."""

    text: str
    share: float | None
    """In [0, 1]; None: unknown."""


class Handover:
    """Of one training. Every method may raise what :class:`~upkeep.store.Store` raises."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self._rows = Folders(store, f"{key}/prepared", f"{key}/files")
        self.address = f"{store.uri}/{key}"

    @classmethod
    def at(cls, address: str) -> Handover:
        """Raises :class:`InputError` for what is no such address."""
        root, found, job = address.rpartition("/workers/")
        store, _, model = root.rpartition("/")
        if not found or not store:
            raise InputError(
                "this is neither a .json file of inputs nor an address that a train step made",
                where=Where(file=address),
                fix="name inputs.json",
            )
        return cls(open_store(store), f"{model}/workers/{job}")

    # --- the step -------------------------------------------------------------------------------------------------

    def give(self, prepared: Path) -> str:
        """Put the rows there, and nothing that was refused of the data; their digest."""
        with tempfile.TemporaryDirectory(prefix="upkeep-rows-") as name:
            for file in prepared.rglob("*"):
                if file.is_file() and file.name != QUARANTINE:
                    link = Path(name) / file.relative_to(prepared)
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(file.absolute())
            return self._rows.put(Path(name))

    def begin(self, inputs: Inputs) -> None:
        """Last of all: what else there is must be there."""
        self._store.put(f"{self._key}/inputs.json", records.to_json(inputs))

    def progress(self) -> Told | None:
        """What the first worker told last; None: nothing yet."""
        return self._read(Told, "progress.json")

    def failures(self) -> Sequence[StepError]:
        """Why workers ended that have not started again; the newest first."""
        there = sorted(self._store.list(f"{self._key}/failed"), key=lambda entry: entry.modified, reverse=True)
        found = (self._read(StepError, entry.key[len(self._key) + 1 :]) for entry in there)
        return [each for each in found if each is not None]

    def record(self) -> str:
        """The digest of the training's record; empty: there is none yet."""
        try:
            return self._store.get(f"{self._key}/record").decode()
        except MissingObject:
            return ""

    def clear(self) -> None:
        """Take all of it away."""
        for entry in list(self._store.list(self._key)):
            self._store.delete(entry.key)

    # --- the workers ----------------------------------------------------------------------------------------------

    def inputs(self) -> Inputs:
        found = self._read(Inputs, "inputs.json")
        if found is None:
            raise InputError(
                "there are no inputs of a training", where=Where(file=self.address), fix="name what the step made"
            )
        return found

    def rows(self, digest: str, to: Path) -> Path:
        """Download the rows to the new folder ``to``, every byte checked; ``to``."""
        return self._rows.get(digest, to)

    def tell(self, told: Told) -> None:
        self._store.put(f"{self._key}/progress.json", records.to_json(told))

    def start(self, index: int) -> None:
        """This worker starts, or starts again: what it ended of before is over."""
        self._store.delete(f"{self._key}/failed/{index}.json")

    def fail(self, index: int, failure: StepError) -> None:
        self._store.put(f"{self._key}/failed/{index}.json", records.to_json(failure))

    def leave(self, record: str) -> None:
        self._store.put(f"{self._key}/record", record.encode())

    def _read(self, kind: type[T], name: str) -> T | None:
        try:
            return records.from_json(kind, self._store.get(f"{self._key}/{name}"), source=f"{self.address}/{name}")
        except MissingObject:
            return None
