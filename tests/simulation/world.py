"""A world for one rollout: Git, a cluster, metrics, a clock and people, under faults from a seeded schedule.

Everything random comes from one :class:`random.Random`, so a seed is a rollout. The world knows the truth (what is
really ready, what evidence was really given) and checks the invariants after every effect.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from tests.unit.rollout import rollout_fakes
from upkeep.errors import ConflictError, OutsideError
from upkeep.rollout.analysis.result import Analysis
from upkeep.rollout.plan import Plan
from upkeep.rollout.state import AT_REST, WAITING, WITHOUT_TRAFFIC, Canary, Champion, State, moment, rollout_id
from upkeep.serving.cluster import Live, Probe, ServiceStatus
from upkeep.spec.model import Window

BEGIN = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
PLAN = replace(rollout_fakes.PLAN, ready_limit=600, shadow_limit=900, step_limit=900, bake=120)
FAILS = {verdict: rollout_fakes.analysis(verdict) for verdict in ("pass", "fail", "insufficient")}  # type: ignore[arg-type]
SILENT = rollout_fakes.analysis("insufficient", 0)
RECENT = 150.0
"""For so long a reading may be believed: the oldest cached one, and the time from a look to its commit."""


class BrokenError(AssertionError):
    """An invariant does not hold."""


@dataclass(frozen=True)
class Tree:
    """What one commit says: the release's files, as far as a rollout cares."""

    id: int
    state: State
    """``rollout.yaml``."""
    weights: Mapping[str, int]
    """``route.yaml``."""
    files: frozenset[str]
    """The versions whose services are defined."""
    by: str
    """``upkeep``, ``person`` (by Upkeep's commands), or ``hand``."""
    sane: bool = True
    """Whether the files make sense at all."""


class Git:
    """:class:`upkeep.rollout.git.Repository`'s contract, with trees in place of bytes."""

    def __init__(self, first: Tree) -> None:
        self.trees = [first]
        self.number = first.id

    @property
    def head(self) -> Tree:
        return self.trees[-1]

    def push(self, base: int, tree: Tree) -> Tree:
        """On top of ``base``, or not at all."""
        if self.head.id != base:
            raise ConflictError("the branch moved")
        self.number += 1
        made = replace(tree, id=self.number)
        self.trees.append(made)
        return made


@dataclass
class Server:
    """One version's service, as it really is."""

    digest: str
    ready_at: float
    dead: bool = False
    refused: bool = False


class Cluster:
    def __init__(self, tree: Tree) -> None:
        self.applied = tree
        self.servers: dict[str, Server] = {}
        self.forced: dict[str, int] | None = None
        self.knows = True
        """Whether anyone can say which commit was applied."""

    @property
    def weights(self) -> Mapping[str, int]:
        return self.applied.weights if self.forced is None else self.forced


@dataclass
class Faults:
    """How likely each is, at each chance it has. All 0: a calm world."""

    crash: float = 0.03
    lost_read: float = 0.05
    stale_read: float = 0.05
    lying_read: float = 0.03
    refused_push: float = 0.06
    lost_answer: float = 0.05
    failed_push: float = 0.03
    failed_call: float = 0.05
    no_metrics: float = 0.08
    wrong_labels: float = 0.004
    stuck_sync: float = 0.02
    clock_back: float = 0.01
    canary_dies: float = 0.004
    canary_gone: float = 0.002
    canary_swapped: float = 0.001
    champion_dies: float = 0.002
    unverified: float = 0.004
    person: float = 0.012
    rewrite: float = 0.001
    foreign: float = 0.001
    """Somebody moves the live traffic past Git."""


CALM = Faults(**dict.fromkeys(Faults.__dataclass_fields__, 0.0))


@dataclass
class World:
    random: random.Random
    faults: Faults
    plan: Plan
    git: Git
    cluster: Cluster
    quality: str
    """The canary's: ``good`` or ``bad``."""
    time: float = 0.0
    """Seconds, as they really pass."""
    skew: float = 0.0
    ledger: Tree | None = None
    """What Upkeep committed last, as it keeps it in the store."""
    intent: State | None = None
    """What it was about to commit, kept there too: so that a commit whose answer was lost is known as its own."""
    registry: set[str] = field(default_factory=set)
    sync_at: float = 0.0
    gave: dict[tuple[str, str | None], str] = field(default_factory=dict)
    """(rollout, since) → the verdict that was reached for this step."""
    wait: dict[tuple[str, str | None], float] = field(default_factory=dict)
    """… and when it will be."""
    passed: set[tuple[str, str | None]] = field(default_factory=set)
    shown: list[tuple[float, Live]] = field(default_factory=list)
    last_ready: dict[str, float] = field(default_factory=dict)
    """Version → when it was really ready last."""
    barred: set[str] = field(default_factory=set)
    """Digests that Upkeep took back, until a person calls them back by name."""
    hands: bool = False
    """A person's own commit stands in Git, or was the last but Upkeep's answer."""
    foreign: bool = False
    """Somebody forced the live traffic past Git."""
    champions: list[Canary] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    log: list[str] | None = None

    # --- the clock ---------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """What the controller's clock says."""
        return BEGIN + timedelta(seconds=self.time + self.skew)

    def chance(self, name: str) -> bool:
        likely = getattr(self.faults, name)
        if likely and self.random.random() < likely:
            self.counts[name] += 1
            if self.log is not None:
                self.log.append(f"{self.time:8.0f}  fault: {name}")
            return True
        return False

    def say(self, text: str) -> None:
        if self.log is not None:
            self.log.append(f"{self.time:8.0f}  {text}")

    def pass_time(self, seconds: float) -> None:
        """Let the world go on: syncs, servers, faults, people."""
        self.time += seconds
        if self.chance("clock_back"):
            self.skew = -self.random.choice((5.0, 60.0, 400.0, 5000.0))
        elif self.skew and self.random.random() < 0.3:
            self.skew = 0.0
        self._canary_faults()
        if self.chance("foreign"):
            self.foreign = True
            self.cluster.forced = {self.random.choice(["v1", "v2", "v9"]): 100}
        if self.chance("stuck_sync"):
            self.sync_at = self.time + self.random.choice((60.0, 600.0, 3000.0))
        if self.time >= self.sync_at:
            self.sync()
        for version, server in self.cluster.servers.items():
            if self.ready(server):
                self.last_ready[version] = self.time

    def _canary_faults(self) -> None:
        state = self.git.head.state
        canary = self.cluster.servers.get(state.canary.version) if state.canary else None
        if canary is not None and state.canary is not None:
            if self.chance("canary_dies"):
                canary.dead = True
            if self.chance("canary_gone"):
                del self.cluster.servers[state.canary.version]
            if self.chance("canary_swapped"):
                canary.digest = "f" * 64
            if self.chance("unverified"):
                self.registry.discard(state.canary.digest)
        champion = self.cluster.servers.get(state.champion.version)
        if champion is not None and self.chance("champion_dies"):
            champion.ready_at = self.time + 90
        for server in self.cluster.servers.values():
            if server.dead and self.random.random() < 0.05:
                server.dead = False
                server.ready_at = self.time + 20

    # --- the cluster -------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Apply the newest commit."""
        new, old = self.git.head, self.cluster.applied
        if new.id == old.id or not new.sane:
            return
        servers = self.cluster.servers
        for version in old.files - new.files:
            if self.cluster.weights.get(version, 0) and self.quiet() and new.by == "upkeep":
                raise BrokenError(f"{version} is removed while it has traffic")
            servers.pop(version, None)
        for version in new.files - servers.keys():
            digest = digest_of(new.state, version)
            servers[version] = Server(digest, self.time + self.random.choice((5.0, 40.0, 200.0)))
            if self.faults.crash and self.random.random() < 0.02:
                servers[version].refused = True
                self.counts["refused_manifest"] += 1
        self.cluster.applied = new
        self.say(f"applied {new.id}: {dict(new.weights)}")

    def ready(self, server: Server) -> bool:
        return not server.dead and not server.refused and self.time >= server.ready_at

    def truth(self) -> Live:
        services = {
            version: ServiceStatus(
                version=version, digest=each.digest, ready=self.ready(each), refused=each.refused, message=""
            )
            for version, each in self.cluster.servers.items()
        }
        commit = str(self.cluster.applied.id) if self.cluster.knows else None
        return Live(
            weights=dict(self.cluster.weights),
            services=services,
            commit=commit,
            at=self.now,
            braked=self.cluster.forced is not None,
        )

    def live(self) -> Live | None:
        if self.chance("lost_read"):
            return None
        old = [each for when, each in self.shown if self.time - when <= 30]
        if old and self.chance("stale_read"):
            return old[0]
        if old and self.chance("lying_read"):
            return replace(old[0], at=self.now)
        truth = self.truth()
        self.shown = [(when, each) for when, each in self.shown if self.time - when <= 30] + [(self.time, truth)]
        return truth

    def probe(self, version: str) -> Probe | None:
        if self.chance("lost_read"):
            return None
        server = self.cluster.servers.get(version)
        ok = server is not None and self.ready(server)
        return Probe(ok=ok, status=200 if ok else 503)

    def brake(self, weights: Mapping[str, int]) -> None:
        if self.chance("failed_call"):
            raise OutsideError("the cluster does not answer")
        self.cluster.forced = {version: weight for version, weight in weights.items() if weight}
        self.foreign = False
        self.say(f"brake {self.cluster.forced}")

    def release(self) -> None:
        if self.chance("failed_call"):
            raise OutsideError("the cluster does not answer")
        self.cluster.forced, self.foreign = None, False
        self.say("release")

    def refresh(self) -> None:
        if self.time >= self.sync_at:
            self.sync_at = self.time + self.random.choice((0.0, 1.0, 5.0, 20.0))

    # --- the evidence ------------------------------------------------------------------------------------------------

    def evidence(self, state: State) -> Analysis | None:
        """What the metrics say of this very step. It is kept: a verdict stays."""
        if self.chance("no_metrics"):
            return None
        key = (state.rollout, state.since)
        if key not in self.gave:
            # evidence grows with traffic (or with pairs at 0 %)
            if state.phase != "shadow" and not self.cluster.weights.get(
                state.canary.version if state.canary else "", 0
            ):
                return SILENT
            slow = self.random.choice((20.0, 60.0, 200.0, 600.0, 5000.0 if self.faults.crash else 60.0))
            due = self.wait.setdefault(key, self.time + slow)
            if self.time < due:
                return FAILS["insufficient"]
            verdict = "pass" if self.quality == "good" else "fail"
            if self.faults.crash and self.random.random() < 0.02:
                verdict = "insufficient"
            if self.chance("wrong_labels"):
                verdict = "fail" if verdict == "pass" else "pass"
            self.gave[key] = verdict
        verdict = self.gave[key]
        if verdict == "pass":
            self.passed.add(key)
        return FAILS[verdict]

    # --- commits -----------------------------------------------------------------------------------------------------

    def commit(self, base: Tree, state: State, by: str = "upkeep") -> None:
        """Upkeep's commit (or a person's, by its commands), with all that may go wrong with a push."""
        files = frozenset(state.weights)
        tree = Tree(0, state, dict(state.weights), files, by)
        if self.chance("refused_push"):
            self.git.push(self.git.head.id, replace(self.git.head, by="hand"))  # another model's commit
        if self.chance("failed_push"):
            raise OutsideError("the remote is gone")
        before = self.git.head
        if by == "upkeep" and base.id == before.id:
            self.check_commit(before, tree)
        made = self.git.push(base.id, tree)
        self.say(f"{by} {made.id}: {state.phase} {state.weight} % (step {state.step}): {state.reason}")
        self.counts[state.phase] += 1
        self.barred |= {each.digest for each in state.barred}
        if state.phase == "succeeded":
            old = base.state.champion
            self.champions.insert(0, Canary(version=old.version, digest=old.digest, update=""))
        if by == "person" and state.direct and state.canary:  # called back by name
            self.barred.discard(state.canary.digest)
        self.hands = False
        if self.chance("lost_answer"):
            raise OutsideError("the connection broke; the commit is there")

    def hand(self, **changes: object) -> None:
        """A person's commit, by hand."""
        made = self.git.push(self.git.head.id, replace(self.git.head, by="hand", **changes))  # type: ignore[arg-type]
        self.hands = True
        self.say(f"by hand {made.id}: {dict(made.weights)} {sorted(made.files)} sane={made.sane}")

    # --- the invariants ----------------------------------------------------------------------------------------------

    def check_commit(self, before: Tree, after: Tree) -> None:
        """What must hold of each commit that Upkeep makes by itself."""
        old, new = before.state, after.state
        if sum(new.weights.values()) != 100 or min(new.weights.values()) < 0:
            raise BrokenError(f"the weights are {new.weights}")
        check_whole(new)
        gone = before.files - after.files
        for version in gone:
            if before.weights.get(version, 0):
                raise BrokenError(f"{version} goes in the commit that takes its traffic")
        was = old.weight if before.by != "hand" else min(old.weight, before.weights.get(name_of(old), 0))
        if new.weight > was and new.phase != "paused":
            self.check_forward(old, new)
        lost = {each.digest for each in old.barred} - {each.digest for each in new.barred}
        if lost and before.by != "hand":
            raise BrokenError(f"the bar of {lost} is gone")
        if new.phase == "rolling_back" and new.canary and new.canary.digest not in {each.digest for each in new.barred}:
            raise BrokenError(f"{new.canary.version} is taken back and not barred")
        if new.champion != old.champion:
            direct = old.direct and old.phase == "promoting"
            if not direct and (old.phase != "baking" or old.weight != 100):
                raise BrokenError(f"a new champion from {old.phase} at {old.weight} %")

    def check_forward(self, old: State, new: State) -> None:
        canary = new.canary
        if canary is None:
            raise BrokenError("traffic for nobody")
        if self.time - self.last_ready.get(canary.version, -RECENT) > RECENT:
            raise BrokenError(f"{canary.version} gets {new.weight} % and has not been ready")
        if canary.digest in self.barred:
            raise BrokenError(f"{canary.version} was taken back and gets {new.weight} %")
        if self.plan.freeze and not old.direct:
            raise BrokenError("it moved in the freeze")
        if not old.direct and old.phase != "pending" and (old.rollout, old.since) not in self.passed:
            raise BrokenError(f"{old.phase} at {old.weight} % was left without a pass")
        if old.phase == "pending" and self.plan.shadow and not old.direct:
            raise BrokenError("the shadow was skipped")

    def quiet(self) -> bool:
        """Whether live traffic is Upkeep's doing alone, and it can know what was applied."""
        return self.cluster.knows and not self.hands and not self.foreign

    def check(self) -> None:
        """What must hold at all times, of Git and of live traffic."""
        head = self.git.head
        if head.by == "upkeep":
            if head.state.canary and head.state.weight and head.state.canary.digest in self.barred:
                raise BrokenError("what is barred has traffic, by Git")
            if head.weights != head.state.weights:
                raise BrokenError("the files are at odds")
        if sum(self.cluster.weights.values()) != 100:
            raise BrokenError("the live weights do not sum to 100")
        if not self.quiet() or self.cluster.applied.by != "upkeep" or self.cluster.applied is not head:
            return
        for version in self.cluster.weights:
            if digest_of(head.state, version) in self.barred and self.cluster.weights[version]:
                raise BrokenError(f"{version} is barred and gets live traffic")


def digest_of(state: State, version: str) -> str:
    for role in (state.champion, state.canary):
        if role is not None and role.version == version:
            return role.digest
    return f"{int(version[1:]):064x}"


def name_of(state: State) -> str:
    return state.canary.version if state.canary else ""


def check_whole(state: State) -> None:
    """The rules of :func:`upkeep.rollout.state.read_state`, without the text."""
    if (state.canary is None) != (state.phase in AT_REST):
        raise BrokenError(f"canary {state.canary} in {state.phase}")
    if state.weight and (state.canary is None or state.phase in (*WITHOUT_TRAFFIC, "rolling_back")):
        raise BrokenError(f"{state.weight} % in {state.phase}")
    if state.phase in ("promoting", "baking") and state.weight != 100:
        raise BrokenError(f"{state.weight} % in {state.phase}")
    if (state.came_from is not None) != (state.phase in WAITING):
        raise BrokenError(f"{state.phase} came from {state.came_from}")


def first_world(seed: int, log: list[str] | None = None) -> World:
    """v1 serves, v2 is proposed; the plan and the canary's quality are the seed's."""
    chosen = random.Random(seed)
    began = moment(BEGIN)
    v1 = Champion(version="v1", digest=f"{1:064x}", since=began)
    state = State(model="m", phase="idle", weight=0, champion=v1, canary=None, update="u1", evidence=None, since=began)
    tree = Tree(1, state, {"v1": 100}, frozenset({"v1"}), "person")
    plan = replace(
        PLAN,
        shadow=chosen.random() < 0.3,
        approve=frozenset(chosen.sample((0, 5, 25, 50), chosen.choice((0, 0, 0, 1)))),
        windows=(Window(start="08:00", end="09:00"), Window(start="10:00", end="24:00", zone="Europe/London"))
        if chosen.random() < 0.15
        else (),
        brake=chosen.random() < 0.8,
        otherwise="hold" if chosen.random() < 0.6 else "roll_back",
        bake=chosen.choice((0.0, 120.0)),
        steps=chosen.choice(((5, 25, 50), (10,), ())),
    )
    # one rollout in ten meets no faults: a good canary must get through, a bad one must not
    faults = CALM if seed % 10 == 0 else Faults()
    cluster = Cluster(tree)
    world = World(
        random=chosen,
        faults=faults,
        plan=plan,
        git=Git(tree),
        cluster=cluster,
        quality="good" if chosen.random() < 0.6 else "bad",
        log=log,
    )
    cluster.knows = chosen.random() < 0.7
    cluster.servers["v1"] = Server(v1.digest, -1.0)
    world.registry.add(v1.digest)
    world.ledger = tree
    propose(world, 2)
    return world


def propose(world: World, number: int) -> None:
    """What an update does at its end: a challenger at 0 %, if none is under way and its bytes are not barred."""
    base = world.git.head
    digest = f"{number:064x}"
    state = base.state
    barred = {state.champion.digest, *(each.digest for each in state.barred)}
    if state.canary is not None or digest in barred or base.by == "hand":
        return
    world.registry.add(digest)
    proposed = replace(
        state,
        phase="pending",
        weight=0,
        canary=Canary(version=f"v{number}", digest=digest, update=f"u{number}"),
        rollout=rollout_id(f"v{number}", world.now),
        since=moment(world.now),
        step=0,
        approved=-1,
        direct=False,
        came_from=None,
    )
    try:
        world.commit(base, proposed, by="person")
    except (ConflictError, OutsideError):
        world.say("the proposal failed")
