"""The short forms: Markdown and plain lines."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.report import samples
from upkeep.report import words
from upkeep.report.markdown import escape, update_markdown


def test_markdown_says_verdict_reasons_and_differences() -> None:
    view = samples.failing()
    assert view.evaluation is not None
    text = update_markdown(view)
    assert text.startswith("### ❌ flight-delays: Fail\n")
    for reason in view.evaluation.verdict.reasons:
        assert escape(reason.text) in text
    for difference in view.evaluation.paired[0].differences:
        assert difference.difference is not None
        assert f"**{words.signed(difference.difference.estimate)}**" in text
    assert "goes on serving" in text


def test_links_are_links_only_to_the_web() -> None:
    view = samples.replace(
        samples.passing(),
        links={"Page": "https://example.org/a_b", "Bad": "javascript:alert(1)", "File": "work/page.html"},
    )
    text = update_markdown(view)
    assert "- Page: <https://example.org/a_b>" in text
    assert "<javascript" not in text
    assert "- File: work/page.html" in text


def test_tables_keep_their_columns_whatever_a_name_holds() -> None:
    text = update_markdown(samples.hostile("a|b\n|c <b>x</b>"))
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5
    assert "<b>" not in text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("<script>", r"\<script\>"),
        ("roc_auc", "roc_auc"),
        ("_it_", r"\_it\_"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("@team", "@\u200bteam"),
        ("#12", "\\#\u200b12"),
        ("https://a.example", "https:\u200b//a.example"),
        ("a\n# b", r"a \# b"),
    ],
)
def test_escaped(text: str, wanted: str) -> None:
    assert escape(text) == wanted


@given(st.text(alphabet="<>&[]()!`*_|\\ab\n:/@#"))
def test_nothing_special_is_left_bare(text: str) -> None:
    bare = re.sub(r"\\.", "x", escape(text))  # an escaped character is a plain one
    assert not re.search(r"[<>&`*\[\]|]", bare)
    assert "://" not in bare
    assert "\n" not in bare


@pytest.mark.parametrize("name", samples.ALL)
def test_the_same_view_gives_the_same_markdown(name: str) -> None:
    assert update_markdown(samples.ALL[name]()) == update_markdown(samples.ALL[name]())
