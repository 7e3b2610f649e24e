from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import upkeep.rollout.connect
from tests.unit.rollout.world import START, World, quick
from upkeep import api
from upkeep.cli.main import main
from upkeep.cli.rollout import _json_lines
from upkeep.rollout import history as histories
from upkeep.rollout.by_hand import identity
from upkeep.rollout.controller import Model
from upkeep.rollout.watch import Report
from upkeep.spec.model import Data, Features, Metadata, ModelSpec, Retrain, Target

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    spec = ModelSpec(
        metadata=Metadata(name="flight-delays"),
        store=str(tmp_path / "store"),
        data=Data(source="x", target=Target(column="y"), features=Features()),
        candidates=(Retrain(name="a", strategy="retrain", estimator="sklearn.tree.DecisionTreeClassifier"),),
    )
    spec = quick(replace(spec, rollout=replace(spec.rollout, repository="memory", path="models/flight-delays")))
    made = World(spec)
    made.propose(1, None)
    made.wait(30)
    made.propose(2, "v1")

    @contextmanager
    def connect(spec: ModelSpec, environ: Any = None, *, git: Any = None) -> Iterator[Model]:
        yield made.model

    class Clock:
        @staticmethod
        def now(_: Any = None) -> Any:
            return made.now

        fromisoformat = staticmethod(type(START).fromisoformat)

    monkeypatch.setattr(upkeep.rollout.connect, "connect", connect)
    monkeypatch.setattr(api, "load_spec", lambda _: spec)
    monkeypatch.setattr(api, "datetime", Clock)
    monkeypatch.setattr(histories, "open_repository", contextmanager(lambda _: iter([made.git])))
    for name, text in (("NAME", "Alex"), ("EMAIL", "alex@example.com")):
        monkeypatch.setenv(f"GIT_AUTHOR_{name}", text)
    return made


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "160")

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(list(words))
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def at_step(world: World) -> None:
    world.run(until=lambda told: told.state is not None and told.state.weight == 5 and told.agrees)
    world.wait(30)
    world.look()


def test_status_says_where_it_is_and_what_it_waits_for(world: World, run: Run) -> None:
    at_step(world)
    code, out, _ = run("rollout", "status")
    assert code == 0
    assert "flight-delays  step 1 of 3: v2 at 5 %, beside v1" in out
    assert "by Git    v1 95 %, v2 5 %" in out
    assert "waits for" in out
    assert "errors" in out
    assert "latency" in out
    world.away.add("cluster")
    code, out, _ = run("rollout", "status")
    assert code == 0
    assert "live      not known" in out
    assert "the cluster does not answer" in out


def test_status_for_machines(world: World, run: Run) -> None:
    at_step(world)
    _, out, _ = run("rollout", "status", "--output", "json")
    said = json.loads(out)
    assert (said["state"]["phase"], said["live"], said["steps"]) == ("step", {"v1": 95, "v2": 5}, 3)
    assert {each["metric"] for each in said["analysis"]["metrics"]} == {"errors", "latency"}
    assert said["until"] > "2026-03-03"


def test_status_at_rest(world: World, run: Run) -> None:
    world.run()
    _, out, _ = run("rollout", "status")
    assert "succeeded: v2 has all traffic" in out


def test_a_persons_word_is_one_commit(world: World, run: Run) -> None:
    at_step(world)
    code, out, _ = run("rollout", "pause", "--reason", "stock-taking")
    assert (code, out.splitlines()[0]) == (0, "Alex paused it: stock-taking")
    assert world.git.commits[-1].trailers["Upkeep-Command"] == "pause"
    code, _, err = run("rollout", "pause", "--reason", "again")
    assert code == 1
    assert "it is paused already" in err
    assert run("rollout", "resume")[0] == 0
    assert "v2 25 %" in run("rollout", "promote", "--reason", "checked by hand")[1]
    world.wait(5)
    world.look()
    said = json.loads(run("rollout", "abort", "--reason", "wrong answers", "--output", "json")[1])
    assert (said["state"]["phase"], said["state"]["weight"]) == ("rolling_back", 0)
    assert run("rollout", "abort", "--reason", "again")[0] == 1
    assert run("rollout", "pause")[0] == 2  # a reason must be given


def test_rollback(world: World, run: Run) -> None:
    world.run()
    code, _, err = run("rollout", "rollback", "--to", "v9")
    assert code == 1
    assert "v9 was never the champion" in err
    code, out, _ = run("rollout", "rollback", "--reason", "wrong since yesterday")
    assert code == 0
    assert "went back from v2 to v1" in out


def test_watch_tells_each_change_and_ends_at_rest(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from upkeep.rollout import watch

    real = watch.Watch.__init__

    def quick_watch(self: Any, *args: Any, tell: Any, **options: Any) -> None:
        def told(report: Any) -> None:
            tell(report)
            world.wait(report.wait)

        real(self, *args, tell=told, now=lambda: world.now, lease=10_000, **options)

    monkeypatch.setattr(watch.Watch, "__init__", quick_watch)
    world.model = replace(
        world.model,
        spec=replace(world.spec, rollout=replace(world.spec.rollout, every=0.001, timeout=0.001, bake=0.01)),
    )
    world.wait = lambda seconds: World.wait(world, 10)  # type: ignore[method-assign,misc]
    code, out, err = run("rollout", "watch", "--until-rest", "--output", "json")
    assert code == 0
    assert json.loads(out) == {"flight-delays": "rests"}
    lines = err.splitlines()
    assert any("flight-delays  step 1 5 %" in line for line in lines)
    assert "v2 is the champion" in lines[-1]
    assert len(lines) == len(set(lines))
    code, _, err = run("rollout", "watch", "--once", "--log", "json")
    assert code == 0
    assert json.loads(err)["phase"] == "succeeded"


def test_a_log_of_json_lines_repeats_itself_only_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    tell = _json_lines()
    start = datetime(2026, 3, 1, tzinfo=UTC)
    for minute in range(25):
        tell(Report(model="a", at=start + timedelta(minutes=minute), bug="odd" if minute == 3 else "same", wait=10))
        tell(Report(model="b", at=start, bug="other", wait=10))
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    minutes = [datetime.fromisoformat(each["at"]).minute for each in told if each["model"] == "a"]
    assert minutes == [0, 3, 4, 14, 24]
    assert len(told) == 6


def test_watch_once_raises_what_went_wrong(world: World, run: Run) -> None:
    world.git.commits.clear()
    assert run("rollout", "watch", "--once")[0] == 0  # nothing is released yet: nothing to do
    code, _, err = run("rollout", "watch", "-s", "a.yaml", "-s", "b.yaml", "--once")
    assert code == 2
    assert "two of the specs are of one model" in err


def test_history_tells_what_served(world: World, run: Run) -> None:
    world.run()
    code, out, _ = run("history")
    assert code == 0
    assert "v1 95 %, v2 5 %" in out
    entries = json.loads(run("history", "--output", "json")[1])
    assert entries[0]["champion"] == "v2"
    assert entries[0]["by"] == "upkeep"
    assert len(entries) == len(world.git.commits)
    assert all(each["evidence"] for each in entries[:-2])
    before = (START + timedelta(seconds=15)).isoformat()
    (then,) = json.loads(run("history", "--at", before, "--output", "json")[1])
    assert (then["champion"], then["canary"]) == ("v1", None)
    (then,) = json.loads(run("history", "--at", "2026-03-02", "--output", "json")[1])
    assert then["commit"] == world.git.commits[-1].id
    assert (then["weights"], then["certain"]) == ({"v2": 100}, True)
    assert run("history", "--at", "2026-01-01")[1] == "nothing served then\n"
    world.git.add({"models/flight-delays/route.yaml": b"nonsense"}, "tidy\n", world.now, "Alex <alex@example.com>")
    found = json.loads(run("history", "--at", "2026-03-03", "--output", "json")[1])
    assert [(each["weights"], each["certain"]) for each in found] == [({}, False), ({"v2": 100}, False)]
    assert "not certain" in run("history", "--at", "2026-03-03")[1]
    assert run("history", "--at", "yesterday")[0] == 2


def test_what_made_no_sense_was_not_what_served(world: World) -> None:
    path = "models/flight-delays/route.yaml"
    world.git.add({path: b"nonsense"}, "tidy\n", world.now, "Alex <alex@example.com>")
    entries = histories.history(world.spec, world.git)
    assert entries[0].serving is None
    assert entries[0].by == "person"
    assert [each.commit for each in histories.at(entries, world.now)] == [each.commit for each in entries[:2]]


def test_a_command_needs_a_name(tmp_path: Path) -> None:
    environ = {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "PATH": "/usr/bin:/bin",
        "HOME": "/x",
    }
    said = identity(environ | {"GIT_AUTHOR_NAME": "Alex", "GIT_AUTHOR_EMAIL": "alex@example.com"})
    assert said == {
        "GIT_AUTHOR_NAME": "Alex",
        "GIT_AUTHOR_EMAIL": "alex@example.com",
        "GIT_COMMITTER_NAME": "Alex",
        "GIT_COMMITTER_EMAIL": "alex@example.com",
    }
    strict = tmp_path / "config"
    strict.write_text("[user]\n\tuseConfigOnly = true\n")
    with pytest.raises(api.UpkeepError, match="git does not know who you are"):
        identity(environ | {"GIT_CONFIG_GLOBAL": str(strict)})
