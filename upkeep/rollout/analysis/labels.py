"""Labels that came late, for the analysis: labelled live requests, and pairs of champion and canary.

What was counted is known by the cursor: numbers of a journal, which the reader keeps beside log and labels. A journal
that was lost is made anew with other numbers; then the rows that counted before are known by their hashes, which are
kept with the evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from upkeep import records
from upkeep.data.split import mix, seed
from upkeep.data.validate import label_text
from upkeep.errors import IntegrityError, Where
from upkeep.monitor.journal import Journal, journal_path, open_journal
from upkeep.monitor.labels import label_rules
from upkeep.monitor.outcomes import answered, counts, model_classes, outcomes
from upkeep.monitor.payloads import existing_store, log_store, wanted
from upkeep.monitor.replay import Replay, Replayed, allowance
from upkeep.registry.registry import Registry
from upkeep.rollout.analysis.ledger import Answered, Labels, Outcome, Pair
from upkeep.rollout.state import State
from upkeep.spec.model import Label, ModelSpec

MOST_PARTS = 16
"""Files of hashes that a cursor names; beyond, they become one."""


class JournalLabels:
    """:class:`~upkeep.rollout.controller.LabelSource` over payload log, label files and registry of one model.

    The canary's model is loaded at the first look that may ask it, and kept. ``journal``: where the journal is; the
    default is :func:`upkeep.monitor.journal.journal_path`.
    """

    def __init__(self, registry: Registry, journal: Path | None = None) -> None:
        self._registry = registry
        self._journal = journal
        self._replay: Replay | None = None
        self._classes: dict[str, tuple[Label, ...]] = {}

    def read(self, spec: ModelSpec, state: State, cursor: Mapping[str, str], now: datetime) -> Labels:
        """What is new since ``cursor``. Each row counts once a version, and once as a pair, over the whole rollout.

        Raises an :class:`~upkeep.errors.UpkeepError` where log, labels or the canary's model cannot be read: then
        nothing counted.
        """
        asked = spec.rollout.margin.predictions is not None
        if state.canary is None or not (spec.monitoring.labels or asked):
            return Labels()
        keep = timedelta(seconds=spec.monitoring.payloads.keep)
        versions = state.champion.version, state.canary.version
        with open_journal(spec, wanted(spec), self._journal or journal_path(spec)) as journal:
            look = journal.look(
                log_store(spec),
                existing_store(spec.monitoring.labels, spec.object_store) if spec.monitoring.labels else None,
                label_rules(spec, self._known_classes(spec, versions[1])),
                now=now,
                since=now - keep,
            )
            journal.forget(now - keep)
            epoch = journal.epoch
            same = cursor.get("journal") == epoch
            used = frozenset[int]() if same else self._used(state, cursor)
            seen = int(cursor.get("outcomes", "0")) if same else 0
            found = outcomes(
                journal, after=seen, versions=versions, since=_began(state), slices=spec.data.slices, one_a_unit=True
            )
            answers, read = self._answers(state, journal, cursor, same=same) if asked else ((), {})
            pairs = self._pairs(spec, versions, journal, cursor if same else {**cursor, "pairs": "0"}, now, used)
            unknown = int(cursor.get("unknown", "0"))
            if look.labels or look.answers.rows or not same:
                unknown = counts(journal, now=now).unknown_ids
        problems = [f"{each.where}: {each.message}" for each in look.problems]
        problems += [f"{rows:,} rows of label files were refused: {reason}" for reason, rows in look.refused.items()]
        if unknown and not seen and not found:
            problems.append(f"{unknown:,} labels, and none names a request that these versions answered")
        fresh = [each for each in found if _name(each.unit, each.version) not in used]
        new = [_name(each.unit, each.version) for each in fresh] + [_name(each.hash, "pair") for each in pairs.pairs]
        positive = None if spec.data.target.positive is None else label_text(spec.data.target.positive)
        return Labels(
            outcomes=tuple(
                Outcome(
                    at=each.time.timestamp(),
                    version=each.version,
                    wrong=not each.correct,
                    answered_positive=each.predicted == positive,
                    label_positive=each.label == positive,
                    slices=each.slices,
                )
                for each in fresh
            ),
            pairs=tuple(
                Pair(champion_right=each.champion_right, canary_right=each.canary_right, slices=each.slices)
                for each in pairs.pairs
            ),
            answers=answers,
            cursor={
                **read,
                "journal": epoch,
                "outcomes": str(max((each.seq for each in found), default=seen)),
                "pairs": str(pairs.reached),
                "left": str(pairs.left),
                "asked": now.astimezone(UTC).isoformat() if pairs.asked else cursor.get("asked", ""),
                "used": ",".join(self._keep(state, _parts(cursor), new)),
                "unknown": str(unknown),
            },
            unknown=unknown - int(cursor.get("unknown", "0")),
            problems=tuple(problems),
        )

    def _known_classes(self, spec: ModelSpec, version: str) -> tuple[Label, ...]:
        if version not in self._classes:
            self._classes[version] = model_classes(spec, self._registry)
        return self._classes[version]

    def _answers(
        self, state: State, journal: Journal, cursor: Mapping[str, str], *, same: bool
    ) -> tuple[tuple[Answered, ...], dict[str, str]]:
        """What was answered since, and how far that goes: by number, and by time for the day the numbers are lost."""
        assert state.canary is not None
        newest = cursor.get("answered", "")
        found, reached = answered(
            journal,
            after=int(cursor.get("answers", "0")) if same else 0,
            versions=(state.champion.version, state.canary.version),
            since=_began(state),
            later=None if same or not newest else datetime.fromisoformat(newest),
        )
        end = (found[-1].time + timedelta(seconds=1)).isoformat() if found else ""
        answers = tuple(
            Answered(at=each.time.timestamp(), version=each.version, answer=each.predicted, n=each.units)
            for each in found
        )
        return answers, {"answers": str(reached), "answered": max(end, newest)}

    def _pairs(
        self,
        spec: ModelSpec,
        versions: tuple[str, str],
        journal: Journal,
        cursor: Mapping[str, str],
        now: datetime,
        used: frozenset[int],
    ) -> Replayed:
        after = int(cursor.get("pairs", "0"))
        if not (spec.monitoring.labels and spec.rollout.shadow.replay):
            return Replayed(pairs=(), skipped={}, reached=after, left=0, asked=0, failed=0)
        if self._replay is None or (self._replay.champion, self._replay.canary) != versions:
            self._replay = Replay(spec, self._registry, *versions)
        asked = cursor.get("asked", "")
        last = datetime.fromisoformat(asked) if asked else None
        return self._replay.step(
            journal,
            after=after,
            most_rows=allowance(spec.rollout.shadow.rows_per_minute, last, now),
            counted=lambda row: bool(used) and _name(row, "pair") in used,
        )

    # ---- what counted, in the evidence ----

    def _key(self, state: State, part: str) -> str:
        return f"{self._registry.model}/evidence/{state.rollout or 'none'}/counted/{part}"

    def _keep(self, state: State, parts: tuple[str, ...], new: list[int]) -> tuple[str, ...]:
        """The parts that now hold every name. A part is called by its digest: what no cursor names never counts."""
        if not new:
            return parts
        if len(parts) >= MOST_PARTS:
            new, parts = sorted({*new, *self._read(state, parts)}), ()
        data = np.array(new, np.uint64).astype("<u8").tobytes()
        name = records.digest(data)
        self._registry.store.create(self._key(state, name), data)
        return (*parts, name)

    def _used(self, state: State, cursor: Mapping[str, str]) -> frozenset[int]:
        return frozenset(self._read(state, _parts(cursor)))

    def _read(self, state: State, parts: tuple[str, ...]) -> list[int]:
        found: list[int] = []
        for part in parts:
            key = self._key(state, part)
            data = self._registry.store.get(key)
            if records.digest(data) != part:
                raise IntegrityError(
                    "the list of rows that counted is damaged",
                    where=Where(file=f"{self._registry.store.uri}/{key}"),
                    fix="restore it from a backup, or abort this rollout: a row must not count twice",
                )
            found += np.frombuffer(data, "<u8").tolist()
        return found


def _parts(cursor: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(part for part in cursor.get("used", "").split(",") if part)


def _name(row: int, of: str) -> int:
    """A 64-bit name of what counted: a row's (or a unit's) outcome of one version, or a row's pair."""
    return int(mix(np.array([row ^ seed("counted", of)], np.uint64))[0])


def _began(state: State) -> datetime | None:
    """When the rollout began: live requests before it had no canary to be compared with."""
    stamp = state.rollout.rpartition("-")[2]
    try:
        return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
