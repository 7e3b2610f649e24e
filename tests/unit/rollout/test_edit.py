from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.rollout.rollout_fakes import NEW, OLD, T0, state
from upkeep.rollout.edit import read_edit
from upkeep.rollout.git import Commit, Tree
from upkeep.rollout.observation import Edit
from upkeep.rollout.release import changes_of
from upkeep.rollout.state import State
from upkeep.serving.manifests import ServedVersion
from upkeep.spec.model import ModelSpec

FOLDER = "models/flight-delays"
SERVED = {
    "v12": ServedVersion(version="v12", digest=OLD, update="u12"),
    "v13": ServedVersion(version="v13", digest=NEW, update="u13"),
    "v9": ServedVersion(version="v9", digest="9" * 64, update="u9"),
}
Files = dict[str, bytes]


def last(*arguments: Any, **changes: Any) -> State:
    return state(*arguments, model="flight-delays", **changes)


def files(spec: ModelSpec, of: State) -> Files:
    changes = changes_of(spec, {}, of, {name: SERVED[name] for name in of.weights})
    return {path: content for path, content in changes.items() if content is not None}


def read(spec: ModelSpec, before: State, after: Files) -> Edit | None:
    newest = Commit(id="c0ffee" * 6, when=T0, author="Ann <a@b>", subject="by\nhand", trailers={}, files=after)
    return read_edit(spec, before, Tree(newest.id, after), newest)


def changed(whole: Files, name: str, old: str, new: str) -> Files:
    path = f"{FOLDER}/{name}"
    text = whole[path].decode()
    assert old in text
    return whole | {path: text.replace(old, new).encode()}


def without(whole: Files, *names: str) -> Files:
    return {path: content for path, content in whole.items() if path.removeprefix(f"{FOLDER}/") not in names}


STEP = last("step", 25, 2)


@pytest.fixture(params=["route", "canary", "knative"])
def any_spec(spec: ModelSpec, request: pytest.FixtureRequest) -> ModelSpec:
    return replace(spec, serving=replace(spec.serving, traffic=request.param))


@pytest.mark.parametrize("of", [STEP, last("idle"), last("baking", step=3)])
def test_no_edit(any_spec: ModelSpec, of: State) -> None:
    assert read(any_spec, of, files(any_spec, of)) is None
    assert read(any_spec, of, files(any_spec, of) | {f"{FOLDER}/notes.md": b"x", "other/route.yaml": b"y"}) is None


@pytest.mark.parametrize(
    ("before", "after", "kind", "weight"),
    [
        (STEP, last("step", 5, 1), "lowered", 5),
        (STEP, last("pending"), "lowered", 0),
        (STEP, last("step", 50, 3), "raised", 50),
        (last("baking", step=3), last("step", 50, 3), "lowered", 50),
        (last("rolling_back"), STEP, "raised", 25),
        (STEP, last("idle"), "removed", 0),
        (last("pending"), last("idle"), "removed", 0),
    ],
)
def test_a_revert_brings_all_files_back_together(
    any_spec: ModelSpec, before: State, after: State, kind: str, weight: int
) -> None:
    found = read(any_spec, before, files(any_spec, after))
    assert found is not None
    assert (found.kind, found.weight, found.author, found.commit) == (kind, weight, "Ann <a@b>", "c0ffee" * 6)


@pytest.mark.parametrize(("share", "kind"), [(0, "lowered"), (10, "lowered"), (40, "raised"), (100, "raised")])
def test_the_weights_alone(any_spec: ModelSpec, share: int, kind: str) -> None:
    """``rollout.yaml`` is as Upkeep left it."""
    whole = files(any_spec, STEP)
    edited = files(any_spec, replace(STEP, weight=share)) | {f"{FOLDER}/rollout.yaml": whole[f"{FOLDER}/rollout.yaml"]}
    found = read(any_spec, STEP, edited)
    assert found is not None
    assert (found.kind, found.weight) == (kind, share)


def test_the_state_alone(spec: ModelSpec) -> None:
    whole = files(spec, STEP)
    lowered = read(spec, STEP, changed(whole, "rollout.yaml", "weight: 25", "weight: 5"))
    raised = read(spec, STEP, changed(whole, "rollout.yaml", "weight: 25", "weight: 50"))
    assert lowered and raised
    assert (lowered.kind, raised.kind) == ("lowered", "nonsense")


@pytest.mark.parametrize("more", [(), ("route.yaml",), ("kustomization.yaml",), ("rollout.yaml",)])
def test_the_canary_s_file_is_gone(spec: ModelSpec, more: tuple[str, ...]) -> None:
    found = read(spec, STEP, without(files(spec, STEP), "v13.yaml", *more))
    assert found is not None
    assert found.kind == "removed"


def test_how_a_version_is_served_is_the_user_s(spec: ModelSpec) -> None:
    assert read(spec, STEP, changed(files(spec, STEP), "v13.yaml", "minReplicas: 1", "minReplicas: 2")) is None


NONSENSE: dict[str, Callable[[Files], Files]] = {
    "no route": lambda whole: without(whole, "route.yaml"),
    "no state": lambda whole: without(whole, "rollout.yaml"),
    "no champion": lambda whole: without(whole, "v12.yaml"),
    "neither": lambda whole: without(whole, "v12.yaml", "v13.yaml"),
    "sum": lambda whole: changed(whole, "route.yaml", "weight: 75", "weight: 70"),
    "no YAML": lambda whole: changed(whole, "route.yaml", "apiVersion", "\t{"),
    "no state YAML": lambda whole: changed(whole, "rollout.yaml", "apiVersion", "\t{"),
    "phase": lambda whole: changed(whole, "rollout.yaml", "phase: step", "phase: held"),
    "other phase": lambda whole: changed(whole, "rollout.yaml", "step: 2", "step: 3"),
    "other bytes": lambda whole: changed(whole, "v13.yaml", NEW, "7" * 64),
    "merge marks": lambda whole: changed(whole, "kustomization.yaml", "resources", "<<<<<<< HEAD\nresources"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_says_what_and_what_to_do(spec: ModelSpec, name: str) -> None:
    found = read(spec, STEP, NONSENSE[name](files(spec, STEP)))
    assert found is not None
    assert (found.kind, found.weight) == ("nonsense", None)
    assert "take the folder back to the commit before c0ffeec0ffee" in found.message
    assert "\n" not in found.message


def test_another_version_is_nonsense(spec: ModelSpec) -> None:
    other = replace(STEP, canary=replace(STEP.canary, version="v9", digest="9" * 64))  # type: ignore[type-var]
    found = read(spec, STEP, files(spec, other))
    assert found is not None
    assert found.kind in ("removed", "nonsense")


def test_what_was_taken_back_is_not_brought_back_by_a_revert(spec: ModelSpec) -> None:
    found = read(spec, last("rolled_back"), files(spec, STEP))
    assert found is not None
    assert found.kind == "nonsense"
