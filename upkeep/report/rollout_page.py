"""The page of a model's rollouts: how the traffic moved, why, and what users met."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from upkeep.report import rollout_plots
from upkeep.report.render import render
from upkeep.report.rollout_view import RolloutsView, RolloutView

METRICS = ("errors", "latency", "accuracy", "accuracy (live)")

PHASE_WORDS = {
    "idle": "No rollout",
    "pending": "Waiting to be ready",
    "shadow": "Compared in pairs",
    "step": "Under way",
    "promoting": "Being promoted",
    "baking": "All traffic, old champion warm",
    "succeeded": "Promoted",
    "rolling_back": "Being taken back",
    "rolled_back": "Taken back",
    "held": "Waits for a person",
    "paused": "Paused by a person",
}
_TONES = {"succeeded": "pass", "rolling_back": "fail", "rolled_back": "fail", "held": "unsure", "paused": "unsure"}


@dataclass(frozen=True, kw_only=True)
class RolloutParts:
    """One rollout, drawn."""

    view: RolloutView
    word: str
    tone: str
    timeline: Markup | None
    evidence: tuple[tuple[str, Markup | None, Markup | None], ...]
    """(metric, its difference, its e-values)."""


def rollout_page(view: RolloutsView) -> str:
    """The rollouts as one self-contained HTML page. The same record always gives the same text."""
    return render("rollout.html", v=view, parts=[_parts(rollout) for rollout in view.rollouts])


def _parts(view: RolloutView) -> RolloutParts:
    seen = {look.metric for look in view.looks}
    metrics = [name for name in METRICS if name in seen] + sorted(seen - set(METRICS))
    measured = view.analysis.metrics if view.analysis else ()
    limits = {
        each.metric if each.unit != "labels" else f"{each.metric} (live)": each
        for each in measured
        if not each.slice and each.unit != "readings"
    }
    drawn = []
    for metric in metrics:
        found = limits.get(metric)
        fail_at, pass_at = (found.fail_at, found.pass_at) if found else (None, None)
        drawn.append(
            (
                metric,
                rollout_plots.evidence(view.looks, metric),
                rollout_plots.e_values(view.looks, metric, fail_at, pass_at),
            )
        )
    return RolloutParts(
        view=view,
        word=PHASE_WORDS.get(view.phase, view.phase),
        tone=_TONES.get(view.phase, "plain"),
        timeline=rollout_plots.timeline(view),
        evidence=tuple(each for each in drawn if each[1] or each[2]),
    )
