"""The model server's real process: from a folder and from S3, over REST v1, v2 and gRPC v2, the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.unit.serving.server.server_make import COLUMNS, ROWS, flights_model
from tests.unit.serving.server.server_process import SECONDS, running
from upkeep.errors import IntegrityError
from upkeep.models.digest import folder_digest
from upkeep.registry.folders import Folders
from upkeep.registry.server import ensure_bucket
from upkeep.serving.server.fetch import model_folder
from upkeep.spec.model import ObjectStore
from upkeep.store import open_store


def tensors() -> list[dict[str, Any]]:
    """The rows as v2 has them."""
    datatypes = {"numeric": "FP64", "categorical": "BYTES", "datetime": "BYTES"}
    return [
        {
            "name": column.name,
            "shape": [ROWS.num_rows],
            "datatype": datatypes[column.kind],
            "data": ROWS[column.name].to_pylist(),
        }
        for column in COLUMNS
    ]


def over_v1(url: str, grpc: str) -> Any:
    answer = httpx.post(f"{url}/v1/models/flight-delays:predict", json={"instances": ROWS.to_pylist()})
    assert answer.headers["x-upkeep-version"] == answer.json()["model_version"] == "v12"
    return [list(row["probabilities"].values()) for row in answer.json()["predictions"]]


def over_v2(url: str, grpc: str) -> Any:
    answer = httpx.post(f"{url}/v2/models/flight-delays/infer", json={"id": "7", "inputs": tensors()})
    assert answer.headers["x-upkeep-version"] == answer.json()["model_version"] == "v12"
    probabilities = answer.json()["outputs"][1]
    assert answer.json()["id"] == "7"
    return np.reshape(probabilities["data"], probabilities["shape"])


def over_grpc(url: str, address: str) -> Any:
    from grpc import insecure_channel
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    with insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        answer, call = stub.ModelInfer.with_call(message(), timeout=SECONDS)
    assert dict(call.initial_metadata())["x-upkeep-version"] == answer.model_version == "v12"
    return np.reshape(answer.outputs[1].contents.fp64_contents, list(answer.outputs[1].shape))


def message(**changes: Any) -> Any:
    """The rows as a gRPC request."""
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

    inputs = []
    for tensor in tensors():
        if tensor["datatype"] == "BYTES":
            contents = pb.InferTensorContents(bytes_contents=[text.encode() for text in tensor["data"]])
        else:
            contents = pb.InferTensorContents(fp64_contents=tensor["data"])
        fields = {name: tensor[name] for name in ("name", "shape", "datatype")}
        inputs.append(pb.ModelInferRequest.InferInputTensor(**fields, contents=contents))
    return pb.ModelInferRequest(**({"model_name": "flight-delays", "id": "8", "inputs": inputs} | changes))


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_every_protocol_gives_the_model_s_own_answers(
    where: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, credentials: None
) -> None:
    predictor = flights_model(tmp_path / "model")
    settings = ObjectStore()
    root = (tmp_path / "store").as_uri()
    if where == "s3":
        endpoint = str(request.getfixturevalue("moto"))
        settings, root = ObjectStore(endpoint=endpoint), "s3://served/store"
        ensure_bucket("s3://served", settings)
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    digest = Folders(open_store(root, settings), "flights/models", "flights/files").put(tmp_path / "model")
    assert digest == folder_digest(tmp_path / "model")
    expected = predictor.predict_proba(ROWS)
    with running("--storage-uri", f"{root}/flights/models/{digest}", digest=digest) as server:
        for ask in (over_v1, over_v2, over_grpc):
            np.testing.assert_array_equal(ask(server.url, server.grpc), expected)
        if where == "folder":
            grpc_refuses_with_the_right_status(server.grpc)
    if where == "s3":
        address = f"{root}/flights/models/{digest}"
        open_store(address, settings).put("more.txt", b"not registered")
        with pytest.raises(IntegrityError, match="not what was registered"), model_folder(address, digest):
            pass


def grpc_refuses_with_the_right_status(address: str) -> None:
    import grpc
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    good = message()
    not_a_number = message()
    not_a_number.inputs[1].contents.fp64_contents[0] = float("nan")
    raw = message(raw_input_contents=[b"\x09\x00\x00\x00UA", b"\x00" * 32, b"\x00" * 16])
    short = message(inputs=good.inputs[:1])
    with grpc.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(pb.ServerReadyRequest(), timeout=SECONDS).ready
        assert stub.ModelReady(pb.ModelReadyRequest(name="flight-delays"), timeout=SECONDS).ready
        assert not stub.ModelReady(pb.ModelReadyRequest(name="other"), timeout=SECONDS).ready
        metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="flight-delays"), timeout=SECONDS)
        assert [tensor.name for tensor in metadata.inputs] == [column.name for column in COLUMNS]
        for method, request, code, words in (
            (stub.ModelInfer, message(model_name="other"), grpc.StatusCode.NOT_FOUND, "not served here"),
            (stub.ModelInfer, message(model_version="v3"), grpc.StatusCode.NOT_FOUND, "v12 is"),
            (stub.ModelInfer, not_a_number, grpc.StatusCode.INVALID_ARGUMENT, "NaN or infinity"),
            (stub.ModelInfer, raw, grpc.StatusCode.INVALID_ARGUMENT, "raw contents are cut"),
            (stub.ModelInfer, short, grpc.StatusCode.INVALID_ARGUMENT, "column distance is missing"),
            (stub.ModelMetadata, pb.ModelMetadataRequest(name="x"), grpc.StatusCode.NOT_FOUND, "x does not exist"),
            (stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="flight-delays"),
             grpc.StatusCode.UNIMPLEMENTED, "one version"),
        ):  # fmt: skip
            with pytest.raises(grpc.RpcError) as caught:
                method(request, timeout=SECONDS)
            assert (caught.value.code(), words in caught.value.details()) == (code, True), caught.value.details()
