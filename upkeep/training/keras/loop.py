"""The training loop: seeded, saved as it goes, and the same weights at the end however often it was killed."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from upkeep.errors import ModelError, Where
from upkeep.models import keras_feed
from upkeep.models.keras_runtime import keras, tensorflow
from upkeep.spec.model import FineTune, Optimizer
from upkeep.training.keras import distribute
from upkeep.training.keras.layers import only_last
from upkeep.training.keras.lesson import Lesson
from upkeep.training.keras.places import Learner
from upkeep.training.task import Checkpoints, Epoch, Progress

LOOK_EVERY = 20
"""Steps between two looks at the clock."""


@dataclass(kw_only=True)
class _Position:
    """Where training stands; saved with the weights."""

    epoch: int = 0
    step: int = 0
    """In this epoch."""
    steps: int = 0
    """In all."""
    loss: float = 0.0
    """The sum over this epoch's rows."""
    rows: int = 0
    """Of this epoch."""
    best: float = math.inf
    """The lowest watched loss."""
    since: int = 0
    """Epochs since then."""
    curve: list[Epoch] = field(default_factory=list)
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long training goes on."""

    rows: int
    """That teach, an epoch."""
    batch_rows: int
    epochs: int
    max_steps: int | None

    @property
    def per_epoch(self) -> int:
        return math.ceil(self.rows / self.batch_rows)

    @property
    def steps(self) -> int:
        """In all."""
        every = self.per_epoch * self.epochs
        return min(every, self.max_steps) if self.max_steps else every


def rate_at(step: int, steps: int, settings: Optimizer) -> float:
    """The learning rate of a step, from 0: rising over the warm-up, then constant, or down to zero after the last."""
    warm = math.ceil(settings.warm_up * steps)
    if step < warm:
        return settings.rate * (step + 1) / warm
    gone = (step - warm) / max(1, steps - warm)
    share = {"constant": 1.0, "linear": 1 - gone, "cosine": 0.5 * (1 + math.cos(math.pi * gone))}
    return settings.rate * share[settings.schedule]


def learn(
    model: Any,
    lesson: Lesson,
    settings: FineTune,
    opened: tuple[str, ...],
    schedule: Schedule,
    *,
    identity: str = "",
    checkpoints: Checkpoints | None = None,
    progress: Progress,
    each_epoch: Callable[[int], None] = lambda _: None,
    now: Callable[[], float] = time.monotonic,
) -> tuple[Epoch, ...]:
    """Train ``model`` in place; the curve.

    ``opened``: the layers that learn (:func:`upkeep.training.keras.layers.open_layers`). ``identity``: names the
    training; a checkpoint of another one is not gone on from. ``each_epoch``: called with the epochs done, may raise
    to end the training. Raises :class:`ModelError` when the loss is no number any more.
    """
    training = _Training(model, lesson, settings, opened, schedule)
    if checkpoints is not None and (saved := checkpoints.read()) is not None:
        training.restore(saved, identity)
    clock = _Clock(schedule, training.position.steps, progress, now)
    saved_at, writes = now(), distribute.writes()
    while not training.position.done:
        for _ in training.run_epoch():
            clock.tell(training.position)
            if checkpoints is not None and writes and now() - saved_at >= settings.checkpoint:
                checkpoints.write(training.save(identity))
                saved_at = now()
        training.end_epoch()
        each_epoch(training.position.epoch)
    training.finish()
    return tuple(training.position.curve)


class _Training:
    def __init__(
        self, model: Any, lesson: Lesson, settings: FineTune, opened: tuple[str, ...], schedule: Schedule
    ) -> None:
        self.model, self.lesson, self.settings, self.opened, self.schedule = model, lesson, settings, opened, schedule
        self.position = _Position()
        self.best: list[npt.NDArray[Any]] | None = None
        self._watched = lesson.watched() if settings.early_stopping else None
        self._learner = Learner(model)
        self._stage = -1
        self._enter_stage()

    def _enter_stage(self) -> None:
        """Open the layers of this epoch. Where that changes which learn, the optimizer starts anew."""
        if self.settings.unfreeze is None:
            stage = len(self.opened)
        else:
            stage = min(len(self.opened), 1 + self.position.epoch // self.settings.unfreeze)
        if stage == self._stage:
            return
        self._stage = stage
        only_last(self.model, self.opened, stage)
        self.optimizer = make_optimizer(self.settings)
        self.optimizer.build(self.model.trainable_variables)
        self._step = _compile(
            self._learner, self.model.trainable_variables, self.optimizer, self.settings, self.lesson.weights
        )

    def run_epoch(self) -> Any:
        """One step at a time."""
        tf = tensorflow()
        position = self.position
        rows, lookups = self.schedule.batch_rows, self._learner.lookups
        batches = iter(self.lesson.dataset(position.epoch, rows, skip=position.step, lookups=lookups))
        left = min(self.schedule.per_epoch - position.step, self.schedule.steps - position.steps)
        waiting: list[Any] = []
        try:
            for _ in range(left):
                rate = rate_at(position.steps, self.schedule.steps, self.settings.optimizer)
                waiting.append(self._step(batches, tf.constant(rate, tf.float32)))
                position.step += 1
                position.steps += 1
                if len(waiting) == LOOK_EVERY:
                    self._count(waiting)
                    yield
        except tf.errors.OpError as error:
            if self.lesson.failures:
                raise self.lesson.failures[0] from error
            if self.settings.devices == "workers" and not isinstance(error, tf.errors.InvalidArgumentError):
                raise distribute.lost(error) from error
            raise ModelError(
                f"the network cannot learn from these rows: {str(error)[:300]}",
                fix="check that the base takes columns of these kinds",
            ) from error
        self._count(waiting)

    def _count(self, waiting: list[Any]) -> None:
        for loss, rows in waiting:
            self.position.loss += float(loss)
            self.position.rows += int(rows)
        waiting.clear()
        if not math.isfinite(self.position.loss):
            raise ModelError(
                f"the loss is no number any more after {self.position.steps} steps",
                where=Where(field="optimizer.rate"),
                fix="lower optimizer.rate, or set optimizer.clip_norm",
            )

    def end_epoch(self) -> None:
        position, stopping = self.position, self.settings.early_stopping
        position.epoch += 1
        watched, accuracy = self._watch() if stopping else (None, None)
        watched = None if watched is None else distribute.agreed(watched)
        loss = position.loss / max(position.rows, 1)
        epoch = Epoch(number=position.epoch, loss=loss, watched=watched, steps=position.steps, accuracy=accuracy)
        position.curve.append(epoch)
        position.step, position.rows, position.loss = 0, 0, 0.0
        position.done = position.epoch >= self.schedule.epochs or position.steps >= self.schedule.steps
        if stopping and watched is not None:
            if watched < position.best - stopping.least:
                position.best, position.since = watched, 0
                self.best = [variable.numpy() for variable in self.model.variables]
            else:
                position.since += 1
                position.done = position.done or position.since >= stopping.patience
        if not position.done:
            self._enter_stage()

    def finish(self) -> None:
        """Back to the best weights, where rows were watched."""
        if self.best is not None:
            _assign(self.model.variables, self.best)

    def _watch(self) -> tuple[float, float] | tuple[None, None]:
        """Loss and accuracy on the watched rows."""
        assert self._watched is not None
        if self._watched.num_rows == 0:
            return None, None
        codes = self.lesson.prepared.codes(self._watched)
        weights = np.ones(len(codes)) if self.lesson.weights is None else self.lesson.weights[codes].astype(np.float64)
        total, hits = 0.0, 0
        for start in range(0, len(codes), 8192):
            parts = keras_feed.parts(self._watched.slice(start, 8192), self.lesson.columns)
            answers = np.asarray(self.model(keras_feed.tensors(parts), training=False), dtype=np.float64)
            right = answers[np.arange(len(answers)), codes[start : start + 8192]]
            hits += int((answers.argmax(axis=1) == codes[start : start + 8192]).sum())
            total += float(-(weights[start : start + 8192] * np.log(np.clip(right, 1e-7, 1.0))).sum())
        return total / len(codes), hits / len(codes)

    def save(self, identity: str) -> bytes:
        arrays = {f"model/{i}": variable.numpy() for i, variable in enumerate(self.model.variables)}
        arrays |= {f"optimizer/{i}": variable.numpy() for i, variable in enumerate(self.optimizer.variables)}
        arrays |= {f"best/{i}": array for i, array in enumerate(self.best or ())}
        told = {"identity": identity, "position": asdict(self.position)}
        target = io.BytesIO()
        np.savez(target, told=np.frombuffer(json.dumps(told).encode(), dtype=np.uint8), **arrays)
        return target.getvalue()

    def restore(self, data: bytes, identity: str) -> None:
        """Go on from there; a checkpoint that cannot be read, or is another training's, is as none."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as saved:
                told = json.loads(saved["told"].tobytes())
                arrays = {name: saved[name] for name in saved.files if name != "told"}
        except (ValueError, KeyError, OSError, EOFError):
            return
        if told.get("identity") != identity:
            return
        curve = [Epoch(**epoch) for epoch in told["position"].pop("curve")]
        self.position = _Position(**told["position"], curve=curve)
        self._enter_stage()
        _assign(self.model.variables, _group(arrays, "model"))
        _assign(self.optimizer.variables, _group(arrays, "optimizer"))
        self.best = _group(arrays, "best") or None


def _group(arrays: dict[str, npt.NDArray[Any]], name: str) -> list[npt.NDArray[Any]]:
    return [arrays[f"{name}/{i}"] for i in range(sum(key.startswith(f"{name}/") for key in arrays))]


def _assign(variables: Any, values: list[npt.NDArray[Any]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def make_optimizer(settings: FineTune) -> Any:
    """Keras' optimizer of the candidate; its rate is set at each step."""
    K = keras()
    wanted = settings.optimizer
    common = {"learning_rate": wanted.rate, "global_clipnorm": wanted.clip_norm}
    if wanted.kind == "sgd":
        momentum = wanted.momentum or 0.0
        decay = wanted.weight_decay or None
        made = K.optimizers.SGD(momentum=momentum, nesterov=momentum > 0, weight_decay=decay, **common)
    elif wanted.weight_decay:
        made = K.optimizers.AdamW(weight_decay=wanted.weight_decay, **common)
    else:
        made = K.optimizers.Adam(**common)
    return K.optimizers.LossScaleOptimizer(made) if settings.precision == "mixed_float16" else made


def _compile(
    learner: Learner,
    variables: list[Any],
    optimizer: Any,
    settings: FineTune,
    class_weights: npt.NDArray[np.float32] | None,
) -> Any:
    """One step as a graph: the batches and the rate → the sum of the next batch's losses, and its rows."""
    tf, K = tensorflow(), keras()
    distill, clip_norm = settings.distill, settings.optimizer.clip_norm
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    strategy, is_one = tf.distribute.get_strategy(), distribute.is_one()

    def learn(batch: Any, rows: Any) -> Any:
        inputs, codes, *taught = batch if is_one else distribute.share(batch, rows)
        with tf.GradientTape() as tape:
            answers = learner(inputs, training=True)
            losses = K.losses.sparse_categorical_crossentropy(codes, answers)
            if class_weights is not None:
                losses *= tf.gather(class_weights, codes)
            if distill is not None and taught:
                apart = _distance(taught[0], answers, distill.temperature)
                losses = (1 - distill.weight) * losses + distill.weight * apart
            lost = tf.reduce_sum(losses)
            scaled = optimizer.scale_loss(lost / tf.cast(rows, lost.dtype))
        # an embedding's gradient comes row by row; a row that is there twice must be summed before it is squared
        gradients = [
            None if gradient is None else tf.convert_to_tensor(gradient)
            for gradient in tape.gradient(scaled, [variable.value for variable in variables])
        ]
        if clip_norm and not is_one:
            gradients = distribute.clipped(gradients, clip_norm)
        optimizer.apply(gradients, variables)
        return lost

    def step(batches: Any, rate: Any) -> Any:
        batch = next(batches)
        rows = tf.shape(batch[1])[0]
        inner.learning_rate.assign(rate)
        lost = strategy.run(learn, args=(batch, rows))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, lost, axis=None), rows

    return tf.function(step, autograph=False)


def _distance(taught: Any, answers: Any, temperature: float) -> Any:
    """T² × the Kullback–Leibler divergence of the softened answers from the teacher's (Hinton et al., 2015)."""
    tf = tensorflow()

    def softened(probabilities: Any) -> Any:
        return tf.nn.log_softmax(tf.math.log(tf.clip_by_value(probabilities, 1e-7, 1.0)) / temperature)

    wanted, given = softened(taught), softened(answers)
    return temperature**2 * tf.reduce_sum(tf.exp(wanted) * (wanted - given), axis=1)


class _Clock:
    """Tells how fast it goes and how long it will."""

    def __init__(self, schedule: Schedule, begun: int, progress: Progress, now: Callable[[], float]) -> None:
        self._schedule, self._begun, self._progress, self._now = schedule, begun, progress, now
        self._started = self._told = now()

    def tell(self, position: _Position) -> None:
        now = self._now()
        if now - self._told < 1:
            return
        self._told = now
        rate = (position.steps - self._begun) / max(now - self._started, 1e-9)
        left = (self._schedule.steps - position.steps) / max(rate, 1e-9)
        rows = rate * self._schedule.batch_rows
        self._progress(
            f"epoch {position.epoch + 1} of {self._schedule.epochs}: {rows:,.0f} rows/s, {left:,.0f} s left",
            position.steps / max(self._schedule.steps, 1),
        )
