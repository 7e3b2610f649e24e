"""Take over a model that already serves: a user's own skops file becomes a model folder, judged like any other."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from upkeep.data.kinds import Column, arrow_type
from upkeep.errors import ModelError, Where
from upkeep.models import skops_file
from upkeep.models.folder import class_positions, load, save_sklearn
from upkeep.models.manifest import Manifest
from upkeep.spec.model import ModelSpec

_PICKLES = (".joblib", ".pickle", ".pkl")


def adopt_folder(source: Path, spec: ModelSpec, out: Path, *, rows: pa.Table | None = None) -> Manifest:
    """Make the model folder ``out`` of the skops file ``source``; its manifest.

    The file holds a fitted scikit-learn classifier (a Pipeline, as a rule) that takes a ``pandas.DataFrame`` of the
    spec's feature columns, or some of them, as they are. ``rows``: real rows it must answer; without them, a made-up
    one. Its classes are the spec's
    ``data.target.classes``, or where those are not given, its own.

    Raises :class:`ModelError` when the file is a pickle or damaged, holds types that are not trusted, is no
    classifier with probabilities, wants other columns, has other classes, or does not answer.
    """
    where = Where(file=str(source))
    _require_skops(source, where)
    estimator = skops_file.load(source, allowed=spec.estimators)
    _require_classifier(estimator, where)
    columns = _columns(estimator, spec, where)
    classes = spec.data.target.classes or tuple(
        label.item() if hasattr(label, "item") else label for label in estimator.classes_
    )
    class_positions(estimator, classes, where)
    positive = spec.data.target.positive
    if positive is not None and positive not in classes:
        raise ModelError(
            f"the model does not know the positive class {positive!r}; it knows {', '.join(map(repr, classes))}",
            where=where,
            fix="correct data.target.positive, or train the model on these labels",
        )
    manifest = Manifest(format="sklearn", columns=columns, classes=classes, positive=positive, libraries={})
    save_sklearn(out, estimator, manifest)
    model = load(out, allowed=spec.estimators)
    try:
        model.predict_proba(rows if rows is not None else _made_up(columns))
    except ModelError as error:
        raise ModelError(
            f"the model does not answer rows of the spec's columns: {error.problems[0].message}",
            where=where,
            fix="it must take a pandas.DataFrame of raw columns: put its preprocessing into one Pipeline with it",
        ) from error
    return model.manifest


def _require_skops(source: Path, where: Where) -> None:
    if not source.is_file():
        raise ModelError("there is no such file", where=where, fix="name a file written by skops.io.dump")
    with source.open("rb") as file:
        start = file.read(2)
    if zipfile.is_zipfile(source):
        return
    if start[:1] == b"\x80" or source.suffix in _PICKLES:
        raise ModelError(
            "this is a pickle, and loading one runs whatever code is in it: it is not read here",
            where=where,
            fix='where you trust it, convert it: python -c "import joblib, skops.io; '
            f"skops.io.dump(joblib.load('{source.name}'), '{source.stem}.skops')\"",
        )
    raise ModelError("this is no skops file", where=where, fix="write the model with skops.io.dump")


def _require_classifier(estimator: Any, where: Where) -> None:
    from sklearn.base import is_classifier

    try:
        classifier = is_classifier(estimator) and hasattr(estimator, "classes_")
    except (AttributeError, TypeError, ValueError):
        classifier = False
    if not classifier:
        raise ModelError(
            f"this {type(estimator).__name__} is no fitted classifier",
            where=where,
            fix="dump the fitted Pipeline whose last step is the classifier",
        )


def _columns(estimator: Any, spec: ModelSpec, where: Where) -> tuple[Column, ...]:
    """The columns in the order that the model was fitted with; the spec's, where it does not say."""
    features = spec.data.features
    known = {
        **{name: Column(name=name, kind="numeric") for name in features.numeric},
        **{name: Column(name=name, kind="categorical") for name in features.categorical},
        **{name: Column(name=name, kind="datetime") for name in features.datetime},
    }
    named = getattr(estimator, "feature_names_in_", None)
    if named is None:
        if getattr(estimator, "n_features_in_", len(known)) != len(known):
            raise ModelError(
                f"the model takes {estimator.n_features_in_} columns, and the spec has {len(known)} features",
                where=where,
                fix="name its columns under data.features, in its order",
            )
        return tuple(known.values())
    strange = [str(name) for name in named if str(name) not in known]
    if strange:
        raise ModelError(
            f"the model takes columns that are no features of the spec: {', '.join(strange)}",
            where=where,
            fix="add them to data.features by their kind",
        )
    return tuple(known[str(name)] for name in named)


def _made_up(columns: Sequence[Column]) -> pa.Table:
    values = {"numeric": 0, "categorical": "0", "datetime": 0}
    return pa.table({column.name: pa.array([values[column.kind]]).cast(arrow_type(column.kind)) for column in columns})
