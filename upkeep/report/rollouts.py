"""Put a model's rollouts together for their page: Git's history, the ledgers, and the evidence that commits cite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from upkeep import records
from upkeep.errors import IntegrityError, Where
from upkeep.report.rollout_view import Look, Move, RolloutsView, RolloutView, Traffic
from upkeep.rollout.analysis import ledger as ledgers
from upkeep.rollout.analysis.ledger import Ledger
from upkeep.rollout.analysis.result import Analysis
from upkeep.rollout.controller import Evidence
from upkeep.rollout.history import Entry
from upkeep.rollout.plan import plan_of
from upkeep.rollout.state import AT_REST
from upkeep.spec.model import ModelSpec
from upkeep.store import MissingObject, Store


def rollouts_of(
    spec: ModelSpec,
    entries: Sequence[Entry],
    store: Store,
    now: datetime,
    *,
    repository: str,
    waits_for: str = "",
    until: str | None = None,
) -> RolloutsView:
    """``entries``: the whole history, newest first; ``waits_for`` and ``until``: of the rollout that is under way.

    A rollout without a ledger (its evidence was swept, or it never began) is shown by its commits alone.
    """
    by: dict[str, list[Entry]] = {}
    for entry in reversed(entries):
        if entry.rollout:
            by.setdefault(entry.rollout, []).append(entry)
    newest = next((entry.serving for entry in entries if entry.serving is not None), None)
    rollouts = [_rollout(spec, rollout, found, store) for rollout, found in by.items()]
    if rollouts and waits_for:
        rollouts[-1] = replace(rollouts[-1], waits_for=waits_for, until=until)
    serves: tuple[tuple[str, int], ...] = ()
    if newest is not None and newest.champion is not None:
        canary = ((newest.canary.version, newest.weight),) if newest.canary is not None else ()
        serves = ((newest.champion.version, 100 - newest.weight), *canary)
    return RolloutsView(
        model=spec.name,
        description=spec.metadata.description,
        owner=spec.metadata.owner,
        repository=repository,
        made=_moment(now),
        serves=serves,
        rollouts=tuple(reversed(rollouts)),
    )


def _rollout(spec: ModelSpec, rollout: str, entries: Sequence[Entry], store: Store) -> RolloutView:
    told = [entry for entry in entries if entry.serving is not None]
    first, last = told[0].serving, told[-1].serving
    assert first is not None
    assert last is not None
    ledger = _ledger(spec.name, rollout, store)
    ended = last.phase in AT_REST
    canary = next((each.serving.canary for each in told if each.serving and each.serving.canary), None)
    troubles = {} if ledger is None or ended else ledger.troubles
    return RolloutView(
        rollout=rollout,
        canary=canary.version if canary else rollout.partition("-")[0],
        champion=first.champion.version if first.champion else "none",
        phase=last.phase,
        weight=last.weight,
        reason=told[-1].reason,
        began=_moment(told[0].when),
        ended=_moment(told[-1].when) if ended else None,
        steps=plan_of(spec).steps,
        moves=tuple(_move(entry) for entry in told),
        looks=_looks(ledger) if ledger else (),
        analysis=_analysis(spec.name, rollout, told, store),
        traffic=_traffic(ledger, canary.version if canary else "", first.champion.version if first.champion else ""),
        notes=tuple(f"{kind}: {text}" for kind, text in troubles.items()),
    )


def _move(entry: Entry) -> Move:
    assert entry.serving is not None
    verdict = entry.trailers.get("Upkeep-Verdict", "")
    return Move(
        at=_moment(entry.when),
        commit=entry.commit,
        author=entry.author,
        person=entry.by != "upkeep",
        phase=entry.serving.phase,
        weight=100 if entry.serving.phase == "succeeded" else entry.serving.weight,
        title=entry.reason or entry.subject,
        verdict=verdict if verdict in ("pass", "fail", "insufficient") else "",
        evidence=entry.evidence or "",
    )


def _ledger(model: str, rollout: str, store: Store) -> Ledger | None:
    key = ledgers.key(model, rollout)
    try:
        return records.from_json(Ledger, store.get(key), source=f"{store.uri}/{key}")
    except MissingObject:
        return None


def _looks(ledger: Ledger) -> tuple[Look, ...]:
    return tuple(
        Look(
            at=_moment(datetime.fromtimestamp(point.at, UTC)),
            metric=found.metric,
            weight=point.weight,
            difference=found.difference,
            lower=found.lower,
            upper=found.upper,
            margin=found.margin,
            e_fail=found.e_fail,
            e_pass=found.e_pass,
        )
        for point in ledger.points
        for found in point.metrics
        if not found.slice
    )


def _traffic(ledger: Ledger | None, canary: str, champion: str) -> tuple[Traffic, ...]:
    """Requests that were counted as evidence: those around a change of the weight belong to no weight, and are not."""
    if ledger is None or "errors" not in ledger.metrics:
        return ()
    errors, slow = ledger.metrics["errors"].seen, ledger.metrics["latency"].seen
    after, after_slow = ledger.after.get("errors"), ledger.after.get("latency")
    more = (0, 0, 0)
    if after is not None and after_slow is not None:
        more = (after.canary_n, after.canary_bad, after_slow.canary_bad)
    return (
        Traffic(version=champion, requests=errors.champion_n, failed=errors.champion_bad, slow=slow.champion_bad),
        Traffic(
            version=canary,
            requests=errors.canary_n + more[0],
            failed=errors.canary_bad + more[1],
            slow=slow.canary_bad + more[2],
        ),
    )


def _analysis(model: str, rollout: str, entries: Sequence[Entry], store: Store) -> Analysis | None:
    """What decided last: of the newest evidence that a commit cites and that says pass or fail; else the newest."""
    newest = None
    cited = [entry.evidence for entry in reversed(entries) if entry.evidence]
    kept = {each.key.rpartition("-")[2]: each.key for each in store.list(f"{model}/evidence/{rollout}")}
    for digest in cited:
        key = kept.get(f"{digest}.json")
        if key is None:
            continue
        data = store.get(key)
        if records.digest(data) != digest:
            raise IntegrityError(
                "this is not the evidence that its commit cites",
                where=Where(file=f"{store.uri}/{key}"),
                fix="restore it from a backup; nobody should edit the store by hand",
            )
        found = records.from_json(Evidence, data, source=f"{store.uri}/{key}")
        analysis = found.shadow if found.before.phase == "shadow" else found.analysis
        if analysis is None or not analysis.metrics:
            continue
        if analysis.verdict != "insufficient":
            return analysis
        newest = newest or analysis
    return newest


def _moment(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds")
