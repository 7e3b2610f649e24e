"""``upkeep``: the group of commands. A command's module is imported when it is called, heavy libraries later still."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import click

from upkeep import __version__

COMMANDS = {
    "init": ("upkeep.cli.spec", "init", "Write upkeep.yaml from the data's own schema."),
    "check": ("upkeep.cli.spec", "check", "Hold the spec and the data it names to their rules: every problem at once."),
    "run": ("upkeep.cli.update", "run", "Run one update on this machine."),
    "submit": ("upkeep.cli.submit", "submit", "Run one update on Kubeflow Pipelines, and follow it."),
    "schedule": ("upkeep.cli.submit", "schedule", "Let Kubeflow Pipelines run updates by the spec's schedule."),
    "drift": ("upkeep.cli.drift", "drift", "Only the drift report: of a period, or of any two files."),
    "rollout": ("upkeep.cli.rollout", "rollout", "Watch a challenger's rollout, move it on, take it back."),
    "history": ("upkeep.cli.rollout", "history", "What served, since when, by which commit, on which evidence."),
    "versions": ("upkeep.cli.versions", "versions", "List, show, verify and compare registered versions."),
    "adopt": ("upkeep.cli.versions", "adopt", "Make the model that already serves version 1."),
    "doctor": ("upkeep.cli.doctor", "doctor", "Look at what a rollout needs: what is missing, ignored or broken."),
    "up": ("upkeep.cli.cluster", "up", "Serve on this machine what Git says."),
    "status": ("upkeep.cli.cluster", "status", "Show what the one-machine cluster runs and serves."),
    "down": ("upkeep.cli.cluster", "down", "Stop the one-machine cluster."),
    "metrics": ("upkeep.cli.monitor", "metrics", "Show the quality in production, from payload log and labels."),
    "replay": ("upkeep.cli.monitor", "replay", "Send rows as live requests, with labels that come later."),
    "compile": ("upkeep.cli.update", "compile_", "Write the KFP pipeline as IR YAML."),
    "spec": ("upkeep.cli.spec", "spec", "The spec's JSON Schema and reference."),
    "store": ("upkeep.cli.store", "store", "Make the bucket; sweep what no version names; end a lock."),
}


class LazyGroup(click.Group):
    """Knows its commands' names and one-line help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="upkeep")
def upkeep() -> None:
    """Keeps a deployed model right: learns from new data, compares the best candidate with the champion on rows no
    training saw, and moves live traffic to the better one step by step, through Git.

    \b
    A first update, from a table:
      upkeep init flights.parquet --target delayed
      upkeep check
      upkeep run

    \b
    Then serve it, and roll out what comes next:
      upkeep up --detach
      upkeep rollout watch

    Exit codes: 0 done; 1 a check or a gate that you asked to fail on; 2 your input is wrong; 3 something outside
    failed, and a retry may help.
    """


def main(arguments: list[str] | None = None) -> None:
    """The entry point. Every error of :mod:`upkeep.errors` becomes words and an exit code; never a traceback."""
    words = sys.argv[1:] if arguments is None else arguments
    with _stoppable() as stopped:
        _main(words, stopped)


def _main(words: list[str], stopped: list[int]) -> None:
    try:
        code = upkeep.main(args=words, prog_name="upkeep", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nstopped; nothing was left half-done", err=True)
        sys.exit(128 + (stopped[0] if stopped else signal.SIGINT))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the last place where a traceback can become words
        sys.exit(_tell(error, as_json=_wants_json(words)))


@contextlib.contextmanager
def _stoppable() -> Iterator[list[int]]:
    """Ctrl-C, and what ends a service or a session, stop a command in good order; the list holds what did.

    The second Ctrl-C of an impatient person must not cut the cleaning up short (a lock would stay); the third may.
    """
    stopped: list[int] = []

    def stop(number: int, _: object) -> None:
        stopped.append(number)
        if len(stopped) != 2:
            raise KeyboardInterrupt
        with contextlib.suppress(OSError):
            os.write(2, b"\ncleaning up; once more ends it at once\n")

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # else: nohup, or a host's own
                before[number] = signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wants_json(words: list[str]) -> bool:
    return "--output=json" in words or ("--output", "json") in itertools.pairwise(words)


def _tell(error: Exception, *, as_json: bool) -> int:
    from upkeep.errors import known

    foreseen = known(error)
    if foreseen is not None:
        from upkeep.cli.show import show_error

        show_error(foreseen, as_json=as_json)
        return foreseen.exit_code
    if os.environ.get("UPKEEP_DEBUG"):
        raise error
    click.echo(f"upkeep: a bug: {type(error).__name__}: {error}", err=True)
    click.echo("    → please report it; UPKEEP_DEBUG=1 shows the traceback", err=True)
    return 3


def output_option(command: Any) -> Any:
    """``--output text|json`` for every command."""
    return click.option(
        "--output", type=click.Choice(["text", "json"]), default="text", help="How the answer is written."
    )(command)


def spec_option(command: Any) -> Any:
    """``--spec PATH`` for every command that reads the model spec."""
    return click.option(
        "--spec",
        "-s",
        "spec_path",
        type=click.Path(dir_okay=False),
        default="upkeep.yaml",
        show_default=True,
        help="The model spec.",
    )(command)


def specs_option(command: Any) -> Any:
    """``--spec PATH``, once or more, for every command that serves several models."""
    return click.option(
        "--spec",
        "-s",
        "spec_paths",
        type=click.Path(dir_okay=False),
        multiple=True,
        default=("upkeep.yaml",),
        show_default="upkeep.yaml",
        help="The model spec; give it again for each further model.",
    )(command)
