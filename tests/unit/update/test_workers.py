"""The train step and its workers: what it starts, how it follows it, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from upkeep.pipelines.needs import needs_of
from upkeep.pipelines.workers import tfjob

from tests.unit.data import make
from upkeep.errors import AccessError, DataError, InputError, OutsideError, UpkeepError
from upkeep.registry.registry import Registry
from upkeep.serving.kubernetes.api import Api
from upkeep.serving.kubernetes.fake import FakeKubernetes, refusal
from upkeep.serving.kubernetes.paths import PODS, TFJOBS, path
from upkeep.spec.model import FineTune, Kubeflow, Network, StepNeeds
from upkeep.store import open_store
from upkeep.update import workers
from upkeep.update.context import Context
from upkeep.update.failure import step_error
from upkeep.update.handover import Handover, Told
from upkeep.update.workers import JOB_LABEL, job_name, train_on_workers

NET = FineTune(name="net", strategy="fine_tune", network=Network(hidden=(2,)), devices="workers")
POD = {
    "UPKEEP_POD_NAMESPACE": "team",
    "UPKEEP_POD_NAME": "toy-update-1",
    "UPKEEP_POD_UID": "5d1f",
    "UPKEEP_POD_ACCOUNT": "pipeline-runner",
}
NAME = job_name("toy", "net", "run-1")
JOB = path(TFJOBS, "team", NAME)


class World:
    """A cluster on which something happens whenever the step waits: ``then``, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.server, self.time, self.rows = FakeKubernetes(), 0.0, folder / "rows"
        self.api = Api(self.server.client(), tries=1, sleep=lambda _: None)
        spec = replace(
            make.spec(folder, candidates=(NET,)),
            store=str(folder / "store"),
            kubeflow=Kubeflow(steps={"train": StepNeeds(workers=3, memory="2Gi")}),
        )
        self.registry = Registry(open_store(spec.store), "toy")
        self.context = Context(spec, "0" * 64, "run-1", self.registry, "train")
        self.handover = Handover(self.registry.store, f"toy/workers/{NAME}")
        self.template = tfjob(spec, needs_of(spec, "train", "net"), {})
        self.environ = {**POD, workers.JOB_VARIABLE: json.dumps(self.template)}
        self.then: Iterator[Callable[[], object]] = iter(())
        self.made: dict[str, Any] = {}
        self.rows.mkdir(parents=True)
        (self.rows / "summary.json").write_text("{}")

    def sleep(self, seconds: float) -> None:
        self.made = self.server.objects.get(JOB, self.made)
        self.time += seconds
        next(self.then, lambda: None)()

    def train(self, *then: Callable[[], object]) -> str:
        self.then = iter(then)
        return train_on_workers(
            self.context, self.rows, champion="v3", candidate="net", states={"net": "s"}, members={},
            environ=self.environ, sleep=self.sleep, clock=lambda: self.time,
        )  # fmt: skip

    def status(self, kind: str, active: int = 0, message: str = "") -> Callable[[], object]:
        said = {"type": kind, "status": "True", "message": message}
        counts = {"Worker": {"active": active}}
        return lambda: self.api.patch(JOB, {"status": {"conditions": [said], "replicaStatuses": counts}})

    def pod(self, status: dict[str, Any]) -> Callable[[], object]:
        pod = {"metadata": {"name": f"{NAME}-worker-0", "labels": {JOB_LABEL: NAME}}, "status": status}
        return lambda: self.api.create(path(PODS, "team"), pod)

    def left(self) -> tuple[list[str], list[str]]:
        """Jobs, and what of the handover."""
        jobs = [name for name in self.server.objects if "/tfjobs/" in name]
        return jobs, [entry.key for entry in self.registry.store.list("toy/workers")]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    monkeypatch.setattr(workers, "open_api", lambda _: made.api)
    return made


def all_of(*events: Callable[[], object]) -> Callable[[], object]:
    return lambda: [event() for event in events]


def test_it_starts_them_tells_how_far_they_are_and_takes_the_record(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def half() -> None:
        inputs = world.handover.inputs()
        seen.append((inputs.champion, inputs.candidate, inputs.states))
        world.handover.tell(Told(text="epoch 1 of 2", share=0.5))

    ends = all_of(lambda: world.handover.leave("abc"), world.status("Succeeded"))
    assert world.train(lambda: None, all_of(half, world.status("Running", 3)), lambda: None, ends) == "abc"
    assert seen == [("v3", "net", {"net": "s"})]
    assert capsys.readouterr().out.count('"epoch 1 of 2", "share": 0.5') == 1
    assert world.left() == ([], [])
    assert world.made["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Pod", "name": "toy-update-1", "uid": "5d1f"}
    ]
    worker = world.made["spec"]["tfReplicaSpecs"]["Worker"]
    pod = worker["template"]["spec"]
    assert (worker["replicas"], pod["serviceAccountName"]) == (3, "pipeline-runner")
    assert pod["containers"][0]["args"] == [world.handover.address]


def test_the_job_of_an_earlier_try_is_ended_first(world: World) -> None:
    ends = all_of(lambda: world.handover.leave("abc"), world.status("Succeeded"))
    assert world.train(world.status("Running", 3), ends) == "abc"

    world.api.create(
        path(TFJOBS, "team"), world.made | {"metadata": {"name": NAME, "labels": {"of": "an earlier try"}}}
    )
    world.handover.leave("what it left")
    assert world.train(lambda: None, ends) == "abc"
    assert "of" not in world.made["metadata"]["labels"]


def test_a_job_that_does_not_go_is_not_waited_for_without_end(world: World) -> None:
    world.api.create(path(TFJOBS, "team"), {"metadata": {"name": NAME}})

    class Stays(Api):
        def delete(self, path: str) -> None: ...

    world.api.__class__ = Stays
    with pytest.raises(OutsideError, match="earlier try of this step do not end"):
        world.train()


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (DataError("a row is wrong", fix="mend it"), True),
        (ZeroDivisionError("a bug"), True),
        (AccessError("no credentials"), True),
        (OutsideError("another worker does not answer"), False),
    ],
)
def test_what_a_worker_says_ends_it_where_another_start_is_no_use(world: World, error: Exception, ends: bool) -> None:
    fails = all_of(world.status("Running", 3), lambda: world.handover.fail(1, step_error("train", error)))
    failed = world.status("Failed", message="backoff limit")
    with pytest.raises(UpkeepError, match=str(error)) as raised:
        world.train(fails, failed)
    assert raised.value.retry is not ends
    assert world.left() == ([], [])


def test_a_worker_that_is_killed_for_memory_is_told_before_what_the_others_say_of_it(world: World) -> None:
    lost = step_error("train", OutsideError("another worker does not answer"))
    oom = {"containerStatuses": [{"name": "tensorflow", "state": {"terminated": {"reason": "OOMKilled"}}}]}
    gone = all_of(lambda: world.api.delete(path(PODS, "team", f"{NAME}-worker-0")), world.status("Failed"))
    with pytest.raises(OutsideError, match="OOMKilled") as raised:
        world.train(all_of(world.pod(oom), lambda: world.handover.fail(1, lost)), gone)
    assert "kubeflow.steps: {train net: {memory: …}}" in raised.value.problems[0].fix


@pytest.mark.parametrize("words", ["Illegal instruction (core dumped)", ""])
def test_workers_that_end_without_a_word_of_their_own(world: World, words: str) -> None:
    ended = {"containerStatuses": [{"state": {"terminated": {"exitCode": 132, "message": words}}}]}
    failed = world.status("Failed", message="TFJob has failed: backoff limit")
    with pytest.raises(OutsideError) as raised:
        world.train(all_of(world.pod(ended), failed))
    (problem,) = raised.value.problems
    assert problem.message == f"the workers ended and left no model: {words or 'TFJob has failed: backoff limit'}"
    assert str(problem.where) == f"TFJob team/{NAME}"


def test_workers_that_end_well_and_leave_nothing_are_no_success(world: World) -> None:
    with pytest.raises(OutsideError, match="left no model"):
        world.train(world.status("Succeeded"))


def test_workers_that_do_not_come_are_told_and_then_given_up(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = {"conditions": [{"type": "PodScheduled", "reason": "Unschedulable", "message": "0/3 nodes have a GPU"}]}
    with pytest.raises(OutsideError, match=r"1 of 3 workers run after 30 minutes: .*0/3 nodes have a GPU"):
        world.train(all_of(world.pod(nodes), world.status("Created", 1)))
    assert workers.LONGEST_START <= world.time < workers.LONGEST_START + 3 * workers.EVERY
    assert capsys.readouterr().out.count("0/3 nodes have a GPU") == 1
    assert world.left() == ([], [])


def test_workers_that_are_lost_and_come_back_have_the_time_again(world: World) -> None:
    def later() -> None:
        world.time += workers.LONGEST_START - 60

    came = (world.status("Running", 3), all_of(world.status("Restarting", 2), later), world.status("Running", 3))
    ends = all_of(lambda: world.handover.leave("abc"), world.status("Succeeded", 2))
    assert world.train(later, *came, later, all_of(world.status("Restarting", 0), later), ends) == "abc"


def test_somebody_deletes_them(world: World) -> None:
    with pytest.raises(OutsideError, match="somebody deleted the workers"):
        world.train(world.status("Running", 3), lambda: world.api.delete(JOB))


def test_an_api_server_that_is_away_for_a_while_is_waited_for(world: World) -> None:
    def away(_: str, path: str) -> None:
        if path == JOB and world.time < 600:
            raise refusal(503)

    def goes() -> None:
        world.server.before = away

    def ends() -> None:
        world.time = 600
        world.handover.leave("abc")
        world.status("Succeeded")()

    assert world.train(goes, lambda: None, ends) == "abc"


def test_an_api_server_that_stays_away_is_not(world: World) -> None:
    def away(method: str, _: str) -> None:
        if method == "GET":
            raise refusal(503)

    def goes() -> None:
        world.server.before = away

    with pytest.raises(OutsideError, match="503"):
        world.train(goes)
    assert workers.PATIENCE < world.time < workers.PATIENCE + 3 * workers.EVERY
    assert world.left() == ([], [])


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (404, InputError, "the cluster knows no TFJobs"),
        (403, AccessError, "the step may not start workers: no permission: tfjobs is forbidden"),
    ],
)
def test_a_cluster_that_will_not_have_it_is_told_before_the_rows_are_sent(
    world: World, status: int, kind: type[UpkeepError], said: str
) -> None:
    def refuses(method: str, _: str) -> None:
        if method == "POST":
            raise refusal(status, "tfjobs is forbidden")

    world.server.before = refuses
    (world.rows / "summary.json").unlink()  # without rows they cannot be sent
    with pytest.raises(kind, match=said):
        world.train()
    assert world.left() == ([], [])


def test_where_nothing_starts_workers_it_says_where_they_are_started(world: World) -> None:
    del world.environ[workers.JOB_VARIABLE]
    with pytest.raises(InputError, match="here nothing starts workers") as raised:
        world.train()
    assert "upkeep submit" in raised.value.problems[0].fix


def test_a_run_that_is_ended_on_its_page_ends_its_workers(world: World) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        world.train(world.status("Running", 3), lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert world.left() == ([], [])
    assert signal.getsignal(signal.SIGTERM) is before


def test_its_name_is_the_trys_own_and_short_enough_for_a_worker() -> None:
    names = {job_name("m" * 40, "c" * 40, "run-1"), job_name("m" * 40, "c" * 40, "run-2"), job_name("a", "b", "run-1")}
    assert len(names) == 3
    assert all(len(f"{name}-worker-9999") <= 63 for name in names)
