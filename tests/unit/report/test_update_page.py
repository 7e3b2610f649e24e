"""The update page: whole, closed in itself, honest about what is not known."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.unit.report import samples
from upkeep.evaluation.result import Interval
from upkeep.records import from_json, to_json
from upkeep.report import plots, words
from upkeep.report.drift_page import drift_page
from upkeep.report.headline import headline
from upkeep.report.update_page import update_page
from upkeep.report.view import UpdateView

VOID = {"meta", "br", "hr", "img", "input", "link"}
NEVER = {"script", "link", "img", "iframe", "object", "embed", "base", "form", "video", "audio", "source", "image"}


class Page(HTMLParser):
    """Reads a page, and fails where a tag is not closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> says an attribute twice: {names}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self._open, f"<{tag}/> outside SVG"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@functools.cache
def page_of(name: str) -> str:
    return drift_page(samples.drift_report()) if name == "drift" else update_page(samples.ALL[name]())


NAMES = [*samples.ALL, "drift"]


@pytest.mark.parametrize("name", NAMES)
def test_every_page_is_well_formed_and_loads_nothing(name: str) -> None:
    page = Page(page_of(name))
    assert not {tag for tag, _ in page.tags} & NEVER
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        assert not [key for key in attributes if key.startswith("on")]
        for key in ("src", "href", "xlink:href", "action", "data", "poster"):
            value = attributes.get(key)
            if value is not None:
                assert value.startswith("#") or tag == "a", (tag, key, value)
            if value is not None and value.startswith("#"):
                assert value[1:] in ids
        for value in attributes.values():
            for target in re.findall(r"url\(([^)]*)\)", value or ""):
                assert target.strip("'\"#") in ids
    style = re.search(r"<style>(.*?)</style>", page_of(name), re.S)
    assert style is not None
    assert "@import" not in style[1]
    assert "url(" not in style[1]
    assert "default-src 'none'" in page_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_page_reads_well_without_eyes(name: str) -> None:
    page = Page(page_of(name))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(next_ <= level + 1 for level, next_ in itertools.pairwise(levels)), levels
    for tag, attributes in page.tags:
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or (
                attributes.get("role") == "img" and (attributes.get("aria-label") or attributes.get("aria-labelledby"))
            )
        if tag == "th":
            assert attributes.get("scope") in {"col", "row"}
    ids = {attributes.get("id") for _, attributes in page.tags}
    for _, attributes in page.tags:
        for key in ("aria-labelledby", "aria-describedby"):
            assert set((attributes.get(key) or "").split()) <= ids
    assert ("html", {"lang": "en"}) in page.tags


@pytest.mark.parametrize("name", ["passing", "hostile"])
def test_the_same_view_gives_the_same_bytes(name: str) -> None:
    assert update_page(samples.ALL[name]()) == page_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_no_page_is_large(name: str) -> None:
    assert len(page_of(name).encode()) < 1_500_000


def test_hostile_text_stays_text() -> None:
    assert "<script" not in page_of("hostile").lower()
    page = Page(page_of("hostile"))
    assert page.text.count(samples.HOSTILE) > 30
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a" and "rel" in attributes]
    assert links == ['https://example.org/"onclick="alert(1)']


@pytest.mark.parametrize(
    "text",
    [
        "\x00\x08\x1b[31m",
        "\ud800",
        "$x^2$ \\frac{",
        "_begins",
        "日本語 🛫",
        "",
        " ",
        "{{ 7*7 }}",
        "]]>-->",
        "a\nb\tc",
        "&amp;",
    ],
    ids=repr,
)
def test_any_name_is_shown(text: str) -> None:
    page = update_page(samples.hostile(text))
    page.encode()
    assert " ".join(words.clean(text).split()) in Page(page).text
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", page)


def numbers(view: UpdateView) -> Iterator[str]:
    """What a reader of the records must find on the page, as it is written there."""
    evaluation = view.evaluation
    assert evaluation is not None and view.drift is not None and view.data is not None and view.release is not None
    for paired in evaluation.paired:
        yield words.count(paired.rows)
        for count in (paired.both_right, paired.only_champion_right, paired.only_candidate_right, paired.both_wrong):
            if paired.row_set != "all":
                yield words.count(count)
        for difference in paired.differences:
            yield words.number(difference.champion)
            yield words.number(difference.candidate)
            assert difference.difference is not None
            yield words.signed(difference.difference.estimate)
            yield f"({words.signed(difference.difference.low)} to {words.signed(difference.difference.high)})"
    for candidate in evaluation.candidates:
        yield from (candidate.name, candidate.strategy, candidate.note, candidate.model[:12])
        assert candidate.validation is not None
        yield words.number(candidate.validation.metrics["f1"])
    for reason in evaluation.verdict.reasons:
        yield from (reason.text, reason.rule)
    for found in evaluation.slices:
        yield f"{found.column} = {found.value}"
        if found.difference:
            yield f"({words.signed(found.difference.low)} to {words.signed(found.difference.high)})"
        else:
            yield found.reason
    for fair in evaluation.fairness:
        yield from (fair.reason, *fair.too_small)
        if fair.candidate:
            yield words.number(fair.candidate.estimate)
    for important in evaluation.importance:
        yield important.column
        yield words.number(important.candidate[0] if important.candidate else None)
    for cost in evaluation.cost.values():
        yield from (
            words.number(cost.latency_ms_p95, 2),
            words.count(cost.rows_per_second),
            words.size(cost.size_bytes),
        )
    for scores in (evaluation.scores["champion"]["new"], evaluation.scores["candidate"]["new"]):
        yield from (words.count(n) for row in scores.confusion for n in row)
    assert evaluation.curves is not None
    yield from (evaluation.curves.more_data, evaluation.curves.more_often)
    for point in evaluation.curves.by_rows + evaluation.curves.by_periods + evaluation.curves.by_age:
        yield words.number(point.score.estimate)
    for period in view.data.periods:
        yield period.period
        for value in (
            period.read,
            period.quarantined,
            period.train,
            period.validation,
            period.held_out,
            period.kept_out,
        ):
            yield words.count(value)
        yield from period.reasons
    for column in view.drift.columns:
        yield from (column.column, column.reason, words.number(column.effect), words.p_value(column.adjusted_p_value))
        yield from (words.number(value) for value in column.statistics.values())
    assert view.drift.two_sample is not None and view.drift.decay is not None
    yield from (words.number(view.drift.two_sample.auc), view.drift.two_sample.reason, view.drift.decay.reason)
    yield words.signed(view.drift.decay.unexplained_rise)
    for trained in view.training:
        yield words.count(trained.rows)
        yield words.seconds(trained.seconds)
    assert view.dataset is not None and view.release.commit is not None and view.lineage.spec is not None
    yield from (file.digest for file in view.dataset.files)
    yield from (view.release.commit, view.lineage.spec, view.lineage.code["lock"], view.split_note, *view.notes)


def test_what_matters_is_on_the_page() -> None:
    text = Page(page_of("passing")).text
    missing = [found for found in numbers(samples.passing()) if " ".join(found.split()) not in text]
    assert missing == []


def test_a_first_champion_shows_its_own_scores() -> None:
    view = samples.first()
    assert view.evaluation is not None
    text = Page(page_of("first")).text
    for metric, value in view.evaluation.scores["candidate"]["all"].metrics.items():
        assert f"{words.metric_name(metric)}" in text
        assert words.number(value) in text
    assert "there is no champion to compare with" in text


def test_a_first_versions_slices_are_the_candidates_own() -> None:
    part = page_of("first").split('<h2 id="slices">Slices</h2>')[1].split("</section>")[0]
    text = Page(part).text
    assert "of the candidate: there is no champion to compare with" in text
    assert "Measured" in text
    assert "not known" not in text
    assert "Champion" not in text
    measured = [one for one in samples.slices() if one.finding != "insufficient"]
    assert len(measured) > 3
    assert all(words.number(one.candidate["f1"]) in text for one in measured[:10])


@pytest.mark.parametrize(
    ("name", "word", "shape"),
    [("passing", "Pass", "pass"), ("failing", "Fail", "fail"), ("insufficient", "Insufficient evidence", "unsure")],
)
def test_the_verdict_is_told_by_word_and_shape(name: str, word: str, shape: str) -> None:
    head = page_of(name).split('<main id="content">')[0]
    assert f'<p class="word">{word}</p>' in head
    assert f"verdict tone-{shape}" in head
    icons = {tone: re.findall(r"<svg.*?</svg>", page_of(tone))[0] for tone in ("passing", "failing")}
    assert icons["passing"] != icons["failing"]


def test_what_stands_against_a_pass_is_in_the_headline() -> None:
    head = page_of("failing").split('<main id="content">')[0]
    view = samples.failing()
    assert view.evaluation is not None
    for reason in view.evaluation.verdict.reasons:
        assert (reason.text in unescape(head)) == (reason.finding != "pass")


def test_no_evaluation_is_never_a_pass() -> None:
    assert headline(samples.empty()).finding == "insufficient"
    assert headline(samples.broken_off()).finding == "unfinished"
    passed_and_failed = dataclasses.replace(samples.passing(), failed="the disk is full")
    assert headline(passed_and_failed).finding == "unfinished"
    assert "No space left" in Page(update_page(samples.broken_off())).text


def test_columns_that_could_not_be_judged_are_not_called_stable() -> None:
    text = Page(page_of("insufficient")).text
    assert "No feature column drifted" not in text
    assert "4 columns could not be judged" in text


def without(record: Any, names: tuple[str, ...]) -> Any:
    """The record with the field that ``names`` leads to set to None."""
    if isinstance(record, tuple):
        return tuple(without(item, names) for item in record)
    if isinstance(record, dict):
        return {key: without(item, names) for key, item in record.items()}
    if record is None:
        return None
    head, *rest = names
    return dataclasses.replace(record, **{head: without(getattr(record, head), tuple(rest)) if rest else None})


def optional(kind: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The way to every field, below ``kind``, that may be None."""
    for name, hint in typing.get_type_hints(kind).items():
        arms = typing.get_args(hint)
        if type(None) in arms:
            yield (*names, name)
        inner = [hint, *arms, *(deep for arm in arms for deep in typing.get_args(arm))]
        inner += [deeper for arm in inner for deeper in typing.get_args(arm)]
        for found in dict.fromkeys(arm for arm in inner if dataclasses.is_dataclass(arm) and arm is not Interval):
            yield from optional(found, (*names, name))


WAYS = sorted(set(optional(UpdateView)))


class Anything:
    """Whatever is asked of it, it gives itself."""

    def __getattr__(self, name: str) -> Anything:
        return self

    def __call__(self, *args: object, **kwargs: object) -> Anything:
        return self

    def __getitem__(self, key: object) -> Anything:
        return self


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plots do all their arithmetic, and nobody draws."""

    @contextmanager
    def axes(*args: float, **kwargs: float) -> Iterator[tuple[None, Anything]]:
        yield None, Anything()

    monkeypatch.setattr(plots, "canvas", axes)
    monkeypatch.setattr(plots, "to_svg", lambda figure, title, description: "")


def test_there_are_optional_fields() -> None:
    assert ("drift",) in WAYS
    assert ("evaluation", "paired", "mcnemar_p") in WAYS
    assert ("drift", "columns", "histogram") in WAYS


@pytest.mark.parametrize("way", WAYS, ids=".".join)
def test_whatever_is_unknown_the_page_is_there(way: tuple[str, ...], no_plots: None) -> None:
    Page(update_page(without(samples.passing(), way)))


def test_plots_live_with_unknown_numbers() -> None:
    view = samples.passing()
    assert view.evaluation is not None

    def blank(record: Any) -> Any:
        metrics = dict.fromkeys(record.metrics)
        return dataclasses.replace(record, metrics=metrics, intervals={}, roc=(), calibration=())

    scores = {who: {key: blank(found) for key, found in sets.items()} for who, sets in view.evaluation.scores.items()}
    periods = {
        who: {key: blank(found) for key, found in sets.items()} for who, sets in view.evaluation.by_period.items()
    }
    evaluation = dataclasses.replace(view.evaluation, scores=scores, by_period=periods)
    Page(update_page(dataclasses.replace(view, evaluation=evaluation)))


@pytest.mark.parametrize("name", ["passing", "empty", "multiclass"])
def test_a_view_is_a_record(name: str) -> None:
    view = samples.ALL[name]()
    assert from_json(UpdateView, to_json(view)) == view


def test_many_classes_are_told_by_their_confusions() -> None:
    text = Page(page_of("many_classes")).text
    assert "the most frequent confusions" in text
    assert "true \\ answer" not in text
    assert "true \\ answer" in Page(page_of("multiclass")).text


def test_small_slices_stand_apart() -> None:
    before, after = Page(page_of("passing")).text.split("Too few rows to judge", 1)
    assert "carrier = OO" not in before
    assert "carrier = OO" in after


def test_what_was_forgotten_stands_in_a_row_a_period_and_what_was_not_chosen_apart() -> None:
    section = page_of("going_on").split('<h2 id="forgetting">Forgetting</h2>')[1].split("</section>")[0]
    chosen, other = section.split("<summary>linear, which was not chosen: on validation rows</summary>")
    text = Page(chosen.rsplit("<details>", 1)[0]).text
    view = samples.going_on()
    assert view.evaluation is not None
    found = view.evaluation.forgetting[0]
    for one in found.periods:
        assert one.change is not None
        row = f"{words.number(one.before)} {words.number(one.after)} {words.signed(one.change.estimate)}"
        assert row in text
    assert f"Backward transfer {words.signed(found.backward)} over 3 old periods" in text
    assert f"Forward transfer {words.signed(found.forward)}" in text
    assert "round 4" in text
    assert "limit −0.010" in chosen
    assert "limit" not in other  # the gate judges the chosen one alone
    assert "forgetting" not in page_of("first")


def test_a_candidate_that_began_or_whose_past_is_lost_says_so(no_plots: None) -> None:
    view = samples.going_on()
    assert view.evaluation is not None
    found = view.evaluation.forgetting[0]

    def page(**changes: Any) -> str:
        evaluation = dataclasses.replace(
            view.evaluation, forgetting=(dataclasses.replace(found, periods=(), **changes),)
        )  # type: ignore[type-var]
        return Page(update_page(dataclasses.replace(view, evaluation=evaluation))).text

    assert "began with this update" in page(went_on_from="")
    assert "if these rows were among it, “before” flatters" in page(from_base=True, went_on_from="its base")
    assert "could not be asked: its bytes are gone" in page(failed="its bytes are gone")
    assert "It once learned 2012-12, of which there are no rows now." in page(missing=("2012-12",))


def test_how_a_network_learned_is_drawn_and_told() -> None:
    text = Page(page_of("going_on")).text
    curve = samples.going_on().training[0].curve
    assert "How network learned 8 epochs, 1,200 steps" in text
    best = min(curve, key=lambda epoch: epoch.watched or 0.0)
    assert f"The weights after epoch {best.number} were kept" in text
    for epoch in curve:
        assert f"{words.number(epoch.loss, 4)} {words.number(epoch.watched, 4)} {words.percent(epoch.accuracy)}" in text
    unwatched = dataclasses.replace(
        samples.going_on().training[0],
        curve=tuple(dataclasses.replace(epoch, watched=None, accuracy=None) for epoch in curve),
    )
    text = Page(update_page(dataclasses.replace(samples.going_on(), training=(unwatched,)))).text
    assert "No rows were watched" in text
    assert "Accuracy by epoch" not in text


def test_what_columns_and_words_added_is_told_by_bar_line_and_figure() -> None:
    section = page_of("going_on").split('<h2 id="importance">Importance of the columns</h2>')[1].split("</section>")[0]
    text = Page(section).text
    view = samples.going_on()
    assert view.evaluation is not None
    found, missing = view.evaluation.attributions
    for one in found.columns:
        assert words.fixed(one.size) in text
    assert "the worst sum misses it by 2.0e−05" in text
    assert f"Not measured Mean |SHAP|: {missing.missing}." in text
    # not by colour alone: a line of its own kind, a legend that says so, and the figures
    assert 'class="token for" style="--s:1.0" title="+0.120">held</mark>' in section
    assert 'class="token against" style="--s:0.58" title="−0.070">for</mark>' in section
    assert "solid line speaks for it" in text
    assert "wavy line speaks against it" in text
    assert "held +0.120;" in text
    assert "and 3 more tokens" in text
    assert "at</mark>" in section
    assert "</mark><mark" in section  # a token that goes on from the one before has no space


def test_hostile_words_stay_words() -> None:
    view = samples.going_on()
    assert view.evaluation is not None
    told = samples.attributions("integrated_gradients", f"fine {samples.HOSTILE} </mark></p><b>")
    page = update_page(dataclasses.replace(view, evaluation=dataclasses.replace(view.evaluation, attributions=(told,))))
    assert "<script" not in page.lower()
    assert samples.HOSTILE.split()[0] in Page(page).text
