"""The KFP of our own is as peculiar as the real one (2.17.0), and KFP's own client works against it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import kfp_server_api
import pytest
from upkeep.pipelines import submit

from tests.kfp_server import ROUTES, KfpServer
from tests.unit.pipelines.conftest import World

PARAMETERS = {"spec": "s3://a/specs/b.json", "spec_digest": "b"}


@pytest.fixture
def client(server: KfpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """KFP's own, as people have it."""
    from kfp.client import Client

    monkeypatch.setattr(Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # each new one says that it is for KFP 2
        made = Client(host=server.url)
    yield made
    made._run_api.api_client.rest_client.pool_manager.clear()


@pytest.fixture
def package(world: World, tmp_path: Path) -> str:
    return str(submit.compile_pipeline(world.spec, tmp_path / "update.yaml"))


@pytest.fixture
def uploaded(client: Any, package: str) -> Any:
    made = client.upload_pipeline(package, pipeline_name="p")
    return client.upload_pipeline_version(package, "v", pipeline_id=made.pipeline_id)


def status(call: Any, *words: Any, **more: Any) -> tuple[int, str]:
    with pytest.raises(kfp_server_api.ApiException) as caught:
        call(*words, **more)
    return caught.value.status, json.loads(caught.value.body)["message"]


def test_every_operation_of_the_client_is_known() -> None:
    assert len(ROUTES) == len({route.operation for route in ROUTES}) == 35
    for wanted in ("run_service_create_run", "upload_pipeline_version", "recurring_run_service_disable_recurring_run"):
        (route,) = (each for each in ROUTES if each.operation == wanted)
        assert route.verb == "POST"
    (create,) = (each for each in ROUTES if each.operation == "run_service_create_run")
    assert create.body == "V2beta1Run"


def test_kfps_own_client_uploads_runs_and_waits(server: KfpServer, client: Any, uploaded: Any) -> None:
    experiment = client.create_experiment("e")
    run = client.run_pipeline(
        experiment.experiment_id, "r", pipeline_id=uploaded.pipeline_id, version_id=uploaded.pipeline_version_id,
        params=PARAMETERS,
    )  # fmt: skip
    server.plays[run.run_id] = [lambda found: server.set_state(found.run_id, "SUCCEEDED")]
    assert client.wait_for_run_completion(run.run_id, timeout=5, sleep_duration=1).state == "SUCCEEDED"
    assert [each.run_id for each in client.list_runs(experiment_id=experiment.experiment_id).runs] == [run.run_id]


def test_single_user_mode_takes_any_namespace_and_any_token(server: KfpServer, client: Any) -> None:
    made = client.create_experiment("e", namespace="nowhere")
    assert made.experiment_id == client.get_experiment(experiment_name="e").experiment_id


def test_runs_and_recurring_runs_of_one_name_are_two(client: Any, uploaded: Any) -> None:
    experiment = client.create_experiment("e").experiment_id
    of = {"pipeline_id": uploaded.pipeline_id, "version_id": uploaded.pipeline_version_id, "params": PARAMETERS}
    runs = {client.run_pipeline(experiment, "r", **of).run_id for _ in range(2)}
    recurring = {
        client.create_recurring_run(experiment, "r", cron_expression="0 3 * * *", **of).recurring_run_id
        for _ in range(2)
    }
    assert (len(runs), len(recurring)) == (2, 2)


def test_a_second_pipeline_or_version_of_one_name_is_409_without_a_reason(
    client: Any, package: str, uploaded: Any
) -> None:
    assert status(client.upload_pipeline, package, pipeline_name="p") == (409, "")
    again = status(client.upload_pipeline_version, package, "v", pipeline_id=uploaded.pipeline_id)
    assert again == (409, "")


def test_a_version_that_is_not_there_is_500(client: Any, uploaded: Any) -> None:
    assert status(client.get_pipeline_version, uploaded.pipeline_id, "nothing")[0] == 500


def test_the_id_of_a_pipeline_that_is_not_there_is_none(client: Any) -> None:
    assert client.get_pipeline_id("nothing") is None


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({**PARAMETERS, "nonsense": 1}, "not defined in the pipeline: nonsense"),
        ({**PARAMETERS, "supersede": "yes"}, "supersede requires type BOOLEAN"),
        ({"spec": "s"}, "spec_digest requires type STRING"),
    ],
)
def test_wrong_parameters_are_400_with_a_sentence(
    client: Any, uploaded: Any, parameters: dict[str, Any], sentence: str
) -> None:
    experiment = client.create_experiment("e").experiment_id
    of = {"pipeline_id": uploaded.pipeline_id, "version_id": uploaded.pipeline_version_id, "params": parameters}
    code, said = status(client.run_pipeline, experiment, "r", **of)
    assert code == 400
    assert sentence in said


def test_200_kb_are_taken_and_fail_in_the_driver_and_3_mb_are_refused(
    server: KfpServer, client: Any, uploaded: Any
) -> None:
    experiment = client.create_experiment("e").experiment_id
    of = {"pipeline_id": uploaded.pipeline_id, "version_id": uploaded.pipeline_version_id}
    run = client.run_pipeline(experiment, "r", params={**PARAMETERS, "until": "x" * 200_000}, **of)
    found = client.get_run(run.run_id)
    assert (found.state, found.error) == ("FAILED", None)
    assert all(task.error is None for task in found.run_details.task_details)
    code, said = status(client.run_pipeline, experiment, "r", params={**PARAMETERS, "until": "x" * 3_000_000}, **of)
    assert (code, said) == (400, "grpc: received message larger than max")


def test_deleting_a_recurring_run_kills_its_runs(server: KfpServer, client: Any, uploaded: Any) -> None:
    experiment = client.create_experiment("e").experiment_id
    of = {"pipeline_id": uploaded.pipeline_id, "version_id": uploaded.pipeline_version_id, "params": PARAMETERS}
    made = client.create_recurring_run(experiment, "r", cron_expression="0 * * * * *", **of)
    (run,) = server.tick(server.now + timedelta(minutes=5))
    client.delete_recurring_run(made.recurring_run_id)
    assert client.get_run(run).state == "FAILED"


def test_lists_come_in_pages(client: Any) -> None:
    for number in range(7):
        client.create_experiment(f"e{number}")
    first = client.list_experiments(page_size=5)
    rest = client.list_experiments(page_size=5, page_token=first.next_page_token)
    assert (len(first.experiments), len(rest.experiments), rest.next_page_token) == (5, 2, None)


# --- strict ----------------------------------------------------------------------------------------------------------


def ask(url: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None) -> int:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize(
    ("path", "body", "headers", "surprise"),
    [
        ("/apis/v1beta1/runs", None, {}, "unknown path: GET /apis/v1beta1/runs"),
        ("/apis/v2beta1/runs?nonsense=1", None, {}, "unknown query of run_service_list_runs: nonsense"),
        ("/apis/v2beta1/runs", {"nonsense": 1}, {}, 'unknown field "V2beta1Run.nonsense"'),
        ("/apis/v2beta1/runs", {"runtime_config": {"x": 1}}, {}, 'unknown field "V2beta1RuntimeConfig.x"'),
        ("/apis/v2beta1/runs", {"display_name": 1}, {}, "V2beta1Run.display_name: 1 is no text"),
        ("/apis/v2beta1/recurringruns", {"mode": "ON"}, {}, "V2beta1RecurringRun.mode: 'ON' is none of its words"),
        ("/apis/v2beta1/runs", None, {"Cookie": "a=b"}, "a cookie"),
        ("/apis/v2beta1/runs/a:retry", {}, {}, "nobody taught this server run_service_retry_run"),
    ],
)
def test_what_it_does_not_know_fails_the_test_that_asked(
    path: str, body: dict[str, Any] | None, headers: dict[str, str], surprise: str
) -> None:
    server = KfpServer()
    with server.serving():
        assert ask(server.url + path, body, headers) >= 400
    assert server.surprises == [surprise]


def test_an_old_server_does_not_know_what_is_newer() -> None:
    server = KfpServer(old=True)
    with server.serving():
        assert ask(f"{server.url}/apis/v2beta1/pipelines", {"name": "p"}) == 400
        assert ask(f"{server.url}/apis/v2beta1/pipelines", {"display_name": "p"}) == 200
    assert server.surprises == ['unknown field "V2beta1Pipeline.name"']
