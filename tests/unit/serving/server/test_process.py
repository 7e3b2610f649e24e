"""The real process: REST v1 and v2, gRPC v2, its log, and its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import orjson
import pytest

from tests.unit.serving.server.server_make import ROWS, flights_model
from upkeep.models.folder import folder_digest
from upkeep.serving.payload import read_events

SECONDS = 120


@dataclass
class Running:
    process: subprocess.Popen[str]
    url: str
    grpc: str


def start(*arguments: str, digest: str = "", version: str = "v12") -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UPKEEP_")}
    environ |= {"UPKEEP_VERSION": version, "UPKEEP_DIGEST": digest}
    command = [sys.executable, "-m", "upkeep.serving.server", "--model_name=flight-delays", "--http-port", "0"]
    return subprocess.Popen([*command, *arguments], env=environ, stderr=subprocess.PIPE, text=True)


@contextmanager
def running(*arguments: str, digest: str = "") -> Iterator[Running]:
    process = start("--grpc-port", "0", *arguments, digest=digest)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert "listening on" in line, line + process.stderr.read()
        url, _, rest = line.split("listening on ")[1].strip().partition(" and gRPC on ")
        end = time.monotonic() + SECONDS
        while httpx.get(f"{url}/v2/health/ready").status_code != 200:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        yield Running(process, url, f"127.0.0.1:{rest}")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()


def test_v1_v2_and_grpc_give_the_model_s_own_answers(tmp_path: Path) -> None:
    from grpc import insecure_channel
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    predictor = flights_model(tmp_path / "model")
    expected = predictor.predict_proba(ROWS)
    digest = folder_digest(tmp_path / "model")
    rows = ROWS.to_pylist()
    log = tmp_path / "log"
    with running("--model_dir", str(tmp_path / "model"), "--payload-dir", str(log), digest=digest) as server:
        headers = {"ce-id": "mine"}
        v1 = httpx.post(f"{server.url}/v1/models/flight-delays:predict", json={"instances": rows}, headers=headers)
        assert v1.status_code == 200, v1.text
        assert (v1.headers["x-upkeep-version"], v1.headers["x-request-id"]) == ("v12", "mine")
        answered = [list(row["probabilities"].values()) for row in v1.json()["predictions"]]
        np.testing.assert_array_equal(answered, expected)

        tensors = [
            {"name": "carrier", "shape": [len(rows)], "datatype": "BYTES", "data": ROWS["carrier"].to_pylist()},
            {"name": "distance", "shape": [len(rows), 1], "datatype": "FP64", "data": ROWS["distance"].to_pylist()},
            {"name": "departure", "shape": [len(rows)], "datatype": "BYTES", "data": ROWS["departure"].to_pylist()},
        ]
        v2 = httpx.post(f"{server.url}/v2/models/flight-delays/infer", json={"id": "7", "inputs": tensors})
        assert v2.status_code == 200, v2.text
        label, probabilities = v2.json()["outputs"]
        assert v2.json()["id"] == "7" and label["datatype"] == "BOOL"
        np.testing.assert_array_equal(np.reshape(probabilities["data"], probabilities["shape"]), expected)

        fields = {"BYTES": "bytes_contents", "FP64": "fp64_contents"}
        request = pb.ModelInferRequest(
            model_name="flight-delays",
            id="8",
            inputs=[
                pb.ModelInferRequest.InferInputTensor(
                    name=tensor["name"],
                    datatype=tensor["datatype"],
                    shape=tensor["shape"],
                    contents=pb.InferTensorContents(
                        **{
                            fields[tensor["datatype"]]: [
                                value.encode() if isinstance(value, str) else value for value in tensor["data"]
                            ]
                        }
                    ),
                )
                for tensor in tensors
            ],
        )
        with insecure_channel(server.grpc) as channel:
            answer, call = GRPCInferenceServiceStub(channel).ModelInfer.with_call(request, timeout=SECONDS)
        assert dict(call.initial_metadata())["x-upkeep-version"] == "v12"
        assert answer.id == "8"
        np.testing.assert_array_equal(np.reshape(answer.outputs[1].contents.fp64_contents, expected.shape), expected)

        page = httpx.get(f"{server.url}/metrics").text
        labels = f'digest="{digest[:12]}",model="flight-delays"'
        assert f'upkeep_server_rows_total{{{labels},version="v12"}} {float(3 * len(rows))}' in page

        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SECONDS) == 0
    kinds = [(event.kind, event.version) for event in read_events(log)]
    assert kinds == [("request", "v12"), ("response", "v12")] * 3
    first = next(read_events(log))
    assert (first.id, first.data) == ("mine", {"instances": rows})


def test_a_request_in_flight_is_answered_before_the_end(tmp_path: Path) -> None:
    flights_model(tmp_path / "model")
    body = orjson.dumps({"instances": ROWS.to_pylist()})
    with running("--model-dir", str(tmp_path / "model")) as server:
        address = httpx.URL(server.url)
        with socket.create_connection((address.host, address.port or 0), timeout=SECONDS) as client:
            head = f"POST /v1/models/flight-delays:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body[:10])
            while b"\nupkeep_server_ready" not in httpx.get(f"{server.url}/metrics").content:
                pass  # one answered request later, the server has seen the head
            server.process.send_signal(signal.SIGTERM)
            end = time.monotonic() + SECONDS
            while refuses(address) is False:
                assert time.monotonic() < end
            client.sendall(body[10:])
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")
        assert server.process.wait(SECONDS) == 0


def refuses(address: httpx.URL) -> bool:
    """Whether nobody listens there any more."""
    with socket.socket() as probe:
        return probe.connect_ex((address.host, address.port or 0)) != 0


@pytest.mark.parametrize(
    ("arguments", "digest", "code", "words"),
    [
        (["--model-dir", "MODEL"], "0" * 64, 3, "not what was registered"),
        (["--model-dir", "NOWHERE"], "", 3, "there is no model folder"),
        (["--storage-uri", "file:///NOWHERE/models/" + "1" * 64], "0" * 64, 2, "address ends in"),
        (["--model-dir", "MODEL", "--storage-uri", "s3://b/m"], "", 2, "not both"),
        (["--model-dir", "MODEL", "--workers", "3"], "", 2, "run more replicas"),
    ],
)
def test_what_cannot_be_served_ends_with_its_reason(
    tmp_path: Path, arguments: list[str], digest: str, code: int, words: str
) -> None:
    flights_model(tmp_path / "model")
    process = start(*[argument.replace("MODEL", str(tmp_path / "model")) for argument in arguments], digest=digest)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == code
    assert words in said and "Traceback" not in said
