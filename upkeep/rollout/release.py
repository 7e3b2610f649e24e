"""Propose a version through Git: the first at 100 %, a challenger at 0 %.

:func:`plan_release` decides, purely, from what stands in Git; :func:`propose` reads, asks it, commits and pushes, and
does all of it again when somebody else pushed in between. A retry that finds its own work done says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from upkeep.errors import ConflictError, IntegrityError, RefusedError, Where
from upkeep.evaluation.result import VerdictName
from upkeep.rollout.git import GitRepository, Repository, Tree, create_bare
from upkeep.rollout.state import (
    STATE_FILE,
    Barred,
    Canary,
    Champion,
    Phase,
    State,
    moment,
    one_line,
    read_state,
    render_state,
    rollout_id,
)
from upkeep.serving.drivers import driver_of
from upkeep.serving.drivers.driver import edited
from upkeep.serving.manifests import ServedVersion, version_file, version_number
from upkeep.spec.model import ModelSpec

Outcome = Literal["first", "proposed", "superseded", "already", "pending_other", "champion_changed", "barred"]
"""``first``: nothing served, the version gets all traffic. ``proposed``: a challenger at 0 %. ``superseded``: the same,
in place of a challenger that had no traffic yet. ``already``: its bytes stand there. The others change nothing:
``pending_other``: another challenger's rollout is under way; ``champion_changed``: the champion that was compared does
not serve any more, so the verdict is insufficient; ``barred``: these bytes were taken back once."""

ATTEMPTS = 10
"""How often a push that came second is decided anew."""


@dataclass(frozen=True, kw_only=True)
class NewVersion:
    """A registered version that is to be rolled out."""

    served: ServedVersion
    verdict: VerdictName | None
    """The gate's; None: adopted without data to judge it on, which only a first version may be."""
    evidence: str | None = None
    """Digest of what was measured: the update's evaluation; for an adopted model, its card."""
    card: str | None = None
    """Digest of the version's card; None: the commit does not name it."""


@dataclass(frozen=True)
class Released:
    """What stands in the model's folder, checked as a whole."""

    state: State
    versions: Mapping[str, ServedVersion]
    """Version → what its manifest says, in order."""
    files: Mapping[str, bytes]
    """Upkeep's own files there, by name."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What should serve, by Git."""

    champion: Champion | None
    canary: Canary | None
    phase: Phase
    weight: int
    """The canary's, per cent."""
    commit: str | None
    """None: the repository is empty."""
    barred: tuple[Barred, ...] = ()
    """Bytes that were taken back once; nowhere else is that written."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    outcome: Outcome
    reason: str
    """One plain sentence."""
    changes: Mapping[str, bytes | None]
    """Path within the repository → content; None removes. Empty: nothing to commit."""
    message: str
    """The commit's."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    outcome: Outcome
    reason: str
    """One plain sentence."""
    commit: str | None
    """The commit that was made, or the one that was read where nothing was to be done."""
    attempts: int
    """How often it was decided: more than one after lost races."""


def utc_now() -> datetime:
    return datetime.now(UTC)


# --- where ---------------------------------------------------------------------------------------------------------


def release_folder(spec: ModelSpec) -> str:
    """The model's folder within the repository; empty: its root."""
    path = (spec.rollout.path or f"models/{spec.name}").strip("/")
    return "" if path == "." else path


def default_repository(spec: ModelSpec) -> Path | None:
    """The bare repository beside a local store, when the spec means that one; it is made when it is first needed."""
    store = spec.store
    if "://" in store and not store.startswith("file://"):
        return None
    root = Path(unquote(urlsplit(store).path)) if store.startswith("file://") else Path(store)
    path = root / spec.name / "releases.git"
    return path if spec.rollout.repository in ("", str(path)) else None


@contextmanager
def open_repository(spec: ModelSpec, environ: Mapping[str, str] | None = None) -> Iterator[Repository]:
    """The spec's repository; the default one is made when it is not there. ``environ``: git's, instead of this
    process' own."""
    default = default_repository(spec)
    if default is not None and not (default / "HEAD").exists():
        create_bare(default, spec.rollout.branch)
    with GitRepository(str(default or spec.rollout.repository), environ=environ) as repository:
        yield repository


# --- what stands there ---------------------------------------------------------------------------------------------


def read_release(spec: ModelSpec, tree: Tree) -> Released | None:
    """The model's folder, read and checked; None: nothing of Upkeep's is there.

    Raises :class:`~upkeep.errors.InputError`, with file and line, when a file is missing, makes no sense or
    disagrees with another: a person edited it, and only a person can say what was meant.
    """
    driver = driver_of(spec)
    prefix = f"{folder}/" if (folder := release_folder(spec)) else ""
    files = standing_files(spec, tree)
    if not files:
        return None
    if STATE_FILE not in files:
        raise edited("the file is missing, and others of the release are there", prefix + STATE_FILE)
    state = read_state(files[STATE_FILE], spec.name, prefix + STATE_FILE)
    deployed = driver.read(spec, files, prefix)
    versions, weights = deployed.versions, deployed.weights
    for role in (state.champion, state.canary):
        if role is not None and (role.version not in versions or versions[role.version].digest != role.digest):
            raise edited(
                f"it names {role.version} with the digest {role.digest[:12]}, and no manifest serves that",
                prefix + STATE_FILE,
            )
    if weights != state.weights:
        raise edited(
            f"it gives {_shares(weights)}, and {STATE_FILE} says {_shares(state.weights)}", prefix + driver.weights_file
        )
    return Released(state, versions, files)


def standing_files(spec: ModelSpec, tree: Tree) -> dict[str, bytes]:
    """Upkeep's own files in the model's folder, by name."""
    driver = driver_of(spec)
    prefix = f"{folder}/" if (folder := release_folder(spec)) else ""
    return {
        name: content
        for path, content in sorted(tree.files.items())
        if path.startswith(prefix) and (driver.owns(name := path.removeprefix(prefix)) or name == STATE_FILE)
    }


def serving_now(spec: ModelSpec, repository: Repository | None = None) -> Serving:
    """What should serve now, by the newest commit of the spec's repository (or of ``repository``).

    A default repository that is not there yet serves nothing.
    """
    if repository is None:
        default = default_repository(spec)
        if default is not None and not (default / "HEAD").exists():
            return Serving(champion=None, canary=None, phase="idle", weight=0, commit=None)
        with open_repository(spec) as opened:
            return serving_now(spec, opened)
    tree = repository.read(spec.rollout.branch, release_folder(spec))
    return serving_of(read_release(spec, tree), tree.commit)


def serving_of(released: Released | None, commit: str | None) -> Serving:
    if released is None:
        return Serving(champion=None, canary=None, phase="idle", weight=0, commit=commit)
    state = released.state
    return Serving(
        champion=state.champion,
        canary=state.canary,
        phase=state.phase,
        weight=state.weight,
        commit=commit,
        barred=state.barred,
    )


# --- the decision --------------------------------------------------------------------------------------------------


def plan_release(
    spec: ModelSpec,
    released: Released | None,
    new: NewVersion,
    *,
    expected_champion: str | None,
    supersede: bool,
    lines: Sequence[str],
    now: datetime,
) -> Plan:
    """What to commit so that ``new`` is proposed. Pure.

    ``expected_champion`` is the version that ``new`` was compared with (None: with none); ``lines`` are the sentences
    of evidence for the message. Raises :class:`~upkeep.errors.RefusedError` when the verdict is not ``pass``, and
    :class:`~upkeep.errors.IntegrityError` when Git knows the version with another digest.
    """
    served = new.served
    if new.verdict not in ("pass", None):
        raise RefusedError(
            f"{served.version} may not be proposed: its verdict is {new.verdict}", fix="only a pass is rolled out"
        )
    stands = released.versions.get(served.version) if released else None
    if stands is not None and stands.digest != served.digest:
        raise IntegrityError(
            f"{served.version} stands in Git with the digest {stands.digest[:12]}, not {served.digest[:12]}",
            where=Where(f"{release_folder(spec)}/{version_file(served.version)}"),
            fix="a version's bytes never change: register them as a new version",
        )
    if released is None:
        if expected_champion is not None:
            return _nothing(
                "champion_changed", f"{served.version} was compared with {expected_champion}, and nothing serves now"
            )
        return _first(spec, new, lines, now)
    state = released.state
    for role in (state.champion, state.canary):
        # By bytes: a retry that registered the same model a second time has nothing new to propose either.
        if role is not None and role.digest == served.digest:
            does = "serves" if role is state.champion else f"is the challenger, at {state.weight} %,"
            return _nothing("already", f"{role.version} {does} already, with the bytes of {served.version}")
    barred = next((each for each in state.barred if each.digest == served.digest), None)
    if barred is not None:
        return _nothing("barred", f"the bytes of {served.version} were taken back as {barred.version}: {barred.reason}")
    if expected_champion != state.champion.version:
        compared = f"was compared with {expected_champion}" if expected_champion else "was compared with no champion"
        return _nothing("champion_changed", f"{served.version} {compared}, and {state.champion.version} serves now")
    if new.verdict is None:
        raise RefusedError(
            f"{served.version} was not judged, and {state.champion.version} serves",
            fix="only the first version may be adopted without a verdict; let an update judge it",
        )
    if state.canary is None:
        return _challenge(spec, released, new, "proposed", lines, now)
    other = state.canary.version
    if not supersede:
        return _nothing(
            "pending_other",
            f"the rollout of {other} is under way ({state.phase}, {state.weight} %); --supersede would replace it",
        )
    if state.direct:
        return _nothing("pending_other", f"a person goes back to {other}, and no update comes between")
    if state.phase != "pending":
        return _nothing(
            "pending_other", f"the rollout of {other} is past pending ({state.phase}, {state.weight} %): end it first"
        )
    if version_number(other) > version_number(served.version):
        return _nothing("pending_other", f"{other} is pending, and it is newer than {served.version}")
    return _challenge(spec, released, new, "superseded", lines, now)


def _nothing(outcome: Outcome, reason: str) -> Plan:
    return Plan(outcome=outcome, reason=reason, changes={}, message="")


def _first(spec: ModelSpec, new: NewVersion, lines: Sequence[str], now: datetime) -> Plan:
    served = new.served
    since = moment(now)
    state = State(
        model=spec.name,
        phase="idle",
        weight=0,
        champion=Champion(version=served.version, digest=served.digest, since=since),
        canary=None,
        update=served.update,
        evidence=new.evidence,
        since=since,
        reason=f"{served.version} is the first version",
    )
    return Plan(
        outcome="first",
        reason=f"{served.version} is the first version: it gets all traffic",
        changes=changes_of(spec, {}, state, {served.version: served}),
        message=_message(f"{spec.name}: serve {served.version} at 100 %", spec, new, lines),
    )


def _challenge(
    spec: ModelSpec, released: Released, new: NewVersion, outcome: Outcome, lines: Sequence[str], now: datetime
) -> Plan:
    served = new.served
    replaced = released.state.canary
    state = replace(
        released.state,
        phase="pending",
        weight=0,
        canary=Canary(version=served.version, digest=served.digest, update=served.update),
        update=served.update,
        evidence=new.evidence,
        rollout=rollout_id(served.version, now),
        since=moment(now),
        step=0,
        came_from=None,
        reason=f"{served.version} waits to be ready",
        approved=-1,
        direct=False,
    )
    versions = dict(released.versions) | {served.version: served}
    subject = f"{spec.name}: propose {served.version} at 0 %"
    reason = f"{served.version} is proposed at 0 %, beside {state.champion.version}"
    if replaced is not None:
        # It has no traffic, so its service may go in the same commit.
        del versions[replaced.version]
        subject += f", in place of {replaced.version}"
        reason += f", in place of {replaced.version}"
    return Plan(
        outcome=outcome,
        reason=reason,
        changes=changes_of(spec, released.files, state, versions),
        message=_message(subject, spec, new, lines),
    )


def changes_of(
    spec: ModelSpec, standing: Mapping[str, bytes], state: State, versions: Mapping[str, ServedVersion]
) -> dict[str, bytes | None]:
    """What to commit so that the model's folder, whose files are ``standing`` by name, says ``state``.

    ``versions`` are those that are served from then on: the champion, and the canary where there is one. Path within
    the repository → content; None removes. What stands there already is left out.
    """
    made = driver_of(spec).files(spec, versions, state.champion.version, state.weights, standing)
    made[STATE_FILE] = render_state(state)
    changes: dict[str, bytes | None] = {
        _path(spec, name): content for name, content in made.items() if standing.get(name) != content
    }
    return changes | {_path(spec, name): None for name in standing if name not in made}


def _path(spec: ModelSpec, name: str) -> str:
    folder = release_folder(spec)
    return f"{folder}/{name}" if folder else name


def _message(subject: str, spec: ModelSpec, new: NewVersion, lines: Sequence[str]) -> str:
    trailers = {
        "Upkeep-Model": spec.name,
        "Upkeep-Update": new.served.update,
        "Upkeep-Version": new.served.version,
        "Upkeep-Verdict": new.verdict or "none",
        "Upkeep-Evidence": new.evidence or "none",
        **({"Upkeep-Card": new.card} if new.card else {}),
    }
    return commit_message(subject, lines, trailers)


def commit_message(subject: str, lines: Sequence[str], trailers: Mapping[str, str]) -> str:
    """Subject, evidence, and trailers: always the last paragraph, so that no sentence can pose as one."""
    body = "".join(f"- {one_line(line)}\n" for line in lines if one_line(line))
    said = (f"{key}: {one_line(text)}" for key, text in trailers.items())
    return "\n".join([one_line(subject), "", *([body] if body else []), *said, ""])


# --- and done ------------------------------------------------------------------------------------------------------


def propose(
    spec: ModelSpec,
    new: NewVersion,
    *,
    expected_champion: str | None,
    supersede: bool = False,
    lines: Sequence[str] = (),
    repository: Repository | None = None,
    now: Callable[[], datetime] = utc_now,
    sleep: Callable[[float], None] = time.sleep,
    attempts: int = ATTEMPTS,
) -> Proposal:
    """Propose ``new`` in the spec's repository (or in ``repository``): see :func:`plan_release` for the rules.

    A push that came second is read and decided anew, at most ``attempts`` times; then
    :class:`~upkeep.errors.ConflictError`. It is safe to call again after any error.
    """
    if repository is None:
        with open_repository(spec) as opened:
            return propose(
                spec,
                new,
                expected_champion=expected_champion,
                supersede=supersede,
                lines=lines,
                repository=opened,
                now=now,
                sleep=sleep,
                attempts=attempts,
            )
    branch, folder = spec.rollout.branch, release_folder(spec)
    for attempt in range(1, attempts + 1):
        try:
            tree = repository.read(branch, folder)
            moment = now()
            plan = plan_release(
                spec,
                read_release(spec, tree),
                new,
                expected_champion=expected_champion,
                supersede=supersede,
                lines=lines,
                now=moment,
            )
            commit = tree.commit
            if plan.changes:
                commit = repository.commit_and_push(branch, tree.commit, plan.changes, plan.message, moment)
            return Proposal(outcome=plan.outcome, reason=plan.reason, commit=commit, attempts=attempt)
        except ConflictError:
            if attempt < attempts:
                sleep(min(2.0, 0.05 * 2**attempt))
    raise ConflictError(
        f"{attempts} times somebody else pushed first",
        where=Where(repository.url),
        fix="try again when the repository is quieter; the version is registered, nothing is lost",
    )


def _shares(weights: Mapping[str, int]) -> str:
    return ", ".join(f"{version} {weight} %" for version, weight in weights.items())
