"""``upkeep run`` and ``compile``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from upkeep.cli.main import output_option, spec_option
from upkeep.cli.show import COLOURS, SIGNS, console, hanging, show_json

if TYPE_CHECKING:
    from upkeep.update.record import UpdateRecord


summary_option = click.option(
    "--summary",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write what it came to into this file, as Markdown: for a pull request's comment.",
)


def update_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What an update may be asked for, wherever it runs."""
    for option in (
        click.option("--fail-on-gate", is_flag=True, help="Exit with 1 unless the verdict is pass."),
        click.option(
            "--accept-changed",
            is_flag=True,
            help="Accept changed bytes of files that an earlier update used, or another privacy key.",
        ),
        click.option("--supersede", is_flag=True, help="Replace a challenger whose rollout is pending."),
        click.option("--until", default="", metavar="PERIOD", help="Use no data newer than this period."),
    ):
        command = option(command)
    return command


@click.command()
@spec_option
@update_options
@click.option("--keep", is_flag=True, help="Keep the run's working folder (prepared rows, every artifact).")
@click.option("--containers", is_flag=True, help="Run each step in a container, of its image on a cluster.")
@summary_option
@output_option
def run(
    spec_path: str,
    until: str,
    supersede: bool,
    accept_changed: bool,
    fail_on_gate: bool,
    keep: bool,
    containers: bool,
    summary: Path | None,
    output: str,
) -> None:
    """Run one update on this machine: collect, preprocess, drift, train, evaluate, deploy.

    \b
    Example:
      upkeep run
      upkeep run --until 2013-04 --fail-on-gate
    """
    from upkeep import api

    with progress(quiet=output == "json") as listen:
        record = api.run(
            spec_path,
            until=until,
            supersede=supersede,
            accept_changed=accept_changed,
            keep=keep,
            containers=containers,
            listen=listen,
        )
    show_outcome(spec_path, record, output, summary=summary, fail_on_gate=fail_on_gate)


def show_outcome(
    spec_path: str, record: UpdateRecord, output: str, *, summary: Path | None, fail_on_gate: bool
) -> None:
    """Tell what the update came to, as it was asked for."""
    from upkeep import api

    if summary is not None:
        summary.write_text(api.summary(spec_path, record.update), encoding="utf-8")
    if output == "json":
        show_json(record)
    else:
        show_record(record)
    if fail_on_gate and record.verdict.verdict != "pass":
        raise click.exceptions.Exit(1)


def show_record(record: UpdateRecord) -> None:
    """The verdict, why, and what happens next."""
    out = console()
    verdict = record.verdict
    colour = COLOURS[verdict.verdict]
    out.print()
    out.print(f"[bold {colour}]{SIGNS[verdict.verdict]} {verdict.verdict}[/]  {_safe(verdict.summary)}")
    for reason in verdict.reasons:
        style = COLOURS.get(reason.finding, "dim")
        out.print(
            hanging(f"  [{style}]{SIGNS[reason.finding]}[/]", f"[dim]{_safe(reason.rule)}[/]  {_safe(reason.text)}")
        )
    if record.drift:
        out.print(hanging("drift   ", _safe(record.drift)))
    out.print(hanging("outcome ", _safe(record.message)))
    # paths stay whole, so that they can be copied
    if record.commit:
        out.print(f"commit   {record.commit[:12]} in {_safe(record.repository)}", soft_wrap=True)
    out.print(f"page     {_safe(record.page)}", soft_wrap=True)


def _safe(text: str) -> str:
    from rich.markup import escape

    return escape(text)


@contextlib.contextmanager
def progress(*, quiet: bool, side_by_side: bool = False) -> Iterator[Callable[[Any], None]]:
    """A live line a step on a terminal; a plain line a step elsewhere; nothing for a machine.

    ``side_by_side``: steps run beside one another, and each says when it is over; else the next one's begin says so.
    """
    if quiet:
        yield lambda _: None
        return
    out = console(stderr=True)
    if not out.is_terminal:
        yield _plain_lines(out)
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.fields[step]:<11}"), BarColumn(bar_width=24), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=out) as bars:
        tasks: dict[str, Any] = {}

        def listen(event: Any) -> None:
            if event.step not in tasks:
                for other in () if side_by_side else tasks.values():
                    bars.update(other, total=1, completed=1)
                    bars.stop_task(other)
                tasks[event.step] = bars.add_task(event.text, total=None, step=event.step)
            total = None if event.share is None else 1.0
            bars.update(tasks[event.step], description=_safe(event.text), total=total, completed=event.share or 0)
            if side_by_side and event.share == 1.0:
                bars.stop_task(tasks[event.step])

        yield listen
        for task in tasks.values():
            bars.update(task, total=1, completed=1)


def _plain_lines(out: Any) -> Callable[[Any], None]:
    started = time.monotonic()
    last = {"step": "", "text": ""}

    def listen(event: Any) -> None:
        if (event.step, event.text) != (last["step"], last["text"]) and event.share in (None, 1.0):
            last.update(step=event.step, text=event.text)
            out.print(
                f"[dim]{time.monotonic() - started:6.1f} s[/]  {event.step:<11} {_safe(event.text)}", soft_wrap=True
            )

    return listen


@click.command("compile")
@spec_option
@click.option(
    "--out",
    "-o",
    "out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="update.yaml",
    show_default=True,
    help="Where the pipeline is written.",
)
@output_option
def compile_(spec_path: str, out: Path, output: str) -> None:
    """Write the update pipeline as KFP IR YAML, for `kfp` or the KFP page to take.

    \b
    Example:
      upkeep compile -o update.yaml
    """
    from upkeep import api

    path = api.compile(spec_path, out)
    if output == "json":
        show_json({"path": str(path)})
    else:
        click.echo(f"wrote {path}")
