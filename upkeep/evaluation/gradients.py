"""Integrated gradients of a network (Sundararajan, Taly & Yan, "Axiomatic Attribution for Deep Networks", 2017).

A text has no gradient, so the way from the baseline to the row is walked where the network's own first layers have made
numbers of it: at numbers after scaling, at the embeddings of categories, at those of a text's tokens. The baseline is
zero there: the middle of every number, no category, no word. Numbers that no layer scales are walked from their mean.

The integral over the way is a Gauss–Legendre sum. Of each row the parts sum to f(row) − f(baseline), where f is the
probability of the positive class, or of the class that was answered (the axiom of completeness); what the sum misses is
told. Importing this module imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from upkeep.errors import ModelError
from upkeep.evaluation.metrics import Floats
from upkeep.evaluation.parts import OTHERS, Parts
from upkeep.evaluation.result import TextAttribution, TokenAttribution
from upkeep.models import keras_feed
from upkeep.models.keras_runtime import keras, quiet, tensorflow
from upkeep.spec.model import Label

AT_ONCE = 32
"""Rows walked together."""
SECONDS = 60.0
"""No further rows are begun after that."""
TEXTS = 8
"""Texts whose tokens are shown."""
TOKENS = 200
"""The most of one text."""


@dataclass(frozen=True)
class _Seam:
    """A layer at whose output the way is walked."""

    layer: Any
    owners: tuple[str, ...]
    """The columns that reach it, in order."""
    tokens: Any = None
    """The layer that cut the text into tokens, where it embeds those."""


@dataclass
class _Walk:
    """What stands at the seams, call by call: as it is, and in the place of what is."""

    seen: dict[tuple[int, int], Any] = field(default_factory=dict)
    put: dict[tuple[int, int], Any] = field(default_factory=dict)


def integrated_gradients(
    predictor: Any,
    rows: pa.Table,
    labels: Sequence[Label],
    *,
    steps: int,
    clock: Callable[[], float],
    progress: Callable[[str, float | None], None],
) -> Parts:
    """``predictor``: a :class:`upkeep.models.keras_folder.KerasPredictor`. Raises :class:`ModelError` where nothing of
    the network can be walked."""
    model, columns = predictor.model, predictor.columns
    manifest = predictor.manifest
    seams = _seams(model, columns)
    reached = {name for seam in seams for name in seam.owners}
    free = [c.name for c in columns if c.kind == "numeric" and c.name not in reached]
    if not seams and not free:
        raise ModelError("the network has no layer at which its gradients could be followed")
    middle = {name: _mean(rows, name) for name in free}
    positive = None if manifest.positive is None else list(manifest.classes).index(manifest.positive)
    names = [c.name for c in columns if c.name in reached or c.name in free]
    found: dict[str, list[Floats]] = {name: [] for name in [*names, OTHERS]}
    texts: list[TextAttribution] = []
    gap = 0.0
    begun, done = clock(), 0
    with quiet():
        while done < rows.num_rows and (not done or clock() - begun < SECONDS):
            batch = rows.slice(done, AT_ONCE)
            walked = _batch(model, seams, columns, batch, middle, positive, steps)
            parts = {name: np.zeros(batch.num_rows) for name in found}
            for seam, values in walked.seams:
                for name, part in _by_column(seam, values).items():
                    parts[name] += part
            for name, values in walked.free.items():
                parts[name] += values
            total = np.sum(list(parts.values()), axis=0)
            gap = max(gap, float(np.abs(total - (walked.answers - walked.baseline)).max()))
            for name, values in parts.items():
                found[name].append(values)
            if len(texts) < TEXTS:
                texts += _texts(walked, batch, labels[done:], manifest.classes, parts, TEXTS - len(texts))
            done += batch.num_rows
            progress("integrated gradients", done / rows.num_rows)
    together = {name: np.concatenate(values) for name, values in found.items()}
    if not together[OTHERS].any():
        del together[OTHERS]
    explained = "the class that is answered" if manifest.positive is None else f"“{_said(manifest.positive)}”"
    return Parts(
        method="integrated_gradients",
        explains=f"the probability of {explained}",
        columns=tuple(together),
        values=np.stack(list(together.values()), axis=1)[:, :, None],
        gap=gap,
        left_out=tuple(c.name for c in columns if c.name not in names),
        texts=tuple(texts),
    )


def _said(label: Label) -> str:
    return str(label).lower() if isinstance(label, bool) else str(label)


def _mean(rows: pa.Table, name: str) -> float:
    numbers = rows.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
    known = numbers[np.isfinite(numbers)]
    return float(known.mean()) if len(known) else 0.0


@dataclass
class _Walked:
    """Of a batch: the parts, and what they should sum to."""

    seams: list[tuple[_Seam, Floats]]
    """Each seam's parts, shape (rows, …)."""
    free: dict[str, Floats]
    answers: Floats
    """f(row), shape (rows,)."""
    baseline: Floats
    target: Any
    """The class whose probability f is, shape (rows,)."""


def _batch(
    model: Any, seams: list[_Seam], columns: Any, batch: pa.Table, middle: dict[str, float], positive: int | None,
    steps: int,
) -> _Walked:  # fmt: skip
    tf = tensorflow()
    inputs = keras_feed.tensors(keras_feed.parts(batch, columns))
    walk = _Walk()
    with _hooks(seams, walk):
        answered = model(inputs, training=False)
    target = (
        tf.argmax(answered, axis=1, output_type=tf.int32)
        if positive is None
        else tf.fill((batch.num_rows,), tf.constant(positive, tf.int32))
    )
    ends = dict(walk.seen)
    raw = {name: inputs[keras_feed.input_name(name)] for name in middle}

    def along(share: float) -> tuple[dict[tuple[int, int], Any], dict[str, Any]]:
        points = {key: value * tf.cast(share, value.dtype) for key, value in ends.items()}
        numbers = {
            name: tf.cast(middle[name], value.dtype) + (value - tf.cast(middle[name], value.dtype)) * share
            for name, value in raw.items()
        }
        return points, numbers

    def f(points: dict[tuple[int, int], Any], numbers: dict[str, Any]) -> Any:
        walk.put = points
        given = {**inputs, **{keras_feed.input_name(name): value for name, value in numbers.items()}}
        with _hooks(seams, walk):
            out = model(given, training=False)
        return tf.gather(out, target, axis=1, batch_dims=1)

    nodes, weights = np.polynomial.legendre.leggauss(steps)
    sums: dict[tuple[int, int] | str, Any] = {}
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        points, numbers = along(float(node))
        watched: dict[tuple[int, int] | str, Any] = {}
        watched.update(points.items())
        watched.update(numbers.items())
        with tf.GradientTape() as tape:
            tape.watch(list(watched.values()))
            value = f(points, numbers)
        gradients = tape.gradient(value, list(watched.values()), unconnected_gradients="zero")
        for key, gradient in zip(watched, gradients, strict=True):
            sums[key] = sums.get(key, 0.0) + tf.cast(weight, gradient.dtype) * gradient
    found = []
    for number, seam in enumerate(seams):
        for key in (key for key in ends if key[0] == number):
            found.append((seam, np.asarray(ends[key] * sums[key], dtype=np.float64)))
    free = {
        name: np.asarray((value - tf.cast(middle[name], value.dtype)) * sums[name], dtype=np.float64).reshape(-1)
        for name, value in raw.items()
    }
    return _Walked(
        seams=found,
        free=free,
        answers=np.asarray(f(*along(1.0)), dtype=np.float64),
        baseline=np.asarray(f(*along(0.0)), dtype=np.float64),
        target=np.asarray(target),
    )


@contextmanager
def _hooks(seams: list[_Seam], walk: _Walk) -> Iterator[None]:
    """Note what each seam gives, or put ``walk.put`` in its place."""
    calls: dict[int, int] = {}

    def hooked(number: int, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            out = original(*args, **kwargs)
            key = (number, calls.get(number, 0))
            calls[number] = key[1] + 1
            if walk.put:
                return walk.put.get(key, out)
            walk.seen[key] = out
            return out

        return call

    try:
        for number, seam in enumerate(seams):
            seam.layer.call = hooked(number, seam.layer.call)
        yield
    finally:
        for seam in seams:
            seam.layer.__dict__.pop("call", None)


def _seams(model: Any, columns: Any) -> list[_Seam]:
    """The layers to walk at, each once, with the columns that reach them."""
    from upkeep.models.keras_layers import Numbers

    K = keras()
    by_input = {keras_feed.input_name(column.name): column.name for column in columns}
    found: list[_Seam] = []
    known: set[int] = set()
    for operation in model.operations:
        owners: tuple[str, ...] | None = None
        inner = operation._flatten_layers() if isinstance(operation, K.layers.Layer) else []
        for layer in inner:
            if id(layer) in known or not isinstance(layer, K.layers.Embedding | K.layers.Normalization | Numbers):
                continue
            if owners is None:
                owners, tokens = _reach(operation, by_input)
            if tokens is not None and getattr(layer, "input_dim", None) != tokens.size:
                continue  # the embedding of a place or a segment: it is not the text
            known.add(id(layer))
            found.append(_Seam(layer, owners, tokens if isinstance(layer, K.layers.Embedding) else None))
    return found


def _reach(operation: Any, by_input: dict[str, str]) -> tuple[tuple[str, ...], Any]:
    """The columns that lead to an operation, in order, and the layer on the way that cuts a text into tokens."""
    names: dict[str, None] = {}
    tokens = None
    waiting, seen = [operation], set()
    while waiting:
        this = waiting.pop()
        if id(this) in seen:
            continue
        seen.add(id(this))
        if this is not operation and hasattr(this, "pieces"):
            tokens = this
        if this.name in by_input and type(this).__name__ == "InputLayer":
            names[by_input[this.name]] = None
        for node in this._inbound_nodes:
            waiting += [tensor._keras_history[0] for tensor in reversed(node.input_tensors)]
    return tuple(names), tokens


def _by_column(seam: _Seam, values: Floats) -> dict[str, Floats]:
    """A seam's parts summed for each of its columns."""
    rows = len(values)
    if len(seam.owners) == 1:
        return {seam.owners[0]: values.reshape(rows, -1).sum(axis=1)}
    places = _places(seam.layer, len(seam.owners), values.shape[-1]) if seam.owners else None
    if places is None:
        return {OTHERS: values.reshape(rows, -1).sum(axis=1)}
    flat = values.reshape(rows, -1)
    return {name: flat[:, [place == number for place in places]].sum(axis=1) for number, name in enumerate(seam.owners)}


def _places(layer: Any, columns: int, width: int) -> list[int] | None:
    """The position of the column that each number at the seam comes from; None: they cannot be told apart."""
    numbers = len(getattr(layer, "fill", ())) or width
    if numbers % columns:
        return None
    each = numbers // columns
    places = [place // each for place in range(numbers)]
    places += [places[place] for place in (*getattr(layer, "indicators", ()), *getattr(layer, "flags", ()))]
    return places if len(places) == width else None


def _texts(
    walked: _Walked, batch: pa.Table, labels: Sequence[Label], classes: Sequence[Label], parts: dict[str, Floats],
    most: int,
) -> list[TextAttribution]:  # fmt: skip
    found: list[TextAttribution] = []
    for seam, values in walked.seams:
        if seam.tokens is None or len(seam.owners) != 1:
            continue
        column = seam.owners[0]
        by_token = values.sum(axis=-1)
        pieces = seam.tokens.pieces(batch.column(column).slice(0, most).to_pylist())
        for place, words in enumerate(pieces):
            found.append(
                TextAttribution(
                    column=column,
                    label=labels[place],
                    explained=classes[int(walked.target[place])],
                    probability=float(walked.answers[place]),
                    baseline=float(walked.baseline[place]),
                    tokens=tuple(
                        TokenAttribution(text=text, value=float(by_token[place, position]), joined=joined)
                        for position, text, joined in words[:TOKENS]
                    ),
                    cut=max(0, len(words) - TOKENS),
                    others=float(sum(part[place] for name, part in parts.items() if name != column)),
                )
            )
    return found[:most]
