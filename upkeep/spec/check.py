"""Rules between the keys of a spec: what no single key can say. Each rule is a generator of problems.

Whether the data has the columns that the spec names is for those who open the data.
"""

from __future__ import annotations

import codecs
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from upkeep.errors import Problem, SpecError
from upkeep.spec.cron import read_cron
from upkeep.spec.load import Positions, missing_repository, nearest, read, resolve
from upkeep.spec.model import (
    ColumnRule,
    Custom,
    Ensemble,
    FineTune,
    Incremental,
    Label,
    ModelSpec,
    Retrain,
    SearchSpace,
)

CALENDAR_GROUPS = ("day", "week", "month")
LONGEST_LABEL = 63
"""A DNS label's length (RFC 1123), and so a Kubernetes service's."""
COMMON_CLASSIFIERS = (
    "sklearn.ensemble.HistGradientBoostingClassifier",
    "sklearn.ensemble.RandomForestClassifier",
    "sklearn.ensemble.ExtraTreesClassifier",
    "sklearn.ensemble.GradientBoostingClassifier",
    "sklearn.linear_model.LogisticRegression",
    "sklearn.linear_model.SGDClassifier",
    "sklearn.naive_bayes.GaussianNB",
    "sklearn.naive_bayes.MultinomialNB",
    "sklearn.neighbors.KNeighborsClassifier",
    "sklearn.neural_network.MLPClassifier",
    "sklearn.svm.SVC",
    "sklearn.tree.DecisionTreeClassifier",
)


@dataclass(frozen=True)
class _Context:
    spec: ModelSpec
    positions: Positions
    environ: Mapping[str, str]
    imports: bool
    """Whether scikit-learn may be imported, to look at its classes (seconds of CPU time)."""

    def error(self, message: str, fix: str, *path: str | int) -> Problem:
        return Problem(message, self.positions.where(*path), fix)

    def warning(self, message: str, fix: str, *path: str | int) -> Problem:
        return Problem(message, self.positions.where(*path), fix, severity="warning")


Rule = Callable[[_Context], Iterator[Problem]]


def load_checked(path: str | Path, environ: Mapping[str, str], *, imports: bool = False) -> ModelSpec:
    """The spec at ``path`` after both looks, at each key and between keys; its paths are absolute (``resolve``).

    ``environ``: the environment's variables. ``imports``: see :func:`check`. Raises :class:`SpecError` with all
    problems of both looks at once; warnings alone do not raise.
    """
    return load_with_warnings(path, environ, imports=imports)[0]


def load_with_warnings(
    path: str | Path, environ: Mapping[str, str], *, imports: bool = True
) -> tuple[ModelSpec, tuple[Problem, ...]]:
    """Like :func:`load_checked`, with the warnings."""
    parsed = read(path)
    spec = parsed.spec or parsed.repaired
    found = check(spec, parsed.positions, environ, imports=imports) if spec is not None else []
    problems = list(parsed.problems)
    reported = {problem.where.field for problem in problems}
    problems += [problem for problem in found if problem.where.field not in reported]
    if parsed.spec is None or any(problem.severity == "error" for problem in problems):
        raise SpecError(problems=tuple(sorted(problems, key=_place)))
    return resolve(parsed.spec, Path(path).parent), tuple(problems)


def check(spec: ModelSpec, positions: Positions, environ: Mapping[str, str], *, imports: bool = True) -> list[Problem]:
    """What is wrong between the keys of ``spec``, in the order of the file; ``severity`` tells errors from warnings.

    ``imports``: import scikit-learn's classes to see that they exist, classify, have ``partial_fit`` where it is
    needed, and know their parameters; it costs seconds. Nothing but scikit-learn is ever imported.
    """
    context = _Context(spec, positions, environ, imports)
    return sorted((problem for rule in RULES for problem in rule(context)), key=_place)


def _place(problem: Problem) -> tuple[int, int]:
    return problem.where.line or 0, problem.where.column or 0


def parse_decay(text: str) -> tuple[int, int, str]:
    """``2 of 3 days`` → ``(2, 3, "day")``. Raises ``ValueError`` with the reason."""
    match = re.fullmatch(r"\s*(\d+)\s+of\s+(\d+)\s+(hour|day|week|month|quarter|year)s?\s*", text)
    if not match:
        raise ValueError("it does not read like `2 of 3 days`")
    some, of, unit = int(match[1]), int(match[2]), match[3]
    if not 1 <= some <= of:
        raise ValueError(f"{some} of {of} can never happen" if some > of else "it would always hold")
    return some, of, unit


# --- names and places ----------------------------------------------------------------------------------------------


def _model_name(c: _Context) -> Iterator[Problem]:
    name = c.spec.name
    if re.search(r"-v[0-9]+$", name):
        yield c.error(
            f"the name {name} ends like a version: its route would be another model's service",
            f"for example `name: {re.sub(r'-v[0-9]+$', '', name)}`",
            "metadata",
            "name",
        )
    if name == "cluster":
        yield c.error(
            "the store's folder `cluster` belongs to what serves on one machine",
            "choose another name",
            "metadata",
            "name",
        )
    service = f"{name}-v9999-predictor"
    if len(service) > LONGEST_LABEL:
        yield c.error(
            f"the name is too long: {service} has {len(service)} characters, and a service may have {LONGEST_LABEL}",
            f"use at most {LONGEST_LABEL - len('-v9999-predictor')} characters",
            "metadata",
            "name",
        )


def _addresses(c: _Context) -> Iterator[Problem]:
    spec = c.spec
    for text, *path in (
        (spec.store, "store"),
        (spec.data.source, "data", "source"),
        (spec.monitoring.labels, "monitoring", "labels"),
        (spec.monitoring.payloads.source, "monitoring", "payloads", "source"),
    ):
        scheme, _, rest = text.partition("://") if "://" in text else ("", "", text)
        if not text and path[0] != "monitoring":
            yield c.error(f"`{path[-1]}` is empty", "give a folder or an s3:// address", *path)
        elif scheme not in ("", "s3", "file"):
            yield c.error(f"{scheme}:// is no address that Upkeep can open", "use a folder, file:// or s3://", *path)
        elif scheme == "s3" and not rest.split("/")[0]:
            yield c.error(f"{text} names no bucket", "write s3://bucket/prefix", *path)
    endpoint = spec.object_store.endpoint
    if endpoint is not None and (urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).netloc):
        yield c.error(
            f"{endpoint} is no URL of an S3 endpoint",
            "for example `endpoint: http://localhost:9000`",
            "object_store",
            "endpoint",
        )
    missing = missing_repository(spec, replace(c.positions.where("store"), field="rollout.repository"))
    if missing is not None:
        yield missing
    folder = PurePosixPath(spec.rollout.path)
    if folder.is_absolute() or ".." in folder.parts:
        yield c.error(
            f"{spec.rollout.path} does not stay inside the repository",
            f"for example `path: models/{spec.name}`",
            "rollout",
            "path",
        )


_PLAIN_SECRET = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD)(_|$)(?!(.*_)?(FILE|PATH)$)")
_TOKEN_LIKE = re.compile(r"(gh[a-z]|github_pat|glpat|gldt)[-_]|[A-Za-z0-9_-]{32,}$")
"""What hosts' tokens look like; some take one as the user's name of an address."""


def _secrets(c: _Context) -> Iterator[Problem]:
    """The spec is stored beside each version, and shown on its page: an address in it may hold no password."""
    spec = c.spec
    by_variable = "set {} where Upkeep runs"
    for text, fix, *path in (
        (spec.rollout.repository, by_variable.format("UPKEEP_GIT_TOKEN"), "rollout", "repository"),
        (
            spec.rollout.pull_request.api,
            by_variable.format(spec.rollout.pull_request.token_env),
            *("rollout", "pull_request", "api"),
        ),
        (spec.kubeflow.endpoint, by_variable.format("UPKEEP_KFP_TOKEN"), "kubeflow", "endpoint"),
        (
            spec.object_store.endpoint,
            by_variable.format("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
            *("object_store", "endpoint"),
        ),
    ):
        if text and _has_secret(text):
            yield c.error("the address holds a password or a token", f"take it out, and {fix}", *path)
    for index, webhook in enumerate(spec.rollout.webhooks):
        if _has_secret(webhook.url):
            yield c.error(
                "the address holds a password",
                "take it out, and sign with `secret_env`",
                *("rollout", "webhooks", index, "url"),
            )
    if _has_secret(spec.monitoring.prometheus):
        yield c.warning(
            "the address holds a password, which is stored with every version's spec",
            "let Prometheus be reached without one, through a proxy or a network policy",
            *("monitoring", "prometheus"),
        )


def _has_secret(address: str) -> bool:
    """Whether a URL's user part holds a password, or a token in place of a name."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return bool(parts.password or _TOKEN_LIKE.match(parts.username or ""))


def _csv(c: _Context) -> Iterator[Problem]:
    try:
        codecs.lookup(c.spec.data.encoding)
    except (LookupError, ValueError):
        meant = nearest(c.spec.data.encoding, ("utf-8", "utf-16", "latin-1", "cp1252", "ascii"))
        fix = f"did you mean `{meant}`?" if meant else "for example utf-8, latin-1 or cp1252"
        yield c.error(f"there is no encoding {c.spec.data.encoding!r}", fix, "data", "encoding")
    if c.spec.data.delimiter in '\n\r"':
        yield c.error("a CSV file cannot be cut at this character", "write `,`, `;` or `\\t`", "data", "delimiter")


# --- columns -------------------------------------------------------------------------------------------------------


def _target(c: _Context) -> Iterator[Problem]:
    data, target = c.spec.data, c.spec.data.target
    column = target.column
    for key in ("numeric", "categorical", "datetime"):
        names = getattr(data.features, key)
        if column in names:
            yield c.error(
                f"the target `{column}` is among the features: the model would read the answer",
                "remove it from the features",
                *("data", "features", key, names.index(column)),
            )
    for used, path in (
        (data.id, ("data", "id")),
        (data.time, ("data", "time")),
        (data.split.group, ("data", "split", "group")),
    ):
        if used == column:
            yield c.error(f"the target `{column}` cannot be the {path[-1]} as well", "name another column", *path)
    if column in data.slices:
        yield c.error(
            f"the target `{column}` is among the slices: every row of such a slice has the same label",
            "remove it from the slices",
            *("data", "slices", data.slices.index(column)),
        )
    for key in ("drop", "hash"):
        names = getattr(data.privacy, key)
        if column in names:
            verb = {"drop": "dropped", "hash": "hashed"}[key]
            yield c.error(
                f"the target `{column}` cannot be {verb}: nothing would be left to learn",
                f"remove it from `{key}`",
                *("data", "privacy", key, names.index(column)),
            )


def _classes(c: _Context) -> Iterator[Problem]:
    target, path = c.spec.data.target, ("data", "target")
    kind = _label_kind(target.positive) if target.positive is not None else ""
    if target.classes is None:
        return
    if len(target.classes) < 2:
        yield c.error("there must be two classes at least", "list all labels that may occur", *path, "classes")
    kinds = sorted({_label_kind(label) for label in target.classes})
    if len(kinds) > 1:
        yield c.error(
            f"the classes mix {' and '.join(kinds)}: a column holds one of them",
            "write all labels alike; quote those that are text",
            *(*path, "classes"),
        )
    for index, label in enumerate(target.classes):
        if _same_label(label, target.classes[:index]):
            yield c.error(f"the class {_shown(label)} is there twice", "remove one", *path, "classes", index)
    if target.positive is not None and len(kinds) == 1 and not _same_label(target.positive, target.classes):
        others = ", ".join(_shown(label) for label in target.classes)
        hint = f" (it is {kind}, they are {kinds[0]})" if kind != kinds[0] else ""
        yield c.error(
            f"the positive class {_shown(target.positive)} is none of the classes{hint}",
            f"write one of {others}",
            *(*path, "positive"),
        )
    if target.positive is not None and len(target.classes) > 2:
        yield c.error(
            f"a positive class is for two classes; there are {len(target.classes)}",
            "remove `positive`: the metrics are macro averages then",
            *(*path, "positive"),
        )


def _label_kind(label: Label) -> str:
    return "true/false" if isinstance(label, bool) else "numbers" if isinstance(label, int) else "text"


def _same_label(label: Label, others: Iterable[Label]) -> bool:
    return any(type(label) is type(other) and label == other for other in others)


def _shown(label: Label) -> str:
    return str(label).lower() if isinstance(label, bool) else repr(label)


def _features(c: _Context) -> Iterator[Problem]:
    data = c.spec.data
    if not data.features.all:
        yield c.error("there are no features", "list columns under `numeric` or `categorical`", "data", "features")
    seen: dict[str, str] = {}
    for key in ("numeric", "categorical", "datetime"):
        for index, name in enumerate(getattr(data.features, key)):
            if name in seen:
                yield c.error(
                    f"the feature `{name}` is here twice; it is under `{seen[name]}` already",
                    "keep it in one place",
                    *("data", "features", key, index),
                )
            seen.setdefault(name, key)
            if name == data.id:
                yield c.warning(
                    f"the id `{name}` is a feature: a model can learn rows by heart, and new rows have new ids",
                    "remove it from the features",
                    *("data", "features", key, index),
                )
            if name == data.time and key != "datetime":
                yield c.error(
                    f"`{name}` is the time, and cannot be a {key} feature",
                    "list it under `datetime`, or not as a feature",
                    *("data", "features", key, index),
                )
    if data.features.datetime and not c.spec.preprocess.dates:
        yield c.error(
            "no part of a date becomes a feature, but there are datetime columns",
            "list parts such as hour or day_of_week, or remove the columns",
            *("preprocess", "dates"),
        )
    if data.id is not None and data.id == data.time:
        yield c.error(f"`{data.id}` cannot be both the id and the time", "name another column", "data", "id")


def _column_names(c: _Context) -> Iterator[Problem]:
    data = c.spec.data
    named: list[tuple[str, tuple[str | int, ...]]] = [(data.target.column, ("data", "target", "column"))]
    named += [(name, ("data", key)) for key, name in (("id", data.id), ("time", data.time)) if name is not None]
    if data.split.group is not None:
        named.append((data.split.group, ("data", "split", "group")))
    for key in ("numeric", "categorical", "datetime"):
        named += [(name, ("data", "features", key, i)) for i, name in enumerate(getattr(data.features, key))]
    named += [(name, ("data", "slices", index)) for index, name in enumerate(data.slices)]
    for name, path in named:
        if not name.strip():
            yield c.error("a column's name is empty", "write the name of a column", *path)
        elif name.startswith("_"):
            yield c.error(
                f"`{name}`: names that begin with _ are kept for Upkeep's own columns",
                "rename the column in the data",
                *path,
            )
    for key, names in (
        ("slices", data.slices),
        ("privacy.drop", data.privacy.drop),
        ("privacy.hash", data.privacy.hash),
    ):
        for index, name in enumerate(names):
            if name in names[:index]:
                yield c.error(f"`{name}` is in `{key}` twice", "remove one of them", "data", *key.split("."), index)


def _privacy(c: _Context) -> Iterator[Problem]:
    data, privacy = c.spec.data, c.spec.data.privacy
    uses = _uses(c.spec)
    for index, name in enumerate(privacy.drop):
        path = ("data", "privacy", "drop", index)
        for use in uses.get(name, ()):
            if use != "target":
                yield c.error(
                    f"`{name}` is dropped before anything is written, and cannot be {use}",
                    "remove it here or there; `hash` keeps a column's values apart without showing them",
                    *path,
                )
        if name in privacy.hash:
            yield c.error(f"`{name}` cannot be both dropped and hashed", "keep it in one of the lists", *path)
    for index, name in enumerate(privacy.hash):
        path = ("data", "privacy", "hash", index)
        if name in data.features.numeric or name in data.features.datetime or name == data.time:
            kind = "a number" if name in data.features.numeric else "a time"
            yield c.error(
                f"`{name}` is used as {kind}, and a hash is text",
                "make it categorical, or do not hash it",
                *path,
            )
        elif name not in uses:
            yield c.warning(
                f"`{name}` is hashed but used by nothing: it is not written anyway", "remove it here", *path
            )
    if privacy.hash:
        value = c.environ.get(privacy.key, "")
        if not value and any(privacy.key in secret.env for secret in c.spec.kubeflow.secrets):
            yield c.warning(
                f"only steps on Kubeflow have {privacy.key}, the key of the keyed hash: nothing here can read the data",
                f"to run an update here too, set {privacy.key} to the same key",
                *("data", "privacy", "hash"),
            )
        elif not value:
            yield c.error(
                f"the environment has no {privacy.key}, the key of the keyed hash",
                f"set it, for example `export {privacy.key}=$(openssl rand -hex 32)`, and keep it: "
                "another key gives other hashes",
                *("data", "privacy", "hash"),
            )
        elif len(value) < 16:
            yield c.warning(
                f"the key in {privacy.key} is short: hashes of few values could be guessed back",
                "use 32 random bytes or so",
                *("data", "privacy", "key"),
            )


def _uses(spec: ModelSpec) -> dict[str, list[str]]:
    """Column → what it is used as."""
    data = spec.data
    uses: dict[str, list[str]] = {}
    pairs: list[tuple[str | None, str]] = [(data.target.column, "target"), (data.id, "the id"), (data.time, "the time")]
    if data.split.group not in CALENDAR_GROUPS:
        pairs.append((data.split.group, "the split's group"))
    pairs += [(name, "a feature") for name in data.features.all] + [(name, "a slice") for name in data.slices]
    for name, use in pairs:
        if name is not None:
            uses.setdefault(name, []).append(use)
    return uses


def _column_rules(c: _Context) -> Iterator[Problem]:
    data, uses = c.spec.data, _uses(c.spec)
    for name, rule in data.columns.items():
        path = ("data", "columns", name)
        if name not in uses:
            meant = nearest(name, uses)
            fix = f"did you mean `{meant}`?" if meant else "remove the rule, or add the column to the features"
            yield c.error(f"nothing uses the column `{name}`, so this rule would never apply", fix, *path)
            continue
        yield from _column_rule(c, name, rule, path)


def _column_rule(c: _Context, name: str, rule: ColumnRule, path: tuple[str, ...]) -> Iterator[Problem]:
    data = c.spec.data
    numeric = name in data.features.numeric
    for key in ("min", "max"):
        if getattr(rule, key) is not None and not numeric:
            yield c.error(f"`{name}` is no numeric feature: `{key}` cannot be held against it", "remove it", *path, key)
    if rule.min is not None and rule.max is not None and rule.min > rule.max:
        yield c.error(f"min {rule.min:g} is above max {rule.max:g}: every row would be refused", "swap them", *path)
    if rule.values is not None and name == data.target.column:
        yield c.error("the labels of the target are listed elsewhere", "use `data.target.classes`", *path, "values")
    elif rule.values is not None and (numeric or name in data.features.datetime or name == data.time):
        yield c.error(
            f"`{name}` has no categories to list", "use `min` and `max`, or make it categorical", *path, "values"
        )
    elif rule.values is not None and not rule.values:
        yield c.error("the list of known categories is empty", "list them, or remove the key", *path, "values")
    if rule.unknown == "quarantine" and rule.values is None:
        yield c.error(
            "without `values` no category is known, and none can be refused as unknown",
            "list the known categories as `values`",
            *(*path, "unknown"),
        )


def _split(c: _Context) -> Iterator[Problem]:
    data, split, path = c.spec.data, c.spec.data.split, ("data", "split")
    if split.group in CALENDAR_GROUPS and data.time is None:
        yield c.error(
            f"to hold out by {split.group}, the rows need a time",
            "name the column of the time as `data.time`",
            *(*path, "group"),
        )
    if split.method == "hash" and data.id is None and split.group is None:
        guard = (
            "only an exact copy of a held-out row is kept out of training"
            if split.same_content
            else "a held-out row that comes back may be trained on"
        )
        yield c.warning(
            f"rows have no id and no group: a row's content decides whether it is held out, and {guard}",
            "name `data.id`, or a group such as `split: {group: day}` where rows of one day share what decides them",
            *path,
        )
    if split.method != "prequential" and not 0 < split.held_out < 1:
        what = "nothing would be held out, and nothing could be judged" if split.held_out == 0 else "nothing to train"
        yield c.error(f"`held_out` is {split.held_out:g}: {what}", "hold out 20% or so", *path, "held_out")
    if split.validation >= 1:
        yield c.error("`validation` is 1: nothing to train on would be left", "use 20% or so", *path, "validation")
    if split.validation == 0 and len(c.spec.candidates) > 1:
        yield c.error(
            "with more than one candidate, the best is chosen on validation rows, and there are none",
            "use 20% or so",
            *(*path, "validation"),
        )


# --- preprocess and drift ------------------------------------------------------------------------------------------


def _preprocess(c: _Context) -> Iterator[Problem]:
    outliers, path = c.spec.preprocess.outliers, ("preprocess", "outliers")
    if outliers.method == "isolation_forest" and outliers.action == "clip":
        yield c.error(
            "an isolation forest calls whole rows outliers and knows no fence to clip to",
            "use `action: drop` or `action: flag`, or `method: quantile`",
            *(*path, "action"),
        )
    low, high = outliers.quantiles
    if low >= high:
        yield c.error(f"the quantiles must rise, and are {low:g} and {high:g}", "swap them", *path, "quantiles")
    if outliers.method != "none" and not c.spec.data.features.numeric:
        yield c.warning("outliers are looked for in numeric columns, and there are none", "remove it", *path)


def _drift(c: _Context) -> Iterator[Problem]:
    data = c.spec.data
    if c.spec.drift.persist > 1 and data.period is None and data.time is None:
        yield c.warning(
            f"drift must persist for {c.spec.drift.persist} periods, and each file counts as one",
            "say `data.period`, and `data.time` if there are no period=… folders",
            *("drift", "persist"),
        )


# --- candidates ----------------------------------------------------------------------------------------------------


def _candidate_names(c: _Context) -> Iterator[Problem]:
    names = [candidate.name for candidate in c.spec.candidates]
    for index, name in enumerate(names):
        if name == "champion":
            yield c.error(
                "`champion` is what the serving model is called", "choose another name", "candidates", index, "name"
            )
        if name in names[:index]:
            yield c.error(
                f"two candidates are called {name}", "give each a name of its own", "candidates", index, "name"
            )


def _ensembles(c: _Context) -> Iterator[Problem]:
    names = {candidate.name for candidate in c.spec.candidates}
    members = {e.name: e.members for e in c.spec.candidates if isinstance(e, Ensemble)}
    for index, candidate in enumerate(c.spec.candidates):
        if not isinstance(candidate, Ensemble):
            continue
        path = ("candidates", index)
        for place, member in enumerate(candidate.members):
            here = (*path, "members", place)
            if member == candidate.name:
                yield c.error(f"the ensemble {member} cannot be a member of itself", "remove it", *here)
            elif member not in names and member != "champion":
                meant = nearest(member, [*(names - {candidate.name}), "champion"])
                fix = f"did you mean `{meant}`?" if meant else "name other candidates, or `champion`"
                yield c.error(f"there is no candidate {member}", fix, *here)
            elif member in candidate.members[:place]:
                yield c.error(f"{member} is a member twice", "remove one; `weights` can give it more say", *here)
            elif candidate.name in _reached(member, members):
                yield c.error(
                    f"{candidate.name} and {member} are members of one another: neither can be trained first",
                    "break the circle",
                    *here,
                )
        if candidate.weights is not None and candidate.method != "soft_vote":
            yield c.error("stacking learns its weights", "remove `weights`, or use soft_vote", *path, "weights")
        elif candidate.weights is not None and len(candidate.weights) != len(candidate.members):
            yield c.error(
                f"there are {len(candidate.weights)} weights for {len(candidate.members)} members",
                "give one weight a member, in their order",
                *(*path, "weights"),
            )


def _reached(start: str, members: Mapping[str, tuple[str, ...]]) -> set[str]:
    """Every candidate that ``start`` is made of, at any depth."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        for member in members.get(waiting.pop(), ()):
            if member not in reached:
                reached.add(member)
                waiting.append(member)
    return reached


def _estimators(c: _Context) -> Iterator[Problem]:
    for index, path in enumerate(c.spec.estimators):
        if not _is_import_path(path):
            yield c.error(f"{path!r} is no import path", "for example `package.module.Class`", "estimators", index)
    for index, candidate in enumerate(c.spec.candidates):
        if isinstance(candidate, Retrain | Incremental):
            yield from _estimator(c, candidate, ("candidates", index))


def _is_import_path(path: str) -> bool:
    parts = path.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


def _estimator(c: _Context, candidate: Retrain | Incremental, path: tuple[str | int, ...]) -> Iterator[Problem]:
    estimator, here = candidate.estimator, (*path, "estimator")
    if estimator in c.spec.estimators:
        return
    short = {each.rsplit(".", 1)[1]: each for each in COMMON_CLASSIFIERS}
    meant = nearest(estimator, COMMON_CLASSIFIERS) or short.get(nearest(estimator.rsplit(".", 1)[-1], short), "")
    suggestion = f"did you mean `{meant}`?" if meant else ""
    if not _is_import_path(estimator):
        yield c.error(
            f"`estimator` must be an import path, and is {estimator!r}",
            suggestion or "for example `sklearn.linear_model.LogisticRegression`",
            *here,
        )
        return
    if not estimator.startswith("sklearn."):
        yield c.error(
            f"{estimator} is not of scikit-learn, and is not allowed",
            suggestion or f"if you trust it, add `estimators: [{estimator}]` to the spec",
            *here,
        )
        return
    if not c.imports:
        return
    found = _sklearn_class(estimator)
    if found is None:
        yield c.error(f"scikit-learn has no {estimator}", suggestion or "look it up in scikit-learn's API page", *here)
        return
    from sklearn.base import ClassifierMixin

    if not issubclass(found, ClassifierMixin):
        yield c.error(f"{estimator} is no classifier", suggestion or "name a classifier", *here)
        return
    if isinstance(candidate, Incremental) and not hasattr(found, "partial_fit"):
        yield c.error(
            f"{estimator} has no partial_fit: it cannot go on from where it stood",
            "use `strategy: retrain`, or an estimator such as sklearn.linear_model.SGDClassifier",
            *here,
        )
    yield from _parameters(c, candidate, found, path)


def _sklearn_class(path: str) -> type | None:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
    return found if inspect.isclass(found) and hasattr(found, "fit") else None


def _parameters(
    c: _Context, candidate: Retrain | Incremental, estimator: type, path: tuple[str | int, ...]
) -> Iterator[Problem]:
    signature = inspect.signature(estimator).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.values()):
        return
    search = candidate.search if isinstance(candidate, Retrain) else None
    given: list[tuple[str, tuple[str | int, ...]]] = [(name, (*path, "params", name)) for name in candidate.params]
    if search is not None:
        given += [(name, (*path, "search", "space", name)) for name in search.space]
    for name, here in given:
        if name.split("__")[0] not in signature:
            meant = nearest(name, signature)
            fix = f"did you mean `{meant}`?" if meant else f"it has {', '.join(signature)}"
            yield c.error(f"{estimator.__name__} has no parameter `{name}`", fix, *here)
    yield from _values(c, candidate.params, estimator, (*path, "params"))


def _values(
    c: _Context, params: Mapping[str, object], estimator: type, path: tuple[str | int, ...]
) -> Iterator[Problem]:
    """What scikit-learn would refuse when it fits; an estimator in an estimator is left to it."""
    from sklearn.utils._param_validation import InvalidParameterError, validate_parameter_constraints

    constraints = getattr(estimator, "_parameter_constraints", {})
    for name, value in params.items():
        if name in constraints and not (isinstance(value, str) and "." in value):
            try:
                validate_parameter_constraints(constraints, {name: value}, caller_name=estimator.__name__)
            except InvalidParameterError as error:
                yield c.error(" ".join(str(error).split()), "correct the value", *path, name)


def _searches(c: _Context) -> Iterator[Problem]:
    for index, candidate in enumerate(c.spec.candidates):
        if not isinstance(candidate, Retrain | FineTune) or candidate.search is None:
            continue
        path: tuple[str | int, ...] = ("candidates", index, "search", "space")
        if not candidate.search.space:
            yield c.error("there is nothing to search", "name a parameter with `low` and `high`, or `choices`", *path)
        for name, space in candidate.search.space.items():
            for message, fix in _search_space(space):
                yield c.error(f"`{name}`: {message}", fix, *path, name)
            if isinstance(candidate, FineTune):
                if name not in SEARCHED:
                    meant = nearest(name, SEARCHED)
                    fix = f"did you mean `{meant}`?" if meant else f"search some of {', '.join(SEARCHED)}"
                    yield c.error(f"`{name}` is nothing that a network's search can set", fix, *path, name)
            elif name in candidate.params:
                yield c.warning(f"`{name}` is searched, and set in `params` too", "remove one", *path, name)


def _search_space(space: SearchSpace) -> Iterator[tuple[str, str]]:
    low, high, choices = space.low, space.high, space.choices
    if choices is not None:
        if low is not None or high is not None:
            yield "both a range and choices", "keep `low` and `high`, or `choices`"
        if not choices:
            yield "the list of choices is empty", "list two values at least"
        if space.log or space.integer:
            yield "`log` and `integer` are for a range", "remove them beside `choices`"
        return
    if low is None or high is None:
        yield "neither a whole range nor choices", "give `low` and `high`, or `choices`"
        return
    if low >= high:
        yield f"low {low:g} is not below high {high:g}", "swap them, or set the parameter in `params`"
    if space.log and low <= 0:
        yield f"a logarithmic scale has no place for {low:g}", "use a `low` above 0"
    if space.integer and not (low.is_integer() and high.is_integer()):
        yield "whole numbers are asked for, between bounds that are none", "round `low` and `high`"


def _custom(c: _Context) -> Iterator[Problem]:
    for index, candidate in enumerate(c.spec.candidates):
        if isinstance(candidate, Custom):
            module, _, function = candidate.function.partition(":")
            if not all(part.isidentifier() for part in [*module.split("."), function]):
                yield c.error(
                    f"{candidate.function} is no function's import path",
                    "write package.module:function",
                    *("candidates", index, "function"),
                )


SEARCHED = (
    "batch_rows",
    "class_weight",
    "distill.temperature",
    "distill.weight",
    "epochs",
    "network.dropout",
    "network.embedding",
    "network.hidden",
    "optimizer.clip_norm",
    "optimizer.kind",
    "optimizer.momentum",
    "optimizer.rate",
    "optimizer.schedule",
    "optimizer.warm_up",
    "optimizer.weight_decay",
    "rehearsal",
    "train.last",
    "train.lora.rank",
    "unfreeze",
)
"""What the search of a fine_tune candidate may set."""


def _fine_tunes(c: _Context) -> Iterator[Problem]:
    for index, candidate in enumerate(c.spec.candidates):
        if isinstance(candidate, FineTune):
            path: tuple[str | int, ...] = ("candidates", index)
            yield from _tensorflow(c, path)
            yield from _base(c, candidate, path)
            yield from _text(c, candidate, path)
            yield from _trained_layers(c, candidate, path)
            yield from _devices(c, candidate, path)
            if candidate.optimizer.momentum is not None and candidate.optimizer.kind != "sgd":
                yield c.error(
                    f"{candidate.optimizer.kind} has no momentum to set",
                    "remove it, or use `kind: sgd`",
                    *(*path, "optimizer", "momentum"),
                )
            stopping = candidate.early_stopping
            if stopping is not None and stopping.patience >= candidate.epochs:
                yield c.warning(
                    f"training ends after {candidate.epochs} epochs, before {stopping.patience} without a lower loss",
                    "raise `epochs`, or lower `patience`",
                    *(*path, "early_stopping", "patience"),
                )
            if c.spec.preprocess.outliers.method == "isolation_forest":
                yield c.error(
                    "an isolation forest cannot live inside a network",
                    "use `method: quantile` or `method: iqr` in `preprocess.outliers`",
                    *(*path, "strategy"),
                )
            if c.spec.preprocess.impute_numeric == "none":
                yield c.warning(
                    "a network takes no nulls: it fills in the median, whatever `preprocess.impute_numeric` says",
                    "set it to auto",
                    *(*path, "strategy"),
                )


def _tensorflow(c: _Context, path: tuple[str | int, ...]) -> Iterator[Problem]:
    if c.imports and any(importlib.util.find_spec(name) is None for name in ("tensorflow", "keras")):
        yield c.error(
            "`fine_tune` needs Keras on TensorFlow, which is not installed",
            "pip install 'upkeep[tensorflow]'",
            *(*path, "strategy"),
        )


def _devices(c: _Context, candidate: FineTune, path: tuple[str | int, ...]) -> Iterator[Problem]:
    if candidate.devices != "one" and candidate.precision == "mixed_float16":
        yield c.error(
            "mixed_float16 scales the loss of one device alone",
            "use `precision: mixed_bfloat16`, or `devices: one`",
            *path,
            "precision",
        )
    named = (c.spec.kubeflow.steps.get(name) for name in (f"train {candidate.name}", "train"))
    if candidate.devices == "workers" and not any(needs and needs.workers for needs in named):
        yield c.warning(
            "two workers train it, in pods that an update on Kubeflow starts; `upkeep run` cannot",
            f"say how many in `kubeflow.steps: {{train {candidate.name}: {{workers: 2}}}}`",
            *path,
            "devices",
        )
    if candidate.devices == "workers" and candidate.search is not None:
        yield c.error(
            "several workers cannot search together: each would choose by its own clock and memory",
            "search with `devices: one` or `all`, and write what it found in the candidate",
            *path,
            "search",
        )


def _base(c: _Context, candidate: FineTune, path: tuple[str | int, ...]) -> Iterator[Problem]:
    base, here = candidate.base, (*path, "base")
    pinned = base not in ("", "champion")
    scheme = base.partition("://")[0] if "://" in base else ""
    if scheme not in ("", "s3"):
        yield c.error(f"{scheme}:// is no address that a base is read from", "use a path or s3://", *here)
    elif base.endswith((".h5", ".hdf5")):
        yield c.error(
            "an .h5 file is never opened: loading one can run what it brings along",
            "load it where you trust it, and write it with model.save('….keras')",
            *here,
        )
    if pinned and not candidate.digest:
        yield c.error(
            "the base is not pinned: other bytes at this place would be another model",
            "add `digest:` with the SHA-256 of the file (sha256sum), or the digest of the model folder",
            *here,
        )
    elif candidate.digest and not pinned:
        why = "the champion's digest is known" if base else "there is no base"
        yield c.error(f"{why}, so there is nothing to pin", "remove `digest`", *path, "digest")
    elif candidate.digest and not re.fullmatch(r"[0-9a-f]{64}", candidate.digest):
        yield c.error("this is no SHA-256 digest", "write its 64 hexadecimal digits", *path, "digest")
    if candidate.new_features == "add" and not base:
        yield c.error(
            "a network from nothing takes every column",
            "remove `new_features`, or name a `base`",
            *path,
            "new_features",
        )
    if pinned and candidate.network is not None:
        yield c.error(
            "there is a base, so no network from nothing is built", "remove `network`, or `base`", *path, "network"
        )


def _text(c: _Context, candidate: FineTune, path: tuple[str | int, ...]) -> Iterator[Problem]:
    texts = c.spec.data.features.categorical
    if candidate.text and candidate.base in ("", "champion"):
        yield c.error("only a KerasHub preset reads a text", "name the preset as `base`", *path, "text")
    elif candidate.text and candidate.text not in texts:
        meant = nearest(candidate.text, texts)
        fix = f"did you mean `{meant}`?" if meant else "list it under `data.features.categorical`"
        yield c.error(f"`{candidate.text}` is no categorical feature", fix, *path, "text")


def _trained_layers(c: _Context, candidate: FineTune, path: tuple[str | int, ...]) -> Iterator[Problem]:
    train, here = candidate.train, (*path, "train")
    given = [key for key in ("last", "layers", "lora") if getattr(train, key) is not None]
    if len(given) > 1:
        yield c.error(f"{' and '.join(f'`{key}`' for key in given)} say different things", "keep one of them", *here)
    if given and not candidate.base:
        yield c.error(
            "a network from nothing must learn whole: layers that do not learn would keep their random start",
            "remove `train`, or name a `base`",
            *here,
        )
    if candidate.keep == "delta" and not given:
        yield c.error(
            "everything learns, so nothing is left to keep once for all versions",
            "say in `train` what learns (lora, last or layers), or remove `keep`",
            *(*path, "keep"),
        )
    if candidate.unfreeze is not None and train.lora is not None:
        yield c.error(
            "low-rank adapters leave the layers frozen: there is nothing to unfreeze", "remove `unfreeze`", *path,
            "unfreeze",
        )  # fmt: skip


# --- gate ----------------------------------------------------------------------------------------------------------


def _gate(c: _Context) -> Iterator[Problem]:
    gate, target = c.spec.gate, c.spec.data.target
    for metric, value in gate.at_least.items():
        if value > 1 and metric != "log_loss":
            yield c.error(
                f"{metric} is never above 1, and must be {value:g}",
                f"did you mean `{metric}: {value:g}%`?" if value <= 100 else "use a value between 0 and 1",
                *("gate", "at_least", metric),
            )
    if gate.better.by >= 1 and gate.better.metric != "log_loss":
        yield c.error(
            f"no candidate can be better by {gate.better.by:g}: {gate.better.metric} lies between 0 and 1",
            "use a small difference such as 0.005",
            *("gate", "better", "by"),
        )
    if gate.forgetting is not None and c.spec.data.split.method != "hash":
        yield c.error(
            f"with `split.method: {c.spec.data.split.method}` old periods have no rows that stay held out, so what is "
            "forgotten cannot be judged",
            "remove it, or split by hash",
            *("gate", "forgetting"),
        )
    wants_positive = [m for m in (gate.better.metric, *gate.at_least) if m in ("f1", "precision", "recall")]
    two = target.classes is not None and len(target.classes) == 2
    if wants_positive and two and target.positive is None:
        yield c.warning(
            f"there are two classes and none is called positive: {wants_positive[0]} will be the mean over both",
            "name the class that matters as `data.target.positive`",
            *("data", "target"),
        )


def _explain(c: _Context) -> Iterator[Problem]:
    if c.spec.explain.shap and c.imports and importlib.util.find_spec("shap") is None:
        yield c.error(
            "`explain.shap` needs the package shap, which is not installed",
            "pip install 'upkeep[shap]'",
            *("explain", "shap"),
        )


def _fairness(c: _Context) -> Iterator[Problem]:
    data, target = c.spec.data, c.spec.data.target
    for index, rule in enumerate(c.spec.gate.fairness):
        path = ("gate", "fairness", index)
        if rule.column not in data.slices:
            meant = nearest(rule.column, data.slices)
            fix = f"did you mean `{meant}`?" if meant else f"add `{rule.column}` to `data.slices`"
            yield c.error(
                f"`{rule.column}` is not among the slices, so its groups are not measured", fix, *path, "column"
            )
        limits = (
            rule.demographic_parity_difference,
            rule.equalized_odds_difference,
            rule.equal_opportunity_difference,
        )
        if all(limit is None for limit in limits):
            yield c.error(
                "the rule sets no limit, so nothing could fail it",
                "for example `equal_opportunity_difference: 0.1`",
                *path,
            )
        if target.classes is not None and len(target.classes) > 2:
            yield c.error(f"fairness is measured for two classes; there are {len(target.classes)}", "remove it", *path)
        elif target.positive is None:
            yield c.error(
                "fairness compares how often groups get the positive class, and none is named",
                "name it as `data.target.positive`",
                *path,
            )


# --- serving, rollout, monitoring ----------------------------------------------------------------------------------


def _serving(c: _Context) -> Iterator[Problem]:
    serving, path = c.spec.serving, ("serving",)
    if serving.min_replicas > serving.max_replicas:
        yield c.error(
            f"min_replicas {serving.min_replicas} is above max_replicas {serving.max_replicas}",
            "raise max_replicas",
            *(*path, "min_replicas"),
        )
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?", serving.gateway):
        yield c.error(
            f"the gateway is {serving.gateway!r}, and not like namespace/name",
            "for example `gateway: kserve/kserve-ingress-gateway`",
            *(*path, "gateway"),
        )


def _rollout(c: _Context) -> Iterator[Problem]:
    steps = c.spec.rollout.steps
    if not steps:
        yield c.error(
            "without a step a challenger would get all traffic as soon as it is ready",
            "name at least one, for example `steps: [5%, 25%, 50%]`",
            *("rollout", "steps"),
        )
    for index, step in enumerate(steps):
        path = ("rollout", "steps", index)
        if not 0 < step < 1:
            why = "before the first step it is at 0 anyway" if step == 0 else "after the last it is promoted anyway"
            yield c.error(f"the step {step:.0%} is not between 0% and 100%: {why}", "remove it", *path)
        elif index and step <= steps[index - 1]:
            yield c.error(f"the steps must rise: {step:g} comes after {steps[index - 1]:g}", "put them in order", *path)
        elif round(step * 100) != round(step * 100, 9):
            yield c.error(f"the step {step:.4%} is not whole per cent", "traffic is divided in whole per cent", *path)


def _rollout_people(c: _Context) -> Iterator[Problem]:
    """Approvals, windows and webhooks."""
    rollout = c.spec.rollout
    for index, share in enumerate(rollout.approve):
        if share not in (0.0, *rollout.steps):
            yield c.error(
                f"{share:.0%} is none of the steps",
                "name a step, or 0% for before the first",
                "rollout",
                "approve",
                index,
            )
    by_request = rollout.approve_by == "pull_request"
    if by_request and not rollout.approve:
        yield c.error("no weight waits for an approval", "name some in `rollout.approve`", "rollout", "approve_by")
    if by_request and not rollout.brake:
        yield c.error(
            "where the branch is protected a roll-back waits for a merge, and until then only the brake helps",
            "leave `brake` on",
            *("rollout", "brake"),
        )
    if rollout.pull_request.host and not by_request:
        yield c.error(
            "no pull request is ever made", "write `approve_by: pull_request`", *("rollout", "pull_request", "host")
        )
    for index, window in enumerate(rollout.windows):
        path = ("rollout", "windows", index)
        if window.zone not in available_timezones():
            yield c.error(f"{window.zone!r} is no time zone", "for example `zone: Europe/London`", *path, "zone")
        if window.start >= window.end:
            yield c.error(
                f"the window ends at {window.end}, not after {window.start}",
                "a window lies within a day; make two for one that goes over midnight",
                *(*path, "end"),
            )
        if not window.days:
            yield c.error("a window without a day never opens", "name its days", *path, "days")
    for index, webhook in enumerate(rollout.webhooks):
        if urlsplit(webhook.url).scheme not in ("http", "https") or not urlsplit(webhook.url).netloc:
            yield c.error(f"{webhook.url!r} is no web address", "write https://…", "rollout", "webhooks", index, "url")


_NEED_LABELS = ("accuracy", "precision", "recall", "f1")
_NEED_POSITIVE = _NEED_LABELS[1:]


def _no_positive(c: _Context, metric: str, *path: str | int) -> Problem:
    return c.error(
        f"in a rollout {metric} is that of one class, and `data.target.positive` does not say which",
        "name the positive class of two; of several classes, accuracy can be compared and limited",
        *path,
    )


def _rollout_evidence(c: _Context) -> Iterator[Problem]:
    """What an analysis is asked for must be there to be measured."""
    rollout, labels = c.spec.rollout, c.spec.monitoring.labels
    if "accuracy" in rollout.required and not labels:
        yield c.error(
            "accuracy is required, and `monitoring.labels` does not say where labels arrive: no step would ever pass",
            "name the folder or address of the labels, or do not require accuracy",
            *("rollout", "required"),
        )
    for index, threshold in enumerate(rollout.thresholds):
        path = ("rollout", "thresholds", index)
        if (threshold.at_most is None) == (threshold.at_least is None):
            yield c.error("a threshold has exactly one of at_most and at_least", "write one of them", *path)
        if threshold.metric in _NEED_LABELS and not labels:
            yield c.error(
                f"{threshold.metric} needs labels, and `monitoring.labels` does not say where they arrive",
                "name the folder or address of the labels",
                *(*path, "metric"),
            )
        if threshold.metric in _NEED_POSITIVE and c.spec.data.target.positive is None:
            yield _no_positive(c, threshold.metric, *path, "metric")
    for name in ("precision", "recall"):
        if getattr(rollout.margin, name) is None:
            continue
        margin = ("rollout", "margin", name)
        if not labels:
            yield c.error(
                f"{name} needs labels, and `monitoring.labels` does not say where they arrive",
                "name the folder or address of the labels",
                *margin,
            )
        if c.spec.data.target.positive is None:
            yield _no_positive(c, name, *margin)
    if rollout.margin.predictions is not None and not c.spec.monitoring.payloads.log:
        yield c.error(
            "predictions are read from the payload log, and `monitoring.payloads.log` is off",
            "log the requests, or do not compare predictions",
            *("rollout", "margin", "predictions"),
        )
    if rollout.limits.step < rollout.timeout:
        yield c.error(
            "a step's limit is shorter than a request's timeout, and no step passes sooner",
            "raise limits.step, or lower timeout",
            *("rollout", "limits", "step"),
        )


def _monitoring(c: _Context) -> Iterator[Problem]:
    when, path = c.spec.monitoring.update_when, ("monitoring", "update_when")
    if when.schedule:
        try:
            read_cron(when.schedule)
        except ValueError as error:
            yield c.error(
                f"the schedule {when.schedule!r} cannot be read: {error}",
                'for example `schedule: "0 3 1 * *"`, at 03:00 UTC on the first of each month',
                *(*path, "schedule"),
            )
    if when.decay:
        try:
            parse_decay(when.decay)
        except ValueError as error:
            yield c.error(f"`decay` is {when.decay!r}: {error}", "for example `decay: 2 of 3 days`", *path, "decay")
        else:
            if not c.spec.monitoring.labels:
                yield c.warning(
                    "decay is seen in labels, and `monitoring.labels` does not say where they arrive",
                    "name the folder or address of the labels",
                    *(*path, "decay"),
                )


STEPS = ("collect", "preprocess", "drift", "train", "evaluate", "deploy")
"""The steps of an update, by name."""
OUR_VARIABLES = (
    "UPKEEP_RUN", "UPKEEP_UPDATE", "UPKEEP_TFJOB",
    "UPKEEP_POD_NAMESPACE", "UPKEEP_POD_NAME", "UPKEEP_POD_UID", "UPKEEP_POD_ACCOUNT",
)  # fmt: skip


def _kubeflow(c: _Context) -> Iterator[Problem]:
    kubeflow = c.spec.kubeflow
    known = ("all", *STEPS, *(f"train {candidate.name}" for candidate in c.spec.candidates))
    for name in kubeflow.steps:
        if name not in known:
            meant = nearest(name, known)
            fix = f"did you mean `{meant}`?" if meant else f"name one of {', '.join(known)}"
            yield c.error(f"there is no step {name!r}", fix, "kubeflow", "steps", name)
    on_workers = [each.name for each in c.spec.candidates if isinstance(each, FineTune) and each.devices == "workers"]
    for name, needs in kubeflow.steps.items():
        if needs.workers and not (on_workers and name in ("train", *(f"train {each}" for each in on_workers))):
            yield c.error(
                "workers train a candidate with `devices: workers`, and nothing else",
                "write `devices: workers` in the candidate, and `workers` at `train` or at that candidate's name",
                *("kubeflow", "steps", name, "workers"),
            )
        for index, toleration in enumerate(needs.tolerations or ()):
            path = ("kubeflow", "steps", name, "tolerations", index)
            if toleration.operator == "Exists" and toleration.value:
                yield c.error("`Exists` takes any value, and one is named", "remove `value`", *path)
            if toleration.operator == "Equal" and not toleration.key:
                yield c.error("a toleration without a key", "name the taint's key, or write `operator: Exists`", *path)
    given: dict[str, str] = dict.fromkeys(kubeflow.env, "env")
    for index, secret in enumerate(kubeflow.secrets):
        at = ("kubeflow", "secrets", index)
        if not secret.env and not secret.mount:
            yield c.error(f"nothing is taken from the secret {secret.name}", "name `env`, or `mount`", *at)
        for variable in secret.env:
            if variable in given:
                where = f"{given[variable]} gives it already"
                yield c.error(f"{variable} twice: {where}", "remove one of the two", *at, "env", variable)
            given.setdefault(variable, f"the secret {secret.name}")
    for variable in given:
        if variable in OUR_VARIABLES:
            yield c.error(f"{variable} is the steps' own", "remove it", "kubeflow", "env", variable)
    key = c.spec.data.privacy.key
    if kubeflow.secrets and c.spec.data.privacy.hash and key not in given:
        yield c.warning(
            f"{key}, which hashes `data.privacy.hash`, reaches no step on Kubeflow",
            f"give it from a Secret: `env: {{{key}: <the Secret's key>}}`",
            *("kubeflow", "secrets"),
        )
    for variable in kubeflow.env:
        if variable == key or _PLAIN_SECRET.search(variable):
            said = f"{variable} is a secret, and stands here in plain text"
            yield c.error(said, "move it to a Secret: `kubeflow.secrets`", "kubeflow", "env", variable)


RULES: tuple[Rule, ...] = (
    _model_name,
    _addresses,
    _secrets,
    _csv,
    _target,
    _classes,
    _features,
    _column_names,
    _privacy,
    _column_rules,
    _split,
    _preprocess,
    _drift,
    _candidate_names,
    _ensembles,
    _estimators,
    _searches,
    _custom,
    _fine_tunes,
    _gate,
    _explain,
    _fairness,
    _serving,
    _rollout,
    _rollout_people,
    _rollout_evidence,
    _monitoring,
    _kubeflow,
)
