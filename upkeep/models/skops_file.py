"""``model.skops``: an estimator as bytes, the same bytes for the same estimator, and read back only where trusted.

skops writes what Python objects are made of and never runs code that a file brings along; which types may be built
is the reader's decision, and the file has no say in it. What skops leaves open is closed here: a tree's node indices
are checked, since scikit-learn follows them unchecked (:mod:`upkeep.models.trees`).
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import io
import json
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from upkeep.errors import ModelError, Where
from upkeep.models.canonical import nodes, zipped
from upkeep.models.trees import check_trees

MODEL = "model.skops"

_OWN = tuple(
    f"upkeep.models.features.{name}" for name in ("Categories", "DateParts", "EmptyColumns", "Fence", "IsolationFlag")
)
_LIBRARIES = (
    "functools.partial",  # of a function that must be trusted itself
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",  # its indices are checked
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.metrics._dist_metrics.MinkowskiDistance64",
    "sklearn.multiclass._ConstantPredictor",
    "sklearn.neighbors._ball_tree.BallTree",  # its indices are checked
    "sklearn.neighbors._kd_tree.KDTree",  # its indices are checked
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",  # its indices are checked
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils.validation.check_array",  # HistGradientBoosting with categories
)
_KERNELS = tuple(
    f"sklearn.gaussian_process.kernels.{name}"
    for name in (
        "CompoundKernel",
        "ConstantKernel",
        "DotProduct",
        "ExpSineSquared",
        "Exponentiation",
        "Hyperparameter",
        "Matern",
        "PairwiseKernel",
        "Product",
        "RBF",
        "RationalQuadratic",
        "Sum",
        "WhiteKernel",
    )
)
_SINGLETONS = ("JsonNode", "TypeNode", "FunctionNode")
"""Loaders whose values are the same wherever they stand: sharing them means nothing."""


def dump(estimator: Any) -> bytes:
    """The estimator as skops: the same bytes for the same estimator, in whatever process it was made.

    skops names its parts by memory address and stamps them with the time; here they are named by content, in order,
    with a fixed time. Raises :class:`ModelError` when the estimator has parts that skops cannot write.
    """
    import skops.io

    try:
        written = skops.io.dumps(estimator)
    except Exception as error:  # skops raises whatever the object's own state raises
        raise ModelError(
            f"this {type(estimator).__name__} cannot be kept as skops: {error}",
            fix="build it from scikit-learn's own classes and importable functions; no lambdas or open handles",
        ) from error
    with zipfile.ZipFile(io.BytesIO(written)) as source:
        schema = json.loads(source.read("schema.json"))
        parts = {name: _zero_padding(source.read(name)) for name in source.namelist() if name != "schema.json"}
    _forget_the_machine(schema)
    names = {name: hashlib.sha256(data).hexdigest()[:32] + Path(name).suffix for name, data in parts.items()}
    _rename(schema, names)
    files = {names[name]: data for name, data in parts.items()}
    files["schema.json"] = json.dumps(schema, sort_keys=True, separators=(",", ":")).encode()
    return zipped(files)


def _zero_padding(data: bytes) -> bytes:
    """The bytes of an ``.npy`` part, with the gaps between a structure's fields (arbitrary memory) set to zero."""
    if not data.startswith(b"\x93NUMPY"):
        return data
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if not array.dtype.names:
        return data
    clean = np.zeros(array.nbytes, np.uint8).view(array.dtype).reshape(array.shape)
    for name in array.dtype.names:
        clean[name] = array[name]
    target = io.BytesIO()
    np.save(target, clean, allow_pickle=False)
    return target.getvalue()


def _rename(schema: Any, names: dict[str, str]) -> None:
    """Name parts by content, and shared objects by the order they occur in; in place."""
    counts: dict[int, int] = {}
    for node in nodes(schema):
        if "__id__" in node:
            counts[node["__id__"]] = counts.get(node["__id__"], 0) + 1
    numbers: dict[int, int] = {}
    for node in nodes(schema):
        if node.get("file") in names:
            node["file"] = names[node["file"]]
        if "__id__" not in node:
            continue
        known = node.pop("__id__")
        if counts[known] > 1 and node.get("__loader__") not in _SINGLETONS:
            node["__id__"] = numbers.setdefault(known, len(numbers) + 1)


def _forget_the_machine(schema: Any) -> None:
    """HistGradientBoosting keeps how many cores binned its training rows, and never uses it again; in place."""
    for node in nodes(schema):
        if node.get("__class__") == "_BinMapper":
            node["content"]["content"]["n_threads"] |= {"content": "1"}


def load(path: Path, *, allowed: Sequence[str] = ()) -> Any:
    """The estimator in the file at ``path``.

    ``allowed``: import paths of classes and functions that may be built beyond scikit-learn's, numpy's, scipy's and
    Upkeep's own. Raises :class:`ModelError` when the file is missing, is no skops file, or holds any other type.
    """
    import skops.io

    where = Where(file=str(path))
    if not path.is_file():
        raise ModelError("the model file is missing", where=where, fix="fetch the model's folder again, whole")
    try:
        found = skops.io.get_untrusted_types(file=path)
    except Exception as error:  # any bytes may stand there: zipfile, json and skops each raise their own
        raise _unreadable(where, error) from error
    ours = _trusted(tuple(allowed))
    refused = [name for name in found if name not in ours]
    if refused:
        raise ModelError(
            f"the model holds types that are not trusted: {', '.join(refused)}",
            where=where,
            fix="if you know them to be harmless, add their import paths to `estimators` in upkeep.yaml",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # another scikit-learn version wrote it: its answers are verified instead
            estimator = skops.io.load(path, trusted=found)
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise _unreadable(where, error) from error
    check_trees(estimator, where)
    return estimator


def _unreadable(where: Where, error: Exception) -> ModelError:
    return ModelError(
        f"this is no readable skops file ({type(error).__name__}: {str(error)[:200]})",
        where=where,
        fix="fetch the model's folder again; write models with skops.io.dump, not with pickle or joblib",
    )


@functools.cache
def _trusted(allowed: tuple[str, ...]) -> frozenset[str]:
    """Type names, as skops calls them, that may be built: ours and the caller's. skops' own defaults come on top."""
    return frozenset((*_OWN, *_LIBRARIES, *_KERNELS, *(name for path in allowed for name in _names(path))))


def _names(path: str) -> tuple[str, ...]:
    """An import path, and the path where that class or function is really defined."""
    try:
        found = resolve(path)
    except ModelError:
        return (path,)
    defined = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    return (path, defined)


def resolve(path: str) -> Callable[..., Any]:
    """What ``package.module.Name`` (or ``package.module:name``) names. Raises :class:`ModelError` if nothing."""
    module_name, _, name = path.rpartition(":" if ":" in path else ".")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be imported: {error}",
            where=Where(field=path),
            fix="install the package that holds it, or correct the path",
        ) from error
    return found
