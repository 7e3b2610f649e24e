"""``upkeep versions`` and ``adopt``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from upkeep.cli.main import output_option, spec_option
from upkeep.cli.show import console, hanging, number, short, show_json, table

if TYPE_CHECKING:
    from upkeep.registry.card import Card


@click.group()
def versions() -> None:
    """List, show, verify and compare registered versions.

    \b
    Example:
      upkeep versions list
      upkeep versions diff v1 v2
    """


@versions.command("list")
@spec_option
@output_option
def list_(spec_path: str, output: str) -> None:
    """List the versions, newest first, and what serves.

    \b
    Example:
      upkeep versions list --output json
    """
    from upkeep import api

    listed = api.versions(spec_path)
    if output == "json":
        show_json(listed)
        return
    if not listed.cards:
        click.echo("no version yet; `upkeep run` makes the first")
        return
    metric = api.load_spec(spec_path).gate.better.metric
    names = ("version", "serves", "created", "candidate", "until", metric, "digest")
    rows = table(*names, right=(metric,), whole=("version", "serves", "created", "until", "digest"))
    for card in listed.cards:
        rows.add_row(
            card.version,
            listed.role(card.version),
            card.created[:16].replace("T", " "),
            card.trained.candidate,
            card.trained.until or "–",
            number(_headline(card).get(metric)),
            card.digest[:12],
        )
    console().print(rows)


def _headline(card: Card) -> dict[str, float | None]:
    for row_set in ("all", "new", "old"):
        if row_set in card.scores:
            return card.scores[row_set].metrics
    return {}


@versions.command()
@click.argument("version")
@spec_option
@output_option
def show(version: str, spec_path: str, output: str) -> None:
    """Show one version's card (its bytes, data, training, scores, verdict) and what came of it.

    A card is written before its update ends and never changes; what followed is shown beside it.

    \b
    Example:
      upkeep versions show v2
    """
    from rich.markup import escape

    from upkeep import api, records

    card = api.version(spec_path, version)
    outcome = api.outcome(spec_path, version)
    if output == "json":
        show_json({**records.plain(card), "outcome": outcome})
        return
    out = console()
    trained = card.trained
    rows = table("name", "value", whole=("name",))
    rows.show_header = False
    for name, value in (
        ("version", f"{card.model} {card.version}, created {card.created}"),
        ("digest", f"{card.digest} ({card.size_bytes:,} bytes)"),
        *([("base", f"{card.base}: the bytes are what it adds to that model")] if card.base else []),
        ("trained", f"{trained.candidate} ({trained.strategy}) on {_known(trained.rows)} rows, seed {trained.seed}"),
        (
            "learned from",
            f"{', '.join(trained.periods) or 'not known'}; nothing newer than {trained.until or 'not known'}",
        ),
        ("parameters", ", ".join(f"{key}={value}" for key, value in trained.params.items()) or "defaults"),
        ("dataset", card.dataset or "none: adopted"),
        ("spec", card.spec),
        ("code", ", ".join(f"{key} {value}" for key, value in card.code.items())),
        ("compared with", card.champion or "nothing: the first"),
        ("parents", ", ".join(card.parents) or "none"),
        ("drift", card.drift or "not measured"),
        ("update", card.update),
    ):
        rows.add_row(f"[dim]{name}[/]", escape(value))
    out.print(rows)
    for row_set, scores in card.scores.items():
        shown = ", ".join(f"{name} {number(value)}" for name, value in scores.metrics.items())
        out.print(f"[dim]{row_set} held-out rows ({scores.rows:,})[/]")
        out.print(hanging("  ", shown))
    if card.verdict:
        out.print(hanging("[dim]verdict[/] ", f"{card.verdict.verdict}: {escape(card.verdict.summary)}"))
    if outcome.taken_back:
        ended = f"the update ended as {outcome.verdict}" if outcome.verdict else "how the update ended is not known"
        out.print(hanging("[bold red]taken back[/] ", f"{ended}: the card's verdict does not stand"))
    out.print(hanging("[dim]outcome[/] ", f"{outcome.outcome}: {escape(outcome.message)}"))
    out.print(hanging("[dim]now[/] ", escape(outcome.now)))


def _known(rows: int | None) -> str:
    return "an unknown number of" if rows is None else f"{rows:,}"


@versions.command()
@click.argument("version")
@spec_option
@output_option
def verify(version: str, spec_path: str, output: str) -> None:
    """Hold a version's bytes, card, records and evidence to their digests, and to those that Git has; then load it.

    Exits with 1 when anything is wrong.

    \b
    Example:
      upkeep versions verify v2
    """
    from upkeep import api

    problems = api.verify(spec_path, version)
    if output == "json":
        show_json({"version": version, "ok": not problems, "problems": list(problems)})
    elif problems:
        from upkeep.cli.show import show_problem

        for problem in problems:
            show_problem(problem)
    else:
        click.echo(f"{version} is whole: its bytes, records and evidence are what Git says of them, and it loads")
    if problems:
        raise click.exceptions.Exit(1)


@versions.command()
@click.argument("version")
@click.option(
    "--format", "kind", type=click.Choice(["saved_model", "keras"]), default="saved_model", help="What is written."
)
@click.option("-o", "--to", "out", default=".", metavar="FOLDER", help="Where; the version's name is added.")
@spec_option
@output_option
def export(version: str, kind: str, out: str, spec_path: str, output: str) -> None:
    """Write a network for other programs: a TensorFlow SavedModel that takes raw columns, or one .keras file.

    \b
    Example:
      upkeep versions export v3 --format saved_model --to exported
    """
    from upkeep import api

    path = api.export(spec_path, version, out, kind=kind)
    if output == "json":
        show_json({"version": version, "format": kind, "path": str(path)})
    else:
        click.echo(f"{version} is written to {path}")


@versions.command()
@click.argument("version")
@click.argument("other")
@spec_option
@output_option
def diff(version: str, other: str, spec_path: str, output: str) -> None:
    """Show what differs between two versions: data, parameters, scores.

    \b
    Example:
      upkeep versions diff v1 v2
    """
    from rich.markup import escape

    from upkeep import api

    found = api.diff(spec_path, version, other)
    if output == "json":
        show_json([{"field": name, version: a, other: b} for name, a, b in found])
        return
    rows = table("field", version, other)
    rows.columns[0].min_width = min(40, max((len(name) for name, _, _ in found), default=0))
    for name, a, b in found:
        rows.add_row(escape(name), escape(_text(a)), escape(_text(b)))
    out = console()
    out.print(rows if found else f"{version} and {other} do not differ")
    if any(name.startswith("scores.") and name.endswith(".rows") for name, _, _ in found):
        out.print(
            "Scores are of the rows that were held out when each was made, which are not the same. Two versions on the "
            "same rows: the page of the update that compared them.",
            style="dim",
        )


def _text(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else short(str(value))


@click.command()
@click.argument("model")
@spec_option
@click.option(
    "--trained-until", default="", metavar="PERIOD", help="The newest period the model may have learned from."
)
@output_option
def adopt(model: str, spec_path: str, trained_until: str, output: str) -> None:
    """Make the model that already serves version 1: a skops file that takes the spec's raw columns.

    Its training rows are not known, so a later candidate is compared with it only on periods after --trained-until.

    \b
    Example:
      upkeep adopt model.skops --trained-until 2013-03
    """
    from upkeep import api

    record = api.adopt(spec_path, model, trained_until=trained_until)
    if output == "json":
        show_json(record)
        return
    click.echo(f"adopted {model} as {record.version} ({record.digest[:12]})")
    click.echo(record.message)
