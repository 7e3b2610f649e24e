"""``upkeep store``."""

from __future__ import annotations

import click

from upkeep.cli.main import output_option, spec_option
from upkeep.cli.show import show_json


@click.group()
def store() -> None:
    """Make the bucket; sweep what no version names; end a lock."""


@store.command("init")
@spec_option
@output_option
def init(spec_path: str, output: str) -> None:
    """Make the store's bucket with versioning, or its folder; doing it twice changes nothing.

    \b
    Example:
      upkeep store init
    """
    from upkeep import api

    done = api.store_init(spec_path)
    if output == "json":
        show_json({"done": list(done)})
    else:
        for line in done:
            click.echo(line)


@store.command()
@spec_option
@click.option("--grace-hours", default=24.0, show_default=True, help="Leave what is younger.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@output_option
def sweep(spec_path: str, grace_hours: float, dry_run: bool, output: str) -> None:
    """Delete model bytes that no version names and that are older than the grace time.

    \b
    Example:
      upkeep store sweep --dry-run
    """
    from upkeep import api

    gone = api.sweep(spec_path, grace_hours=grace_hours, dry_run=dry_run)
    if output == "json":
        show_json({"deleted": list(gone), "dry_run": dry_run})
        return
    for key in gone:
        click.echo(key)
    click.echo(f"{len(gone)} objects {'would go' if dry_run else 'deleted'}")


@store.command()
@spec_option
@click.option("--reason", required=True, help="Why; it is written beside the lock, and its holder reads it.")
@click.option(
    "--of",
    type=click.Choice(["update", "rollout"]),
    default="update",
    show_default=True,
    help="Whose lock: that of updates, adoptions and sweeps, or that of who moves the traffic.",
)
@output_option
def unlock(spec_path: str, reason: str, of: str, output: str) -> None:
    """End the lock that keeps others from the same work, and say who held it.

    A crashed holder's lock ends by itself within two minutes. A holder that is alive stops before its next step.

    \b
    Example:
      upkeep store unlock --reason "the machine it ran on is gone"
    """
    from upkeep import api

    held = api.unlock(spec_path, reason=reason, of=of)
    if output == "json":
        show_json({"ended": held})
    elif held:
        click.echo(f"ended: {held.holder} held it since {held.since}, and had renewed it until {held.until}")
    else:
        click.echo("nobody held it")
