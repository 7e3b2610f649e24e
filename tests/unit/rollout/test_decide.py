from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.rollout.rollout_fakes import (
    BARRED,
    CANARY,
    CHAMPION,
    NEW,
    OLD,
    PLAN,
    T0,
    analysis,
    at,
    good,
    live,
    service,
    state,
)
from upkeep.rollout.decide import Decision, decide
from upkeep.rollout.observation import Edit, Observation
from upkeep.rollout.plan import Plan
from upkeep.rollout.state import Barred, Phase, State, moment, read_state, render_state
from upkeep.serving.cluster import Live, Probe, ServiceStatus
from upkeep.spec.model import Window

BLIND = Observation(live=None, probe=None, verified=False, shadow=None, analysis=None)
FORCED = {"v12": 100, "v13": 0}


def edit(kind: Any, weight: int | None = None) -> Edit:
    return Edit(kind=kind, commit="c0ffee" * 6, author="Ann", weight=weight, message="the files do not agree")


def kinds(decision: Decision) -> list[str]:
    return [event.kind for event in decision.events]


def went(decision: Decision) -> tuple[str, int, int]:
    return decision.state.phase, decision.state.weight, decision.state.step


# --- forward -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "then"),
    [
        (state("pending"), ("step", 5, 1)),
        (state("shadow"), ("step", 5, 1)),
        (state("step", 5, 1), ("step", 25, 2)),
        (state("step", 25, 2), ("step", 50, 3)),
        (state("step", 50, 3), ("promoting", 100, 3)),
        (state("step", 30, 2), ("step", 50, 3)),
        (state("promoting", step=3), ("baking", 100, 3)),
    ],
)
def test_a_good_canary_goes_on(begin: State, then: tuple[str, int, int]) -> None:
    decision = decide(PLAN, begin, good(begin), at(60))
    assert went(decision) == then
    assert decision.state.since == moment(at(60))
    assert decision.refresh
    assert (decision.brake, decision.release) == (None, False)
    assert kinds(decision) == (["moved"] if then[0] != "baking" else [])


def test_the_evidence_of_a_move_is_named() -> None:
    begin = state("step", 5, 1, evidence="a" * 64)
    seen = good(begin)
    decision = decide(PLAN, begin, seen, at(60))
    assert decision.evidence is seen.analysis
    assert decision.state.evidence is None
    assert decision.state.reason == "v13 gets 25 %: errors pass"


def test_the_shadow_comes_first_where_it_is_planned() -> None:
    begin = state("pending")
    assert went(decide(replace(PLAN, shadow=True), begin, good(begin), at(60))) == ("shadow", 0, 0)


def test_a_new_champion() -> None:
    begin = state("baking", step=3)
    assert decide(PLAN, begin, good(begin, 599), at(599)).state == begin
    decision = decide(PLAN, begin, good(begin, 600), at(600))
    new = decision.state
    assert (new.phase, new.canary, new.weight, new.step, new.approved) == ("succeeded", None, 0, 0, -1)
    assert (new.champion.version, new.champion.digest, new.champion.since) == ("v13", NEW, moment(at(600)))
    assert kinds(decision) == ["promoted"]
    assert read_state(render_state(new), "m") == new


@pytest.mark.parametrize(
    "unknown",
    [
        {"live": None},
        {"probe": None},
        {"probe": Probe(ok=False, status=500, message="a 500")},
        {"verified": False},
        {"live": "no route"},
        {"live": "elsewhere"},
        {"live": "braked"},
        {"live": "not ready"},
        {"live": "before the commit"},
        {"live": "an hour old"},
    ],
)
@pytest.mark.parametrize("begin", [state("pending"), state("shadow"), state("step", 25, 2), state("baking")])
def test_nothing_unknown_goes_forward(begin: State, unknown: dict[str, Any]) -> None:
    after = 700.0
    lives = {
        "no route": live(None, after),
        "elsewhere": live({"v12": 90, "v13": 10}, after),
        "braked": live(begin.weights, after, braked=True),
        "not ready": live(
            begin.weights, after, services={"v12": service("v12"), "v13": service("v13", ready=False, message="pulls")}
        ),
        "before the commit": live(begin.weights, -1),
        "an hour old": live(begin.weights, after - 61),
    }
    changes = {key: lives.get(value, value) if isinstance(value, str) else value for key, value in unknown.items()}
    decision = decide(PLAN, begin, good(begin, after, **changes), at(after))
    assert decision.state == begin
    assert decision.waits_for
    assert decision.until is not None


@pytest.mark.parametrize("verdict", ["insufficient", None])
@pytest.mark.parametrize(
    ("begin", "limit"), [(state("shadow"), 7200), (state("step", 25, 2), 3600), (state("step", 50, 3), 3600)]
)
def test_without_a_pass_nothing_goes_forward_and_the_limit_decides(begin: State, verdict: Any, limit: int) -> None:
    almost = decide(PLAN, begin, good(begin, limit - 1, verdict), at(limit - 1))
    assert (almost.state, almost.until) == (begin, at(limit))
    held = decide(PLAN, begin, good(begin, limit, verdict), at(limit))
    assert went(held) == ("held", begin.weight, begin.step)
    assert held.state.came_from == begin.phase
    assert kinds(held) == ["held"]
    back = decide(replace(PLAN, otherwise="roll_back"), begin, good(begin, limit, verdict), at(limit))
    assert went(back) == ("rolling_back", 0, begin.step)


def test_a_step_settles_first() -> None:
    begin = state("step", 5, 1)
    assert decide(PLAN, begin, good(begin, 9), at(9)).state == begin
    assert decide(PLAN, begin, good(begin, 10), at(10)).state.weight == 25


def test_what_is_ready_too_late_is_held_and_not_barred() -> None:
    begin = state("pending")
    seen = good(begin, 1800, probe=None)
    for plan in (PLAN, replace(PLAN, otherwise="roll_back")):
        decision = decide(plan, begin, seen, at(1800))
        assert went(decision) == ("held", 0, 0)
        assert decision.state.barred == ()


def test_a_refused_manifest_is_held_at_once() -> None:
    begin = state("pending")
    refused = {"v12": service("v12"), "v13": service("v13", ready=False, refused=True, message="no such\nruntime")}
    decision = decide(PLAN, begin, good(begin, 1, live=live(begin.weights, 1, services=refused)), at(1))
    assert went(decision) == ("held", 0, 0)
    assert decision.state.reason == "the cluster refuses v13: no such runtime"


# --- people, windows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("begin", "weight"), [(state("pending"), 0), (state("step", 25, 2), 25)])
def test_approval_is_asked_when_all_else_is_good(begin: State, weight: int) -> None:
    plan = replace(PLAN, approve=frozenset({weight}))
    assert decide(plan, begin, good(begin, verdict=None), at(60)).state.phase != "held" or weight == 0
    held = decide(plan, begin, good(begin), at(60)).state
    assert (held.phase, held.came_from, held.weight) == ("held", begin.phase, weight)
    assert held.reason.endswith("waits for a person's word")
    approved = replace(begin, approved=begin.step)
    assert decide(plan, approved, good(begin), at(60)).state.weight > weight


def test_windows_and_freeze_delay_forward_moves_alone() -> None:
    begin = state("step", 5, 1)
    closed = replace(PLAN, windows=(Window(days=("mon",), start="15:00", end="16:00", zone="Europe/Berlin"),))
    late = 7 * 86400
    for after in (60, 2 * 3600 + 60, late):  # Monday 12:00 and 14:00 UTC, and a week later: past the limit too
        decision = decide(closed, begin, good(begin, after), at(after))
        opened = after == 2 * 3600 + 60
        assert (decision.state.weight == 25) == opened
        if not opened:
            assert decision.until == T0 + timedelta(hours=2, days=7 * (after == late))
    frozen = decide(replace(PLAN, freeze=True), begin, good(begin), at(60))
    assert frozen.state == begin
    assert "freeze" in frozen.waits_for
    for plan in (closed, replace(PLAN, freeze=True)):
        assert decide(plan, begin, good(begin, verdict="fail"), at(60)).state.phase == "rolling_back"


def test_a_window_in_a_zone_nobody_knows_stays_shut() -> None:
    begin = state("step", 5, 1)
    plan = replace(PLAN, windows=(Window(zone="Nowhere/Else"),))
    decision = decide(plan, begin, good(begin), at(60))
    assert (decision.state, decision.until) == (begin, None)


def test_a_direct_way_back_needs_readiness_alone() -> None:
    plan = replace(PLAN, freeze=True, shadow=True, approve=frozenset({0}))
    begin = state("pending", direct=True, reason="Ann went back")
    assert decide(plan, begin, good(begin, verdict=None, probe=None), at(60)).state == begin
    moved = decide(plan, begin, good(begin, verdict=None), at(60)).state
    assert (moved.phase, moved.weight, moved.reason) == ("promoting", 100, "Ann went back")
    began = replace(moved, since=moment(T0))
    assert decide(plan, began, good(began, 9, verdict="fail"), at(9)).state == began
    done = decide(plan, began, good(began, 10, verdict="fail"), at(10)).state
    assert (done.phase, done.champion.version, done.canary, done.direct) == ("succeeded", "v13", None, False)
    assert [(each.digest, each.reason) for each in done.barred] == [(OLD, "Ann went back")]


@pytest.mark.parametrize("begin", [state(p, 25, 2) for p in ("step", "held", "paused", "promoting", "baking")])
def test_lowering_the_weight_is_an_abort(begin: State) -> None:
    decision = decide(PLAN, begin, good(begin, edit=edit("lowered", 5)), at(60))
    assert went(decision) == ("rolling_back", 0, 2)
    assert decision.state.barred[0].reason == "aborted by Ann in c0ffeec0ffee"
    # the brake comes when the commit stands: a reading of Git that was behind must not pull it
    assert decision.brake is None
    stands = decision.state
    assert decide(PLAN, stands, good(stands, live=live(begin.weights, 61)), at(61)).brake == FORCED


@pytest.mark.parametrize(
    "begin", [state(p, 25 if p not in ("pending", "shadow") else 0) for p in ("pending", "shadow", "step", "held")]
)
def test_raising_the_weight_pauses_there(begin: State) -> None:
    new = decide(PLAN, begin, good(begin, edit=edit("raised", 40)), at(60)).state
    assert (new.phase, new.weight, new.came_from) == ("paused", 40, begin.came_from or begin.phase)
    assert read_state(render_state(new), "m") == new


def test_what_is_barred_is_not_raised() -> None:
    begin = state("rolling_back", barred=(replace(BARRED, digest=NEW),))
    decision = decide(PLAN, begin, good(begin, edit=edit("raised", 40)), at(60))
    assert decision.state != begin
    assert (decision.state.phase, decision.state.weight) == ("rolling_back", 0)
    assert kinds(decision) == ["problem"]


@pytest.mark.parametrize("begin", [state("pending"), state("shadow"), state("paused"), state("held")])
def test_a_canary_removed_without_traffic_is_gone(begin: State) -> None:
    decision = decide(PLAN, begin, good(begin, edit=edit("removed")), at(60))
    assert (decision.state.phase, decision.state.canary, decision.state.weight) == ("rolled_back", None, 0)
    assert [each.digest for each in decision.state.barred] == [NEW]
    assert decision.brake is None
    assert read_state(render_state(decision.state), "m") == decision.state


@pytest.mark.parametrize("begin", [state("step", 25, 2), state("baking"), state("paused", 25), state("rolling_back")])
def test_a_canary_removed_with_traffic_comes_back_until_the_traffic_has_moved(begin: State) -> None:
    decision = decide(PLAN, begin, good(begin, edit=edit("removed")), at(60))
    assert decision.state != begin
    assert (decision.state.phase, decision.state.canary, decision.state.weight) == ("rolling_back", CANARY, 0)
    assert [each.digest for each in decision.state.barred] == [NEW]


@pytest.mark.parametrize("begin", [state("step", 25, 2), state("baking"), state("idle")])
def test_nonsense_changes_nothing_and_is_told(begin: State) -> None:
    decision = decide(PLAN, begin, good(begin, edit=edit("nonsense")), at(60))
    assert decision.state == begin
    assert kinds(decision) == ["problem"]
    assert decision.brake is None
    failing = decide(PLAN, begin, good(begin, verdict="fail", edit=edit("nonsense")), at(60))
    assert failing.state == begin
    assert (failing.brake is None) == (begin.canary is None)


def test_paused_only_tells() -> None:
    begin = state("paused", 25, 2)
    for after in (60, 10**7):
        decision = decide(PLAN, begin, good(begin, after, "fail"), at(after))
        assert (decision.state, decision.brake) == (begin, None)
        assert kinds(decision) == ["failing"]
    again = decide(PLAN, begin, good(begin, 90, "fail"), at(90))
    worse = decide(PLAN, begin, good(begin, 90, analysis=analysis("fail", metric="latency")), at(90))
    assert decision.events[0].key == again.events[0].key != worse.events[0].key


# --- back ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "begin",
    [
        state("shadow"),
        state("step", 25, 2),
        state("promoting"),
        state("baking"),
        state("held", 25, 2),
        state("held", came_from="shadow"),
    ],
)
@pytest.mark.parametrize("known", ["all", "evidence alone"])
def test_a_fail_goes_back_from_everywhere(begin: State, known: str) -> None:
    failed = analysis("fail")
    blind = replace(BLIND, analysis=failed, shadow=failed)
    decision = decide(PLAN, begin, good(begin, verdict="fail") if known == "all" else blind, at(60))
    assert went(decision) == ("rolling_back", 0, begin.step)
    assert [(each.version, each.digest) for each in decision.state.barred] == [("v13", NEW)]
    assert kinds(decision) == ["rolled_back"]
    if begin.weight:
        assert decision.brake == FORCED
    assert decide(replace(PLAN, brake=False), begin, good(begin, verdict="fail"), at(60)).brake is None


@pytest.mark.parametrize("phase", ["promoting", "baking"])
def test_nobody_goes_back_to_a_champion_that_is_down(phase: Phase) -> None:
    begin = state(phase)
    down = {"v12": service("v12", ready=False), "v13": service("v13")}
    decision = decide(PLAN, begin, good(begin, verdict="fail", live=live(begin.weights, services=down)), at(60))
    assert decision.state == begin
    assert kinds(decision) == ["problem"]
    assert decision.brake is None


@pytest.mark.parametrize("begin", [state("step", 25, 2), state("promoting"), state("baking"), state("held", 25, 2)])
@pytest.mark.parametrize("services", [{}, {"v13": service("v13", digest="f" * 64)}])
def test_a_canary_that_is_gone_or_another_goes_back_at_once(begin: State, services: dict[str, ServiceStatus]) -> None:
    services = {"v12": service("v12")} | services
    decision = decide(PLAN, begin, good(begin, 1, live=live(begin.weights, 1, services=services)), at(1))
    assert decision.state.phase == "rolling_back"


def test_a_canary_that_is_not_ready_is_left_to_its_errors() -> None:
    begin = state("step", 25, 2)
    dead = live(begin.weights, 120, services={"v12": service("v12"), "v13": service("v13", ready=False)})
    assert decide(PLAN, begin, good(begin, 120, "insufficient", live=dead), at(120)).state == begin
    assert decide(PLAN, begin, good(begin, 120, "fail", live=dead), at(120)).state.phase == "rolling_back"


def test_a_rollback_ends_when_live_traffic_has_moved() -> None:
    begin = state("rolling_back", barred=(replace(BARRED, digest=NEW),))
    for seen, after in ((good(begin, 9), 9), (BLIND, 500), (good(begin, 500, live=live({"v12": 75, "v13": 25})), 500)):
        assert decide(PLAN, begin, seen, at(after)).state == begin
    done = decide(PLAN, begin, good(begin, 10), at(10))
    assert (done.state.phase, done.state.canary, done.brake) == ("rolled_back", None, None)


def test_a_rollback_that_does_not_land_is_loud_and_brakes() -> None:
    begin = state("rolling_back")
    stuck = good(begin, 90, applied=False, live=live({"v12": 75, "v13": 25}, 90, message="sync failed"))
    decision = decide(PLAN, begin, stuck, at(90))
    assert kinds(decision) == ["problem"]
    assert "live: v12 75 %, v13 25 %): sync failed" in decision.events[0].message
    assert (decision.brake, decision.refresh) == (FORCED, True)


def test_the_brake_is_held_until_git_and_cluster_agree() -> None:
    begin = state("rolling_back")
    forced = live(begin.weights, 5, braked=True)
    assert decide(PLAN, begin, good(begin, 5, live=forced, applied=False), at(5)).brake == FORCED
    assert decide(PLAN, begin, good(begin, 5, live=forced, applied=None), at(5)).brake == FORCED
    let = decide(PLAN, begin, good(begin, 5, live=forced), at(5))
    assert (let.brake, let.release) == (None, True)
    # also at rest, where the removed service tells that the commit was applied
    rest = state("rolled_back")
    both = live(rest.weights, 70, braked=True)
    one = replace(both, services={"v12": service("v12")})
    assert decide(PLAN, rest, good(rest, 70, live=both, applied=None), at(70)).brake == {"v12": 100}
    assert decide(PLAN, rest, good(rest, 70, live=one, applied=None), at(70)).release


def test_a_brake_that_lost_a_race_is_released_at_rest() -> None:
    rest = state("succeeded", champion=replace(CHAMPION, version="v13", digest=NEW))
    decision = decide(PLAN, rest, good(rest, 5, live=live(FORCED, 5, braked=True), applied=False), at(5))
    assert (decision.brake, decision.release) == (None, True)


def test_barred_bytes_that_get_traffic_again_are_braked() -> None:
    rest = state("rolled_back", barred=(Barred(version="v13", digest=NEW, since=moment(T0), reason="x"),))
    decision = decide(PLAN, rest, good(rest, 5, live=live({"v12": 75, "v13": 25}, 5)), at(5))
    assert (decision.state, decision.brake) == (rest, {"v12": 100})


def test_a_brake_without_its_commit_is_finished() -> None:
    begin = state("step", 25, 2)
    decision = decide(PLAN, begin, good(begin, 61, live=live(FORCED, 61, braked=True)), at(61))
    assert went(decision) == ("rolling_back", 0, 2)


# --- conflicts, clocks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "phase"), [({"v13": 100}, "held"), ({"v9": 100}, "paused"), ({"v12": 50, "v9": 50}, "paused")]
)
def test_traffic_that_nobody_committed_stops_the_rollout(weights: dict[str, int], phase: str) -> None:
    begin = state("step", 25, 2)
    assert decide(PLAN, begin, good(begin, 59, live=live(weights, 59)), at(59)).state == begin
    decision = decide(PLAN, begin, good(begin, 60, live=live(weights, 60)), at(60))
    assert (decision.state.phase, decision.state.came_from) == (phase, "step")
    assert "v12 does not serve" in decision.state.reason


def test_a_fail_counts_whoever_moved_the_traffic() -> None:
    """The champion fell away and came again, and the canary fails all the while: it goes back as soon as it can."""
    begin = state("step", 25, 2)
    down = {"v12": service("v12", ready=False), "v13": service("v13")}
    away = good(begin, 61, "fail", live=live({"v13": 100}, 61, services=down))
    waits = decide(PLAN, begin, away, at(61))
    assert waits.state == begin
    assert {each.kind for each in waits.events} == {"problem"}
    warm = good(begin, 62, "fail", live=live({"v13": 100}, 62))
    assert went(decide(PLAN, begin, warm, at(62))) == ("rolling_back", 0, 2)
    foreign = good(begin, 61, "fail", live=live({"v12": 50, "v9": 50}, 61))
    assert went(decide(PLAN, begin, foreign, at(61))) == ("rolling_back", 0, 2)
    # and where it was held before the evidence was in
    held = decide(PLAN, begin, good(begin, 60, live=live({"v13": 100}, 60, services=down)), at(60)).state
    assert held.phase == "held"
    assert (
        decide(PLAN, held, good(held, 120, "fail", live=live({"v13": 100}, 120, services=down)), at(120)).state == held
    )
    back = decide(PLAN, held, good(held, 130, "fail", live=live(held.weights, 130)), at(130))
    assert went(back) == ("rolling_back", 0, 2)
    assert back.brake == {"v12": 100, "v13": 0}


def test_a_clock_that_went_back_moves_nothing() -> None:
    for begin in (state("step", 5, 1), state("baking"), state("rolling_back")):
        assert decide(PLAN, begin, good(begin, -100), at(-100)).state == begin
    begin = state("step", 5, 1)
    restarted = decide(PLAN, begin, good(begin, -4000), at(-4000)).state
    assert restarted == replace(begin, since=moment(at(-4000)))
    assert decide(PLAN, replace(begin, since=None), good(begin), at(60)).state == replace(begin, since=moment(at(60)))


def test_silence_is_no_success() -> None:
    begin = state("baking")
    for seen in (good(begin, 600, None), good(begin, 600, analysis=analysis("insufficient", 0))):
        assert decide(PLAN, begin, seen, at(600)).state == begin
        late = replace(seen, live=live(begin.weights, 4200))
        assert decide(PLAN, begin, late, at(4200)).state.phase == "held"
    some = good(begin, 600, analysis=analysis("insufficient", 1))
    assert decide(PLAN, begin, some, at(600)).state.phase == "succeeded"


# --- laws ----------------------------------------------------------------------------------------------------------

VERSIONS = st.sampled_from(["v9", "v12", "v13"])
WEIGHTS = st.dictionaries(VERSIONS, st.integers(0, 100), max_size=3)
TIMES = st.one_of(
    st.integers(-20_000, 200_000).map(at),
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9990, 1, 1)).map(
        lambda time: time.replace(tzinfo=UTC)
    ),
)
PLANS = st.builds(
    Plan,
    steps=st.lists(st.integers(1, 99), max_size=4, unique=True).map(lambda steps: tuple(sorted(steps))),
    shadow=st.booleans(),
    approve=st.frozensets(st.sampled_from([0, 5, 25]), max_size=2),
    windows=st.lists(
        st.builds(
            Window,
            days=st.sampled_from([("mon",), ("sat", "sun"), ()]),
            zone=st.sampled_from(["UTC", "Asia/Kolkata", "?"]),
        ),
        max_size=2,
    ).map(tuple),
    freeze=st.booleans(),
    brake=st.booleans(),
    ready_limit=st.floats(0, 1e12),
    shadow_limit=st.floats(0, 1e12),
    step_limit=st.floats(0, 1e12),
    otherwise=st.sampled_from(["hold", "roll_back"]),
    settle=st.floats(0, 100),
    bake=st.floats(0, 1e12),
)
ANALYSES = st.none() | st.builds(
    analysis, st.sampled_from(["pass", "fail", "insufficient"]), st.sampled_from([0, 100]), st.just("errors")
)
OBSERVATIONS = st.builds(
    Observation,
    live=st.none()
    | st.builds(
        Live,
        weights=st.none() | WEIGHTS | st.just({"v12": 75, "v13": 25}) | st.just({"v12": 0, "v13": 100}),
        services=st.dictionaries(
            VERSIONS,
            st.builds(
                ServiceStatus,
                version=st.just("v13"),
                digest=st.sampled_from([OLD, NEW, ""]),
                ready=st.booleans(),
                message=st.text(max_size=5),
                refused=st.booleans(),
            ),
        ),
        commit=st.none() | st.just("c"),
        at=TIMES,
        braked=st.booleans(),
        message=st.text(max_size=5),
    ),
    probe=st.none() | st.builds(Probe, ok=st.booleans(), status=st.none() | st.just(500), message=st.text(max_size=5)),
    verified=st.booleans(),
    shadow=ANALYSES,
    analysis=ANALYSES,
    edit=st.none()
    | st.builds(
        Edit,
        kind=st.sampled_from(["lowered", "raised", "removed", "nonsense"]),
        commit=st.text(max_size=5),
        author=st.text(max_size=5),
        weight=st.none() | st.integers(-5, 200),
        message=st.text(max_size=5),
    ),
    applied=st.sampled_from([None, True, False]),
)


@st.composite
def states(draw: st.DrawFn) -> State:
    """Every state that can be read back."""
    phase: Phase = draw(st.sampled_from(get_args(Phase)))
    rest, waits = phase in ("idle", "succeeded", "rolled_back"), phase in ("held", "paused")
    weight = {"promoting": 100, "baking": 100}.get(phase, draw(st.integers(0, 100)) if phase == "step" or waits else 0)
    made = State(
        model="m",
        phase=phase,
        weight=weight,
        champion=CHAMPION,
        canary=None if rest else CANARY,
        update="u",
        evidence=draw(st.none() | st.just("e" * 64)),
        rollout="v13-20260302T120000Z",
        since=draw(st.none() | TIMES.map(moment)),
        step=draw(st.integers(0, 9)),
        came_from=draw(st.sampled_from(get_args(Phase))) if waits else None,
        reason=draw(st.text(max_size=5)),
        approved=draw(st.integers(-1, 9)),
        direct=draw(st.booleans()),
        barred=draw(st.sampled_from([(), (BARRED,), (replace(BARRED, digest=NEW),)])),
    )
    return read_state(render_state(made), "m")


@settings(max_examples=400)
@given(PLANS, states(), OBSERVATIONS, TIMES)
def test_laws(plan: Plan, begin: State, seen: Observation, now: datetime) -> None:
    decision = decide(plan, begin, seen, now)
    new = decision.state
    assert decision == decide(plan, begin, seen, now)
    # what is committed can be read back, and kept
    assert read_state(render_state(new), "m") == new
    assert sum(new.weights.values()) == 100
    # nothing is barred silently, nothing that was barred comes back
    assert set(begin.barred) <= set(new.barred)
    if new != begin:
        assert new.since == moment(now)
    if new.weight > begin.weight and seen.edit is None:
        assert seen.live is not None
        assert seen.live.weights is not None
        assert {k: v for k, v in seen.live.weights.items() if v} == {k: v for k, v in begin.weights.items() if v}
        service = seen.live.services["v13"]
        assert service.ready
        assert service.digest == NEW
        assert seen.verified
        assert seen.probe is not None
        assert seen.probe.ok
        assert NEW not in {each.digest for each in begin.barred}
        verdict = seen.shadow if begin.phase == "shadow" else seen.analysis
        assert begin.direct or begin.phase == "pending" or (verdict is not None and verdict.verdict == "pass")
    if new.champion != begin.champion:
        assert begin.phase in (("promoting",) if begin.direct else ()) + ("baking",)
        assert begin.weight == 100
    if begin.phase == "paused" and seen.edit is None and new != begin:
        assert new == replace(begin, since=new.since)  # only its time started anew
    if decision.brake is not None:
        assert decision.brake[begin.champion.version] == 100 or seen.edit is not None
        assert plan.brake
        assert not decision.release
    assert all(event.key and "\n" not in event.message for event in decision.events)


def test_what_is_barred_is_said_once() -> None:
    begin = state("step", 25, 2, barred=(Barred(version="v13", digest=NEW, since=moment(T0), reason="x"),))
    new = decide(PLAN, begin, good(begin), at(60)).state
    assert (new.phase, new.barred) == ("rolling_back", begin.barred)
