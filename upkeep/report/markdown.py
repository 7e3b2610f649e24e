"""An update in a few lines of Markdown: for the KFP page and for a pull request's comment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from upkeep.evaluation.result import Paired, Scores
from upkeep.report import words
from upkeep.report.headline import headline
from upkeep.report.view import UpdateView

_MARKS = {"pass": "✅", "fail": "❌", "insufficient": "❔", "unfinished": "❌", "note": "·"}
_SPECIAL = re.compile(r"[\\`*\[\]<>|~$&#]|(?<![^\W_])_|_(?![^\W_])")
_MENTION = re.compile(r"@|#(?=\d)|://|(?<=www)\.|(?<=GH)-(?=\d)", re.IGNORECASE)
"""What makes GitHub and others link a name, an issue or an address."""
_OPENING = re.compile(r"^(?:([-+=:])|(\d+)([.)]))")


def escape(text: object) -> str:
    """``text`` on one line, so that Markdown finds nothing in it: no format, no HTML, no link, no mention."""
    line = " ".join(words.clean(str(text)).split())
    line = _MENTION.sub(lambda found: f"{found[0][0]}\N{ZERO WIDTH SPACE}{found[0][1:]}", line)
    line = _SPECIAL.sub(lambda found: f"\\{found[0]}", line)
    return _OPENING.sub(lambda found: f"\\{found[1]}" if found[1] else f"{found[2]}\\{found[3]}", line)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table whose first column is text and whose others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "| :-- |" + " --: |" * (len(head) - 1)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _differences(paired: Paired) -> list[str]:
    rows = []
    for found in paired.differences:
        between = found.difference
        text = "not defined"
        if between is not None:
            text = f"**{words.signed(between.estimate)}** ({words.signed(between.low)} to {words.signed(between.high)})"
        name = escape(words.metric_name(found.metric))
        rows.append((name, words.number(found.champion), words.number(found.candidate), text))
    levels = " and ".join(sorted({words.level(found.confidence) for found in paired.differences}))
    title = f"On {words.ROW_SETS[paired.row_set]}: {words.plural(paired.rows, 'row')}"
    if paired.groups is not None:
        title += f" in {words.plural(paired.groups, 'group')}"
    table = _table(("Metric", "Champion", "Candidate", f"Difference ({levels} interval)"), rows)
    return ["", f"**{title}**", "", *table]


def _values(row_set: str, scores: Scores) -> list[str]:
    rows = []
    for metric, value in words.in_order(scores.metrics).items():
        spread = scores.intervals.get(metric)
        rows.append((escape(words.metric_name(metric)), words.interval(spread) if spread else words.number(value)))
    title = f"On {escape(words.ROW_SETS.get(row_set, row_set))}: {words.plural(scores.rows, 'row')}"
    return ["", f"**{title}**", "", *_table(("Metric", "Candidate (95 % interval)"), rows)]


def _address(address: str) -> str:
    """An address as a link's target where it is one for the web, else as plain text."""
    if re.fullmatch(r"https?://[^\s<>()\"'`\\|]+", address):
        return f"<{address}>"
    return escape(address)


def update_markdown(view: UpdateView) -> str:
    """The verdict, its reasons, the differences on new and old rows, drift, and where to read on.

    Text from files and specs is escaped: it can neither format, nor link, nor mention anyone.
    """
    head = headline(view)
    lines = [
        f"### {_MARKS.get(head.finding, '')} {escape(view.model)}: {head.word}",
        "",
        escape(head.sentence),
        "",
        f"**What happens next.** {escape(head.next)}",
    ]
    evaluation = view.evaluation
    if evaluation is not None:
        if evaluation.verdict.reasons:
            lines += ["", "**Reasons**", ""]
            lines += [
                f"- {_MARKS.get(reason.finding, '')} {words.finding_word(reason.finding)}: {escape(reason.text)} "
                f"({escape(reason.rule)})"
                for reason in evaluation.verdict.reasons
            ]
        for paired in evaluation.paired:
            if paired.row_set in {"new", "old"} or len(evaluation.paired) == 1:
                lines += _differences(paired)
        if not evaluation.paired:
            for row_set, scores in evaluation.scores.get("candidate", {}).items():
                lines += _values(row_set, scores)
    if view.split_note:
        lines += ["", escape(view.split_note)]
    if view.drift is not None:
        lines += ["", f"**Drift: {words.finding_word(view.drift.finding).lower()}.** {escape(view.drift.summary)}"]
    facts = [f"update {escape(view.update)}"]
    if view.release and view.release.version:
        facts.append(f"version {escape(view.release.version)}")
    if view.release and view.release.commit:
        facts.append(f"commit {escape(view.release.commit[:12])}")
    if view.lineage.dataset:
        facts.append(f"dataset {escape(view.lineage.dataset[:12])}")
    if view.lineage.spec:
        facts.append(f"spec {escape(view.lineage.spec[:12])}")
    lines += ["", " · ".join(facts)]
    if view.links:
        lines += ["", *(f"- {escape(title)}: {_address(address)}" for title, address in view.links.items())]
    return "\n".join(lines) + "\n"
