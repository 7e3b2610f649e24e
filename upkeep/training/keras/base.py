"""The network that a training starts from: a file or folder that is pinned by digest, or the champion."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from upkeep.data.kinds import Column
from upkeep.errors import IntegrityError, ModelError, SpecError, Where
from upkeep.models import keras_delta, keras_feed, keras_file
from upkeep.models.digest import BASE, folder_digest
from upkeep.models.folder import base_of, read_manifest
from upkeep.models.keras_delta import weighted
from upkeep.models.keras_file import MODEL
from upkeep.models.keras_folder import open_delta, write_keras
from upkeep.models.keras_graph import SAVED_MODEL, open_saved_model
from upkeep.models.keras_runtime import keras
from upkeep.models.manifest import MANIFEST, NETWORKS, Manifest
from upkeep.spec.model import FineTune, Label
from upkeep.store import open_store
from upkeep.training.fit import candidate_field
from upkeep.training.keras.features import FeatureSettings
from upkeep.training.keras.network import build_on_graph, build_on_text, head, inputs_beside
from upkeep.training.task import TrainingTask

Fit = Callable[[Sequence[Column]], FeatureSettings]
"""What a network's first layers must know of these columns."""


@dataclass(frozen=True)
class Start:
    """The network that a training starts from."""

    model: Any
    """A ``keras.Model`` that takes raw columns and answers with the data's classes."""
    base: Path | None = None
    """The model folder that it stands on to the bit, but for ``delta``; None: it is no folder's network."""
    delta: keras_delta.Arrays = field(default_factory=dict)
    """What it holds beyond ``base``: see :mod:`upkeep.models.keras_delta`."""


def open_base(task: TrainingTask, notes: list[str], fit: Fit, work: Path | None) -> Start:
    """The candidate's base. Where it keeps deltas, the model folder they stand on is copied to ``work``, if any.

    A base that answers other classes gets a new layer to answer with; so does a KerasHub preset, which reads the text
    beside the other columns, fitted by ``fit``. Raises :class:`IntegrityError` when the bytes
    are not the digest's, :class:`ModelError` when it is no such model.
    """
    assert isinstance(task.candidate, FineTune)
    with _fetched(task) as path:
        if not path.is_dir() or any((path / name).is_file() for name in (MANIFEST, SAVED_MODEL)):
            start = _opened(path, task, notes, fit)
            if start.base is None or work is None or task.candidate.keep == "whole":
                return Start(start.model)
            return replace(start, base=Path(shutil.copytree(start.base, work / BASE)))
        if not task.candidate.text:
            raise SpecError(
                "the base is a folder without manifest.json, so a KerasHub preset, and no column is named to read",
                where=Where(field=f"{candidate_field(task)}.text"),
                fix="add `text:` with the column of the text",
            )
        classes = len(task.prepared.summary.classes)
        text, features = task.candidate.text, fit(task.columns)
        backbone = keras_file.load_preset(path)
        return Start(build_on_text(text, *backbone, task.columns, features, classes, seed=task.seed))


def open_champion(task: TrainingTask, folder: Path, notes: list[str], fit: Fit) -> Start | None:
    """The champion as :func:`open_base` gives it; None where it cannot be gone on from, and a note says why."""
    if why := not_gone_on_from(task, folder):
        notes.append(f"the champion {why}: it started from nothing")
        return None
    return _opened(folder, task, notes, fit)


def not_gone_on_from(task: TrainingTask, folder: Path) -> str:
    """Why the champion in ``folder`` cannot be gone on from; else nothing."""
    return unlike(task, folder, classes=False) if read_manifest(folder).format in NETWORKS else "is no network"


def unlike(task: TrainingTask, folder: Path, *, classes: bool = True) -> str:
    """Why the model in ``folder`` cannot be asked these rows, or (``classes``) answers otherwise; else nothing."""
    manifest = read_manifest(folder)
    there = {column.name: column.kind for column in task.columns}
    strange = [column.name for column in manifest.columns if there.get(column.name) != column.kind]
    if strange:
        return f"takes other columns ({', '.join(strange)})"
    if classes and _keys(manifest.classes) != _keys(task.prepared.summary.classes):
        return "answers with other classes"
    return ""


def open_folder(folder: Path, manifest: Manifest, task: TrainingTask) -> Start:
    """The network in a model folder; a delta's adapters go on learning where the candidate keeps a delta, too."""
    assert isinstance(task.candidate, FineTune)
    allowed = task.spec.estimators
    if manifest.format == "keras":
        return Start(keras_file.load(folder / MODEL, allowed=allowed), folder)
    live = task.candidate.keep == "delta"
    model, delta = open_delta(folder, manifest, allowed, merged=not live)
    return Start(model, base_of(folder, manifest), delta) if live else Start(model)


def _opened(path: Path, task: TrainingTask, notes: list[str], fit: Fit) -> Start:
    assert isinstance(task.candidate, FineTune)
    classes = task.prepared.summary.classes
    own: tuple[Label, ...] | None = None
    if (path / SAVED_MODEL).is_file() and not (path / MANIFEST).is_file():
        start, own = Start(build_on_graph(open_saved_model(path), task.columns, len(classes), seed=task.seed)), ()
        notes.append("the base is a graph, which does not learn: the layer on top of it does")
    elif path.is_dir():
        manifest = read_manifest(path)
        if manifest.format not in NETWORKS:
            raise ModelError(
                f"the base is a {manifest.format} model, and no network",
                where=Where(field=f"{candidate_field(task)}.base"),
                fix="choose a model folder of a fine_tune candidate, or a .keras file",
            )
        start, own = open_folder(path, manifest, task), manifest.classes
    elif path.suffix != ".keras":
        raise ModelError(
            f"{path.name} is no .keras file, and nothing else is opened",
            where=Where(field=f"{candidate_field(task)}.base"),
            fix="load it where you trust it, and write it with model.save('….keras')",
        )
    else:
        start = Start(keras_file.load(path, allowed=task.spec.estimators))
    model = start.model
    _require_named_inputs(model, task)
    taken = {column.name for column in keras_feed.taken(model, task.columns)}
    spare = tuple(column for column in task.columns if column.name not in taken)
    adds = bool(spare) and task.candidate.new_features == "add"
    if spare and not adds:
        notes.append(f"the base does not take {', '.join(c.name for c in spare)}: it goes without")
    same = own is None or _keys(own) == _keys(classes)
    if same and not adds and tuple(model.output_shape or ()) == (None, len(classes)) and _is_softmax(model):
        if own is None:
            notes.append(f"the base's answers are taken as {', '.join(map(str, classes))}, in this order")
        return start
    made, known = _with_new_head(model, task, classes if own is None else own, spare if adds else (), fit)
    if adds:
        notes.append(f"the base does not take {', '.join(c.name for c in spare)}: they come in beside it")
    if known != classes:
        notes.append(f"the base answers otherwise: it got a new layer for {len(classes)} classes")
    if known:
        notes.append(f"what the base knows of {', '.join(map(str, known))} went along")
    return Start(made)


def _require_named_inputs(model: Any, task: TrainingTask) -> None:
    if not getattr(model, "inputs", None) or any(tuple(tensor.shape) != (None, 1) for tensor in model.inputs):
        raise ModelError(
            "the base does not take raw columns: a base has one input of shape (1,) a column, called like it",
            where=Where(field=f"{candidate_field(task)}.base"),
            fix="put it behind such inputs, with its preprocessing as layers (keras.Input((1,), name=column))",
        )


def _is_softmax(model: Any) -> bool:
    activation = getattr(model.layers[-1], "activation", None)
    return getattr(activation, "__name__", "") == "softmax"


def _with_new_head(
    model: Any, task: TrainingTask, own: tuple[Label, ...], spare: tuple[Column, ...], fit: Fit
) -> tuple[Any, tuple[Label, ...]]:
    """``model`` with another last layer, and columns that it does not take beside what that layer had before; and the
    classes of which the last layer keeps what it knew. New columns count for nothing in it until they learned to."""
    old = weighted(model)[-1]
    classes = task.prepared.summary.classes
    try:
        hidden = old.input
        units = hidden.shape[-1]
        inputs = {tensor.name: tensor for tensor in model.inputs}
        if spare:
            prefix = "new_"
            while any(layer.name.startswith(prefix) for layer in model.layers):
                prefix += "new_"  # a base that got new columns before
            new, beside = inputs_beside(spare, fit(spare), prefix, seed=task.seed)
            inputs |= new
            hidden = keras().layers.Concatenate(name=f"{prefix}beside")([hidden, beside])
        made = keras().Model(inputs, head(hidden, len(classes), seed=task.seed), name=model.name)
    except (AttributeError, ValueError, TypeError) as error:
        raise ModelError(
            f"the base's last layer, {old.path}, cannot be replaced: {str(error)[:200]}",
            where=Where(field=f"{candidate_field(task)}.base"),
            fix="cut the base before its last layer and save that, or end it with one Dense layer",
        ) from error
    last = made.layers[-1]
    kernel, bias = last.get_weights()
    kernel[units:] = 0
    known: tuple[Label, ...] = ()
    if isinstance(old, keras().layers.Dense) and _is_softmax(model) and old.units == len(own):
        places = {key: place for place, key in enumerate(_keys(own))}
        known = tuple(label for label, key in zip(classes, _keys(classes), strict=True) if key in places)
        for place, key in enumerate(_keys(classes)):
            if key in places:
                kernel[:units, place] = np.asarray(old.kernel)[:, places[key]]
                bias[place] = np.asarray(old.bias)[places[key]] if old.use_bias else 0
    last.set_weights([kernel, bias])
    return made, known


def _keys(labels: tuple[Label, ...]) -> list[tuple[str, Any]]:
    return [(type(label).__name__, label) for label in labels]


def write_base(task: TrainingTask, out: Path) -> bool:
    """Write the candidate's base to the new folder ``out`` as a model of its own; False where it is none: it takes or
    answers otherwise than the data, or is a preset. Raises as :func:`open_base` does."""
    with _fetched(task) as path:
        if path.is_dir():
            if not (path / MANIFEST).is_file() or unlike(task, path):
                return False
            shutil.copytree(path, out)
            if (base := read_manifest(path).base) and not (out / BASE).exists():
                shutil.copytree(path.parent / base, out / BASE)
            return True
        model = keras_file.load(path, allowed=task.spec.estimators)
        if tuple(model.output_shape or ()) != (None, len(task.prepared.summary.classes)) or not _is_softmax(model):
            return False
        write_keras(out, keras_file.dump(model), task.manifest())
        return True


@contextmanager
def _fetched(task: TrainingTask) -> Iterator[Path]:
    """The base on this machine, its digest checked; what was fetched goes away afterwards."""
    assert isinstance(task.candidate, FineTune)
    address = task.candidate.base
    with TemporaryDirectory(prefix="upkeep-base-") as name:
        path = Path(address)
        if address.startswith("s3://"):
            path = _download(address, Path(name), task)
        elif not path.exists():
            raise ModelError(
                f"there is no base at {address}",
                where=Where(field=f"{candidate_field(task)}.base"),
                fix="correct the path; it starts from the spec's folder",
            )
        found = folder_digest(path) if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        if found != task.candidate.digest:
            raise IntegrityError(
                f"the base's bytes hash to {found}, not to {task.candidate.digest}",
                where=Where(field=f"{candidate_field(task)}.digest"),
                fix="if you trust these bytes, write their digest in the spec; else restore the base",
            )
        yield path


def _download(address: str, to: Path, task: TrainingTask) -> Path:
    root, _, last = address.rstrip("/").rpartition("/")
    if last.endswith(".keras"):
        open_store(root, task.spec.object_store, make=False).get_to(last, to / last)
        return to / last
    _download_folder(address, to / last, task)
    if not any((to / last / name).is_file() for name in (MANIFEST, SAVED_MODEL, "config.json")):
        raise ModelError(
            f"there is no base at {address}",
            where=Where(field=f"{candidate_field(task)}.base"),
            fix="name a .keras file, a model folder, a SavedModel or a KerasHub preset folder",
        )
    if (to / last / MANIFEST).is_file() and (base := read_manifest(to / last).base):
        _download_folder(f"{root}/{base}", to / last / BASE, task)
    return to / last


def _download_folder(address: str, to: Path, task: TrainingTask) -> None:
    store = open_store(address, task.spec.object_store, make=False)
    for entry in store.list():
        store.get_to(entry.key, to / entry.key)


def describe(candidate: FineTune) -> dict[str, Any]:
    """The candidate's settings as dotted keys, those that are set."""
    found: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        elif value is not None and value != "":
            found[prefix] = list(value) if isinstance(value, tuple) else value

    settings = asdict(candidate)
    for key in ("name", "strategy", "search", "checkpoint"):
        settings.pop(key)
    walk("", settings)
    return found
