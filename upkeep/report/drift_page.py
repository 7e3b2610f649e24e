"""The page of a drift report."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from upkeep.drift.result import ColumnDrift, DriftReport
from upkeep.report import bars, plots, words
from upkeep.report.render import render

CALM_PLOTS = 8
"""Where nothing drifted, so many stable columns are drawn all the same."""


@dataclass(frozen=True)
class DriftParts:
    """A drift report sorted for the page."""

    report: DriftReport
    current: str
    features: tuple[ColumnDrift, ...]
    drifted: tuple[ColumnDrift, ...]
    unclear: tuple[ColumnDrift, ...]
    calm: tuple[ColumnDrift, ...]
    target: tuple[ColumnDrift, ...]
    prediction: tuple[ColumnDrift, ...]
    scale: bars.Scale
    top_scale: bars.Scale
    plots: dict[tuple[str, str], Markup | None]
    calm_plots: dict[tuple[str, str], Markup | None]


def drift_parts(report: DriftReport) -> DriftParts:
    """Sorts the report's columns by what they say, and draws what the page shows."""
    features = tuple(column for column in report.columns if column.role == "feature")

    def found(finding: str) -> tuple[ColumnDrift, ...]:
        return tuple(column for column in features if column.finding == finding)

    others = {role: tuple(c for c in report.columns if c.role == role) for role in ("target", "prediction")}
    drifted, calm = found("drift"), found("stable")
    drawn = (*drifted, *others["target"], *others["prediction"])
    current = words.span(report.periods) if report.periods else "the current file"
    return DriftParts(
        report=report,
        current=current,
        features=features,
        drifted=drifted,
        unclear=found("insufficient"),
        calm=calm,
        target=others["target"],
        prediction=others["prediction"],
        scale=bars.scale([value for c in features for value in (c.effect, c.threshold)]),
        top_scale=bars.scale([lost for _, lost in (report.two_sample.top_columns if report.two_sample else ())]),
        plots={(column.role, column.column): plots.histogram(column) for column in drawn},
        calm_plots={}
        if drifted
        else {(column.role, column.column): plots.histogram(column) for column in calm[:CALM_PLOTS]},
    )


def drift_page(report: DriftReport) -> str:
    """The report as one self-contained HTML page. The same report always gives the same text."""
    return render("drift.html", d=drift_parts(report))
