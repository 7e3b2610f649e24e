"""``upkeep drift``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from upkeep.cli.main import output_option, spec_option
from upkeep.cli.show import console, hanging, number, show_json, table

if TYPE_CHECKING:
    from upkeep.drift.result import DriftReport


@click.command()
@spec_option
@click.option("--period", default="", help="The period to hold against what the champion learned from.")
@click.option("--reference", default="", metavar="FILE", help="Any file: the reference. No spec is needed.")
@click.option("--current", default="", metavar="FILE", help="Any file: what is held against it.")
@click.option("--page", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Also write an HTML page.")
@click.option("--fail-on-drift", is_flag=True, help="Exit with 1 when there is drift, decay included.")
@output_option
def drift(
    spec_path: str, period: str, reference: str, current: str, page: Path | None, fail_on_drift: bool, output: str
) -> None:
    """Only the drift report: of a period against the champion's training rows, or of any two files.

    \b
    Example:
      upkeep drift --period 2013-06
      upkeep drift --reference a.parquet --current b.parquet --page drift.html
    """
    from upkeep import api

    if bool(reference) != bool(current):
        raise click.UsageError("--reference and --current go together")
    if reference and period:
        raise click.UsageError("give --period, or --reference and --current; not both")
    report = api.drift_files(reference, current) if reference else api.drift(spec_path, period=period)
    if page:
        api.write_drift_page(report, page)
    if output == "json":
        show_json(report)
    else:
        show_report(report, page)
    if fail_on_drift and report.finding == "drift":
        raise click.exceptions.Exit(1)


def show_report(report: DriftReport, page: Path | None) -> None:
    """The finding, then a row a column, the drifted first."""
    from rich.markup import escape

    out = console()
    colour = {"drift": "red", "stable": "green", "insufficient": "yellow"}
    out.print(hanging(f"[bold {colour[report.finding]}]{report.finding}[/] ", escape(report.summary)))
    names = ("column", "finding", "effect", "threshold", "p (adjusted)", "new values")
    rows = table(*names, right=("effect", "threshold", "p (adjusted)"))
    for column in report.columns:
        adjusted = column.adjusted_p_value
        listed = ", ".join(column.new_categories[:3]) + (", …" if len(column.new_categories) > 3 else "")
        rows.add_row(
            escape(column.column),
            f"[{colour[column.finding]}]{column.finding}[/]",
            number(column.effect),
            number(column.threshold),
            "–" if adjusted is None else f"{adjusted:.2g}",
            escape(listed),
        )
    out.print(rows)
    for column in report.columns:
        if column.finding == "insufficient":
            out.print(hanging(f"{escape(column.column)}: ", escape(column.reason)))
    for part in (report.two_sample, report.decay):
        if part:
            out.print(f"{escape(part.reason)}")
    if page:
        out.print(f"page     {escape(str(page))}", soft_wrap=True)
