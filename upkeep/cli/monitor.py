"""``upkeep metrics`` and ``replay``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from upkeep.cli.main import output_option, spec_option
from upkeep.cli.show import console, number, show_json, show_problem, table

if TYPE_CHECKING:
    from upkeep.monitor.outcomes import Production, ProductionReport
    from upkeep.monitor.traffic import Traffic

CUTS = ("version", "window", "slice")


def _duration(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:  # noqa: ARG001
    from upkeep.spec.model import parse_duration

    if value is None:
        return None
    seconds = parse_duration(value)
    try:
        found = float(seconds)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise click.BadParameter(f"{value!r} is no length of time; write 30s, 10m, 2h or 1d") from None
    if not 0 <= found < float("inf"):
        raise click.BadParameter(f"{value!r} is no length of time; write 30s, 10m, 2h or 1d")
    return found


def _share(context: click.Context, parameter: click.Parameter, value: str) -> float:  # noqa: ARG001
    from upkeep.spec.model import parse_share

    try:
        found = float(parse_share(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        found = -1.0
    if not 0 <= found <= 1:
        raise click.BadParameter(f"{value!r} is no share; write 30% or 0.3")
    return found


def _cuts(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:  # noqa: ARG001
    cuts = tuple(name.strip() for name in value.split(",") if name.strip())
    strange = [name for name in cuts if name not in CUTS]
    if strange:
        raise click.BadParameter(f"{', '.join(strange)}: name some of {', '.join(CUTS)}")
    return cuts


@click.command()
@spec_option
@click.option("--window", default="1d", show_default=True, callback=_duration, help="How long a window is.")
@click.option("--by", default="version,window", show_default=True, callback=_cuts, help="version, window, slice.")
@click.option("--since", default=None, callback=_duration, help="Only requests of the last 7d, say.")
@output_option
def metrics(spec_path: str, window: float, by: tuple[str, ...], since: float | None, output: str) -> None:
    """Show accuracy, precision, recall and F1 in production, from the payload log and the labels.

    Each with the wider half of its 95 % interval (JSON has both ends). `known`: the share of the rows with a label.

    \b
    Example:
      upkeep metrics --window 1d
      upkeep metrics --by version,slice --since 7d --output json
    """
    from upkeep import api

    if window <= 0:
        raise click.BadParameter("a window takes some time; write 1h or 1d", param_hint="--window")
    report = api.metrics(spec_path, window=window, by=by, since=since)
    if output == "json":
        from upkeep import records

        rows = [records.plain(row) | {"coverage": row.coverage} for row in report.rows]
        show_json(records.plain(report) | {"rows": rows})
        return
    _show(report, by)


def _show(report: ProductionReport, by: tuple[str, ...]) -> None:
    heads = {"version": "version", "window": "from", "slice": "slice"}
    names = tuple(heads[cut] for cut in CUTS if cut in by)
    shares = ("acc.", "prec.", "recall", "f1") if "slice" in by else ("accuracy", "precision", "recall", "f1")
    figures = ("rows", "known", *shares)
    rows = table(*names, *figures, right=figures, whole=names)
    for name, column in zip(shares, rows.columns[-4:], strict=True):
        column.min_width = max(len(name), 5)  # a figure and its margin break between the two, if at all
    for row in report.rows:
        cells = {"version": row.version or "unknown", "from": _moment(row.start), "slice": row.slice or "all"}
        rows.add_row(
            *(_escaped(cells[name]) for name in names),
            f"{row.answered:,}",
            f"{row.coverage:.0%}",
            *(_cell(row, name) for name in ("accuracy", "precision", "recall", "f1")),
        )
    if report.rows:
        console().print(rows)
    else:
        click.echo("no answered request is in the payload log")
    for note in report.notes:
        show_problem(note)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _moment(start: str) -> str:
    """A day as it is, an hour without its year: the log is younger."""
    return start[:10] if start[11:16] in ("", "00:00") else start[5:16].replace("T", " ")


def _cell(row: Production, name: str) -> str:
    """The figure, and how far the wider half of its interval reaches."""
    value, interval = row.metrics[name], row.intervals.get(name)
    if value is None or interval is None:
        return number(value)
    return f"{value:.3f} [dim]±{max(interval.high - value, value - interval.low):.2f}[/]".replace("±0.", "±.")


@click.command()
@click.argument("data")
@spec_option
@click.option("--rate", default=50.0, show_default=True, type=click.FloatRange(0.01, 5000), help="Requests a second.")
@click.option("--seconds", default="60s", show_default=True, callback=_duration, help="Stop after that time.")
@click.option("--rows", default=None, type=click.IntRange(1), help="Stop after so many rows.")
@click.option("--labels-delay", default="30s", show_default=True, callback=_duration, help="When a label comes.")
@click.option("--label-share", default="100%", show_default=True, callback=_share, help="Of the rows, by a hash.")
@click.option("--url", default="", help="Where requests go; without it, the one-machine cluster.")
@output_option
def replay(
    data: str,
    spec_path: str,
    rate: float,
    seconds: float,
    rows: int | None,
    labels_delay: float,
    label_share: float,
    url: str,
    output: str,
) -> None:
    """Send rows as live requests, and write their labels where they are expected, some time later.

    DATA is a data file, a folder, an s3:// address, or the name of a period of data.source. The target is never sent.
    Exits with 1 when requests were lost: not answered, or with a 5xx.

    \b
    Example:
      upkeep replay 2013-07 --rate 100 --seconds 5m --labels-delay 10s --label-share 30%
    """
    from upkeep import api

    def tick(traffic: Traffic) -> None:
        if output == "text":
            click.echo(f"{traffic.sent:,} sent, {traffic.lost:,} lost, {traffic.labels:,} labels written", err=True)

    done = api.replay(
        spec_path,
        data,
        url=url,
        rate=rate,
        seconds=seconds,
        rows=rows,
        label_delay=labels_delay,
        label_share=label_share,
        tick=tick,
    )
    summary = done.summary()
    if output == "json":
        show_json(summary)
    else:
        _show_traffic(summary)
    if done.lost:
        raise click.exceptions.Exit(1)


def _show_traffic(summary: dict[str, Any]) -> None:
    rows = table("what", "number", right=("number",))
    rows.show_header = False
    rows.add_row("sent", f"{summary['sent']:,} in {summary['seconds']:.0f} s ({summary['per_second']:,.0f} a second)")
    for status, count in summary["statuses"].items():
        rows.add_row(f"  {status}", f"{count:,}")
    for version, count in summary["versions"].items():
        rows.add_row(f"  answered by {version}", f"{count:,}")
    rows.add_row("lost", f"{summary['lost']:,}")
    if summary["behind"]:
        rows.add_row("sent late", f"{summary['behind']:,}")
    if "p50_ms" in summary:
        shown = " / ".join(f"{summary[name]:.0f}" for name in ("p50_ms", "p95_ms", "p99_ms"))
        rows.add_row("ms, median / 95 % / 99 %", shown)
    rows.add_row("labels written", f"{summary['labels']:,}")
    console().print(rows)
