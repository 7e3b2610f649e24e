"""``upkeep submit`` and ``schedule``: words in, the same answer as ``upkeep run`` gives, the same exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from upkeep.pipelines import submit

from tests.kfp_server import KfpServer
from tests.unit.pipelines.test_submit import record
from upkeep import records
from upkeep.cli.main import main
from upkeep.registry.registry import Registry
from upkeep.store import Store, open_store

SPEC = Path(__file__).parents[1] / "pipelines" / "kubeflow.yaml"


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


@pytest.fixture
def call(
    server: KfpServer,
    store: Store,
    compiled_once: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    """The command line against the server; its exit code, output and errors."""
    document = yaml.safe_load(SPEC.read_text())
    document["kubeflow"]["endpoint"] = server.url
    document["monitoring"] = {"update_when": {"schedule": "0 3 * * *"}}
    path = tmp_path / "upkeep.yaml"
    path.write_text(yaml.safe_dump(document))
    monkeypatch.delenv("UPKEEP_PRIVACY_KEY", raising=False)  # pods get it from a Secret
    monkeypatch.delenv("UPKEEP_KUBE_CONTEXT", raising=False)
    monkeypatch.setattr(submit, "open_store", lambda *_: store)
    monkeypatch.setattr(submit, "EVERY", 0.01)

    def run(command: str, *words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([command, "--spec", str(path), *words])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return run


def ends_with(server: KfpServer, store: Store, verdict: str = "pass", state: str = "SUCCEEDED") -> None:
    def begin(run: Any) -> None:
        left = record(run.run_id)
        left = replace(left, verdict=replace(left.verdict, verdict=verdict))  # type: ignore[arg-type]
        Registry(store, "delays").put_update(run.run_id, "record.json", records.to_json(left))
        server.plays[run.run_id] = [lambda found: server.set_state(found.run_id, state, {"collect": state})]

    server.on_run = begin


Call = Callable[..., tuple[int, str, str]]


def test_the_answer_is_that_of_upkeep_run(call: Call, server: KfpServer, store: Store) -> None:
    ends_with(server, store)
    code, out, err = call("submit", "--output", "json")
    (run,) = server.runs
    assert (code, json.loads(out), err) == (0, json.loads(records.to_json(record(run))), "")


def test_people_see_the_page_and_the_steps_as_they_go(call: Call, server: KfpServer, store: Store) -> None:
    ends_with(server, store)
    code, out, err = call("submit")
    (run,) = server.runs
    assert code == 0
    assert "✓ pass  better" in out
    assert f"run {run}: {server.url}/#/runs/details/{run}" in err
    assert "collect     done" in err


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("insufficient", 1)])
def test_fail_on_gate(call: Call, server: KfpServer, store: Store, verdict: str, code: int) -> None:
    ends_with(server, store, verdict)
    assert call("submit", "--fail-on-gate")[0] == code


def test_detach_and_follow(call: Call, server: KfpServer, store: Store) -> None:
    ends_with(server, store)
    code, out, _ = call("submit", "--detach", "--output", "json")
    started = json.loads(out)
    assert (code, list(started)) == (0, ["run", "name", "page"])
    assert server.runs[started["run"]].state == "PENDING"
    code, out, _ = call("submit", "--follow", started["run"])
    assert (code, "✓ pass" in out) == (0, True)
    assert len(server.runs) == 1


def test_a_run_that_failed_is_words_and_a_code(call: Call, server: KfpServer, store: Store) -> None:
    ends_with(server, store, state="FAILED")
    code, _, err = call("submit")
    assert code == 3
    assert "the step collect failed without a word" in err
    assert "Traceback" not in err


def test_ctrl_c_ends_the_following_and_not_the_run(
    call: Call, server: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(submit, "follow", stopped)
    code, _, err = call("submit")
    (run,) = server.runs
    assert code == 130
    assert f"the run goes on by itself; follow it again: upkeep submit --follow {run}" in err
    assert server.runs[run].state == "PENDING"


@pytest.mark.parametrize(
    "words", [("--follow", "a", "--detach"), ("--follow", "a", "--until", "2026"), ("--detach", "--fail-on-gate")]
)
def test_words_that_do_not_go_together(call: Call, words: tuple[str, ...]) -> None:
    assert call("submit", *words)[0] == 2


def test_schedule(call: Call, server: KfpServer) -> None:
    code, out, _ = call("schedule")
    (recurring,) = server.recurring.values()
    assert code == 0
    assert out.startswith(f"made       {recurring.display_name}\nschedule   0 3 * * * (UTC), to KFP 0 0 3 * * *\nnext ")
    assert call("schedule")[1].startswith("unchanged  ")
    assert call("schedule", "--delete")[1] == f"deleted    {recurring.display_name}\n"
    assert call("schedule", "--delete")[1] == "there was none\n"
    code, out, _ = call("schedule", "--output", "json")
    assert (code, json.loads(out)["cron_kfp"]) == (0, "0 0 3 * * *")


def test_the_summary_is_written_for_a_pull_request(
    call: Call, server: KfpServer, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_with(server, store, verdict="fail")
    monkeypatch.setattr("upkeep.store.open_store", lambda *_: store)
    put = Registry.put_update

    def with_summary(self: Registry, update: str, name: str, data: bytes | Path) -> str:
        put(self, update, "summary.md", f"### of {update}\n".encode())
        return put(self, update, name, data)

    monkeypatch.setattr(Registry, "put_update", with_summary)
    path = tmp_path / "summary.md"
    assert call("submit", "--summary", str(path), "--fail-on-gate")[0] == 1
    (run,) = server.runs
    assert path.read_text() == f"### of {run}\n"


def test_a_summary_of_a_run_that_is_left_to_itself_is_refused(call: Call, tmp_path: Path) -> None:
    code, _, err = call("submit", "--detach", "--summary", str(tmp_path / "summary.md"))
    assert code == 2
    assert "--summary waits for the verdict" in err
