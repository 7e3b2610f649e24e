"""``upkeep submit`` and ``schedule``: updates on Kubeflow Pipelines."""

from __future__ import annotations

from pathlib import Path

import click

from upkeep.cli.main import output_option, spec_option
from upkeep.cli.show import show_json
from upkeep.cli.update import progress, show_outcome, summary_option, update_options


@click.command()
@spec_option
@update_options
@click.option("--detach", is_flag=True, help="Start the run, print where it is, and leave it to itself.")
@click.option("--follow", "run", default="", metavar="RUN", help="Start nothing: follow this run to its end.")
@summary_option
@output_option
def submit(
    spec_path: str,
    until: str,
    supersede: bool,
    accept_changed: bool,
    fail_on_gate: bool,
    detach: bool,
    run: str,
    summary: Path | None,
    output: str,
) -> None:
    """Run one update on Kubeflow Pipelines, and follow it. The run goes on by itself when you stop following.

    Where it is: kubeflow.endpoint in the spec, KF_PIPELINES_ENDPOINT, or KFP's own service inside its cluster. Who
    asks: UPKEEP_KFP_TOKEN, or the file that KF_PIPELINES_SA_TOKEN_PATH names. With UPKEEP_KUBE_CONTEXT its pods are
    looked at, too: an image that cannot be pulled, memory that ran out.

    \b
    Example:
      upkeep submit
      upkeep submit --until 2013-04 --fail-on-gate
      upkeep submit --follow 0b1c62ab-6b5a-4f2b-9a39-3a3f0f0f4d11
    """
    from upkeep import api

    if run and (detach or until or supersede or accept_changed):
        raise click.UsageError("--follow starts nothing: leave out what a new run would be given")
    if detach and fail_on_gate:
        raise click.UsageError("--fail-on-gate waits for the verdict, and --detach does not")
    if detach and summary:
        raise click.UsageError("--summary waits for the verdict, and --detach does not")
    with progress(quiet=output == "json", side_by_side=True) as listen:
        if not run:
            started = api.submit_detached(
                spec_path, until=until, supersede=supersede, accept_changed=accept_changed, listen=listen
            )
            run = started.run
        if not detach:
            try:
                record = api.follow(spec_path, run, listen=listen)
            except KeyboardInterrupt:
                click.echo(f"\nthe run goes on by itself; follow it again: upkeep submit --follow {run}", err=True)
                raise
    if detach:
        if output == "json":
            show_json(started)
        else:
            click.echo(f"run   {started.run}\npage  {started.page}")
        return
    show_outcome(spec_path, record, output, summary=summary, fail_on_gate=fail_on_gate)


@click.command()
@spec_option
@click.option("--delete", is_flag=True, help="Let Kubeflow start no more updates of this model by itself.")
@output_option
def schedule(spec_path: str, delete: bool, output: str) -> None:
    """Make Kubeflow Pipelines run an update whenever monitoring.update_when.schedule says so (UTC).

    It is applied, not added: doing it twice changes nothing, and another schedule takes the place of the old one. A run
    that is under way ends by itself; two updates of a model never run at once.

    \b
    Example:
      upkeep schedule
      upkeep schedule --delete
    """
    from upkeep import api

    found = api.schedule(spec_path, delete=delete)
    if output == "json":
        show_json(found)
        return
    if found.name:
        click.echo(f"{'made     ' if found.created else 'unchanged'}  {found.name}")
        click.echo(f"schedule   {found.cron} (UTC), to KFP {found.cron_kfp}")
        click.echo(f"next       {found.next}")
    for name in found.deleted:
        click.echo(f"deleted    {name}")
    for name in found.ending:
        click.echo(f"ending     {name}: its run is under way; it is deleted the next time")
    if not found.name and not found.deleted and not found.ending:
        click.echo("there was none")
