"""What a worker says that cannot begin: a sentence and an exit code, never a traceback."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.data import make
from upkeep.errors import IntegrityError
from upkeep.registry.registry import Registry
from upkeep.spec.load import canonical
from upkeep.spec.model import FineTune, Network
from upkeep.store import open_store
from upkeep.update import worker
from upkeep.update.failure import failure_of
from upkeep.update.handover import Handover, Inputs

PAIR = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "worker", "index": 1}}
NET = FineTune(name="net", strategy="fine_tune", network=Network(hidden=(2,)), devices="workers")


@pytest.fixture(autouse=True)
def pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps(PAIR))


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """Inputs that are right, but that there are no rows."""
    spec = replace(make.spec(tmp_path, candidates=(make.ONE, NET)), store=str(tmp_path / "store"))
    registry = Registry(open_store(spec.store), spec.name)
    digest = registry.put_spec(canonical(spec))
    return {
        "spec": f"{registry.store.uri}/{spec.name}/specs/{digest}.json", "spec_digest": digest, "champion": "",
        "candidate": "net", "states": {}, "members": {}, "prepared": str(tmp_path / "no rows"), "model": "",
    }  # fmt: skip


def said_of(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code and what stands in standard error, of a worker with this inputs.json."""
    path = tmp_path / "inputs.json"
    path.write_text(text)
    code = worker.main([str(path)])
    found = capsys.readouterr()
    assert found.out == ""
    assert "Traceback" not in found.err
    assert str(path) not in found.err or found.err.startswith(str(path))
    return code, found.err


def test_without_inputs_it_says_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        worker.main([])
    assert ended.value.code == 2
    assert "usage: python -m upkeep.update.worker" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("{folder}/inputs.json", "{folder}/inputs.json: there is no such file\n"),
        ("{folder}.json", "{folder}.json: a file stands where a folder is needed"),
        ("s3://bucket", "s3://bucket: this is neither a .json file"),
        ("{folder}/toy/workers/net-1", "{folder}/toy/workers/net-1: there are no inputs of a training\n"),
    ],
)
def test_no_inputs_there(path: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "folder"
    folder.with_suffix(".json").mkdir()
    assert worker.main([path.format(folder=folder)]) == 2
    assert capsys.readouterr().err.startswith(said.format(folder=folder))


def test_no_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = said_of('{"spec": ', tmp_path, capsys)
    assert (code, "these are no inputs of a training: JSON: Invalid JSON" in said) == (2, True)


def test_inputs_that_are_missing_or_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = said_of('{"spec": 3, "states": {"net": 1}}', tmp_path, capsys)
    assert code == 2
    for wrong in ("spec: Input should be a valid string", "spec_digest: Field required", "states.net: Input should be"):
        assert wrong in said


@pytest.mark.parametrize(
    "told",
    ["", "no JSON", "[]", '{"task": 1, "cluster": {}}', json.dumps({**PAIR, "cluster": {"worker": ["a"]}}),
     json.dumps({**PAIR, "task": {"type": "worker", "index": 2}}), json.dumps({**PAIR, "task": {"type": "ps"}})],
)  # fmt: skip
def test_who_does_not_know_which_worker_it_is(
    told: str,
    given: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TF_CONFIG", told)
    code, said = said_of(json.dumps(given), tmp_path, capsys)
    assert code == 2
    assert "TF_CONFIG does not say which worker this is" in said


@pytest.mark.parametrize("candidate", ["one", "nobody"])
def test_a_candidate_that_each_worker_would_train_alone(
    candidate: str, given: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = said_of(json.dumps({**given, "candidate": candidate}), tmp_path, capsys)
    assert (code, f"'{candidate}' is no candidate with `devices: workers`" in said) == (2, True)


def test_another_spec_than_the_update_began_with(
    given: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = said_of(json.dumps({**given, "spec_digest": "0" * 64}), tmp_path, capsys)
    assert (code, "the spec is not the one" in said) == (3, True)


def test_no_rows(given: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = said_of(json.dumps(given), tmp_path, capsys)
    assert (code, "this is no prepared folder" in said) == (2, True)


def test_a_bug_has_its_traceback_and_the_request_to_report_it(
    given: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "learn", lambda *_, **__: 1 / 0)
    path = tmp_path / "inputs.json"
    path.write_text(json.dumps(given))
    assert worker.main([str(path)]) == 3
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert "ZeroDivisionError: division by zero\n    → this is a bug in Upkeep" in said


def test_what_a_step_handed_over_is_learned_and_told(
    given: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def learn(context: Any, prepared: Path, model: Path | None, **inputs: Any) -> str:
        assert (model, (prepared / "summary.json").read_text(), inputs["champion"]) == (None, "rows", "v3")
        context.progress("half", 0.5)
        context.progress("too soon after the last word", 0.6)
        return "abc"

    monkeypatch.setattr(worker, "learn", learn)
    handover = handed_over(given, tmp_path)
    assert worker.main([handover.address]) == 0
    assert handover.progress() is None, "the first worker alone tells"
    monkeypatch.setenv("TF_CONFIG", json.dumps({**PAIR, "task": {"type": "worker", "index": 0}}))
    assert worker.main([handover.address]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "abc"
    told = handover.progress()
    assert told is not None
    assert (told.text, told.share) == ("half", 0.5)
    assert handover.record() == "abc"
    handover.clear()
    assert list((tmp_path / "store/toy").rglob("workers/**/*.*")) == []


def test_why_a_worker_ended_is_told_until_it_starts_again(
    given: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handover = handed_over(given, tmp_path)
    assert worker.main([handover.address]) == 3
    (failure,) = handover.failures()
    assert isinstance(failure_of(failure), IntegrityError)
    assert failure.problems[0].message in capsys.readouterr().err
    monkeypatch.setattr(worker, "learn", lambda *_, **__: "")
    assert worker.main([handover.address]) == 0
    assert (list(handover.failures()), handover.record()) == ([], "")


def handed_over(given: dict[str, Any], tmp_path: Path) -> Handover:
    rows = tmp_path / "prepared"
    rows.mkdir()
    (rows / "summary.json").write_text("rows")
    (rows / "quarantine.parquet").write_text("what nobody may see")
    handover = Handover.at(f"{tmp_path}/store/toy/workers/net-1")
    digest = handover.give(rows)
    handover.begin(Inputs(**{**given, "champion": "v3", "prepared": digest}))
    assert not [each for each in (tmp_path / "store").rglob("*") if "quarantine" in each.name]
    return handover
