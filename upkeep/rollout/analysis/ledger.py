"""A rollout's running evidence: one record, advanced by pure functions, stored before anyone decides on it.

Counters are raw and only ever grow. An outcome is the difference of two snapshots of one epoch, taken while the traffic
had one weight: a stretch in which the weight moved, or after which a counter went back (a restart), is left out, unless
it is the canary that lost its share by itself. A snapshot is the base of the next difference only once the weight it
was taken at is known. What speaks against the canary adds up over the whole rollout. What speaks for it counts from the
step's own traffic alone, and only from ``rollout.timeout`` seconds after that traffic moved: a request that will fail
by running out of time has done so by then. Labels belong to the weight at the time of their request.

Times are seconds since the epoch, weights per cent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import orjson

from upkeep import records
from upkeep.rollout.analysis.combine import combine
from upkeep.rollout.analysis.one_arm import OneArm
from upkeep.rollout.analysis.predictions import Predictions
from upkeep.rollout.analysis.result import Analysis, MetricEvidence
from upkeep.rollout.analysis.sequential import Block, Paired, Pairs, TwoArm, step_margin
from upkeep.rollout.analysis.thresholds import Reading, judge
from upkeep.rollout.plan import plan_of
from upkeep.rollout.state import AT_REST, State
from upkeep.serving.counters import Counts, Snapshot
from upkeep.spec.model import ModelSpec

SERVICE = ("errors", "latency")
LABELLED = ("accuracy", "precision", "recall")
"""What labelled live requests are compared by; the last two are guardrails, compared where they have a margin."""
PAIRED = ("pairs", "slices")
PRIOR = {"errors": 0.01, "latency": 0.05, "accuracy": 0.2, "precision": 0.2, "recall": 0.2}
LABELS_A_BLOCK = 10
COUNTED = {"errors": "errors", "slow": "latency"}
"""A fixed limit's metric → the compared one that is made from the same counters; the others are made from labels."""
AFTER = 0.2
"""The share of errors' (and latency's) error rate that is kept for the time after promotion."""
NONE = Counts(requests=0, failed=0, slow=0, active=0)
MOST_SLICES = 50
MOST_POINTS = 400
"""Of the timeline; beyond, every second one of the older half goes."""
STALE = 6
"""Counters that are older than so many looks (or a minute) are no ground for a pass."""
MOST_WINDOWS = 200


@dataclass(frozen=True, kw_only=True)
class Moved:
    """The traffic's weight changed."""

    weight: int
    before: float
    """The last time it was seen at another weight."""
    at: float
    """The first time it was seen at this one."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """A raw snapshot."""

    at: float
    epoch: str
    versions: dict[str, Counts]


@dataclass(frozen=True, kw_only=True)
class MetricPoint:
    metric: str
    slice: str = ""
    canary_n: int
    canary_bad: int
    champion_n: int
    champion_bad: int
    difference: float | None
    lower: float | None
    upper: float | None
    margin: float | None
    e_fail: float | None
    e_pass: float | None


@dataclass(frozen=True, kw_only=True)
class Point:
    """One look, for the page's timeline."""

    at: float
    stage: str
    weight: int | None
    """The canary's live share; None: unknown."""
    metrics: tuple[MetricPoint, ...]


@dataclass(frozen=True, kw_only=True)
class Windowed:
    """A fixed limit's windows since the step began."""

    since: float
    n: int = 0
    bad: int = 0
    """Of the window that is open."""
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A labelled live request."""

    at: float
    """When the request was made."""
    version: str
    wrong: bool
    answered_positive: bool = False
    label_positive: bool = False
    """Both False where ``data.target.positive`` is not set."""
    slices: tuple[str, ...] = ()
    """``column=value``."""

    def weight(self, metric: str) -> int:
        """How often it counts for a metric: an outcome of which the share of good ones is that metric.

        F1 = 2 TP/(2 TP + FP + FN): a positive that was found counts twice, and every other that is one or was called
        one counts once.
        """
        of = {
            "accuracy": 1,
            "precision": self.answered_positive,
            "recall": self.label_positive,
            "f1": self.answered_positive + self.label_positive,
        }
        return int(of[metric])


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A labelled request that champion and canary both answered."""

    champion_right: bool
    canary_right: bool
    slices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Live requests of one second that one version answered alike."""

    at: float
    """When the second began."""
    version: str
    answer: str
    n: int


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What is new since the last look, and how far the labels are read now."""

    outcomes: tuple[Outcome, ...] = ()
    pairs: tuple[Pair, ...] = ()
    answers: tuple[Answered, ...] = ()
    """With a label or without."""
    cursor: dict[str, str] | None = None
    """The reader's own: what it has used (label file → digest, say). None: nothing was read."""
    unknown: int = 0
    """Labels whose id no request had."""
    problems: tuple[str, ...] = ()
    """What keeps labels from counting, each in one line: a file that cannot be read as labels, say."""


@dataclass(frozen=True, kw_only=True)
class News:
    """Something that people are told."""

    kind: str
    message: str
    key: str
    """The same for the same news: it is told once."""


@dataclass(frozen=True, kw_only=True)
class Intent:
    """What is about to be committed: written before the push, so that after a crash it is known as one's own."""

    state: State
    base: str
    """The commit that it goes on top of."""
    news: tuple[News, ...] = ()
    """What to tell, once it is there."""


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """A step on a branch of its own, for a person to merge."""

    branch: str
    state: State
    """What the merge makes of the model's folder."""
    commit: str = ""
    """On the branch; empty: it may not be there yet."""
    url: str = ""
    """The pull request's page; empty: it is not open yet, or people open theirs."""


@dataclass(frozen=True, kw_only=True)
class Ledger:
    model: str
    rollout: str
    """Its id: ``v13-20260301T120000Z``."""
    rollback: float
    """``certainty.rollback`` when it began."""
    parts: tuple[str, ...]
    """What shares it: see :func:`begin`."""
    state: State
    """What Upkeep committed last."""
    commit: str
    """… and where."""
    heads: tuple[str, ...] = ()
    """Newest commits of the repository since then: a cluster that applied one of them applied the state."""
    intent: Intent | None = None
    proposed: Proposed | None = None
    """What waits for a merge."""
    told: tuple[str, ...] = ()
    """Keys of news that was told."""
    records: int = 0
    """Evidence records so far: the next one's number."""
    stage: str = ""
    """What the evidence for a pass belongs to: ``shadow``, ``step 2``, ``baking``."""
    looked: float | None = None
    counted: float | None = None
    """When counters were last read."""
    moves: tuple[Moved, ...] = ()
    """Changes of the live weight."""
    moved: float | None = None
    """When the stage's own weight was first seen live; None: not yet."""
    counters: Base | None = None
    """The base of the next difference."""
    metrics: dict[str, TwoArm]
    """``errors``, ``latency``; of labelled live requests ``accuracy``, ``precision``, ``recall``."""
    pairs: Paired
    slices: dict[str, Paired]
    """``column=value`` → its pairs."""
    after: dict[str, OneArm]
    """``errors``, ``latency`` since the canary has all traffic."""
    predictions: Predictions | None = None
    """None: not compared."""
    windows: tuple[Windowed, ...] = ()
    """One a fixed limit, in the spec's order."""
    cursor: dict[str, str]
    """How far the labels are read."""
    unknown_labels: int = 0
    troubles: dict[str, str]
    """Kind → what could not be read at the last look."""
    points: tuple[Point, ...] = ()
    schema_version: int = 1


def key(model: str, rollout: str) -> str:
    """Where the ledger stands in the store."""
    return f"{model}/evidence/{rollout or 'none'}/ledger.json"


def write(ledger: Ledger) -> bytes:
    """Its bytes: sorted keys, no spaces. It is written at each look and named by nothing, so it need not be pretty."""
    return orjson.dumps(ledger, option=orjson.OPT_SORT_KEYS)


def read(data: bytes, source: str = "") -> Ledger:
    """A ledger back. Raises :class:`~upkeep.errors.IntegrityError` where it is none."""
    return records.from_json(Ledger, data, source=source)


# --- begin ---------------------------------------------------------------------------------------------------------


def begin(spec: ModelSpec, state: State, commit: str) -> Ledger:
    """The ledger of a rollout of which nothing is known yet.

    What is measured, and how the chance to take a good canary back is shared out, is settled here: a spec that changes
    on the way must not move what the evidence so far was weighed with.
    """
    parts = (
        *SERVICE,
        *_of_labels(spec),
        *(["predictions"] if spec.rollout.margin.predictions is not None else []),
    )
    rollback = spec.rollout.certainty.rollback
    return Ledger(
        model=spec.name,
        rollout=state.rollout,
        rollback=rollback,
        parts=parts,
        state=state,
        commit=commit,
        metrics={
            name: TwoArm(
                margin=getattr(spec.rollout.margin, name),
                prior=PRIOR[name],
                least=LABELS_A_BLOCK if name in LABELLED else 1,
                alpha_fail=_alpha(rollback, parts, name),
                alpha_pass=spec.rollout.certainty.step,
            )
            for name in parts
            if name in PRIOR
        },
        pairs=_new_pairs(spec, _alpha(rollback, parts, "pairs")),
        slices={},
        predictions=_new_predictions(spec, _alpha(rollback, parts, "predictions")),
        after={},
        cursor={},
        troubles={},
    )


def too_late(ledger: Ledger, spec: ModelSpec) -> tuple[str, ...]:
    """What the spec's labels would be used for, had the spec said so when the rollout began: no step waits for it."""
    return tuple(name for name in _of_labels(spec) if name not in ledger.parts)


def _of_labels(spec: ModelSpec) -> tuple[str, ...]:
    if not spec.monitoring.labels:
        return ()
    return (*(name for name in LABELLED if _asked(spec, name)), *(PAIRED if spec.rollout.shadow.replay else ()))


def _asked(spec: ModelSpec, name: str) -> bool:
    positive = name not in ("precision", "recall") or spec.data.target.positive is not None
    return positive and getattr(spec.rollout.margin, name) is not None


def _new_pairs(spec: ModelSpec, alpha: float) -> Paired:
    return Paired(margin=spec.rollout.margin.accuracy, alpha_fail=alpha, alpha_pass=spec.rollout.certainty.step)


def _new_predictions(spec: ModelSpec, alpha: float) -> Predictions | None:
    from upkeep.data.validate import label_text

    margin, positive = spec.rollout.margin.predictions, spec.data.target.positive
    if margin is None:
        return None
    return Predictions(margin=margin, alpha=alpha, answer="" if positive is None else label_text(positive))


def _alpha(rollback: float, parts: Sequence[str], name: str) -> float:
    """Each metric's part of ``rollback``: over all of ``parts`` (and what follows promotion) no more than it."""
    part = rollback / len(parts)
    if name.startswith("after "):
        return part * AFTER
    if name in SERVICE:
        return part * (1 - AFTER)
    return part / MOST_SLICES if name == "slices" else part


def stage_of(state: State) -> str:
    """What evidence for a pass is gathered for: a stage that waits for a person goes on gathering its own."""
    phase = state.came_from or state.phase
    return f"step {state.step}" if phase == "step" else phase


def margin_of(spec: ModelSpec, state: State, metric: str) -> float:
    """The margin of what is measured on live traffic: the spec's is the harm accepted over all traffic, and at the
    coming step's weight only that share can be harmed. Pairs take the spec's as it is."""
    margin: float = getattr(spec.rollout.margin, metric)
    if (state.came_from or state.phase) != "step":
        return margin
    coming = (*plan_of(spec).steps, 100)[min(state.step, len(spec.rollout.steps))]
    return step_margin(margin, coming)


# --- advance -------------------------------------------------------------------------------------------------------


def advance(
    ledger: Ledger,
    spec: ModelSpec,
    *,
    state: State,
    weight: int | None,
    snapshot: Snapshot | None,
    labels: Labels,
    now: datetime,
    troubles: Mapping[str, str] | None = None,
) -> Ledger:
    """The ledger after one more look. Pure.

    ``state`` is what Git says; ``weight`` the canary's live share, read before ``snapshot`` (None: unknown);
    ``snapshot`` the raw counters (None: they could not be read); ``labels`` what is new of them.
    """
    at = now.timestamp()
    if state.canary is None:
        return ledger
    ledger = _staged(ledger, spec, state)
    anew = tuple(Windowed(since=at) for _ in spec.rollout.thresholds)
    if len(ledger.windows) != len(anew):
        ledger = replace(ledger, windows=anew)
    ledger = _weighted(ledger, state, weight, at)
    base = ledger.counters
    ledger = _counted(ledger, spec, state, weight, snapshot, at)
    ledger = _labels_in(ledger, spec, state, labels, at)
    if base is None or not _settled(ledger, spec, base.at):
        fresh = {
            name: each.begin(margin_of(spec, state, name)) if name in SERVICE else each
            for name, each in ledger.metrics.items()
        }
        windows = [
            begun if threshold.metric in COUNTED else window
            for threshold, window, begun in zip(spec.rollout.thresholds, ledger.windows, anew, strict=True)
        ]
        ledger = replace(ledger, metrics=fresh, windows=tuple(windows))
    ledger = replace(ledger, looked=at, troubles=dict(troubles or {}))
    return _with_point(ledger, spec, weight, at)


def _staged(ledger: Ledger, spec: ModelSpec, state: State) -> Ledger:
    stage = stage_of(state)
    if stage == ledger.stage:
        return ledger
    metrics = {
        # (a guardrail whose margin the spec has lost meanwhile goes on as it began)
        name: each.begin(margin_of(spec, state, name)) if _asked(spec, name) else each
        for name, each in ledger.metrics.items()
    }
    after = ledger.after
    if stage == "baking" and not after:
        after = {
            name: OneArm(
                margin=getattr(spec.rollout.margin, name),
                champion=ledger.metrics[name].seen,
                alpha=_alpha(ledger.rollback, ledger.parts, f"after {name}"),
            )
            for name in SERVICE
        }
    return replace(
        ledger,
        stage=stage,
        metrics=metrics,
        pairs=ledger.pairs.begin(spec.rollout.margin.accuracy),
        after=after,
        moved=None,
        windows=(),
    )


def _weighted(ledger: Ledger, state: State, weight: int | None, at: float) -> Ledger:
    if weight is None:
        return ledger
    moves, counters = ledger.moves, ledger.counters
    if not moves or moves[-1].weight != weight:
        before = ledger.looked if ledger.looked is not None else at
        # the stretch in which the weight moved belongs to neither weight; but where a canary has lost its share by
        # itself (its server died, and the champion answers in its place), what failed on the way is the canary's
        if weight or not moves or moves[-1].weight != state.weight:
            counters = None
        moves = (*moves, Moved(weight=weight, before=min(before, at), at=at))
    moved = ledger.moved
    if weight != state.weight:
        moved = None
    elif moved is None or moved > at:  # (a clock that went back)
        moved = at
    return replace(ledger, moves=moves, moved=moved, counters=counters)


def _settled(ledger: Ledger, spec: ModelSpec, at: float) -> bool:
    return ledger.moved is not None and at >= ledger.moved + spec.rollout.timeout


def _counted(
    ledger: Ledger, spec: ModelSpec, state: State, weight: int | None, snapshot: Snapshot | None, at: float
) -> Ledger:
    if snapshot is None:
        return ledger
    new = Base(at=snapshot.at.timestamp(), epoch=snapshot.epoch, versions=dict(snapshot.versions))
    if weight is None:
        # which weight the stretch since the base had is not known
        return replace(ledger, counters=None, counted=at)
    if ledger.moves and new.at < ledger.moves[-1].at:
        return ledger  # taken before the weight moved: it is no base yet
    old = ledger.counters
    if old is None or old.epoch != new.epoch:
        return replace(ledger, counters=new, counted=at)
    assert state.canary is not None
    canary, champion = (_difference(old, new, role.version) for role in (state.canary, state.champion))
    if canary == "back" or champion == "back":
        return replace(ledger, counters=new, counted=at)
    if isinstance(canary, str) or isinstance(champion, str):
        return replace(ledger, counted=at)  # parts of one request came in between: the next difference holds both
    blocks = {
        "errors": _block(canary, champion, "failed"),
        "latency": _block(canary, champion, "slow"),
    }
    metrics = dict(ledger.metrics)
    # a canary without a share that was asked all the same had its share meanwhile, and lost it again
    share = weight or (state.weight if canary.requests else 0)
    if 0 < share < 100:  # else one arm has only requests that were pinned to it
        for name in SERVICE:
            metrics[name] = metrics[name].observe(share, blocks[name])
    after = ledger.after
    if after and share == 100:
        before = new.versions.get(state.champion.version, NONE)
        bad = {"errors": before.failed, "latency": before.slow}
        past = {
            name: Block(champion_n=before.requests, champion_bad=min(n, before.requests)) for name, n in bad.items()
        }
        after = {
            # the two never had traffic side by side (a person gave it all at once): then the champion's past counts
            name: (each if each.champion.champion_n else replace(each, champion=past[name])).update(
                blocks[name].canary_n, blocks[name].canary_bad
            )
            for name, each in after.items()
        }
    news = {metric: (blocks[name].canary_n, blocks[name].canary_bad) for metric, name in COUNTED.items()}
    windows = _windows(ledger.windows, spec, news, at)
    return replace(ledger, counters=new, counted=at, metrics=metrics, after=after, windows=windows)


def _difference(old: Base, new: Base, version: str) -> Counts | Literal["back", "torn"]:
    """What was added; a version that is missing has none. ``back`` or ``torn``: the two cannot be subtracted."""
    a, b = old.versions.get(version, NONE), new.versions.get(version, NONE)
    requests, failed, slow = b.requests - a.requests, b.failed - a.failed, b.slow - a.slow
    if min(requests, failed, slow) < 0:
        return "back"
    if max(failed, slow) > requests:
        return "torn"
    return Counts(requests=requests, failed=failed, slow=slow, active=b.active)


def _block(canary: Counts, champion: Counts, bad: str) -> Block:
    return Block(
        canary_n=canary.requests,
        canary_bad=getattr(canary, bad),
        champion_n=champion.requests,
        champion_bad=getattr(champion, bad),
    )


def _windows(
    windows: tuple[Windowed, ...], spec: ModelSpec, news: Mapping[str, tuple[int, int]], at: float
) -> tuple[Windowed, ...]:
    """``news``: metric of a limit → (n, bad) more of the canary; limits on other metrics stay as they are."""
    done = []
    for threshold, window in zip(spec.rollout.thresholds, windows, strict=True):
        if threshold.metric not in news:
            done.append(window)
            continue
        n, bad = news[threshold.metric]
        grown = replace(window, n=window.n + n, bad=window.bad + bad)
        reading = _reading(threshold.metric, grown.n, grown.bad)
        # Labels come late and many at once: a stretch without them says nothing, and ends no window.
        waits = threshold.metric not in COUNTED and reading.n < threshold.min_requests
        if at - window.since >= threshold.over and not waits:
            grown = Windowed(since=at, readings=(*window.readings, reading)[-MOST_WINDOWS:])
        done.append(grown)
    return tuple(done)


def _reading(metric: str, n: int, bad: int) -> Reading:
    share = bad / n if n else None
    if metric in COUNTED or share is None:
        return Reading(value=share, n=n)
    # a positive that was found stands twice in F1's n
    return Reading(value=1 - share, n=(n + bad) // 2 if metric == "f1" else n)


def _labels_in(ledger: Ledger, spec: ModelSpec, state: State, labels: Labels, at: float) -> Ledger:
    if labels.cursor is None:
        return ledger
    assert state.canary is not None
    metrics = dict(ledger.metrics)
    for name in LABELLED:
        if name in metrics:
            some = [each for each in labels.outcomes if each.weight(name)]
            for weight, block in _by_weight(ledger.moves, state, some):
                metrics[name] = metrics[name].observe(weight, block)
    own = [each for each in labels.outcomes if each.version == state.canary.version]
    news = {
        metric: (sum(each.weight(metric) for each in own), sum(each.weight(metric) for each in own if each.wrong))
        for metric in (*LABELLED, "f1")
    }
    pairs, slices = ledger.pairs, dict(ledger.slices)
    if labels.pairs and "pairs" in ledger.parts:
        pairs = pairs.update(_sum(labels.pairs))
        names = sorted({name for pair in labels.pairs for name in pair.slices})
        for name in names:
            if name not in slices and len(slices) >= MOST_SLICES:
                continue
            start = slices.get(name) or _new_pairs(spec, _alpha(ledger.rollback, ledger.parts, "slices"))
            slices[name] = start.update(_sum(pair for pair in labels.pairs if name in pair.slices))
    predictions = ledger.predictions
    if predictions is not None:
        for weight, canary, champion in _answers_by_weight(ledger.moves, state, labels.answers):
            predictions = predictions.observe(weight, canary, champion)
    return replace(
        ledger,
        metrics=metrics,
        predictions=predictions,
        windows=_windows(ledger.windows, spec, news, at),
        pairs=pairs,
        slices=slices,
        cursor=labels.cursor,
        unknown_labels=ledger.unknown_labels + labels.unknown,
    )


def _sum(pairs: Iterable[Pair]) -> Pairs:
    pairs = list(pairs)
    return Pairs(
        both_right=sum(each.champion_right and each.canary_right for each in pairs),
        both_wrong=sum(not each.champion_right and not each.canary_right for each in pairs),
        only_champion=sum(each.champion_right and not each.canary_right for each in pairs),
        only_canary=sum(each.canary_right and not each.champion_right for each in pairs),
    )


def _by_weight(moves: Sequence[Moved], state: State, outcomes: Sequence[Outcome]) -> list[tuple[int, Block]]:
    """(weight at the time of the request, outcomes), in order of time; requests while the weight moved are left out."""
    assert state.canary is not None
    blocks: dict[tuple[int, int], Block] = {}
    for each in sorted(outcomes, key=lambda outcome: outcome.at):
        index = _move_of(moves, each.at)
        if index is None:
            continue
        one = Block()
        if each.version == state.canary.version:
            one = Block(canary_n=1, canary_bad=int(each.wrong))
        elif each.version == state.champion.version:
            one = Block(champion_n=1, champion_bad=int(each.wrong))
        where = (index, moves[index].weight)
        blocks[where] = blocks.get(where, Block()) + one
    return [(weight, block) for (_, weight), block in sorted(blocks.items(), key=lambda item: item[0])]


def _move_of(moves: Sequence[Moved], at: float) -> int | None:
    """Which move set the weight that a request met; None: unknown, or the weight moved just then."""
    index = max((place for place, move in enumerate(moves) if move.at <= at), default=None)
    return None if index is None or (index + 1 < len(moves) and at > moves[index + 1].before) else index


def _answers_by_weight(
    moves: Sequence[Moved], state: State, answers: Sequence[Answered]
) -> list[tuple[int, Counter[str], Counter[str]]]:
    """(weight, the canary's answers, the champion's) in order of time; only where both had a share of the traffic."""
    assert state.canary is not None
    found: dict[int, dict[str, Counter[str]]] = {}
    for each in answers:
        index = _move_of(moves, each.at)
        if index is not None and 0 < moves[index].weight < 100:
            found.setdefault(index, {}).setdefault(each.version, Counter())[each.answer] += each.n
    sides = state.canary.version, state.champion.version
    return [
        (moves[index].weight, *(found[index].get(version, Counter[str]()) for version in sides))  # type: ignore[misc]
        for index in sorted(found)
    ]


# --- analyse -------------------------------------------------------------------------------------------------------


def analyse(ledger: Ledger, spec: ModelSpec, state: State, now: datetime) -> Analysis | None:
    """What the evidence says about the stage that ``state`` is in; None: no canary, or none of this ledger's.

    A pass needs counters that are not stale: what was shown before they went away says nothing of now.
    """
    if state.canary is None or state.phase in AT_REST or ledger.rollout != state.rollout:
        return None
    if ledger.stage != stage_of(state):
        ledger = _staged(ledger, spec, state)
    analysis = combine(_evidence(ledger, spec), rollback=ledger.rollback)
    needs = set(required(spec)) & set(SERVICE)
    stale = max(60.0, STALE * spec.rollout.every)
    counted = ledger.counted
    if analysis.verdict == "pass" and needs and (counted is None or abs(now.timestamp() - counted) > stale):
        why = f"no counters were read for {stale:g} s"
        return replace(analysis, verdict="insufficient", summary=why, reasons=(why, *ledger.troubles.values()))
    if analysis.verdict == "pass" and needs and not _settled(ledger, spec, now.timestamp()):
        why = "the traffic has not settled at its new weight yet"
        return replace(analysis, verdict="insufficient", summary=why, reasons=(why,))
    return analysis


def shadow(ledger: Ledger) -> Analysis:
    """What the pairs alone say, before the canary gets traffic."""
    evidence = [ledger.pairs.evidence("accuracy"), *_slice_evidence(ledger)]
    return combine(evidence, rollback=ledger.rollback)


def steady(ledger: Ledger, state: State) -> datetime | None:
    """Since when the stage that ``state`` is in has had its own weight at every look; None: it has not now."""
    known = ledger.moved is not None and ledger.rollout == state.rollout and ledger.stage == stage_of(state)
    return datetime.fromtimestamp(ledger.moved, UTC) if known and ledger.moved is not None else None


def required(spec: ModelSpec) -> tuple[str, ...]:
    """What must be shown not worse before a step passes."""
    return spec.rollout.required or (*SERVICE, *(["accuracy"] if spec.monitoring.labels else []))


def _evidence(ledger: Ledger, spec: ModelSpec) -> list[MetricEvidence]:
    needs = required(spec)
    found = [ledger.metrics[name].evidence(name, required=name in needs) for name in SERVICE]
    found += [ledger.after[name].evidence(name) for name in SERVICE if name in ledger.after]
    paired = "pairs" in ledger.parts
    if paired:
        found.append(ledger.pairs.evidence("accuracy", required="accuracy" in needs))
        found += _slice_evidence(ledger)
    for name in LABELLED:
        if name in ledger.metrics:
            waited = name in needs and not paired
            found.append(ledger.metrics[name].evidence(name, unit="labels", required=waited))
    if ledger.predictions is not None:
        found.append(ledger.predictions.evidence())
    limits = spec.rollout.thresholds
    known = len(ledger.windows) == len(limits)
    for at, threshold in enumerate(limits):
        found.append(judge(threshold, ledger.windows[at].readings if known else ()))
    return found


def _slice_evidence(ledger: Ledger) -> list[MetricEvidence]:
    return [each.evidence("accuracy", slice=name, required=False) for name, each in sorted(ledger.slices.items())]


# --- the timeline --------------------------------------------------------------------------------------------------


def _with_point(ledger: Ledger, spec: ModelSpec, weight: int | None, at: float) -> Ledger:
    metrics = tuple(
        MetricPoint(
            metric=each.metric if each.unit != "labels" else f"{each.metric} (live)",
            canary_n=each.canary_n,
            canary_bad=each.canary_bad,
            champion_n=each.champion_n,
            champion_bad=each.champion_bad,
            difference=each.difference,
            lower=each.lower,
            upper=each.upper,
            margin=each.margin,
            e_fail=each.e_fail,
            e_pass=each.e_pass,
        )
        for each in _evidence(ledger, spec)
        if not each.slice and each.unit != "readings"
    )
    point = Point(at=at, stage=ledger.stage, weight=weight, metrics=metrics)
    return replace(ledger, points=thinned((*ledger.points, point)))


def thinned(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """At most :data:`MOST_POINTS`: of the older half every second one goes, but none where weight or stage changed."""
    if len(points) <= MOST_POINTS:
        return points
    half = len(points) // 2
    kept = []
    for index, point in enumerate(points[:half]):
        before = points[index - 1] if index else None
        turned = before is None or (before.weight, before.stage) != (point.weight, point.stage)
        if index % 2 or turned:
            kept.append(point)
    # where the traffic moves at each look nothing could go: then the oldest do
    return (*kept, *points[half:])[-MOST_POINTS:]
