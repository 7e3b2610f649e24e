"""deploy: verify what passed, register it, propose it through Git; and leave the update's record and page."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from upkeep import records
from upkeep.data.dataset import Dataset, period_order
from upkeep.data.kinds import Column
from upkeep.data.prepared import Prepared
from upkeep.drift.profile import baseline_prepared
from upkeep.drift.result import DriftReport
from upkeep.errors import UpkeepError
from upkeep.evaluation.result import Evaluation, Reason, Verdict
from upkeep.registry.card import Card, Trained
from upkeep.registry.verify import verify_served
from upkeep.rollout.release import NewVersion, propose, serving_now
from upkeep.serving.manifests import ServedVersion
from upkeep.update import trained
from upkeep.update.code import code
from upkeep.update.context import ArtifactLike, Context, step
from upkeep.update.evaluated import ANSWERS, EVALUATION, ROWS
from upkeep.update.page import view_of
from upkeep.update.record import SUMMARY, UpdateRecord, drift_line, page_uri

NEXT = {
    "first": "it serves all traffic as soon as the commit is applied",
    "proposed": "it gets traffic when its rollout starts; until then the champion answers everything",
    "superseded": "it takes the place of the challenger that waited",
    "already": "nothing was left to do",
    "pending_other": "it is registered and waits; `upkeep run --supersede` would put it in the other's place",
    "barred": "it may not be rolled out again",
    "champion_changed": "run the update again, so that it is compared with what serves now",
}


@dataclass(frozen=True)
class _Release:
    """What came of the verdict."""

    verdict: Verdict
    outcome: str
    message: str
    card: Card | None = None
    commit: str | None = None


@step
def deploy(
    context: Context,
    *,
    champion: str,
    candidates: dict[str, str],
    verdict: str,
    supersede: bool,
    dataset: ArtifactLike,
    prepared: ArtifactLike,
    drift: ArtifactLike,
    evaluation: ArtifactLike,
    page: ArtifactLike,
    summary: ArtifactLike,
) -> str:
    from upkeep.report.markdown import update_markdown
    from upkeep.report.update_page import update_page

    registry = context.registry
    result = records.read(Evaluation, Path(evaluation.path) / EVALUATION)
    found: Any = records.read(DriftReport | None, Path(drift.path))  # type: ignore[arg-type]
    rows = Prepared(Path(prepared.path))
    known = trained.get_all(registry, candidates)
    ours = known.get(result.chosen or "")
    # before the commit that cites it
    registry.put_update(context.update, "evaluation.json", records.to_json(result))
    if found is not None:
        registry.put_update(context.update, "drift.json", records.to_json(found))
    release = _Release(result.verdict, "not_registered", _kept(champion))
    # both must say so: the parameter is what the pipeline page shows, the record what was measured
    if verdict == "pass" and result.verdict.verdict == "pass" and ours is not None:
        release = _release(context, champion, result, ours, rows, found, Path(evaluation.path), supersede=supersede)

    finished = datetime.now(UTC).isoformat(timespec="seconds")
    record = UpdateRecord(
        update=context.update,
        model=context.spec.name,
        finished=finished,
        verdict=release.verdict,
        drift=drift_line(found),
        chosen=result.chosen,
        champion=result.champion,
        outcome=release.outcome,
        message=release.message,
        version=release.card.version if release.card else None,
        commit=release.commit,
        repository=context.spec.rollout.repository,
        dataset=rows.summary.dataset,
        spec=context.spec_digest,
        page=page_uri(registry, context.update),
    )
    view = view_of(
        context.spec,
        record,
        dataset=records.read(Dataset, Path(dataset.path)),
        summary=rows.summary,
        drift=found,
        evaluation=replace(result, verdict=release.verdict),
        training=tuple(known[c.name].result for c in context.spec.candidates if c.name in known),
        parents=ours.parents if ours else (),
    )
    html = update_page(view)
    Path(page.path).write_text(html, encoding="utf-8")
    markdown = update_markdown(replace(view, links={"Page": record.page}))
    Path(summary.path).write_text(markdown, encoding="utf-8")
    registry.put_update(context.update, "page.html", html.encode())
    registry.put_update(context.update, SUMMARY, markdown.encode())
    registry.put_update(context.update, "record.json", records.to_json(record))
    context.progress(release.message, 1.0)
    return release.outcome


def _kept(champion: str) -> str:
    return (
        f"nothing was registered; {champion} goes on serving" if champion else "nothing was registered; nothing serves"
    )


def _release(
    context: Context,
    champion: str,
    result: Evaluation,
    ours: trained.TrainedCandidate,
    rows: Prepared,
    drift: DriftReport | None,
    evaluated: Path,
    *,
    supersede: bool,
) -> _Release:
    """Verify, register, propose. Each way it can end has its own outcome; none but a full success is a pass."""
    spec, registry = context.spec, context.registry
    kept = _kept(champion)
    serving = serving_now(spec)
    serves = serving.champion.version if serving.champion else ""
    standing = {stands.digest for stands in (serving.champion, serving.canary) if stands}
    if serves != champion and ours.model not in standing:  # else: this very step, tried again
        text = (
            f"The champion changed while the update ran: {champion or 'none'} was compared, {serves or 'none'} serves."
        )
        return _Release(_not(result.verdict, "insufficient", "champion", text), "champion_changed", kept)
    if barred := next((each for each in serving.barred if each.digest == ours.model), None):
        text = f"These bytes were taken back as {barred.version}, and may not be rolled out again: {barred.reason}"
        return _Release(_not(result.verdict, "fail", "barred", text), "barred", kept)
    if ours.model == result.champion_model:
        text = "The chosen model is the champion to the byte: there is nothing to register."
        return _Release(result.verdict, "already", text)
    context.progress("asking the stored bytes in a fresh process", None)
    verified = _verify(context, ours.model, evaluated)
    if verified:
        return _Release(_not(result.verdict, "fail", "verify", verified), "not_verified", kept)

    card = registry.register(_card(context, result, ours, rows, drift))
    context.progress(f"registered {card.version}", None)
    lines = [result.verdict.summary, *(f"{reason.rule}: {reason.text}" for reason in result.verdict.reasons)]
    try:
        proposal = propose(
            spec,
            NewVersion(
                served=ServedVersion(
                    version=card.version, digest=card.digest, update=context.update, format=ours.format
                ),
                verdict=result.verdict.verdict,
                evidence=records.digest(records.to_json(result)),
                card=records.digest(records.to_json(card)),
            ),
            expected_champion=champion or None,
            supersede=supersede,
            lines=lines,
        )
    except UpkeepError as error:
        first = error.problems[0]
        told = replace(first, message=f"{card.version} is registered, but could not be proposed: {first.message}")
        raise type(error)(problems=(told, *error.problems[1:])) from error
    message = f"{proposal.reason}; {NEXT.get(proposal.outcome, 'look at the repository')}"
    final = result.verdict
    if proposal.outcome == "champion_changed":
        final = _not(final, "insufficient", "champion", f"{proposal.reason}.")
    if proposal.outcome == "barred":
        final = _not(final, "fail", "barred", f"{proposal.reason}.")
    return _Release(final, proposal.outcome, message, card, proposal.commit)


def _not(verdict: Verdict, name: Any, rule: str, text: str) -> Verdict:
    """The verdict taken back, with the reason."""
    reason = Reason(rule=rule, finding=name, text=text)
    return replace(verdict, verdict=name, summary=text, reasons=(*verdict.reasons, reason))


def _verify(context: Context, digest: str, evaluated: Path) -> str:
    """Why the stored bytes do not answer as the judged model did; empty: they do."""
    if not (evaluated / ANSWERS).exists():
        return "There is not one held-out row to ask the stored model about."
    with pa.memory_map(str(evaluated / ROWS)) as source:
        table = pa.ipc.open_file(source).read_all()
    with tempfile.TemporaryDirectory(prefix="upkeep-verify-") as folder:
        model = context.registry.get_model(digest, Path(folder) / digest)
        result = verify_served(model, table, np.load(evaluated / ANSWERS), allowed=context.spec.estimators)
    return "" if result.ok else result.message


def _card(
    context: Context,
    result: Evaluation,
    ours: trained.TrainedCandidate,
    rows: Prepared,
    drift: DriftReport | None,
) -> Card:
    registry, fit = context.registry, ours.result
    target = Column(name=rows.summary.target, kind="categorical")
    learned = [period for period in rows.periods if period in fit.periods]
    baseline = baseline_prepared(rows, [*rows.summary.columns, target], periods=learned or None)
    totals = {
        name: sum(getattr(period, name) for period in rows.summary.periods)
        for name in ("train", "validation", "held_out", "kept_out", "quarantined", "duplicates")
    }
    return Card(
        model=registry.model,
        version="",
        digest=ours.model,
        size_bytes=ours.size_bytes,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        update=context.update,
        dataset=rows.summary.dataset,
        rows=totals,
        spec=context.spec_digest,
        code=code(),
        trained=Trained(
            candidate=fit.candidate,
            strategy=fit.strategy,
            params=fit.params,
            seed=fit.seed,
            rows=fit.rows,
            periods=fit.periods,
            until=_newest([*fit.periods, *_tuning_periods(rows)]),
            seconds=fit.seconds,
        ),
        scores=result.scores.get("candidate", {}),
        verdict=result.verdict,
        champion=result.champion,
        parents=ours.parents,
        base=ours.base,
        profile=registry.put_profile(baseline),
        drift=drift_line(drift),
    )


def _tuning_periods(rows: Prepared) -> Sequence[str]:
    """Periods whose validation rows chose the candidate: it may owe them something, too."""
    return [period.period for period in rows.summary.periods if period.validation]


def _newest(periods: Sequence[str]) -> str | None:
    return max(periods, key=period_order, default=None)
