from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upkeep.errors import ConflictError, InputError, IntegrityError, OutsideError, RefusedError
from upkeep.rollout.git import GitRepository, Tree
from upkeep.rollout.release import (
    NewVersion,
    default_repository,
    open_repository,
    plan_release,
    propose,
    read_release,
    serving_now,
    serving_of,
)
from upkeep.rollout.state import Barred, read_state, render_state
from upkeep.serving.manifests import read_resources, read_weights
from upkeep.spec.model import ModelSpec

FOLDER = "models/flight-delays"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
Make = Callable[..., NewVersion]


def names(repository: Any) -> set[str]:
    return {path.removeprefix(f"{FOLDER}/") for path in repository.files}


@pytest.fixture
def put(spec: ModelSpec, memory: Any) -> Callable[..., Any]:
    def put(new: NewVersion, champion: str | None, **options: Any) -> Any:
        options = {"now": lambda: NOW, "sleep": lambda seconds: None} | options
        return propose(spec, new, expected_champion=champion, repository=memory, **options)

    return put


# --- what happens --------------------------------------------------------------------------------------------------


def test_the_first_version_gets_all_traffic(spec: ModelSpec, memory: Any, put: Any, version: Make) -> None:
    done = put(version(1), None)
    assert (done.outcome, done.commit, done.attempts) == ("first", "1", 1)
    assert names(memory) == {"kustomization.yaml", "route.yaml", "v1.yaml", "rollout.yaml"}
    serving = serving_now(spec, memory)
    assert serving.champion is not None
    assert (serving.champion.version, serving.champion.since) == ("v1", "2026-03-01T12:00:00Z")
    assert (serving.canary, serving.phase, serving.weight) == (None, "idle", 0)


def test_a_first_version_may_be_adopted_without_a_verdict(memory: Any, put: Any, version: Make) -> None:
    assert put(version(1, verdict=None), None).outcome == "first"
    assert "Upkeep-Verdict: none\n" in memory.commits[0][1]
    with pytest.raises(RefusedError, match="not judged"):
        put(version(2, verdict=None), "v1")


@pytest.mark.parametrize("verdict", ["fail", "insufficient", "", "PASS"])
def test_only_a_pass_is_proposed(memory: Any, put: Any, version: Make, verdict: str) -> None:
    with pytest.raises(RefusedError):
        put(version(1, verdict=verdict), None)
    assert not memory.commits


def test_a_challenger_is_proposed_at_nothing(spec: ModelSpec, memory: Any, put: Any, version: Make) -> None:
    put(version(1), None)
    before = memory.files[f"{FOLDER}/v1.yaml"]
    done = put(version(13), "v1", lines=["F1 0.42 → 0.59 on new rows", "Upkeep-Verdict: fail\n\nUpkeep-Model: x"])
    assert (done.outcome, done.reason) == ("proposed", "v13 is proposed at 0 %, beside v1")
    assert memory.files[f"{FOLDER}/v1.yaml"] == before
    assert read_weights(memory.files[f"{FOLDER}/route.yaml"], spec.name) == {"v1": 100, "v13": 0}
    assert read_resources(memory.files[f"{FOLDER}/kustomization.yaml"]) == ("v1", "v13")
    serving = serving_now(spec, memory)
    assert serving.champion and serving.canary
    assert (serving.champion.version, serving.canary.version, serving.phase) == ("v1", "v13", "pending")
    assert memory.commits[-1][1] == (
        "flight-delays: propose v13 at 0 %\n"
        "\n"
        "- F1 0.42 → 0.59 on new rows\n"
        "- Upkeep-Verdict: fail Upkeep-Model: x\n"
        "\n"
        "Upkeep-Model: flight-delays\n"
        "Upkeep-Update: update-13\n"
        "Upkeep-Version: v13\n"
        "Upkeep-Verdict: pass\n"
        f"Upkeep-Evidence: {'e' * 64}\n"
    )


def test_a_second_challenger_waits(memory: Any, put: Any, version: Make) -> None:
    put(version(1), None)
    put(version(2), "v1")
    done = put(version(3), "v1")
    assert done.outcome == "pending_other"
    assert "v2 is under way" in done.reason
    assert len(memory.commits) == 2


def test_a_second_challenger_may_replace_the_first(spec: ModelSpec, memory: Any, put: Any, version: Make) -> None:
    put(version(1), None)
    put(version(2), "v1")
    done = put(version(3), "v1", supersede=True)
    assert done.outcome == "superseded"
    assert names(memory) == {"kustomization.yaml", "route.yaml", "v1.yaml", "v3.yaml", "rollout.yaml"}
    assert memory.commits[-1][1].startswith("flight-delays: propose v3 at 0 %, in place of v2\n")
    serving = serving_now(spec, memory)
    assert serving.canary
    assert serving.canary.version == "v3"


def test_an_older_challenger_never_replaces_a_newer(memory: Any, put: Any, version: Make) -> None:
    put(version(1), None)
    put(version(3), "v1")
    done = put(version(2), "v1", supersede=True)
    assert (done.outcome, done.reason) == ("pending_other", "v3 is pending, and it is newer than v2")


@pytest.mark.parametrize(("phase", "weight"), [("step", 25), ("shadow", 0), ("baking", 100), ("paused", 5)])
def test_a_rollout_that_has_begun_is_not_replaced(
    spec: ModelSpec, memory: Any, put: Any, version: Make, phase: Any, weight: int
) -> None:
    put(version(1), None)
    put(version(2), "v1")
    released = read_release(spec, memory.read("main", FOLDER))
    assert released
    moved = replace(released, state=replace(released.state, phase=phase, weight=weight))
    plan = plan_release(spec, moved, version(3), expected_champion="v1", supersede=True, lines=(), now=NOW)
    assert (plan.outcome, plan.changes) == ("pending_other", {})
    assert "end it first" in plan.reason


def test_a_champion_that_changed_makes_the_verdict_worthless(memory: Any, put: Any, version: Make) -> None:
    assert put(version(2), "v1").outcome == "champion_changed"
    put(version(1), None)
    assert put(version(2), None).outcome == "champion_changed"
    assert put(version(3), "v2").outcome == "champion_changed"
    assert len(memory.commits) == 1


def test_bytes_that_were_taken_back_stay_out(spec: ModelSpec, memory: Any, put: Any, version: Make) -> None:
    put(version(1), None)
    released = read_release(spec, memory.read("main", FOLDER))
    assert released
    barred = Barred(version="v2", digest=f"{2:064x}", since="2026-02-01T00:00:00Z", reason="more errors")
    state = replace(released.state, barred=(barred,))
    plan = plan_release(
        spec,
        replace(released, state=state),
        version(3, digest=f"{2:064x}"),
        expected_champion="v1",
        supersede=True,
        lines=(),
        now=NOW,
    )
    assert (plan.outcome, plan.changes) == ("barred", {})
    assert "taken back as v2: more errors" in plan.reason
    assert serving_of(replace(released, state=state), "abc").barred == (barred,)


def test_a_retry_finds_its_work_done(memory: Any, put: Any, version: Make) -> None:
    assert put(version(1), None).outcome == "first"
    assert put(version(1), None).outcome == "already"
    assert put(version(2), "v1").outcome == "proposed"
    again = put(version(2), "v1", supersede=True)
    assert (again.outcome, again.commit) == ("already", "2")
    assert len(memory.commits) == 2


def test_a_retry_that_registered_the_bytes_again_proposes_nothing(memory: Any, put: Any, version: Make) -> None:
    put(version(1), None)
    again = put(version(2, digest=version(1).served.digest), None)
    assert (again.outcome, again.reason) == ("already", "v1 serves already, with the bytes of v2")
    put(version(3), "v1")
    again = put(version(4, digest=version(3).served.digest), "v1", supersede=True)
    assert (again.outcome, again.reason) == ("already", "v3 is the challenger, at 0 %, already, with the bytes of v4")
    assert len(memory.commits) == 2


def test_a_push_that_landed_and_was_not_answered(memory: Any, put: Any, version: Make) -> None:
    push = memory.commit_and_push

    def cut(*arguments: Any) -> str:
        push(*arguments)
        raise OutsideError("the connection broke")

    memory.commit_and_push = cut
    with pytest.raises(OutsideError):
        put(version(1), None)
    memory.commit_and_push = push
    assert put(version(1), None).outcome == "already"
    assert len(memory.commits) == 1


def test_one_version_with_two_digests_is_an_error(put: Any, version: Make) -> None:
    put(version(1), None)
    with pytest.raises(IntegrityError, match="stands in Git with the digest"):
        put(version(1, digest="f" * 64), None)


@pytest.mark.parametrize("traffic", ["canary", "knative"])
def test_every_driver_can_propose(spec: ModelSpec, memory: Any, version: Make, traffic: Any) -> None:
    other = replace(spec, serving=replace(spec.serving, traffic=traffic))
    assert propose(other, version(1), expected_champion=None, repository=memory).outcome == "first"
    assert propose(other, version(2), expected_champion="v1", repository=memory).outcome == "proposed"
    newer = propose(other, version(3), expected_champion="v1", supersede=True, repository=memory)
    assert newer.outcome == "superseded"
    released = read_release(other, memory.read("main", FOLDER))
    assert released is not None
    assert list(released.versions) == ["v1", "v3"]
    assert released.state.weights == {"v1": 100, "v3": 0}


def test_files_of_others_are_left_alone(spec: ModelSpec, memory: Any, put: Any, version: Make) -> None:
    others = {f"{FOLDER}/README.md": b"x", f"{FOLDER}/overlay/kustomization.yaml": b"y", "models/z/v1.yaml": b"z"}
    memory.commits.append((others, "others\n"))
    put(version(1), None)
    put(version(2), "v1")
    put(version(3), "v1", supersede=True)
    assert others.items() <= memory.files.items()
    assert serving_now(spec, memory).champion


# --- races ---------------------------------------------------------------------------------------------------------


def test_a_lost_race_is_decided_anew(spec: ModelSpec, memory: Any, put: Any, version: Make) -> None:
    put(version(1), None)
    waited: list[float] = []

    def rival() -> None:
        memory.before_push = lambda: None
        put(version(2), "v1")

    memory.before_push = rival
    done = put(version(3), "v1", sleep=waited.append)
    assert (done.outcome, done.attempts) == ("pending_other", 2)
    assert len(waited) == 1
    assert len(memory.commits) == 2


def test_an_unrelated_push_costs_one_more_attempt(memory: Any, put: Any, version: Make) -> None:
    put(version(1), None)

    def rival() -> None:
        memory.before_push = lambda: None
        memory.commits.append((dict(memory.files) | {"other": b""}, "other\n"))

    memory.before_push = rival
    done = put(version(2), "v1")
    assert (done.outcome, done.attempts) == ("proposed", 2)
    assert "other" in memory.files


def test_races_end(memory: Any, put: Any, version: Make) -> None:
    put(version(1), None)
    waited: list[float] = []
    memory.before_push = lambda: memory.commits.append((memory.files, "other\n"))
    with pytest.raises(ConflictError, match="3 times"):
        put(version(2), "v1", attempts=3, sleep=waited.append)
    assert len(waited) == 2


def test_no_update_supersedes_a_persons_way_back(spec: ModelSpec, memory: Any, version: Make) -> None:
    propose(spec, version(2), expected_champion=None, repository=memory)
    propose(spec, version(3), expected_champion="v2", repository=memory)
    stands = read_release(spec, memory.read("main", FOLDER))
    assert stands is not None
    back = replace(stands, state=replace(stands.state, direct=True))
    plan = plan_release(spec, back, version(4), expected_champion="v2", supersede=True, lines=(), now=NOW)
    assert (plan.outcome, plan.changes) == ("pending_other", {})
    assert plan.reason == "a person goes back to v3, and no update comes between"


@pytest.mark.parametrize("supersede", [False, True])
def test_two_updates_at_once_through_real_git(spec: ModelSpec, version: Make, supersede: bool) -> None:
    assert propose(spec, version(1), expected_champion=None).outcome == "first"
    outcomes: dict[int, str] = {}
    together = threading.Barrier(2, timeout=60)

    def update(number: int) -> None:
        with open_repository(spec) as repository:
            read = repository.read

            def meet(branch: str, folder: str = "") -> Tree:
                tree = read(branch, folder)
                if number not in met:
                    met.add(number)
                    together.wait()  # both have read the same commit before either pushes
                return tree

            repository.read = meet  # type: ignore[method-assign]
            outcomes[number] = propose(
                spec, version(number), expected_champion="v1", supersede=supersede, repository=repository
            ).outcome

    met: set[int] = set()
    threads = [threading.Thread(target=update, args=(number,)) for number in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    serving = serving_now(spec)
    assert serving.champion and serving.canary
    assert serving.champion.version == "v1"
    if supersede:
        # Whoever pushes first, the newer one stands in the end.
        assert serving.canary.version == "v3"
        assert outcomes in ({2: "proposed", 3: "superseded"}, {2: "pending_other", 3: "proposed"})
    else:
        assert sorted(outcomes.values()) == ["pending_other", "proposed"]
        assert outcomes[int(serving.canary.version[1:])] == "proposed"


# --- where ---------------------------------------------------------------------------------------------------------


def test_the_default_repository_is_made_when_needed(spec: ModelSpec, version: Make) -> None:
    path = default_repository(spec)
    assert path is not None
    serving = serving_now(spec)
    assert (serving.champion, serving.commit) == (None, None)
    assert not path.exists()
    done = propose(spec, version(1), expected_champion=None)
    assert path.exists()
    assert serving_now(spec).commit == done.commit


def test_a_repository_that_was_named_is_not_made(spec: ModelSpec, version: Make, tmp_path: Path) -> None:
    named = replace(spec, rollout=replace(spec.rollout, repository=str(tmp_path / "named.git")))
    assert default_repository(named) is None
    with pytest.raises(OutsideError, match="no such repository"):
        serving_now(named)
    with pytest.raises(OutsideError, match="no such repository"):
        propose(named, version(1), expected_champion=None)
    assert not (tmp_path / "named.git").exists()


def test_a_revert_by_hand_takes_a_proposal_back(spec: ModelSpec, version: Make, tmp_path: Path) -> None:
    propose(spec, version(1), expected_champion=None)
    propose(spec, version(2), expected_champion="v1")
    checkout = tmp_path / "checkout"
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgSign=false"]
    subprocess.run(["git", "clone", "-q", spec.rollout.repository, str(checkout)], check=True)
    subprocess.run(["git", "-C", str(checkout), *identity, "revert", "--no-edit", "HEAD"], check=True)
    subprocess.run(["git", "-C", str(checkout), "push", "-q", "origin", "main"], check=True)
    serving = serving_now(spec)
    assert serving.champion
    assert (serving.champion.version, serving.canary, serving.phase) == ("v1", None, "idle")
    assert propose(spec, version(3), expected_champion="v1").outcome == "proposed"


# --- what people edit ----------------------------------------------------------------------------------------------


EDITS: dict[str, tuple[str, Callable[[str], str | None], str]] = {
    "no state": ("rollout.yaml", lambda text: None, r"rollout\.yaml: edited by hand: the file is missing"),
    "no route": ("route.yaml", lambda text: None, r"route\.yaml: edited by hand: the file is missing"),
    "no service": ("v2.yaml", lambda text: None, r"it applies v1, v2, and the folder holds v1"),
    "weights": ("route.yaml", lambda text: text.replace("weight: 100", "weight: 60").replace("weight: 0", "weight: 40"),
                r"route\.yaml: edited by hand: it gives v1 60 %, v2 40 %, and rollout\.yaml says v1 100 %, v2 0 %"),
    "sum": ("route.yaml", lambda text: text.replace("weight: 100", "weight: 90"), r"route\.yaml:\d+:.*sum to 90"),
    "digest": ("v2.yaml", lambda text: text.replace("0" * 63 + "2", "0" * 63 + "5"),
               r"digest 000000000000, and no manifest serves that"),
    "other bytes": ("v2.yaml", lambda text: text.replace("/" + "0" * 63 + "2", "/" + "0" * 63 + "5"),
                    r"v2\.yaml:\d+:\d+.*does not end in the version's digest"),
    "other resource": ("kustomization.yaml", lambda text: text + "- mine.yaml\n",
                       r"kustomization\.yaml:8:.*mine\.yaml"),
    "unknown key": ("rollout.yaml", lambda text: text + "weigth: 5\n", r"rollout\.yaml:\d+:1, weigth"),
    "nonsense": ("rollout.yaml", lambda text: "\t{", r"rollout\.yaml:1:1: this is no YAML"),
    "empty": ("route.yaml", lambda text: "", r"route\.yaml:1: this is no mapping"),
    "phase": ("rollout.yaml", lambda text: text.replace("phase: pending", "phase: idle"), r"there is the canary v2"),
    "merge marks": ("route.yaml", lambda text: "<<<<<<< HEAD\n" + text, r"route\.yaml:\d+:\d+"),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_that_makes_no_sense_stops_everything(
    spec: ModelSpec, memory: Any, put: Any, version: Make, edit: str
) -> None:
    name, change, message = EDITS[edit]
    put(version(1), None)
    put(version(2), "v1")
    memory.edit(f"{FOLDER}/{name}", change)
    before = len(memory.commits)
    with pytest.raises(InputError, match=message) as caught:
        serving_now(spec, memory)
    assert all(problem.where.file.startswith(FOLDER) and problem.fix for problem in caught.value.problems)
    with pytest.raises(InputError):
        put(version(3), "v1", supersede=True)
    assert len(memory.commits) == before


def test_people_may_change_how_a_version_is_served(spec: ModelSpec, memory: Any, put: Any, version: Make) -> None:
    put(version(1), None)
    memory.edit(f"{FOLDER}/v1.yaml", lambda text: text.replace("maxReplicas: 3", "maxReplicas: 9 # more"))
    put(version(2), "v1")
    assert b"maxReplicas: 9 # more" in memory.files[f"{FOLDER}/v1.yaml"]


# --- laws ----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from([None, "v1", "v2", "serving"]), st.booleans()), max_size=10
    )
)
def test_whatever_is_proposed_the_folder_makes_sense(
    spec: ModelSpec, memory: Any, version: Make, steps: list[tuple[int, str | None, bool]]
) -> None:
    memory.commits.clear()
    champion = None
    for number, expected, supersede in steps:
        expected = champion if expected == "serving" else expected
        before = len(memory.commits)
        done = propose(
            spec, version(number), expected_champion=expected, supersede=supersede, repository=memory,
            now=lambda: NOW,
        )  # fmt: skip
        assert (len(memory.commits) > before) == (done.outcome in ("first", "proposed", "superseded"))
        serving = serving_now(spec, memory)
        if serving.champion is not None:
            # A proposal moves no traffic: the first version keeps it all.
            champion = champion or serving.champion.version
            assert serving.champion.version == champion
            weights = read_weights(memory.files[f"{FOLDER}/route.yaml"], spec.name)
            assert weights[champion] == 100
            assert done.outcome != "champion_changed" or expected != champion


def test_a_state_is_read_back_as_it_was_written(spec: ModelSpec, memory: Any, put: Any, version: Make) -> None:
    put(version(1), None)
    put(version(2), "v1")
    data = memory.files[f"{FOLDER}/rollout.yaml"]
    assert render_state(read_state(data, spec.name)) == data


def test_a_repository_is_closed(spec: ModelSpec) -> None:
    with open_repository(spec) as repository:
        assert isinstance(repository, GitRepository)
        repository.read("main")
        folder = repository._temporary()
    assert not folder.exists()
