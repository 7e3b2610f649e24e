"""The pages in a real browser: nothing overflows, nothing complains, nothing is fetched, all of it prints.

The pictures stand in $UPKEEP_SCREENSHOTS where that is set, else in pytest's own folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import Browser, find
from tests.unit.report import rollout_samples, samples
from upkeep.report.drift_page import drift_page
from upkeep.report.rollout_page import rollout_page
from upkeep.report.update_page import update_page

PROGRAM = find()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no browser: install chromium, or set CHROME to the path of a Chromium or Chrome"
)
WIDTHS = (390, 768, 1280)
NAMES = (
    "first",
    "passing",
    "going_on",
    "failing",
    "insufficient",
    "empty",
    "broken_off",
    "multiclass",
    "hostile",
    "huge",
    "drift",
)
ROLLOUTS = rollout_samples.views()
READ = ("passing", "going_on", "failing", "insufficient")

TOO_WIDE = "document.scrollingElement.scrollWidth"
CUT_OFF = """[...document.querySelectorAll('th, td, dd, dt, p, li, figcaption, h1, h2, h3')]
    .filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display != 'inline' && e.clientWidth > 0
                 && !e.closest('.scroll') && !e.closest('thead'))
    .map(e => e.outerHTML.slice(0, 120))"""
CONTRAST = """(() => {
  const channel = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const behind = e => {
    let layers = [];
    for (; e; e = e.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(e).backgroundColor);
      if (a > 0) layers.push([r, g, b, a]);
      if (a == 1) break;
    }
    return layers.reverse().reduce((under, [r, g, b, a]) =>
      [r, g, b].map((c, i) => c * a + under[i] * (1 - a)), [255, 255, 255]);
  };
  const poor = new Set();
  for (const e of document.body.querySelectorAll('*')) {
    if (![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim())) continue;
    const style = getComputedStyle(e);
    if (style.display == 'none') continue;
    const [a, b] = [parse(e.closest('svg') ? style.fill : style.color), behind(e)].map(luminance);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.add(ratio.toFixed(2) + ' ' + e.outerHTML.slice(0, 100));
  }
  return [...poor];
})()"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("UPKEEP_SCREENSHOTS")
    found = Path(named) if named else tmp_path_factory.mktemp("pages")
    found.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        page = drift_page(samples.drift_report()) if name == "drift" else update_page(samples.ALL[name]())
        (found / f"{name}.html").write_text(page, encoding="utf-8")
    for name, view in ROLLOUTS.items():
        (found / f"{name}.html").write_text(rollout_page(view), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    found = Browser(PROGRAM, tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", [*NAMES, *ROLLOUTS])
def test_a_page_fits_its_window_and_asks_for_nothing(browser: Browser, folder: Path, name: str, width: int) -> None:
    browser.open(folder / f"{name}.html", width=width)
    assert browser.evaluate("document.querySelector('h1').textContent.length") > 0
    assert browser.evaluate(TOO_WIDE) <= width
    browser.evaluate("document.querySelectorAll('details').forEach(found => found.open = true)")
    assert browser.evaluate(TOO_WIDE) <= width
    assert browser.evaluate(CUT_OFF) == []
    assert browser.complaints() == []
    assert [address for address in browser.requests() if not address.startswith("file:")] == []
    browser.screenshot(folder / f"{name}-{width}.png")
    assert (folder / f"{name}-{width}.png").stat().st_size > 5_000


@pytest.mark.parametrize("name", [*READ, "drift", "rollouts", "rollout waiting"])
def test_text_stands_out_from_its_ground(browser: Browser, folder: Path, name: str) -> None:
    browser.open(folder / f"{name}.html", width=1280)
    browser.evaluate("document.querySelectorAll('details').forEach(found => found.open = true)")
    assert browser.evaluate(CONTRAST) == []


def settles(browser: Browser, expression: str) -> bool:
    """Whether it becomes true within five seconds: a new medium is laid out with the next frame, not at once."""
    for _ in range(50):
        if browser.evaluate(expression):
            return True
        time.sleep(0.1)
    return False


def test_print_shows_what_is_folded_and_whole_digests(browser: Browser, folder: Path) -> None:
    browser.open(folder / "passing.html", width=794)
    shown = """[...document.querySelectorAll('details:not([open])')].every(
        found => found.querySelector(':scope > :not(summary)').checkVisibility({contentVisibilityAuto: true}))"""
    whole = "getComputedStyle(document.querySelector('.digest .full')).display"
    assert not browser.evaluate(shown)
    assert browser.evaluate(whole) == "none"
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert settles(browser, shown)
        assert browser.evaluate(whole) == "inline"
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")
    browser.pdf(folder / "passing.pdf")
    assert (folder / "passing.pdf").read_bytes().startswith(b"%PDF")


def test_nothing_hostile_runs(browser: Browser, folder: Path) -> None:
    browser.open(folder / "hostile.html", width=1280)
    assert browser.evaluate("document.scripts.length") == 0
    assert browser.evaluate("document.querySelectorAll('[onclick]').length") == 0
    assert not [event for event in browser.events if event["method"] == "Page.javascriptDialogOpening"]
