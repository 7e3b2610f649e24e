"""What drift detection reports: records, for JSON and for the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Finding = Literal["drift", "stable", "insufficient"]


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Shares of the rows by bin or category, reference beside current; nulls apart."""

    labels: tuple[str, ...]
    """A category each, or a bin's text."""
    edges: tuple[float, ...] | None
    """Numeric columns: the finite inner edges, one less than there are bins; the outer bins are open."""
    reference: tuple[float, ...]
    current: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ColumnDrift:
    column: str
    role: Literal["feature", "target", "prediction"]
    kind: Literal["numeric", "categorical"]
    finding: Finding
    reason: str
    """One plain sentence: why this finding."""
    reference_rows: int
    current_rows: int
    statistics: dict[str, float | None]
    """By name: ks, ks_at_most (what the distance over all values cannot exceed), psi, jensen_shannon, wasserstein
    (reference standard deviations), chi2. None: not defined."""
    p_value: float | None
    """Of the test that decides: KS (numeric) or chi² (categorical)."""
    adjusted_p_value: float | None
    """After Benjamini–Hochberg over all columns."""
    effect: float | None
    """What is held against the threshold: the Kolmogorov–Smirnov distance; the Jensen–Shannon distance less what
    chance alone would show; or, where the nulls moved, the change of their share."""
    threshold: float
    reference_nulls: float
    current_nulls: float
    new_categories: tuple[str, ...]
    """Seen now, never in the reference; at most 20."""
    vanished_categories: tuple[str, ...]
    periods_in_a_row: int
    """How many of the newest periods, one after another, had effect and significance."""
    histogram: Histogram | None


@dataclass(frozen=True, kw_only=True)
class TwoSample:
    """A classifier told reference rows from current rows (Lopez-Paz & Oquab, ICLR 2017)."""

    finding: Finding
    reason: str
    auc: float | None
    low: float | None
    """The 95 % interval of the AUC (DeLong)."""
    high: float | None
    rows: int
    top_columns: tuple[tuple[str, float], ...]
    """The columns that tell the samples apart, with the AUC each loses when permuted."""


@dataclass(frozen=True, kw_only=True)
class Decay:
    """The champion's error on the new periods against its error on its own held-out rows."""

    finding: Literal["decay", "stable", "insufficient"]
    concept_drift: Literal["yes", "no", "insufficient"]
    """``yes``: the error rose beyond what the change of inputs explains (by expected loss and density ratio)."""
    reason: str
    reference_error: float | None
    current_error: float | None
    rise: float | None
    low: float | None
    high: float | None
    """The 95 % interval of the rise."""
    explained_error: float | None
    """The reference error carried over to the current inputs."""
    unexplained_rise: float | None
    unexplained_low: float | None
    unexplained_high: float | None
    effective_rows: float | None
    """Kish's effective sample size of the reweighting."""
    reference_rows: int
    current_rows: int


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    finding: Finding
    """``drift`` when any feature, the two-sample test or the predictions drift."""
    summary: str
    reference: str
    """What the reference is: ``champion v3's training rows`` or a file."""
    reference_digest: str
    """The digest of the reference's profile."""
    periods: tuple[str, ...]
    """The current periods (empty: a plain file)."""
    reference_rows: int
    current_rows: int
    columns: tuple[ColumnDrift, ...]
    """Drifted first, by effect."""
    two_sample: TwoSample | None
    decay: Decay | None
    schema_version: int = 1
