"""gRPC v2: KServe's service, answered by the same model through the same documents as v2 over REST."""

from __future__ import annotations

import logging
import math
import struct
import time
from typing import Any, NoReturn

import numpy as np
import orjson
from grpc import StatusCode, aio
from kserve.errors import ModelNotFound
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from kserve.protocol.grpc.servicer import InferenceServicer

from upkeep.errors import OutsideError, Where
from upkeep.serving.manifests import VERSION_HEADER
from upkeep.serving.payload import PayloadLog
from upkeep.serving.server.model import NotReadyError, ServedModel
from upkeep.serving.server.rest import MOST_BYTES, ReadyDataPlane, request_id
from upkeep.serving.server.rows import Refusal

log = logging.getLogger("upkeep.serving.server")

_FIELDS = {
    "BOOL": "bool_contents",
    "BYTES": "bytes_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    **{f"INT{bits}": "int_contents" for bits in (8, 16, 32)},
    **{f"UINT{bits}": "uint_contents" for bits in (8, 16, 32)},
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
}
_RAW = {
    "BOOL": "?",
    **{f"FP{8 * size}": f"<f{size}" for size in (2, 4, 8)},
    **{f"INT{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
}
_CODES = {
    404: StatusCode.NOT_FOUND,
    413: StatusCode.INVALID_ARGUMENT,
    429: StatusCode.RESOURCE_EXHAUSTED,
    501: StatusCode.UNIMPLEMENTED,
}


def start(
    host: str, port: int, model: ServedModel, plane: ReadyDataPlane, payload_log: PayloadLog | None
) -> tuple[aio.Server, int]:
    """A server that is bound and not started, and its port. Raises :class:`OutsideError` when the port is taken."""
    options = [("grpc.max_receive_message_length", MOST_BYTES), ("grpc.so_reuseport", 0)]
    server = aio.server(options=options)
    add_GRPCInferenceServiceServicer_to_server(Service(model, plane, payload_log), server)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise OutsideError(
            "the gRPC port cannot be listened on", where=Where(file=address), fix="choose a free one"
        ) from error
    return server, bound


class Service(InferenceServicer):  # type: ignore[misc]
    """KServe's servicer; what would fail as INTERNAL or UNKNOWN there has its status here, and nobody can unload."""

    def __init__(self, model: ServedModel, plane: ReadyDataPlane, payload_log: PayloadLog | None) -> None:
        super().__init__(plane, None)
        self._model, self._payload_log = model, payload_log

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 (the protocol's names)
        start, requested = time.perf_counter(), time.time()
        headers = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
        identity = request_id(headers.get("ce-id", "").encode(), headers.get("x-request-id", "").encode())
        await context.send_initial_metadata(((VERSION_HEADER, self._model.version), ("x-request-id", identity)))
        document: dict[str, Any] | None = None
        answer: dict[str, Any] = {}
        code, words = StatusCode.OK, ""
        try:
            self._check_name(request.model_name, request.model_version or headers.get(VERSION_HEADER, ""))
            document = to_document(request)
            answer = await self._model.predict(document)
        except Refusal as refusal:
            code, words = _CODES.get(refusal.status, StatusCode.INVALID_ARGUMENT), refusal.words
        except NotReadyError:
            code, words = StatusCode.UNAVAILABLE, f"the model {self._model.name} is not ready yet"
        except Exception as error:
            log.exception("request %s: the model failed", identity)
            code, words = StatusCode.INTERNAL, f"the model failed: {error}"
        if self._payload_log is not None and document is not None and VERSION_HEADER not in headers:
            put = self._payload_log.put
            put("request", identity, requested=requested, at=requested, body=orjson.dumps(document))
            if code is StatusCode.OK:
                put("response", identity, requested=requested, at=time.time(), body=orjson.dumps(answer))
        self._model.metrics.answered("grpc", code.name, time.perf_counter() - start)
        if code is not StatusCode.OK:
            await context.abort(code, words)
        return _to_message(answer)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        return pb.ModelReadyResponse(ready=request.name == self._model.name and await self._model.healthy())

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            return await super().ModelMetadata(request, context)
        except ModelNotFound as error:
            await context.abort(StatusCode.NOT_FOUND, error.reason)

    async def RepositoryModelLoad(self, request: Any, context: Any) -> NoReturn:  # noqa: ARG002, N802
        await context.abort(StatusCode.UNIMPLEMENTED, "this server serves one version from its start to its end")
        raise AssertionError

    async def RepositoryModelUnload(self, request: Any, context: Any) -> NoReturn:  # noqa: N802
        await self.RepositoryModelLoad(request, context)

    def _check_name(self, name: str, version: str) -> None:
        if name != self._model.name:
            raise Refusal(f"the model {name[:80]!r} is not served here, {self._model.name} is", status=404)
        if version not in ("", self._model.version):
            raise Refusal(f"version {version[:20]!r} is not served here, {self._model.version} is", status=404)


def to_document(request: Any) -> dict[str, Any]:
    """A ``ModelInferRequest`` as v2's JSON document. Raises :class:`Refusal`."""
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise Refusal(f"there are {len(request.inputs)} tensors and {len(raw)} raw contents")
    inputs = []
    for place, tensor in enumerate(request.inputs):
        data = _raw_values(tensor, raw[place]) if raw else _values(tensor)
        if any(isinstance(value, float) and not math.isfinite(value) for value in data):
            raise Refusal(
                f"tensor {tensor.name} holds NaN or infinity",
                field=tensor.name,
                fix="send BYTES with an empty text where a value is unknown",
            )
        inputs.append({"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype, "data": data})
    return {"id": request.id, "inputs": inputs}


def _values(tensor: Any) -> list[Any]:
    field = _FIELDS.get(tensor.datatype)
    if field is None:
        return []  # what kind of tensor it is, is checked with the others
    values = list(getattr(tensor.contents, field))
    return [_text(tensor.name, value) for value in values] if tensor.datatype == "BYTES" else values


def _raw_values(tensor: Any, data: bytes) -> list[Any]:
    try:
        if tensor.datatype == "BYTES":
            values, offset = [], 0
            while offset < len(data):
                (length,) = struct.unpack_from("<I", data, offset)
                (value,) = struct.unpack_from(f"<{length}s", data, offset + 4)
                values.append(_text(tensor.name, value))
                offset += 4 + length
            return values
        if tensor.datatype in _RAW:
            plain: list[Any] = np.frombuffer(data, _RAW[tensor.datatype]).tolist()
            return plain
    except (struct.error, ValueError) as error:
        raise Refusal(f"tensor {tensor.name}'s raw contents are cut: {error}", field=tensor.name) from error
    return []


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Refusal(f"tensor {name} holds bytes that are no UTF-8 text", field=name) from error


def _to_message(answer: dict[str, Any]) -> Any:
    outputs = []
    for output in answer["outputs"]:
        data = output["data"]
        if output["datatype"] == "BYTES":
            data = [text.encode() for text in data]
        outputs.append(
            pb.ModelInferResponse.InferOutputTensor(
                name=output["name"],
                datatype=output["datatype"],
                shape=output["shape"],
                parameters={
                    name: pb.InferParameter(string_param=value) for name, value in output.get("parameters", {}).items()
                },
                contents=pb.InferTensorContents(**{_FIELDS[output["datatype"]]: data}),
            )
        )
    return pb.ModelInferResponse(
        model_name=answer["model_name"], model_version=answer["model_version"], id=answer["id"], outputs=outputs
    )
