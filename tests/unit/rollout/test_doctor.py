"""Each thing that can be wrong, one at a time: found, named, with something to do, and never called fine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.rollout.world import World, quick
from upkeep.errors import AccessError
from upkeep.rollout.doctor import examine
from upkeep.rollout.finding import Finding
from upkeep.serving.cluster import Facts
from upkeep.spec.model import ModelSpec, PullRequest, Webhook
from upkeep.store import open_store


@pytest.fixture
def world(spec: ModelSpec) -> World:
    made = World(quick(spec))
    made.propose(1, None)
    made.wait(30)
    return made


def found(world: World, **model: Any) -> dict[str, list[Finding]]:
    by: dict[str, list[Finding]] = {}
    for each in examine(replace(world.model, **model), world.now, {}):
        by.setdefault(each.check, []).append(each)
    return by


def states(world: World, **model: Any) -> dict[str, set[str]]:
    return {check: {each.state for each in findings} for check, findings in found(world, **model).items()}


def test_a_sound_setting(world: World) -> None:
    found = states(world)
    assert found.pop("clock") == {"problem"}  # this world's clock stands at its own time
    assert found.pop("labels") == {"unknown"}
    assert set(found) == {
        "store",
        "git",
        "release",
        "registry",
        "traffic",
        "sync",
        "route",
        "service",
        "counters",
        "payloads",
    }
    assert set.union(*found.values()) == {"ok"}


def test_nothing_is_left_behind(world: World) -> None:
    before = {each.key for each in world.store.list()}
    examine(world.model, world.now, {})
    assert {each.key for each in world.store.list()} == before


def test_no_folder_is_left_behind(world: World, tmp_path: Path) -> None:
    (tmp_path / world.spec.name).mkdir()
    found(world, store=open_store(str(tmp_path)))
    assert list(tmp_path.rglob("*")) == [tmp_path / world.spec.name]


def _refuse() -> None:
    raise AccessError("the remote refuses the push", fix="give the token write access")


BREAK: dict[str, tuple[str, Callable[[World], Any]]] = {
    "no pushes": ("git", lambda world: setattr(world.git, "before_push", _refuse)),
    "no cluster": ("cluster", lambda world: world.away.add("cluster")),
    "no counters": ("counters", lambda world: world.away.add("counters")),
    "a lost version": ("registry", lambda world: world.vanished.add("v1")),
    "an unready version": ("service", lambda world: world.unready.add("v1")),
    "a version that answers 500": ("service", lambda world: world.unwell.add("v1")),
    "a stuck syncer": ("sync", lambda world: (world.away.add("sync"), world.propose(2, "v1"), world.wait(60))),
    "forced traffic": ("route", lambda world: world.weights.update(v1=40, v9=60)),
}


@pytest.mark.parametrize("name", BREAK)
def test_what_is_broken_is_found(world: World, name: str) -> None:
    check, break_it = BREAK[name]
    break_it(world)
    assert "problem" in states(world)[check]
    assert all(each.text for findings in found(world).values() for each in findings)


def test_a_driver_that_the_place_does_not_know(world: World) -> None:
    spec = replace(world.spec, serving=replace(world.spec.serving, traffic="knative"))
    (finding,) = found(world, spec=spec)["traffic"]
    assert finding.state == "problem"
    assert "would be ignored" in finding.text
    assert "traffic: route" in finding.fix


@pytest.mark.parametrize(
    ("formats", "state"),
    [(None, "unknown"), (frozenset(), "problem"), (frozenset({"keras"}), "problem"), (frozenset({"sklearn"}), "ok")],
)
def test_a_runtime_that_cannot_load_the_model(
    world: World, monkeypatch: pytest.MonkeyPatch, formats: frozenset[str] | None, state: str
) -> None:
    assert "runtime" not in found(world)  # one machine has none
    facts = Facts(place="kind", runtime_formats=formats)
    monkeypatch.setattr(world.model.cluster, "facts", lambda spec: facts)
    (finding,) = found(world)["runtime"]
    assert finding.state == state
    assert world.spec.serving.runtime in finding.text


def test_a_store_that_lets_two_writers_win(world: World) -> None:
    class Careless:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.store, name)

        def create(self, key: str, data: bytes) -> bool:
            world.store.put(key, data)
            return True

    (finding,) = found(world, store=Careless())["store"]
    assert finding.state == "problem"
    assert "conditional write" in finding.text


def test_a_webhook_without_its_key(world: World) -> None:
    hook = Webhook(url="https://example.com/hook", secret_env="HOOK_KEY")
    spec = replace(world.spec, rollout=replace(world.spec.rollout, webhooks=(hook,)))
    (finding,) = found(world, spec=spec)["webhook"]
    assert (finding.state, "HOOK_KEY" in finding.fix) == ("problem", True)
    known = examine(replace(world.model, spec=spec), world.now, {"HOOK_KEY": "k"})
    assert "webhook" not in {each.check for each in known}


def test_pull_requests_without_their_token(world: World) -> None:
    asks = PullRequest(host="github", token_env="REVIEWS")
    spec = replace(world.spec, rollout=replace(world.spec.rollout, pull_request=asks))
    (finding,) = found(world, spec=spec)["approval"]
    assert (finding.state, "REVIEWS" in finding.fix) == ("problem", True)
    known = examine(replace(world.model, spec=spec), world.now, {"REVIEWS": "t"})
    assert "approval" not in {each.check for each in known}


def test_a_right_clock(world: World) -> None:
    world.store.put("x", b"")
    now = next(each.modified for each in world.store.list() if each.key == "x")
    clock = [each for each in examine(world.model, now, {}) if each.check == "clock"]
    assert [each.state for each in clock] == ["ok"]
    wrong = examine(world.model, now + timedelta(minutes=1), {})
    assert [each.state for each in wrong if each.check == "clock"] == ["problem"]
