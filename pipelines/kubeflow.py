"""KFP's API (v2beta1) as an update needs it, and what its refusals mean in Upkeep's tree of errors.

The requests are those of KFP's own generated client. Sent are only fields that every server since 2.0 knows. No cookie
and no file of the KFP command line is read; the token is read anew for each request, since a projected one rotates.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upkeep.errors import AccessError, ConflictError, InputError, OutsideError, UpkeepError, Where

ENDPOINT = "KF_PIPELINES_ENDPOINT"
"""KFP's own variable for its address."""
TOKEN = "UPKEEP_KFP_TOKEN"
"""The variable that holds a token (an OIDC token, say)."""
TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"
"""KFP's own variable for the file that holds one."""
PROJECTED = "/var/run/secrets/kubeflow/pipelines/token"
"""Where KFP has it projected into pods."""
IN_CLUSTER = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"

TRIES = 4
FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
SECONDS = (5.0, 30.0)
"""To connect, and to be answered."""
PAGE = 100
_BUSY = frozenset({429, 500, 502, 503, 504})
_ENDED = frozenset({"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"})


class MissingError(InputError):
    """404: there is no such thing."""


class ExistsError(ConflictError):
    """409: there is one of this name."""


class UnsureError(OutsideError):
    """Whether it was done is not known: the connection broke, or what stands before KFP gave up."""


def ended(state: str | None) -> bool:
    """Whether a run in this state never changes again."""
    return state in _ENDED


@dataclass(frozen=True)
class Access:
    """Where KFP is, and how one says who asks."""

    endpoint: str
    token: Callable[[], str]
    certificates: str = ""
    """A file of certificates to trust; empty: the usual ones."""


def access_of(endpoint: str, environ: Mapping[str, str]) -> Access:
    """``endpoint``: the spec's. Raises :class:`InputError` where nothing says where KFP is."""
    found = endpoint or environ.get(ENDPOINT, "")
    if not found and environ.get("KUBERNETES_SERVICE_HOST"):
        found = IN_CLUSTER
    if not found:
        raise InputError(
            "nothing says where Kubeflow Pipelines is",
            where=Where(field="kubeflow.endpoint"),
            fix="`kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888`, then `kubeflow.endpoint: "
            f"http://localhost:8888` in the spec, or {ENDPOINT}",
        )
    return Access(found.rstrip("/"), token_of(environ), environ.get("SSL_CERT_FILE", ""))


def token_of(environ: Mapping[str, str]) -> Callable[[], str]:
    """Reads the token, each time anew, from :data:`TOKEN`, the file that :data:`TOKEN_FILE` names, or KFP's projected
    one; empty where there is none."""
    given = environ.get(TOKEN, "").strip()
    if given:
        return lambda: given
    named = environ.get(TOKEN_FILE, "")
    path = Path(named or PROJECTED)

    def read() -> str:
        try:
            return path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            if not named:
                return ""
            raise AccessError(
                "the file that should hold the token for KFP is not there",
                where=Where(file=named, field=TOKEN_FILE),
                fix="mount the service account's token there, or name another file",
            ) from None

    return read


class Kubeflow:
    """One KFP. Every method may raise :class:`AccessError` (401, 403), :class:`InputError` (400), and
    :class:`OutsideError` where it is away or busy for longer than a few tries."""

    def __init__(self, access: Access, *, namespace: str = "", sleep: Callable[[float], None] = time.sleep) -> None:
        """``namespace``: of the profile, where KFP has several users."""
        import kfp_server_api as api

        configuration = api.Configuration(host=access.endpoint)
        configuration.retries = False  # its own are blind: they follow a redirect to a log-in page, too
        if access.certificates:
            configuration.ssl_ca_cert = access.certificates
        self._access = access
        self._keys, self._token, self._used = configuration.api_key, access.token, ""
        self.place, self.namespace, self._sleep = access.endpoint, namespace, sleep
        self._client = api.ApiClient(configuration)
        self._runs = api.RunServiceApi(self._client)
        self._recurring = api.RecurringRunServiceApi(self._client)
        self._experiments = api.ExperimentServiceApi(self._client)
        self._pipelines = api.PipelineServiceApi(self._client)
        self._uploads = api.PipelineUploadServiceApi(self._client)
        self._health = api.HealthzServiceApi(self._client)
        self._checked = False

    def close(self) -> None:
        """Close its connections."""
        self._client.rest_client.pool_manager.clear()

    # --- pipelines -------------------------------------------------------------------------------------------------

    def pipeline(self, name: str) -> str:
        """The id of the pipeline called ``name``, made where it is not there."""
        import kfp_server_api as api

        for _ in range(2):
            there = self._list(self._pipelines.pipeline_service_list_pipelines, "pipelines", name=name, **self._mine())
            if there:
                return str(there[0].pipeline_id)
            try:
                body = api.V2beta1Pipeline(display_name=name, **self._mine())
                return str(self._ask(self._pipelines.pipeline_service_create_pipeline, body, once=True).pipeline_id)
            except (ExistsError, UnsureError) as error:
                unsure = error
        raise unsure

    def version(self, pipeline: str, name: str, package: Path) -> str:
        """The id of the pipeline's version called ``name``, uploaded from ``package`` where it is not there."""
        for _ in range(2):
            there = self._list(self._pipelines.pipeline_service_list_pipeline_versions, "pipeline_versions", pipeline,
                               name=name)  # fmt: skip
            if there:
                return str(there[0].pipeline_version_id)
            try:
                upload = self._uploads.upload_pipeline_version
                found = self._ask(upload, str(package), name=name, pipelineid=pipeline, once=True)
                return str(found.pipeline_version_id)
            except (ExistsError, UnsureError) as error:
                unsure = error
        raise unsure

    def experiment(self, name: str) -> str:
        """The id of the experiment called ``name``, made where it is not there."""
        import kfp_server_api as api

        for _ in range(2):
            find = self._experiments.experiment_service_list_experiments
            there = self._list(find, "experiments", name=name, **self._mine())
            if there:
                return str(there[0].experiment_id)
            try:
                body = api.V2beta1Experiment(display_name=name, **self._mine())
                create = self._experiments.experiment_service_create_experiment
                return str(self._ask(create, body, once=True).experiment_id)
            except (ExistsError, UnsureError) as error:
                unsure = error
        raise unsure

    # --- runs ------------------------------------------------------------------------------------------------------

    def run(self, run: str) -> Any:
        """The run. Raises :class:`MissingError`."""
        return self._ask(self._runs.run_service_get_run, run)

    def newest_runs(self, experiment: str) -> Sequence[Any]:
        """The experiment's newest runs, a page of them, newest first."""
        found = self._ask(
            self._runs.run_service_list_runs, experiment_id=experiment, page_size=PAGE, sort_by="created_at desc"
        )
        return found.runs or []

    def runs_of(self, experiment: str, recurring_run: str) -> Sequence[Any]:
        """All runs that a recurring run started."""
        return self._list(self._runs.run_service_list_runs, "runs", experiment_id=experiment,
                          equal={"recurring_run_id": recurring_run})  # fmt: skip

    def create_run(
        self,
        name: str,
        *,
        experiment: str,
        pipeline: str,
        version: str,
        parameters: Mapping[str, Any],
        root: str = "",
        service_account: str = "",
    ) -> Any:
        """Start a run called ``name``, once: KFP takes a second of the same name, so after a lost reply it is looked
        for before it is asked for again."""
        body = self._body("V2beta1Run", name, experiment, pipeline, version, parameters, root, service_account)
        find = self._runs.run_service_list_runs
        return self._create_once(
            self._runs.run_service_create_run,
            body,
            lambda: self._list(find, "runs", experiment_id=experiment, name=name),
        )

    def _create_once(self, create: Callable[..., Any], body: Any, find: Callable[[], Sequence[Any]]) -> Any:
        """What ``create`` makes of ``body``; after a lost reply what ``find`` says is there already."""
        unsure: UpkeepError | None = None
        for _ in range(TRIES):
            if unsure is not None and (there := find()):
                return there[0]
            try:
                return self._ask(create, body, once=True)
            except UnsureError as error:
                unsure = error
                self._sleep(FIRST_WAIT)
        assert unsure is not None
        raise unsure

    # --- recurring runs --------------------------------------------------------------------------------------------

    def recurring_runs(self) -> Sequence[Any]:
        """All recurring runs, of the namespace where KFP has several users."""
        find = self._recurring.recurring_run_service_list_recurring_runs
        return self._list(find, "recurring_runs", **self._mine())

    def create_recurring_run(
        self,
        name: str,
        *,
        cron: str,
        experiment: str,
        pipeline: str,
        version: str,
        parameters: Mapping[str, Any],
        root: str = "",
        service_account: str = "",
    ) -> Any:
        """``cron``: six fields, the seconds first (UTC). Runs one at a time, and catches up on none."""
        import kfp_server_api as api

        body = self._body("V2beta1RecurringRun", name, experiment, pipeline, version, parameters, root, service_account)
        body.trigger = api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=cron))
        body.mode, body.max_concurrency, body.no_catchup = "ENABLE", "1", True
        return self._create_once(
            self._recurring.recurring_run_service_create_recurring_run,
            body,
            lambda: [each for each in self.recurring_runs() if each.display_name == name],
        )

    def enable(self, recurring_run: str) -> None:
        """Let it start runs again."""
        self._ask(self._recurring.recurring_run_service_enable_recurring_run, recurring_run)

    def disable(self, recurring_run: str) -> None:
        """Let it start no more runs; those under way go on."""
        self._ask(self._recurring.recurring_run_service_disable_recurring_run, recurring_run)

    def delete(self, recurring_run: str) -> None:
        """Remove it; KFP kills its runs that are under way."""
        try:
            self._ask(self._recurring.recurring_run_service_delete_recurring_run, recurring_run)
        except MissingError:
            return

    # --- requests --------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Ask KFP whether it has several users. Raises :class:`InputError` where it has, and no namespace is named."""
        multi_user = bool(self._ask(self._health.healthz_service_get_healthz).multi_user)
        if multi_user and not self.namespace:
            raise InputError(
                "this KFP has several users, and the spec names no namespace",
                where=Where(file=self.place, field="kubeflow.namespace"),
                fix="set it to your profile's namespace",
            )
        if not multi_user:
            self.namespace = ""  # it knows none, and newer ones refuse what they do not know
        self._checked = True

    def _mine(self) -> dict[str, Any]:
        if not self._checked:
            self.check()
        return {"namespace": self.namespace} if self.namespace else {}

    def _body(
        self,
        kind: str,
        name: str,
        experiment: str,
        pipeline: str,
        version: str,
        parameters: Mapping[str, Any],
        root: str,
        service_account: str,
    ) -> Any:
        import kfp_server_api as api

        return getattr(api, kind)(
            display_name=name,
            experiment_id=experiment,
            pipeline_version_reference=api.V2beta1PipelineVersionReference(
                pipeline_id=pipeline, pipeline_version_id=version
            ),
            runtime_config=api.V2beta1RuntimeConfig(parameters=dict(parameters), pipeline_root=root or None),
            service_account=service_account or None,
        )

    def _present(self) -> None:
        """Say who asks, by the token as it is now."""
        self._used = self._token()
        if self._used:
            self._keys["authorization"] = f"Bearer {self._used}"
        else:
            self._keys.pop("authorization", None)

    def _list(
        self,
        call: Callable[..., Any],
        of: str,
        *words: str,
        name: str = "",
        equal: Mapping[str, str] | None = None,
        **query: Any,
    ) -> list[Any]:
        wanted = {**({"name": name} if name else {}), **(equal or {})}
        predicates = [{"key": key, "operation": "EQUALS", "string_value": value} for key, value in wanted.items()]
        if predicates:
            query["filter"] = json.dumps({"predicates": predicates})
        return [each for page in self._pages(call, *words, **query) for each in getattr(page, of) or []]

    def _pages(self, call: Callable[..., Any], *words: str, **query: Any) -> Iterator[Any]:
        token = ""
        while True:
            page = self._ask(call, *words, page_size=PAGE, page_token=token, **query)
            yield page
            token = page.next_page_token or ""
            if not token:
                return

    def _ask(self, call: Callable[..., Any], *words: Any, once: bool = False, **query: Any) -> Any:
        """``once``: it may have been done although no answer came, and must not be done twice."""
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        tried, renewed = 0, False
        while True:
            tried += 1
            wait = min(FIRST_WAIT * 2 ** (tried - 1), LONGEST_WAIT)
            self._present()
            try:
                answer = call(*words, _request_timeout=SECONDS, **query)
                self._see_that_kfp_answered()
                return answer
            except ApiException as error:
                if error.status == 401 and not renewed and self._token() != self._used:
                    renewed = True  # it ended between two requests, and the next one is there
                    continue
                meaning = self._meaning(error, once=once)
                if not isinstance(meaning, OutsideError) or error.status not in _BUSY | {0} or tried == TRIES:
                    raise meaning from error
                if isinstance(meaning, UnsureError):
                    raise meaning from error
                wait = _asked_wait(error, wait)
            except (HTTPError, OSError, AttributeError) as error:
                if isinstance(error, AttributeError) and not isinstance(error.__context__, ApiException):
                    raise  # else: the generated client stumbles over what has no body, an error of TLS
                cause = error.__context__ if isinstance(error, AttributeError) else error
                kind = UnsureError if once else OutsideError
                meaning = kind(
                    f"Kubeflow Pipelines does not answer: {_in_one_line(cause)}",
                    where=Where(file=self.place),
                    fix="see whether the address is right, and the port-forward still runs",
                )
                if once or tried == TRIES:
                    raise meaning from error
            self._sleep(wait)

    def _meaning(self, error: Any, *, once: bool) -> UpkeepError:
        """What an ``ApiException`` is in Upkeep's tree."""
        status, said, where = int(error.status or 0), _said(error), Where(file=self.place)
        if status in (301, 302, 303, 307, 308) or (status == 401 and not self._used):
            return AccessError(
                "Kubeflow Pipelines asks who you are",
                where=where,
                fix=f"give a token: {TOKEN}, or {TOKEN_FILE} (a file, read anew for each request)",
            )
        if status == 401:
            return AccessError(
                f"Kubeflow Pipelines does not take the token{_after(said)}",
                where=where,
                fix=f"it may have ended: get a new one, and give it in {TOKEN} or in the file that {TOKEN_FILE} names",
            )
        if status == 403:
            of = f"in the namespace {self.namespace}" if self.namespace else "there"
            return AccessError(
                f"you may not do this {of}, or it is not there{_after(said)}",
                where=Where(file=self.place, field="kubeflow.namespace" if self.namespace else ""),
                fix="see the name of the namespace, and whether your account is a contributor of its profile",
            )
        if status == 404:
            return MissingError(f"it is not there{_after(said)}", where=where, fix="see the name or id")
        if status == 409:
            return ExistsError(f"there is one of this name{_after(said)}", where=where, fix="try again")
        if status == 429:
            return OutsideError(
                f"Kubeflow Pipelines is asked too often{_after(said)}", where=where, fix="wait a minute"
            )
        if status in (400, 413, 422):
            return InputError(f"Kubeflow Pipelines will not take it: {said or status}", where=where, fix="see the spec")
        kind = UnsureError if once else OutsideError
        return kind(
            f"Kubeflow Pipelines failed ({status}){_after(said)}",
            where=where,
            fix="see the log of its API server: `kubectl logs -n kubeflow deploy/ml-pipeline`",
        )

    def _see_that_kfp_answered(self) -> None:
        """The generated client makes an empty answer of a page that says 200. Raises :class:`AccessError`."""
        response = self._client.last_response
        if "json" in str(response.getheader("content-type")):
            return
        text = str(response.data)
        page = "<html" in text.lower() or "<!doctype" in text.lower()
        fix = f"give a token: {TOKEN}, or {TOKEN_FILE}" if page else "name the address of KFP's API, without a path"
        what = "a page for people answers there (a log-in page, or KFP's own)" if page else "what answers is no KFP API"
        raise AccessError(what, where=Where(file=self.place, field="kubeflow.endpoint"), fix=fix)


def _asked_wait(error: Any, wait: float) -> float:
    """``Retry-After`` in seconds, within reason; ``wait`` where it says none."""
    try:
        return min(max(float(dict(error.headers or {})["Retry-After"]), wait), LONGEST_WAIT)
    except (KeyError, TypeError, ValueError):
        return wait


def _said(error: Any) -> str:
    """KFP's own sentence, if there is one."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
    try:
        found = json.loads(body)
        text = found.get("message") or found.get("error") or found.get("error_message") or ""
    except (ValueError, AttributeError):
        text = ""
    return str(text).strip()[:500]


def _after(said: str) -> str:
    return f": {said}" if said else ""


def _in_one_line(error: BaseException | None) -> str:
    text = str(getattr(error, "reason", "") or error) or type(error).__name__
    return " ".join(text.split())[:300]
