"""The network that a training starts from: a file or folder that is pinned by digest, or the champion."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from upkeep.data.kinds import Column
from upkeep.errors import IntegrityError, ModelError, SpecError, Where
from upkeep.models import keras_feed, keras_file
from upkeep.models.digest import folder_digest
from upkeep.models.folder import read_manifest
from upkeep.models.keras_file import MODEL
from upkeep.models.keras_runtime import keras
from upkeep.models.manifest import MANIFEST
from upkeep.spec.model import FineTune, Label
from upkeep.store import open_store
from upkeep.training.fit import candidate_field
from upkeep.training.keras.features import FeatureSettings
from upkeep.training.keras.layers import weighted
from upkeep.training.keras.network import build_on_text, head
from upkeep.training.task import TrainingTask


def open_base(task: TrainingTask, notes: list[str], fit: Callable[[], FeatureSettings]) -> Any:
    """The candidate's base as a ``keras.Model`` that takes raw columns and answers with the data's classes.

    A base that answers other classes gets a new layer to answer with; so does a KerasHub preset, which reads the text
    beside the other columns, fitted by ``fit``. Raises :class:`IntegrityError` when the bytes
    are not the digest's, :class:`ModelError` when it is no such model.
    """
    assert isinstance(task.candidate, FineTune)
    with _fetched(task) as path:
        if not path.is_dir() or (path / MANIFEST).is_file():
            return _opened(path, task, notes)
        if not task.candidate.text:
            raise SpecError(
                "the base is a folder without manifest.json, so a KerasHub preset, and no column is named to read",
                where=Where(field=f"{candidate_field(task)}.text"),
                fix="add `text:` with the column of the text",
            )
        classes = len(task.prepared.summary.classes)
        return build_on_text(
            task.candidate.text, *keras_file.load_preset(path), task.columns, fit(), classes, seed=task.seed
        )


def open_champion(task: TrainingTask, folder: Path, notes: list[str]) -> Any | None:
    """The champion as :func:`open_base` gives it; None where it cannot be gone on from, and a note says why."""
    if why := not_gone_on_from(task, folder):
        notes.append(f"the champion {why}: it started from nothing")
        return None
    return _opened(folder, task, notes)


def not_gone_on_from(task: TrainingTask, folder: Path) -> str:
    """Why the champion in ``folder`` cannot be gone on from; else nothing."""
    return "is no network" if read_manifest(folder).format != "keras" else unlike(task, folder, classes=False)


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


def _opened(path: Path, task: TrainingTask, notes: list[str]) -> Any:
    classes = task.prepared.summary.classes
    file, own = path, None
    if path.is_dir():
        manifest = read_manifest(path)
        if manifest.format != "keras":
            raise ModelError(
                f"the base is a {manifest.format} model, and no network",
                where=Where(field=f"{candidate_field(task)}.base"),
                fix="choose a model folder of a fine_tune candidate, or a .keras file",
            )
        file, own = path / MODEL, manifest.classes
    elif path.suffix != ".keras":
        raise ModelError(
            f"{path.name} is no .keras file, and nothing else is opened",
            where=Where(field=f"{candidate_field(task)}.base"),
            fix="load it where you trust it, and write it with model.save('….keras')",
        )
    model = keras_file.load(file, allowed=task.spec.estimators)
    _require_named_inputs(model, task)
    spare = _spare(model, task.columns)
    if spare:
        notes.append(f"the base does not take {', '.join(spare)}: it goes without")
    same = own is None or _keys(own) == _keys(classes)
    if same and tuple(model.output_shape or ()) == (None, len(classes)) and _is_softmax(model):
        if own is None:
            notes.append(f"the base's answers are taken as {', '.join(map(str, classes))}, in this order")
        return model
    notes.append(f"the base answers otherwise: it got a new layer for {len(classes)} classes")
    return _with_new_head(model, task, len(classes))


def _spare(model: Any, columns: tuple[Column, ...]) -> list[str]:
    taken = {column.name for column in keras_feed.taken(model, columns)}
    return [column.name for column in columns if column.name not in taken]


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


def _with_new_head(model: Any, task: TrainingTask, classes: int) -> Any:
    last = weighted(model)[-1]
    try:
        hidden = last.input
        inputs = {tensor.name: tensor for tensor in model.inputs}
        return keras().Model(inputs, head(hidden, classes, seed=task.seed), name=model.name)
    except (AttributeError, ValueError, TypeError) as error:
        raise ModelError(
            f"the base's last layer, {last.path}, cannot be replaced: {str(error)[:200]}",
            where=Where(field=f"{candidate_field(task)}.base"),
            fix="cut the base before its last layer and save that, or end it with one Dense layer",
        ) from error


def _keys(labels: tuple[Label, ...]) -> list[tuple[str, Any]]:
    return [(type(label).__name__, label) for label in labels]


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
    store = open_store(address, task.spec.object_store, make=False)
    for entry in store.list():
        store.get_to(entry.key, to / last / entry.key)
    if not any((to / last / name).is_file() for name in (MANIFEST, "config.json")):
        raise ModelError(
            f"there is no base at {address}",
            where=Where(field=f"{candidate_field(task)}.base"),
            fix="name a .keras file, a model folder or a KerasHub preset folder",
        )
    return to / last


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
