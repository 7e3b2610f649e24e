"""The reference page of the commands, from the commands themselves: ``python -m upkeep.cli.reference``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from upkeep.cli.main import COMMANDS, upkeep


def _walk(command: click.Command, name: str, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found:
                yield from _walk(found, f"{name} {child}", context)
    else:
        yield name, command


def commands_reference() -> str:
    """Markdown: what each command does, an example, its options."""
    context = click.Context(upkeep)
    lines = [
        "# Commands",
        "",
        "Every command has `--help` and `--output json`. Exit codes: 0 done; 1 a check or a gate that you asked to",
        "fail on; 2 your input is wrong; 3 something outside failed, and a retry may help; 130 stopped by Ctrl-C.",
    ]
    for top in COMMANDS:
        command = upkeep.get_command(context, top)
        for name, leaf in _walk(command, f"upkeep {top}", context) if command else ():
            lines += ["", f"## {name}", "", *_text(leaf), "", *_parameters(leaf)]
    return "\n".join(lines) + "\n"


def _text(command: click.Command) -> list[str]:
    lines: list[str] = []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b\n"):
            example = paragraph[2:].split("\n")
            lines += ["```", *(line[2:] for line in example[1:]), "```"]
        else:
            lines += [paragraph, ""]
    return lines


def _parameters(command: click.Command) -> list[str]:
    rows = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            rows.append(f"| `{parameter.human_readable_name}` | required |")
        elif isinstance(parameter, click.Option):
            default = parameter.default if isinstance(parameter.default, str | int | float) else ""
            known = f" (default `{default}`)" if default not in ("", False) else ""
            names = ", ".join(f"`{name}`" for name in parameter.opts)
            rows.append(f"| {names} | {parameter.help or ''}{known} |")
    return ["| option | meaning |", "| --- | --- |", *rows]


if __name__ == "__main__":
    click.echo(commands_reference(), nl=False)
