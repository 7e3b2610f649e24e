"""The door: an ASGI application that answers predictions itself, and lets nothing but known paths through to KServe's.

KServe's own application parses, validates and times each request in ways that cost more than a batched prediction,
turns some bad requests into 500, and lets a client unload the model. Health, listing and metadata are its own.
"""

from __future__ import annotations

import logging
import time
from typing import Any
from uuid import uuid4

import orjson
from fastapi import FastAPI
from kserve.errors import (
    ModelNotReady,
    ServerNotLive,
    ServerNotReady,
    model_not_ready_handler,
    server_not_live_handler,
    server_not_ready_handler,
)
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.v1_endpoints import register_v1_endpoints
from kserve.protocol.rest.v2_endpoints import register_v2_endpoints

from upkeep.serving.manifests import VERSION_HEADER
from upkeep.serving.payload import PayloadLog
from upkeep.serving.server import metrics
from upkeep.serving.server.model import NotReadyError, ServedModel
from upkeep.serving.server.rows import Refusal

log = logging.getLogger("upkeep.serving.server")

MOST_BYTES = 16 << 20
_LONGEST_ID = 256
_VERSION_HEADER = VERSION_HEADER.encode()


class ReadyDataPlane(DataPlane):  # type: ignore[misc]
    """KServe's data plane is ready from the start, and lives for ever; this one is ready when the model is, and asks to
    be started again when it hangs."""

    async def live(self) -> dict[str, str]:
        hung = any(model.hung for model in self.model_registry.get_models().values())
        return {"status": "hung" if hung else "alive"}

    async def ready(self) -> bool:
        models = self.model_registry.get_models().values()
        return all([await model.healthy() for model in models])


def data_plane(model: ServedModel) -> ReadyDataPlane:
    repository = ModelRepository()
    repository.update(model)
    return ReadyDataPlane(repository)


def kserve_app(plane: DataPlane) -> FastAPI:
    """KServe's REST endpoints, without its timing middleware."""
    app = FastAPI(openapi_url=None)
    app.add_api_route("/", plane.live)
    register_v1_endpoints(app, plane, None)
    register_v2_endpoints(app, plane, None)
    app.add_exception_handler(ModelNotReady, model_not_ready_handler)
    app.add_exception_handler(ServerNotReady, server_not_ready_handler)
    app.add_exception_handler(ServerNotLive, server_not_live_handler)
    return app


class Door:
    """``await Door(…)(scope, receive, send)``, as ASGI has it."""

    def __init__(
        self, model: ServedModel, app: Any, payload_log: PayloadLog | None = None, *, most_bytes: int = MOST_BYTES
    ) -> None:
        self._model, self._app, self._payload_log = model, app, payload_log
        self._most_bytes = most_bytes
        self._version = model.version.encode()
        name, version = model.name, model.version
        one = f"/v2/models/{name}"
        self._predict = {
            f"/v1/models/{name}:predict": "v1",
            f"{one}/infer": "v2",
            f"{one}/versions/{version}/infer": "v2",
        }
        self._read = {
            path: path
            for path in (
                *("/", "/v1/models", f"/v1/models/{name}", "/v2", "/v2/health/live", "/v2/health/ready"),
                *("/v2/models", one, f"{one}/ready"),
            )
        }
        self._read[f"{one}/versions/{version}"] = one
        self._read[f"{one}/versions/{version}/ready"] = f"{one}/ready"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        protocol = self._predict.get(path)
        if protocol is not None and method == "POST":
            await self._answer(scope, receive, send, protocol)
        elif path == "/metrics" and method in ("GET", "HEAD"):
            await self._send(send, 200, self._model.metrics.page(), [], metrics.CONTENT_TYPE.encode())
        elif path in self._read and method == "GET":
            await self._app({**scope, "path": self._read[path], "raw_path": self._read[path].encode()}, receive, send)
        elif protocol is not None or path in self._read or path == "/metrics":
            allow = "POST" if protocol is not None else "GET"
            refusal = Refusal(f"{method} is not possible here", status=405, fix=f"use {allow}")
            await self._refuse(send, refusal, [(b"allow", allow.encode())])
        else:
            predicts = path.endswith(("/infer", ":predict"))
            if predicts:
                self._model.metrics.answered("v2" if path.endswith("/infer") else "v1", 404, 0.0)
            await self._refuse(send, self._unknown(path), [])

    def _unknown(self, path: str) -> Refusal:
        name, version = self._model.name, self._model.version
        asked = path.split("/models/", 1)[-1].partition("/")[0].partition(":")[0] if "/models/" in path else name
        if asked != name:
            message = f"the model {asked[:80]!r} is not served here"
        elif "/versions/" in path:
            message = f"that version of {name} is not served here, {version} is"
        else:
            message = f"there is nothing at {path[:80]!r}"
        return Refusal(message, status=404, fix=f"ask /v1/models/{name}:predict or /v2/models/{name}/infer")

    async def _answer(self, scope: Any, receive: Any, send: Any, protocol: str) -> None:
        start = time.perf_counter()
        identity, headers = "", {}
        for name, value in scope["headers"]:
            headers[name] = value
        identity = request_id(headers.get(b"ce-id", b""), headers.get(b"x-request-id", b""))
        answer_headers = [(_VERSION_HEADER, self._version), (b"x-request-id", identity.encode())]
        body = b""
        requested = time.time()
        document: Any = None
        status, answer = 200, b""
        try:
            self._check_headers(headers)
            read = await self._body(receive)
            if read is None:
                return  # the client went away
            body, requested = read, time.time()
            try:
                document = orjson.loads(body)
            except orjson.JSONDecodeError as error:
                raise Refusal(f"the request is no JSON: {error}") from error
            answer = orjson.dumps(await self._model.predict(document))
        except Refusal as refusal:
            status, answer = refusal.status, _error(refusal.words)
            if status == 413:
                answer_headers.append((b"connection", b"close"))  # what is still to come is not read
            elif status == 429:
                answer_headers.append((b"retry-after", b"1"))
        except NotReadyError:
            status, answer = 503, _error(f"the model {self._model.name} is not ready yet; try again in a second")
        except Exception as error:
            log.exception("request %s: the model failed", identity)
            status, answer = 500, _error(f"the model failed: {str(error).splitlines()[0] if str(error) else error!r}")
        # a tester's request, or a probe's: chosen for this version, so that it says nothing of live traffic
        if self._payload_log is not None and _VERSION_HEADER not in headers:
            content_type = headers.get(b"content-type", b"").decode("latin-1")
            log_it = self._payload_log.put
            known = True if document is not None else None
            log_it("request", identity, requested=requested, at=requested, body=body, content_type=content_type,
                   is_json=known)  # fmt: skip
            if status == 200:
                log_it("response", identity, requested=requested, at=time.time(), body=answer)
        self._model.metrics.answered(protocol, status, time.perf_counter() - start)
        await self._send(send, status, answer, answer_headers)

    def _check_headers(self, headers: dict[bytes, bytes]) -> None:
        pinned = headers.get(_VERSION_HEADER)
        if pinned is not None and pinned != self._version:
            raise Refusal(
                f"version {pinned[:20].decode('latin-1')!r} is not served here, {self._model.version} is", status=404
            )
        if headers.get(b"content-encoding", b"identity").lower() not in (b"identity", b""):
            raise Refusal("the body is compressed", status=415, fix="send it as it is")
        if b"inference-header-content-length" in headers:
            raise Refusal("binary tensors are not understood", fix="send the tensors' data as JSON, or use gRPC")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._most_bytes:
            raise self._too_large()

    def _too_large(self) -> Refusal:
        return Refusal("the request is too large", status=413, fix=f"send at most {self._most_bytes} bytes")

    async def _body(self, receive: Any) -> bytes | None:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size > self._most_bytes:
                raise self._too_large()
            parts.append(part)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _refuse(self, send: Any, refusal: Refusal, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send(send, refusal.status, _error(refusal.words), [(_VERSION_HEADER, self._version), *headers])

    async def _send(
        self,
        send: Any,
        status: int,
        body: bytes,
        headers: list[tuple[bytes, bytes]],
        content_type: bytes = b"application/json",
    ) -> None:
        headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *headers]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def request_id(*given: bytes) -> str:
    """The first that can be one (short, printable ASCII), else a new one."""
    for value in given:
        text = value.decode("latin-1")
        if 0 < len(text) <= _LONGEST_ID and text.isascii() and text.isprintable():
            return text
    return str(uuid4())


def _error(words: str) -> bytes:
    return orjson.dumps({"error": words.encode("utf-8", "replace").decode()})
