"""Paired replay: the champion's labelled requests, answered by the canary too, out of band.

A pair is one row on which both models' answers are known and its label: D = canary right − champion right. Far fewer
labels tell two models apart so than on two halves of the traffic, since what makes a row hard cancels.

Only rows that neither model can have learned from count: those whose request came after both versions were made
(labelled requests become training data), and those whose split key is held out for ever, as far as both versions and
the spec split alike. A row counts once. What the canary cannot answer counts as wrong: to leave it out would favour it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from upkeep.data.layout import layout
from upkeep.data.split import HashSplit, hash_values, period_of, seed
from upkeep.data.validate import label_text
from upkeep.errors import ModelError
from upkeep.evaluation.answers import NULL
from upkeep.models.folder import load
from upkeep.models.manifest import Predictor
from upkeep.monitor.journal import Journal, quoted
from upkeep.registry.learned import may_have_learned
from upkeep.registry.registry import Registry
from upkeep.spec.model import ModelSpec

SKEW = timedelta(minutes=1)
"""How far the clocks of servers and of whoever registers may differ."""
BATCH_ROWS = 2048
FIRST = timedelta(seconds=10)
"""The first step may ask as much as in this time."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One row that both answered."""

    hash: int
    """Of the row, 64 bits: what it is known by, so that it counts once."""
    champion_right: bool
    canary_right: bool
    slices: tuple[str, ...]
    """``column=value``."""
    why: Literal["after", "held_out"]
    """Why neither can have learned from it: asked after both were made, or held out."""


@dataclass(frozen=True, kw_only=True)
class PairCounts:
    both_right: int = 0
    both_wrong: int = 0
    only_champion: int = 0
    """D = −1."""
    only_canary: int = 0
    """D = 1."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """One step of a replay."""

    pairs: tuple[Pair, ...]
    skipped: dict[str, int]
    """Reason → the champion's labelled rows that do not count."""
    reached: int
    """The number of the last outcome that was looked at: where the next step goes on."""
    left: int
    """Outcomes of the champion that are still to be looked at."""
    asked: int
    """Rows the canary was asked."""
    failed: int
    """Of them, those that it could not answer."""

    @property
    def counts(self) -> PairCounts:
        return count(self.pairs)

    @property
    def by_slice(self) -> dict[str, PairCounts]:
        names = sorted({name for pair in self.pairs for name in pair.slices})
        return {name: count([pair for pair in self.pairs if name in pair.slices]) for name in names}


def count(pairs: Collection[Pair]) -> PairCounts:
    return PairCounts(
        both_right=sum(pair.champion_right and pair.canary_right for pair in pairs),
        both_wrong=sum(not pair.champion_right and not pair.canary_right for pair in pairs),
        only_champion=sum(pair.champion_right and not pair.canary_right for pair in pairs),
        only_canary=sum(pair.canary_right and not pair.champion_right for pair in pairs),
    )


def allowance(rows_per_minute: int, last: datetime | None, now: datetime) -> int:
    """How many rows may be asked now: those of the time since the ``last`` step, of a minute at most; at least one.

    A clock that went back allows nothing new but that one.
    """
    since = FIRST if last is None else now - last
    seconds = min(max(since.total_seconds(), 0.0), 60.0)
    return max(int(rows_per_minute * seconds / 60), 1)


class Replay:
    """The canary's model, loaded, and which rows it may be asked. A context manager: the model's bytes are a copy."""

    def __init__(self, spec: ModelSpec, registry: Registry, champion: str, canary: str) -> None:
        """Raises :class:`InputError`, :class:`MissingObject` or :class:`IntegrityError` where a version is not whole,
        :class:`ModelError` where the canary does not load or wants columns that the spec does not name."""
        self._spec = spec
        cards = registry.card(champion), registry.card(canary)
        self.champion, self.canary = champion, canary
        self._made = max(datetime.fromisoformat(card.created).astimezone(UTC) for card in cards)
        # a hashed key cannot be told from what a client sends: no key's name is right
        self._split_alike = not any(may_have_learned(spec, registry, card, privacy_key="") for card in cards)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="upkeep-canary-"))) / "model"
            self._predictor: Predictor = load(registry.get_model(cards[1].digest, folder), allowed=spec.estimators)
        known = {column.name for column in layout(spec.data).columns}
        unknown = [column.name for column in self._predictor.manifest.columns if column.name not in known]
        if unknown:
            raise ModelError(
                f"{canary} takes {', '.join(unknown)}, which the spec does not name",
                fix="name its columns in data.features, as they were when it was trained",
            )

    def step(
        self,
        journal: Journal,
        *,
        after: int,
        most_rows: int,
        counted: Callable[[int], bool] = lambda _: False,
        tick: Callable[[int], None] | None = None,
    ) -> Replayed:
        """Pairs from the champion's outcomes with numbers above ``after``, oldest first; the canary is asked at most
        ``most_rows`` rows.

        ``counted``: whether a row of that hash counted before (a journal that was made anew numbers them anew).
        ``tick`` is told the rows done. The journal needs every feature (:func:`upkeep.monitor.payloads.wanted`).
        """
        pairs: list[Pair] = []
        skipped: dict[str, int] = {}
        asked = failed = 0
        seen: set[int] = set()
        reached = after
        while asked < most_rows:
            table = self._next(journal, reached, min(BATCH_ROWS, most_rows - asked))
            if not table.num_rows:
                break
            reached = int(table.column("_seq")[-1].as_py())
            hashes = table.column("_hash").to_pylist()
            once = np.array([not counted(each) and each not in seen for each in hashes])
            seen.update(hashes)
            whole = table.column("_whole").fill_null(False).to_numpy()
            after_both = self._after(table)
            held_out = held_out_mask(table, self._spec) & self._split_alike
            clean = after_both | held_out
            for reason, mask in (
                ("counted before", ~once),
                ("a column was not sent or not kept", once & ~whole),
                ("one of the two may have learned from it", once & whole & ~clean),
            ):
                if mask.any():
                    skipped[reason] = skipped.get(reason, 0) + int(mask.sum())
            keep = once & whole & clean
            rows = table.filter(pa.array(keep))
            if rows.num_rows:
                said, bad = self._ask(rows)
                asked += rows.num_rows
                failed += bad
                pairs += self._pairs(rows, said, after_both[keep])
            if tick:
                tick(asked)
        return Replayed(
            pairs=tuple(pairs), skipped=skipped, reached=reached, left=self._left(journal, reached), asked=asked,
            failed=failed,
        )  # fmt: skip

    def _next(self, journal: Journal, after: int, most: int) -> Any:
        columns = "".join(f", answer.{quoted(column.name)}" for column in journal.wanted.columns)
        return journal.database.sql(
            f"""SELECT outcome.seq AS _seq, outcome.hash AS _hash, outcome.time AS _time, outcome.label AS _label,
                outcome.predicted AS _predicted, outcome.key AS _key, answer._whole, answer._by_id {columns}
            FROM (SELECT * FROM outcomes WHERE version = ? AND seq > ? ORDER BY seq LIMIT ?) outcome
            LEFT JOIN answers answer ON answer._key = outcome.key AND answer._version = outcome.version
                AND answer._request = outcome.request AND answer._row = outcome.row AND answer._time = outcome.time
            QUALIFY row_number() OVER (PARTITION BY seq) = 1 ORDER BY seq""",
            params=[self.champion, after, most],
        ).to_arrow_table()

    def _left(self, journal: Journal, after: int) -> int:
        ((left,),) = journal.database.execute(
            "SELECT count(*) FROM outcomes WHERE version = ? AND seq > ?", [self.champion, after]
        ).fetchall()
        return int(left)

    def _after(self, table: Any) -> npt.NDArray[np.bool_]:
        made = np.datetime64((self._made + SKEW).replace(tzinfo=None), "us")
        times = table.column("_time").to_numpy().astype("datetime64[us]")
        return np.asarray(times > made, dtype=np.bool_)

    def _ask(self, rows: Any) -> tuple[list[str | None], int]:
        """What the canary says of each row; None: it cannot answer. A row that breaks it does not cost the others."""
        try:
            probabilities = self._predictor.predict_proba(rows)
        except Exception as error:
            if isinstance(error, MemoryError):
                raise
            if rows.num_rows == 1:
                return [None], 1
            half = rows.num_rows // 2
            first, second = self._ask(rows.slice(0, half)), self._ask(rows.slice(half))
            return first[0] + second[0], first[1] + second[1]
        classes = [label_text(label) for label in self._predictor.manifest.classes]
        return [classes[place] for place in probabilities.argmax(axis=1)], 0

    def _pairs(self, rows: Any, said: list[str | None], after: npt.NDArray[np.bool_]) -> list[Pair]:
        names = [name for name in self._spec.data.slices if name in rows.column_names]
        values = [rows.column(name).cast(pa.string()).fill_null(NULL).to_pylist() for name in names]
        slices = [
            tuple(f"{name}={value}" for name, value in zip(names, row, strict=True))
            for row in zip(*values, strict=True)
        ]
        labels, champion = rows.column("_label").to_pylist(), rows.column("_predicted").to_pylist()
        return [
            Pair(
                hash=each,
                champion_right=champion[place] == labels[place],
                canary_right=said[place] == labels[place],
                slices=slices[place] if slices else (),
                why="after" if after[place] else "held_out",
            )
            for place, each in enumerate(rows.column("_hash").to_pylist())
        ]


def held_out_mask(table: Any, spec: ModelSpec) -> npt.NDArray[np.bool_]:
    """Which rows no training of this spec ever sees: by the hash of their split key, as :mod:`upkeep.data.split`
    decides it. False where the key was not sent, where there is none, or where the split is not by hash.

    ``table``: with the columns of :func:`upkeep.monitor.payloads.wanted`.
    """
    found = layout(spec.data)
    nothing = np.zeros(table.num_rows, np.bool_)
    if spec.data.split.method != "hash":
        return nothing
    if found.group_column is not None:
        key = table.column(found.group_column)
    elif found.group_unit is not None and found.time is not None:
        times = table.column(found.time).cast(pa.timestamp("us", tz="UTC"))
        key = period_of(_one(times), found.group_unit)
    elif spec.data.id is not None:
        key = table.column("_key").to_pylist()
        by_id = table.column("_by_id").to_pylist()
        key = pa.array([each if is_id else None for each, is_id in zip(key, by_id, strict=True)], pa.string())
    else:
        return nothing
    key = _one(key)
    split = HashSplit(held_out=spec.data.split.held_out, validation=0.0)
    mask = split.held_out_mask(hash_values(key, seed("group", spec.data.split.salt or spec.name)))
    return np.asarray(mask & key.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)


def _one(column: Any) -> Any:
    """A column as one array."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
