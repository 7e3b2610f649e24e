"""One training on several devices: each replica learns its share of every batch, and all hold the same weights.

Every process reads the same rows in the same order, so nothing of them is sent around but the sums of gradients. A
batch's loss and gradients are those of one device, but for the order in which floats are added.
"""

from __future__ import annotations

import functools
import json
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from upkeep.errors import ModelError, OutsideError, Where
from upkeep.models.keras_runtime import tensorflow
from upkeep.spec.model import Devices

WAIT = 300
"""Seconds that a worker waits for the others, at the start and at every step."""
_entered: list[Any] = []


def is_chief(devices: Devices, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process writes what a training leaves: of several workers, only the first does."""
    if devices != "workers":
        return True
    told = told_of_workers(environ)
    first = "chief" if told["cluster"].get("chief") else "worker"
    return bool(told["task"]["type"] == first and told["task"]["index"] == 0)


def told_of_workers(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What ``TF_CONFIG`` says: ``cluster``, the addresses of each kind of worker, and ``task``, which of them this is.

    Raises :class:`ModelError` where it does not say that.
    """
    try:
        told = json.loads(environ.get("TF_CONFIG") or "{}")
        task, cluster = told["task"], told["cluster"]
        ports = [int(address.rpartition(":")[2]) for addresses in cluster.values() for address in addresses]
        kind, index = str(task["type"]), int(task["index"])
        if not ports or not 0 <= index < len(cluster[kind]):
            raise ValueError("there is no such worker")
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            "TF_CONFIG does not say which worker this is",
            where=Where(field="devices"),
            fix='set it on each: {"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}',
        ) from error
    return {"cluster": cluster, "task": {"type": kind, "index": index}}


@contextmanager
def on_devices(devices: Devices) -> Iterator[None]:
    """Variables that are made inside are on all of the devices, and steps run on all of them.

    Raises :class:`ModelError` where ``TF_CONFIG`` says nothing of this worker, :class:`OutsideError` when another
    worker is not there or goes away.
    """
    if devices == "one":
        yield
        return
    with _telling_of_workers(devices):
        _entered.append(_strategy(devices).scope())
        _entered[-1].__enter__()
        try:
            yield
        finally:
            _entered.pop().__exit__(None, None, None)


def enter_again() -> None:
    """After Keras' session was cleared: TensorFlow forgets with it where it was."""
    if _entered:
        _entered[-1] = _entered[-1]._context.strategy.scope()
        _entered[-1].__enter__()


@contextmanager
def _telling_of_workers(devices: Devices) -> Iterator[None]:
    errors = tensorflow().errors
    try:
        yield
    except (errors.UnavailableError, errors.DeadlineExceededError, errors.AbortedError, errors.CancelledError,
            errors.InternalError, errors.FailedPreconditionError) as error:  # fmt: skip
        raise lost(error) if devices == "workers" else error from error


def lost(error: Exception) -> OutsideError:
    """What to say when the other workers do not answer."""
    said = re.sub(r"\{\{.*?\}\} *", "", str(error)).partition("\n")[0]
    return OutsideError(
        f"another worker of this training does not answer: {said[:200]}",
        fix="start all workers again: they go on from the last checkpoint",
    )


@functools.cache
def _strategy(devices: Devices) -> Any:
    """Made once a process: the workers' server can be started only once."""
    tf = tensorflow()
    if devices == "all":
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        return tf.distribute.MirroredStrategy([device.name for device in tf.config.list_logical_devices(kind)])
    told = told_of_workers()
    _meet(told)
    _limit_waiting(told)
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=float(WAIT))
    return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


def _meet(told: Mapping[str, Any]) -> None:
    """Wait until something listens at the address of every worker, this one's too: TensorFlow's own first worker would
    wait for ever. Raises :class:`OutsideError` after :data:`WAIT` seconds."""
    task, ends = told["task"], time.monotonic() + WAIT
    others = [address for addresses in told["cluster"].values() for address in addresses]
    own = others.pop(others.index(told["cluster"][task["type"]][task["index"]]))
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("", int(own.rpartition(":")[2])))  # as TensorFlow's server does
        listening.listen(len(others))
        while others:
            host, _, port = others[0].rpartition(":")
            try:
                socket.create_connection((host, int(port)), timeout=5).close()
                others.pop(0)
            except OSError as error:
                if time.monotonic() > ends:
                    raise lost(OSError(f"nothing listens at {others[0]} after {WAIT} s ({error})")) from error
                time.sleep(0.2)


def _limit_waiting(told: Mapping[str, Any]) -> None:
    """As the strategy would do it, but that it would wait an hour for workers that never come."""
    from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
    from tensorflow.python.eager import context

    jobs = {name: len(told["cluster"][name]) for name in ("chief", "worker") if told.get("cluster", {}).get(name)}
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{next(iter(jobs))}/replica:0/task:0",
        cluster_register_timeout_in_ms=WAIT * 1000,
        coordinated_jobs=[coordination_config_pb2.CoordinatedJob(name=name, num_tasks=n) for name, n in jobs.items()],
    )


def is_one() -> bool:
    return bool(tensorflow().distribute.get_strategy().num_replicas_in_sync == 1)


def writes() -> bool:
    """Whether this process saves checkpoints."""
    return bool(tensorflow().distribute.get_strategy().extended.should_checkpoint)


def share(batch: Any, rows: Any) -> Any:
    """This replica's rows of a batch (tensors, ``rows`` each, nested); runs inside ``strategy.run``."""
    tf = tensorflow()
    context = tf.distribute.get_replica_context()
    place, replicas = context.replica_id_in_sync_group, context.num_replicas_in_sync
    start, end = place * rows // replicas, (place + 1) * rows // replicas
    return tf.nest.map_structure(lambda tensor: tensor[start:end], batch)


def clipped(gradients: Sequence[Any], norm: float) -> list[Any]:
    """Gradients whose sum over the replicas has at most this norm, all together; runs inside ``strategy.run``.

    Keras would clip each replica's by itself.
    """
    tf = tensorflow()
    context = tf.distribute.get_replica_context()
    there = [gradient for gradient in gradients if gradient is not None]
    total, _ = tf.clip_by_global_norm(context.all_reduce(tf.distribute.ReduceOp.SUM, there), norm)
    parts = iter([gradient / context.num_replicas_in_sync for gradient in total])
    return [None if gradient is None else next(parts) for gradient in gradients]


def agreed(value: float) -> float:
    """The mean of what the replicas found: a decision must be the same for all, to the last bit."""
    tf = tensorflow()
    strategy = tf.distribute.get_strategy()
    if is_one():
        return value
    mean = tf.function(lambda own: strategy.reduce(tf.distribute.ReduceOp.MEAN, strategy.run(lambda: own), axis=None))
    return float(mean(tf.constant(value, tf.float64)))
