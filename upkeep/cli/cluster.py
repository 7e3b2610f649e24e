"""``upkeep up``, ``status`` and ``down``: the one-machine cluster."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import click

from upkeep.cli.main import output_option, spec_option, specs_option
from upkeep.cli.show import console, show_error, show_json, table

_folder_option = click.option(
    "--folder",
    type=click.Path(file_okay=False),
    envvar="UPKEEP_CLUSTER",
    help="The cluster's folder.  [default: $UPKEEP_CLUSTER, else `cluster` in the store]",
)


@click.command()
@specs_option
@_folder_option
@click.option("--port", type=click.IntRange(1, 65535), help="Where clients come in.  [default: a free one, kept]")
@click.option("--detach", is_flag=True, help="Come back when everything is ready, and leave it running.")
@output_option
def up(spec_paths: tuple[str, ...], folder: str | None, port: int | None, detach: bool, output: str) -> None:
    """Serve on this machine what Git says, until Ctrl-C.

    One model server for each version, and one Envoy before them with the route's weights. It follows the Git
    repository, and starts again what dies. Listens on 127.0.0.1 only.

    \b
    Example:
      upkeep up --detach
      upkeep status
    """
    from upkeep import api

    if not detach:
        api.up(spec_paths, folder=folder, port=port, tell=_tell_json if output == "json" else _tell)
        return
    started = api.up_detached(spec_paths, folder=folder, port=port)
    if output == "json":
        show_json(started)
    else:
        _show(started)


@click.command()
@spec_option
@_folder_option
@click.option("--watch", is_flag=True, help="Show it again whenever it changes, until Ctrl-C.")
@output_option
def status(spec_path: str, folder: str | None, watch: bool, output: str) -> None:
    """Show what the one-machine cluster runs and serves.

    \b
    Example:
      upkeep status --watch
      upkeep status --output json
    """
    from upkeep import api
    from upkeep.errors import OutsideError

    before: Any = None
    while True:
        try:
            now = api.cluster_status(spec_path, folder=folder)
        except OutsideError as error:
            if not watch:
                raise
            show_error(error, as_json=output == "json")
            time.sleep(0.5)
            continue
        if now != before:
            if output == "json":
                show_json(now)
            else:
                if watch:
                    click.clear()
                _show(now)
        if not watch:
            return
        before = now
        time.sleep(0.5)


@click.command()
@spec_option
@_folder_option
@output_option
def down(spec_path: str, folder: str | None, output: str) -> None:
    """Stop the one-machine cluster and everything that it runs.

    \b
    Example:
      upkeep down
    """
    from upkeep import api

    stopped = api.down(spec_path, folder=folder)
    if output == "json":
        show_json({"stopped": list(stopped)})
        return
    for line in stopped or ("nothing runs here",):
        click.echo(line)


def _tell(line: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {line}")


def _tell_json(line: str) -> None:
    click.echo(json.dumps({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": line}))


def _show(now: dict[str, Any]) -> None:
    click.echo(f"gateway {now['gateway'] or 'does not run'}")
    for name, model in now["models"].items():
        commit = (model["commit"] or "no commit")[:12]
        braked = ", the brake is on" if model["braked"] else ""
        host = next(iter(model["hosts"]), "")
        click.echo(f"\n{name}  {host}  commit {commit}{braked}")
        rows = table("version", "Git", "live", "ready", "restarts", right=("Git", "live", "restarts"))
        for service in model["services"]:
            version = service["metadata"]["annotations"]["upkeep.dev/version"]
            condition = next(each for each in service["status"]["conditions"] if each["type"] == "Ready")
            rows.add_row(
                version,
                _per_cent(model["git_weights"].get(version)),
                _per_cent(model["weights"].get(version)),
                "leaves" if service["upkeep"]["leaving"] else "yes" if condition["status"] == "True" else "no",
                str(service["upkeep"]["restarts"]),
            )
        if model["services"]:
            console().print(rows)
        else:
            click.echo("nothing is released yet; `upkeep run` proposes the first version")
        for problem in model["problems"]:
            click.echo(problem)


def _per_cent(weight: int | None) -> str:
    return "–" if weight is None else f"{weight} %"
