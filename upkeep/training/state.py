"""Where a candidate stands that goes on learning: which rows it has learned, under which settings.

::

    state.json     :class:`State`
    learned.npy    uint64, sorted: the hash of every row it has learned

and beside them, what its strategy goes on from.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from upkeep import records
from upkeep.data.split import HELD_OUT, KEPT_OUT, VALIDATION
from upkeep.errors import IntegrityError
from upkeep.training.task import TrainingTask

STATE, LEARNED = "state.json", "learned.npy"

Hashes = npt.NDArray[np.uint64]
NONE: Hashes = np.zeros(0, dtype=np.uint64)
BLOCK = 65_536


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a candidate stands."""

    settings: str
    """Digest of everything that must not change (:func:`settings_digest`)."""
    rounds: int
    """How many times it has learned."""
    periods: tuple[str, ...]
    """The periods it has learned from."""
    params: dict[str, Any] = field(default_factory=dict)
    """What a search found when it began."""
    schema_version: int = 1


def settings_digest(task: TrainingTask, own: list[Any]) -> str:
    """Names what must not change: columns, classes, preprocessing, split, seed, and the strategy's ``own``."""
    summary = task.prepared.summary
    settings = [
        [asdict(column) for column in summary.columns],
        [[type(label).__name__, label] for label in summary.classes],
        asdict(task.spec.preprocess),
        [task.spec.name, asdict(task.spec.data.split)],  # who is held out
        summary.privacy_key,  # a row's hash depends on it, and what a hashed category means
        *own,
        task.seed,
    ]
    return records.digest(records.to_json(settings))


def take_up(task: TrainingTask, settings: str, notes: list[str]) -> tuple[State, Hashes] | None:
    """The state to go on from; None: the candidate starts anew, and unless it has no state, why is noted.

    It is left where it cannot be read, where the settings changed, and where rows that it learned are held out by now,
    equal one that is, or choose among candidates.
    """
    if task.state is None:
        return None
    try:
        state = records.read(State, task.state / STATE)
        learned: Hashes = np.load(task.state / LEARNED, allow_pickle=False).astype(np.uint64, copy=False)
    except (OSError, ValueError, IntegrityError) as error:
        notes.append(f"it started anew: its last state cannot be read ({str(error)[:200]})")
        return None
    if state.settings != settings:
        notes.append("it started anew: columns, classes, preprocessing, split or parameters are not what they were")
        return None
    if any(among(keys, learned).any() for keys in _row_hashes(task, (VALIDATION, HELD_OUT, KEPT_OUT))):
        notes.append(
            "it started anew: rows that it learned are held out now, equal rows that are, or choose among candidates"
        )
        return None
    return state, learned


def write_state(folder: Path, state: State, learned: Hashes, new: Hashes = NONE) -> None:
    """Write both to ``folder``, which is emptied first. ``new``: sorted, rows beside those in ``learned``."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with (folder / LEARNED).open("wb") as file:
        shape = (len(learned) + len(new),)
        np.lib.format.write_array_header_1_0(file, {"descr": "<u8", "fortran_order": False, "shape": shape})
        for block in _merged(learned, new):
            block.tofile(file)
    records.write(folder / STATE, state)


def among(keys: Hashes, known: Hashes) -> npt.NDArray[np.bool_]:
    """Which keys are in ``known``, sorted."""
    if len(known) == 0:
        return np.zeros(len(keys), dtype=bool)
    places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.asarray(known[places] == keys)


def _merged(one: Hashes, other: Hashes) -> Iterator[Hashes]:
    """Both together, sorted, in blocks: there are as many as rows, and no second copy of them is made."""
    done = 0
    for start in range(0, len(one), BLOCK):
        block = one[start : start + BLOCK]
        upto = int(np.searchsorted(other, block[-1]))
        yield np.sort(np.concatenate([block, other[done:upto]]))
        done = upto
    yield other[done:]


def _row_hashes(task: TrainingTask, parts: tuple[str, ...]) -> Iterator[Hashes]:
    for batch in task.prepared.batches(parts=parts, columns=["_row"]):
        yield batch.column("_row").to_numpy().astype(np.uint64, copy=False)
