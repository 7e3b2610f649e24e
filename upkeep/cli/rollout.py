"""``upkeep rollout …`` and ``upkeep history``."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from upkeep.cli.main import output_option, spec_option, specs_option
from upkeep.cli.show import COLOURS, SIGNS, console, hanging, show_error, show_json, table

if TYPE_CHECKING:
    from upkeep.api import RolloutStatus
    from upkeep.rollout.by_hand import Done
    from upkeep.rollout.history import Entry
    from upkeep.rollout.lead import Turn
    from upkeep.rollout.watch import Report

REDRAW = 2.0
"""Seconds between two looks of ``status --watch``."""
SAME_AGAIN = timedelta(minutes=10)
"""How long a log of JSON lines does not repeat itself: with a look every ten seconds the night's news would be gone by
the morning."""


@click.group()
def rollout() -> None:
    """Watch a challenger's rollout, move it on, take it back."""


# --- status --------------------------------------------------------------------------------------------------------


@rollout.command()
@spec_option
@click.option("--watch", is_flag=True, help="Show it again whenever it changes, until Ctrl-C.")
@output_option
def status(spec_path: str, watch: bool, output: str) -> None:
    """Show where the rollout is, the evidence so far, what it waits for and until when.

    \b
    Example:
      upkeep rollout status
      upkeep rollout status --watch
    """
    from upkeep import api
    from upkeep.errors import OutsideError

    before: Any = None
    while True:
        try:
            found = api.rollout_status(spec_path)
        except OutsideError as error:
            if not watch:
                raise
            show_error(error, as_json=output == "json")
            time.sleep(REDRAW)
            continue
        if found != before:
            if output == "json":
                show_json(found)
            else:
                if watch:
                    click.clear()
                _show_status(found)
        before = found
        if not watch:
            return
        time.sleep(REDRAW)


def _show_status(found: RolloutStatus) -> None:
    from rich.markup import escape

    out = console()
    state = found.state
    canary = state.canary.version if state.canary else None
    out.print(f"[bold]{escape(state.model)}[/]  {_place(found)}")
    out.print(hanging("[dim]why      [/]", escape(state.reason)))
    out.print(hanging("[dim]by Git   [/]", escape(_shares(state.weights))))
    live = "not known" if found.live is None else escape(_shares(found.live))
    out.print(hanging("[dim]live     [/]", live + (" (forced by the brake)" if found.braked else "")))
    if found.waits_for:
        until = f", until {found.until}" if found.until else ""
        out.print(hanging("[dim]waits for[/]", escape(f"{found.waits_for}{until}")))
    for kind, text in found.troubles.items():
        out.print(hanging(f"[red]{escape(kind)}[/]", escape(text)))
    if canary and found.analysis is not None:
        analysis = found.analysis
        colour = COLOURS[analysis.verdict]
        out.print(f"\n[{colour}]{SIGNS[analysis.verdict]} {analysis.verdict}[/]  {escape(analysis.summary)}")
        rows = table(
            "metric", "canary", "champion", "worse by", "between", "allowed", "e fail", "e pass", right=("e fail",)
        )
        for each in analysis.metrics:
            name = f"{each.metric} {each.slice}".strip() + (f" ({each.unit})" if each.unit != "requests" else "")
            rows.add_row(
                escape(name),
                _rate(each.canary_rate, each.canary_n),
                _rate(each.champion_rate, each.champion_n),
                _percent(each.difference),
                f"{_percent(each.lower)} … {_percent(each.upper)}",
                _percent(each.margin),
                _against(each.e_fail, each.fail_at),
                _against(each.e_pass, each.pass_at),
            )
        out.print(rows)
        out.print("[dim]e fail: evidence that the canary is worse / what takes it back. e pass: that it is not[/]")
        out.print("[dim]worse by more than is allowed at this step / what passes.[/]")


def _place(found: RolloutStatus) -> str:
    state = found.state
    if state.canary is None:
        return f"{state.phase}: {state.champion.version} has all traffic"
    step = f" {state.step} of {found.steps}" if state.step else ""
    came = f" (in {state.came_from})" if state.came_from else ""
    return f"{state.phase}{step}{came}: {state.canary.version} at {state.weight} %, beside {state.champion.version}"


def _shares(weights: Any) -> str:
    return ", ".join(f"{version} {weight} %" for version, weight in weights.items())


def _rate(rate: float | None, n: int) -> str:
    return "–" if rate is None else f"{rate:.2%} of {n:,}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2%}"


def _against(value: float | None, limit: float | None) -> str:
    return "–" if value is None or limit is None else f"{value:.3g} / {limit:.3g}"


@rollout.command("page")
@spec_option
@click.option("--to", "path", type=click.Path(dir_okay=False), default="rollouts.html", show_default=True)
@output_option
def page(spec_path: str, path: str, output: str) -> None:
    """Write one page of all rollouts: how traffic moved, why, and what users met.

    \b
    Example:
      upkeep rollout page --to rollouts.html
    """
    from upkeep import api

    written = api.rollout_page(spec_path, path)
    if output == "json":
        show_json({"page": str(written)})
    else:
        click.echo(str(written))


# --- watch ---------------------------------------------------------------------------------------------------------


@rollout.command()
@specs_option
@click.option("--once", is_flag=True, help="Look once, do what follows, and end.")
@click.option(
    "--until-rest", is_flag=True, help="End when no rollout is under way; with 1 when one waits for a person."
)
@click.option("--log", type=click.Choice(["text", "json"]), default="text", help="How looks are told, on stderr.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Answer at /metrics, /healthz and /readyz.")
@click.option(
    "--metrics-address",
    default="127.0.0.1",
    show_default=True,
    metavar="IP",
    help="Where --metrics-port listens: in a pod, its own address.",
)
@click.option(
    "--lease",
    default="",
    metavar="NAMESPACE/NAME",
    help="On Kubernetes: drive them only while this process holds that Lease.",
)
@output_option
def watch(
    spec_paths: tuple[str, ...],
    once: bool,
    until_rest: bool,
    log: str,
    metrics_port: int | None,
    metrics_address: str,
    lease: str,
    output: str,
) -> None:
    """Drive the rollouts of these models, until Ctrl-C: the controller.

    Of several controllers one drives a model, the others wait. Kill it whenever you like: the next one goes on from
    what stands in Git and in the store.

    \b
    Example:
      upkeep rollout watch
      upkeep rollout watch -s flights.yaml -s reviews.yaml --log json --metrics-port 9100
    """
    from upkeep import api

    tell = _json_lines() if log == "json" else _text_lines()
    metrics = None if metrics_port is None else (metrics_address, metrics_port)
    ended = api.watch(spec_paths, once=once, until_rest=until_rest, lease=lease, metrics=metrics, tell=tell)
    if output == "json":
        show_json(ended)
    if until_rest and any(each == "waits" for each in ended.values()):
        raise click.exceptions.Exit(1)


def _json_lines() -> Callable[[Report | Turn], None]:
    """One JSON object whenever something changes, and every :data:`SAME_AGAIN` where nothing does."""
    lock = threading.Lock()
    last: dict[str, tuple[str, datetime]] = {}

    def tell(report: Report | Turn) -> None:
        with lock:
            text, at = last.get(report.model, ("", report.at))
            if text == report.line() and at <= report.at < at + SAME_AGAIN:
                return
            last[report.model] = report.line(), report.at
            click.echo(json.dumps(report.record(), ensure_ascii=False, sort_keys=True), err=True)

    return tell


def _text_lines() -> Callable[[Report | Turn], None]:
    """One line whenever something changes."""
    lock = threading.Lock()
    last: dict[str, str] = {}

    def tell(report: Report | Turn) -> None:
        text = report.line()
        with lock:
            if last.get(report.model) != text:
                last[report.model] = text
                click.echo(f"{report.at.astimezone(UTC):%H:%M:%S}  {report.model}  {text}", err=True)

    return tell


# --- a person's word -----------------------------------------------------------------------------------------------


_why = click.option("--reason", default="", help="Why; it stands in the commit.")
_must_say_why = click.option("--reason", required=True, help="Why; it stands in the commit.")


@rollout.command()
@spec_option
@_must_say_why
@output_option
def pause(spec_path: str, reason: str, output: str) -> None:
    """Stop the rollout where it is: nothing moves until `resume`. A failing canary is told, and not taken back.

    \b
    Example:
      upkeep rollout pause --reason "the warehouse is being moved"
    """
    from upkeep import api

    _show_done(api.pause(spec_path, reason=reason), output)


@rollout.command()
@spec_option
@_why
@output_option
def resume(spec_path: str, reason: str, output: str) -> None:
    """Go on from where it was paused or held; where it waits for approval, this is the approval.

    \b
    Example:
      upkeep rollout resume
    """
    from upkeep import api

    _show_done(api.resume(spec_path, reason=reason), output)


@rollout.command()
@spec_option
@click.option("--full", is_flag=True, help="All traffic at once.")
@_why
@output_option
def promote(spec_path: str, full: bool, reason: str, output: str) -> None:
    """Move one step on without waiting for the evidence; during the bake time, end it.

    The canary must be ready and answer all the same.

    \b
    Example:
      upkeep rollout promote --reason "checked by hand"
      upkeep rollout promote --full
    """
    from upkeep import api

    _show_done(api.promote(spec_path, full=full, reason=reason), output)


@rollout.command()
@spec_option
@_must_say_why
@output_option
def abort(spec_path: str, reason: str, output: str) -> None:
    """Take the canary back, and bar its bytes: no later rollout may bring them again.

    \b
    Example:
      upkeep rollout abort --reason "support reports wrong answers"
    """
    from upkeep import api

    _show_done(api.abort(spec_path, reason=reason), output)


@rollout.command()
@spec_option
@click.option("--to", default=None, metavar="VERSION", help="An earlier champion. Default: the newest not barred.")
@_why
@output_option
def rollback(spec_path: str, to: str | None, reason: str, output: str) -> None:
    """Go back to an earlier champion, without steps, once it is ready; during a rollout, the same as `abort`.

    The champion that is replaced is barred. Naming a barred version lifts its bar.

    \b
    Example:
      upkeep rollout rollback --reason "wrong answers since yesterday"
      upkeep rollout rollback --to v3
    """
    from upkeep import api

    _show_done(api.rollback(spec_path, to=to, reason=reason), output)


def _show_done(done: Done, output: str) -> None:
    if output == "json":
        show_json(done)
        return
    click.echo(done.message)
    click.echo(f"commit {done.commit[:12]}: {done.state.phase}, {_shares(done.state.weights)}")


# --- history -------------------------------------------------------------------------------------------------------


@click.command()
@spec_option
@click.option("--at", "moment", default="", metavar="DATE", help="Only what should have served then (ISO 8601, UTC).")
@output_option
def history(spec_path: str, moment: str, output: str) -> None:
    """Show what served, since when, by which commit, on which evidence: from Git alone.

    With --at, more than one commit is shown where Git cannot tell which of them counted: one that cannot be read, with
    the one before it; or those whose dates are not in their order.

    \b
    Example:
      upkeep history
      upkeep history --at 2026-03-01
      upkeep history --at 2026-03-01T14:30
    """
    from upkeep import api

    found = api.history(spec_path, at=moment)
    if output == "json":
        show_json([_plain(each, certain=not moment or len(found) == 1) for each in found])
        return
    if not found:
        click.echo("nothing served then" if moment else "nothing is released yet")
        return
    from rich.markup import escape

    out = console()
    if moment and len(found) > 1:
        out.print("[bold red]not certain[/] Git cannot tell which of these counted then")
    for each in found:
        serving = each.serving
        verdict = each.trailers.get("Upkeep-Verdict", "none")
        by = escape(each.author.partition(" <")[0])
        words = [f"[bold]{each.when.astimezone(UTC):%Y-%m-%d %H:%M:%S}[/]  {_serves(each)}"]
        words += [serving.phase if serving else "", f"by {by}" if each.by != "upkeep" else ""]
        words += [f"[{COLOURS.get(verdict, 'default')}]{verdict}[/]" if verdict != "none" else ""]
        out.print("  ".join(filter(None, words)))
        out.print(hanging(" ", escape(each.problem.partition("\n")[0] or each.reason or each.subject)))
        cited = f", evidence {each.evidence[:12]}" if each.evidence else ""
        out.print(f"  [dim]commit {each.commit[:12]}{cited}[/]")


def _serves(each: Entry) -> str:
    if not each.told:
        return "not to be read"
    return _shares(each.weights) or "nothing"


def _plain(each: Entry, *, certain: bool) -> dict[str, Any]:
    serving = each.serving
    return {
        "commit": each.commit,
        "when": each.when.astimezone(UTC).isoformat(timespec="seconds"),
        "author": each.author,
        "by": each.by,
        "subject": each.subject,
        "reason": each.reason,
        "evidence": each.evidence,
        "trailers": dict(each.trailers),
        "problem": each.problem,
        "phase": serving.phase if serving else None,
        "champion": serving.champion.version if serving and serving.champion else None,
        "canary": serving.canary.version if serving and serving.canary else None,
        "weight": serving.weight if serving else None,
        "weights": dict(each.weights),
        "certain": certain,
    }
