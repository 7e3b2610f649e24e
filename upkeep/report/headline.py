"""What an update says in a word, a sentence and a next step: the same on the page, in Markdown and in the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from upkeep.evaluation.result import Difference, Reason
from upkeep.report import words
from upkeep.report.view import UpdateView

_NEXT = {
    "pass": "The candidate may be released.",
    "fail": "Nothing was registered or proposed; the champion goes on serving.",
    "insufficient": "There is not enough evidence for a change, so nothing changes.",
}


@dataclass(frozen=True)
class Headline:
    finding: str
    """pass, fail, insufficient, or unfinished."""
    word: str
    sentence: str
    next: str


def headline(view: UpdateView) -> Headline:
    """The verdict, one sentence, and what happens next. Whatever is missing is never a pass."""
    if view.failed:
        outcome = view.release.outcome if view.release else "Nothing was decided; what serves goes on serving."
        return Headline("unfinished", words.finding_word("unfinished"), view.failed, outcome)
    if view.evaluation is None:
        outcome = view.release.outcome if view.release else _NEXT["insufficient"]
        return Headline("insufficient", "No verdict", "The candidates were not evaluated.", outcome)
    verdict = view.evaluation.verdict
    outcome = view.release.outcome if view.release else _NEXT[verdict.verdict]
    return Headline(verdict.verdict, words.finding_word(verdict.verdict), verdict.summary, outcome)


def deciding_reasons(view: UpdateView) -> tuple[Reason, ...]:
    """The gate's reasons that stand against a pass; failures first."""
    if view.evaluation is None:
        return ()
    against = [r for r in view.evaluation.verdict.reasons if r.finding in {"fail", "insufficient"}]
    return tuple(sorted(against, key=lambda reason: reason.finding != "fail"))


def key_difference(view: UpdateView) -> tuple[str, Difference] | None:
    """The gate's metric on the rows it is asked for (new, else all): row set and difference."""
    if view.evaluation is None:
        return None
    for row_set in ("new", "all", "old"):
        for paired in view.evaluation.paired:
            if paired.row_set == row_set:
                for difference in paired.differences:
                    if difference.metric == view.evaluation.metric:
                        return row_set, difference
    return None
