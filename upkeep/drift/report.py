"""Puts the drift report together."""

from __future__ import annotations

from collections.abc import Sequence

from upkeep.drift.detect import Watched, detect
from upkeep.drift.result import ColumnDrift, Decay, DriftReport, Finding, TwoSample
from upkeep.spec.model import Drift

NAMED = 5
"""Columns named in the summary."""


def drift_report(
    watched: Sequence[Watched],
    settings: Drift,
    *,
    reference: str,
    periods: Sequence[str] = (),
    two_sample: TwoSample | None = None,
    decay: Decay | None = None,
    also: Sequence[ColumnDrift] = (),
) -> DriftReport:
    """The whole report.

    The first ``Watched`` is that of the features: it gives the reference's digest and the rows. ``reference`` says in
    words what the rows are compared with; ``periods`` names the periods, oldest first; ``also`` are columns that
    could not be compared. Raises what :func:`upkeep.drift.detect.detect` raises.
    """
    columns = (*detect(watched, settings), *also)
    features = watched[0]
    return DriftReport(
        finding=overall(columns, two_sample, decay),
        summary=summarise(columns, two_sample, decay, settings),
        reference=reference,
        reference_digest=features.baseline.digest,
        periods=tuple(periods),
        reference_rows=features.baseline.profile.rows,
        current_rows=features.currents[-1].rows,
        columns=columns,
        two_sample=two_sample,
        decay=decay,
    )


def overall(columns: Sequence[ColumnDrift], two_sample: TwoSample | None, decay: Decay | None) -> Finding:
    """``drift`` when any feature, the predictions or the two-sample test drift, or the champion decays: a model that
    errs more is not stable, however still its inputs are. ``insufficient`` when nothing could be judged. A label's
    drift is shown and does not decide: what to do about it, decay tells."""
    judged = [column.finding for column in columns if column.role != "target"]
    if two_sample is not None:
        judged.append(two_sample.finding)
    if "drift" in judged or (decay is not None and decay.finding == "decay"):
        return "drift"
    return "stable" if "stable" in judged else "insufficient"


def summarise(
    columns: Sequence[ColumnDrift],
    two_sample: TwoSample | None,
    decay: Decay | None,
    settings: Drift,
) -> str:
    """The report in a few plain sentences."""
    features = [column for column in columns if column.role == "feature"]
    moved = [column.column for column in features if column.finding == "drift"]
    unjudged = [column.column for column in features if column.finding == "insufficient"]
    blind = overall(columns, two_sample, None) == "insufficient"
    said = []
    if blind:
        said.append(f"There is not enough to judge drift by: at least {settings.min_rows:,} rows a side are needed.")
    elif moved:
        said.append(f"{len(moved)} of {len(features)} columns moved away from the reference: {_list(moved)}.")
    elif features:
        said.append(f"No column of {len(features)} moved away from the reference.")
    if unjudged and not blind:
        said.append(f"Not judged: {_list(unjudged)}.")
    for role, words in (("target", "label"), ("prediction", "predictions")):
        those = [column for column in columns if column.role == role]
        if any(column.finding == "drift" for column in those):
            said.append(f"The {words} moved{' too' if moved else ''}.")
    if two_sample is not None and two_sample.finding != "insufficient":
        told = "A classifier tells" if two_sample.finding == "drift" else "A classifier hardly tells"
        said.append(f"{told} new rows from reference rows (AUC {two_sample.auc:.2f}).")
    if decay is not None:
        said.append(decay.reason)
    new = [column.column for column in columns if column.new_categories]
    if new:
        said.append(f"Categories never seen before in {_list(new)}.")
    return " ".join(said)


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
