"""``upkeep doctor``."""

from __future__ import annotations

import click

from upkeep.cli.main import output_option, spec_option
from upkeep.cli.show import console, hanging, show_json

SIGNS = {"ok": ("✓", "green"), "problem": ("✗", "red"), "unknown": ("?", "yellow")}


@click.command()
@spec_option
@output_option
def doctor(spec_path: str, output: str) -> None:
    """Look at what a rollout of this model needs, before anything moves: store, Git, driver, cluster, evidence.

    Ends with 1 where there is a problem. Nothing is left behind.

    \b
    Example:
      upkeep doctor
      upkeep doctor --output json
    """
    from rich.markup import escape

    from upkeep import api

    findings = api.doctor(spec_path)
    if output == "json":
        show_json(list(findings))
    else:
        out = console()
        for each in findings:
            sign, colour = SIGNS[each.state]
            out.print(hanging(f"[{colour}]{sign} {each.check:9}[/]", escape(each.text)))
            if each.fix and each.state != "ok":
                out.print(hanging(" " * 11, f"[dim]→ {escape(each.fix)}[/]"))
    if any(each.state == "problem" for each in findings):
        raise click.exceptions.Exit(1)
