"""What people say to a rollout, as one commit each: :mod:`upkeep.rollout.commands`, carried out.

The commit has the person's name and the trailer ``Upkeep-Command``, so that the controller knows it for a command and
not for an edit of the files.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from upkeep.errors import ConflictError, RefusedError, UpkeepError, Where
from upkeep.rollout import commands
from upkeep.rollout.controller import Model, Seen, see, subject_of
from upkeep.rollout.history import champions
from upkeep.rollout.plan import plan_of
from upkeep.rollout.release import changes_of, commit_message
from upkeep.rollout.state import State

Name = Literal["pause", "resume", "promote", "abort", "rollback"]
ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Order:
    """One command as it was given."""

    name: Name
    reason: str = ""
    full: bool = False
    """Of ``promote``: all traffic at once."""
    to: str | None = None
    """Of ``rollback``: the version to go back to."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """What came of it."""

    state: State
    commit: str
    message: str
    """One plain sentence."""


def identity(environ: Mapping[str, str]) -> dict[str, str]:
    """``GIT_AUTHOR_…`` and ``GIT_COMMITTER_…`` for a person's commit, from git's own configuration.

    Raises :class:`~upkeep.errors.UpkeepError` where git does not know who that is.
    """
    try:
        run = subprocess.run(
            ["git", "var", "GIT_AUTHOR_IDENT"],
            env=dict(environ),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UpkeepError("git does not run", fix="install git 2.30 or newer, and try again") from error
    name, _, rest = run.stdout.strip().partition(" <")
    mail = rest.partition(">")[0]
    if run.returncode or not name or not mail:
        raise UpkeepError(
            "git does not know who you are, and a command is a commit with a name",
            where=Where(file="git"),
            fix='set it: git config --global user.name "…" and user.email "…"',
        )
    return {
        f"GIT_{role}_{part}": text
        for role in ("AUTHOR", "COMMITTER")
        for part, text in (("NAME", name), ("EMAIL", mail))
    }


def carry_out(model: Model, order: Order, *, by: str, now: Callable[[], datetime]) -> Done:
    """Commit and push what the order makes of the rollout.

    Raises :class:`~upkeep.errors.RefusedError` where it makes no sense; nothing is changed then.
    """
    spec = model.spec
    for last in (*[False] * (ATTEMPTS - 1), True):
        moment = now()
        seen = see(model, moment)
        after = _after(model, order, seen, by, moment)
        lines = [after.reason]
        trailers = {
            "Upkeep-Model": spec.name,
            "Upkeep-Rollout": after.rollout or "none",
            "Upkeep-Version": (after.canary or seen.state.canary or after.champion).version,
            "Upkeep-Step": f"{after.phase}, step {after.step} of {len(spec.rollout.steps)}, {after.weight} %",
            "Upkeep-Command": order.name,
        }
        message = commit_message(subject_of(seen.state, after), lines, trailers)
        versions = {
            role.version: seen.versions.get(role.version) or model.versions.served(role.version)
            for role in (after.champion, after.canary)
            if role is not None
        }
        changes = changes_of(spec, seen.files, after, versions)
        try:
            commit = model.repository.commit_and_push(spec.rollout.branch, seen.head, changes, message, moment)
        except ConflictError:
            if last:
                raise
            continue
        with contextlib.suppress(UpkeepError):  # it comes by itself, later
            model.cluster.refresh(spec)
        return Done(state=after, commit=commit, message=after.reason)
    raise AssertionError("unreachable")


def _after(model: Model, order: Order, seen: Seen, by: str, now: datetime) -> State:
    state, edit = seen.state, seen.observation.edit
    back = order.name == "abort" or (order.name == "rollback" and state.canary is not None)
    if edit is not None and not back:  # the way back is the same whatever the files say
        raise RefusedError(
            f"the folder was edited: {edit.message}",
            fix=f"take that back (`git revert {edit.commit[:12]}`), or let a controller deal with it (`upkeep rollout "
            "watch --once`), where it can; `upkeep rollout abort` works all the same",
        )
    match order.name:
        case "pause":
            return commands.pause(state, by=by, reason=order.reason, now=now)
        case "resume":
            return commands.resume(state, by=by, reason=order.reason, now=now)
        case "promote":
            return commands.promote(
                plan_of(model.spec), state, seen.observation, by=by, reason=order.reason, full=order.full, now=now
            )
        case "abort":
            return commands.abort(state, by=by, reason=order.reason, now=now)
        case "rollback":
            earlier = champions(model.spec, model.repository)
            return commands.rollback(state, earlier, to=order.to, by=by, reason=order.reason, now=now)


def person(environ: Mapping[str, str] | None = None) -> tuple[str, dict[str, str]]:
    """(who gives the order, the environment that git is to have)."""
    environ = dict(os.environ if environ is None else environ)
    who = identity(environ)
    return who["GIT_AUTHOR_NAME"], environ | who
