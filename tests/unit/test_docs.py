"""What README.md and docs/ say is so: snippets run, parse or validate; links, commands and rooms are there."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import upkeep
from upkeep.cli.main import COMMANDS
from upkeep.cli.main import upkeep as group
from upkeep.spec.load import parse
from upkeep.update.record import UpdateRecord

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")]
)
TUTORIALS = sorted(ROOT.glob("docs/tutorial/*.md"))
GENERATED = {ROOT / "docs/benchmarks.md"}
"""`make bench` writes it; a clone may not have it yet."""

FENCE = re.compile(r"^```([a-z]*)\n(.*?)^```$", re.M | re.S)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    tag: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(*tags: str) -> list[Block]:
    """The fenced blocks of all pages that carry one of the tags."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            if match[1] in tags:
                found.append(Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2]))
    return found


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def test_every_block_is_of_a_kind_that_is_tested_here() -> None:
    kinds = ("", "sh", "python", "yaml")
    assert all(match[1] in kinds for page in PAGES for match in FENCE.finditer(page.read_text()))
    assert {block.tag for block in blocks(*kinds)} == set(kinds)
    assert all(block.page in TUTORIALS for block in blocks("sh"))


# --- commands ------------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, str, bool]]:
    """(place, command line, whether it is whole) of every ``upkeep …`` in a block or in the text."""
    for block in blocks("", "sh"):
        for line in block.text.splitlines():
            if line.startswith("upkeep "):
                yield str(block), line, True
    for page in PAGES:
        for code in INLINE.findall(prose(page)):
            if code.startswith("upkeep "):
                yield str(page.relative_to(ROOT)), code, False


def words(line: str) -> list[str]:
    """The arguments of ``upkeep``, up to a pipe or a redirection."""
    found = shlex.split(line, comments=True)[1:]
    return found[: next((at for at, word in enumerate(found) if word in ("|", ">")), len(found))]


def parse_command(given: list[str]) -> click.Command:
    """The command that takes these words; nothing is executed. Raises ``click.UsageError``."""
    context, command = click.Context(group, info_name="upkeep"), group
    while isinstance(command, click.Group):
        if not given:
            return command
        _, found, given = command.resolve_command(context, given)
        assert found is not None
        command = found
        context = click.Context(command, parent=context, info_name=command.name)
    if given not in (["--help"], ["-h"]):
        command.make_context(command.name, list(given), parent=context.parent)
    return command


@pytest.mark.parametrize(("place", "line", "whole"), list(commands()))
def test_every_command_parses(place: str, line: str, whole: bool) -> None:
    try:
        parse_command(words(line))
    except click.MissingParameter as error:
        assert not whole, f"{place}: {line}: {error.format_message()}"
    except click.UsageError as error:
        pytest.fail(f"{place}: {line}: {error.format_message()}")
    except click.exceptions.Exit as error:  # --help of the whole
        assert error.exit_code == 0


def test_parsing_would_tell_a_wrong_option_and_a_wrong_command() -> None:
    for line in ("upkeep run --nonsense", "upkeep lanuch", "upkeep versions shwo v1", "upkeep adopt"):
        with pytest.raises(click.UsageError):
            parse_command(words(line))


def test_every_make_target_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    said = {
        target
        for page in PAGES
        for target in re.findall(r"^make ([a-z]+)|`make ([a-z]+)", page.read_text(), re.M)
        for target in target
        if target
    }
    assert said <= targets
    assert {"setup", "demo", "test"} <= said


def test_the_reference_names_every_command() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text()
    missing = [name for name in COMMANDS if not re.search(rf"^## upkeep {name}\b", page, re.M)]
    assert missing == []


# --- Python and YAML -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles_and_its_names_are_there(block: Block) -> None:
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith("upkeep."):
            function = getattr(upkeep, ast.unparse(node.func).removeprefix("upkeep."))
            named = {each.arg: each.value for each in node.keywords if each.arg}
            inspect.signature(function).bind(*node.args, **named)


def test_what_the_readme_does_with_a_record_can_be_done() -> None:
    (block,) = (each for each in blocks("python") if each.page.name == "README.md")
    used = set(re.findall(r"\brecord\.(\w+)", block.text))
    assert used
    assert used <= {field.name for field in fields(UpdateRecord)}
    assert inspect.signature(upkeep.run).return_annotation == "UpdateRecord"


MINIMAL = """
metadata: {name: minimal}
data:
  source: data
  id: customer
  target: {column: left, positive: true}
  features: {numeric: [age]}
candidates:
  - {name: linear, strategy: retrain, estimator: sklearn.linear_model.LogisticRegression}
"""


def merged(whole: Any, part: Any) -> Any:
    if isinstance(whole, dict) and isinstance(part, dict):
        return {**whole, **{key: merged(whole.get(key), value) for key, value in part.items()}}
    return part


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_is_a_spec_or_a_part_of_one(block: Block) -> None:
    whole = merged(yaml.safe_load(MINIMAL), yaml.safe_load(block.text))
    parsed = parse(yaml.safe_dump(whole).encode(), str(block))
    assert parsed.problems == ()


def test_the_minimal_spec_is_one_and_a_wrong_part_is_told() -> None:
    assert parse(MINIMAL.encode(), "").problems == ()
    assert parse((MINIMAL + "gaet: {}\n").encode(), "").problems != ()


# --- links and rooms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, heading = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists() or there in GENERATED, f"{page.name}: {target}"
        if heading and there.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", there.read_text(), re.M)
            assert heading in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target


def test_every_page_is_linked_from_an_index() -> None:
    top = ROOT / "docs/README.md"
    linked = {
        (index.parent / target.partition("#")[0]).resolve()
        for index in (top, ROOT / "docs/decisions/README.md")
        for target in LINK.findall(prose(index))
    }
    assert [page for page in PAGES if page.is_relative_to(ROOT / "docs") and page.resolve() not in linked] == [top]


def test_the_architecture_names_the_rooms_that_are_there_and_no_others() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    said = {
        name.rstrip("/") for name in INLINE.findall(page) if re.fullmatch(r"(upkeep|components|pipelines)/\w*", name)
    }
    rooms = {"components", "pipelines"}
    for path in (ROOT / "upkeep").iterdir():
        if path.name.startswith("_"):
            continue
        if (path.is_dir() and (path / "__init__.py").exists()) or path.suffix == ".py":
            rooms.add(f"upkeep/{path.stem}")
    assert said == rooms


# --- the tutorial --------------------------------------------------------------------------------------------------

SHARE = 'dropna(subset=["arr_delay"])'
PARAMS = "class_weight: balanced"


@pytest.mark.slow
def test_the_tutorial_goes_as_it_says(tmp_path: Path) -> None:
    """Every ``sh`` block, in order, on a tenth of the flights and with one small candidate: a pass, none, a pass.

    Shuffled labels leave both models guessing. With all flights the verdict is ``fail``; with few, chance may make the
    candidate look better, though not surely: ``insufficient``.
    """
    example = tmp_path / "flights"
    shutil.copytree(ROOT / "examples/flights", example, ignore=shutil.ignore_patterns("work", "__pycache__"))
    maker = (example / "make_data.py").read_text()
    assert maker.count(SHARE) == 1
    (example / "make_data.py").write_text(maker.replace(SHARE, f"{SHARE}.iloc[::10]"))
    spec = (example / "upkeep.yaml").read_text()
    assert spec.count(PARAMS) == 1
    spec = spec.replace(PARAMS, f"{PARAMS}, max_iter: 40, max_leaf_nodes: 12")
    spec = re.sub(r"  - name: linear\n.*?(?=^gate:)", "", spec, flags=re.M | re.S)
    (example / "upkeep.yaml").write_text(f"{spec}explain: {{curves: 0}}\n")  # they train it again and again
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # one thread: with so few rows, threads that wait for each other on busy cores cost more than they do
    environ = os.environ | {"PATH": path, "COLUMNS": "80", "OMP_NUM_THREADS": "1"}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    said = ""
    for block in (each for each in blocks("sh") if each.page.name == "first-update.md"):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=example,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        said += done.stdout
    first, shuffled, mended = re.findall(r"^(?:✓|✗|\?) (pass|fail|insufficient)", said, re.M)
    assert (first, mended) == ("pass", "pass"), said
    assert shuffled in ("fail", "insufficient"), said
    assert [card.version for card in upkeep.versions(example / "upkeep.yaml").cards] == ["v2", "v1"]
    assert "propose v2 at 0 %" in said
    assert "Upkeep-Verdict: pass" in said
    too_wide = [line for line in said.splitlines() if len(line) > 80 and not line.startswith(("commit", "page", "   "))]
    assert too_wide == []
