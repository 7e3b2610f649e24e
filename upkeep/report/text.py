"""An update in a few plain lines, for a terminal: the words of the page."""

from __future__ import annotations

from upkeep.report import words
from upkeep.report.headline import headline, key_difference
from upkeep.report.view import UpdateView


def update_lines(view: UpdateView) -> tuple[str, ...]:
    """Verdict, key difference, reasons, drift, data, and what happens next: a line each, without markup or colour."""
    head = headline(view)
    lines = [f"{head.word}: {head.sentence}"]
    found = key_difference(view)
    if found:
        row_set, key = found
        lines.append(
            f"{words.metric_name(key.metric)} on {words.ROW_SETS[row_set]}: {words.number(key.champion)} → "
            f"{words.number(key.candidate)}, difference {words.interval(key.difference, sign=True)} "
            f"at {words.level(key.confidence)}"
        )
    if view.evaluation:
        lines += [f"{words.finding_word(reason.finding)}: {reason.text}" for reason in view.evaluation.verdict.reasons]
    if view.drift:
        lines.append(f"Drift: {words.finding_word(view.drift.finding).lower()}. {view.drift.summary}")
    if view.data:
        read = sum(period.read for period in view.data.periods) + view.data.undated
        refused = sum(period.quarantined for period in view.data.periods) + view.data.undated
        lines.append(
            f"Data: {words.plural(read, 'row')} in {words.plural(len(view.data.periods), 'period')}, "
            f"{words.count(refused)} refused"
        )
    lines.append(f"Next: {head.next}")
    return tuple(words.shorten(line, 2_000) for line in lines)
