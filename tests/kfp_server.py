"""KFP's API server (2.17.0, v2beta1) as far as Upkeep asks it, on loopback.

Built on what KFP's own client knows: which paths there are, with which queries and bodies, is read from its code. What
it does not know, or what nobody has taught this server yet, is refused, and kept in :attr:`KfpServer.surprises`: a test
ends by looking there. Each way in which the real one is peculiar has its test in tests/unit/pipelines/test_kfp_server.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import kfp_server_api as api
import yaml
from kfp_server_api import models

SERVICES = (
    api.RunServiceApi,
    api.RecurringRunServiceApi,
    api.ExperimentServiceApi,
    api.PipelineServiceApi,
    api.PipelineUploadServiceApi,
    api.HealthzServiceApi,
)
NEWER = {
    "V2beta1Pipeline": {"name", "tags"},
    "V2beta1PipelineVersion": {"name", "tags"},
    "V2beta1Run": {"plugins_input", "plugins_output", "pipeline_version_id"},
    "V2beta1RecurringRun": {"plugins_input", "pipeline_version_id"},
}
"""Fields that servers before 2.5 do not know."""
NEWER_QUERIES = {"display_name", "tags", "propagation_policy", "cascade"}
FILTERS = {
    "runs": {"run_id", "id", "display_name", "name", "created_at", "finished_at", "description", "scheduled_at",
             "storage_state", "status", "namespace", "experiment_id", "state", "recurring_run_id"},
    "recurring_runs": {"id", "name", "display_name", "created_at"},
    "pipelines": {"id", "name", "display_name", "created_at"},
    "pipeline_versions": {"id", "name", "display_name", "created_at"},
    "experiments": {"id", "name", "display_name", "created_at"},
}  # fmt: skip
"""What a list may be filtered and sorted by."""
ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
LARGEST_BODY = 3_000_000
LONGEST_PARAMETER = 10_000


@dataclass(frozen=True)
class Route:
    """One operation, as KFP's client has it."""

    operation: str
    verb: str
    path: re.Pattern[str]
    queries: frozenset[str]
    body: str
    """The model's name; empty: none."""


def routes() -> list[Route]:
    found = []
    for service in SERVICES:
        for name, method in inspect.getmembers(service, inspect.isfunction):
            if not name.endswith("_with_http_info"):
                continue
            source = inspect.getsource(method)
            call = re.search(r"call_api\(\s*'([^']+)', '([A-Z]+)'", source)
            assert call, name
            path = re.sub(r"\{([\w.]+)\}", lambda m: f"(?P<{m[1].replace('.', '_')}>[^/:]+)", call[1])
            body = re.search(r"body_params = local_var_params\['(\w+)'\]", source)
            kind = re.search(rf":type {body[1]}: (\w+)", source) if body else None
            queries = frozenset(re.findall(r"query_params\.append\(\('([\w.]+)'", source))
            name = name.removesuffix("_with_http_info")
            found.append(Route(name, call[2], re.compile(path), queries, kind[1] if kind else ""))
    return found


ROUTES = routes()


class Refused(Exception):  # noqa: N818
    """An answer that is no 200."""

    def __init__(self, status: int, message: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


@dataclass
class Fault:
    """What happens instead of an answer."""

    operation: str
    """A part of its name; empty: any."""
    status: int = 0
    """0: the connection is closed without a word."""
    times: int = 1
    done: bool = False
    """Do what is asked first: only the answer is lost."""
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = ""


class KfpServer:
    """Start it with :meth:`serving`. ``users``: token → namespaces of its owner, in multi-user mode; None: single-user.

    ``old``: a server before 2.5. ``now``: its clock, for the test to move.
    """

    def __init__(self, *, users: Mapping[str, set[str]] | None = None, old: bool = False) -> None:
        self.users, self.old = users, old
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.surprises: list[str] = []
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        """Operation, headers and body of each that was let in."""
        self.faults: list[Fault] = []
        self.pipelines: dict[str, Any] = {}
        self.versions: dict[str, Any] = {}
        self.experiments: dict[str, Any] = {}
        self.runs: dict[str, Any] = {}
        self.recurring: dict[str, Any] = {}
        self.plays: dict[str, list[Callable[[Any], None]]] = {}
        """Run → what happens to it, one after another, each time that somebody looks."""
        self.on_run: Callable[[Any], None] = lambda _: None
        """Called with each new run."""
        self._lock = threading.RLock()
        self._client = api.ApiClient(api.Configuration(host="http://127.0.0.1"))
        self.url = ""

    @contextlib.contextmanager
    def serving(self) -> Iterator[KfpServer]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def fail(self, operation: str = "", status: int = 0, **more: Any) -> None:
        """From now on: this fault, as often as it says."""
        self.faults.append(Fault(operation, status, **more))

    def set_state(self, run: str, state: str, tasks: Mapping[str, str] | None = None) -> None:
        """Move a run on, and its tasks; each comes with its driver's, as the real ones do."""
        found = self.runs[run]
        found.state = state
        if state in ENDED:
            found.finished_at = self.now
        details = {each.display_name: each for each in (found.run_details and found.run_details.task_details) or []}
        for name, task in (tasks or {}).items():
            for shown in (name, f"{name}-driver"):
                details[shown] = api.V2beta1PipelineTaskDetail(
                    run_id=run, task_id=str(uuid.uuid4()), display_name=shown, state=task
                )
        found.run_details = api.V2beta1RunDetails(task_details=list(details.values()))

    def tick(self, to: datetime) -> list[str]:
        """Let the clock go on to ``to``, minute by minute; the runs that recurring ones started. KFP's own cron: six
        fields, or five of which the first is the second, and then the day of the week may be missing."""
        started = []
        while self.now < to:
            self.now += timedelta(minutes=1)
            for each in list(self.recurring.values()):
                mine = [run for run in self.runs.values() if run.recurring_run_id == each.recurring_run_id]
                busy = sum(run.state not in ENDED for run in mine)
                if (
                    each.mode == "ENABLE"
                    and fires(each.trigger.cron_schedule.cron, self.now)
                    and busy < int(each.max_concurrency)
                ):
                    run = api.V2beta1Run(
                        display_name=f"{each.display_name}-{len(mine) + 1}",
                        experiment_id=each.experiment_id,
                        pipeline_version_reference=each.pipeline_version_reference,
                        runtime_config=each.runtime_config,
                        recurring_run_id=each.recurring_run_id,
                    )
                    started.append(self._start(run).run_id)
        return started

    # --- operations ------------------------------------------------------------------------------------------------

    def healthz_service_get_healthz(self, **_: Any) -> Any:
        return api.V2beta1GetHealthzResponse(multi_user=self.users is not None)

    def pipeline_service_list_pipelines(self, *, namespace: str = "", mine: set[str], **query: Any) -> Any:
        self._allowed(namespace, mine)
        found = [each for each in self.pipelines.values() if self._is_in(each.namespace, namespace)]
        return self._page(api.V2beta1ListPipelinesResponse, "pipelines", found, query)

    def pipeline_service_create_pipeline(self, *, body: Any, mine: set[str], **_: Any) -> Any:
        self._allowed(body.namespace or "", mine)
        name = body.name or body.display_name
        return self._new_pipeline(name, body.namespace or "")

    def upload_pipeline(self, *, package: bytes, name: str, namespace: str = "", mine: set[str], **_: Any) -> Any:
        self._allowed(namespace, mine)
        made = self._new_pipeline(name, namespace)
        self._new_version(made.pipeline_id, name, package)
        return made

    def upload_pipeline_version(self, *, package: bytes, name: str, pipelineid: str, mine: set[str], **_: Any) -> Any:
        if pipelineid not in self.pipelines:
            raise Refused(404, f"Pipeline {pipelineid} not found")
        self._allowed(self.pipelines[pipelineid].namespace, mine)
        return self._new_version(pipelineid, name, package)

    def pipeline_service_get_pipeline(self, *, pipeline_id: str, **_: Any) -> Any:
        return _there(self.pipelines, pipeline_id)

    def pipeline_service_list_pipeline_versions(self, *, pipeline_id: str, **query: Any) -> Any:
        found = [each for each in self.versions.values() if each.pipeline_id == pipeline_id]
        return self._page(api.V2beta1ListPipelineVersionsResponse, "pipeline_versions", found, query)

    def pipeline_service_get_pipeline_version(self, *, pipeline_version_id: str, **_: Any) -> Any:
        if pipeline_version_id not in self.versions:
            raise Refused(500, "Internal Server Error")  # and not 404
        return self.versions[pipeline_version_id]

    def experiment_service_list_experiments(self, *, namespace: str = "", mine: set[str], **query: Any) -> Any:
        self._allowed(namespace, mine)
        found = [each for each in self.experiments.values() if self._is_in(each.namespace, namespace)]
        return self._page(api.V2beta1ListExperimentsResponse, "experiments", found, query)

    def experiment_service_get_experiment(self, *, experiment_id: str, **_: Any) -> Any:
        return _there(self.experiments, experiment_id)

    def experiment_service_create_experiment(self, *, body: Any, mine: set[str], **_: Any) -> Any:
        self._allowed(body.namespace or "", mine)
        namespace = body.namespace or "" if self.users is not None else ""
        if any((e.display_name, e.namespace) == (body.display_name, namespace) for e in self.experiments.values()):
            raise Refused(409)
        made = api.V2beta1Experiment(
            experiment_id=str(uuid.uuid4()), display_name=body.display_name, namespace=namespace, created_at=self.now
        )
        self.experiments[made.experiment_id] = made
        return made

    def run_service_create_run(self, *, body: Any, mine: set[str], **_: Any) -> Any:
        self._of_experiment(body.experiment_id, mine)
        self._check_parameters(body)
        return self._start(body)

    def run_service_get_run(self, *, run_id: str, mine: set[str], **_: Any) -> Any:
        found = _there(self.runs, run_id)
        self._of_experiment(found.experiment_id, mine)
        if self.plays.get(run_id):
            self.plays[run_id].pop(0)(found)
        return found

    def run_service_list_runs(
        self, *, namespace: str = "", experiment_id: str = "", mine: set[str], **query: Any
    ) -> Any:
        self._may_list(namespace, experiment_id, mine)
        found = [run for run in self.runs.values() if experiment_id in ("", run.experiment_id)]
        return self._page(api.V2beta1ListRunsResponse, "runs", found, query)

    def run_service_terminate_run(self, *, run_id: str, **_: Any) -> Any:
        self.set_state(_there(self.runs, run_id).run_id, "CANCELED")

    def recurring_run_service_create_recurring_run(self, *, body: Any, mine: set[str], **_: Any) -> Any:
        self._of_experiment(body.experiment_id, mine)
        self._check_parameters(body)
        cron = body.trigger.cron_schedule.cron
        if len(cron.split()) not in (5, 6):
            raise Refused(400, f"Schedule cron is not supported or invalid: {cron}")
        if not 1 <= int(body.max_concurrency) <= 10:
            raise Refused(400, "The max concurrency must be in range [1, 10]")
        body.recurring_run_id, body.created_at = str(uuid.uuid4()), self.now
        body.status = "ENABLED" if body.mode == "ENABLE" else "DISABLED"
        self.recurring[body.recurring_run_id] = body  # of whatever name: the same one twice is two
        return body

    def recurring_run_service_list_recurring_runs(
        self, *, namespace: str = "", experiment_id: str = "", mine: set[str], **query: Any
    ) -> Any:
        self._may_list(namespace, experiment_id, mine)
        found = [
            each
            for each in self.recurring.values()
            if experiment_id in ("", each.experiment_id)
            and self._is_in(self.experiments[each.experiment_id].namespace, namespace)
        ]
        return self._page(api.V2beta1ListRecurringRunsResponse, "recurring_runs", found, query)

    def recurring_run_service_get_recurring_run(self, *, recurring_run_id: str, **_: Any) -> Any:
        return _there(self.recurring, recurring_run_id)

    def recurring_run_service_enable_recurring_run(self, *, recurring_run_id: str, **_: Any) -> None:
        found = _there(self.recurring, recurring_run_id)
        found.mode, found.status = "ENABLE", "ENABLED"

    def recurring_run_service_disable_recurring_run(self, *, recurring_run_id: str, **_: Any) -> None:
        found = _there(self.recurring, recurring_run_id)
        found.mode, found.status = "DISABLE", "DISABLED"

    def recurring_run_service_delete_recurring_run(self, *, recurring_run_id: str, **_: Any) -> None:
        _there(self.recurring, recurring_run_id)
        del self.recurring[recurring_run_id]
        for run in self.runs.values():  # what is under way goes with it
            if run.recurring_run_id == recurring_run_id and run.state not in ENDED:
                self.set_state(run.run_id, "FAILED")

    # --- what they share -------------------------------------------------------------------------------------------

    def _new_pipeline(self, name: str, namespace: str) -> Any:
        namespace = namespace if self.users is not None else ""
        if any((each.display_name, each.namespace) == (name, namespace) for each in self.pipelines.values()):
            raise Refused(409)
        made = api.V2beta1Pipeline(
            pipeline_id=str(uuid.uuid4()), display_name=name, name=name, namespace=namespace, created_at=self.now
        )
        self.pipelines[made.pipeline_id] = made
        return made

    def _new_version(self, pipeline: str, name: str, package: bytes) -> Any:
        if any((v.pipeline_id, v.display_name) == (pipeline, name) for v in self.versions.values()):
            raise Refused(409)
        documents = list(yaml.safe_load_all(package))
        spec = {"pipeline_spec": documents[0], "platform_spec": documents[1]} if documents[1:] else documents[0]
        made = api.V2beta1PipelineVersion(
            pipeline_id=pipeline, pipeline_version_id=str(uuid.uuid4()), display_name=name, name=name,
            created_at=self.now, pipeline_spec=spec,
        )  # fmt: skip
        self.versions[made.pipeline_version_id] = made
        return made

    def _check_parameters(self, body: Any) -> None:
        reference = body.pipeline_version_reference
        if reference is None or reference.pipeline_version_id not in self.versions:
            raise Refused(400, "Failed to fetch a pipeline version")
        spec = self.versions[reference.pipeline_version_id].pipeline_spec
        wanted = spec.get("pipeline_spec", spec)["root"]["inputDefinitions"]["parameters"]
        given = body.runtime_config.parameters or {}
        if unknown := sorted(given.keys() - wanted.keys()):
            raise Refused(400, f"parameters are not defined in the pipeline: {', '.join(unknown)}")
        kinds = {"STRING": str, "BOOLEAN": bool, "NUMBER_INTEGER": int, "STRUCT": dict}
        for name, each in wanted.items():
            if name not in given and not each.get("isOptional"):
                raise Refused(400, f"input parameter {name} requires type {each['parameterType']} and is missing")
            if name in given and not isinstance(given[name], kinds[each["parameterType"]]):
                raise Refused(400, f"input parameter {name} requires type {each['parameterType']}")

    def _start(self, body: Any) -> Any:
        body.run_id, body.created_at, body.state = str(uuid.uuid4()), self.now, "PENDING"
        self.runs[body.run_id] = body  # of whatever name: the same one twice is two
        self.experiments[body.experiment_id].last_run_created_at = self.now
        if any(len(str(value)) > LONGEST_PARAMETER for value in (body.runtime_config.parameters or {}).values()):
            self.set_state(body.run_id, "FAILED", {"collect-driver": "FAILED"})  # taken, and the driver fails on it
        self.on_run(body)
        return body

    def _of_experiment(self, experiment: str, mine: set[str]) -> None:
        self._allowed(_there(self.experiments, experiment).namespace, mine)

    def _may_list(self, namespace: str, experiment: str, mine: set[str]) -> None:
        if experiment:
            self._of_experiment(experiment, mine)
        else:
            self._allowed(namespace, mine)

    def _allowed(self, namespace: str, mine: set[str]) -> None:
        """In single-user mode any namespace, and any that is none."""
        if self.users is None:
            return
        if not namespace:
            raise Refused(400, "Invalid input error: a namespace is needed in multi-user mode")
        if namespace not in mine:  # not one's own, or not there at all
            raise Refused(403, f"User is not authorized with reason: in namespace {namespace}")

    def _is_in(self, namespace: str, wanted: str) -> bool:
        return self.users is None or (namespace or "") == wanted

    def _page(self, kind: Any, of: str, found: list[Any], query: dict[str, str]) -> Any:
        for predicate in json.loads(query.get("filter") or "{}").get("predicates", []):
            # protobuf's JSON takes names of both cases, and an enumeration's number for its word
            wanted = {re.sub("[A-Z]", lambda m: "_" + m[0].lower(), name): value for name, value in predicate.items()}
            wanted["operation"] = {1: "EQUALS"}.get(wanted["operation"], wanted["operation"])
            self._strictly("V2beta1Predicate", wanted)
            known = FILTERS[of] - ({"display_name"} if self.old and of != "runs" else set())
            found = [each for each in found if _matches(each, known, wanted)]
        if order := query.get("sort_by"):
            key, _, way = order.partition(" ")
            if key not in FILTERS[of]:
                raise Refused(400, f"Invalid sorting field: {key!r}")
            found = sorted(found, key=lambda each: getattr(each, key), reverse=way == "desc")
            found = found[::-1] if way == "desc" and len({getattr(each, key) for each in found}) == 1 else found
        first, size = int(query.get("page_token") or 0), int(query.get("page_size") or 20)
        more = str(first + size) if first + size < len(found) else None
        return kind(**{of: found[first : first + size] or None, "next_page_token": more})

    # --- HTTP ------------------------------------------------------------------------------------------------------

    def _strictly(self, kind: str, data: Any, path: str = "") -> None:
        """Refuse, and remember, a field that the model ``kind`` does not have, or of another type."""
        model = getattr(models, kind)
        known = {model.attribute_map[name]: type_ for name, type_ in model.openapi_types.items()}
        for old in NEWER.get(kind, ()) if self.old else ():
            known.pop(old)
        for name, value in data.items():
            place = f"{kind}{path}.{name}"
            if name not in known:
                raise self._surprise(400, f'unknown field "{place}"')
            type_ = known[name]
            if hasattr(models, type_):
                if hasattr(getattr(models, type_), "allowable_values") and not getattr(models, type_).openapi_types:
                    if value not in getattr(models, type_).allowable_values:
                        raise self._surprise(400, f"{place}: {value!r} is none of its words")
                else:
                    self._strictly(type_, value)
            elif type_ == "str" and not isinstance(value, str) and name != "max_concurrency":
                raise self._surprise(400, f"{place}: {value!r} is no text")
            elif type_ == "bool" and not isinstance(value, bool):
                raise self._surprise(400, f"{place}: {value!r} is no boolean")

    def _surprise(self, status: int, text: str) -> Refused:
        self.surprises.append(text)
        return Refused(status, text)

    def _answer(self, verb: str, target: str, headers: dict[str, str], body: bytes) -> Any:
        url = urlsplit(target)
        route, match = next(
            ((r, m) for r in ROUTES if r.verb == verb and (m := r.path.fullmatch(unquote(url.path)))), (None, None)
        )
        if route is None or match is None:
            raise self._surprise(404, f"unknown path: {verb} {url.path}")
        fault = next((f for f in self.faults if f.operation in route.operation), None)
        if fault:
            fault.times -= 1
            if not fault.times:
                self.faults.remove(fault)
            if not fault.done:
                raise Refused(fault.status, fault.message, fault.headers)
        answer = self._operate(route, match, dict(parse_qsl(url.query, keep_blank_values=True)), headers, body)
        if fault:
            raise Refused(fault.status, fault.message, fault.headers)
        return answer

    def _operate(
        self, route: Route, match: re.Match[str], query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> Any:
        unknown = query.keys() - (route.queries - (NEWER_QUERIES if self.old else set()))
        if unknown:
            raise self._surprise(400, f"unknown query of {route.operation}: {', '.join(sorted(unknown))}")
        if "cookie" in headers:
            raise self._surprise(400, "a cookie")
        if len(body) > LARGEST_BODY:
            raise Refused(400, "grpc: received message larger than max")
        more: dict[str, Any] = {}
        if route.body:
            data = json.loads(body)
            self._strictly(route.body, data)
            more["body"] = self._client.deserialize(_Text(body), route.body)
        elif route.operation.startswith("upload_"):
            more["package"] = _uploaded(headers["content-type"], body)
        handler = getattr(self, route.operation, None)
        if handler is None:
            raise self._surprise(501, f"nobody taught this server {route.operation}")
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if self.users is not None and token not in self.users and route.operation != "healthz_service_get_healthz":
            raise Refused(401, "Unauthenticated: Request header error: there is no user identity header.")
        mine = self.users.get(token, set()) if self.users is not None else set()
        self.requests.append((route.operation, headers, json.loads(body) if route.body else None))
        return handler(**match.groupdict(), **query, **more, mine=mine)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        kfp = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with kfp._lock:
                    try:
                        found = kfp._answer(self.command, self.path, headers, body)
                        status, more = 200, {}
                        data = json.dumps(kfp._client.sanitize_for_serialization(found) or {})
                    except Refused as refused:
                        status, more = refused.status, refused.headers
                        data = json.dumps({"error": refused.message, "code": 2, "message": refused.message})
                        data = refused.message if "<html" in refused.message else data
                    if kfp.old:
                        data = _without(data)
                if not status:
                    self.close_connection = True
                    return
                self.send_response(status)
                kind = "text/html" if "<html" in data else "application/json"
                for name, value in {"Content-Type": kind, "Content-Length": str(len(data.encode())), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data.encode())

            do_GET = do_POST = do_DELETE = do_PATCH = _do  # noqa: N815

            def log_message(self, *_: Any) -> None:
                return

        return Handler


class _Text:
    """What the client's ``deserialize`` takes."""

    def __init__(self, data: bytes) -> None:
        self.data = data


def _without(data: str) -> str:
    """The answer of a server that does not know the newer fields of pipelines."""
    found = json.loads(data) if data.startswith("{") else {}
    for each in [found, *(found.get("pipelines") or []), *(found.get("pipeline_versions") or [])]:
        if "pipeline_id" in each and "run_id" not in each:
            each.pop("name", None)
    return json.dumps(found) if found else data


def _uploaded(kind: str, body: bytes) -> bytes:
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    (part,) = message.iter_parts()
    assert part.get_param("name", header="content-disposition") == "uploadfile"
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    return data


def _there(of: Mapping[str, Any], key: str) -> Any:
    if key not in of:
        raise Refused(404, f"{key} not found")
    return of[key]


def _matches(each: Any, known: set[str], predicate: Mapping[str, Any]) -> bool:
    key = predicate["key"]
    if key not in known:
        raise Refused(400, f"Invalid input error: no filter by {key!r}")
    if predicate["operation"] != "EQUALS":
        raise Refused(501, f"nobody taught this server the filter {predicate['operation']!r}")
    value = getattr(each, {"name": "display_name", "id": "run_id"}.get(key, key))
    return bool(value == predicate["string_value"])


def fires(cron: str, moment: datetime) -> bool:
    """Whether KFP starts a run in this minute: its cron has the seconds first, and where both days are restricted,
    either is enough."""
    fields = cron.split()
    minute, hour, day, month, weekday = fields[1:] if len(fields) == 6 else (*fields[1:], "*")
    starred = day.startswith("*") or weekday.startswith("*")
    by_day = _in(day, moment.day, 1), _in(weekday, moment.isoweekday() % 7, 0)
    return (
        _in(minute, moment.minute, 0)
        and _in(hour, moment.hour, 0)
        and _in(month, moment.month, 1)
        and (all(by_day) if starred else any(by_day))
    )


def _in(part: str, value: int, low: int) -> bool:
    for item in part.split(","):
        span, _, step = item.partition("/")
        first, _, last = span.partition("-")
        start = low if span == "*" else int(first)
        end = 99 if span == "*" else int(last or first)
        if start <= value <= end and (value - start) % int(step or 1) == 0:
            return True
    return False


def wait_for(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so, a bounded time."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
