"""The server's Prometheus metrics. Each carries the model, its version and the digest's first digits.

KServe's own carry the model's name alone and count a failed predict as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

DIGEST_DIGITS = 12
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_REQUESTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each one, which nobody reads


class Metrics:
    """Of one version of one model."""

    def __init__(self, model: str, version: str, digest: str) -> None:
        self.registry = CollectorRegistry()
        self._labels = {"model": model, "version": version, "digest": digest[:DIGEST_DIGITS]}
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        names = tuple(self._labels)
        self._requests = Counter(
            "upkeep_server_requests", "Prediction requests.", (*names, "protocol", "code"), registry=self.registry
        )
        self._predictions = Counter(
            "upkeep_server_predictions", "Rows answered, by label.", (*names, "label"), registry=self.registry
        )
        self._rows = self._child(Counter, "upkeep_server_rows", "Rows answered.")
        self._seconds = self._child(
            Histogram, "upkeep_server_request_seconds", "From a request's head to its answer.", buckets=SECONDS
        )
        self._batches = self._child(
            Histogram, "upkeep_server_batch_requests", "Requests predicted together.", buckets=BATCH_REQUESTS
        )
        self._ready = self._child(Gauge, "upkeep_server_ready", "1 when the model has answered its first rows.")
        self._codes: dict[tuple[str, str], Any] = {}
        self._by_class: list[Any] = []

    def _child(self, kind: Any, name: str, text: str, **options: Any) -> Any:
        return kind(name, text, tuple(self._labels), registry=self.registry, **options).labels(**self._labels)

    def ready(self, classes: Sequence[str]) -> None:
        """The model answers; each of its classes is counted from 0."""
        self._by_class = [self._predictions.labels(**self._labels, label=name) for name in classes]
        self._ready.set(1)

    def answered(self, protocol: str, code: int | str, seconds: float) -> None:
        """A request was answered with ``code``: an HTTP status, or a gRPC status' name."""
        key = (protocol, str(code))
        if key not in self._codes:
            self._codes[key] = self._requests.labels(**self._labels, protocol=protocol, code=str(code))
        self._codes[key].inc()
        self._seconds.observe(seconds)

    def predicted(self, requests: int, labels: Sequence[int]) -> None:
        """A batch was predicted. ``labels``: how many rows of each class, in their order."""
        self._batches.observe(requests)
        self._rows.inc(sum(labels))
        for counter, rows in zip(self._by_class, labels, strict=False):
            if rows:
                counter.inc(rows)

    def watch_drops(self, dropped: Callable[[], dict[str, int]]) -> None:
        """Show the payload log's own counts."""
        self.registry.register(_Drops(self._labels, dropped))

    def page(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _Drops(Collector):
    def __init__(self, labels: dict[str, str], dropped: Callable[[], dict[str, int]]) -> None:
        self._labels, self._dropped = labels, dropped

    def collect(self) -> Iterator[CounterMetricFamily]:
        names = (*self._labels, "reason")
        family = CounterMetricFamily("upkeep_server_payload_dropped", "Events not in the payload log.", labels=names)
        for reason, count in self._dropped().items():
            family.add_metric((*self._labels.values(), reason), count)
        yield family
