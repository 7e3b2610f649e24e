"""Counts read from Envoy's own names."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.serving.local.test_wanted import SPEC
from upkeep.serving.counters import Counts
from upkeep.serving.local.counters import read_counts

SLOW = replace(SPEC, rollout=replace(SPEC.rollout, latency=0.25))


def test_counters_and_gauges_by_version_without_other_models_and_pinned_requests() -> None:
    stats = {
        "upkeep.requests.cluster.tiny-v1-predictor": 10,
        "upkeep.failed.cluster.tiny-v1-predictor": 2,
        "upkeep.slow_250ms.cluster.tiny-v1-predictor": 3,
        "upkeep.slow_500ms.cluster.tiny-v1-predictor": 1,
        "cluster.tiny-v1-predictor.upstream_rq_active": 4,
        "cluster.tiny-v1-predictor.upstream_rq_pending_active": 1,
        "upkeep.requests.cluster.tiny-v12-predictor": 7,
        "upkeep.requests.cluster.tiny-v1-predictor-pinned": 99,
        "upkeep.requests.cluster.not-tiny-v1-predictor": 99,
    }
    assert read_counts(stats, SLOW) == {
        "v1": Counts(requests=10, failed=2, slow=3, active=5),
        "v12": Counts(requests=7, failed=0, slow=0, active=0),
    }


def test_no_request_yet() -> None:
    assert read_counts({}, SLOW) == {}
