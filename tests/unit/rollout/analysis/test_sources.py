from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from upkeep.errors import AccessError, InputError, OutsideError
from upkeep.rollout.analysis.sources import ENVOY, PrometheusSource, version_of
from upkeep.serving.counters import Counts
from upkeep.spec.model import Data, Features, Metadata, ModelSpec, Queries, Retrain, Target

NOW = 1_772_366_400.0


def cluster(version: str, model: str = "flight-delays") -> dict[str, str]:
    return {"envoy_cluster_name": f"httproute/models/{model}-route/rule/0/backend/{model}-{version}-predictor"}


class Prometheus(ThreadingHTTPServer):
    """Answers each query with what the test put there, by the name of the query."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Callable[[str], tuple[int, Any]] = lambda query: (200, self.vector(query))
        self.requests = {"v1": "1000", "v2": "50"}
        self.failed = {"v1": "3", "v2": "0"}
        self.slow = {"v1": "10", "v2": "1"}
        self.scraped = str(NOW - 5)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def vector(self, query: str) -> dict[str, Any]:
        if "timestamp" in query:
            values = [({}, self.scraped)] if self.scraped else []
        else:
            name = "slow" if "bucket" in query else "failed" if "rq_xx" in query else "requests"
            values = [(cluster(version), value) for version, value in getattr(self, name).items()]
        result = [{"metric": labels, "value": [NOW, value]} for labels, value in values]
        return {"status": "success", "data": {"resultType": "vector", "result": result}}


class _Handler(BaseHTTPRequestHandler):
    server: Prometheus

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)["query"][0]
        self.server.asked.append(query)
        status, body = self.server.answer(query)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    with Prometheus() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def spec() -> ModelSpec:
    return ModelSpec(
        metadata=Metadata(name="flight-delays"),
        data=Data(source="x", target=Target(column="y"), features=Features()),
        candidates=(Retrain(name="a", strategy="retrain", estimator="sklearn.tree.DecisionTreeClassifier"),),
    )


def test_raw_counters_by_version(prometheus: Prometheus, spec: ModelSpec) -> None:
    snapshot = PrometheusSource(prometheus.url).read(spec)
    assert snapshot.versions == {
        "v1": Counts(requests=1000, failed=3, slow=10, active=0),
        "v2": Counts(requests=50, failed=0, slow=1, active=0),
    }
    assert snapshot.at.timestamp() == NOW - 5
    assert not any("rate(" in query or "increase(" in query for query in prometheus.asked)
    assert any('le="500"' in query for query in prometheus.asked)


def test_a_version_that_comes_new_begins_an_epoch(prometheus: Prometheus, spec: ModelSpec) -> None:
    source = PrometheusSource(prometheus.url)
    one = source.read(spec).epoch
    assert source.read(spec).epoch == one
    for counters in (prometheus.requests, prometheus.failed, prometheus.slow):
        counters["v3"] = "1"
    assert source.read(spec).epoch != one


def test_own_queries(prometheus: Prometheus, spec: ModelSpec) -> None:
    queries = Queries(requests='mine{{model="{model}", ns="{namespace}", le="{seconds}"}}')
    mine = replace(spec, monitoring=replace(spec.monitoring, queries=queries))
    PrometheusSource(prometheus.url).read(mine)
    assert 'mine{model="flight-delays", ns="models", le="0.5"}' in prometheus.asked
    wrong = replace(spec, monitoring=replace(spec.monitoring, queries=Queries(requests='mine{model="{model}"}')))
    with pytest.raises(InputError, match="braces"):
        PrometheusSource(prometheus.url).read(wrong)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "", "-3"])
def test_what_is_no_count_is_an_error(prometheus: Prometheus, spec: ModelSpec, value: str) -> None:
    prometheus.failed["v2"] = value
    with pytest.raises(OutsideError):
        PrometheusSource(prometheus.url).read(spec)


@pytest.mark.parametrize("name", ["requests", "failed", "slow"])
def test_an_empty_answer_is_never_zero(prometheus: Prometheus, spec: ModelSpec, name: str) -> None:
    setattr(prometheus, name, {})
    with pytest.raises(OutsideError, match="Prometheus"):
        PrometheusSource(prometheus.url).read(spec)


def test_a_missing_counter_of_one_version_is_no_zero(prometheus: Prometheus, spec: ModelSpec) -> None:
    del prometheus.failed["v2"]
    with pytest.raises(OutsideError, match="no failed requests of v2, not even 0"):
        PrometheusSource(prometheus.url).read(spec)


def test_stale_counters_are_an_error(prometheus: Prometheus, spec: ModelSpec) -> None:
    prometheus.scraped = str(NOW - 300)
    with pytest.raises(OutsideError, match="300 s ago"):
        PrometheusSource(prometheus.url).read(spec)
    prometheus.scraped = ""
    with pytest.raises(OutsideError, match="no counter"):
        PrometheusSource(prometheus.url).read(spec)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, {"status": "error", "error": "query timed out"}, OutsideError),
        (500, b"", OutsideError),
        (200, b"<html>", OutsideError),
        (200, {"status": "error"}, OutsideError),
        (200, [], OutsideError),
        (401, b"", AccessError),
        (400, {"status": "error", "error": "parse error"}, InputError),
        (200, {"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}}, InputError),
    ],
)
def test_every_other_answer_is_an_error(
    prometheus: Prometheus, spec: ModelSpec, status: int, body: Any, kind: type[Exception]
) -> None:
    prometheus.answer = lambda _: (status, body)
    with pytest.raises(kind):
        PrometheusSource(prometheus.url).read(spec)


def test_nobody_there(spec: ModelSpec) -> None:
    with pytest.raises(OutsideError, match="does not answer"):
        PrometheusSource("http://127.0.0.1:9", timeout=1.0).read(spec)
    with pytest.raises(InputError):
        PrometheusSource("prometheus:9090")


@pytest.mark.parametrize(
    ("labels", "version"),
    [
        ({"version": "v12"}, "v12"),
        ({"version": "12", "cluster": "outbound|80||m-v3-predictor.models.svc"}, "v3"),
        ({"envoy_cluster_name": "m-v3-predictor"}, "v3"),
        ({"envoy_cluster_name": "other-m-v3-predictor"}, None),
        ({"envoy_cluster_name": "m-v3x-predictor"}, None),
        ({"a": "m-v3-predictor", "b": "m-v4-predictor"}, None),
        ({}, None),
    ],
)
def test_the_version_is_found_in_the_labels(labels: dict[str, str], version: str | None) -> None:
    assert version_of(labels, "m") == version


def test_the_default_queries_are_whole() -> None:
    for name in ("requests", "failed", "slow", "scraped"):
        assert "{where}" in getattr(ENVOY, name)
