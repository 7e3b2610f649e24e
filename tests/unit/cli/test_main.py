"""The command line: help, errors as words, exit codes, JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from upkeep.cli.main import COMMANDS, main, upkeep
from upkeep.cli.reference import commands_reference
from upkeep.errors import OutsideError

ROOT = Path(__file__).parents[3]


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def leaves(command: click.Command, words: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        children = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
        return [leaf for name, child in children if child for leaf in leaves(child, (*words, name))]
    return [(words, command)]


@pytest.mark.parametrize(
    ("words", "command"), leaves(upkeep), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_has_help_with_an_example_and_output_json(
    words: tuple[str, ...], command: click.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words, "--help") == 0
    shown = capsys.readouterr().out
    assert "Example:" in shown
    assert f"upkeep {words[0]}" in shown
    assert "--output" in shown


def test_the_reference_page_is_what_the_commands_say() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text()
    assert page == commands_reference(), "run: python -m upkeep.cli.reference > docs/reference/commands.md"


def test_help_imports_nothing_heavy() -> None:
    heavy = ("numpy", "pandas", "pyarrow", "sklearn", "scipy", "pydantic", "kfp", "duckdb", "matplotlib", "tensorflow")
    code = (
        "import sys\nfrom upkeep.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"found = [name for name in {heavy!r} if name in sys.modules]\n"
        "sys.stderr.write(','.join(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_an_unknown_command_and_a_wrong_option_are_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("lanuch") == 2
    assert call("check", "--nonsense") == 2
    assert call("drift", "--reference", "a.parquet") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_missing_spec_is_said_with_its_path_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("run") == 2
    error = capsys.readouterr().err
    assert "upkeep.yaml" in error
    assert "→" in error


def test_errors_are_json_for_a_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("run", "--output", "json") == 2
    answer = json.loads(capsys.readouterr().err)
    assert answer["exit_code"] == 2
    assert answer["retry"] is False
    assert answer["problems"][0]["where"]["file"].endswith("upkeep.yaml")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OutsideError("the store does not answer", fix="start it"), 3, "a retry may help"),
        (PermissionError(13, "Permission denied", "/data/x"), 3, "/data/x: no permission"),
        (OSError(28, "No space left on device"), 3, "No space left"),
        (KeyboardInterrupt(), 130, "stopped"),
        (ZeroDivisionError("division by zero"), 3, "a bug: ZeroDivisionError"),
    ],
)
def test_whatever_is_raised_becomes_words_and_a_code(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(upkeep, "main", fail)
    assert call("run") == code
    shown = capsys.readouterr().err
    assert words in shown
    assert "Traceback" not in shown


def test_every_command_is_listed() -> None:
    assert set(COMMANDS) >= {"init", "check", "run", "drift", "versions", "adopt", "compile", "spec"}
