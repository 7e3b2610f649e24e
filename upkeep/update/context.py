"""What every step of an update shares: the spec, the registry, progress, and how a failure is told.

A step is started by a component with the spec's address and digest. What goes wrong in it is written to the store
as well (``updates/<id>/errors/<step>.json``): KFP's API does not carry a component's reason, so whoever follows the
run reads it there. The update's id comes from the environment (``UPKEEP_UPDATE``), since as a parameter it would keep
KFP from ever finding a step in its cache.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from upkeep import errors, records
from upkeep.errors import IntegrityError, Problem, UpkeepError, Where
from upkeep.registry.registry import Registry
from upkeep.spec.load import from_canonical
from upkeep.spec.model import ModelSpec
from upkeep.store import Store, open_store

PROGRESS_MARK = "upkeep-progress "
"""Starts a line of standard output that tells progress, as JSON: ``{"step": …, "text": …, "share": 0.5}``."""

FAILURE_MARK = "upkeep-failure "
"""Starts a line of standard output that tells why the step failed: a :class:`StepError`, as JSON."""

BUG = "Bug"
"""A :class:`StepError` of what nobody foresaw."""

UPDATE_VARIABLE = "UPKEEP_UPDATE"
"""The environment variable that holds the update's id."""

R = TypeVar("R")


class ArtifactLike(Protocol):
    """What a step asks of a KFP artifact: a local path, and metadata that the KFP page shows."""

    path: str
    metadata: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class StepError:
    """Why a step failed, as a record."""

    step: str
    error: str
    """The class in :mod:`upkeep.errors`; ``Bug`` for anything that was not raised on purpose."""
    problems: tuple[Problem, ...]
    trace: str = ""
    """The traceback of a bug, for its report."""


@dataclass(frozen=True)
class Context:
    spec: ModelSpec
    spec_digest: str
    update: str
    registry: Registry
    step: str

    def progress(self, text: str, share: float | None = None) -> None:
        """Say how far the step is; ``share`` of it done in [0, 1], None: unknown."""
        line = {"step": self.step, "text": text, "share": share}
        sys.stdout.write(PROGRESS_MARK + json.dumps(line) + "\n")
        sys.stdout.flush()


def update_key(update: str, name: str) -> str:
    """The key, below the model's folder, of a file of one update."""
    return f"updates/{update}/{name}"


def open_context(*, spec: str, spec_digest: str, step: str, update: str) -> Context:
    """Read the spec at ``spec`` (``<store>/<model>/specs/<digest>.json``) and open the registry it belongs to.

    Raises :class:`IntegrityError` when the spec's bytes are not those of ``spec_digest``.
    """
    store, model, data = _read_spec(spec)
    if records.digest(data) != spec_digest:
        raise IntegrityError(
            "the spec is not the one this update was started with",
            where=Where(file=spec),
            fix="start the update again; nobody should edit the store by hand",
        )
    return Context(from_canonical(data, spec), spec_digest, update, Registry(store, model), step)


def _read_spec(uri: str) -> tuple[Store, str, bytes]:
    root, _, name = uri.rpartition("/specs/")
    store_uri, _, model = root.rpartition("/")
    store = open_store(store_uri)
    return store, model, store.get(f"{model}/specs/{name}")


def step(function: Callable[..., R]) -> Callable[..., R]:
    """Make ``function(context, **inputs)`` a step: opens the context, and tells a failure in the store too."""

    @functools.wraps(function)
    def run(*, spec: str, spec_digest: str, update: str = "", **inputs: Any) -> R:
        update = update or os.environ.get(UPDATE_VARIABLE, "")
        context = None
        try:
            context = open_context(spec=spec, spec_digest=spec_digest, step=function.__name__, update=update)
            return function(context, **inputs)
        except Exception as error:
            _tell_failure(function.__name__, error, context)
            raise

    return run


def _tell_failure(step: str, error: Exception, context: Context | None) -> None:
    """On standard output, which reaches a run on this machine also when the store is what failed; and in the store."""
    foreseen = errors.known(error)
    if foreseen is not None:
        failure = StepError(step=step, error=_kind(foreseen), problems=foreseen.problems)
    else:
        problem = Problem(
            f"{type(error).__name__}: {error}",
            fix="this is a bug in Upkeep: please report it with the log",
        )
        trace = "".join(traceback.format_exception(error))
        failure = StepError(step=step, error=BUG, problems=(problem,), trace=trace)
    sys.stdout.write(FAILURE_MARK + json.dumps(records.plain(failure)) + "\n")
    sys.stdout.flush()
    if context is None or not context.update:
        return
    try:
        context.registry.store.put(
            f"{context.registry.model}/{update_key(context.update, f'errors/{context.step}.json')}",
            records.to_json(failure),
        )
    except UpkeepError:
        context.progress("the failure could not be written to the store")


def _kind(error: UpkeepError) -> str:
    """The nearest class that :mod:`upkeep.errors` has: others (a missing object) live with what raises them."""
    return next(kind.__name__ for kind in type(error).__mro__ if hasattr(errors, kind.__name__))


def failure_of(failure: StepError) -> UpkeepError:
    """The exception again, from its record."""
    kind = getattr(errors, failure.error, UpkeepError)
    return kind(problems=failure.problems)
