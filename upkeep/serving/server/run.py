"""The process: binds, loads, serves, and ends when it is told to."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import uvicorn

from upkeep.data.read import local_path
from upkeep.errors import OutsideError, Where
from upkeep.serving.payload import PayloadLog
from upkeep.serving.server import grpc
from upkeep.serving.server.fetch import expected_digest
from upkeep.serving.server.metrics import Metrics
from upkeep.serving.server.model import ServedModel
from upkeep.serving.server.rest import Door, data_plane, kserve_app
from upkeep.store import open_store

if TYPE_CHECKING:
    from upkeep.serving.server.__main__ import Options

log = logging.getLogger("upkeep.serving.server")

KEEP_ALIVE = 65
"""Seconds; longer than a gateway keeps an idle connection, so that the gateway is the one to close it."""


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours: uvicorn's own way ends the process by the signal, not with 0."""
        yield


async def serve(options: Options) -> int:
    """Serve until SIGTERM or SIGINT; the exit code.

    Alive as soon as it listens, ready when the model has answered. Raises :class:`UpkeepError` when a port cannot be
    listened on or the model cannot be loaded.
    """
    logging.getLogger("kserve").setLevel(logging.CRITICAL)  # it logs a traceback for each "not ready"
    digest = expected_digest(options.address, options.digest)
    metrics = Metrics(options.model_name, options.version, digest)
    model = ServedModel(
        options.model_name,
        version=options.version,
        address=options.address,
        digest=digest,
        models=options.models,
        metrics=metrics,
        allowed=options.allowed,
        most_rows=options.max_rows,
    )
    listener = _bind(options.host, options.http_port)
    payload_log = _payload_log(options, metrics)
    plane = data_plane(model)
    door = Door(model, kserve_app(plane), payload_log, most_bytes=options.max_bytes)
    server = _Server(
        uvicorn.Config(
            door,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=int(options.grace_seconds),
        )
    )
    grpc_server, grpc_port = None, None
    if options.grpc_port is not None:
        grpc_server, grpc_port = grpc.start(options.host, options.grpc_port, model, plane, payload_log)
        await grpc_server.start()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, server)
    place = listener.getsockname()[1]
    beside = f" and gRPC on {grpc_port}" if grpc_port is not None else ""
    log.info("listening on http://%s:%s%s", options.host, place, beside)

    async def load() -> None:
        try:
            await asyncio.to_thread(model.load)
        except BaseException:
            _stop(server)
            raise
        if payload_log is not None:
            payload_log.columns = model.columns
        log.info("ready: %s %s, digest %s", model.name, model.version, model.digest[:12])

    loading = asyncio.create_task(load())
    try:
        await server.serve(sockets=[listener])
        if grpc_server is not None:
            await grpc_server.stop(options.grace_seconds)
        if loading.done():
            await loading
        else:
            loading.cancel()
    finally:
        model.stop()
        if payload_log is not None:
            payload_log.close()
    log.info("stopped")
    return 0


def _stop(server: uvicorn.Server) -> None:
    server.should_exit = True


def _payload_log(options: Options, metrics: Metrics) -> PayloadLog | None:
    if not options.payloads:
        return None
    folder = local_path(options.payloads)
    payload_log = PayloadLog(
        folder or partial(open_store, options.payloads, make=False),
        service=options.service,
        namespace=options.namespace,
        version=options.version,
        drop=options.payload_drop,
    )
    metrics.watch_drops(lambda: payload_log.dropped)
    return payload_log


def _bind(host: str, port: int) -> socket.socket:
    # by its protocol's name: asyncio sets TCP_NODELAY on no other, and then an answer's body waits 40 ms for an ACK
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # what asks from now on waits, and is not refused
    except OSError as error:
        listener.close()
        raise OutsideError(
            f"the address cannot be listened on: {error.strerror}",
            where=Where(file=f"{host}:{port}"),
            fix="choose a free port",
        ) from error
    listener.setblocking(False)
    return listener
