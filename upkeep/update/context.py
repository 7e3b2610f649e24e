"""What every step of an update shares: the spec, the registry, progress, and how a failure is told.

A step is started by a component with the spec's address and digest. What goes wrong in it is written to the store
as well (``updates/<id>/errors/<step>.json``, and the update's record and page): KFP's API does not carry a component's
reason, so whoever follows the run reads it there. The update's id comes from the environment, since as a parameter it
would keep KFP from ever finding a step in its cache: from ``UPKEEP_UPDATE`` in a run on this machine, which holds the
lock around its steps; else from ``UPKEEP_RUN``, the id of the KFP run, and then the steps hold the lock themselves.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from upkeep import records
from upkeep.errors import IntegrityError, OutsideError, Where
from upkeep.registry.registry import Registry
from upkeep.spec.load import from_canonical
from upkeep.spec.model import ModelSpec
from upkeep.store import Store, open_store
from upkeep.update.failure import leave, step_error

PROGRESS_MARK = "upkeep-progress "
"""Starts a line of standard output that tells progress, as JSON: ``{"step": …, "text": …, "share": 0.5}``."""

FAILURE_MARK = "upkeep-failure "
"""Starts a line of standard output that tells why the step failed: a :class:`upkeep.update.failure.StepError`,
as JSON."""

UPDATE_VARIABLE = "UPKEEP_UPDATE"
"""The environment variable that holds the update's id in a run on this machine."""
RUN_VARIABLE = "UPKEEP_RUN"
"""The environment variable that holds the KFP run's id on a cluster: there it is the update's, too."""
FIRST_STEP, LAST_STEP = "collect", "deploy"

R = TypeVar("R")


class ArtifactLike(Protocol):
    """What a step asks of a KFP artifact: a local path, and metadata that the KFP page shows."""

    path: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Context:
    spec: ModelSpec
    spec_digest: str
    update: str
    registry: Registry
    step: str
    listener: Callable[[str, float | None], None] | None = None
    """Hears of progress, too."""

    def progress(self, text: str, share: float | None = None) -> None:
        """Say how far the step is; ``share`` of it done in [0, 1], None: unknown."""
        line = {"step": self.step, "text": text, "share": share}
        sys.stdout.write(PROGRESS_MARK + json.dumps(line) + "\n")
        sys.stdout.flush()
        if self.listener is not None:
            self.listener(text, share)


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
    def run(*, spec: str, spec_digest: str, **inputs: Any) -> R:
        update = os.environ.get(UPDATE_VARIABLE) or os.environ.get(RUN_VARIABLE, "")
        context = None
        try:
            if not update and RUN_VARIABLE in os.environ:
                raise OutsideError(
                    "this pod does not know which run it belongs to: its label `pipeline/runid` is missing",
                    fix="see whether something on the cluster takes labels off pods; Kubeflow Pipelines sets it",
                )
            context = open_context(spec=spec, spec_digest=spec_digest, step=function.__name__, update=update)
            with _turn(context):
                return function(context, **inputs)
        except Exception as error:
            _tell_failure(function.__name__, error, context)
            raise

    return run


def _turn(context: Context) -> AbstractContextManager[object]:
    """The model's lock of updates, on a cluster: taken by the first step, given back by the last one."""
    if os.environ.get(UPDATE_VARIABLE) or not context.update:
        return nullcontext()
    return context.registry.take_part(
        context.update,
        first=context.step == FIRST_STEP,
        last=context.step == LAST_STEP,
        now=lambda: datetime.now(UTC),
    )


def _tell_failure(step: str, error: Exception, context: Context | None) -> None:
    """On standard output, which reaches a run on this machine also when the store is what failed; and in the store."""
    failure = step_error(step, error)
    sys.stdout.write(FAILURE_MARK + json.dumps(records.plain(failure)) + "\n")
    sys.stdout.flush()
    if context is None or not context.update:
        return
    try:
        context.registry.put_update(context.update, f"errors/{step}.json", records.to_json(failure))
        leave(context.registry, context.spec, context.update, failure, now=datetime.now(UTC))
    except Exception:  # noqa: BLE001 - the failure itself must be what is raised
        context.progress("the failure could not be written to the store")
