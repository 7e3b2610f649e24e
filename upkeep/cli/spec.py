"""``upkeep init``, ``check`` and ``spec``."""

from __future__ import annotations

from pathlib import Path

import click

from upkeep.cli.main import output_option, spec_option
from upkeep.cli.show import show_json, show_problem


@click.command()
@click.argument("data")
@click.option("--target", required=True, help="The column that holds the label.")
@click.option("--name", default=None, help="The model's name; without it, the data's.")
@click.option("--positive", default=None, help="The class that counts as positive; without it, a guess.")
@click.option(
    "--to",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default="upkeep.yaml",
    show_default=True,
    help="Where the spec is written.",
)
@click.option("--force", is_flag=True, help="Write over a spec that is there.")
@output_option
def init(data: str, target: str, name: str | None, positive: str | None, path: Path, force: bool, output: str) -> None:
    """Write upkeep.yaml from the data's own schema, and say what was guessed.

    DATA is a file, a folder or an s3:// address.

    \b
    Example:
      upkeep init flights.parquet --target delayed
    """
    from upkeep import api

    made = api.init(data, target=target, name=name, positive=positive, path=path, force=force)
    if output == "json":
        show_json({"path": str(path), "guesses": list(made.guesses)})
        return
    click.echo(f"wrote {path}; what was guessed:")
    for guess in made.guesses:
        click.echo(f"  · {guess}")
    click.echo("next: read it, then `upkeep check`")


@click.command()
@spec_option
@click.option("--no-data", is_flag=True, help="Only the spec; do not read the data.")
@output_option
def check(spec_path: str, no_data: bool, output: str) -> None:
    """Hold the spec and the data it names to their rules; every problem at once, with its place and what to do.

    Exits with 0 when there is nothing but warnings, with 2 otherwise.

    \b
    Example:
      upkeep check --spec examples/flights/upkeep.yaml
    """
    from upkeep import api

    found = api.check(spec_path, data=not no_data)
    if output == "json":
        show_json({"ok": found.ok, "problems": list(found.problems), "rows": found.rows})
    else:
        for problem in found.problems:
            show_problem(problem)
        if found.ok:
            click.echo(f"{spec_path} is good" + (f"; {found.summary}" if found.summary else ""))
    if not found.ok:
        raise click.exceptions.Exit(2)


@click.group()
def spec() -> None:
    """The spec's JSON Schema and reference."""


@spec.command()
@output_option
def schema(output: str) -> None:  # noqa: ARG001 - the schema is JSON either way
    """Print the JSON Schema of upkeep.yaml, for editors.

    \b
    Example:
      upkeep spec schema > upkeep.schema.json
      # then, as the first line of upkeep.yaml:
      # yaml-language-server: $schema=upkeep.schema.json
    """
    from upkeep import api

    show_json(api.spec_schema())


@spec.command()
@output_option
def reference(output: str) -> None:
    """Print every key of upkeep.yaml, its type, default and meaning, as Markdown.

    \b
    Example:
      upkeep spec reference | less
    """
    from upkeep import api

    text = api.spec_reference()
    if output == "json":
        show_json({"markdown": text})
    else:
        click.echo(text)
