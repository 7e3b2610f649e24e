from __future__ import annotations

from tests.simulation.diagram import COLUMNS, PAGE, PICTURE, PLACES, explore, page, picture


def test_the_page_and_its_picture_are_what_the_code_does() -> None:
    found = explore()
    text = PAGE.read_text()
    assert page(text, found) == text, "make them anew: python -m tests.simulation.diagram"
    assert picture(found) == PICTURE.read_text(), "make it anew: python -m tests.simulation.diagram"


def test_the_exploration_reaches_every_phase() -> None:
    found = explore()
    assert {phase for _, phase in found.cells} == set(COLUMNS)
    assert {name for edge in found.edges for name in edge} == set(PLACES)
    # never straight from nothing to all, never forward out of a roll-back, but by a person
    assert {end for begin, end in found.edges if begin == "rolling_back"} == {"rolled_back"}
    assert {begin for begin, end in found.edges if end == "succeeded" and found.edges[begin, end] != "person"} == {
        "baking",
        "promoting",
    }
