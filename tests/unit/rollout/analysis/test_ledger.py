from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upkeep.errors import IntegrityError
from upkeep.rollout.analysis.ledger import (
    MOST_POINTS,
    Answered,
    Labels,
    Ledger,
    Outcome,
    Pair,
    Point,
    advance,
    analyse,
    begin,
    margin_of,
    read,
    shadow,
    thinned,
    too_late,
    write,
)
from upkeep.rollout.analysis.result import MetricEvidence
from upkeep.rollout.state import Canary, Champion, State
from upkeep.serving.counters import Counts, Snapshot
from upkeep.spec.model import Data, Features, Margin, Metadata, ModelSpec, Retrain, Target, Threshold

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPEC = ModelSpec(
    metadata=Metadata(name="m"),
    data=Data(source="x", target=Target(column="y"), features=Features()),
    candidates=(Retrain(name="a", strategy="retrain", estimator="sklearn.tree.DecisionTreeClassifier"),),
)
LABELLED = replace(SPEC, monitoring=replace(SPEC.monitoring, labels="s3://labels/"))
STEP = State(
    model="m",
    phase="step",
    weight=25,
    champion=Champion(version="v1", digest="1" * 64, since="2026-03-01T12:00:00Z"),
    canary=Canary(version="v2", digest="2" * 64, update="u"),
    update="u",
    evidence=None,
    rollout="v2-20260301T120000Z",
    since="2026-03-01T12:00:00Z",
    step=2,
)


class Run:
    """Looks, one after another."""

    def __init__(self, spec: ModelSpec = SPEC, state: State = STEP) -> None:
        self.spec, self.state, self.now = spec, state, START
        self.ledger: Ledger = begin(spec, state, "c" * 40)
        self.counts = {"v1": [0, 0, 0], "v2": [0, 0, 0]}
        self.epoch = "1"

    def look(
        self,
        champion: tuple[int, int] = (0, 0),
        canary: tuple[int, int] = (0, 0),
        *,
        seconds: float = 10,
        weight: int | None = 25,
        counted: bool = True,
        labels: Labels | None = None,
    ) -> Ledger:
        """(requests, failed) more of each; then a look."""
        self.now += timedelta(seconds=seconds)
        for version, (n, bad) in (("v1", champion), ("v2", canary)):
            self.counts[version][0] += n
            self.counts[version][1] += bad
        versions = {
            name: Counts(requests=n, failed=bad, slow=slow, active=0) for name, (n, bad, slow) in self.counts.items()
        }
        snapshot = Snapshot(at=self.now, epoch=self.epoch, versions=versions) if counted else None
        self.ledger = advance(
            self.ledger,
            self.spec,
            state=self.state,
            weight=weight,
            snapshot=snapshot,
            labels=labels or Labels(),
            now=self.now,
        )
        return self.ledger

    @property
    def errors(self) -> Any:
        return self.ledger.metrics["errors"].seen


def test_outcomes_are_differences_at_one_weight() -> None:
    run = Run()
    run.look((100, 50), (100, 50))  # the first is the base
    assert run.errors.canary_n == 0
    run.look((100, 1), (30, 2))
    assert (run.errors.champion_n, run.errors.champion_bad, run.errors.canary_n, run.errors.canary_bad) == (
        100,
        1,
        30,
        2,
    )


def test_the_stretch_in_which_the_weight_moved_is_left_out() -> None:
    run = Run()
    run.look(weight=5)
    run.look((50, 0), (5, 0), weight=5)
    run.look((50, 50), (50, 50), weight=25)
    assert run.errors.canary_n == 5
    run.look((50, 0), (20, 0), weight=25)
    assert (run.errors.canary_n, run.errors.canary_bad) == (25, 0)


def test_what_a_dying_canary_fails_counts_against_it_though_its_share_goes_to_the_champion() -> None:
    run = Run()
    run.look()
    run.look((100, 0), (30, 0))
    run.look((90, 0), (12, 4), weight=0)  # its server died on the way, and the champion took over
    assert (run.errors.canary_n, run.errors.canary_bad) == (42, 4)
    run.look((120, 0), (0, 0), weight=0)
    run.look((120, 0), (3, 3), weight=0)  # it was back and died again between two looks
    assert (run.errors.canary_n, run.errors.canary_bad) == (45, 7)
    assert run.errors.champion_n == 310, "what the champion was asked while it was alone is compared with nothing"
    run.look((100, 0), (10, 0), weight=25)
    assert run.ledger.metrics["errors"].pass_peak == 0.0, "nothing of that speaks for it"


def test_with_all_traffic_a_canary_that_dies_again_and_again_is_taken_back() -> None:
    run = Run()
    run.look()
    run.look((1000, 2), (300, 1))
    run.state = replace(STEP, phase="baking", weight=100)
    run.look(weight=100)
    for _ in range(6):
        run.look((0, 0), (30, 0), weight=100)
        run.look((200, 0), (60, 30), weight=0)
    found = analyse(run.ledger, SPEC, run.state, run.now)
    assert found is not None
    assert found.verdict == "fail", found.summary


def test_a_snapshot_from_before_the_move_is_no_base() -> None:
    run = Run()
    run.look(weight=5)
    snapshot = Snapshot(at=run.now - timedelta(seconds=5), epoch="1", versions={})
    moved = advance(
        run.ledger, SPEC, state=STEP, weight=25, snapshot=snapshot, labels=Labels(), now=run.now + timedelta(seconds=1)
    )
    assert moved.counters is None


@pytest.mark.parametrize("what", ["epoch", "back", "unknown weight", "no counters"])
def test_what_cannot_be_subtracted_is_no_outcome(what: str) -> None:
    run = Run()
    run.look()
    if what == "epoch":
        run.epoch = "2"
    elif what == "back":
        run.counts = {"v1": [0, 0, 0], "v2": [0, 0, 0]}
        run.ledger = replace(
            run.ledger,
            counters=replace(
                run.ledger.counters,  # type: ignore[type-var]
                versions={name: Counts(requests=9999, failed=0, slow=0, active=0) for name in ("v1", "v2")},
            ),
        )
    if what == "no counters":
        run.look((10, 0), (10, 0), counted=False)
        assert run.errors.canary_n == 0
        run.look((10, 0), (10, 0))  # nothing was lost: the next difference holds both
        assert run.errors.canary_n == 20
        return
    run.look((10, 0), (10, 0), weight=None if what == "unknown weight" else 25)
    assert run.errors.canary_n == 0
    if what == "unknown weight":
        run.look((10, 0), (10, 0))
        assert run.errors.canary_n == 0
    run.look((10, 0), (10, 0))
    assert run.errors.canary_n == 10


def test_counters_whose_parts_came_apart_are_counted_together_later() -> None:
    run = Run()
    run.look()
    run.look((10, 0), (1, 3))
    assert run.errors.canary_n == 0
    run.look((10, 0), (9, 0))
    assert (run.errors.canary_n, run.errors.canary_bad) == (10, 3)


def test_a_pass_counts_only_what_came_after_requests_had_their_time() -> None:
    run = Run()
    for _ in range(2):  # 10 s is rollout.timeout: the second look is still too early
        run.look((100_000, 0), (30_000, 0))
        assert run.ledger.metrics["errors"].pass_peak == 0
        assert analyse(run.ledger, SPEC, STEP, run.now).verdict == "insufficient"  # type: ignore[union-attr]
    run.look((100_000, 0), (30_000, 0))
    assert run.ledger.metrics["errors"].pass_peak > 0
    assert analyse(run.ledger, SPEC, STEP, run.now).verdict == "pass"  # type: ignore[union-attr]


def test_what_speaks_against_the_canary_counts_at_once_and_is_kept_over_steps() -> None:
    run = Run()
    run.look()
    run.look((1000, 0), (300, 100), seconds=1)
    failed = run.ledger.metrics["errors"].fail_peak
    assert analyse(run.ledger, SPEC, STEP, run.now).verdict == "fail"  # type: ignore[union-attr]
    run.state = replace(STEP, step=3, weight=50)
    run.look(weight=50)
    assert run.ledger.metrics["errors"].fail_peak >= failed
    assert run.ledger.metrics["errors"].pass_peak == 0


def test_what_speaks_for_it_is_gathered_anew_at_each_step() -> None:
    run = Run()
    for _ in range(4):
        run.look((100_000, 0), (30_000, 0))
    run.state = replace(STEP, step=3, weight=50)
    assert analyse(run.ledger, SPEC, run.state, run.now).verdict == "insufficient"  # type: ignore[union-attr]
    run.look(weight=25)
    assert run.ledger.metrics["errors"].pass_peak == 0


def test_stages_that_wait_for_a_person_go_on_gathering() -> None:
    run = Run()
    for _ in range(4):
        run.look((100_000, 0), (30_000, 0))
    run.state = replace(STEP, phase="held", came_from="step")
    run.look((1000, 0), (300, 0))
    assert run.ledger.metrics["errors"].pass_peak > 0


def test_the_margin_follows_from_the_coming_weight() -> None:
    assert margin_of(SPEC, replace(STEP, step=0, phase="pending"), "errors") == 0.005
    assert margin_of(SPEC, replace(STEP, step=1), "errors") == pytest.approx(0.005 / 0.25)
    assert margin_of(SPEC, replace(STEP, step=2), "errors") == pytest.approx(0.005 / 0.5)
    assert margin_of(SPEC, replace(STEP, step=3), "errors") == pytest.approx(0.005)
    assert margin_of(SPEC, replace(STEP, phase="baking", step=3), "errors") == 0.005
    assert margin_of(SPEC, replace(STEP, step=1), "accuracy") == pytest.approx(0.02 / 0.25)


def test_labels_belong_to_the_weight_of_their_request() -> None:
    run = Run(LABELLED)
    run.look(weight=5)
    first = run.now.timestamp()
    run.look(weight=5)
    run.look(weight=25)
    run.look(weight=25)
    outcomes = tuple(
        Outcome(at=first + at, version=version, wrong=False)
        for at in (-5, 1, 15, 25)  # before anything, at 5 %, while it moved, at 25 %
        for version in ("v1", "v2")
    )
    run.look(weight=25, labels=Labels(outcomes=outcomes, cursor={"x": "1"}, unknown=3))
    accuracy = run.ledger.metrics["accuracy"]
    assert {each.weight: (each.block.canary_n, each.block.champion_n) for each in accuracy.open} == {
        5: (1, 1),
        25: (1, 1),
    }
    assert (run.ledger.cursor, run.ledger.unknown_labels) == ({"x": "1"}, 3)


GUARDED = replace(
    LABELLED,
    data=replace(LABELLED.data, target=Target(column="y", positive=True)),
    rollout=replace(LABELLED.rollout, margin=Margin(precision=0.05, recall=0.05)),
)


def answers(at: float, version: str, found: int, missed: int, alarms: int, quiet: int) -> tuple[Outcome, ...]:
    """Labelled answers of one version: true and missed positives, false alarms, true negatives."""
    cells = ((True, True, found), (False, True, missed), (True, False, alarms), (False, False, quiet))
    return tuple(
        Outcome(at=at, version=version, wrong=said != label, answered_positive=said, label_positive=label)
        for said, label, n in cells
        for _ in range(n)
    )


def evidence(run: Run, metric: str, unit: str = "labels") -> MetricEvidence:
    found = analyse(run.ledger, run.spec, run.state, run.now)
    assert found is not None
    return next(each for each in found.metrics if (each.metric, each.unit) == (metric, unit))


def test_precision_and_recall_are_of_the_positive_answers_and_labels() -> None:
    run = Run(GUARDED)
    run.look()
    at = run.now.timestamp()
    outcomes = answers(at, "v1", 30, 10, 20, 100) + answers(at, "v2", 12, 8, 3, 40)
    run.look(labels=Labels(outcomes=outcomes, cursor={}))
    recall, precision = evidence(run, "recall"), evidence(run, "precision")
    assert (recall.canary_n, recall.canary_bad, recall.champion_n, recall.champion_bad) == (20, 8, 40, 10)
    assert (precision.canary_n, precision.canary_bad, precision.champion_n, precision.champion_bad) == (15, 3, 50, 20)
    assert not recall.required and not precision.required
    assert read(write(run.ledger)) == run.ledger


def test_a_canary_that_finds_fewer_positives_is_taken_back_though_its_accuracy_is_as_good() -> None:
    run = Run(GUARDED)
    run.look()
    for _ in range(8):
        at = run.now.timestamp()
        outcomes = answers(at, "v1", 45, 5, 45, 905) + answers(at, "v2", 5, 45, 5, 945)
        run.look(labels=Labels(outcomes=outcomes, cursor={}))
    found = analyse(run.ledger, run.spec, run.state, run.now)
    assert found is not None and found.verdict == "fail"
    assert found.summary == "worse than the champion: recall"
    assert evidence(run, "accuracy").verdict != "fail"


def test_guardrails_share_the_chance_of_a_rollback_from_the_beginning_only() -> None:
    run = Run(GUARDED)
    parts = [each.fail_at for each in analyse(run.ledger, GUARDED, STEP, run.now).metrics if each.fail_at]  # type: ignore[union-attr]
    assert run.ledger.parts == ("errors", "latency", "accuracy", "precision", "recall", "pairs", "slices")
    assert sum(1 / each for each in parts) <= GUARDED.rollout.certainty.rollback
    run.look()
    run.spec = LABELLED  # the margins are taken out of the spec on the way: what was begun goes on
    run.state = replace(STEP, step=3, weight=50)
    run.look(weight=50)
    assert {"precision", "recall"} < run.ledger.metrics.keys()
    plain = begin(LABELLED, STEP, "c" * 40)
    later = advance(plain, GUARDED, state=STEP, weight=25, snapshot=None, labels=Labels(cursor={}), now=START)
    assert later.metrics.keys() == {"errors", "latency", "accuracy"}


@pytest.mark.parametrize(
    ("began", "now", "said"),
    [
        (SPEC, SPEC, ()),
        (LABELLED, LABELLED, ()),
        (LABELLED, SPEC, ()),
        (SPEC, LABELLED, ("accuracy", "pairs", "slices")),
        (LABELLED, GUARDED, ("precision", "recall")),
    ],
)
def test_what_labels_are_wanted_for_too_late_is_said(began: ModelSpec, now: ModelSpec, said: tuple[str, ...]) -> None:
    assert too_late(begin(began, STEP, "c" * 40), now) == said


@pytest.mark.parametrize(
    ("metric", "value", "n"),
    [("accuracy", 83 / 100, 100), ("precision", 0.6, 20), ("recall", 12 / 21, 21), ("f1", 24 / 41, 29)],
)
def test_a_limit_on_a_metric_of_labels_is_judged_on_the_canarys(metric: Any, value: float, n: int) -> None:
    """12 positives found, 9 missed, 8 false alarms, 71 true negatives."""
    for limit, verdict in ((value - 1e-9, "pass"), (value + 1e-9, "fail")):
        threshold = Threshold(metric=metric, at_least=limit, over=60.0, min_requests=n)
        run = Run(replace(GUARDED, rollout=replace(GUARDED.rollout, thresholds=(threshold,))))
        run.look()
        at = run.now.timestamp()
        outcomes = answers(at, "v1", 500, 0, 0, 500) + answers(at, "v2", 12, 9, 8, 71)
        run.look(labels=Labels(outcomes=outcomes, cursor={}))
        assert evidence(run, metric, "readings").verdict == "insufficient"
        run.look(seconds=60, labels=Labels(cursor={}))
        assert evidence(run, metric, "readings").verdict == verdict
        (reading,) = run.ledger.windows[0].readings
        assert (reading.value, reading.n) == (pytest.approx(value), n)
        run.look(seconds=600, labels=Labels(cursor={}))  # no label since: no news
        assert evidence(run, metric, "readings").verdict == verdict


def test_a_window_of_labels_waits_for_enough_and_starts_with_the_step() -> None:
    threshold = Threshold(metric="accuracy", at_least=0.5, over=10.0, min_requests=100)
    run = Run(replace(GUARDED, rollout=replace(GUARDED.rollout, thresholds=(threshold,))))
    run.look()
    some = Labels(outcomes=answers(run.now.timestamp(), "v2", 0, 99, 0, 0), cursor={})
    run.look(seconds=60, labels=some)
    assert evidence(run, "accuracy", "readings").verdict == "insufficient"
    run.state = replace(STEP, step=3, weight=50)
    run.look(seconds=60, weight=50, labels=some)
    assert evidence(run, "accuracy", "readings").verdict == "insufficient"
    run.look(seconds=60, weight=50, counted=False, labels=some)
    assert evidence(run, "accuracy", "readings").verdict == "fail"


WATCHED = replace(SPEC, rollout=replace(SPEC.rollout, margin=Margin(predictions=0.05)))


def said(at: float, version: str, yes: int, no: int) -> tuple[Answered, ...]:
    return tuple(Answered(at=at, version=version, answer=answer, n=n) for answer, n in (("true", yes), ("false", no)))


@pytest.mark.parametrize("positive", [None, True])
@pytest.mark.parametrize(("yes", "verdict"), [(40, "fail"), (20, "insufficient"), (23, "insufficient"), (2, "fail")])
def test_a_canary_that_answers_otherwise_is_taken_back_without_a_label(
    positive: bool | None, yes: int, verdict: str
) -> None:
    """The champion says yes to one in five; up to five in a hundred more or fewer are let be."""
    spec = replace(WATCHED, data=replace(SPEC.data, target=Target(column="y", positive=positive)))
    run = Run(spec)
    run.look()
    for _ in range(20):
        at = run.now.timestamp()
        answers = said(at, "v1", 60, 240) + said(at, "v2", yes, 100 - yes)
        run.look((300, 0), (100, 0), labels=Labels(answers=answers, cursor={}))
    found = analyse(run.ledger, spec, STEP, run.now)
    assert found is not None
    predictions = evidence(run, "predictions", "answers")
    assert predictions.verdict == verdict
    assert (found.verdict == "fail") == (verdict == "fail")
    if verdict == "fail":
        assert found.summary == "other answers than the champion's: predictions"
    assert not predictions.required
    assert predictions.difference == pytest.approx(yes / 100 - 0.2 if positive else 0.2 - yes / 100)
    assert ("true" if positive else "false") in predictions.text
    assert read(write(run.ledger)) == run.ledger


def test_answers_count_only_where_both_versions_have_traffic() -> None:
    run = Run(replace(WATCHED, data=replace(SPEC.data, target=Target(column="y", positive=True))))
    run.look(weight=0)
    shadowed = run.now.timestamp()
    run.look(weight=0)
    run.look(weight=25)
    live = run.now.timestamp()
    moving = live - 5
    answers = tuple(each for at in (shadowed, moving, live) for each in said(at, "v1", 5, 5) + said(at, "v2", 1, 1))
    run.look(labels=Labels(answers=answers, cursor={}))
    assert (evidence(run, "predictions", "answers").champion_n, run.ledger.parts[-1]) == (10, "predictions")
    assert evidence(run, "predictions", "answers").canary_n == 2


def test_predictions_never_pass_and_block_no_step() -> None:
    run = Run(WATCHED)
    for _ in range(4):
        run.look((100_000, 0), (30_000, 0))
    assert analyse(run.ledger, WATCHED, STEP, run.now).verdict == "pass"  # type: ignore[union-attr]
    assert evidence(run, "predictions", "answers").verdict == "insufficient"


def test_a_limit_that_comes_on_the_way_is_waited_for() -> None:
    run = Run()
    for _ in range(4):
        run.look((100_000, 0), (30_000, 0))
    assert analyse(run.ledger, run.spec, STEP, run.now).verdict == "pass"  # type: ignore[union-attr]
    limit = Threshold(metric="errors", at_most=0.5, over=10.0)
    run.spec = replace(SPEC, rollout=replace(SPEC.rollout, thresholds=(limit,)))
    assert analyse(run.ledger, run.spec, STEP, run.now).verdict == "insufficient"  # type: ignore[union-attr]
    for _ in range(2):
        run.look((100_000, 0), (30_000, 0))
    assert analyse(run.ledger, run.spec, STEP, run.now).verdict == "pass"  # type: ignore[union-attr]


def test_pairs_tell_before_any_traffic() -> None:
    run = Run(LABELLED, replace(STEP, phase="shadow", step=0, weight=0))
    worse = tuple(Pair(champion_right=True, canary_right=False, slices=("region=north",)) for _ in range(40))
    run.look(weight=0, labels=Labels(pairs=worse, cursor={}))
    assert shadow(run.ledger).verdict == "fail"
    assert run.ledger.slices.keys() == {"region=north"}
    assert "accuracy region=north" in shadow(run.ledger).guilty


def test_nothing_is_known_of_a_ledger_of_another_rollout() -> None:
    run = Run()
    assert analyse(run.ledger, SPEC, replace(STEP, rollout="v3-20260301T120000Z"), run.now) is None


def test_a_ledger_is_read_back_as_it_was_written() -> None:
    run = Run(LABELLED)
    for _ in range(3):
        run.look((100, 1), (30, 2))
    assert read(write(run.ledger)) == run.ledger
    with pytest.raises(IntegrityError):
        read(b'{"model": "m"}')


Deltas = st.tuples(st.integers(0, 500), st.floats(0, 1), st.integers(0, 500), st.floats(0, 1), st.sampled_from([5, 25]))


@settings(max_examples=40)
@given(st.lists(Deltas, min_size=1, max_size=12))
def test_no_outcome_is_counted_twice_or_out_of_nothing(deltas: list[tuple[int, float, int, float, int]]) -> None:
    run = Run()
    total = 0
    for champion, share_b, canary, share_c, weight in deltas:
        before = run.ledger.moves[-1].weight if run.ledger.moves else None
        run.look((champion, int(champion * share_b)), (canary, int(canary * share_c)), weight=weight)
        total += canary if before == weight else 0
        assert run.errors.canary_n == total
        assert read(write(run.ledger)) == run.ledger


def test_the_timeline_stays_short_and_keeps_the_turns() -> None:
    points: tuple[Point, ...] = ()
    for at in range(2000):
        point = Point(at=float(at), stage="step 1" if at < 700 else "step 2", weight=5 if at < 700 else 25, metrics=())
        points = thinned((*points, point))
        assert len(points) <= MOST_POINTS
    assert points[0].at == 0
    assert points[-1].at == 1999
    assert next(point for point in points if point.weight == 25).at == 700
