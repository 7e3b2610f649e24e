"""The page of rollouts: everything that was decided is on it, and nothing that was not."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from tests.unit.report.rollout_samples import rollout, views
from upkeep.report.rollout_page import PHASE_WORDS, rollout_page
from upkeep.report.rollout_plots import e_values, evidence, timeline

VIEWS = views()


@pytest.mark.parametrize("name", VIEWS)
def test_a_page_is_whole_and_alone(name: str) -> None:
    page = rollout_page(VIEWS[name])
    assert page == rollout_page(VIEWS[name])
    assert page.startswith("<!doctype html>")
    assert "<script" not in page
    assert not re.search(r"""(src|href)=["'](?!#)""", page)
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ET.fromstring(drawing)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_both_ends_are_told() -> None:
    view = VIEWS["rollouts"]
    page = rollout_page(view)
    bad, good = view.rollouts
    assert (bad.phase, good.phase) == ("rolled_back", "succeeded")
    assert f"{bad.canary}: {PHASE_WORDS['rolled_back']}" in page
    assert f"{good.canary}: {PHASE_WORDS['succeeded']}" in page
    for each in view.rollouts:
        for move in each.moves:
            assert move.commit in page
            assert move.title in page
        for metric in each.analysis.metrics if each.analysis else ():
            assert metric.text in page


def test_a_rollout_that_nobody_measured_says_so() -> None:
    page = rollout_page(VIEWS["rollout waiting"])
    assert "None yet." in page
    assert "no counters were read" in page
    assert "Pass" not in page
    assert "a person’s word" in page
    assert "Labels could not be read" in page


def test_a_canary_that_no_user_met_is_told_so() -> None:
    view = VIEWS["rollouts"]
    bad = view.rollouts[0]
    unmet = replace(bad, traffic=tuple(replace(each, requests=0, failed=0, slow=0) for each in bad.traffic))
    assert f"No user met {bad.canary}." in rollout_page(replace(view, rollouts=(unmet,)))
    assert "No user met" not in rollout_page(view)


def test_without_rollouts() -> None:
    assert "No version was rolled out yet." in rollout_page(VIEWS["rollout none"])


def test_the_plots_say_their_numbers_in_words() -> None:
    view = rollout(0.002)
    drawn = timeline(view)
    assert drawn is not None
    assert all(move.title in drawn for move in view.moves)
    assert "margin" in (evidence(view.looks, "errors") or "")
    assert "E-values over time" in (e_values(view.looks, "errors", 200, 20) or "")
    assert evidence(view.looks, "nothing") is None
    assert e_values((), "errors", None, None) is None
