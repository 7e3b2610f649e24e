"""A training on several workers of a cluster: the train step starts them as a TFJob, follows it, and takes its record.

The TFJob comes whole from the compiled pipeline, in :data:`JOB_VARIABLE`; the step gives it a name, and a
:class:`~upkeep.update.handover.Handover`, in which it meets the workers.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from upkeep import records
from upkeep.errors import AccessError, ConflictError, InputError, OutsideError, UpkeepError, Where
from upkeep.serving.connect import CONTEXT
from upkeep.serving.kubernetes.api import Api, MissingError
from upkeep.serving.kubernetes.client import IN_CLUSTER, open_api
from upkeep.serving.kubernetes.paths import PODS, TFJOBS, path
from upkeep.serving.kubernetes.pods import Trouble, last_words, trouble_of
from upkeep.update.context import Context
from upkeep.update.failure import failure_of
from upkeep.update.handover import Handover, Inputs, Told
from upkeep.update.record import StepError

JOB_VARIABLE = "UPKEEP_TFJOB"
"""The environment variable of the train step that holds the TFJob, as JSON, but for what is known only then."""
POD_VARIABLES = {
    "UPKEEP_POD_NAMESPACE": "metadata.namespace",
    "UPKEEP_POD_NAME": "metadata.name",
    "UPKEEP_POD_UID": "metadata.uid",
    "UPKEEP_POD_ACCOUNT": "spec.serviceAccountName",
}
"""What the step must know of its own pod, and the fields of it."""
JOB_LABEL = "training.kubeflow.org/job-name"
"""The label that the operator puts on the workers' pods."""

EVERY = 5.0
"""Seconds between two looks at the job."""
QUIET = 30.0
"""Seconds that workers may be missing before it is told what they wait for."""
LONGEST_START = 1800.0
"""Seconds that workers may be missing before the training is given up: a node may have to be made for them."""
PATIENCE = 900.0
"""How long the API server or the store may be away, in seconds."""
LONGEST_END = 120.0
"""Seconds that a job of an earlier try may take to be gone."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What a TFJob's status says."""

    phase: Literal["begun", "succeeded", "failed"]
    there: int
    """Workers that run, or are done."""
    message: str
    """The operator's last sentence."""


def state_of(job: Mapping[str, Any]) -> State:
    """By the job's conditions; what the operator has not written yet has not happened."""
    status = job.get("status") or {}
    held = [each for each in status.get("conditions") or [] if each.get("status") == "True"]
    kinds = {each["type"] for each in held}
    counts = (status.get("replicaStatuses") or {}).get("Worker") or {}
    return State(
        phase="failed" if "Failed" in kinds else "succeeded" if "Succeeded" in kinds else "begun",
        there=int(counts.get("active") or 0) + int(counts.get("succeeded") or 0),
        message=str(held[-1].get("message") or "") if held else "",
    )


def job_name(model: str, candidate: str, update: str) -> str:
    """The same for every try of one step, and for no other: a later try takes away what an earlier one left."""
    one = records.digest(f"{update}/{candidate}".encode())[:8]
    return f"{model}-{candidate}"[:40].rstrip("-") + f"-{one}"


def job_of(template: Mapping[str, Any], *, name: str, place: str, pod: Mapping[str, str]) -> dict[str, Any]:
    """The TFJob that is created: ``template`` with its name, whose workers meet in ``place``, and which goes with the
    step's ``pod`` (by :data:`POD_VARIABLES`)."""
    job: dict[str, Any] = json.loads(json.dumps(template))
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod["UPKEEP_POD_NAME"], "uid": pod["UPKEEP_POD_UID"]}
    job["metadata"] = {**job.get("metadata", {}), "name": name, "ownerReferences": [owner]}
    worker = job["spec"]["tfReplicaSpecs"]["Worker"]["template"]["spec"]
    worker["serviceAccountName"] = pod["UPKEEP_POD_ACCOUNT"]
    worker["containers"][0]["args"] = [place]
    return job


def train_on_workers(
    context: Context,
    prepared: Path,
    *,
    champion: str,
    candidate: str,
    states: dict[str, str],
    members: dict[str, str],
    environ: Mapping[str, str] = os.environ,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """The digest of the training's record, which the first worker left in the registry.

    Raises :class:`InputError` where nothing starts workers, or the cluster knows no TFJobs; what a worker raised, where
    starting it again is no use; else :class:`OutsideError`. Neither job nor handover is left.
    """
    if JOB_VARIABLE not in environ:
        raise no_workers_here(candidate)
    template = json.loads(environ[JOB_VARIABLE])
    pod = {name: environ[name] for name in POD_VARIABLES}
    api, registry = open_api(environ.get(CONTEXT) or IN_CLUSTER), context.registry
    name = job_name(context.spec.name, candidate, context.update)
    place = Handover(registry.store, f"{registry.model}/workers/{name}")
    job = _Job(api, pod["UPKEEP_POD_NAMESPACE"], job_of(template, name=name, place=place.address, pod=pod), candidate)
    with _interrupted_by_sigterm():
        try:
            job.end(wait=sleep, clock=clock)
            job.see_that_it_may_be()
            place.clear()
            context.progress("handing the rows to the workers", 0.0)
            inputs = Inputs(
                spec=f"{registry.store.uri}/{registry.model}/specs/{context.spec_digest}.json",
                spec_digest=context.spec_digest,
                champion=champion,
                candidate=candidate,
                states=states,
                members=members,
                prepared=place.give(prepared),
            )
            place.begin(inputs)
            job.start()
            return _Follower(context, place, job, sleep, clock).to_the_end()
        finally:
            with suppress(UpkeepError):  # what is raised already must be what is told; its own time ends the job, too
                job.end()
            with suppress(UpkeepError):  # a sweep takes it
                place.clear()


def no_workers_here(candidate: str) -> InputError:
    """What to say where a candidate wants workers and nothing starts them."""
    return InputError(
        "`devices: workers` trains on a cluster, and here nothing starts workers",
        where=Where(field=f"candidates[{candidate}].devices"),
        fix="run the update there: `upkeep submit`; to train on this machine write `devices: one`, or `all`",
    )


def no_tfjobs(where: Where) -> InputError:
    """What to say where a cluster cannot start workers."""
    return InputError(
        "the cluster knows no TFJobs (kubeflow.org/v1), which `devices: workers` needs",
        where=where,
        fix="install Kubeflow's Training Operator (v1); or write `devices: one`, or `all`",
    )


class _Job:
    """One TFJob on a cluster."""

    def __init__(self, api: Api, namespace: str, manifest: dict[str, Any], candidate: str) -> None:
        self._api, self._namespace, self._manifest = api, namespace, manifest
        self.candidate = candidate
        self.name = str(manifest["metadata"]["name"])
        self.workers = int(manifest["spec"]["tfReplicaSpecs"]["Worker"]["replicas"])
        self._all, self._path = path(TFJOBS, namespace), path(TFJOBS, namespace, self.name)

    @property
    def where(self) -> Where:
        return Where(file=f"TFJob {self._namespace}/{self.name}")

    def see_that_it_may_be(self) -> None:
        """Ask the API server to take it, and to keep nothing: before the rows are sent."""
        try:
            self._api.create(self._all, self._manifest, dry_run=True)
        except MissingError as error:
            raise no_tfjobs(self.where) from error
        except AccessError as error:
            raise AccessError(
                f"the step may not start workers: {error.problems[0].message}",
                where=self.where,
                fix="give its service account the rights of manifests/components/workers",
            ) from error

    def start(self) -> None:
        with suppress(ConflictError):  # its answer was lost, and it was asked again: nobody else makes this name
            self._api.create(self._all, self._manifest)

    def look(self) -> State | None:
        """None: it is gone."""
        try:
            return state_of(self._api.get(self._path))
        except MissingError:
            return None

    def pods(self) -> list[dict[str, Any]]:
        return self._api.items(path(PODS, self._namespace), labelSelector=f"{JOB_LABEL}={self.name}")

    def end(self, *, wait: Callable[[float], None] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Delete it with its pods; with ``wait``, until they are gone. Raises :class:`OutsideError`."""
        begun = clock()
        while True:
            try:
                self._api.delete(self._path)
            except MissingError:
                return
            if wait is None:
                return
            if clock() - begun > LONGEST_END:
                raise OutsideError(
                    "the workers of an earlier try of this step do not end",
                    where=self.where,
                    fix="see what keeps its pods: `kubectl describe`",
                )
            wait(1.0)


@dataclass
class _Follower:
    context: Context
    place: Handover
    job: _Job
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    killed: Trouble | None = None
    """What ended a pod last. Remembered, since the operator deletes the pods of a job that fails."""
    words: str = ""
    """The end of the log of the last container that ended badly."""

    def to_the_end(self) -> str:
        answered = whole = self.clock()
        told: object = None
        while True:
            try:
                state, failures, progress = self.job.look(), self.place.failures(), self.place.progress()
                record = self.place.record() if state and state.phase == "succeeded" else ""
            except OutsideError as error:
                if isinstance(error, AccessError) or self.clock() - answered > PATIENCE:
                    raise
                self.sleep(EVERY)
                continue
            answered = self.clock()
            if record:
                return record
            if state is None:
                raise OutsideError("somebody deleted the workers", where=self.job.where, fix="run the update again")
            for failure in failures:
                if not failure_of(failure).retry:
                    raise failure_of(failure)
            waits = self._look_at_pods()
            if state.phase != "begun":
                raise self._why(state, failures)
            if state.there >= self.job.workers:
                whole = answered
            if answered - whole > LONGEST_START:
                raise self._missing(state, waits)
            news: object = progress
            if answered - whole > QUIET and waits:
                news = Told(text=waits, share=None)
            if isinstance(news, Told) and news != told:
                self.context.progress(news.text, news.share)
                told = news
            self.sleep(EVERY)

    def _look_at_pods(self) -> str:
        """What one of them waits for, as far as may be seen; what has ended others is remembered."""
        waits = ""
        with suppress(UpkeepError):
            for pod in self.job.pods():
                self.words = last_words(pod) or self.words
                for trouble in trouble_of(pod, f"train {self.job.candidate}"):
                    if trouble.ends:
                        self.killed = trouble
                    else:
                        waits = f"{trouble.pod}: {trouble.message}"
        return waits

    def _missing(self, state: State, waits: str) -> OutsideError:
        return OutsideError(
            f"{state.there} of {self.job.workers} workers run after {LONGEST_START / 60:.0f} minutes"
            + (f": {waits}" if waits else ""),
            where=self.job.where,
            fix="ask for less, for fewer workers, or for other nodes in `kubeflow.steps: "
            f"{{train {self.job.candidate}: …}}`; or add nodes",
        )

    def _why(self, state: State, failures: Sequence[StepError]) -> UpkeepError:
        """Why the job failed, by who knows best: a pod that was killed, a worker itself, a log's end, the operator."""
        if self.killed is not None:
            said = f"{self.killed.pod}: {self.killed.message}"
            return OutsideError(said, where=self.job.where, fix=self.killed.fix)
        if failures:
            return failure_of(failures[0])
        return OutsideError(
            f"the workers ended and left no model: {self.words or state.message or 'no reason given'}",
            where=self.job.where,
            fix="see what your cluster keeps of its pods' logs, and run the update again",
        )


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """A run that is ended on KFP's page ends its workers, too: within the seconds that its pod is given."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
