"""A model folder: what the registry keeps, and what the server loads.

::

    manifest.json        :class:`upkeep.models.manifest.Manifest`
    model.skops          the estimator; of an ensemble: stacking's final estimator, none for a soft vote
    model.keras          the network, in place of model.skops
    delta.npz            what a network adds to another model, its base, in place of model.keras
    base/                the base's model folder: fetched beside the delta, and no part of its digest
    members/<name>/      an ensemble's members, each a model folder
"""

from __future__ import annotations

import functools
import platform
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from upkeep import __version__, records
from upkeep.errors import IntegrityError, ModelError, Where
from upkeep.models import skops_file
from upkeep.models.digest import BASE, digest_of_files, folder_digest, folder_files, folder_size
from upkeep.models.frame import to_frame
from upkeep.models.manifest import MANIFEST, Manifest, Predictor
from upkeep.models.skops_file import MODEL
from upkeep.spec.model import Label

__all__ = [
    "BASE",
    "EnsemblePredictor",
    "SklearnPredictor",
    "align",
    "base_of",
    "digest_of_files",
    "folder_digest",
    "folder_files",
    "folder_size",
    "library_versions",
    "load",
    "model_depth",
    "read_manifest",
    "save_ensemble",
    "save_sklearn",
    "stack",
]

MEMBERS = "members"
BATCH_ROWS = 65_536
FEW_ROWS = 256
MAX_DEPTH = 4
"""How deep ensembles may stand within ensembles."""

Probabilities = npt.NDArray[np.float64]


def library_versions() -> dict[str, str]:
    """The versions that a model's bytes depend on."""
    import sklearn
    import skops

    return {
        "python": platform.python_version(),
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "skops": skops.__version__,
        "upkeep": __version__,
    }


def save_sklearn(folder: Path, pipeline: Any, manifest: Manifest) -> None:
    """Write a fitted scikit-learn classifier that takes a ``pandas.DataFrame`` of the manifest's raw columns.

    ``folder`` must not exist or be empty. The manifest's ``format``, ``libraries`` and ``members`` are set here.
    Raises :class:`ModelError` when it gives no probabilities, has classes that the manifest does not, or cannot be
    written as skops.
    """
    _positions(pipeline, manifest.classes, Where(file=str(folder)))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(skops_file.dump(pipeline))
    manifest = replace(manifest, format="sklearn", libraries=library_versions(), members=(), weights=())
    records.write(folder / MANIFEST, manifest)


def save_ensemble(
    folder: Path, members: Mapping[str, Path], manifest: Manifest, *, final_estimator: Any | None = None
) -> None:
    """Write an ensemble: the members' folders are copied in, in their order.

    ``manifest.weights``: a soft vote's, one a member, above zero. ``final_estimator``: stacking's, fitted on
    :func:`stack` of the members' probabilities; then there are no weights.
    """
    if (final_estimator is None) == (not manifest.weights):
        raise ValueError("an ensemble has either weights or a final estimator")
    for name, source in members.items():
        shutil.copytree(source, folder / MEMBERS / name)
    folder.mkdir(parents=True, exist_ok=True)
    if final_estimator is not None:
        (folder / MODEL).write_bytes(skops_file.dump(final_estimator))
    manifest = replace(manifest, format="ensemble", libraries=library_versions(), members=tuple(members))
    records.write(folder / MANIFEST, manifest)


def read_manifest(folder: Path) -> Manifest:
    """The folder's manifest. Raises :class:`ModelError` when there is none or it cannot be read."""
    path = folder / MANIFEST
    where = Where(file=str(path))
    if not path.is_file():
        raise ModelError("there is no model here: manifest.json is missing", where=where, fix="fetch the folder again")
    try:
        manifest = records.read(Manifest, path)
    except (IntegrityError, OSError) as error:
        raise ModelError(f"the manifest cannot be read: {error}", where=where, fix="fetch the folder again") from error
    if len(set(manifest.classes)) < 2 or not manifest.columns:
        raise ModelError("the manifest names no columns or fewer than two classes", where=where, fix="train it again")
    return manifest


def base_of(folder: Path, manifest: Manifest) -> Path:
    """The model folder that a delta stands on: below it, else beside it under its digest, as a store has it.

    Raises :class:`ModelError` when it is not there; :class:`IntegrityError` when its bytes are not the digest's.
    """
    places = (folder / BASE, folder.parent / manifest.base)
    found = next((place for place in places if re.fullmatch("[0-9a-f]{64}", manifest.base) and place.is_dir()), None)
    if found is None:
        raise ModelError(
            f"the model stands on another, {manifest.base[:12]}, which is not there",
            where=Where(file=str(folder)),
            fix=f"put the base's model folder beside it, or below it as {BASE}/",
        )
    if (digest := folder_digest(found)) != manifest.base:
        raise IntegrityError(
            f"the base's bytes hash to {digest[:12]}…, not to {manifest.base[:12]}…: it is another model",
            where=Where(file=str(found)),
            fix="fetch it again, or restore it from a backup",
        )
    return found


def load(folder: Path, *, allowed: Sequence[str] = ()) -> Predictor:
    """The model in the folder, ready to answer.

    ``allowed``: import paths of types that may be loaded beyond scikit-learn's, numpy's, scipy's and Upkeep's own;
    the folder has no say in it, and nothing is ever unpickled. Raises :class:`ModelError` for anything else: a
    refused type, a missing or damaged file, classes that are not the manifest's; for a delta what :func:`base_of`
    raises.
    """
    return _load(folder, allowed, depth=0)


def _load(folder: Path, allowed: Sequence[str], depth: int) -> Predictor:
    manifest = read_manifest(folder)
    return _LOADERS[manifest.format](folder, manifest, allowed, depth)


def _load_sklearn(folder: Path, manifest: Manifest, allowed: Sequence[str], depth: int) -> Predictor:  # noqa: ARG001
    estimator = skops_file.load(folder / MODEL, allowed=allowed)
    return SklearnPredictor(manifest, estimator, _positions(estimator, manifest.classes, Where(file=str(folder))))


def _load_keras(folder: Path, manifest: Manifest, allowed: Sequence[str], depth: int) -> Predictor:  # noqa: ARG001
    from upkeep.models.keras_folder import load_keras  # TensorFlow is an extra

    return load_keras(folder, manifest, allowed)


def _load_delta(folder: Path, manifest: Manifest, allowed: Sequence[str], depth: int) -> Predictor:  # noqa: ARG001
    from upkeep.models.keras_folder import load_delta

    return load_delta(folder, manifest, allowed)


def _load_ensemble(folder: Path, manifest: Manifest, allowed: Sequence[str], depth: int) -> Predictor:
    where = Where(file=str(folder))
    if depth >= MAX_DEPTH:
        raise ModelError("ensembles stand too deep within ensembles", where=where, fix="leave champion out of members")
    bad_names = [name for name in manifest.members if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)]
    if bad_names or not manifest.members or len(manifest.weights) not in (0, len(manifest.members)):
        raise ModelError("the manifest's members or weights are wrong", where=where, fix="train the ensemble again")
    members = tuple(_load(folder / MEMBERS / name, allowed, depth + 1) for name in manifest.members)
    final = None if manifest.weights else skops_file.load(folder / MODEL, allowed=allowed)
    return EnsemblePredictor(manifest, members, final)


_LOADERS: Mapping[str, Callable[[Path, Manifest, Sequence[str], int], Predictor]] = {
    "sklearn": _load_sklearn,
    "keras": _load_keras,
    "delta": _load_delta,
    "ensemble": _load_ensemble,
}
"""By :attr:`Manifest.format`: how the folder is loaded."""


def model_depth(folder: Path) -> int:
    """How deep ensembles stand within each other: 0 for a model that is none."""
    manifest = read_manifest(folder)
    return max((1 + model_depth(folder / MEMBERS / name) for name in manifest.members), default=0)


def stack(probabilities: Sequence[Probabilities]) -> Probabilities:
    """What stacking's final estimator sees: each member's probabilities but the first class's, side by side.

    ``probabilities``: one array a member, shape (rows, classes). Returns shape (rows, members × (classes − 1)).
    """
    return np.hstack([member[:, 1:] for member in probabilities])


def class_positions(estimator: Any, classes: Sequence[Label], where: Where) -> npt.NDArray[np.int64]:
    """Where each of the estimator's own classes stands in ``classes``. Raises :class:`ModelError` if one does not."""
    known = {_key(label): position for position, label in enumerate(classes)}
    own = [label.item() if isinstance(label, np.generic) else label for label in estimator.classes_]
    strange = [label for label in own if _key(label) not in known]
    if strange:
        raise ModelError(
            f"the model answers with classes that are not the data's: {', '.join(map(repr, strange))}",
            where=where,
            fix=f"train it on labels among {', '.join(map(repr, classes))}, of the same type",
        )
    return np.array([known[_key(label)] for label in own], dtype=np.int64)


def _key(label: Any) -> tuple[str, Any]:
    """True and 1 are different labels."""
    return type(label).__name__, label


def _positions(estimator: Any, classes: Sequence[Label], where: Where) -> npt.NDArray[np.int64]:
    if not hasattr(estimator, "predict_proba"):
        inner = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
        raise ModelError(
            f"{type(inner).__name__} gives no probabilities with these parameters",
            where=where,
            fix="choose a loss with probabilities (SGDClassifier: loss: log_loss), or wrap it in "
            "sklearn.calibration.CalibratedClassifierCV",
        )
    if not hasattr(estimator, "classes_"):
        raise ModelError("the model is not a fitted classifier: it has no classes_", where=where, fix="fit it first")
    return class_positions(estimator, classes, where)


@dataclass(frozen=True)
class SklearnPredictor:
    """A scikit-learn classifier that takes a frame of raw columns."""

    manifest: Manifest
    estimator: Any
    positions: npt.NDArray[np.int64]
    """Position in ``manifest.classes`` of each class of the estimator; a class it never saw has probability 0."""

    def predict_proba(self, rows: pa.Table) -> Probabilities:
        out = np.zeros((rows.num_rows, len(self.manifest.classes)))
        for start in range(0, rows.num_rows, BATCH_ROWS):
            frame = to_frame(rows.slice(start, BATCH_ROWS), self.manifest.columns)
            out[start : start + len(frame), self.positions] = self._ask(frame)
        if rows.num_rows == 0:
            to_frame(rows, self.manifest.columns)  # a missing column is an error without rows too
        return out

    def _ask(self, frame: Any) -> Probabilities:
        try:
            with _one_thread() if len(frame) <= FEW_ROWS else nullcontext():
                given = frame.to_numpy() if _fitted_on_arrays(self.estimator) else frame
                answers = np.asarray(self.estimator.predict_proba(given), dtype=np.float64)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise _no_answer(frame, error) from error
        return checked(answers, (len(frame), len(self.positions)))


@dataclass(frozen=True)
class EnsemblePredictor:
    """A soft vote of the members, or a final estimator over their answers."""

    manifest: Manifest
    members: tuple[Predictor, ...]
    final: Any | None

    def predict_proba(self, rows: pa.Table) -> Probabilities:
        answers = [align(member.predict_proba(rows), member.manifest, self.manifest) for member in self.members]
        if self.final is None:
            weights = np.array(self.manifest.weights)
            votes: Probabilities = np.tensordot(weights / weights.sum(), np.stack(answers), axes=1)
            return checked(votes, votes.shape)
        out = np.zeros((rows.num_rows, len(self.manifest.classes)))
        if rows.num_rows:
            positions = _positions(self.final, self.manifest.classes, Where())
            out[:, positions] = checked(self.final.predict_proba(stack(answers)), (rows.num_rows, len(positions)))
        return out


def _fitted_on_arrays(estimator: Any) -> bool:
    """Whether it never saw column names, as a user's own model may: then it is asked without them, too."""
    if hasattr(estimator, "steps"):
        real = [step for _, step in estimator.steps if step is not None and not isinstance(step, str)]
        return bool(real) and _fitted_on_arrays(real[0])
    return hasattr(estimator, "n_features_in_") and not hasattr(estimator, "feature_names_in_")


@functools.cache
def _thread_pools() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _one_thread() -> Any:
    """For a few rows, waking other threads costs far more than they save, most of all on a busy machine."""
    return _thread_pools().limit(limits=1)


def align(probabilities: Probabilities, own: Manifest, wanted: Manifest) -> Probabilities:
    """A member's probabilities in the order of the ensemble's classes; a class the member does not know has 0."""
    if own.classes == wanted.classes:
        return probabilities
    positions = {_key(label): position for position, label in enumerate(wanted.classes)}
    out = np.zeros((len(probabilities), len(wanted.classes)))
    for column, label in enumerate(own.classes):
        if _key(label) not in positions:
            raise ModelError(f"a member knows a class that the ensemble does not: {label!r}", fix="train it again")
        out[:, positions[_key(label)]] = probabilities[:, column]
    return out


def checked(probabilities: Probabilities, shape: tuple[int, ...]) -> Probabilities:
    """``probabilities`` as they are, once they are known to be some: finite, not negative, rows summing to 1."""
    if probabilities.shape != shape:
        raise ModelError(f"the model answered with shape {probabilities.shape}, not {shape}", fix="train it again")
    sums = probabilities.sum(axis=1)
    wrong = ~(np.isfinite(sums) & (np.abs(sums - 1) < 1e-6) & (probabilities >= 0).all(axis=1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ModelError(
            f"the model's answer is no probability: {probabilities[row].tolist()}",
            where=Where(row=row + 1),
            fix="scale the columns or choose another estimator; a model that answers so cannot be used",
        )
    return probabilities


def _no_answer(frame: Any, error: Exception) -> ModelError:
    nulls = [str(name) for name in frame.columns[frame.isna().any()]]
    if nulls and any(word in str(error) for word in ("NaN", "missing", "null")):
        return ModelError(
            f"the model cannot take nulls, and there are some in {', '.join(nulls)}",
            where=Where(field=nulls[0]),
            fix="set preprocess.impute_numeric, or send rows without nulls",
        )
    return ModelError(
        f"the model cannot answer these rows: {str(error)[:300]}",
        fix="check that the rows have the columns and kinds in the model's manifest.json",
    )
