"""What answers turned out to be: right or wrong, by version; and quality in production, with how much of it is known.

An outcome is one row's answer of one version, with its label. It belongs to the weight of the traffic at the time of
its *request*, which the caller knows. Labels must not come sooner or more often for one kind of answer than for
another: :func:`uneven_labels` looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from upkeep.data.validate import label_text
from upkeep.errors import Problem
from upkeep.evaluation.answers import NULL, Answers, Rows
from upkeep.evaluation.metrics import COUNTED, code_type
from upkeep.evaluation.paired import Sample
from upkeep.evaluation.result import Interval
from upkeep.evaluation.scores import CONFIDENCE
from upkeep.monitor.journal import Journal, quoted
from upkeep.registry.registry import Registry
from upkeep.spec.model import Label, ModelSpec

RESAMPLES = 2000
MOST_SLICES = 50
"""Values of a slice column that are listed, the largest."""
SKEW = timedelta(minutes=5)
"""Clocks that differ by more are told to the user."""


class Outcome(NamedTuple):
    """One answer whose label is known."""

    seq: int
    """Its number in this journal: rising in the order in which outcomes became known."""
    hash: int
    """Of the row (or of its request), 64 bits: the same row of another version has the same."""
    unit: int
    """Of what must be counted once in a block: the split key's column where the client sends it, else the row."""
    version: str
    time: datetime
    """Of the request, UTC."""
    label: str
    predicted: str
    correct: bool
    probability: float | None
    slices: tuple[str, ...]
    """``column=value``, one for each of ``data.slices``."""


def outcomes(
    journal: Journal,
    *,
    after: int = 0,
    versions: Sequence[str] = (),
    since: datetime | None = None,
    slices: Sequence[str] = (),
    one_a_unit: bool = False,
) -> list[Outcome]:
    """Outcomes with a number above ``after``, in the order of their numbers; each row of a version once, for ever.

    ``versions``: only theirs; ``since``: only of requests of that time or later; ``one_a_unit``: of those only the
    first of a version and unit, since what one customer gets resembles itself. The label is the earliest that was known
    when the outcome got its number: a revision changes no outcome.
    """
    names = [name for name in slices if name in {column.name for column in journal.wanted.columns}]
    where, values = ["true"], list[Any]()
    if versions:
        where.append(f"version IN ({', '.join('?' * len(versions))})")
        values += versions
    if since is not None:
        where.append("time >= ?")
        values.append(since.astimezone(UTC).replace(tzinfo=None))
    once = "QUALIFY row_number() OVER (PARTITION BY version, unit ORDER BY seq) = 1" if one_a_unit else ""
    columns = "".join(f", coalesce(answer.{quoted(name)}::VARCHAR, '{NULL}')" for name in names)
    rows = journal.database.execute(
        f"""SELECT seq, outcome.hash, outcome.unit, version, time, label, predicted, label = predicted, probability
        {columns} FROM (SELECT * FROM outcomes WHERE {" AND ".join(where)} {once}) outcome
        LEFT JOIN answers answer ON answer._key = outcome.key AND answer._version = outcome.version
            AND answer._request = outcome.request AND answer._row = outcome.row AND answer._time = outcome.time
        WHERE seq > ? QUALIFY row_number() OVER (PARTITION BY seq) = 1 ORDER BY seq""",
        [*values, after],
    ).fetchall()
    return [
        Outcome._make(
            (
                *row[:4],
                row[4].replace(tzinfo=UTC),
                *row[5:9],
                tuple(f"{name}={value}" for name, value in zip(names, row[9:], strict=True)),
            )
        )
        for row in rows
    ]


class Answered(NamedTuple):
    """Requests of one second that one version answered alike."""

    time: datetime
    """When the second began, UTC."""
    version: str
    predicted: str
    units: int


def answered(
    journal: Journal,
    *,
    after: int,
    versions: Sequence[str],
    since: datetime | None = None,
    later: datetime | None = None,
) -> tuple[list[Answered], int]:
    """What was answered, with a label or without, in the order of time; and the number that the next call goes on from.

    Only what was read after ``after`` counts, of each unit the answer of a version that was read first. ``since``: only
    requests of that time or later. ``later``, for numbers that began anew: of these only those from then on count.
    """
    reached = journal.database.execute("SELECT coalesce(max(_seen), 0) FROM answers").fetchall()[0][0]
    marks = ", ".join("?" * len(versions))
    start = (since or datetime.min.replace(tzinfo=UTC)).astimezone(UTC).replace(tzinfo=None)
    rows = journal.database.execute(
        f"""WITH own AS (SELECT * FROM answers WHERE _version IN ({marks}) AND _time >= ?),
            fresh AS (SELECT * FROM own WHERE _seen > ?
                QUALIFY row_number() OVER (PARTITION BY _version, _unit ORDER BY _seen, _time, _request, _row) = 1),
            met AS (SELECT own._version, own._unit FROM own SEMI JOIN fresh USING (_version, _unit) WHERE _seen <= ?)
        SELECT date_trunc('second', _time) AS second, _version, _predicted, count(*)
        FROM fresh ANTI JOIN met USING (_version, _unit) WHERE ? IS NULL OR _time >= ? GROUP BY ALL ORDER BY ALL""",
        [*versions, start, after, after, *[None if later is None else later.astimezone(UTC).replace(tzinfo=None)] * 2],
    ).fetchall()
    return [Answered(second.replace(tzinfo=UTC), *rest) for second, *rest in rows], int(reached)


def model_classes(spec: ModelSpec, registry: Registry) -> tuple[Label, ...]:
    """The labels that may occur: the spec's, else those of the newest version; empty: not known."""
    if spec.data.target.classes:
        return spec.data.target.classes
    versions = registry.versions()
    return registry.get_manifest(registry.card(versions[-1]).digest).classes if versions else ()


# --- production metrics --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Production:
    """One version in one stretch of time, on all rows or on one slice."""

    version: str
    """Empty: all."""
    start: str
    """UTC, ISO 8601; empty: all time."""
    end: str
    slice: str
    """``column=value``; empty: all rows."""
    answered: int
    """Rows, each once a version, however often it was asked."""
    labelled: int
    metrics: dict[str, float | None]
    """accuracy, precision, recall, f1; None: not defined."""
    intervals: dict[str, Interval]
    """95 % intervals of the metrics that have one."""

    @property
    def coverage(self) -> float:
        """The share of the answered rows whose label is known."""
        return self.labelled / self.answered if self.answered else 0.0


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """How much is known of the rows that one version answered in one way."""

    version: str
    predicted: str
    answered: int
    labelled: int


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What log and labels hold."""

    answers: int
    """Answered rows, repetitions included."""
    repeated: int
    """Answers of a version to a row that it had answered before: not counted."""
    labels: int
    """Ids with a label."""
    unknown_ids: int
    """Of them, those that no request was about (yet)."""
    revised: int
    """Of them, those with a later, other label: it does not count."""
    early: int
    """Outcomes whose label is older than the request by more than five minutes: a wrong clock, or a leak."""
    ahead: int
    """Requests that the log dates more than five minutes into the future: a wrong clock."""


@dataclass(frozen=True, kw_only=True)
class ProductionReport:
    rows: tuple[Production, ...]
    """By version, start, slice; the newest version and time first."""
    coverage: tuple[Labelled, ...]
    counts: Counts
    refused: dict[str, int]
    """Reason → rows of label files that were refused."""
    notes: tuple[Problem, ...]
    """What a reader must know before trusting the figures."""
    confidence: float = CONFIDENCE
    schema_version: int = 1


_ANSWER = """(SELECT * FROM answers
    QUALIFY row_number() OVER (PARTITION BY _version, _key ORDER BY _time, _request, _row) = 1)"""
_LABEL = """(SELECT id, arg_min(label, {'time': time, 'file': file, 'row': row}) AS label, min(time) AS time
    FROM labels GROUP BY id)"""


def production(
    journal: Journal,
    *,
    classes: Sequence[Label],
    positive: Label | None,
    by_version: bool = True,
    window: timedelta | None = None,
    slices: Sequence[str] = (),
    since: datetime | None = None,
    seed: int = 0,
) -> tuple[Production, ...]:
    """Quality on labelled answers, by version, by window of the request's time, and for every value of ``slices``.

    ``classes``: those known; others that occur are added. Without ``positive`` metrics are macro averages.
    """
    result: list[Production] = []
    for column in ("", *slices):
        result += _one_cut(journal, column, classes, positive, by_version, window, since, seed)
    order = {name: place for place, name in enumerate(("", *slices))}
    result.sort(key=lambda row: (order[row.slice.partition("=")[0]], -row.answered))
    result.sort(key=lambda row: (_number(row.version), row.start), reverse=True)
    return tuple(result)


def _number(version: str) -> tuple[int, str]:
    digits = version.removeprefix("v")
    return (int(digits), version) if digits.isdecimal() else (-1, version)


def _one_cut(
    journal: Journal,
    column: str,
    classes: Sequence[Label],
    positive: Label | None,
    by_version: bool,
    window: timedelta | None,
    since: datetime | None,
    seed: int,
) -> list[Production]:
    seconds = 0 if window is None else max(int(window.total_seconds()), 1)
    bucket = f"(epoch(_time)::BIGINT // {seconds})" if seconds else "0"
    value = f"coalesce({quoted(column)}::VARCHAR, '{NULL}')" if column else "''"
    cells = journal.database.execute(
        f"""SELECT {"_version" if by_version else "''"} AS version, {bucket} AS bucket, {value} AS value,
            _predicted, label.label, {"_unit" if journal.unit else "0"} AS unit, count(*) AS rows
        FROM {_ANSWER} answer LEFT JOIN {_LABEL} label ON label.id = answer._key
        WHERE ? IS NULL OR _time >= ? GROUP BY ALL""",
        [None if since is None else since.astimezone(UTC).replace(tzinfo=None)] * 2,
    ).fetchall()
    groups: dict[tuple[str, int, str], list[tuple[Any, ...]]] = {}
    for version, start, text, *rest in cells:
        groups.setdefault((version, start, text), []).append(tuple(rest))
    if column:
        sizes: dict[str, int] = {}
        for (_, _, text), some in groups.items():
            sizes[text] = sizes.get(text, 0) + sum(cell[-1] for cell in some)
        shown = set(sorted(sizes, key=lambda text: -sizes[text])[:MOST_SLICES])
        groups = {key: some for key, some in groups.items() if key[2] in shown}
    found = []
    for (version, start, text), some in groups.items():
        rows = _rows(some, classes, positive, grouped=journal.unit is not None)
        sample = Sample(rows, ("answer",), resamples=RESAMPLES, seed=seed)
        intervals = {name: _interval(sample, name) for name in COUNTED} if len(rows) else {}
        found.append(
            Production(
                version=version,
                start=_moment(start * seconds) if seconds else "",
                end=_moment((start + 1) * seconds) if seconds else "",
                slice=f"{column}={text}" if column else "",
                answered=sum(cell[-1] for cell in some),
                labelled=len(rows),
                metrics={name: sample.value(name, "answer") if len(rows) else None for name in COUNTED},
                intervals={name: each for name, each in intervals.items() if each is not None},
            )
        )
    return found


def _interval(sample: Sample, metric: str) -> Interval | None:
    """Wilson's, where the metric is a share of rows that stand for themselves: it is right near 0 and 1, too. Else the
    evaluation's own; None where that has no width."""
    rows = sample.rows
    if rows.groups is None and (metric == "accuracy" or (metric != "f1" and rows.positive is not None)):
        predicted = rows.answers["answer"].predicted
        among = {"precision": predicted == rows.positive, "recall": rows.truth == rows.positive}
        counted = among.get(metric, np.ones(len(rows), np.bool_))
        return wilson(int((counted & (predicted == rows.truth)).sum()), int(counted.sum()))
    found = sample.interval(metric, CONFIDENCE)
    if found is None or found.low == found.high:
        return None
    return Interval(estimate=found.estimate, low=max(found.low, 0.0), high=min(found.high, 1.0))


def wilson(hits: int, n: int, confidence: float = CONFIDENCE) -> Interval | None:
    """The score interval of a share (Wilson, J. Am. Stat. Assoc. 22, 1927); None without an observation."""
    if not n:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(estimate=share, low=min(max(middle - half, 0.0), share), high=max(min(middle + half, 1.0), share))


def _moment(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _rows(cells: Sequence[Any], classes: Sequence[Label], positive: Label | None, *, grouped: bool) -> Rows:
    """(predicted, label, unit, count) as rows for :mod:`upkeep.evaluation`; those without a label are left out."""
    known = [cell for cell in sorted(cells, key=str) if cell[1] is not None]
    texts = [label_text(label) for label in classes]
    texts += sorted({text for cell in known for text in cell[:2]} - set(texts))
    if positive is not None and label_text(positive) not in texts:
        texts.append(label_text(positive))
    kind = code_type(len(texts))
    place = {text: code for code, text in enumerate(texts)}
    times = [cell[3] for cell in known]
    truth, predicted = (np.repeat(np.array([place[cell[at]] for cell in known], kind), times) for at in (1, 0))
    return Rows(
        classes=tuple(texts),
        positive=None if positive is None else place[label_text(positive)],
        truth=truth,
        periods=("",),
        period=np.zeros(len(truth), np.uint8),
        groups=np.repeat(np.array([cell[2] for cell in known], np.uint64), times) if grouped else None,
        # only what was answered counts here: probabilities are not looked at
        answers={"answer": Answers(predicted, np.ones((len(truth), len(texts)), np.float32))},
    )


def coverage(journal: Journal, *, since: datetime | None = None) -> tuple[Labelled, ...]:
    """How many answered rows have a label, by version and predicted class."""
    found = journal.database.execute(
        f"""SELECT _version, _predicted, count(*), count(label.label)
        FROM {_ANSWER} answer LEFT JOIN {_LABEL} label ON label.id = answer._key
        WHERE ? IS NULL OR _time >= ? GROUP BY ALL ORDER BY ALL""",
        [None if since is None else since.astimezone(UTC).replace(tzinfo=None)] * 2,
    ).fetchall()
    return tuple(
        Labelled(version=version, predicted=predicted, answered=answered, labelled=labelled)
        for version, predicted, answered, labelled in found
    )


UNEVEN = 0.05
"""Coverage of two predicted classes that differs by less is no reason for a word."""


def uneven_labels(found: Sequence[Labelled]) -> tuple[Problem, ...]:
    """A warning for each version of which one kind of answer is labelled more often than another, beyond chance.

    A χ² test of coverage and predicted class, at 0.001, where the coverages differ by :data:`UNEVEN` or more. Where
    labels depend on the answer (only what was called positive is looked into, say), accuracy on the labelled rows is
    not accuracy, and no test on them can be trusted.
    """
    from scipy.stats import chi2_contingency

    problems = []
    for version in sorted({each.version for each in found}):
        own = [each for each in found if each.version == version and each.answered]
        shares = {each.predicted: each.labelled / each.answered for each in own}
        counts = np.array([[each.labelled, each.answered - each.labelled] for each in own])
        if len(own) < 2 or max(shares.values()) - min(shares.values()) < UNEVEN or (counts.sum(axis=0) == 0).any():
            continue
        if chi2_contingency(counts).pvalue < 0.001:
            said = ", ".join(f"{share:.0%} where it said {predicted}" for predicted, share in shares.items())
            problems.append(
                Problem(
                    f"{version}: labels are known for {said}: they depend on the answer, or come sooner for one kind",
                    fix="label a random share of all requests, whatever was answered; figures on these rows mislead",
                    severity="warning",
                )
            )
    return tuple(problems)


def counts(journal: Journal, *, now: datetime) -> Counts:
    """What the journal holds, and what of it does not count."""
    ahead = (now + SKEW).astimezone(UTC).replace(tzinfo=None)
    (row,) = journal.database.execute(
        f"""SELECT
            (SELECT count(*) FROM answers),
            (SELECT count(*) FROM answers) - (SELECT count(*) FROM (SELECT DISTINCT _version, _key FROM answers)),
            (SELECT count(DISTINCT id) FROM labels),
            (SELECT count(DISTINCT id) FROM labels ANTI JOIN answers ON answers._key = labels.id
                ANTI JOIN outcomes ON outcomes.key = labels.id),
            (SELECT count(*) FROM (SELECT id FROM labels GROUP BY id HAVING count(*) > 1)),
            (SELECT count(*) FROM {_ANSWER} answer JOIN {_LABEL} label ON label.id = answer._key
                WHERE label.time + to_seconds({int(SKEW.total_seconds())}) < answer._time),
            (SELECT count(*) FROM answers WHERE _time > ?)""",
        [ahead],
    ).fetchall()
    names = ("answers", "repeated", "labels", "unknown_ids", "revised", "early", "ahead")
    return Counts(**dict(zip(names, map(int, row), strict=True)))
