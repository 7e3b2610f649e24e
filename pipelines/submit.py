"""Run one update on Kubeflow Pipelines: compile, upload once, start once, follow, and tell what came of it.

The id of the KFP run is the update's: what its steps leave stands in the store under ``updates/<run>/``.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upkeep.pipelines.compile import compile_pipeline
from upkeep.pipelines.kubeflow import Kubeflow, MissingError, access_of, ended
from upkeep.pipelines.pods import KubernetesPods, Pods
from upkeep.pipelines.run import Listener, Progress, update_id
from upkeep.pipelines.update import pipeline_name
from upkeep.pipelines.workers import on_workers

from upkeep import records
from upkeep.errors import AccessError, ConflictError, InputError, OutsideError, Problem, UpkeepError, Where
from upkeep.registry.registry import Registry
from upkeep.serving.connect import CONTEXT
from upkeep.serving.kubernetes.client import open_api
from upkeep.serving.kubernetes.pods import Trouble
from upkeep.spec.check import STEPS
from upkeep.spec.load import canonical
from upkeep.spec.model import FineTune, ModelSpec
from upkeep.store import MissingObject, open_store
from upkeep.training.order import training_order
from upkeep.update.failure import failure_of, leave, step_error
from upkeep.update.record import StepError, UpdateRecord
from upkeep.update.workers import no_tfjobs

LONGEST_PARAMETER = 10_000
"""Characters: KFP takes more, and its driver fails on them."""
LARGEST_PIPELINE = 256 * 1024
"""Bytes of the pipeline: Argo's workflow has no more room, and that is made of it."""
_RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
EVERY = 5.0
"""Seconds between two looks at a run."""
LONGEST_WAIT = 60.0
PATIENCE = 900.0
"""How long KFP may be away, in seconds, before following ends; the run goes on."""
QUIET = 30.0
"""Seconds without news of the run after which its pods are looked at."""
STUCK = 300.0
"""Seconds that a pod may wait for the same thing before following ends."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """A run on Kubeflow Pipelines that was started."""

    run: str
    """Its id: the update's, too."""
    name: str
    page: str
    """Where KFP shows it."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a submission has to do with, opened."""

    kubeflow: Kubeflow
    registry: Registry
    pods: Pods | None
    """None: there is no way to look at them."""
    now: Callable[[], datetime]
    sleep: Callable[[float], None]
    listen: Listener = lambda _: None


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """The pipeline as KFP has it, and what its runs are given."""

    pipeline: str
    version: str
    experiment: str
    spec: str
    """The digest of the spec that the runs read."""
    parameters: dict[str, Any]


def start(
    spec: ModelSpec, place: Place, *, until: str = "", accept_changed: bool = False, supersede: bool = False
) -> Started:
    """Start one update. Raises :class:`InputError` for what cannot run there, :class:`ConflictError` where an update of
    the model is under way: it names the run."""
    asked = {"until": until, "accept_changed": accept_changed, "supersede": supersede}
    there = upload(spec, place, asked)
    refuse_second(spec, place, there)
    made = place.kubeflow.create_run(
        f"{spec.name}-{update_id(place.now(), there.spec)}",
        experiment=there.experiment,
        pipeline=there.pipeline,
        version=there.version,
        parameters=there.parameters,
        root=spec.kubeflow.root,
        service_account=spec.kubeflow.service_account,
    )
    return Started(run=str(made.run_id), name=str(made.display_name), page=page_of(spec, place, str(made.run_id)))


def upload(spec: ModelSpec, place: Place, asked: Mapping[str, Any]) -> Uploaded:
    """Compile the pipeline and see that KFP has it, and the store the spec; doing it twice changes nothing.

    Raises :class:`InputError` before anything is sent where a pod could not reach what the spec names, where nothing
    starts the workers it wants, or where the pipeline or a parameter is too large.
    """
    refuse_what_is_only_here(spec)
    refuse_workers_without_operator(spec, place.pods)
    data = canonical(spec)
    digest = records.digest(data)
    address = f"{place.registry.store.uri}/{spec.name}/specs/{digest}.json"
    parameters = {"spec": address, "spec_digest": digest, **asked}
    with _compiled(spec) as package:
        refuse_too_large(package, parameters)
        kubeflow = place.kubeflow
        kubeflow.check()
        place.registry.put_spec(data)
        pipeline = kubeflow.pipeline(pipeline_name(spec.name))
        version = kubeflow.version(pipeline, records.digest(package.read_bytes())[:12], package)
    experiment = kubeflow.experiment(experiment_name(spec))
    return Uploaded(pipeline=pipeline, version=version, experiment=experiment, spec=digest, parameters=parameters)


@contextlib.contextmanager
def _compiled(spec: ModelSpec) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="upkeep-submit-") as folder:
        yield compile_pipeline(spec, Path(folder) / "update.yaml")


def refuse_what_is_only_here(spec: ModelSpec) -> None:
    """Raises :class:`InputError`, with every address that names a place on this machine."""
    named = {
        "store": spec.store,
        "data.source": spec.data.source,
        "monitoring.labels": spec.monitoring.labels,
        "rollout.repository": spec.rollout.repository,
        **{f"candidates[{c.name}].base": c.base for c in spec.candidates if isinstance(c, FineTune)},
    }
    here = tuple(
        Problem(
            f"a pod on the cluster cannot reach {address}",
            Where(field=key),
            "name an s3:// address" if key != "rollout.repository" else "name the repository's URL",
        )
        for key, address in named.items()
        if address.startswith("file://") or (address and address != "champion" and not _reached(address))
    )
    if here:
        raise InputError(problems=here)


def refuse_workers_without_operator(spec: ModelSpec, pods: Pods | None) -> None:
    """Raises :class:`InputError` where a candidate wants workers and the cluster can start none."""
    wanting = [candidate.name for candidate in spec.candidates if on_workers(spec, candidate.name)]
    if wanting and pods is not None and not pods.may_be_workers():
        raise no_tfjobs(Where(field=f"candidates[{wanting[0]}].devices"))


def _reached(address: str) -> bool:
    return "://" in address or re.match(r"[^/\\]+@[^/\\]+:", address) is not None


def refuse_too_large(package: Path, parameters: Mapping[str, Any]) -> None:
    """Raises :class:`InputError` for what KFP would take, and fail on later."""
    if (size := package.stat().st_size) > LARGEST_PIPELINE:
        raise InputError(
            f"the pipeline is too large for Kubeflow: {size:,} bytes, and a workflow has room for {LARGEST_PIPELINE:,}",
            where=Where(field="candidates"),
            fix="name fewer candidates: each is a task of its own; or split the model's spec in two",
        )
    for name, value in parameters.items():
        if len(str(value)) > LONGEST_PARAMETER:
            raise InputError(
                f"{name} is too long for Kubeflow: {len(str(value)):,} characters, and it passes on "
                f"{LONGEST_PARAMETER:,}",
                where=Where(field=f"--{name.replace('_', '-')}"),
                fix="give a shorter one",
            )


def refuse_second(spec: ModelSpec, place: Place, there: Uploaded) -> None:
    """Raises :class:`ConflictError` where an update of the model is under way; frees the lock of a run that ended.

    Of two who ask at the same moment both may come through: then the second one's first step ends with the same words.
    """
    held = place.registry.holder()
    if held is not None and place.now().astimezone(UTC) < datetime.fromisoformat(held.until):
        state = _state(place.kubeflow, held.holder)
        if state is None:
            raise ConflictError(
                f"{held.holder} is at work on this model, since {held.since}",
                where=Where(file=place.registry.store.uri),
                fix='wait until it is done; if it is dead, `upkeep store unlock --reason "…"` ends its turn',
            )
        if not ended(state):
            raise _under_way(spec, place, held.holder, held.since)
        free(place.registry, held.holder)
    for run in place.kubeflow.newest_runs(there.experiment):
        of = run.pipeline_version_reference
        if of is not None and of.pipeline_id == there.pipeline and not ended(run.state):
            raise _under_way(spec, place, str(run.run_id), f"{run.created_at:%Y-%m-%dT%H:%M:%SZ}")


def _state(kubeflow: Kubeflow, holder: str) -> str | None:
    """The state of the run that holds the lock; None: it is none that this KFP knows."""
    if not _RUN.fullmatch(holder):  # an update on somebody's machine, a sweep, an adoption
        return None
    try:
        return str(kubeflow.run(holder).state)
    except MissingError:
        return None


def _under_way(spec: ModelSpec, place: Place, run: str, since: str) -> ConflictError:
    return ConflictError(
        f"the run {run} is at work on this model, since {since}",
        where=Where(file=page_of(spec, place, run)),
        fix=f"follow it: `upkeep submit --follow {run}`; or end it on its page, then submit again",
    )


def free(registry: Registry, run: str) -> None:
    """Give the lock back for ``run``, where it has it: nobody else does it for a run that was killed. It is not ended
    by hand: retried on KFP's page, the run takes it again if nobody came."""
    with contextlib.suppress(OutsideError):  # it ends by its time, too
        registry.unlock("", holder=run)


def experiment_name(spec: ModelSpec) -> str:
    """What the model's runs are listed under."""
    return spec.kubeflow.experiment or spec.name


def page_of(spec: ModelSpec, place: Place, run: str) -> str:
    """Where KFP shows the run."""
    return f"{(spec.kubeflow.page or place.kubeflow.place).rstrip('/')}/#/runs/details/{run}"


def task_names(spec: ModelSpec) -> dict[str, str]:
    """KFP's names of the pipeline's tasks, and ours: it numbers them where a step occurs more than once."""
    names = {step: step for step in STEPS}
    for number, candidate in enumerate(training_order(spec.candidates), 1):
        names["train" if number == 1 else f"train-{number}"] = f"train {candidate}"
    return names


def open_place(
    spec: ModelSpec,
    environ: Mapping[str, str],
    *,
    listen: Listener = lambda _: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> Place:
    """What the spec and the environment name; nothing is asked of it yet."""
    namespace = spec.kubeflow.namespace
    kubeflow = Kubeflow(access_of(spec.kubeflow.endpoint, environ), namespace=namespace, sleep=sleep)
    pods = None
    if context := environ.get(CONTEXT):
        pods = KubernetesPods(open_api(context), namespace or "kubeflow")
    registry = Registry(open_store(spec.store, spec.object_store), spec.name)
    return Place(kubeflow=kubeflow, registry=registry, pods=pods, now=now, sleep=sleep, listen=listen)


def follow(spec: ModelSpec, place: Place, run: str) -> UpdateRecord:
    """Follow the run to its end; the update's record.

    Raises what the failing step raised, read from the store; else what its pods say. :class:`OutsideError` with how to
    go on following where KFP is away for too long: the run goes on by itself.
    """
    try:
        found = _Follower(spec, place, run).to_the_end()
    except BaseException as error:
        error.add_note(f"the run goes on by itself; follow it again: upkeep submit --follow {run}")
        raise
    if found.state == "SUCCEEDED":
        return _record(place.registry, run)
    free(place.registry, run)
    raise _why(spec, place, found)


def _record(registry: Registry, run: str) -> UpdateRecord:
    name = "record.json"
    try:
        data = registry.get_update(run, name)
    except MissingObject as error:
        raise InputError(
            f"the run {run} ended well, and left no record of an update of {registry.model} in this store",
            where=Where(file=registry.store.uri),
            fix="see whether it is a run of this model, and of this store",
        ) from error
    return records.from_json(UpdateRecord, data, source=f"updates/{run}/{name}")


@dataclass
class _Follower:
    spec: ModelSpec
    place: Place
    run: str
    told: dict[str, str] = field(default_factory=dict)
    """Each task's state as it was last told."""
    waiting: dict[Trouble, datetime] = field(default_factory=dict)
    """What pods wait for, since when."""

    def to_the_end(self) -> Any:
        place = self.place
        answered = news = place.now()
        wait = EVERY
        while True:
            try:
                found = place.kubeflow.run(self.run)
            except OutsideError as error:
                if isinstance(error, AccessError):
                    raise
                if (place.now() - answered).total_seconds() > PATIENCE:
                    raise
                place.listen(Progress("kubeflow", f"away: {error.problems[0].message}"))
                wait = min(2 * wait, LONGEST_WAIT)
            else:
                answered, wait = place.now(), EVERY
                if self._tell(found):
                    news = answered
                if ended(found.state):
                    return found
                if (answered - news).total_seconds() >= QUIET:
                    self._look_at_pods(answered)
            place.sleep(wait)

    def _tell(self, found: Any) -> bool:
        """Tell what changed; whether anything did."""
        names, changed = task_names(self.spec), False
        for task, state in tasks_of(found, names).items():
            if self.told.get(task) == state:
                continue
            self.told[task] = state
            changed = True
            text = {"SUCCEEDED": "done", "SKIPPED": "unchanged: found in KFP's cache"}.get(state, state.lower())
            share = 1.0 if ended(state) else None
            if state not in ("PENDING", "RUNTIME_STATE_UNSPECIFIED"):
                self.place.listen(Progress(task, text, share))
        return changed

    def _look_at_pods(self, now: datetime) -> None:
        """Tell what pods wait for. Raises :class:`OutsideError` where one waits for too long."""
        if self.place.pods is None:
            return
        try:
            troubles = [each for each in self.place.pods.troubles(self.run) if not each.ends]
        except OutsideError:  # KFP itself is what is followed
            return
        for trouble in troubles:
            if trouble not in self.waiting:
                self.place.listen(Progress(_step(self.spec, trouble), trouble.message))
        self.waiting = {trouble: self.waiting.get(trouble, now) for trouble in troubles}
        for trouble, since in self.waiting.items():
            if (now - since).total_seconds() >= STUCK:
                raise OutsideError(
                    f"the step {_step(self.spec, trouble)} waits: {trouble.message}",
                    where=Where(file=page_of(self.spec, self.place, self.run)),
                    fix=f"{trouble.fix}; then end this run on its page, and submit again",
                )


def _step(spec: ModelSpec, trouble: Trouble) -> str:
    return task_names(spec).get(trouble.task, trouble.task) or trouble.pod


def tasks_of(found: Any, names: Mapping[str, str]) -> dict[str, str]:
    """Our name of each task of a run, and its state; KFP's own (drivers, the root) are left out."""
    details = found.run_details.task_details if found.run_details is not None else None
    states: dict[str, str] = {}
    for each in details or []:
        name = names.get(str(each.display_name), str(each.display_name))
        if name in names.values():
            states[name] = str(each.state or "PENDING")
    return states


def _why(spec: ModelSpec, place: Place, found: Any) -> UpkeepError:
    """Why the run ended without success. KFP's API carries no component's reason: the step's own words stand in the
    store; of a step that was killed its pod tells."""
    run, where = str(found.run_id), Where(file=page_of(spec, place, str(found.run_id)))
    failed = [name for name, state in tasks_of(found, task_names(spec)).items() if state == "FAILED"]
    for left in _failures(place.registry, run):
        if not failed or any(name.partition(" ")[0] == left.step for name in failed):
            error = failure_of(left)
            error.add_note(f"the run: {where.file}")
            return error
    error = _from_outside(spec, place, found, failed, where)
    step = (failed or ["collect"])[0].partition(" ")[0]
    with contextlib.suppress(Exception):  # the run's own error is what must be told
        page = leave(place.registry, spec, run, step_error(step, error), now=place.now())
        error.add_note(f"what is known stands in {page}")
    return error


def _failures(registry: Registry, run: str) -> Iterator[StepError]:
    """What steps wrote of their failures, in the order of the steps."""
    for step in STEPS:
        with contextlib.suppress(UpkeepError):
            name = f"errors/{step}.json"
            yield records.from_json(StepError, registry.get_update(run, name), source=f"updates/{run}/{name}")


def _from_outside(spec: ModelSpec, place: Place, found: Any, failed: list[str], where: Where) -> UpkeepError:
    if found.state == "CANCELED":
        return OutsideError("the run was ended by somebody", where=where, fix="submit again")
    troubles: list[Trouble] = []
    if place.pods is not None:
        with contextlib.suppress(OutsideError):
            troubles = list(place.pods.troubles(str(found.run_id)))
    for trouble in sorted(troubles, key=lambda each: not each.ends):
        return OutsideError(f"the step {_step(spec, trouble)} failed: {trouble.message}", where=where, fix=trouble.fix)
    said = str(getattr(found.error, "message", "") or "")
    step = f"the step {failed[0]}" if failed else "the run"
    hint = "" if place.pods else "; with UPKEEP_KUBE_CONTEXT Upkeep looks at its pods itself"
    return OutsideError(
        f"{step} failed without a word{f': {said}' if said else ' (killed, or never started)'}",
        where=where,
        fix=f"see its pods: `kubectl get pods -n {spec.kubeflow.namespace or 'kubeflow'} "
        f"-l pipeline/runid={found.run_id}`{hint}",
    )
