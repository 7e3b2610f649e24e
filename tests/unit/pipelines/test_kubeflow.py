"""Where KFP is, and who asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from upkeep.pipelines.kubeflow import IN_CLUSTER, Access, Kubeflow, access_of, token_of

from tests.kfp_server import KfpServer
from upkeep.errors import AccessError, InputError, OutsideError


def test_the_specs_word_goes_first_then_the_environment_then_the_cluster() -> None:
    both = {"KF_PIPELINES_ENDPOINT": "https://there/", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert access_of("http://here", both).endpoint == "http://here"
    assert access_of("", both).endpoint == "https://there"
    assert access_of("", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}).endpoint == IN_CLUSTER
    with pytest.raises(InputError, match="nothing says where Kubeflow Pipelines is") as caught:
        access_of("", {})
    assert "kubectl port-forward" in caught.value.problems[0].fix


def test_a_token_that_is_given_goes_before_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from the file\n")
    named = {"KF_PIPELINES_SA_TOKEN_PATH": str(tmp_path / "token")}
    assert token_of({"UPKEEP_KFP_TOKEN": " given ", **named})() == "given"
    read = token_of(named)
    assert read() == "from the file"
    (tmp_path / "token").write_text("rotated")
    assert read() == "rotated"


def test_a_file_that_is_named_must_be_there_and_kfps_own_need_not(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="the file that should hold the token for KFP is not there"):
        token_of({"KF_PIPELINES_SA_TOKEN_PATH": str(tmp_path / "nothing")})()
    assert token_of({})() == ""


def test_nobody_listens_there() -> None:
    slept: list[float] = []
    kubeflow = Kubeflow(Access("http://127.0.0.1:9", lambda: ""), sleep=slept.append)
    with pytest.raises(OutsideError, match="Kubeflow Pipelines does not answer") as caught:
        kubeflow.check()
    kubeflow.close()
    assert "port-forward" in caught.value.problems[0].fix
    assert slept == [0.5, 1.0, 2.0]


def test_https_where_http_is_spoken() -> None:
    server = KfpServer()
    with server.serving():
        access = Access(server.url.replace("http://", "https://"), lambda: "")
        kubeflow = Kubeflow(access, sleep=lambda _: None)
        with pytest.raises(OutsideError, match=r"does not answer: .*SSL"):
            kubeflow.check()
        kubeflow.close()


def test_the_token_is_read_for_each_request() -> None:
    server = KfpServer(users={"1": {"team"}, "2": {"team"}})
    tokens = iter("1222222222")
    with server.serving():
        kubeflow = Kubeflow(Access(server.url, lambda: next(tokens)), namespace="team", sleep=lambda _: None)
        kubeflow.check()
        kubeflow.experiment("e")
        kubeflow.close()
    assert [headers["authorization"] for _, headers, _ in server.requests] == ["Bearer 1", "Bearer 2", "Bearer 2"]
