"""How numbers, findings and metrics are said: the same words on every page, in Markdown and in the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeVar

from upkeep.evaluation.result import Interval

T = TypeVar("T")
UNKNOWN = "not known"
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
MINUS = "\N{MINUS SIGN}"

METRIC_NAMES = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "roc_auc": "ROC AUC",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "expected_calibration_error": "Calibration error",
}
_CALIBRATION = "How far stated and observed probability lie apart on average; lower is better."
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "expected_calibration_error"})

STATISTIC_NAMES = {
    "ks": "KS",
    "psi": "PSI",
    "jensen_shannon": "Jensen–Shannon",
    "wasserstein": "Wasserstein",
    "chi2": "χ²",
}

FAIRNESS_NAMES = {
    "demographic_parity_difference": "Demographic parity difference",
    "equalized_odds_difference": "Equalized odds difference",
    "equal_opportunity_difference": "Equal opportunity difference",
}
FAIRNESS_MEANINGS = {
    "demographic_parity_difference": "How far apart the groups' shares of positive answers lie, right or wrong.",
    "equalized_odds_difference": "The larger gap between groups, of the share of positives found and of false alarms.",
    "equal_opportunity_difference": "How far apart the groups' shares of positives found (recall) lie.",
}

METHOD_NAMES = {
    "integrated_gradients": "Mean |integrated gradients|",
    "shap": "Mean |SHAP|",
    "shap_permutation": "Mean |SHAP|",
}
METHOD_MEANINGS = {
    "integrated_gradients": "Integrated gradients: what each column added, on the way from an average row without "
    "categories or words to the row itself.",
    "shap": "SHAP values: what each column added to the usual answer, shared out among the columns.",
    "shap_permutation": "SHAP values, by permutations of the columns, since the usual way does not know splits on "
    "categories: what each column added to the usual answer, shared out among the columns.",
}

ROW_SETS = {
    "new": "new rows",
    "old": "old rows",
    "all": "all held-out rows",
    "validation": "validation rows",
}
ROW_SET_MEANINGS = {
    "new": "Held-out rows of periods newer than the champion: what the candidate is for.",
    "old": "Held-out rows of the periods the champion learned from: what must not be forgotten.",
    "all": "Held-out rows old and new together.",
    "validation": "Rows of the training side, on which candidates are chosen.",
}

CASES = {
    "first": "First version: there is no champion to compare with, so the candidate is judged on its own values.",
    "champion": "Champion and candidate answered the same held-out rows.",
    "changed_features": "The features changed, so the champion cannot answer the new rows as they are.",
    "changed_classes": "The classes changed, so champion and candidate do not answer the same question.",
    "champion_unreadable": "The champion could not be loaded, so there was nothing to compare with.",
    "adopted_unknown": "The champion was adopted, and what it learned from is not known: it may know these rows.",
}

FINDING_WORDS = {
    "pass": "Pass",
    "fail": "Fail",
    "insufficient": "Insufficient evidence",
    "note": "Note",
    "drift": "Drift",
    "stable": "Stable",
    "decay": "Decay",
    "better": "Better",
    "worse": "Worse",
    "same": "No clear difference",
    "alone": "Measured",
    "yes": "Yes",
    "no": "No",
    "unfinished": "Not finished",
}


def in_order(values: Mapping[str, T], order: Iterable[str] = (*METRIC_NAMES, "champion", "candidate")) -> dict[str, T]:
    """The same items, those in ``order`` first: a record read back has lost the order it was written in."""
    names = [name for name in order if name in values]
    return {name: values[name] for name in (*names, *(name for name in values if name not in names))}


def metric_name(metric: str) -> str:
    """``roc_auc`` → ``ROC AUC``; an unknown metric in plain words."""
    return METRIC_NAMES.get(metric, metric.replace("_", " ").capitalize())


def metric_meaning(metric: str, positive: str | bool | int | None) -> str:
    """What the metric means, in one line, in terms of the positive class where there is one."""
    if positive is None:
        meanings = {
            "accuracy": "Share of rows answered right.",
            "precision": "Of the rows given a class, the share that is of it: mean over the classes.",
            "recall": "Of the rows of a class, the share that was found: mean over the classes.",
            "f1": "Harmonic mean of precision and recall: mean over the classes.",
            "roc_auc": "Chance that a row of a class scores higher for it than another row: mean over the classes.",
            "log_loss": "Mean surprise at the true class, in nats; lower is better.",
            "brier": "Mean squared error of the probabilities; lower is better.",
            "expected_calibration_error": _CALIBRATION,
        }
        return meanings.get(metric, "")
    target = f"“{label(positive)}”"
    meanings = {
        "accuracy": "Share of rows answered right.",
        "precision": f"Of the rows answered {target}, the share that truly is.",
        "recall": f"Of the rows that truly are {target}, the share that was found.",
        "f1": f"Harmonic mean of precision and recall for {target}: high only when both are.",
        "roc_auc": f"Chance that a row that is {target} scores higher than one that is not; 0.5 is guessing.",
        "log_loss": "Mean surprise at the truth, in nats: punishes confident errors; lower is better.",
        "brier": f"Mean squared error of the probability of {target}; lower is better.",
        "expected_calibration_error": _CALIBRATION,
    }
    return meanings.get(metric, "")


def finding_word(finding: str) -> str:
    return FINDING_WORDS.get(finding, finding)


def label(value: str | bool | int | None) -> str:
    """A class label as text; booleans as in YAML and JSON."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def number(value: float | None, digits: int = 3) -> str:
    """A figure with ``digits`` decimals and a true minus; small values keep two significant digits."""
    if value is None:
        return UNKNOWN
    if value != 0 and abs(value) < 0.5 * 10**-digits:
        text = f"{value:.1e}"
    elif abs(value) >= 10_000:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def fixed(value: float, digits: int = 3) -> str:
    """A figure with ``digits`` decimals, however small it is."""
    text = f"{value:.{digits}f}"
    return (text if float(text) else text.lstrip("-")).replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """A difference: always with its sign, zero without."""
    if value is None:
        return UNKNOWN
    text = f"{value:+.{digits}f}"
    if float(text) == 0:
        text = text[1:]
    return text.replace("-", MINUS)


def count(value: float | None) -> str:
    """A count with thousands separators."""
    return UNKNOWN if value is None else f"{value:,.0f}".replace("-", MINUS)


def percent(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as a percentage."""
    return UNKNOWN if share is None else f"{100 * share:.{digits}f} %".replace("-", MINUS)


def level(confidence: float) -> str:
    """A confidence level: ``95 %``."""
    return f"{100 * confidence:.4g} %"


def p_value(value: float | None) -> str:
    """``0.034``; below a thousandth ``< 0.001``."""
    if value is None:
        return UNKNOWN
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def e_value(value: float | None) -> str:
    """Evidence to three digits; beyond a million, more says nothing."""
    if value is None:
        return UNKNOWN
    return "over 1,000,000" if value > 1e6 else f"{float(f'{value:.3g}'):,g}"


def interval(value: Interval | None, *, sign: bool = False, digits: int = 3) -> str:
    """``+0.042 (+0.021 to +0.063)``."""
    if value is None:
        return UNKNOWN
    say = signed if sign else number
    return f"{say(value.estimate, digits)} ({say(value.low, digits)} to {say(value.high, digits)})"


def size(value: int | None) -> str:
    """Bytes for people, in powers of ten."""
    if value is None:
        return UNKNOWN
    amount = float(value)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def seconds(value: float | None) -> str:
    """A duration: ``0.4 s``, ``2 min 5 s``, ``1 h 4 min``."""
    if value is None:
        return UNKNOWN
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def elapsed(started: str | None, finished: str | None) -> float | None:
    """Seconds between two ISO 8601 times; None where one is unknown or unreadable."""
    if not started or not finished:
        return None
    try:
        return (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()
    except (ValueError, TypeError):
        return None


def moment(value: str | None) -> str:
    """An ISO 8601 UTC time for people: ``2013-07-01 04:12:09 UTC``; what is no such time, as it is."""
    if not value:
        return UNKNOWN
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        return value
    offset = when.utcoffset()
    zone = "" if offset is None else " UTC" if not offset else f" UTC{when:%z}"
    return f"{when:%Y-%m-%d %H:%M:%S}{zone}"


def plural(amount: int | None, one: str, many: str = "") -> str:
    """``1 row``, ``2 rows``."""
    if amount is None:
        return f"{many or one + 's'} {UNKNOWN}"
    return f"{count(amount)} {one if amount == 1 else many or one + 's'}"


def listing(items: Iterable[object], limit: int = 6) -> str:
    """``a, b and c``; past ``limit`` the rest is counted: ``a, b and 7 more``."""
    texts = [str(item) for item in items]
    if len(texts) > limit:
        texts = [*texts[: limit - 1], f"{len(texts) - limit + 1} more"]
    if len(texts) < 2:
        return "".join(texts)
    return ", ".join(texts[:-1]) + " and " + texts[-1]


def span(periods: Iterable[str]) -> str:
    """``2013-01 to 2013-04 (4 periods)``; one period alone; none: ``none``."""
    known = list(periods)
    if not known:
        return "none"
    if len(known) == 1:
        return known[0]
    return f"{known[0]} to {known[-1]} ({len(known)} periods)"


def clean(text: str) -> str:
    """``text`` without what neither HTML, SVG nor UTF-8 can hold: control characters and lone surrogates."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def shorten(text: str, width: int = 40) -> str:
    """``text`` on one line, cut in the middle when it is longer than ``width``."""
    text = " ".join(clean(text).split())
    if len(text) <= width:
        return text
    head = (width - 1) * 2 // 3
    return text[:head] + "…" + text[len(text) - (width - 1 - head) :]
