"""``fine_tune``: adapt a network, from a base, the champion, nothing, or where this candidate last stood.

Its state is that of :mod:`upkeep.training.state`, and its network as a model folder has it: ``model.keras``, or
``delta.npz`` and ``base/``. Only rows it has not learned yet are new, and
beside them old ones are rehearsed. What its first layers know of the columns (scales, categories) was fitted when it
began, and stays.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from upkeep import records
from upkeep.data.kinds import Column
from upkeep.data.split import TRAIN
from upkeep.errors import SpecError, UpkeepError, Where
from upkeep.models import keras_delta, keras_feed, keras_file
from upkeep.models.digest import BASE
from upkeep.models.folder import folder_digest, load, read_manifest
from upkeep.models.keras_delta import weighted
from upkeep.models.keras_file import MODEL
from upkeep.models.keras_folder import KerasPredictor, write_delta, write_keras
from upkeep.models.keras_runtime import FIX, installed, keras, quiet
from upkeep.models.manifest import MANIFEST, Predictor
from upkeep.spec.model import FineTune, Network, Search
from upkeep.training.fit import candidate_field, telling
from upkeep.training.keras import distribute
from upkeep.training.keras.base import Start, describe, open_base, open_champion, open_folder, unlike
from upkeep.training.keras.features import FeatureSettings, fit_features
from upkeep.training.keras.layers import close_all, open_layers
from upkeep.training.keras.lesson import Choice, Lesson, Scan, scan
from upkeep.training.keras.loop import Schedule, learn
from upkeep.training.keras.network import build
from upkeep.training.rows import Rows, require_two_labels
from upkeep.training.search import Folds, Metric, Report, search
from upkeep.training.state import Hashes, State, among, settings_digest, take_up, write_state
from upkeep.training.task import CHAMPION, Epoch, TrainingTask, Trial, silent


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A trained network and what it came from."""

    data: bytes
    """As ``model.keras``; of a delta as ``delta.npz``, and what it stands on is in the state's folder."""
    predictor: KerasPredictor
    """As it was when training ended."""
    params: dict[str, Any]
    rows: int
    periods: tuple[str, ...]
    warm: bool
    curve: tuple[Epoch, ...]
    trials: tuple[Trial, ...] = ()


def fine_tune(task: TrainingTask, notes: list[str], state_out: Path) -> Tuned:
    """Learn the new rows, and leave the new state in ``state_out``."""
    assert isinstance(task.candidate, FineTune)
    require_tensorflow(task)
    candidate = task.candidate
    own = [candidate.base, candidate.digest, candidate.text, asdict(candidate.network or Network())]
    settings = settings_digest(task, [*own, "add"] if candidate.new_features == "add" else own)
    with TemporaryDirectory(prefix="upkeep-start-") as name:
        return _fine_tune(task, settings, notes, state_out, Path(name))


def _fine_tune(task: TrainingTask, settings: str, notes: list[str], state_out: Path, work: Path) -> Tuned:
    """``work``: an empty folder for what training starts from."""
    assert isinstance(task.candidate, FineTune)
    candidate = task.candidate
    keras().utils.set_random_seed(task.seed % 2**31)  # dropout within a backbone is seeded when it is loaded
    start, state, learned = _begin(task, settings, notes)
    warm = start is not None
    trials: tuple[Trial, ...] = ()
    if not warm and candidate.search is not None:
        params, trials = search_settings(task, candidate.search, notes)
        state = replace(state, params=params)
    task = _with_params(task, state.params)
    assert isinstance(task.candidate, FineTune)
    candidate = task.candidate
    task.progress("looking at the training rows", 0.0)
    lesson = _lesson(task, window(task), learned=learned, rounds=state.rounds)
    found = scan(lesson)
    lesson, found = _with_rehearsal(lesson, found, candidate.rehearsal)
    curve: tuple[Epoch, ...] = ()
    idle = found.new == 0
    if start is not None and idle:
        notes.append("there are no new rows to learn from; it goes on as it was")
        params = describe(candidate)
    else:
        start, params, curve = _learn(task, start, lesson, found, settings, notes, work=work)
        periods = tuple(dict.fromkeys((*state.periods, *found.periods)))
        state = replace(state, rounds=state.rounds + 1, periods=periods)
    write_state(state_out, state, learned, found.keys)
    if candidate.keep == "delta":
        data = _write_delta(task, _standing(task, start, work), state_out)
    elif warm and idle and task.state is not None and (task.state / MODEL).is_file():
        data = (task.state / MODEL).read_bytes()  # another Keras would write it otherwise
    else:
        data = keras_file.dump(start.model)
    if candidate.keep == "whole":
        (state_out / MODEL).write_bytes(data)
    return Tuned(
        data=data,
        predictor=_predictor(task, start.model),
        params=params,
        rows=len(learned) + len(found.keys),
        periods=state.periods,
        warm=warm,
        curve=curve,
        trials=trials,
    )


def _lesson(
    task: TrainingTask,
    periods: tuple[str, ...],
    *,
    learned: Hashes | None = None,
    rounds: int = 0,
    fraction: float = 1.0,
    only: Hashes | None = None,
) -> Lesson:
    assert isinstance(task.candidate, FineTune)
    stopping = task.candidate.early_stopping
    choice = Choice(
        learned=np.zeros(0, dtype=np.uint64) if learned is None else learned,
        watched=stopping.share if stopping else 0.0,
        fraction=fraction,
        only=only,
        salt=task.seed * 1000 + rounds,
    )
    return Lesson(
        prepared=task.prepared,
        columns=task.columns,
        periods=periods,
        choice=choice,
        seed=task.seed * 1000 + rounds,
    )


def search_settings(task: TrainingTask, settings: Search, notes: list[str]) -> tuple[dict[str, Any], tuple[Trial, ...]]:
    """The best settings of a search that trains the network anew on each fold, and ends bad trials early."""
    import pandas as pd

    prepared = task.prepared
    periods = window(task)
    names = [prepared.summary.target, "_group", "_row", "_period"]
    table = prepared.table(parts=(TRAIN,), periods=periods, columns=names)
    table = table.filter(pa.array(prepared.codes(table) >= 0))
    keys, groups = (table.column(name).to_numpy().astype(np.uint64) for name in ("_row", "_group"))
    rows = Rows(
        pd.DataFrame(index=pd.RangeIndex(table.num_rows)),  # the columns are streamed
        prepared.codes(table),
        groups,
        keys,
        np.asarray(table.column("_period").to_pandas(), dtype=object),
    )
    return search(task, settings, rows, notes, cross_validate=_cross_validate)


def _cross_validate(
    task: TrainingTask, params: dict[str, Any], rows: Rows, folds: Folds, metric: Metric, report: Report
) -> float | None:
    tried = _with_params(replace(task, checkpoints=None, progress=silent), params)
    assert isinstance(tried.candidate, FineTune)
    names = list(dict.fromkeys([*(column.name for column in task.columns), task.prepared.summary.target, "_row"]))
    scores = []
    for number, (train, test) in enumerate(folds):
        lesson = _lesson(tried, window(tried), only=np.unique(rows.keys[train]))
        wanted = np.unique(rows.keys[test])
        held = pa.Table.from_batches(
            [batch.filter(pa.array(among(batch.column("_row").to_numpy().astype(np.uint64), wanted)))
             for batch in task.prepared.batches(periods=lesson.periods, columns=names)]
        )  # fmt: skip
        codes = task.prepared.codes(held)
        held, codes = held.filter(pa.array(codes >= 0)), codes[codes >= 0]

        def score(model: Any, held: pa.Table = held, codes: npt.NDArray[np.int64] = codes) -> float | None:
            return metric(codes, _predictor(tried, model).predict_proba(held))

        def each_epoch(model: Any, epoch: int, fold: int = number, score: Any = score) -> None:
            reached = score(model)
            if reached is not None:
                report(fold * tried.candidate.epochs + epoch, reached)  # type: ignore[union-attr]

        start, *_ = _learn(tried, None, lesson, scan(lesson), "", [], each_epoch=each_epoch)
        reached = score(start.model)
        if reached is not None:
            scores.append(reached)
    return float(np.mean(scores)) if scores else None


def tune_anew(
    task: TrainingTask, params: dict[str, Any], *, periods: tuple[str, ...] | None, fraction: float, notes: list[str]
) -> tuple[KerasPredictor, int]:
    """The same kind of candidate without a state, on fewer rows, in memory; and how many rows there were."""
    assert isinstance(task.candidate, FineTune)
    require_tensorflow(task)
    task = _with_params(replace(task, state=None, checkpoints=None), params)
    lesson = _lesson(task, window(task) if periods is None else periods, fraction=fraction)
    found = scan(lesson)
    start, *_ = _learn(task, None, lesson, found, "", notes)
    return _predictor(task, start.model), len(found.keys)


def window(task: TrainingTask) -> tuple[str, ...]:
    """The newest ``window`` periods that have training rows, or all of them; oldest first."""
    assert isinstance(task.candidate, FineTune)
    periods = tuple(
        period for period in task.prepared.periods if task.prepared.count(parts=("train",), periods=[period])
    )
    return periods[-task.candidate.window :] if task.candidate.window else periods


def with_params(candidate: FineTune, params: dict[str, Any], where: str) -> FineTune:
    """The candidate with dotted keys (``optimizer.rate``) set. Raises :class:`SpecError` for what it cannot be."""
    from pydantic import TypeAdapter, ValidationError

    if not params:
        return candidate
    settings = asdict(candidate)
    for name, value in params.items():
        *path, last = name.split(".")
        inner = settings
        for key in path:
            inner[key] = inner.get(key) or {}
            inner = inner[key]
        inner[last] = value
    try:
        return TypeAdapter(FineTune).validate_python(settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise SpecError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            where=Where(field=f"{where}.search.space"),
            fix="search keys of the candidate, in their range",
        ) from error


def _with_params(task: TrainingTask, params: dict[str, Any]) -> TrainingTask:
    assert isinstance(task.candidate, FineTune)
    return replace(task, candidate=with_params(task.candidate, params, candidate_field(task)))


def require_tensorflow(task: TrainingTask) -> None:
    """Raise :class:`SpecError` where the extra is not installed."""
    if not installed():
        raise SpecError(
            f"{task.candidate.name} is a network, and TensorFlow is not installed",
            where=Where(field=f"{candidate_field(task)}.strategy"),
            fix=FIX,
        )


def _standing(task: TrainingTask, start: Start, work: Path) -> Start:
    """``start`` on a base: where it has none it becomes one itself, written below ``work`` and opened from there."""
    if start.base is not None:
        return start
    base = work / BASE
    write_keras(base, keras_file.dump(start.model), task.manifest())
    return Start(keras_file.load(base / MODEL, allowed=task.spec.estimators), base)


def _write_delta(task: TrainingTask, start: Start, folder: Path) -> bytes:
    assert start.base is not None
    data = keras_delta.dump(start.delta)
    write_delta(folder, data, start.base, task.manifest())
    shutil.copytree(start.base, folder / BASE)
    return data


def _begin(task: TrainingTask, settings: str, notes: list[str]) -> tuple[Start | None, State, Hashes]:
    """The network of the last state, the state and the learned rows; no network: it starts anew."""
    assert isinstance(task.candidate, FineTune)
    fresh = State(settings=settings, rounds=0, periods=()), np.zeros(0, dtype=np.uint64)
    if task.candidate.base == CHAMPION:
        return None, *fresh
    found = take_up(task, settings, notes)
    if found is None or task.state is None:
        return None, *fresh
    try:
        if (task.state / MANIFEST).is_file():
            return open_folder(task.state, read_manifest(task.state), task), *found
        return Start(keras_file.load(task.state / MODEL, allowed=task.spec.estimators)), *found
    except UpkeepError as error:
        notes.append(f"it started anew: its last state cannot be loaded ({error.problems[0].message[:200]})")
        return None, *fresh


def _with_rehearsal(lesson: Lesson, found: Scan, rehearsal: float) -> tuple[Lesson, Scan]:
    """The lesson with ``rehearsal`` × as many old rows as there are new, drawn by hash."""
    old = found.rows - found.new
    if old == 0 or found.new == 0:
        return lesson, found
    share = min(1.0, rehearsal * found.new / old)
    lesson = replace(lesson, choice=replace(lesson.choice, rehearsal=share))
    return lesson, scan(lesson)


def _learn(
    task: TrainingTask,
    start: Start | None,
    lesson: Lesson,
    found: Scan,
    settings: str,
    notes: list[str],
    *,
    work: Path | None = None,
    each_epoch: Callable[[Any, int], None] = lambda _, __: None,
) -> tuple[Start, dict[str, Any], tuple[Epoch, ...]]:
    """Train on the lesson; ``start`` None: from the base, the champion or nothing. ``work``: an empty folder for what
    is kept of that; None: nothing is. ``each_epoch``: the model, and how many are done."""
    assert isinstance(task.candidate, FineTune)
    candidate = task.candidate
    classes = task.prepared.summary.classes
    if start is None:
        require_two_labels(found.taught, classes, candidate.name)
    with telling(task, notes), quiet():
        seed_all(task, lesson)
        start = start or _start(task, lesson, notes, work)
        if candidate.keep == "delta" and work is not None:
            start = _standing(task, start, work)
        model = start.model
        drops = task.spec.preprocess.outliers.action == "drop"
        if drops:
            lesson = replace(lesson, fence=_features(task, lesson, task.columns).fence)
        lesson = replace(
            lesson,
            columns=keras_feed.taken(model, task.columns),
            weights=_class_weights(found.taught) if candidate.class_weight == "balanced" else None,
            teacher=_teacher(task, notes) if candidate.distill else None,
        )
        rows = sum(batch.num_rows for batch in lesson.batches()) if drops else int(found.taught.sum())
        keras().utils.set_random_seed(seed_of(task, lesson))  # adapters: the same ones, whatever is kept of them
        opened = open_layers(model, candidate.train, f"{candidate_field(task)}.train")
        _set_precision(model, candidate.precision)
        schedule = Schedule(
            rows=rows, batch_rows=candidate.batch_rows, epochs=candidate.epochs, max_steps=candidate.max_steps
        )
        identity = _identity(task, settings, found)
        curve = learn(
            model,
            lesson,
            candidate,
            opened,
            schedule,
            identity=identity,
            checkpoints=task.checkpoints,
            progress=task.progress,
            each_epoch=functools.partial(each_epoch, model),
        )
        trained = sum(int(np.prod(v.shape)) for layer in weighted(model) for v in layer.trainable_variables)
        _set_precision(model, "float32")
        close_all(model)
        if start.base is not None:
            start = replace(start, delta=keras_delta.changes(model, opened, start.delta))
    params = {**describe(candidate), "parameters": int(model.count_params()), "trained_parameters": trained}
    return start, params, curve


def seed_all(task: TrainingTask, lesson: Lesson) -> None:
    """Seed what Keras draws by itself (adapters, layers of a base without a seed of their own), and let it number the
    layers it names itself from the start: neither may depend on what this process did before."""
    keras().utils.clear_session(free_memory=False)
    distribute.enter_again()
    keras().utils.set_random_seed(seed_of(task, lesson))


def seed_of(task: TrainingTask, lesson: Lesson) -> int:
    """Of what Keras draws in this training."""
    return (task.seed * 1000 + lesson.choice.salt) % 2**31


def _start(task: TrainingTask, lesson: Lesson, notes: list[str], work: Path | None) -> Start:
    assert isinstance(task.candidate, FineTune)
    candidate = task.candidate
    fit = functools.partial(_features, task, lesson)
    if candidate.base == CHAMPION:
        folder = task.members.get(CHAMPION)
        if folder is None:
            notes.append("there is no champion that no held-out row may have taught: it started from nothing")
        elif (start := open_champion(task, folder, notes, fit)) is not None:
            return start
    elif candidate.base:
        return open_base(task, notes, fit, work)
    network = candidate.network or Network()
    classes = len(task.prepared.summary.classes)
    return Start(build(task.columns, fit(task.columns), classes, network, seed=task.seed))


def _features(task: TrainingTask, lesson: Lesson, columns: Sequence[Column]) -> FeatureSettings:
    task.progress("fitting the first layers", 0.0)
    assert isinstance(task.candidate, FineTune)
    # each text that a network reads is like no other: there is nothing to count
    counted = [column for column in columns if column.name != task.candidate.text]
    return fit_features(lesson.batches(), counted, task.spec.preprocess)


def _teacher(task: TrainingTask, notes: list[str]) -> Predictor | None:
    folder = task.members.get(CHAMPION)
    if folder is None:
        notes.append("there is no champion to learn from: it learned from labels alone")
        return None
    if why := unlike(task, folder):
        notes.append(f"the champion {why}: it learned from labels alone")
        return None
    return load(folder, allowed=task.spec.estimators)


def _class_weights(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    there = counts > 0
    weights = np.where(there, counts.sum() / (there.sum() * np.maximum(counts, 1)), 1.0)
    return weights.astype(np.float32)


def _set_precision(model: Any, precision: str) -> None:
    """The arithmetic of the layers with weights but the one that answers."""
    policy = keras().dtype_policies.get(precision)
    for layer in weighted(model)[:-1]:
        if layer.dtype_policy.variable_dtype == "float32":
            layer.dtype_policy = policy


def _identity(task: TrainingTask, settings: str, found: Scan) -> str:
    """Names a training: a checkpoint of any other is not gone on from."""
    assert isinstance(task.candidate, FineTune)
    members = {name: folder_digest(folder) for name, folder in task.members.items()}
    dataset = task.prepared.summary.dataset
    parts = [settings, found.digest, found.new, describe(task.candidate), members, dataset, task.seed]
    return records.digest(records.to_json(parts))


def _predictor(task: TrainingTask, model: Any) -> KerasPredictor:
    manifest = replace(task.manifest(), format="keras")
    return KerasPredictor(manifest, model, keras_feed.taken(model, task.columns))
