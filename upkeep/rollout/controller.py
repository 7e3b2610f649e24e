"""What drives a rollout: read everything, write the evidence down, ask ``decide``, then act, one effect after another.

:func:`effects` is one look at one model, as a generator: it reads, and hands out what is to be done, one
:class:`Effect` at a time, for the caller to perform. :func:`tick` performs them all. Between any two the process may be
killed: each effect is idempotent, and the next look finds by what stands in Git, the cluster and the store how far the
last one came.

The order is what makes it safe:

1. ``ledger``: the evidence is stored before anyone decides on it (where that fails nothing moves forward; a canary is
   still taken back);
2. ``brake``: where the canary is bad, live weights come first, whatever becomes of the rest;
3. ``evidence``: what is decided on, create-only, before the commit that names its digest;
4. ``intent``: what is about to be committed, so that after a crash the commit is known as one's own;
5. ``commit``: the only one that changes what should serve; on a conflict everything is read and decided anew;
6. ``refresh``, ``release``, ``tell``: they follow from what stands in Git, and are done again after a crash;
7. ``done``: the ledger says that all of it is done.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from upkeep import records
from upkeep.errors import AccessError, ConflictError, InputError, OutsideError, UpkeepError, Where
from upkeep.rollout import events
from upkeep.rollout.analysis import ledger as ledgers
from upkeep.rollout.analysis.ledger import Intent, Labels, Ledger, News, Proposed
from upkeep.rollout.analysis.result import Analysis
from upkeep.rollout.approval import BACK, approved, branch_of, by_request, same_move
from upkeep.rollout.decide import Decision, decide
from upkeep.rollout.edit import read_edit
from upkeep.rollout.git import Commit, Repository, Tree
from upkeep.rollout.observation import Edit, Observation
from upkeep.rollout.plan import plan_of
from upkeep.rollout.pull_request import Ask, Request
from upkeep.rollout.release import (
    Released,
    changes_of,
    commit_message,
    read_release,
    release_folder,
    standing_files,
)
from upkeep.rollout.state import AT_REST, State, moment
from upkeep.serving.cluster import Cluster, Live, Probe
from upkeep.serving.counters import Counters, Snapshot
from upkeep.serving.manifests import ServedVersion
from upkeep.spec.model import ModelSpec
from upkeep.store import MissingObject, Store

CONFLICTS = 5
"""How often a look is begun anew after somebody else pushed first."""
SOON = 1.0
"""Seconds to the next look while traffic has yet to move as Git says."""
KEYS = 200
"""Pieces of news that are remembered as told."""
HEADS = 50
"""Commits of the repository that are remembered as newer than the state's own."""


class LabelSource(Protocol):
    """Labels that came in late, joined with the requests they belong to."""

    def read(self, spec: ModelSpec, state: State, cursor: Mapping[str, str], now: datetime) -> Labels:
        """What is new since ``cursor``. Raises an :class:`~upkeep.errors.UpkeepError` where nothing can be read."""
        ...


class Versions(Protocol):
    """What the registry knows of a version."""

    def missing(self, version: str, digest: str) -> Sequence[str]:
        """What is not there of the version: its card, or bytes of the model; empty: it is whole."""
        ...

    def served(self, version: str) -> ServedVersion:
        """The version as its manifest must say it."""
        ...

    def rows(self, version: str) -> Sequence[Mapping[str, Any]]:
        """A few raw rows that the version must be able to answer."""
        ...


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model and everything outside that its controller touches."""

    spec: ModelSpec
    repository: Repository
    cluster: Cluster
    store: Store
    counters: Counters
    labels: LabelSource | None
    """None: no labels come."""
    versions: Versions
    post: events.Post
    ask: Ask | None = None
    """Opens pull requests; None: people open theirs."""
    note: Callable[[events.Event], None] | None = None
    """Writes an event where the cluster keeps what happens to its objects; None: it keeps nothing."""


@dataclass(frozen=True)
class Effect:
    """Something to be done outside. Doing it twice is the same as once."""

    name: str
    run: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one look found and did."""

    model: str
    at: datetime
    commit: str | None
    """The newest commit, after what was done."""
    state: State | None
    """What Git says after it; None: nothing is released yet."""
    before: State | None
    """What it said at the beginning."""
    message: str
    """One plain sentence: what was done, or what is waited for."""
    until: datetime | None = None
    """When the waiting ends at the latest, or a window opens; None: no limit."""
    live: Live | None = None
    analysis: Analysis | None = None
    troubles: Mapping[str, str] = field(default_factory=dict)
    """Kind → what could not be read or done, in one line."""
    next_look: float
    """Seconds until it is worth looking again."""

    @property
    def moved(self) -> bool:
        """Whether this look committed something."""
        return self.state != self.before

    @property
    def rests(self) -> bool:
        """No canary, and live traffic is as Git says, without force: nothing to do until somebody commits."""
        if self.state is None:
            return True
        return self.state.phase in AT_REST and self.agrees and self.live is not None and not self.live.braked

    @property
    def agrees(self) -> bool:
        """Whether live traffic is known to be as Git says."""
        return self.state is not None and self.live is not None and _agree(self.live, self.state)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a change was decided on. Its digest stands in the commit."""

    model: str
    rollout: str
    number: int
    at: str
    """UTC, ISO 8601."""
    before: State
    after: State
    """Its ``evidence`` is what it was before: this record's own digest is not known in it."""
    reason: str
    verdict: str
    weights: dict[str, int] | None
    """Live, version → per cent."""
    counters: dict[str, Any] | None
    """Raw, by version."""
    probe: Probe | None
    edit: Edit | None
    analysis: Analysis | None
    shadow: Analysis | None
    troubles: dict[str, str]
    schema_version: int = 1


# --- one look ------------------------------------------------------------------------------------------------------


def tick(model: Model, now: datetime, go_on: Callable[[], bool] = lambda: True) -> Told:
    """Look once, and do all that follows; ``go_on`` is asked before each effect, and False breaks the look off.

    Raises an :class:`~upkeep.errors.UpkeepError` where it could not: what was done stays, and the next look goes on
    from there.
    """
    for _ in range(CONFLICTS):
        look = effects(model, now)
        while True:
            try:
                effect = next(look)
            except StopIteration as end:
                told: Told = end.value
                return told
            if not go_on():
                raise OutsideError("the look was broken off", fix="start the controller again: it goes on from here")
            try:
                effect.run()
            except ConflictError as error:
                conflict = error
                break
    raise conflict


def effects(model: Model, now: datetime) -> Generator[Effect, None, Told]:
    """One look: what is to be done, each effect to be performed before the next is asked for."""
    look = _Look(model, now)
    try:
        git = look.read_git()
    except UpkeepError as error:
        if not isinstance(error, ConflictError):
            yield from look.without_git()
        raise
    if git is None:
        yield from look.without_git()
        if look.ledger is not None and look.ledger.state.canary is not None:
            raise InputError(
                f"the model's folder is gone, in the middle of the rollout of {look.ledger.state.canary.version}",
                where=Where(file=model.repository.url, field="rollout.path"),
                fix=f"take it back from an earlier commit of {model.spec.rollout.branch} (`git revert`)",
            )
        return look.told(None, None, None)
    yield from look.catch_up(git)
    live, probe, snapshot = yield from look.gather(git.state)
    observation = look.observe(git.state, live, probe, git)
    decision = decide(plan_of(model.spec), git.state, observation, now)
    yield from look.act(git, decision, observation, snapshot)
    return look.told(git, observation, decision)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A look without any effect: for people, and for their commands."""

    state: State
    head: str
    """The branch's newest commit."""
    files: Mapping[str, bytes]
    """Upkeep's own in the folder, by name."""
    versions: Mapping[str, ServedVersion]
    ledger: Ledger
    """As the controller left it."""
    observation: Observation
    decision: Decision
    """What the controller would do now."""
    troubles: Mapping[str, str]


def see(model: Model, now: datetime) -> Seen:
    """Look, and do nothing. Raises :class:`~upkeep.errors.InputError` where nothing is released yet."""
    look = _Look(model, now)
    git = look.read_git()
    if git is None or git.tree.commit is None:
        raise InputError(
            f"nothing of {model.spec.name} is released yet",
            where=Where(file=model.repository.url),
            fix="`upkeep run` makes and releases the first version",
        )
    live = look.read_live()
    observation = look.observe(git.state, live, look.probe(git.state, live), git)
    return Seen(
        state=git.state,
        head=git.tree.commit,
        files=git.files,
        versions=git.versions,
        ledger=look.the_ledger(),
        observation=observation,
        decision=decide(plan_of(model.spec), git.state, observation, now),
        troubles=look.troubles,
    )


@dataclass(frozen=True, kw_only=True)
class _Git:
    """What stands in Git, and what is to be thought of it."""

    tree: Tree
    files: Mapping[str, bytes]
    """Upkeep's own, by name."""
    state: State
    """What Upkeep committed last (or a person by Upkeep's commands): with an edit, not what the files say."""
    versions: Mapping[str, ServedVersion]
    commit: str
    """The commit that holds the state."""
    edit: Edit | None


class _Look:
    """The parts of one look; ``ledger`` and ``troubles`` grow as it goes."""

    def __init__(self, model: Model, now: datetime) -> None:
        self.model, self.spec, self.now = model, model.spec, now
        self.ledger: Ledger | None = None
        self.troubles: dict[str, str] = {}
        self.commit: str | None = None
        self.after: State | None = None
        self.news: tuple[News, ...] = ()
        """What others committed since the last look."""
        self.unstored = False
        """Evidence could not be stored (a full disk, say). A canary is taken back all the same, and never moved on."""

    # --- reading -------------------------------------------------------------------------------------------------

    def read_git(self) -> _Git | None:
        spec = self.spec
        tree = self.model.repository.read(spec.rollout.branch, release_folder(spec))
        files = standing_files(spec, tree)
        if tree.commit is None or not files:
            return None
        self.commit = tree.commit
        released, nonsense = None, None
        try:
            released = read_release(spec, tree)
        except InputError as error:
            nonsense = error
        if released is not None:
            self.ledger = self._stored(released.state.rollout)
            if self._known(released.state):
                return self._git(tree, files, released, self._commit_of(released.state), None)
        last, commit = self._last(released)
        if last is None:
            if nonsense is not None:
                raise nonsense
            assert released is not None
            last, commit = released, tree.commit
        self.ledger = self._stored(last.state.rollout)
        newest = next(iter(self._history()))
        edit = None if released == last else read_edit(spec, last.state, tree, newest)
        return self._git(tree, files, last, commit, edit)

    def _git(self, tree: Tree, files: Mapping[str, bytes], released: Released, commit: str, edit: Edit | None) -> _Git:
        state = released.state
        ledger = self.ledger
        if ledger is None:
            ledger = ledgers.begin(self.spec, state, commit)
            self.news = _by_others(None, state)
        elif edit is None and ledger.intent is None and ledger.state != state:
            self.news = _by_others(ledger.state, state)
        if edit is None:
            heads = ledger.heads if state == ledger.state else ()
            if tree.commit not in heads:
                heads = (*heads, tree.commit or "")[-HEADS:]
            ledger = replace(ledger, heads=heads)
            if ledger.proposed is not None and ledger.proposed.state == state:
                ledger = replace(ledger, proposed=None, intent=None)  # it was merged
            if ledger.intent is None:
                ledger = replace(ledger, state=state, commit=commit)
        self.ledger = ledger
        return _Git(tree=tree, files=files, state=state, versions=released.versions, commit=commit, edit=edit)

    def _known(self, state: State) -> bool:
        """Whether the ledger says that this is what Upkeep itself put there, or was about to."""
        ledger = self.ledger
        return ledger is not None and state in (
            ledger.state,
            ledger.intent.state if ledger.intent else None,
            ledger.proposed.state if ledger.proposed else None,
        )

    def _stored(self, rollout: str) -> Ledger | None:
        key = ledgers.key(self.spec.name, rollout)
        try:
            data = self.model.store.get(key)
        except MissingObject:
            return None
        return ledgers.read(data, f"{self.model.store.uri}/{key}")

    def _commit_of(self, state: State) -> str:
        """Where a known state was committed."""
        ledger = self.the_ledger()
        # one's own commit, after a crash before it was written down
        return ledger.commit if ledger.state == state else next(iter(self._history())).id

    def _history(self) -> Iterator[Commit]:
        return self.model.repository.history(self.spec.rollout.branch, release_folder(self.spec))

    def _last(self, released: Released | None) -> tuple[Released | None, str]:
        """What Upkeep committed last, and where, from the branch's history.

        Where the history was rewritten so that it does not hold the ledger's commit any more, what the ledger says
        counts: somebody took Upkeep's commits out.
        """
        found: tuple[Released | None, str] = (None, "")
        ledger = self.ledger
        for commit in self._history():
            ours = commit.trailers.get("Upkeep-Model") == self.spec.name
            if found[0] is None and ours:
                with suppress(InputError):
                    found = (read_release(self.spec, Tree(commit.id, commit.files)), commit.id)
            if ledger is None and found[0] is not None:
                ledger = self._stored(found[0].state.rollout)
            if found[0] is not None and (ledger is None or commit.id == ledger.commit):
                return found
        if ledger is not None and released is not None and ledger.state.rollout == released.state.rollout:
            return Released(ledger.state, released.versions, released.files), ledger.commit
        return found

    def without_git(self) -> Iterator[Effect]:
        """Git says nothing, so nothing can be committed; but a canary that fails need not keep its traffic.

        What Upkeep committed last stands in the ledger, too. It counts as long as live traffic is as it says: then
        nobody has moved it since. When Git can be read again, the brake without its commit is a roll-back.
        """
        try:
            self.ledger = self._newest()
        except UpkeepError:
            return  # the store is away as well
        if self.ledger is None or (canary := self.ledger.state.canary) is None:
            return
        state, commit = self.ledger.state, self.ledger.commit
        live, probe, _ = yield from self.gather(state)
        observation = self.observe(state, live, probe, None)
        if live is None or not _agree(live, state) or observation.applied is False:
            return
        brake = decide(plan_of(self.spec), state, observation, self.now).brake
        if brake is None:
            return
        yield self._try("brake", lambda: self.model.cluster.brake(self.spec, brake))
        said = f"{canary.version} fails, and Git cannot be read: its live traffic is forced back to the champion"
        news = News(kind="problem", message=said, key="/".join((state.rollout, str(state.since), "without Git")))
        yield from self._tell((news,), state, commit)

    def _newest(self) -> Ledger | None:
        """The ledger of the newest rollout, by the store alone."""
        rollouts = {
            entry.key.split("/")[-2]
            for entry in self.model.store.list(f"{self.spec.name}/evidence")
            if entry.key.endswith("/ledger.json")
        }
        # v13-20260301T120000Z
        newest = max(rollouts, key=lambda rollout: rollout.rpartition("-")[2] if "-" in rollout else "", default=None)
        return None if newest is None else self._stored(newest)

    def gather(self, state: State) -> Generator[Effect, None, tuple[Live | None, Probe | None, Snapshot | None]]:
        """What cluster, counters and labels say now; the ledger holds it then, and is stored."""
        live = self.read_live()
        probe = self.probe(state, live)
        if state.canary is None:
            return live, probe, None
        snapshot = self.read_counters()
        labels = self.read_labels(state)
        ledger = ledgers.advance(
            self.the_ledger(),
            self.spec,
            state=state,
            weight=_canary_weight(live, state),
            snapshot=snapshot,
            labels=labels,
            now=self.now,
            troubles=self.troubles,
        )
        yield self.store_ledger("ledger", ledger, must=False)
        return live, probe, snapshot

    def read_live(self) -> Live | None:
        try:
            return self.model.cluster.live(self.spec)
        except UpkeepError as error:
            self._trouble("cluster", error)
            return None

    def probe(self, state: State, live: Live | None) -> Probe | None:
        """Ask the canary, where it is about to get traffic or has some."""
        canary = state.canary
        if canary is None or live is None or state.phase == "rolling_back":
            return None
        service = live.services.get(canary.version)
        if service is None or not service.ready:
            return None
        try:
            return self.model.cluster.probe(self.spec, canary.version, self.model.versions.rows(canary.version))
        except UpkeepError as error:
            self._trouble("probe", error)
            return None

    def read_counters(self) -> Snapshot | None:
        try:
            return self.model.counters.read(self.spec)
        except UpkeepError as error:
            self._trouble("counters", error)
            return None

    def read_labels(self, state: State) -> Labels:
        late = ledgers.too_late(self.the_ledger(), self.spec)
        said = [f"asked for after this rollout began: {', '.join(late)}; not compared or waited for before the next"]
        said = said if late else []
        found = Labels()
        if self.model.labels is not None:
            try:
                found = self.model.labels.read(self.spec, state, self.the_ledger().cursor, self.now)
                said += found.problems[:3]
            except UpkeepError as error:
                said.append(_in_a_line(error))
        if said:
            self.troubles["labels"] = "; ".join(said)
        return found

    def observe(self, state: State, live: Live | None, probe: Probe | None, git: _Git | None) -> Observation:
        canary, ledger = state.canary, self.the_ledger()
        verified = False
        if canary is not None:
            try:
                missing = self.model.versions.missing(canary.version, canary.digest)
                verified = not missing
                if missing:
                    self.troubles["registry"] = f"{canary.version} is not whole: {', '.join(missing[:3])}"
            except UpkeepError as error:
                self._trouble("registry", error)
        analysis = shadow = None
        if canary is not None:
            analysis = ledgers.analyse(ledger, self.spec, state, self.now)
            shadow = ledgers.shadow(ledger)
            if self.unstored:
                analysis, shadow = _never_a_pass(analysis), _never_a_pass(shadow)
        applied = None
        if live is not None and live.commit is not None:
            applied = live.commit in (ledger.commit, *ledger.heads, *((git.tree.commit, git.commit) if git else ()))
        return Observation(
            live=live,
            probe=probe,
            verified=verified,
            shadow=shadow,
            analysis=analysis,
            edit=git.edit if git else None,
            applied=applied,
            steady=ledgers.steady(ledger, state),
        )

    def _trouble(self, kind: str, error: UpkeepError) -> None:
        self.troubles[kind] = _in_a_line(error)

    # --- doing ---------------------------------------------------------------------------------------------------

    def store_ledger(self, name: str, ledger: Ledger, *, must: bool = True) -> Effect:
        """``must``: nothing may go on without it."""
        self.ledger = ledger
        key = ledgers.key(self.spec.name, ledger.rollout)
        return self._stored_by(name, lambda: self.model.store.put(key, ledgers.write(ledger)), must=must)

    def _stored_by(self, name: str, run: Callable[[], None], *, must: bool) -> Effect:
        def stored() -> None:
            try:
                run()
            except UpkeepError as error:
                if must or isinstance(error, ConflictError):
                    raise
                self.unstored = True
                self._trouble("store", error)

        return Effect(name, stored)

    def catch_up(self, git: _Git) -> Iterator[Effect]:
        """Finish what an earlier look had begun: its commit is there, and what follows from it may not be done."""
        ledger = self.the_ledger()
        if ledger.intent is not None and git.edit is None and git.state == ledger.intent.state:
            yield from self._follow_up(ledger.intent, git.commit)
        elif ledger.intent is not None:
            self.ledger = replace(ledger, intent=None)
        yield from self._tell(self.news, git.state, git.commit)

    def act(
        self, git: _Git, decision: Decision, observation: Observation, snapshot: Snapshot | None
    ) -> Iterator[Effect]:
        self.after = git.state
        if decision.brake is not None:
            weights = decision.brake
            yield self._try("brake", lambda: self.model.cluster.brake(self.spec, weights))
        news = tuple(News(kind=each.kind, message=each.message, key=each.key) for each in decision.events)
        if decision.state != git.state:
            yield from self._commit(git, decision, news, observation, snapshot)
        else:
            if decision.refresh:
                yield self._refresh()
            yield from self._tell(news, git.state, git.commit)
            yield from self._approvals(git, observation)
        if decision.release:
            yield self._try("release", lambda: self.model.cluster.release(self.spec))

    def _commit(
        self,
        git: _Git,
        decision: Decision,
        news: tuple[News, ...],
        observation: Observation,
        snapshot: Snapshot | None,
    ) -> Iterator[Effect]:
        spec, store = self.spec, self.model.store
        before, after = git.state, decision.state
        ledger = self.the_ledger()
        back = by_request(spec) and after.phase in BACK
        waits = ledger.proposed if back else None
        if waits is not None and waits.commit and same_move(waits.state, after):
            # the branch's rules refused it: it waits for a merge, and the brake holds
            self.troubles["commit"] = waits_for_merge(waits)
            yield from self._request(git, waits)
            return
        verdict = decision.evidence.verdict if decision.evidence else "none"
        number, key, data, digest = self._evidence(git, after, verdict, observation, snapshot)
        forward = not (after.weight < before.weight or after.phase in ("rolling_back", "rolled_back"))
        yield self._stored_by("evidence", lambda: _create(store, key, data), must=forward)
        after = replace(after, evidence=None if self.unstored else digest)
        message = commit_message(
            subject_of(before, after),
            [
                after.reason,
                *(decision.evidence.reasons if decision.evidence else ()),
                *([f"the evidence could not be stored: {self.troubles['store']}"] if self.unstored else []),
            ],
            self._trailers(after, verdict, after.evidence or "none")
            | {"Upkeep-Version": (after.canary or before.canary or after.champion).version},
        )
        intent = Intent(state=after, base=git.tree.commit or "", news=news)
        yield self.store_ledger("intent", replace(ledger, intent=intent, records=number), must=forward)
        changes = changes_of(spec, git.files, after, self._served(git, after))
        done: list[str] = []

        def commit() -> None:
            try:
                pushed = self.model.repository.commit_and_push(
                    spec.rollout.branch, git.tree.commit, changes, message, self.now
                )
            except AccessError as error:
                if not back:
                    raise
                self._trouble("commit", error)
            else:
                done.append(pushed)

        yield Effect("commit", commit)
        if not done:
            self.ledger = replace(self.the_ledger(), intent=None)
            yield from self._propose(git, after, changes, message)
            return
        self.commit, self.after = done[0], after
        yield from self._follow_up(intent, done[0])

    def _evidence(
        self, git: _Git, after: State, verdict: str, observation: Observation, snapshot: Snapshot | None
    ) -> tuple[int, str, bytes, str]:
        """What a change is decided on: its number, key, bytes and digest."""
        number = self.the_ledger().records + 1
        evidence = Evidence(
            model=self.spec.name,
            rollout=after.rollout,
            number=number,
            at=moment(self.now),
            before=git.state,
            after=after,
            reason=after.reason,
            verdict=verdict,
            weights=dict(observation.live.weights) if observation.live and observation.live.weights else None,
            counters=records.plain(dict(snapshot.versions)) if snapshot else None,
            probe=observation.probe,
            edit=observation.edit,
            analysis=observation.analysis,
            shadow=observation.shadow,
            troubles=dict(self.troubles),
        )
        data = records.to_json(evidence)
        digest = records.digest(data)
        return number, evidence_key(self.spec.name, after.rollout, number, digest), data, digest

    def _approvals(self, git: _Git, observation: Observation) -> Iterator[Effect]:
        """Offer the next step for a merge where a person's word is waited for; take away what is no longer to be."""
        if git.edit is not None:
            return
        spec, proposed = self.spec, self.the_ledger().proposed
        after = approved(spec, git.state, observation, self.now)
        if proposed is not None and (after is None or not same_move(proposed.state, after)):
            gone = proposed.branch
            yield self._try("withdraw", lambda: self.model.repository.remove_branch(gone))
            yield self.store_ledger("withdrawn", replace(self.the_ledger(), proposed=None))
            proposed = None
        if after is None:
            return
        if proposed is not None and proposed.commit:
            yield from self._request(git, proposed)
            return
        analysis = observation.analysis if git.state.weight else observation.shadow
        verdict = analysis.verdict if analysis else "none"
        if proposed is not None:
            after = proposed.state  # begun before: the very same
        else:
            number, key, data, digest = self._evidence(git, after, verdict, observation, None)
            store = self.model.store
            yield self._stored_by("evidence", lambda: _create(store, key, data), must=True)
            after = replace(after, evidence=digest)
            self.ledger = replace(self.the_ledger(), records=number)
        lines = [after.reason, *(analysis.reasons if analysis else ())]
        cited = self._trailers(after, verdict, after.evidence or "none")
        message = commit_message(subject_of(git.state, after), lines, cited)
        yield from self._propose(git, after, changes_of(spec, git.files, after, self._served(git, after)), message)

    def _propose(self, git: _Git, after: State, changes: Mapping[str, bytes | None], message: str) -> Iterator[Effect]:
        """Push a step to a branch of its own, and open a pull request of it."""
        base = git.tree.commit or ""
        proposed = Proposed(branch=branch_of(after), state=after)
        back = after.phase in BACK
        # first: whoever merges it, the next look must know it
        yield self.store_ledger("proposal", replace(self.the_ledger(), proposed=proposed), must=not back)
        made: list[str] = []

        def push() -> None:
            when = datetime.fromisoformat(after.since) if after.since else self.now
            made.append(self.model.repository.push_aside(proposed.branch, base, changes, message, when))

        yield Effect("branch", push)
        proposed = replace(proposed, commit=made[0])
        yield self.store_ledger("proposed", replace(self.the_ledger(), proposed=proposed), must=not back)
        yield from self._request(git, proposed, message)

    def _request(self, git: _Git, proposed: Proposed, message: str = "") -> Iterator[Effect]:
        """Open its pull request, where it is not open yet, and tell people that it waits for them."""
        ask = self.model.ask
        if ask is not None and not proposed.url:
            subject, _, body = (message or subject_of(git.state, proposed.state)).partition("\n")
            request = Request(
                branch=proposed.branch, into=self.spec.rollout.branch, title=subject, body=body.strip() or subject
            )
            found: list[str] = []
            yield self._try("request", lambda: found.append(ask(request)))
            if found:
                proposed = replace(proposed, url=found[0])
                yield self.store_ledger("requested", replace(self.the_ledger(), proposed=proposed), must=False)
        back = proposed.state.phase in BACK
        news = News(
            kind="problem" if back else "held", message=waits_for_merge(proposed), key=f"merge/{proposed.branch}"
        )
        yield from self._tell((news,), git.state, git.commit)

    def _trailers(self, after: State, verdict: str, evidence: str) -> dict[str, str]:
        return {
            "Upkeep-Model": self.spec.name,
            "Upkeep-Rollout": after.rollout or "none",
            "Upkeep-Version": (after.canary or after.champion).version,
            "Upkeep-Step": f"{after.phase}, step {after.step} of {len(self.spec.rollout.steps)}, {after.weight} %",
            "Upkeep-Verdict": verdict,
            "Upkeep-Evidence": evidence,
        }

    def _served(self, git: _Git, after: State) -> dict[str, ServedVersion]:
        names = [after.champion.version, *([after.canary.version] if after.canary else [])]
        return {name: git.versions.get(name) or self.model.versions.served(name) for name in names}

    def _follow_up(self, intent: Intent, commit: str) -> Iterator[Effect]:
        """What follows from a commit that is there."""
        yield self._refresh()
        yield from self._tell(intent.news, intent.state, commit, store=False)
        ledger = replace(self.the_ledger(), state=intent.state, commit=commit, heads=(commit,), intent=None)
        yield self.store_ledger("done", ledger, must=not self.unstored)

    def _refresh(self) -> Effect:
        return self._try("refresh", lambda: self.model.cluster.refresh(self.spec))

    def _tell(self, news: Sequence[News], state: State, commit: str, *, store: bool = True) -> Iterator[Effect]:
        """Tell each piece of news once."""
        fresh = [each for each in news if each.key not in self.the_ledger().told]
        for each in fresh:
            event = events.event_of(each, self.spec.name, state, commit, self.now)
            yield Effect("tell", functools.partial(self._send, event))
        if fresh:
            told = (*self.the_ledger().told, *(each.key for each in fresh))[-KEYS:]
            self.ledger = replace(self.the_ledger(), told=told)
            if store:
                yield self.store_ledger("told", self.the_ledger(), must=False)

    def _send(self, event: events.Event) -> None:
        for error in events.tell(self.spec.rollout.webhooks, event, self.model.post):
            self._trouble("webhook", error)
        if self.model.note is not None:
            try:
                self.model.note(event)
            except UpkeepError as error:
                self._trouble("events", error)

    def _try(self, kind: str, run: Callable[[], None]) -> Effect:
        """An effect that must not keep the rest from happening."""

        def tried() -> None:
            try:
                run()
            except UpkeepError as error:
                self._trouble(kind, error)

        return Effect(kind, tried)

    def the_ledger(self) -> Ledger:
        assert self.ledger is not None
        return self.ledger

    def told(self, git: _Git | None, observation: Observation | None, decision: Decision | None) -> Told:
        state, live = self.after, observation.live if observation else None
        every = self.spec.rollout.every
        moved = git is not None and state != git.state
        waits = state is not None and live is not None and not _agree(live, state)
        message = "nothing is released yet"
        if state is not None and decision is not None:
            waiting = f"it waits for {decision.waits_for}" if decision.waits_for else ""
            message = state.reason if moved or not waiting else waiting
            proposed = self.ledger.proposed if self.ledger else None
            if proposed is not None and not moved:
                message = waits_for_merge(proposed)
        return Told(
            model=self.spec.name,
            at=self.now,
            commit=self.commit,
            state=state,
            before=git.state if git else None,
            message=message,
            until=decision.until if decision else None,
            live=live,
            analysis=observation.analysis if observation else None,
            troubles=self.troubles,
            next_look=min(SOON, every) if waits or moved else every,
        )


# --- small parts ---------------------------------------------------------------------------------------------------


def evidence_key(model: str, rollout: str, number: int, digest: str) -> str:
    """Where an evidence record stands in the store."""
    return f"{model}/evidence/{rollout or 'none'}/{number}-{digest}.json"


def subject_of(before: State, after: State) -> str:
    """The commit's first line."""
    model, canary = after.model, (after.canary or before.canary)
    version = canary.version if canary else after.champion.version
    if before.since is None and (before.phase, before.weight) == (after.phase, after.weight):
        return f"{model}: the time of {version} at {after.weight} % begins"
    words = {
        "shadow": f"compare {version} in pairs, at 0 %",
        "step": f"{version} to {after.weight} %",
        "promoting": f"{version} to {after.weight} %",
        "baking": f"{version} has all traffic, and is still judged",
        "succeeded": f"{version} is the champion",
        "rolling_back": f"take {version} back to {after.weight} %",
        "rolled_back": f"remove {version}, which was taken back",
        "held": f"hold {version} at {after.weight} %",
        "paused": f"pause {version} at {after.weight} %",
        "pending": f"{version} waits at {after.weight} %",
    }
    return f"{model}: {words.get(after.phase, after.phase)}"


def waits_for_merge(proposed: Proposed) -> str:
    """What is on its branch, and what its merge does: one plain sentence."""
    after, where = proposed.state, proposed.url or f"the branch {proposed.branch}"
    if after.phase == "rolling_back":
        return f"the rules of main refuse to take the canary back: merge {where} now; live weights are forced meanwhile"
    if after.phase == "rolled_back":
        return f"the rules of main refuse to remove the canary, which has no traffic: merge {where}"
    name = after.canary.version if after.canary else after.champion.version
    return f"{name} gets {after.weight} % when {where} is merged"


def _by_others(before: State | None, after: State) -> tuple[News, ...]:
    """What a person's command or an update did to the rollout, as news."""
    kind = events.kind_of(before, after)
    if kind is None:
        return ()
    key = "/".join((after.rollout, after.since or "", after.phase, str(after.step), "others"))
    return (News(kind=kind, message=after.reason, key=key),)


def _canary_weight(live: Live | None, state: State) -> int | None:
    if live is None or live.weights is None or state.canary is None:
        return None
    return live.weights.get(state.canary.version, 0)


def _agree(live: Live, state: State) -> bool:
    """Whether traffic is divided as Git says."""
    if live.weights is None:
        return False
    wanted = {version: weight for version, weight in state.weights.items() if weight}
    return {version: weight for version, weight in live.weights.items() if weight} == wanted


def _in_a_line(error: UpkeepError) -> str:
    return str(error).replace("\n    → ", " → ").replace("\n", "; ")


def _never_a_pass(analysis: Analysis | None) -> Analysis | None:
    if analysis is None or analysis.verdict != "pass":
        return analysis
    why = "the evidence could not be stored"
    return replace(analysis, verdict="insufficient", summary=why, reasons=(why,))


def _create(store: Store, key: str, data: bytes) -> None:
    if not store.create(key, data) and store.get(key) != data:
        raise ConflictError(f"something else stands at {key}", fix="stop the other controller, and try again")
