"""Tables and paragraphs in a terminal of 80 columns."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from upkeep.cli.show import console, hanging, short, show_problem, table
from upkeep.errors import Problem, Where


def shown(what: object) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=80, highlight=False).print(what)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_cells_that_must_stay_whole_do() -> None:
    rows = table("version", "note", "digest", whole=("version", "digest"))
    rows.add_row("v1", "a long note, " * 12, "59ebbe841fb9")
    lines = shown(rows)
    assert any("59ebbe841fb9" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_a_paragraph_hangs_below_its_own_beginning() -> None:
    first, second, *_ = shown(hanging("drift   ", "words " * 30))
    assert first.startswith("drift    words")
    assert second.startswith("         words")


def test_digests_are_shortened_and_nothing_else() -> None:
    assert short("ab" * 32) == "ab" * 6
    assert short("0f" * 20) == "0f" * 6
    for text in ("2013-01, 2013-02", "boosting", "a" * 63, "g" * 64, ""):
        assert short(text) == text


def test_nothing_that_is_shown_can_move_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "a\x1b[2Jb\rc\x9b1md\u202ee"
    out = console()
    out.print(evil)
    rows = table("name", evil)
    rows.add_row("x", evil)
    out.print(rows)
    out.print(hanging("[dim]name[/]", evil))
    show_problem(Problem(evil, Where(file=evil), evil))
    said = "".join(capsys.readouterr())
    assert said.count("a\N{REPLACEMENT CHARACTER}[2Jb") == 7
    assert not set(said) & set("\x1b\r\x9b\u202e")
