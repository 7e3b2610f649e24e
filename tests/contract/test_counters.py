"""What every source of counters owes: raw counts by version, an error where they cannot be had, never a zero.

The one-machine cluster's own is held to the same in tests/e2e/test_local_cluster.py, where its Envoy runs.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.unit.rollout.analysis.test_sources import Prometheus, cluster
from upkeep.errors import OutsideError
from upkeep.rollout.analysis.sources import PrometheusSource
from upkeep.serving.counters import Counters, Counts
from upkeep.spec.model import Data, Features, Metadata, ModelSpec, Retrain, Target

SPEC = ModelSpec(
    metadata=Metadata(name="flight-delays"),
    data=Data(source="x", target=Target(column="y"), features=Features()),
    candidates=(Retrain(name="a", strategy="retrain", estimator="sklearn.tree.DecisionTreeClassifier"),),
)


@dataclass
class Place:
    """A source, and a hand on what it counts: version → (requests, failed, slow)."""

    source: Counters
    set: Callable[[dict[str, tuple[int, int, int]]], None]
    stop: Callable[[], None]
    eventually: float = 0.0
    """Seconds until a change is seen."""


class Exporter(ThreadingHTTPServer):
    """Exposes what an Envoy gateway counts of its clusters."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.counts: dict[str, tuple[int, int, int]] = {}

    def text(self) -> str:
        lines = []
        for model, scale in (("flight-delays", 1), ("other-flight-delays", 7)):
            for version, (requests, failed, slow) in self.counts.items():
                label = f'envoy_cluster_name="{cluster(version, model)["envoy_cluster_name"]}"'
                name = "envoy_cluster_upstream_rq"
                lines.append(f"{name}_completed{{{label}}} {requests * scale}")
                lines.append(f'{name}_xx{{envoy_response_code_class="2",{label}}} {(requests - failed) * scale}')
                for code, share in (("4", failed // 2), ("5", failed - failed // 2)):
                    if share:  # Envoy makes a counter at the first request that it counts
                        lines.append(f'{name}_xx{{envoy_response_code_class="{code}",{label}}} {share * scale}')
                lines.append(f'{name}_time_bucket{{le="500",{label}}} {(requests - slow) * scale}')
                lines.append(f"{name}_time_count{{{label}}} {requests * scale}")
        return "\n".join(lines) + "\n"


class _Handler(BaseHTTPRequestHandler):
    server: Exporter

    def do_GET(self) -> None:
        data = self.server.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(server: ThreadingHTTPServer) -> Iterator[Callable[[], None]]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    stopped: list[bool] = []

    def stop() -> None:
        if not stopped:
            stopped.append(True)
            server.shutdown()
            server.server_close()
            thread.join()

    try:
        yield stop
    finally:
        stop()


@contextmanager
def fake(_: Path) -> Iterator[Place]:
    server = Prometheus()

    def set_counts(counts: dict[str, tuple[int, int, int]]) -> None:
        for place, name in enumerate(("requests", "failed", "slow")):
            setattr(server, name, {version: str(each[place]) for version, each in counts.items()})

    with served(server) as stop:
        yield Place(PrometheusSource(server.url), set_counts, stop)


@contextmanager
def real(folder: Path) -> Iterator[Place]:
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("needs Prometheus (Debian's package `prometheus`)")
    exporter = Exporter()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
        "scrape_configs:\n"
        "  - job_name: gateway\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{exporter.server_address[1]}']}}]\n"
    )
    command = [
        binary, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    ]  # fmt: skip
    with served(exporter), subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:

        def stop() -> None:
            process.terminate()
            process.wait(30)

        try:
            yield Place(
                PrometheusSource(f"http://127.0.0.1:{port}"),
                lambda counts: exporter.__setattr__("counts", counts),
                stop,
                eventually=30.0,
            )
        finally:
            stop()


@pytest.fixture(params=[fake, real], ids=["fake", "prometheus"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with request.param(tmp_path) as made:
        yield made


def read(place: Place, wanted: dict[str, tuple[int, int, int]]) -> Any:
    """The snapshot that says ``wanted``, as soon as it does."""
    expected = {
        version: Counts(requests=requests, failed=failed, slow=slow, active=0)
        for version, (requests, failed, slow) in wanted.items()
    }
    end = time.monotonic() + place.eventually
    while True:
        found: Any = None
        try:
            found = place.source.read(SPEC)
            if found.versions == expected:
                return found
        except OutsideError as error:
            found = error
        assert time.monotonic() < end, found
        time.sleep(0.1)


def test_raw_counters_of_this_models_versions(place: Place) -> None:
    first = {"v1": (1000, 3, 10), "v2": (50, 0, 1)}
    place.set(first)
    one = read(place, first)
    second = {"v1": (1500, 4, 10), "v2": (60, 2, 3)}
    place.set(second)
    two = read(place, second)
    assert one.epoch == two.epoch
    assert one.at.tzinfo is not None
    assert one.at <= two.at


def test_nothing_counted_is_an_error(place: Place) -> None:
    place.set({})
    end = time.monotonic() + place.eventually
    while True:
        with pytest.raises(OutsideError) as error:
            place.source.read(SPEC)
        # a Prometheus that starts does not answer at first, and then with 503
        starts = any(word in str(error.value) for word in ("does not answer", "answered 503"))
        if not starts or time.monotonic() > end:
            break
        time.sleep(0.1)
    assert "Prometheus has no counter of this model" in str(error.value) or "knows no request" in str(error.value)


def test_nobody_there_is_an_error(place: Place) -> None:
    counts = {"v1": (1, 0, 0)}
    place.set(counts)
    read(place, counts)
    place.stop()
    with pytest.raises(OutsideError, match="does not answer"):
        place.source.read(SPEC)
