"""What an evaluation reports: records, for the gate, for JSON and for the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

VerdictName = Literal["pass", "fail", "insufficient"]
RowSet = Literal["new", "old", "all", "validation"]
"""Held-out rows newer than the champion; those of the periods it learned from; both; the training side's rows on
which candidates are chosen."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    estimate: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One model on one set of rows. A metric that is not defined there is None."""

    rows: int
    positives: int | None
    """Rows of the positive class; None for more than two classes."""
    metrics: dict[str, float | None]
    """accuracy, precision, recall, f1, roc_auc, log_loss, brier, expected_calibration_error."""
    intervals: dict[str, Interval]
    """95 % bootstrap intervals of the metrics that have one."""
    confusion: tuple[tuple[int, ...], ...]
    """Rows: true class; columns: predicted class; in the order of ``Evaluation.classes``."""
    calibration: tuple[tuple[float, float, int], ...]
    """Mean predicted probability, observed share, rows: a bin each (of the positive class, or of the top answer)."""
    roc: tuple[tuple[float, float, float], ...]
    """False-positive rate, true-positive rate, threshold; at most 200 points; empty for more than two classes."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Candidate minus champion on the same rows, paired; positive is better for every metric but log_loss."""

    metric: str
    champion: float | None
    candidate: float | None
    difference: Interval | None
    """In the better direction: above zero, the candidate is better, for log_loss too. None: not defined."""
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Champion and candidate on one set of rows."""

    row_set: RowSet
    periods: tuple[str, ...]
    rows: int
    groups: int | None
    """Split groups (days, customers) that the rows come from: what is resampled; None: rows are resampled."""
    differences: tuple[Difference, ...]
    both_right: int
    only_champion_right: int
    """Negative flips: what the champion had right and the candidate has wrong."""
    only_candidate_right: int
    both_wrong: int
    mcnemar_p: float | None
    """Exact, two-sided; None where rows come in groups, since it supposes that rows are independent."""


@dataclass(frozen=True, kw_only=True)
class SliceResult:
    column: str
    value: str
    rows: int
    positives: int | None
    finding: Literal["better", "worse", "same", "alone", "insufficient"]
    """``alone``: measured, with no champion to compare with."""
    reason: str
    champion: dict[str, float | None]
    candidate: dict[str, float | None]
    difference: Interval | None
    """Of the gate's metric, in the better direction."""


@dataclass(frozen=True, kw_only=True)
class FairnessResult:
    column: str
    measure: str
    """demographic_parity_difference, equalized_odds_difference or equal_opportunity_difference."""
    finding: Literal["pass", "fail", "insufficient", "note"]
    """``note``: reported, with no limit to judge it by."""
    reason: str
    candidate: Interval | None
    champion: Interval | None
    limit: float | None
    """None: reported, not asked for."""
    judged: tuple[str, ...]
    """The groups that were large enough."""
    too_small: tuple[str, ...]
    by_group: dict[str, dict[str, float | None]]
    """Group → selection_rate, true_positive_rate, false_positive_rate, rows, positives, of the candidate."""
    change: Interval | None = None
    """Candidate minus champion, paired: above zero, the gap between groups grew."""
    against_champion: bool = False
    """The limit bounds the change, not the value."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Permutation importance: what the metric loses when the column is shuffled (Breiman 2001), mean and sd."""

    column: str
    champion: tuple[float, float] | None
    candidate: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class ColumnAttribution:
    column: str
    size: float
    """The mean of the absolute parts: how much the column moves answers, whichever way."""
    mean: float | None
    """The mean of the parts, signed; None where there is one a class."""


@dataclass(frozen=True, kw_only=True)
class TokenAttribution:
    text: str
    value: float
    joined: bool
    """It goes on from the token before, without a space."""


@dataclass(frozen=True, kw_only=True)
class TextAttribution:
    """One text, token by token: what each added to the probability of one class."""

    column: str
    label: str | bool | int
    """The row's true class."""
    explained: str | bool | int
    """The class whose probability is told."""
    probability: float
    baseline: float
    """The probability without any column or word."""
    tokens: tuple[TokenAttribution, ...]
    cut: int
    """Tokens beyond those shown."""
    others: float
    """What the other columns added."""


@dataclass(frozen=True, kw_only=True)
class Attributions:
    """What each column added to the candidate's answers on some held-out rows."""

    method: str
    """integrated_gradients; shap (by trees, or exact for lines); shap_permutation."""
    explains: str
    """What the parts add up to, in words."""
    rows: int
    columns: tuple[ColumnAttribution, ...]
    """The largest first."""
    gap: float | None
    """The largest distance of a row's sum from its answer minus the baseline's."""
    left_out: tuple[str, ...] = ()
    """Columns that the method does not reach."""
    texts: tuple[TextAttribution, ...] = ()
    missing: str = ""
    """Why there are none."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    latency_ms_p50: float
    latency_ms_p95: float
    """Of answering one row, in this process."""
    rows_per_second: float
    """In batches of 1,000."""
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """A point of a learning curve or of ageing, on held-out rows."""

    x: float
    """Rows, or periods."""
    label: str
    score: Interval
    rows: int
    """Held-out rows it was scored on."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """``how much data do I need`` and ``how often should I update``, with the sentence that answers."""

    by_rows: tuple[CurvePoint, ...]
    by_periods: tuple[CurvePoint, ...]
    by_age: tuple[CurvePoint, ...]
    """The champion's score on each period after the newest it learned from; x is the age in periods."""
    more_data: str
    more_often: str


@dataclass(frozen=True, kw_only=True)
class PeriodChange:
    """What one round of learning did to a candidate on one period's rows, which it has not learned from."""

    period: str
    known_before: bool
    """The model that was gone on from had learned this period: what is lost here is forgotten."""
    rows: int
    groups: int | None
    """Split groups that the rows come from; None: rows stand for themselves."""
    before: float | None
    after: float | None
    change: Interval | None
    """After minus before, paired, in the better direction. None: not defined, or too few rows or groups."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One row of the matrix: a candidate after one round of learning."""

    model: str
    """Digest of the model."""
    state: str
    """Digest of the state that it left; empty: the model was no state of this candidate."""
    periods: tuple[str, ...]
    """The periods it had learned by then."""
    scores: dict[str, float | None]
    """Period → the metric on that period's held-out rows."""
    rows: dict[str, int]
    """Period → on how many."""


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """All rounds of a candidate whose scores are known, oldest first: the matrix R."""

    metric: str
    rounds: tuple[Round, ...]
    chance: dict[str, float | None]
    """Period → the metric of an answer that knows only how frequent each class is."""
    schema_version: int = 1


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """What a candidate that goes on learning lost and gained by this update, on each period."""

    candidate: str
    row_set: Literal["held_out", "validation"]
    """Validation rows for candidates that were not chosen: these do not meet the held-out rows."""
    went_on_from: str
    """What it went on from, in words; empty: it began."""
    from_base: bool
    """That was its base: what it had learned is not known, so nothing counts as forgotten."""
    failed: str
    """Why the model before could not be asked; empty: it was, or there was none."""
    confidence: float
    """Of each period's interval: so high that all old periods' hold together at ``together``."""
    together: float
    periods: tuple[PeriodChange, ...]
    missing: tuple[str, ...]
    """Periods that the model before had learned, of which there are no rows."""
    matrix: Rounds
    backward: float | None
    """Backward transfer; below zero: forgetting. None: not known (yet)."""
    backward_over: int
    """Over so many periods."""
    forward: float | None
    forward_over: int


@dataclass(frozen=True, kw_only=True)
class CandidateResult:
    name: str
    strategy: str
    model: str
    """Digest of the model's bytes."""
    validation: Scores | None
    """None where there was only one candidate: nothing to choose."""
    chosen: bool
    note: str
    """Why it was chosen or not."""
    failed: str = ""
    """The reason, when training or loading it failed."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One rule of the gate and what it said."""

    rule: str
    """The spec's key: ``gate.better``, ``gate.slices[carrier=OO]``."""
    finding: Literal["pass", "fail", "insufficient", "note"]
    """``note`` informs and decides nothing."""
    text: str
    """One plain sentence with the numbers."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    verdict: VerdictName
    summary: str
    """One plain sentence a person can repeat."""
    case: Literal[
        "first",
        "champion",
        "changed_features",
        "changed_classes",
        "champion_unreadable",
        "adopted_unknown",
        "unfinished",
    ]
    """Which comparison was possible; each has its documented outcome. ``unfinished``: none, the update broke off."""
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    metric: str
    """The gate's metric."""
    classes: tuple[str | bool | int, ...]
    positive: str | bool | int | None
    champion: str | None
    """The version that serves; None: there is none."""
    champion_model: str | None
    candidates: tuple[CandidateResult, ...]
    chosen: str | None
    chosen_model: str | None
    scores: dict[str, dict[str, Scores]]
    """``champion`` or ``candidate`` → row set → scores."""
    by_period: dict[str, dict[str, Scores]]
    """``champion`` or ``candidate`` → period → scores on that period's held-out rows."""
    paired: tuple[Paired, ...]
    slices: tuple[SliceResult, ...]
    fairness: tuple[FairnessResult, ...]
    importance: tuple[Importance, ...]
    cost: dict[str, Cost]
    curves: Curves | None
    verdict: Verdict
    forgetting: tuple[Forgetting, ...] = ()
    """Of candidates that go on learning, the chosen one first."""
    attributions: tuple[Attributions, ...] = ()
    """Of the candidate, a method each."""
    schema_version: int = 1
