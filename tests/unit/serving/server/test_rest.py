"""The door: what goes in comes out as an answer or a clear refusal; nothing that a client sends makes a 5xx."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.serving.server.server_make import COLUMNS, ROWS, flights_model
from upkeep.errors import ModelError
from upkeep.serving.payload import PayloadLog, read_events
from upkeep.serving.server.metrics import Metrics
from upkeep.serving.server.model import ServedModel
from upkeep.serving.server.rest import Door, data_plane, kserve_app

V1 = "/v1/models/flights:predict"
V2 = "/v2/models/flights/infer"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


def call(door: Door, path: str, *parts: bytes, method: str = "POST", headers: dict[str, str] | None = None) -> Answer:
    """One request, its body in parts, through ASGI."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    scope = {"type": "http", "http_version": "1.1", "scheme": "http", "method": method, "headers": pairs}
    scope |= {"path": path, "raw_path": path.encode("utf-8", "replace"), "query_string": b"", "root_path": ""}
    asyncio.run(door(scope, receive, send))
    head = {name.decode().lower(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], head, b"".join(message.get("body", b"") for message in sent[1:]))


def make(folder: Path, *, loaded: bool = True, log: PayloadLog | None = None, **options: Any) -> Door:
    metrics = Metrics("flights", "v2", "a" * 64)
    model = ServedModel("flights", version="v2", address=str(folder), digest="", metrics=metrics, most_rows=50)
    if loaded:
        model.load()
    return Door(model, kserve_app(data_plane(model)), log, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m"
    flights_model(path)
    return path


@pytest.fixture(scope="module")
def door(folder: Path) -> Iterator[Door]:
    door = make(folder)
    yield door
    door._model.stop()


GOOD = orjson.dumps({"instances": ROWS.to_pylist()})


def test_a_body_in_parts_is_one_body(door: Door) -> None:
    answer = call(door, V1, GOOD[:7], GOOD[7:], headers={"x-request-id": "r-1"})
    assert answer.status == 200 and len(answer.json["predictions"]) == 4
    assert answer.headers["x-request-id"] == "r-1" and answer.headers["x-upkeep-version"] == "v2"
    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.parametrize(
    ("path", "method", "headers", "status", "words"),
    [
        ("/v1/models/other:predict", "POST", {}, 404, "the model 'other' is not served here"),
        ("/v2/models/other/infer", "POST", {}, 404, "the model 'other' is not served here"),
        ("/v2/models/other", "GET", {}, 404, "the model 'other' is not served here"),
        ("/v2/models/flights/versions/v3/infer", "POST", {}, 404, "that version of flights is not served here, v2 is"),
        (V1, "POST", {"x-upkeep-version": "v3"}, 404, "version 'v3' is not served here, v2 is"),
        (V1, "GET", {}, 405, "GET is not possible here; use POST"),
        ("/v2", "POST", {}, 405, "POST is not possible here; use GET"),
        ("/metrics", "DELETE", {}, 405, "use GET"),
        ("/v1/models/flights:explain", "POST", {}, 404, "there is nothing at"),
        ("/v2/repository/models/flights/unload", "POST", {}, 404, "there is nothing at"),
        ("/docs", "GET", {}, 404, "there is nothing at"),
        (V1, "POST", {"content-encoding": "gzip"}, 415, "compressed"),
        (V1, "POST", {"content-length": str(10**9)}, 413, "too large"),
        (V2, "POST", {"inference-header-content-length": "x"}, 400, "binary tensors"),
    ],
)
def test_what_is_refused_says_why(
    door: Door, path: str, method: str, headers: dict[str, str], status: int, words: str
) -> None:
    answer = call(door, path, GOOD, method=method, headers=headers)
    assert answer.status == status
    assert words in answer.json["error"]


def test_bodies_and_rows_have_limits(folder: Path) -> None:
    door = make(folder, most_bytes=1000)
    assert call(door, V1, b"[" * 600, b"[" * 600).status == 413
    rows = {"instances": [[None, None, None]] * 51}
    assert call(door, V1, orjson.dumps(rows)).status == 413
    door._model.stop()


@pytest.mark.parametrize("depth", [900, 1015])
def test_a_value_nested_as_deep_as_can_be_read_is_refused(door: Door, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    for path, body in (
        (V1, b'{"instances": [{"carrier": "UA", "departure": null, "distance": ' + deep + b"}]}"),
        (V2, b'{"inputs": [{"name": "carrier", "shape": ' + deep + b', "datatype": "BYTES", "data": ["UA"]}]}'),
    ):
        assert call(door, path, body).status == 400


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b'{"instances": [[1e999, 1, 1]]}', b"\xff", b"[" * 5000])
def test_no_json_is_refused(door: Door, body: bytes) -> None:
    answer = call(door, V1, body)
    assert answer.status == 400 and "no JSON" in answer.json["error"]


def test_the_version_may_stand_in_the_path_or_the_header(door: Door) -> None:
    tensors = [
        {"name": column.name, "shape": [4], "datatype": "FP64" if column.kind == "numeric" else "BYTES",
         "data": ROWS[column.name].to_pylist()}
        for column in COLUMNS
    ]  # fmt: skip
    body = orjson.dumps({"id": "x", "inputs": tensors})
    answer = call(door, "/v2/models/flights/versions/v2/infer", body, headers={"x-upkeep-version": "v2"})
    assert answer.status == 200 and answer.json["model_version"] == "v2"
    assert call(door, V2, body).json == answer.json


@pytest.mark.parametrize(
    "path",
    ["/", "/v1/models", "/v1/models/flights", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models",
     "/v2/models/flights", "/v2/models/flights/ready", "/v2/models/flights/versions/v2",
     "/v2/models/flights/versions/v2/ready", "/metrics"],
)  # fmt: skip
def test_what_can_be_read(door: Door, path: str) -> None:
    assert call(door, path, method="GET").status == 200


def test_one_that_hangs_asks_to_be_started_again(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["/v2/health/live", "/v2/health/ready", "/v2/models/flights/ready", "/v1/models/flights"]
    assert [call(door, path, method="GET").status for path in asked] == [200] * 4
    monkeypatch.setattr(ServedModel, "hung", True)
    assert [call(door, path, method="GET").status for path in asked] == [503] * 4


def test_alive_at_once_and_ready_once_it_has_answered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door = make(folder, loaded=False)
    logging.getLogger("kserve").setLevel(logging.CRITICAL)
    ready = ["/v2/health/ready", "/v2/models/flights/ready", "/v1/models/flights"]
    assert call(door, "/v2/health/live", method="GET").status == 200
    assert [call(door, path, method="GET").status for path in ready] == [503] * 3
    assert call(door, V1, GOOD).status == 503

    import upkeep.serving.server.model as module

    class Broken:
        manifest = module.load(folder).manifest

        def predict_proba(self, rows: Any) -> Any:
            raise ModelError("it cannot")

    with monkeypatch.context() as patch:
        patch.setattr(module, "load", lambda folder, allowed: Broken())
        with pytest.raises(ModelError):
            door._model.load()
    assert [call(door, path, method="GET").status for path in ready] == [503] * 3
    door._model.load()
    assert [call(door, path, method="GET").status for path in ready] == [200] * 3
    door._model.stop()


def test_a_model_that_breaks_is_a_500_and_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door = make(folder)
    predictor: Any = door._model._predictor

    class Breaks:
        manifest = predictor.manifest

        def predict_proba(self, rows: Any) -> Any:
            raise ModelError("the model's answer is no probability: [nan]")

    door._model._predictor = Breaks()
    answer = call(door, V1, GOOD)
    assert answer.status == 500 and "no probability" in answer.json["error"]
    page = door._model.metrics.page().decode()
    assert 'code="500",digest="aaaaaaaaaaaa",model="flights",protocol="v1",version="v2"} 1.0' in page
    door._model.stop()


def test_nulls_that_the_model_cannot_take_are_the_client_s(tmp_path: Path) -> None:
    from tests.unit.models.models_make import model

    model(tmp_path / "m")  # a logistic regression without imputation
    door = make(tmp_path / "m")
    answer = call(door, V1, b'{"instances": [{"a": 1, "b": null}]}')
    assert answer.status == 400 and "nulls" in answer.json["error"] and "b" in answer.json["error"]
    door._model.stop()


def test_the_log_has_every_request_and_only_answers(folder: Path, tmp_path: Path) -> None:
    log = PayloadLog(tmp_path, service="flights-v2", namespace="models", version="v2")
    door = make(folder, log=log)
    call(door, V1, GOOD, headers={"ce-id": "a", "x-request-id": "b", "content-type": "application/json"})
    call(door, V1, b"{", headers={"x-request-id": "c"})
    call(door, V1, b"{}", headers={"x-request-id": "é" * 3})
    log.close()
    door._model.stop()
    events = list(read_events(tmp_path))
    assert [(event.kind, event.id) for event in events[:3]] == [("request", "a"), ("response", "a"), ("request", "c")]
    assert events[0].data == orjson.loads(GOOD) and len(events[1].data["predictions"]) == 4
    assert events[2].data == b"{" and events[3].data == {}
    assert len(events) == 4 and len(events[3].id) == 36, "an id that is no printable ASCII is replaced"


def test_what_was_pinned_is_no_evidence_and_not_in_the_log(folder: Path, tmp_path: Path) -> None:
    log = PayloadLog(tmp_path, service="flights-v2", namespace="models", version="v2")
    door = make(folder, log=log)
    assert call(door, V1, GOOD, headers={"ce-id": "probe", "x-upkeep-version": "v2"}).status == 200
    call(door, V1, GOOD, headers={"ce-id": "live"})
    log.close()
    door._model.stop()
    assert {event.id for event in read_events(tmp_path)} == {"live"}


# --- whatever a client sends ---------------------------------------------------------------------------------------

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6)
)
KEYS = st.sampled_from(["instances", "inputs", "parameters", "id", "name", "shape", "datatype", "data", "outputs",
                        *(column.name for column in COLUMNS)]) | st.text(max_size=3)  # fmt: skip
ANY = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=20
)
ROW = st.fixed_dictionaries({column.name: SCALARS for column in COLUMNS}) | ANY
TENSOR = st.fixed_dictionaries(
    {"name": st.sampled_from([column.name for column in COLUMNS]) | SCALARS},
    optional={
        "shape": st.just([1]) | ANY,
        "datatype": st.sampled_from(["FP64", "BYTES", "INT64", "BOOL"]) | SCALARS,
        "data": st.lists(SCALARS, min_size=1, max_size=1) | ANY,
    },
)
DOCUMENTS = (
    ANY
    | st.fixed_dictionaries({"instances": st.lists(ROW, max_size=4) | ANY}, optional={"parameters": ANY})
    | st.fixed_dictionaries({"inputs": st.lists(TENSOR, max_size=4)}, optional={"id": SCALARS})
    | st.fixed_dictionaries(
        {
            "inputs": st.tuples(
                *(
                    st.fixed_dictionaries(
                        {
                            "name": st.just(column.name),
                            "shape": st.just([1]),
                            "datatype": st.sampled_from(["FP64", "BYTES", "INT64", "BOOL"]),
                            "data": st.lists(SCALARS, min_size=1, max_size=1),
                        }
                    )
                    for column in COLUMNS
                )
            )
        }
    )
)


def _bytes(document: Any) -> bytes:
    with suppress(orjson.JSONEncodeError):  # whole numbers past 64 bits
        return orjson.dumps(document)
    import json

    return json.dumps(document).encode()


@settings(max_examples=400)
@given(body=st.binary(max_size=40) | DOCUMENTS.map(_bytes), path=st.sampled_from([V1, V2]))
def test_nothing_that_a_client_sends_makes_a_5xx(door: Door, body: bytes, path: str) -> None:
    answer = call(door, path, body, headers={"content-type": "application/json"})
    assert answer.status == 200 or 400 <= answer.status < 500, (body, answer.body)
    assert answer.status == 200 or answer.json["error"]


@settings(max_examples=150)
@given(
    path=st.text(max_size=20).map("/".__add__) | st.sampled_from([V1, V2, "/v2/models/flights/versions/x/infer"]),
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "NONSENSE"]),
    headers=st.dictionaries(
        st.sampled_from(
            ["ce-id", "x-request-id", "content-type", "content-length", "x-upkeep-version", "content-encoding"]
        ),
        st.text(st.characters(max_codepoint=255), max_size=10),
    ),
)
def test_no_path_method_or_header_makes_a_5xx(door: Door, path: str, method: str, headers: dict[str, str]) -> None:
    answer = call(door, path, GOOD, method=method, headers=headers)
    assert answer.status < 500
