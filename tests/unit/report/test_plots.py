"""The plots as SVG: parsed, the same each time, with the values they are of."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from tests.unit.report import samples
from upkeep.report import plots


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(svg).iter("text")]


def test_a_histogram_names_its_sides_and_edges() -> None:
    svg = plots.histogram(samples.numeric_drift("temp", effect=0.4))
    assert svg is not None
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    title, description = root.find("title"), root.find("desc")
    assert title is not None and title.text == "Distribution of temp"
    assert description is not None and "KS 0.400" in (description.text or "")
    assert {"reference", "current", "20"} <= set(texts(svg))
    assert "DejaVu" not in svg


def test_plots_repeat_to_the_byte() -> None:
    column = samples.category_drift("dest", [f"D{index}" for index in range(30)], effect=0.2)
    assert plots.histogram(column) == plots.histogram(column)


def test_rare_categories_are_added_up_and_new_ones_marked() -> None:
    column = samples.category_drift("dest", ["a", "b", "c"], effect=0.2)
    column = replace(column, new_categories=("c",))
    svg = plots.histogram(column)
    assert svg is not None
    assert {"a", "b", "c (new)"} <= set(texts(svg))
    many = plots.histogram(samples.category_drift("dest", [f"D{index}" for index in range(30)], effect=0.2))
    assert many is not None
    assert f"{30 - plots.MAX_CATEGORIES} others" in texts(many)


@pytest.mark.parametrize("bins", [1, 2, 3, 41, 200])
def test_any_number_of_bins(bins: int) -> None:
    column = samples.numeric_drift("x", effect=0.2, bins=bins)
    assert plots.histogram(column) is not None


def test_no_histogram_no_plot() -> None:
    assert plots.histogram(replace(samples.numeric_drift("x", effect=0.1), histogram=None)) is None
    assert plots.roc({}) is None
    assert plots.calibration({}) is None
    assert plots.by_period({}, "f1", ()) is None
    assert plots.curve((), "t", "x", "f1") is None


def test_two_plots_share_no_id() -> None:
    one = plots.histogram(samples.numeric_drift("one", effect=0.3))
    two = plots.histogram(samples.numeric_drift("two", effect=0.3))
    assert one is not None and two is not None
    ids = [{node.get("id") for node in ET.fromstring(svg).iter() if node.get("id")} for svg in (one, two)]
    assert not ids[0] & ids[1]


def test_constant_and_single_points_draw() -> None:
    view = samples.passing()
    assert view.evaluation is not None and view.evaluation.curves is not None and view.data is not None
    assert plots.curve(view.evaluation.curves.by_rows[:1], "t", "x", "f1") is not None
    assert plots.rows_by_period(view.data.periods[:1])
    empty = replace(view.data.periods[0], read=0, train=0, validation=0, held_out=0, by_class={}, quarantined=0)
    empty = replace(empty, duplicates=0, kept_out=0)
    assert plots.rows_by_period([empty])
    assert plots.classes_by_period([empty], ("false", "true"), "true")
    assert plots.classes_by_period([empty], ("a", "b", "c"), None)


@pytest.mark.parametrize("form", ["2024-01-{:02}", "2024-W{:02}", "2024-{:02}"])
def test_periods_by_the_calendar_are_never_cut(form: str) -> None:
    view = samples.passing()
    assert view.data is not None
    periods = [replace(view.data.periods[0], period=form.format(number)) for number in range(1, 29)]
    shown = texts(plots.rows_by_period(periods))
    named = [text for text in shown if text.startswith("2024")]
    assert len(named) >= 3
    assert set(named) <= {period.period for period in periods}
