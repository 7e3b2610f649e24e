"""The controller's own metrics, for Prometheus to scrape."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, get_args

from upkeep.errors import OutsideError, Where
from upkeep.rollout.state import Phase
from upkeep.rollout.watch import Report

TROUBLES = ("brake", "cluster", "counters", "labels", "probe", "refresh", "registry", "release", "store", "webhook")
"""Kinds of what a look may not be able to read or do."""


class Metrics:
    """Gauges and counters by model, fed with each report. Safe from several threads."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        self.registry = CollectorRegistry()
        made: Any = {"registry": self.registry}
        self._looks = Counter("upkeep_rollout_looks", "Looks at the model's rollout", ["model", "result"], **made)
        self._commits = Counter("upkeep_rollout_commits", "Commits of the controller", ["model", "phase"], **made)
        self._last = Gauge("upkeep_rollout_last_look_seconds", "When it looked last (Unix time)", ["model"], **made)
        self._phase = Gauge("upkeep_rollout_phase", "1 for the phase it is in", ["model", "phase"], **made)
        self._weight = Gauge("upkeep_rollout_canary_weight", "The canary's share by Git, per cent", ["model"], **made)
        self._agrees = Gauge("upkeep_rollout_traffic_agrees", "1 where live traffic is as Git says", ["model"], **made)
        self._evidence = Gauge("upkeep_rollout_e_rollback", "The e-value against the canary", ["model"], **made)
        self._troubles = Gauge("upkeep_rollout_troubles", "What could not be read or done", ["model", "kind"], **made)

    def observe(self, report: Report) -> None:
        model, told = report.model, report.told
        if told is None:
            self._looks.labels(model, "error").inc()
            return
        self._looks.labels(model, "done").inc()
        self._last.labels(model).set(report.at.timestamp())
        for kind in TROUBLES:
            self._troubles.labels(model, kind).set(kind in told.troubles)
        state = told.state
        if state is None:
            return
        if told.moved:
            self._commits.labels(model, state.phase).inc()
        for phase in get_args(Phase):
            self._phase.labels(model, phase).set(phase == state.phase)
        self._weight.labels(model).set(state.weight)
        self._agrees.labels(model).set(told.agrees)
        analysis = told.analysis if state.canary else None
        if analysis is not None and analysis.e_rollback is not None:
            self._evidence.labels(model).set(analysis.e_rollback)
        else:
            with suppress(KeyError):
                self._evidence.remove(model)

    def serve(self, port: int) -> None:
        """On 127.0.0.1, until the process ends. Raises :class:`OutsideError` when the port is taken."""
        from prometheus_client import start_http_server

        try:
            start_http_server(port, addr="127.0.0.1", registry=self.registry)
        except OSError as error:
            raise OutsideError(
                f"the port cannot be used: {error.strerror or error}",
                where=Where(file=f"127.0.0.1:{port}"),
                fix="name another --metrics-port",
            ) from error
