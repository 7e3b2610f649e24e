"""The controller's own metrics, for Prometheus to scrape, and the door at which it and the probes ask."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, get_args

from upkeep.errors import OutsideError, UpkeepError, Where
from upkeep.evaluation.result import VerdictName
from upkeep.rollout.health import Health
from upkeep.rollout.lead import Turn
from upkeep.rollout.state import Phase
from upkeep.rollout.watch import Report
from upkeep.spec.model import ModelSpec

TROUBLES = (
    "brake",
    "cluster",
    "commit",
    "counters",
    "events",
    "labels",
    "probe",
    "refresh",
    "registry",
    "release",
    "request",
    "store",
    "webhook",
    "withdraw",
)
"""Kinds of what a look may not be able to read or do."""
UPDATES_EVERY = timedelta(minutes=5)
"""How often the store is asked for a model's newest update."""
DAYS = {"day": 1, "week": 7, "month": 31, "quarter": 92, "year": 366}
"""The longest that a period of the data can be."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What is shown of an update: it is a batch job, gone long before anyone could scrape it."""

    update: str
    finished: datetime
    verdict: VerdictName
    outcome: str
    drift: str
    """The finding; empty where there was no champion to compare with."""


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
        self._since = Gauge(
            "upkeep_rollout_since_seconds", "When the phase or step began (Unix time)", ["model"], **made
        )
        self._verdict = Gauge("upkeep_rollout_verdict", "1 for what the analysis says", ["model", "verdict"], **made)
        about = ["model", "update", "verdict", "outcome", "drift"]
        self._update = Gauge(
            "upkeep_update_newest_seconds", "When the newest update finished (Unix time)", about, **made
        )
        self._period = Gauge("upkeep_data_period_seconds", "How long a period of the data is", ["model"], **made)
        self._newest: Callable[[str], Update | None] | None = None
        self._asked: dict[str, datetime] = {}
        self._shown: dict[str, tuple[str, ...]] = {}

    def follow_updates(self, specs: Sequence[ModelSpec], newest: Callable[[str], Update | None]) -> None:
        """Also show the newest update of each model. ``newest``: model → it, None where there is none yet; asked after
        a look, every :data:`UPDATES_EVERY`."""
        for spec in specs:
            if spec.data.period:
                self._period.labels(spec.name).set(timedelta(days=DAYS[spec.data.period]).total_seconds())
        self._newest = newest

    def observe(self, report: Report | Turn) -> None:
        if isinstance(report, Turn):
            if not report.leads:
                self._forget()
            return
        model, told = report.model, report.told
        if told is None:
            self._looks.labels(model, "error").inc()
            return
        self._looks.labels(model, "done").inc()
        self._last.labels(model).set(report.at.timestamp())
        for kind in TROUBLES:
            self._troubles.labels(model, kind).set(kind in told.troubles)
        self._observe_update(model, report.at)
        state = told.state
        if state is None:
            return
        if told.moved:
            self._commits.labels(model, state.phase).inc()
        for phase in get_args(Phase):
            self._phase.labels(model, phase).set(phase == state.phase)
            self._commits.labels(model, phase)  # counted from 0: the first one is an increase too
        self._weight.labels(model).set(state.weight)
        self._agrees.labels(model).set(told.agrees)
        if state.since is not None:
            self._since.labels(model).set(datetime.fromisoformat(state.since).timestamp())
        analysis = told.analysis if state.canary else None
        for verdict in get_args(VerdictName):
            self._verdict.labels(model, verdict).set(analysis is not None and analysis.verdict == verdict)
        if analysis is not None and analysis.e_rollback is not None:
            self._evidence.labels(model).set(analysis.e_rollback)
        else:
            with suppress(KeyError):
                self._evidence.remove(model)

    def _forget(self) -> None:
        """Show no model's state: another process looks at them now, and what this one saw last is out of date."""
        for gauge in (
            self._last,
            self._phase,
            self._weight,
            self._agrees,
            self._evidence,
            self._troubles,
            self._since,
            self._verdict,
            self._update,
        ):
            gauge.clear()
        self._asked.clear()
        self._shown.clear()

    def _observe_update(self, model: str, now: datetime) -> None:
        if self._newest is None or (model in self._asked and now - self._asked[model] < UPDATES_EVERY):
            return
        self._asked[model] = now
        try:
            found = self._newest(model)
        except UpkeepError:
            found = None  # not known: nothing is shown
        shown = (model, found.update, found.verdict, found.outcome, found.drift) if found else None
        if model in self._shown and self._shown[model] != shown:
            self._update.remove(*self._shown.pop(model))
        if found and shown:
            self._update.labels(*shown).set(found.finished.timestamp())
            self._shown[model] = shown


@contextmanager
def served(metrics: Metrics, health: Health, address: str, port: int) -> Iterator[str]:
    """``/metrics``, ``/healthz`` and ``/readyz`` on ``address`` (an IP), meanwhile; where they answer.

    Raises :class:`OutsideError` when the address cannot be listened on.
    """
    from wsgiref.simple_server import make_server

    server_class, handler_class = _classes(address)
    try:
        server = make_server(address, port, _application(metrics, health), server_class, handler_class)
    except (OSError, OverflowError) as error:
        raise OutsideError(
            f"the address cannot be listened on: {getattr(error, 'strerror', None) or error}",
            where=Where(file=f"{address}:{port}"),
            fix="name another --metrics-port, or an address of this machine in --metrics-address",
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="metrics", daemon=True)
    thread.start()
    try:
        host = f"[{address}]" if ":" in address else address
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _classes(address: str) -> tuple[Any, Any]:
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    class Quiet(WSGIRequestHandler):
        timeout = 10

        def log_message(self, format: str, *args: Any) -> None: ...

    return Server, Quiet


def _application(metrics: Metrics, health: Health) -> Any:
    from prometheus_client import make_wsgi_app

    scrape = make_wsgi_app(metrics.registry)
    probes = {"/healthz": health.alive, "/readyz": health.ready}

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return scrape(environ, start_response)
        answer = probes[path]() if path in probes else None
        status = "404 Not Found" if answer is None else "200 OK" if answer.ok else "503 Service Unavailable"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [(answer.text if answer else "there are /metrics, /healthz and /readyz\n").encode()]

    return application
