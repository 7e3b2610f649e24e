"""A first ``upkeep.yaml`` from the data itself: what each column seems to be, and why.

Every guess is said, and every column that is left out has a reason.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from upkeep.data.sample import Sample, take_sample
from upkeep.data.shapes import ODD_VALUES, Shaped, as_text, shaped
from upkeep.errors import DataError, Where
from upkeep.spec.model import Label, ObjectStore

MAX_CLASSES = 100
MAX_CATEGORIES = 200
"""A text column with more levels is left out."""
LISTED_CATEGORIES = 12
SLICE_LEVELS = (2, 20)
SLICE_ROWS = 100
DAY_ROWS = 20
"""Rows a day, on the mean, from which on days are held out whole; and the least number of days for it."""
LEAK_ROWS = 100
LEAK_AUC = 0.995
"""A column that ranks the classes this well by itself is left out."""
SUSPECT_AUC = 0.85
ONLINE_ROWS = 10_000


@dataclass(frozen=True)
class Inferred:
    """A spec for the data, and what was guessed for it."""

    spec: dict[str, Any]
    """As YAML would give it: only dicts, lists, text, numbers and booleans."""
    guesses: tuple[str, ...]
    """One sentence a guess, for people."""
    comments: dict[str, str] = field(default_factory=dict)
    """Dotted key → the comment that stands beside it."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Column → why it is no feature."""
    seen: str = ""
    """What was looked at."""


def infer(
    path_or_uri: str | Path,
    *,
    target: str,
    name: str | None = None,
    positive: Label | None = None,
) -> Inferred:
    """A spec for the data at ``path_or_uri`` (a file, a folder, or s3://) that predicts the column ``target``.

    ``name``: the model's; without it, the file's. ``positive``: the positive class (a label, or its text). Raises
    :class:`DataError` when the data cannot be read or holds nothing to learn, :class:`AccessError` without permission.
    """
    source = str(path_or_uri)
    sample = take_sample(source, ObjectStore())
    _require_target(sample, target, source)
    return _Inference(sample, source, target, name, positive).run()


_ID_NAME = re.compile(
    r"(^|[_\-. ])(id|uuid|guid|uid|key|index|rowid)$|^(id|uuid|guid|uid)[_\-. ]|[a-z](Id|ID|Key)$", re.I
)
_CODE_NAME = re.compile(r"(^|[_\-. ])(code|type|class|category|zip|zipcode|postcode|region|cluster|status|kind)$", re.I)
_TIME_NAME = re.compile(r"time|date|timestamp|(^|_)(at|ts|day|when)$|created|scheduled|occurred", re.I)
_SHARE_NAME = re.compile(r"share|rate|ratio|prob|fraction|proportion", re.I)
_KNOWN_RANGES: dict[str, tuple[float, float]] = {
    "hour": (0, 23),
    "minute": (0, 59),
    "second": (0, 59),
    "month": (1, 12),
    "day": (1, 31),
    "latitude": (-90, 90),
    "lat": (-90, 90),
    "longitude": (-180, 180),
    "lon": (-180, 180),
    "age": (0, 150),
}
_UNREAD_FORMS = (
    (r"^\s*[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+\s*$", "numbers with a comma; write them with a decimal point"),
    (
        r"^\s*\d{1,2}[./-]\d{1,2}[./-](\d{2}|\d{4})(\s.*)?$",
        "times in a form that is not read; write 2024-01-31",
    ),
)
"""Text that is a number or a time, and is not read as one: which it is must be said where it is written."""
_POSITIVE_WORDS = ("true", "yes", "y", "positive", "pos", "bad", "fraud", "churn", "churned", "default", "spam")


def _require_target(sample: Sample, target: str, source: str) -> None:
    names = sample.table.column_names
    if target in names and (not target.strip() or target.startswith("_")):
        raise DataError(
            f"the target is called {target!r}: names that are empty or begin with _ are kept for Upkeep's own columns",
            where=Where(file=source, field=target),
            fix="rename the column",
        )
    if target in names:
        return
    lower = {name.lower(): name for name in names}
    near = lower.get(target.lower()) or next(iter(difflib.get_close_matches(target, names, 1)), "")
    listed = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    raise DataError(
        f"there is no column {target}; there are {listed}",
        where=Where(file=source, field=target),
        fix=f"did you mean {near}?" if near else "name one of these columns as --target",
    )


class _Inference:
    """One run: collects the parts of the spec, the guesses and the comments."""

    def __init__(self, sample: Sample, source: str, target: str, name: str | None, positive: Label | None) -> None:
        self.sample = sample
        self.source = source
        self.target = target
        self.name = name
        self.wanted_positive = positive
        self.guesses: list[str] = []
        self.comments: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        self.doubtful: dict[str, str] = {}

    def run(self) -> Inferred:
        table, data = self.sample.table, {"source": self.source}
        labels, classes = self._labels()
        columns = [shaped(each, table.column(each)) for each in table.column_names if each != self.target]
        columns = [column for column in columns if self._is_usable(column)]
        moment = self._time(columns)
        period = self._period(moment)
        row_id, entities = self._ids(columns)
        group = self._group(moment, entities)
        taken = {column.name for column in (moment, row_id, *entities) if column is not None}
        numeric, categorical, dates = self._kinds([column for column in columns if column.name not in taken], labels)
        slices = self._slices(categorical)
        if not (numeric or categorical or dates):
            raise DataError(
                "no column is left to learn from: " + "; ".join(f"{k}: {v}" for k, v in self.left_out.items()),
                where=Where(file=self.source),
                fix="add columns that say something about the target, or write the spec by hand",
            )
        spec_data: dict[str, Any] = dict(data)
        if self.sample.delimiter != ",":
            spec_data["delimiter"] = self.sample.delimiter
        if self.sample.encoding != "utf-8":
            spec_data["encoding"] = self.sample.encoding
            self._say("data.encoding", f"the file is not UTF-8; {self.sample.encoding} is a guess")
        for key, value in (
            ("period", period),
            ("id", row_id.name if row_id else None),
            ("time", moment.name if moment else None),
        ):
            if value is not None:
                spec_data[key] = value
        spec_data["target"] = self._target(classes, labels)
        features = {"numeric": numeric, "categorical": categorical, "datetime": dates}
        if self.doubtful:
            listed = ", ".join(f"{name} ({why})" for name, why in self.doubtful.items())
            self.comments["data.features"] = f"is it known when the model is asked? {listed}"
        spec_data["features"] = {key: [column.name for column in each] for key, each in features.items() if each}
        rules = self._rules(numeric, categorical)
        if rules:
            spec_data["columns"] = rules
        if slices:
            spec_data["slices"] = slices
        spec_data["split"] = {**({"group": group} if group else {}), "held_out": "20%"}
        if group is None and row_id is None:
            self.comments["data.split"] = "no id and no group: only exact copies of a held-out row are recognised"
        name = _slug(self.name or stem(self.source))
        spec = {
            "apiVersion": "upkeep.dev/v1alpha1",
            "kind": "Model",
            "metadata": {"name": name},
            "data": spec_data,
            "candidates": self._candidates(period),
            "gate": {"better": {"metric": "f1", "confidence": "95%"}},
        }
        if classes is not None and len(classes) == 2:
            self.comments["gate.better"] = "F1 of the positive class, surely (95 %) better than the champion's"
        else:
            self.comments["gate.better"] = "mean F1 of the classes, surely (95 %) better than the champion's"
        return Inferred(spec, tuple(self.guesses), self.comments, self.left_out, self._seen())

    def _say(self, key: str, text: str) -> None:
        self.comments[key] = text
        self.guesses.append(f"{key.removeprefix('data.')}: {text}")

    def _leave_out(self, name: str, why: str) -> None:
        self.left_out[name] = why
        self.guesses.append(f"{name} is left out: {why}")

    def _seen(self) -> str:
        looked, rows = self.sample.table.num_rows, self.sample.rows
        files = f" in {self.sample.files} files" if self.sample.files > 1 else ""
        return f"{rows:,} rows{files}" + (f", {looked:,} of them looked at" if looked < rows else "")

    # --- target

    def _labels(self) -> tuple[npt.NDArray[np.int64], list[Label]]:
        """(codes, classes): each row's class as an index, −1 for null; the classes in order."""
        where = Where(file=self.source, field=self.target)
        column = shaped(self.target, self.sample.table.column(self.target))
        if column.shape == "empty":
            raise DataError("the target has no value at all", where=where, fix="name the column that holds the label")
        if column.shape in ("time", "other"):
            raise DataError("the target is no class: it holds times or lists", where=where, fix="name another column")
        if column.shape == "number":
            raise DataError(
                "the target is a number with decimals, and Upkeep predicts classes",
                where=where,
                fix="make classes of it, for example by a threshold, in a column of its own",
            )
        if column.shape == "integer" and column.odd:  # a few words among the numbers are labels too
            column = as_text(self.target, self.sample.table.column(self.target))
        if column.distinct > MAX_CLASSES:
            raise DataError(
                f"the target has {column.distinct:,} different values, which are no classes",
                where=where,
                fix="name the column that holds the label",
            )
        if column.distinct < 2:
            only = pc.unique(column.values.drop_null())[0].as_py()
            raise DataError(
                f"the target has one class only, {only}: there is nothing to tell apart",
                where=where,
                fix="add rows of another class",
            )
        unique = pc.unique(column.values.drop_null())
        classes: list[Label] = sorted(unique.to_pylist())
        order = pc.index_in(column.values, pa.array(classes, column.values.type))
        codes: npt.NDArray[np.int64] = np.asarray(pc.fill_null(order.cast(pa.int64()), -1))
        missing = int((codes < 0).sum())
        if missing:
            self.guesses.append(
                f"{self.target}: {_share(missing / len(codes))} of rows have no label, and go to quarantine"
            )
        return codes, classes

    def _target(self, classes: list[Label], labels: npt.NDArray[np.int64]) -> dict[str, Any]:
        made: dict[str, Any] = {"column": self.target}
        shares = np.bincount(labels[labels >= 0], minlength=len(classes)) / max(int((labels >= 0).sum()), 1)
        wanted = self.wanted_positive
        if wanted is not None:
            found = [each for each in classes if _label_text(each) == _label_text(wanted)]
            if not found:
                raise DataError(
                    f"the positive class {_label_text(wanted)} is no label of {self.target}",
                    where=Where(file=self.source, field=self.target),
                    fix=f"name one of {', '.join(map(_label_text, classes[:20]))}",
                )
            if len(classes) > 2:
                raise DataError(
                    f"a positive class is for two classes; {self.target} has {len(classes)}",
                    where=Where(file=self.source, field=self.target),
                    fix="leave it out",
                )
            made["positive"] = found[0]
        elif len(classes) == 2:
            by_word = [index for index, each in enumerate(classes) if _label_text(each).lower() in _POSITIVE_WORDS]
            if classes in ([0, 1], [-1, 1], ["0", "1"], ["-1", "1"]):
                by_word = [1]
            index = by_word[0] if len(by_word) == 1 else int(shares.argmin())
            why = "by its name" if len(by_word) == 1 else "the rarer class"
            made["positive"] = classes[index]
            self._say("data.target", f"positive: {why}, {_share(float(shares[index]))} of rows")
        made["classes"] = classes
        if len(classes) > 2:
            self._say("data.target", f"{len(classes)} classes; the rarest is {_share(float(shares.min()))} of rows")
        return made

    # --- columns that are no features

    def _is_usable(self, column: Shaped) -> bool:
        rows = self.sample.table.num_rows
        if not column.name.strip() or column.name.startswith("_"):
            self._leave_out(column.name, "names that are empty or begin with _ are kept for Upkeep's own columns")
        elif column.shape == "empty":
            self._leave_out(column.name, "no value at all")
        elif column.shape == "other":
            self._leave_out(
                column.name, f"holds {self.sample.table.column(column.name).type}, not one plain value a row"
            )
        elif column.distinct == 1:
            self._leave_out(column.name, f"always {_short(column.values.drop_null()[0].as_py())}")
        elif column.valid < 0.01 * rows:
            self._leave_out(column.name, f"null in {_share(1 - column.valid / rows)} of rows")
        else:
            if column.odd:
                kind = "times" if column.shape == "time" else "numbers that can be used"
                self.guesses.append(
                    f"{column.name}: {column.odd:,} values such as {column.odd_example!r} are no {kind}; "
                    "their rows go to quarantine"
                )
            return True
        return False

    def _ids(self, columns: list[Shaped]) -> tuple[Shaped | None, list[Shaped]]:
        """(the row's id, columns that name what the rows are about and repeat)."""
        unique = [column for column in columns if _is_unique_id(column, self.sample.table.num_rows)]
        unique.sort(key=lambda column: not _ID_NAME.search(column.name))
        row_id = unique[0] if unique else None
        if row_id is not None:
            self._say("data.id", "no two rows share a value" + ("" if self._saw_all() else ", as far as was looked"))
        for column in unique[1:]:
            self._leave_out(column.name, "another value in every row")
            columns.remove(column)
        entities = [
            column
            for column in columns
            if column.shape in ("integer", "text")
            and column is not row_id
            and _ID_NAME.search(column.name)
            and column.distinct > SLICE_LEVELS[1]
        ]
        for column in entities:
            mean = column.valid / column.distinct
            self._leave_out(
                column.name, f"names what rows are about ({mean:.1f} rows each): a model would learn it by heart"
            )
        return row_id, entities

    def _saw_all(self) -> bool:
        return bool(self.sample.table.num_rows == self.sample.rows)

    # --- time, period, split

    def _time(self, columns: Sequence[Shaped]) -> Shaped | None:
        times = [column for column in columns if column.shape == "time"]
        if not times:
            return None
        best = min(times, key=lambda each: (not _TIME_NAME.search(each.name), self.sample.table.num_rows - each.valid))
        self._say("data.time", "the only column of times" if len(times) == 1 else "one of several columns of times")
        return best

    def _period(self, moment: Shaped | None) -> str | None:
        if self.sample.folder_periods:
            unit = _period_unit(self.sample.folder_periods)
            if unit:
                self._say("data.period", f"from the folders, {self.sample.folder_periods[0]} and so on")
            return unit
        if moment is None:
            return None
        days = _days(moment)
        unit = next(unit for limit, unit in _PERIOD_LIMITS if days <= limit)
        self._say("data.period", f"the rows span {days + 1:,} days")
        return unit

    def _group(self, moment: Shaped | None, entities: Sequence[Shaped]) -> str | None:
        if moment is not None:
            days = pc.count_distinct(pc.floor_temporal(moment.values, unit="day")).as_py()
            mean = self.sample.rows / max(days, 1)
            if mean >= DAY_ROWS and days >= DAY_ROWS:
                self._say(
                    "data.split",
                    f"whole days are held out: the {mean:,.0f} rows of a day share what decided that day",
                )
                for entity in entities:
                    self.guesses.append(
                        f"split: one {entity.name} has rows on both sides; where that decides more than the day does, "
                        f"write group: {entity.name}"
                    )
                return "day"
        if len(entities) == 1:
            self._say("data.split", f"all rows of one {entities[0].name} are held out together, or none")
            return entities[0].name
        return None

    # --- features

    def _kinds(
        self, columns: Sequence[Shaped], labels: npt.NDArray[np.int64]
    ) -> tuple[list[Shaped], list[Shaped], list[Shaped]]:
        numeric: list[Shaped] = []
        categorical: list[Shaped] = []
        dates: list[Shaped] = []
        for column in columns:
            if column.shape == "text" and self._is_free(column):
                continue
            if self._leaks(column, labels):
                continue
            if column.shape == "time":
                dates.append(column)
                self.guesses.append(f"{column.name}: a time; make sure that it is known when the model is asked")
            elif column.shape in ("boolean", "text"):
                categorical.append(column)
            elif column.shape == "integer" and _is_code(column):
                categorical.append(column)
                self.guesses.append(f"{column.name}: whole numbers that look like codes, taken as categories")
            else:
                numeric.append(column)
                if column.shape == "integer" and 2 < column.distinct <= LISTED_CATEGORIES:
                    self.guesses.append(
                        f"{column.name}: {column.distinct} different whole numbers, taken as numeric; "
                        "move it to categorical if their size means nothing"
                    )
        return numeric, categorical, dates

    def _is_free(self, column: Shaped) -> bool:
        for form, what in _UNREAD_FORMS:
            matches = pc.match_substring_regex(column.values, form)
            if pc.sum(matches).as_py() >= (1 - ODD_VALUES) * column.valid:
                self._leave_out(column.name, f"{what}, such as {_short(column.values.drop_null()[0].as_py())}")
                return True
        words = pc.mean(pc.count_substring(column.values, " ")).as_py() or 0
        if column.distinct > MAX_CATEGORIES or (column.distinct > 20 and column.distinct > 0.5 * column.valid):
            what = "free text" if words >= 3 else "too many for categories"
            self._leave_out(column.name, f"{column.distinct:,} different values: {what}")
            return True
        return False

    def _leaks(self, column: Shaped, labels: npt.NDArray[np.int64]) -> bool:
        auc = single_column_auc(_bins(column), labels)
        if auc is None or auc < SUSPECT_AUC:
            return False
        if auc >= LEAK_AUC:
            self._leave_out(
                column.name,
                f"it tells {self.target} almost perfectly by itself (AUC {auc:.3f}): it may be a result of it",
            )
            return True
        self.doubtful[column.name] = f"AUC {auc:.2f}"
        self.guesses.append(
            f"{column.name}: tells {self.target} well by itself (AUC {auc:.2f}); is it known when the model is asked?"
        )
        return False

    def _slices(self, categorical: Sequence[Shaped]) -> list[str]:
        scale = self.sample.rows / max(self.sample.table.num_rows, 1)
        found = []
        for column in categorical:
            counts = sorted(
                (each["counts"].as_py() for each in pc.value_counts(column.values.drop_null())), reverse=True
            )
            in_range = SLICE_LEVELS[0] <= len(counts) <= SLICE_LEVELS[1]
            if in_range and counts[1] * scale >= SLICE_ROWS:
                found.append(column.name)
        if found:
            self._say("data.slices", "quality is also measured for each of their values")
        return found[:3]

    def _rules(self, numeric: Sequence[Shaped], categorical: Sequence[Shaped]) -> dict[str, dict[str, Any]]:
        rules: dict[str, dict[str, Any]] = {}
        for column in numeric:
            low, high = map(float, self._range(column))
            rules[column.name] = {"min": _plain_number(low), "max": _plain_number(high)}
        for column in categorical:
            if column.shape == "text" and column.distinct <= LISTED_CATEGORIES:
                rules[column.name] = {"values": sorted(pc.unique(column.values.drop_null()).to_pylist())}
        if rules:
            self.comments["data.columns"] = "ranges with much slack: what lies outside is an error, not drift"
        return rules

    def _range(self, column: Shaped) -> tuple[float, float]:
        ends = pc.min_max(column.values)
        low, high = float(ends["min"].as_py()), float(ends["max"].as_py())
        whole = self.sample.ranges.get(column.name)
        if whole is not None and all(map(math.isfinite, whole)):
            low, high = min(low, whole[0]), max(high, whole[1])
        known = _KNOWN_RANGES.get(column.name.lower())
        if known is not None and known[0] <= low and high <= known[1]:
            return known
        if low >= 0 and high <= 1 and (column.distinct == 2 or _SHARE_NAME.search(column.name)):
            return 0.0, 1.0
        span = high - low
        # Numbers that come close to zero and never pass it (counts, amounts) cannot; others (temperatures) can.
        near_zero = 0 <= low <= 0.05 * span
        return 0.0 if near_zero else _nice_below(low - span), _nice_above(high + span)

    def _candidates(self, period: str | None) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = [
            {
                "name": "boosting",
                "strategy": "retrain",
                "estimator": "sklearn.ensemble.HistGradientBoostingClassifier",
            },
            {
                "name": "logistic",
                "strategy": "retrain",
                "estimator": "sklearn.linear_model.LogisticRegression",
                "params": {"max_iter": 1000},
            },
        ]
        if period is not None and self.sample.rows >= ONLINE_ROWS:
            made.append(
                {
                    "name": "online",
                    "strategy": "incremental",
                    "estimator": "sklearn.linear_model.SGDClassifier",
                    "params": {"loss": "log_loss"},
                }
            )
        return made


_PERIOD_LIMITS = ((60, "day"), (180, "week"), (6 * 366, "month"), (12 * 366, "quarter"), (math.inf, "year"))
_PERIOD_FORMS = (
    ("day", r"\d{4}-\d{2}-\d{2}"),
    ("week", r"\d{4}-?W\d{2}"),
    ("month", r"\d{4}-\d{2}"),
    ("quarter", r"\d{4}-?Q\d"),
    ("year", r"\d{4}"),
)


def _period_unit(periods: Sequence[str]) -> str | None:
    for unit, form in _PERIOD_FORMS:
        if all(re.fullmatch(form, period) for period in periods):
            return unit
    return None


def _days(moment: Shaped) -> int:
    ends = pc.min_max(moment.values)
    return int((ends["max"].as_py() - ends["min"].as_py()).days)


def _is_unique_id(column: Shaped, rows: int) -> bool:
    if column.distinct != column.valid or column.valid < rows or rows < 2 or column.shape not in ("integer", "text"):
        return False
    if _ID_NAME.search(column.name):
        return True
    if column.shape == "text":
        words = pc.mean(pc.count_substring(column.values, " ")).as_py() or 0
        return rows >= 20 and words < 1
    ends = pc.min_max(column.values)
    consecutive: bool = ends["max"].as_py() - ends["min"].as_py() + 1 == rows
    return rows >= 20 and consecutive


def _is_code(column: Shaped) -> bool:
    """Whether whole numbers look like names: by the column's name, or few values far apart."""
    if column.distinct > MAX_CATEGORIES:
        return False
    if _CODE_NAME.search(column.name) or _ID_NAME.search(column.name):
        return True
    ends = pc.min_max(column.values)
    span = ends["max"].as_py() - ends["min"].as_py()
    return bool(2 < column.distinct <= LISTED_CATEGORIES and ends["min"].as_py() >= 100 and span > 20 * column.distinct)


def _bins(column: Shaped) -> npt.NDArray[np.int64]:
    """Each row's bin: categories as they are, numbers by at most 256 quantiles, null as a bin of its own (0)."""
    if column.shape in ("boolean", "text"):
        encoded = column.values.dictionary_encode()
        return np.asarray(pc.fill_null(encoded.indices.cast(pa.int64()), -1)) + 1
    values = column.values.cast(pa.int64()) if column.shape == "time" else column.values
    numbers = np.asarray(pc.fill_null(values.cast(pa.float64(), safe=False), np.nan))
    known = numbers[~np.isnan(numbers)]
    edges = np.unique(known)
    if len(edges) > 256:
        edges = np.unique(np.quantile(known, np.linspace(0, 1, 257), method="lower"))
    found: npt.NDArray[np.int64] = np.searchsorted(edges, numbers, side="right")
    return np.where(np.isnan(numbers), 0, found)


def single_column_auc(bins: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> float | None:
    """How well one column ranks the classes by itself: ROC AUC, one class against the rest, the mean over classes.

    ``bins``: int64 (n,), each row's bin, ≥ 0; ``labels``: int64 (n,), class codes, −1 for null. Even rows say how
    often a class is in each bin, odd rows are ranked by it, so that many bins do not flatter. None when there are
    too few rows to say.
    """
    known = labels >= 0
    bins, labels = bins[known], labels[known]
    if len(labels) < LEAK_ROWS:
        return None
    learn, judge = slice(0, None, 2), slice(1, None, 2)
    size = int(bins.max()) + 1
    in_bin = np.bincount(bins[learn], minlength=size)
    aucs = []
    for code in np.unique(labels):
        is_class = labels == code
        rate = (np.bincount(bins[learn], is_class[learn], size) + is_class.mean()) / (in_bin + 1)
        auc = _auc(rate[bins[judge]], is_class[judge])
        if auc is not None:
            aucs.append(auc)
    return float(np.mean(aucs)) if aucs else None


def _auc(scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float | None:
    """The share of (positive, negative) pairs ranked right, ties counted half (Mann–Whitney)."""
    _, places = np.unique(scores, return_inverse=True)
    ones = np.bincount(places, positive)
    zeros = np.bincount(places, ~positive)
    if ones.sum() == 0 or zeros.sum() == 0:
        return None
    below = np.cumsum(zeros) - zeros
    return float((ones * (below + zeros / 2)).sum() / (ones.sum() * zeros.sum()))


def _nice(value: float) -> float:
    """The least of 1, 2, 5 × 10ⁿ that is not below ``value`` > 0."""
    power = math.floor(math.log10(value))
    return next(number for number in map(float, _steps(power)) if number >= value)


def _nice_down(value: float) -> float:
    """The greatest of 1, 2, 5 × 10ⁿ that is not above ``value`` > 0."""
    power = math.floor(math.log10(value))
    return next(number for number in map(float, reversed(_steps(power))) if number <= value)


def _steps(power: int) -> list[str]:
    return [f"{step}e{power + shift}" for shift in (-1, 0, 1) for step in (1, 2, 5)]


def _nice_above(value: float) -> float:
    return _nice(value) if value > 0 else -_nice_down(-value) if value < 0 else 0.0


def _nice_below(value: float) -> float:
    return -_nice_above(-value)


def _plain_number(value: float) -> int | float:
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def _share(value: float) -> str:
    return f"{value:.1%}".replace(".0%", "%").replace("%", " %") if value >= 0.001 else "under 0.1 %"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 30 else text[:29] + "…"


def _label_text(label: Label) -> str:
    return str(label).lower() if isinstance(label, bool) else str(label)


def stem(source: str) -> str:
    name = PurePosixPath(source.rstrip("/")).name
    return re.sub(r"\.(csv|csv\.gz|parquet)$", "", name, flags=re.I)


def _slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    slug = re.sub(r"(-v[0-9]+)+$", "", slug)
    slug = slug if slug[:1].isalpha() else f"model-{slug}".rstrip("-")
    return slug[:40].rstrip("-")
