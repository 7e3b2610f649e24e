"""Updates on Kubeflow Pipelines, over real HTTP against a server that answers as KFP's does: good days and bad ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from upkeep.pipelines import submit
from upkeep.pipelines.compile import compile_pipeline
from upkeep.pipelines.kubeflow import Kubeflow
from upkeep.pipelines.submit import follow, start, task_names

from tests.kfp_server import KfpServer
from tests.unit.pipelines.conftest import FakePods, World
from upkeep import records
from upkeep.errors import AccessError, ConflictError, DataError, InputError, OutsideError
from upkeep.evaluation.result import Verdict
from upkeep.serving.kubernetes.pods import Trouble
from upkeep.spec.load import canonical
from upkeep.spec.model import FineTune, Network
from upkeep.update.failure import step_error
from upkeep.update.record import UpdateRecord

STEPS = ("collect", "preprocess", "drift", "train", "train-2", "evaluate", "deploy")


def record(run: str, **changes: Any) -> UpdateRecord:
    return replace(
        UpdateRecord(
            update=run, model="delays", finished="2026-03-01T12:05:00+00:00", drift=None, chosen="boosting",
            verdict=Verdict(verdict="pass", summary="better", case="champion", reasons=()),
            champion="v1", outcome="proposed", message="v2 is proposed", version="v2", commit="c" * 40,
            repository="https://git.example.com/models.git", dataset="d", spec="s", page="s3://upkeep/page.html",
        ),
        **changes,
    )  # fmt: skip


def succeeds(world: World) -> None:
    """From now on each run goes through its steps, one more at each look, and leaves its record."""

    def begin(run: Any) -> None:
        def step(name: str, state: str) -> Callable[[Any], None]:
            return lambda found: world.server.set_state(found.run_id, "RUNNING", {name: state})

        def end(found: Any) -> None:
            left = records.to_json(record(found.run_id))
            world.place.registry.put_update(found.run_id, "record.json", left)
            world.server.set_state(found.run_id, "SUCCEEDED", {"root": "SUCCEEDED"})

        moves = [step(name, state) for name in STEPS for state in ("RUNNING", "SUCCEEDED")]
        world.server.plays[run.run_id] = [step("preprocess", "SKIPPED"), *moves, end]

    world.server.on_run = begin


def fails(world: World, task: str, state: str = "FAILED", *, left: Exception | None = None) -> None:
    """Each run fails in ``task``; ``left``: what its step could still write to the store."""

    def begin(run: Any) -> None:
        def end(found: Any) -> None:
            step = task.partition("-")[0]
            if left is not None:
                failure = records.to_json(step_error(step, left))
                world.place.registry.put_update(found.run_id, f"errors/{step}.json", failure)
            world.server.set_state(found.run_id, state, {task: "FAILED"})

        world.server.plays[run.run_id] = [end]

    world.server.on_run = begin


def run(world: World, **asked: Any) -> UpdateRecord:
    return follow(world.spec, world.place, start(world.spec, world.place, **asked).run)


# --- a good day ------------------------------------------------------------------------------------------------------


def test_a_run_is_started_followed_and_ends_as_upkeep_run_does(world: World) -> None:
    succeeds(world)
    started = start(world.spec, world.place, until="2026-02")
    assert follow(world.spec, world.place, started.run) == record(started.run)
    made = world.server.runs[started.run]
    digest = records.digest(canonical(world.spec))
    assert made.runtime_config.parameters == {
        "spec": f"memory:///delays/specs/{digest}.json",
        "spec_digest": digest,
        "until": "2026-02",
        "accept_changed": False,
        "supersede": False,
    }
    assert world.place.registry.get_spec(digest) == canonical(world.spec)
    assert started.page == f"{world.server.url}/#/runs/details/{started.run}"
    assert started.name.startswith("delays-20260301T120000Z-")
    assert ("preprocess", "unchanged: found in KFP's cache") in world.texts
    assert [step for step, text in world.texts if text == "done"] == [task_names(world.spec)[name] for name in STEPS]
    assert not any("driver" in step or step == "root" for step, _ in world.texts)


def test_pipeline_version_and_experiment_are_made_once(world: World) -> None:
    succeeds(world)
    for _ in range(3):
        run(world)
    (pipeline,), (version,), (experiment,) = (
        list(each.values()) for each in (world.server.pipelines, world.server.versions, world.server.experiments)
    )
    assert (pipeline.display_name, experiment.display_name) == ("delays-update", "delays")
    assert version.pipeline_spec["platform_spec"]["platforms"]["kubernetes"]
    assert len(world.server.runs) == 3
    moved = replace(world.spec.kubeflow, steps={})
    start(replace(world.spec, kubeflow=moved), world.place)
    assert len(world.server.versions) == 2
    assert len({each.runtime_config.parameters["spec_digest"] for each in world.server.runs.values()}) == 1


def test_kfp_numbers_the_tasks_as_we_think(tmp_path: Path, world: World) -> None:
    package = compile_pipeline(world.spec, tmp_path / "update.yaml")
    tasks = next(yaml.safe_load_all(package.read_text()))["root"]["dag"]["tasks"]
    assert {name: task["taskInfo"]["name"] for name, task in tasks.items()} == task_names(world.spec)


def test_words_of_the_spec_reach_the_run(server: KfpServer, world_of: Callable[..., World]) -> None:
    words = {"experiment": "team", "service_account": "runner", "root": "s3://roots/a", "page": "https://kfp.example/"}
    world = world_of(server, **words)
    started = start(world.spec, world.place)
    made = server.runs[started.run]
    assert (made.service_account, made.runtime_config.pipeline_root) == ("runner", "s3://roots/a")
    assert server.experiments[made.experiment_id].display_name == "team"
    assert started.page == f"https://kfp.example/#/runs/details/{started.run}"


def test_an_older_server(world_of: Callable[..., World]) -> None:
    server = KfpServer(old=True)
    with server.serving():
        world = world_of(server)
        succeeds(world)
        assert run(world).outcome == "proposed"
    assert server.surprises == []


# --- several users, and tokens ---------------------------------------------------------------------------------------


@pytest.fixture
def many() -> Any:
    server = KfpServer(users={"mine": {"team"}, "other": {"elsewhere"}})
    with server.serving():
        yield server
    assert server.surprises == []


def test_several_users(many: KfpServer, world_of: Callable[..., World]) -> None:
    world = world_of(many, token=lambda: "mine", namespace="team")
    succeeds(world)
    assert run(world).outcome == "proposed"
    assert {each.namespace for each in (*many.pipelines.values(), *many.experiments.values())} == {"team"}
    assert all(headers["authorization"] == "Bearer mine" for _, headers, _ in many.requests)


def test_without_a_namespace_it_says_which_word_is_missing(many: KfpServer, world_of: Callable[..., World]) -> None:
    world = world_of(many, token=lambda: "mine")
    with pytest.raises(InputError, match="several users, and the spec names no namespace") as caught:
        start(world.spec, world.place)
    assert caught.value.problems[0].where.field == "kubeflow.namespace"


@pytest.mark.parametrize("namespace", ["elsewhere", "nowhere"])
def test_a_namespace_that_is_not_ones_own_or_not_there(
    many: KfpServer, world_of: Callable[..., World], namespace: str
) -> None:
    world = world_of(many, token=lambda: "mine", namespace=namespace)
    with pytest.raises(AccessError, match=f"in the namespace {namespace}, or it is not there") as caught:
        start(world.spec, world.place)
    assert not caught.value.retry


def test_single_user_mode_is_not_told_of_a_namespace(server: KfpServer, world_of: Callable[..., World]) -> None:
    world = world_of(server, token=lambda: "whatever", namespace="team")
    start(world.spec, world.place)
    bodies = [body for _, _, body in server.requests if body]
    assert not any("namespace" in body for body in bodies)


@pytest.mark.parametrize(("token", "text"), [("", "asks who you are"), ("old", "does not take the token")])
def test_nobody_and_somebody_unknown(many: KfpServer, world_of: Callable[..., World], token: str, text: str) -> None:
    world = world_of(many, token=lambda: token, namespace="team")
    with pytest.raises(AccessError, match=text) as caught:
        start(world.spec, world.place)
    assert "KF_PIPELINES_SA_TOKEN_PATH" in caught.value.problems[0].fix


def test_a_token_that_ends_while_a_run_is_followed_is_read_anew(
    many: KfpServer, world_of: Callable[..., World]
) -> None:
    given = ["mine"]
    world = world_of(many, token=lambda: given[-1], namespace="team")
    succeeds(world)
    started = start(world.spec, world.place)
    plays = many.plays[started.run]

    def rotate(_: Any) -> None:
        many.users = {"next": {"team"}}
        given.append("next")

    plays.insert(3, rotate)
    assert follow(world.spec, world.place, started.run).outcome == "proposed"


def test_a_token_that_ends_for_good_says_how_to_go_on(many: KfpServer, world_of: Callable[..., World]) -> None:
    world = world_of(many, token=lambda: "mine", namespace="team")
    succeeds(world)
    started = start(world.spec, world.place)
    many.plays[started.run].insert(2, lambda _: setattr(many, "users", {}))
    with pytest.raises(AccessError, match="does not take the token") as caught:
        follow(world.spec, world.place, started.run)
    assert f"upkeep submit --follow {started.run}" in caught.value.__notes__[0]


# --- KFP's bad days --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 429, 503])
@pytest.mark.parametrize("operation", ["list_pipelines", "create_pipeline", "upload_pipeline_version", "list_exp",
                                       "create_experiment", "create_run", "get_run", "healthz"])  # fmt: skip
def test_one_bad_answer_costs_nothing(world: World, operation: str, status: int) -> None:
    succeeds(world)
    world.server.fail(operation, status)
    assert run(world).outcome == "proposed"
    assert world.server.faults == []
    assert [len(each) for each in (world.server.pipelines, world.server.versions, world.server.runs)] == [1, 1, 1]


@pytest.mark.parametrize("status", [0, 500, 502, 504])
@pytest.mark.parametrize("operation", ["create_pipeline", "upload_pipeline_version", "create_experiment", "create_run"])
def test_a_lost_reply_makes_nothing_twice(world: World, operation: str, status: int) -> None:
    succeeds(world)
    world.server.fail(operation, status, done=True)
    assert run(world).outcome == "proposed"
    made = (world.server.pipelines, world.server.versions, world.server.experiments, world.server.runs)
    assert [len(each) for each in made] == [1, 1, 1, 1]


def test_two_who_make_the_pipeline_at_once(world: World) -> None:
    """The other one's create comes between our look and ours: 409, without a reason in the body."""
    theirs = Kubeflow(world.place.kubeflow._access, sleep=world.clock.sleep)  # type: ignore[attr-defined]
    world.server.fail("create_pipeline", 409)
    theirs.pipeline("delays-update")
    theirs.close()
    succeeds(world)
    assert run(world).outcome == "proposed"


def test_it_waits_as_long_as_it_is_asked_to(world: World) -> None:
    world.server.fail("healthz", 429, headers={"Retry-After": "7"})
    start(world.spec, world.place)
    assert 7.0 in world.clock.slept


def test_kfp_away_for_good_is_told(world: World) -> None:
    world.server.fail("", 0, times=1000)
    with pytest.raises(OutsideError, match="Kubeflow Pipelines does not answer") as caught:
        start(world.spec, world.place)
    assert caught.value.retry
    assert caught.value.problems[0].where.file == world.server.url
    world.server.faults.clear()


def test_kfp_away_in_the_middle_of_a_run(world: World) -> None:
    succeeds(world)
    started = start(world.spec, world.place)
    world.server.fail("get_run", 503, times=30)
    assert follow(world.spec, world.place, started.run).outcome == "proposed"
    away = [text for step, text in world.texts if step == "kubeflow"]
    assert away
    assert all(text.startswith("away: Kubeflow Pipelines failed (503)") for text in away)
    assert max(world.clock.slept) == submit.LONGEST_WAIT


def test_kfp_away_for_too_long_says_how_to_go_on(world: World) -> None:
    succeeds(world)
    started = start(world.spec, world.place)
    world.server.fail("get_run", 0, times=100_000)
    with pytest.raises(OutsideError, match="does not answer") as caught:
        follow(world.spec, world.place, started.run)
    assert caught.value.__notes__ == [
        f"the run goes on by itself; follow it again: upkeep submit --follow {started.run}"
    ]
    world.server.faults.clear()
    assert follow(world.spec, world.place, started.run).outcome == "proposed"


def test_a_run_that_is_not_there(world: World) -> None:
    with pytest.raises(InputError, match="it is not there"):
        follow(world.spec, world.place, "0b1c62ab-6b5a-4f2b-9a39-3a3f0f0f4d11")


def test_another_models_run(world: World) -> None:
    started = start(world.spec, world.place)
    world.server.set_state(started.run, "SUCCEEDED")
    with pytest.raises(InputError, match="left no record of an update of delays in this store"):
        follow(world.spec, world.place, started.run)


@pytest.mark.parametrize("status", [200, 302])
def test_a_log_in_page(world: World, status: int) -> None:
    world.server.fail("", status, times=9, message="<html>log in</html>", headers={"Location": "/login"})
    with pytest.raises(AccessError, match=r"a page for people answers there|asks who you are") as caught:
        start(world.spec, world.place)
    assert "UPKEEP_KFP_TOKEN" in caught.value.problems[0].fix
    world.server.faults.clear()


def test_what_kfp_will_not_take_is_told_in_its_own_words(world: World) -> None:
    world.server.fail("create_run", 400, message="parameters are not defined in the pipeline: nonsense")
    with pytest.raises(InputError, match="parameters are not defined in the pipeline: nonsense"):
        start(world.spec, world.place)


# --- what cannot run there -------------------------------------------------------------------------------------------


def test_every_address_that_no_pod_reaches_at_once(world: World) -> None:
    here = replace(
        world.spec,
        store="/home/me/store",
        data=replace(world.spec.data, source="file:///data"),
        rollout=replace(world.spec.rollout, repository="/home/me/models.git"),
    )
    with pytest.raises(InputError) as caught:
        start(here, world.place)
    fields = [problem.where.field for problem in caught.value.problems]
    assert fields == ["store", "data.source", "rollout.repository"]
    assert world.server.requests == []


def test_workers_where_the_cluster_can_start_none(world: World) -> None:
    net = FineTune(name="net", strategy="fine_tune", network=Network(), devices="workers")
    wanting = replace(world.spec, candidates=(*world.spec.candidates, net))
    with pytest.raises(InputError, match="the cluster knows no TFJobs") as caught:
        start(wanting, replace(world.place, pods=FakePods(workers=False)))
    assert caught.value.problems[0].where.field == "candidates[net].devices"
    assert world.server.requests == []
    for pods in (None, FakePods()):  # nobody can look; or they are known
        submit.refuse_workers_without_operator(wanting, pods)
    submit.refuse_workers_without_operator(world.spec, FakePods(workers=False))


def test_git_by_ssh_is_reached(world: World) -> None:
    ssh = replace(world.spec, rollout=replace(world.spec.rollout, repository="git@git.example.com:models.git"))
    submit.refuse_what_is_only_here(ssh)


def test_a_pipeline_too_large_is_refused_before_anything_is_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "LARGEST_PIPELINE", 30_000)
    with pytest.raises(InputError, match=r"too large for Kubeflow: .* and a workflow has room for 30,000") as caught:
        start(world.spec, world.place)
    assert caught.value.problems[0].where.field == "candidates"
    assert world.server.requests == []


def test_a_parameter_too_long_is_refused_before_anything_is_sent(world: World) -> None:
    with pytest.raises(InputError, match="until is too long for Kubeflow: 200,000 characters"):
        start(world.spec, world.place, until="x" * 200_000)
    assert world.server.requests == []


def test_names_at_kubernetes_limits(world: World) -> None:
    """The longest model name that `upkeep check` lets through, and the longest candidate's."""
    name = "m" * 40
    longest = replace(
        world.spec,
        metadata=replace(world.spec.metadata, name=name),
        candidates=(replace(world.spec.candidates[0], name="c" * 40),),
        kubeflow=replace(world.spec.kubeflow, steps={}),
    )
    started = start(
        longest, replace(world.place, registry=type(world.place.registry)(world.place.registry.store, name))
    )
    assert all(len(part) <= 63 for part in (f"{name}-update", started.name.rpartition("-")[2]))
    assert len(started.name) <= 128


# --- a step that failed ----------------------------------------------------------------------------------------------


def test_a_components_own_words_come_from_the_store(world: World) -> None:
    fails(world, "preprocess", left=DataError("column delayed is empty", fix="fill it"))
    with pytest.raises(DataError, match="column delayed is empty") as caught:
        run(world)
    assert caught.value.exit_code == 2
    assert caught.value.problems[0].fix == "fill it"


def test_words_of_a_step_that_went_well_in_the_end_are_not_the_reason(world: World) -> None:
    """A first try left them; the second went well, and another step was killed."""
    fails(world, "train")
    started = start(world.spec, world.place)
    old = records.to_json(step_error("preprocess", DataError("the first try")))
    world.place.registry.put_update(started.run, "errors/preprocess.json", old)
    with pytest.raises(OutsideError, match="the step train boosting failed without a word"):
        follow(world.spec, world.place, started.run)


def test_without_a_word_and_without_pods_it_says_where_to_look(world: World) -> None:
    fails(world, "train-2")
    started = start(world.spec, world.place)
    with pytest.raises(OutsideError, match="the step train linear failed without a word") as caught:
        follow(world.spec, replace(world.place, pods=None), started.run)
    assert f"-l pipeline/runid={started.run}" in caught.value.problems[0].fix
    assert "UPKEEP_KUBE_CONTEXT" in caught.value.problems[0].fix
    left = records.from_json(UpdateRecord, world.place.registry.get_update(started.run, "record.json"))
    assert (left.outcome, left.failed and left.failed.step) == ("failed", "train")
    assert world.place.registry.get_update(started.run, "page.html")


def pods(*found: Trouble) -> FakePods:
    return FakePods(list(found))


MEMORY = Trouble(pod="p", task="train", message="it was killed for want of memory (OOMKilled): it had 2Gi",
                 fix="give it more", ends=True)  # fmt: skip
IMAGE = Trouble(pod="p", task="collect", message="the image a:1 cannot be pulled (ImagePullBackOff)",
                fix="see the image's name", ends=False)  # fmt: skip


def test_memory_that_ran_out_is_said_plainly(world: World) -> None:
    fails(world, "train")
    started = start(world.spec, world.place)
    with pytest.raises(OutsideError, match=r"train boosting failed: it was killed for want of memory .* it had 2Gi"):
        follow(world.spec, replace(world.place, pods=pods(MEMORY)), started.run)
    left = records.from_json(UpdateRecord, world.place.registry.get_update(started.run, "record.json"))
    assert "OOMKilled" in left.verdict.summary


def test_an_image_that_cannot_be_pulled_is_told_at_once_and_ends_following(world: World) -> None:
    started = start(world.spec, world.place)
    with pytest.raises(OutsideError, match="the step collect waits: the image a:1 cannot be pulled") as caught:
        follow(world.spec, replace(world.place, pods=pods(IMAGE)), started.run)
    assert world.texts == [("collect", IMAGE.message)]
    assert "submit again" in caught.value.problems[0].fix
    assert sum(world.clock.slept) == pytest.approx(submit.QUIET + submit.STUCK, abs=2 * submit.EVERY)


def test_an_image_that_comes_at_last_ends_nothing(world: World) -> None:
    waits = pods(IMAGE)
    succeeds(world)
    started = start(world.spec, world.place)
    still: list[Callable[[Any], None]] = [lambda _: None] * 20
    world.server.plays[started.run] = [*still, lambda _: waits.found.clear(), *world.server.plays[started.run]]
    assert follow(world.spec, replace(world.place, pods=waits), started.run).outcome == "proposed"


def test_a_cluster_that_cannot_be_looked_at_stops_nothing(world: World) -> None:
    blind = FakePods(error=OutsideError("away"))
    succeeds(world)
    started = start(world.spec, world.place)
    still: list[Callable[[Any], None]] = [lambda _: None] * 20
    world.server.plays[started.run] = [*still, *world.server.plays[started.run]]
    assert follow(world.spec, replace(world.place, pods=blind), started.run).outcome == "proposed"


def test_a_run_that_somebody_ended(world: World) -> None:
    fails(world, "train", "CANCELED")
    with pytest.raises(OutsideError, match="the run was ended by somebody"):
        run(world)


# --- one at a time ---------------------------------------------------------------------------------------------------


def holds(world: World, run: str) -> None:
    """What collect of ``run`` does first."""
    with world.place.registry.take_part(run, first=True, last=False, now=world.clock):
        pass


def test_while_a_run_is_under_way_the_second_is_refused_and_names_it(world: World) -> None:
    first = start(world.spec, world.place)
    with pytest.raises(ConflictError, match=f"{first.run} is at work on this model") as caught:
        start(world.spec, world.somebody_else())
    (problem,) = caught.value.problems
    assert f"upkeep submit --follow {first.run}" in problem.fix
    assert problem.where.file == first.page
    holds(world, first.run)
    with pytest.raises(ConflictError, match=f"{first.run} is at work on this model"):
        start(world.spec, world.somebody_else())
    assert len(world.server.runs) == 1


def test_an_update_on_somebodys_machine_is_waited_for(world: World) -> None:
    holds(world, "20260301T120000Z-abcdef")
    with pytest.raises(ConflictError, match="20260301T120000Z-abcdef is at work") as caught:
        start(world.spec, world.place)
    assert "wait until it is done" in caught.value.problems[0].fix


@pytest.mark.parametrize("state", ["FAILED", "CANCELED"])
def test_the_lock_of_a_run_that_died_is_freed(world: World, state: str) -> None:
    first = start(world.spec, world.place)
    holds(world, first.run)
    world.server.set_state(first.run, state, {"train": "FAILED"})
    assert start(world.spec, world.place).run != first.run


def test_who_follows_a_run_that_is_killed_frees_its_lock(world: World) -> None:
    fails(world, "train")
    started = start(world.spec, world.place)
    holds(world, started.run)
    with pytest.raises(OutsideError):
        follow(world.spec, world.place, started.run)
    assert world.place.registry.holder() is None


def test_a_run_that_is_retried_on_kfps_page_goes_on_unless_another_came(world: World) -> None:
    fails(world, "train")
    started = start(world.spec, world.place)
    holds(world, started.run)
    with pytest.raises(OutsideError):
        follow(world.spec, world.place, started.run)
    registry = world.place.registry
    with registry.take_part(started.run, first=False, last=False, now=world.clock):
        assert registry.holder() is not None
    world.server.set_state(started.run, "FAILED")
    other = start(world.spec, world.place)
    holds(world, other.run)
    with (
        pytest.raises(ConflictError, match=f"{started.run} lost the lock: {other.run} has it"),
        registry.take_part(started.run, first=False, last=False, now=world.clock),
    ):
        raise AssertionError("two updates of a model at once")


def test_two_people_at_the_same_moment(world: World) -> None:
    """Both look, and see nobody; both start a run. The lock lets one go on, and the other hears who that is."""
    both, lock = threading.Barrier(2), threading.Lock()
    inside: list[str] = []
    refuse = submit.refuse_second

    def at_once(spec: Any, place: Any, there: Any) -> None:
        refuse(spec, place, there)
        both.wait(20)

    def collect(run: Any) -> None:
        """What the first step of each run does: take the lock, or leave its failure and end."""

        def begin(found: Any) -> None:
            try:
                holds(world, found.run_id)
            except ConflictError as error:
                left = records.to_json(step_error("collect", error))
                world.place.registry.put_update(found.run_id, "errors/collect.json", left)
                world.server.set_state(found.run_id, "FAILED", {"collect": "FAILED"})
                return
            with lock:
                inside.append(found.run_id)
            world.place.registry.put_update(found.run_id, "record.json", records.to_json(record(found.run_id)))
            world.server.plays[found.run_id] = [
                *[lambda _: None] * 3,
                lambda again: world.server.set_state(again.run_id, "SUCCEEDED", {"collect": "SUCCEEDED"}),
            ]

        world.server.plays[run.run_id] = [begin]

    world.server.on_run = collect

    def person(_: int) -> Any:
        try:
            return run(world)
        except ConflictError as error:
            return str(error)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as two:
        patch.setattr(submit, "refuse_second", at_once)
        answers: Sequence[Any] = list(two.map(person, range(2)))
    won, lost = sorted(answers, key=lambda each: isinstance(each, str))
    assert inside == [won.update]
    assert f"{won.update} is at work on this model" in lost
