"""The gate: one pure function from the spec's rules and the evidence to a verdict. docs/explanation/gate.md says the
same for people.

Any rule that fails → ``fail``; else any that cannot be decided → ``insufficient``; else ``pass``. A number that is
missing, NaN or infinite never decides in favour: its rule is ``insufficient``. Nothing here measures; nothing is read
but the arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from upkeep.evaluation.fairness import MEASURES, judge
from upkeep.evaluation.metrics import COUNTED, LOWER_IS_BETTER
from upkeep.evaluation.result import (
    Cost,
    Difference,
    FairnessResult,
    Forgetting,
    Interval,
    Paired,
    PeriodChange,
    Reason,
    Scores,
    SliceResult,
    Verdict,
    VerdictName,
)
from upkeep.spec import model as spec

Case = Literal["first", "champion", "changed_features", "changed_classes", "champion_unreadable", "adopted_unknown"]
MEGABYTE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the gate may go by."""

    case: Case
    champion: str | None
    """The version that serves."""
    candidate: str | None
    """The chosen candidate; None: none could be trained or asked."""
    failed: tuple[str, ...] = ()
    """Why candidates are missing, a sentence each."""
    cannot_compare: str = ""
    """Why the champion cannot be asked on these rows, and what to do; empty: it can."""
    notes: tuple[str, ...] = ()
    """What a reader should know of the comparison; decides nothing."""
    decision: Paired | None = None
    """Both models on the rows that decide: held-out rows newer than the champion."""
    old: Paired | None = None
    """Both models on held-out rows of the periods the champion knew."""
    old_expected: bool = True
    """False where the way of splitting leaves no held-out rows of old periods, or they would flatter the champion."""
    scores: Scores | None = None
    """The candidate on all held-out rows."""
    slices: tuple[SliceResult, ...] = ()
    fairness: tuple[FairnessResult, ...] = ()
    cost: Cost | None = None
    """The candidate's."""
    went_on: bool = False
    """The candidate went on from a model that knew something already, so there is something to forget."""
    forgetting: Forgetting | None = None
    """What it forgot on held-out rows."""


def gate(rules: spec.Gate, evidence: Evidence) -> Verdict:
    """The verdict, with one reason a rule: what was measured, against what, and what follows."""
    if evidence.candidate is None:
        why = "; ".join(evidence.failed) or "none was trained"
        reason = Reason(rule="candidates", finding="insufficient", text=f"No candidate could be judged: {why}.")
        return _verdict(evidence, [reason], "There is no candidate to judge; what serves now stays.")
    reasons = [Reason(rule="candidates", finding="note", text=f"{text}.") for text in evidence.failed]
    reasons += [Reason(rule="champion", finding="note", text=text) for text in evidence.notes]
    if evidence.case == "first":
        reasons.append(_enough_rows(rules, evidence.scores))
    elif evidence.cannot_compare:
        reasons.append(Reason(rule="champion", finding="insufficient", text=evidence.cannot_compare))
    else:
        reasons.append(_better(rules, evidence.decision))
        reasons.append(_old(rules, evidence))
        reasons += _slices(rules, evidence.slices)
    reasons += _forgetting(rules, evidence)
    reasons += _at_least(rules, evidence.scores)
    reasons += _fairness(rules, evidence)
    reasons += _budgets(rules, evidence.cost)
    return _verdict(evidence, reasons, "")


def _verdict(evidence: Evidence, reasons: list[Reason], summary: str) -> Verdict:
    findings = [reason.finding for reason in reasons]
    verdict: VerdictName = "fail" if "fail" in findings else "pass" if "pass" in findings else "insufficient"
    if verdict == "pass" and "insufficient" in findings:
        verdict = "insufficient"
    if not summary:
        deciding = next((reason.text for reason in reasons if reason.finding == verdict), "")
        against = f" against {evidence.champion}" if evidence.champion and evidence.case != "first" else ""
        opening = {
            "pass": f"{evidence.candidate} passes{against}",
            "fail": f"{evidence.candidate} is rejected{against}",
            "insufficient": f"There is not enough evidence for {evidence.candidate}{against}",
        }[verdict]
        summary = f"{opening}. {deciding}"
    return Verdict(verdict=verdict, summary=summary, case=evidence.case, reasons=tuple(reasons))


def _known(*numbers: float | None) -> bool:
    return all(value is not None and math.isfinite(value) for value in numbers)


def _sound(interval: Interval | None) -> Interval | None:
    """The interval, if it is one: finite, and in order."""
    if interval is None or not _known(interval.estimate, interval.low, interval.high):
        return None
    return interval if interval.low <= interval.estimate <= interval.high else None


def _of(paired: Paired, metric: str) -> Difference | None:
    return next((difference for difference in paired.differences if difference.metric == metric), None)


def _label(metric: str) -> str:
    return {"f1": "F1", "roc_auc": "ROC AUC", "log_loss": "log loss"}.get(metric, metric)


def _where(paired: Paired) -> str:
    kind = f"{paired.row_set} " if paired.row_set in ("new", "old") else ""
    rows = f"{paired.rows:,} {kind}held-out rows"
    return rows + (f" in {paired.groups:,} groups" if paired.groups is not None else "")


def _measured(difference: Difference, gap: Interval, where: str) -> str:
    direction = " in the better direction" if difference.metric in LOWER_IS_BETTER else ""
    return (
        f"{_label(difference.metric)} {difference.champion:.3f} → {difference.candidate:.3f} on {where}: "
        f"{gap.estimate:+.3f}{direction} ({difference.confidence:.0%} interval {gap.low:+.3f} to {gap.high:+.3f})"
    )


def _enough_rows(rules: spec.Gate, scores: Scores | None) -> Reason:
    """The first version: nothing to beat, but it must have been seen to work on enough rows."""
    rule, metric = "gate.min_rows", rules.better.metric
    rows = scores.rows if scores else 0
    if scores is None or not _known(scores.rows) or rows < rules.min_rows:
        text = f"The first version was scored on {rows or 0:,} held-out rows; {rules.min_rows:,} are needed."
        return Reason(rule=rule, finding="insufficient", text=text)
    value = scores.metrics.get(metric)
    if value is None or not _known(value):
        text = f"{_label(metric)} is not defined on the {rows:,} held-out rows (is a class missing?)."
        return Reason(rule=rule, finding="insufficient", text=text)
    text = f"The first version has nothing to beat: {_label(metric)} {value:.3f} on {rows:,} held-out rows."
    return Reason(rule=rule, finding="pass", text=text)


def _better(rules: spec.Gate, paired: Paired | None) -> Reason:
    rule, better = "gate.better", rules.better

    def say(finding: Literal["pass", "fail", "insufficient"], text: str) -> Reason:
        return Reason(rule=rule, finding=finding, text=text)

    if paired is None or not _known(paired.rows) or paired.rows < rules.min_rows:
        rows = paired.rows if paired and _known(paired.rows) else 0
        return say(
            "insufficient",
            f"{rows:,} held-out rows are newer than the champion; {rules.min_rows:,} are needed. Wait for more data.",
        )
    difference = _of(paired, better.metric)
    gap = _sound(difference.difference) if difference else None
    if difference is None or gap is None or not _known(difference.champion, difference.candidate):
        few = "" if paired.groups is None else f" (they come from {paired.groups} groups; 5 are the least)"
        return say(
            "insufficient",
            f"The difference of {_label(better.metric)} on {_where(paired)} cannot be told with an interval{few}.",
        )
    if not _known(difference.confidence) or difference.confidence < better.confidence:
        return say("insufficient", f"The interval is not at the {better.confidence:.0%} asked for.")
    text = _measured(difference, gap, _where(paired))
    if gap.estimate <= 0:
        return say("fail", f"{text}: not better.")
    if gap.estimate < better.by:
        return say("fail", f"{text}: better, but by less than the {better.by:g} asked for.")
    if gap.low <= 0:
        return say("insufficient", f"{text}: it looks better, but the interval reaches zero. More rows would tell.")
    if better.metric in COUNTED and not _enough_flips(paired, better.confidence):
        return say("insufficient", f"{text}: but too few rows are answered rightly by just one of the two to go by.")
    asked = f", at least {better.by:g} asked for" if better.by else ""
    return say("pass", f"{text}: better{asked}.")


def _enough_flips(paired: Paired, confidence: float) -> bool:
    """Whether the rows on which just one model is right could show a difference, were they all on one side.

    A bootstrap interval of four or five such rows lies above zero, when even McNemar's exact test would not reject:
    its least p for n of them is 2 × 0.5ⁿ.
    """
    if not _known(paired.only_champion_right, paired.only_candidate_right):
        return False
    return paired.only_champion_right + paired.only_candidate_right >= math.log2(2 / (1 - confidence))


def _old(rules: spec.Gate, evidence: Evidence) -> Reason:
    rule, allowed, paired = "gate.old.worse_by_at_most", rules.old.worse_by_at_most, evidence.old
    if not evidence.old_expected:
        text = "There are no held-out rows of old periods on which the champion could be judged fairly; not asked."
        return Reason(rule=rule, finding="note", text=text)
    if paired is None or not _known(paired.rows) or paired.rows < rules.min_rows:
        rows = paired.rows if paired and _known(paired.rows) else 0
        text = (
            f"{rows:,} held-out rows are of the champion's own periods; {rules.min_rows:,} are needed to see what is "
            "forgotten. Keep the old periods in data.source."
        )
        return Reason(rule=rule, finding="insufficient", text=text)
    difference = _of(paired, rules.better.metric)
    gap = _sound(difference.difference) if difference else None
    if (
        difference is None
        or gap is None
        or not _known(difference.champion, difference.candidate, difference.confidence)
    ):
        text = f"The difference of {_label(rules.better.metric)} on {_where(paired)} cannot be told with an interval."
        return Reason(rule=rule, finding="insufficient", text=text)
    text = _measured(difference, gap, _where(paired))
    if gap.estimate < -allowed:
        return Reason(rule=rule, finding="fail", text=f"{text}: worse there by more than the {allowed:g} allowed.")
    doubt = f", though the interval reaches {gap.low:+.3f}" if gap.low < -allowed else ""
    return Reason(rule=rule, finding="pass", text=f"{text}: within the {allowed:g} allowed{doubt}.")


def _slices(rules: spec.Gate, slices: tuple[SliceResult, ...]) -> Iterator[Reason]:
    allowed = rules.slices.worse_by_at_most
    for part in slices:
        rule = f"gate.slices[{part.column}={part.value}]"
        gap = _sound(part.difference)
        if not _known(part.rows):
            yield Reason(rule=rule, finding="insufficient", text=f"{part.column} {part.value}: rows unknown.")
        elif part.finding == "insufficient":
            yield Reason(rule=rule, finding="note", text=f"{part.column} {part.value}: {part.reason}.")
        elif gap is None or part.rows < rules.slices.min_rows or (gap.high < 0) != (part.finding == "worse"):
            text = f"{part.column} {part.value}: the difference on {part.rows:,} rows is not known."
            yield Reason(rule=rule, finding="insufficient", text=text)
        elif part.finding == "worse":
            beyond = gap.high < -allowed
            text = f"{part.column} {part.value}, {part.rows:,} rows: {part.reason}: worse"
            text += f" by more than {allowed:g}, beyond doubt." if beyond else f", not beyond the {allowed:g} allowed."
            yield Reason(rule=rule, finding="fail" if beyond else "note", text=text)
    judged = [part for part in slices if part.finding != "insufficient"]
    if judged:
        better, worse = (sum(part.finding == name for part in judged) for name in ("better", "worse"))
        text = f"{len(judged)} slices judged: {better} better, {worse} worse, {len(judged) - better - worse} the same."
        yield Reason(rule="gate.slices", finding="note", text=text)


def _forgetting(rules: spec.Gate, evidence: Evidence) -> Iterator[Reason]:
    """Old periods one by one. As for fairness, the estimate is bounded, and only what is beyond doubt fails."""
    rule, asked, found = "gate.forgetting", rules.forgetting, evidence.forgetting
    if asked is None:
        return
    if not evidence.went_on:
        text = f"{evidence.candidate} learned everything anew; there is nothing that it could have forgotten."
        if found and found.from_base:
            text = f"What the base of {evidence.candidate} had learned is not known; nothing counts as forgotten."
        yield Reason(rule=rule, finding="note", text=text)
        return
    if found is None or found.failed or found.row_set != "held_out":
        why = found.failed if found and found.failed else "it was not measured"
        yield Reason(rule=rule, finding="insufficient", text=f"What was forgotten is not known: {why}.")
        return
    old = [one for one in found.periods if one.known_before]
    if found.missing:
        names = _list(found.missing)
        text = f"It once learned {names}, of which there are no held-out rows now. Keep old periods in data.source."
        yield Reason(rule=f"{rule}[{names}]", finding="insufficient", text=text)
    small = tuple(one.period for one in old if not _known(one.rows) or one.rows < asked.min_rows)
    if small:
        text = f"Fewer than the {asked.min_rows:,} held-out rows needed are of {_list(small)}."
        yield Reason(rule=f"{rule}[{_list(small)}]", finding="insufficient", text=text)
    old = [one for one in old if one.period not in small]
    reasons = [_forgotten(asked, one, rules, found) for one in old]
    yield from (reason for reason in reasons if reason.finding != "pass")
    if not old and not found.missing and not small:
        text = "The model that was gone on from had learned no period that is known."
        yield Reason(rule=rule, finding="insufficient", text=text)
    elif old and not found.missing and not small and all(reason.finding == "pass" for reason in reasons):
        worst = min(range(len(old)), key=lambda place: old[place].change.estimate)  # type: ignore[union-attr]  # pass
        text = f"No old period lost more than the {asked.worse_by_at_most:g} allowed; of {len(old)} the worst is "
        yield Reason(rule=rule, finding="pass", text=text + reasons[worst].text)


def _forgotten(asked: spec.ForgettingRule, one: PeriodChange, rules: spec.Gate, found: Forgetting) -> Reason:
    """The finding on one old period."""
    allowed, metric = asked.worse_by_at_most, _label(rules.better.metric)

    def say(finding: Literal["pass", "fail", "insufficient"], text: str) -> Reason:
        return Reason(rule=f"gate.forgetting[{one.period}]", finding=finding, text=text)

    gap = _sound(one.change)
    if gap is None or not _known(one.before, one.after, found.confidence):
        groups = "" if one.groups is None else f" in {one.groups} groups (5 are the least)"
        return say(
            "insufficient",
            f"The change of {metric} on {one.rows:,} held-out rows of {one.period}{groups} cannot be told with an "
            "interval.",
        )
    if not _known(found.together) or found.together < rules.better.confidence or found.confidence < found.together:
        return say("insufficient", f"The intervals are not at the {rules.better.confidence:.0%} asked for.")
    better = " in the better direction" if rules.better.metric in LOWER_IS_BETTER else ""
    text = (
        f"{one.period}: {metric} {one.before:.3f} → {one.after:.3f} on {one.rows:,} held-out rows, "
        f"{gap.estimate:+.3f}{better} ({100 * found.confidence:.4g}% interval {gap.low:+.3f} to {gap.high:+.3f})"
    )
    if gap.high < -allowed:
        return say("fail", f"{text}: more was forgotten than the {allowed:g} allowed, beyond doubt.")
    if gap.estimate < -allowed:
        return say("insufficient", f"{text}: it looks forgotten by more than the {allowed:g} allowed, with doubt.")
    doubt = f"; the interval reaches {gap.low:+.3f}" if gap.low < -allowed else ""
    return say("pass", f"{text}{doubt}.")


def _at_least(rules: spec.Gate, scores: Scores | None) -> Iterator[Reason]:
    for metric, bound in rules.at_least.items():
        rule = f"gate.at_least.{metric}"
        value = scores.metrics.get(metric) if scores else None
        if scores is None or value is None or not _known(value) or not _known(scores.rows):
            text = f"{_label(metric)} on the held-out rows is not known; {bound:g} is asked for."
            yield Reason(rule=rule, finding="insufficient", text=text)
            continue
        if scores.rows < rules.min_rows:
            text = (
                f"{_label(metric)} {value:.3f} is of {scores.rows:,} held-out rows only; {rules.min_rows:,} are needed."
            )
            yield Reason(rule=rule, finding="insufficient", text=text)
            continue
        lower = metric in LOWER_IS_BETTER
        met = value <= bound if lower else value >= bound
        text = (
            f"{_label(metric)} is {value:.3f} on {scores.rows:,} held-out rows; "
            f"{'at most' if lower else 'at least'} {bound:g} is asked for."
        )
        yield Reason(rule=rule, finding="pass" if met else "fail", text=text)


def _fairness(rules: spec.Gate, evidence: Evidence) -> Iterator[Reason]:
    for asked in rules.fairness:
        for measure in MEASURES:
            limit: float | None = getattr(asked, measure)
            if limit is None:
                continue
            rule = f"gate.fairness[{asked.column}].{measure}"
            key = (asked.column, measure, limit, asked.not_worse_than_champion)
            result = next(
                (r for r in evidence.fairness if (r.column, r.measure, r.limit, r.against_champion) == key), None
            )
            if asked.not_worse_than_champion and evidence.case == "first":
                text = "There is no champion to compare with yet; the value is on the page."
                yield Reason(rule=rule, finding="note", text=text)
                continue
            if result is None or (result.finding == "insufficient" and len(result.judged) < 2):
                text = result.reason if result else f"{measure} of {asked.column} was not measured"
                yield Reason(rule=rule, finding="insufficient", text=f"{_capital(text)}.")
                continue
            gap = _sound(result.change if asked.not_worse_than_champion else result.candidate)
            if gap is None or len(result.judged) < 2:
                text = f"The {measure.replace('_', ' ')} of {asked.column} is not known with an interval."
                yield Reason(rule=rule, finding="insufficient", text=text)
                continue
            finding, text = judge(result)
            if result.too_small:
                text += f". Not judged, too few rows: {_list(result.too_small)}"
            yield Reason(rule=rule, finding=finding, text=f"{_capital(text)}.")  # type: ignore[arg-type]  # literals


def _budgets(rules: spec.Gate, cost: Cost | None) -> Iterator[Reason]:
    budgets = rules.budgets
    checks: tuple[tuple[str, float | None, Callable[[Cost], float], str, str], ...] = (
        (
            "latency_ms",
            budgets.latency_ms,
            lambda c: c.latency_ms_p95,
            "Answering one row takes",
            "ms (95th percentile)",
        ),
        ("size_mb", budgets.size_mb, lambda c: c.size_bytes / MEGABYTE, "The model's size is", "MB"),
    )
    for name, budget, read, opening, unit in checks:
        if budget is None:
            continue
        rule = f"gate.budgets.{name}"
        try:
            value = read(cost) if cost is not None else math.nan
        except TypeError:
            value = math.nan
        if value is None or not math.isfinite(value) or value <= 0:
            yield Reason(rule=rule, finding="insufficient", text=f"{opening} an unknown number of {unit}.")
            continue
        text = f"{opening} {value:.3g} {unit}; the budget is {budget:g}."
        yield Reason(rule=rule, finding="pass" if value <= budget else "fail", text=text)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _list(names: tuple[str, ...], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
