"""What an analysis of a canary reports: records, for the decision, for JSON and for the page."""

from __future__ import annotations

from dataclasses import dataclass

from upkeep.evaluation.result import VerdictName


@dataclass(frozen=True, kw_only=True)
class MetricEvidence:
    """One metric of canary and champion so far. Rates are of *bad* outcomes: a difference above zero is a worse canary.
    (Of ``predictions`` they are of one class among the answers, and a difference either way counts.)

    An unknown number is None. ``lower`` and ``upper`` hold at all times, however often one looks: ``lower`` with the
    error rate of a roll-back, over the whole rollout; ``upper`` with that of a step's pass, since the step began.
    """

    metric: str
    """``errors``, ``latency``, ``accuracy``, ``precision``, ``recall``, ``predictions``; for a fixed threshold, the
    metric it bounds."""
    slice: str = ""
    """``column=value``; empty: all traffic."""
    unit: str
    """What is counted: ``requests``, ``users``, ``labels``, ``pairs``, ``answers``; ``readings`` of a fixed
    threshold."""
    canary_n: int
    canary_bad: int
    champion_n: int
    champion_bad: int
    canary_rate: float | None
    champion_rate: float | None
    difference: float | None
    """Canary minus champion, as observed over the whole rollout."""
    lower: float | None
    """The canary is worse by at least this; above zero: worse for certain."""
    upper: float | None
    """The canary is worse by no more than this; below the margin: good enough for certain."""
    margin: float | None
    """How much worse the canary may be to pass, at the coming weight. None: a fixed threshold."""
    e_fail: float | None
    """Evidence that the canary is worse: the e-value now."""
    e_pass: float | None
    """Evidence that it is not worse by the margin: the highest e-value since the step began (a pass latches)."""
    fail_at: float | None
    """The ``e_fail`` at which this metric alone takes the canary back."""
    pass_at: float | None
    """The ``e_pass`` that passes."""
    required: bool
    """Without its pass the step does not end."""
    verdict: VerdictName
    text: str
    """One plain sentence with the numbers."""


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What all metrics say together about a step."""

    verdict: VerdictName
    summary: str
    """One plain sentence a person can repeat."""
    reasons: tuple[str, ...]
    """What decided: the failing ones, or what is waited for, or what passed."""
    metrics: tuple[MetricEvidence, ...]
    e_rollback: float | None
    """The weighted mean of the metrics' ``e_fail``. None: no sequential test."""
    rollback_at: float
    """The ``e_rollback`` that takes the canary back."""
    guilty: tuple[str, ...] = ()
    """The slices that are worse, by e-BH: ``metric column=value``."""
    schema_version: int = 1
