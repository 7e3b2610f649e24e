"""An update that breaks off: why, as a record; and the page and ``record.json`` that it leaves all the same."""

from __future__ import annotations

import traceback
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from upkeep import errors, records
from upkeep.errors import Problem, UpkeepError
from upkeep.evaluation.result import Evaluation, Verdict
from upkeep.registry.registry import Registry
from upkeep.spec.model import ModelSpec
from upkeep.store import MissingObject
from upkeep.update.record import SUMMARY, StepError, UpdateRecord, drift_line, page_uri

T = TypeVar("T")

BUG = "Bug"
"""A :class:`StepError` of what nobody foresaw."""
FAILED = "failed"
"""The outcome of an update that broke off."""


def step_error(step: str, error: BaseException) -> StepError:
    """What ``error`` says, as a record."""
    foreseen = errors.known(error) if isinstance(error, Exception) else None
    if foreseen is not None:
        return StepError(step=step, error=_kind(foreseen), problems=foreseen.problems)
    if isinstance(error, KeyboardInterrupt):
        problem = Problem("it was stopped", fix="run the update again")
        return StepError(step=step, error="OutsideError", problems=(problem,))
    problem = Problem(f"{type(error).__name__}: {error}", fix="this is a bug in Upkeep: please report it with the log")
    return StepError(step=step, error=BUG, problems=(problem,), trace="".join(traceback.format_exception(error)))


def failure_of(failure: StepError) -> UpkeepError:
    """The exception again, from its record."""
    kind = getattr(errors, failure.error, UpkeepError)
    return kind(problems=failure.problems)


def _kind(error: UpkeepError) -> str:
    """The nearest class that :mod:`upkeep.errors` has: others (a missing object) live with what raises them."""
    return next(kind.__name__ for kind in type(error).__mro__ if hasattr(errors, kind.__name__))


def leave(registry: Registry, spec: ModelSpec, update: str, failure: StepError, *, now: datetime) -> str:
    """Write ``updates/<update>/``'s record, page and summary, which tell the failure; where the page is.

    What a later attempt of the same update decides is written over them; what it decided before is left alone.
    """
    from upkeep.drift.result import DriftReport
    from upkeep.report.markdown import update_markdown
    from upkeep.report.update_page import update_page
    from upkeep.update.page import failed_view

    page = page_uri(registry, update)
    if (before := _left(registry, UpdateRecord, update, "record.json")) and before.outcome != FAILED:
        return page
    drift = _left(registry, DriftReport, update, "drift.json")
    evaluation = _left(registry, Evaluation, update, "evaluation.json")
    version = next((card.version for card in reversed(registry.cards()) if card.update == update), None)
    why = "; ".join(_sentence(problem) for problem in failure.problems)
    summary = f"The update broke off in the step {failure.step}: {why}."
    advice = "; ".join(dict.fromkeys(problem.fix for problem in failure.problems if problem.fix))
    stands = f"{version} is registered and not proposed" if version else "nothing was registered"
    record = UpdateRecord(
        update=update,
        model=spec.name,
        finished=now.isoformat(timespec="seconds"),
        verdict=Verdict(verdict="insufficient", summary=summary, case="unfinished", reasons=()),
        drift=drift_line(drift),
        chosen=evaluation.chosen if evaluation else None,
        champion=evaluation.champion if evaluation else None,
        outcome=FAILED,
        message=f"{stands}, and what serves goes on serving" + (f"; what to do: {advice}" if advice else ""),
        version=version,
        commit=None,
        repository=spec.rollout.repository,
        dataset=None,
        spec=records.digest(_canonical(spec)),
        page=page,
        failed=failure,
    )
    view = failed_view(spec, record, drift=drift, evaluation=evaluation)
    registry.put_update(update, "page.html", update_page(view).encode())
    registry.put_update(update, SUMMARY, update_markdown(replace(view, links={"Page": page})).encode())
    registry.put_update(update, "record.json", records.to_json(record))
    return page


def _canonical(spec: ModelSpec) -> bytes:
    from upkeep.spec.load import canonical

    return canonical(spec)


def _left(registry: Registry, kind: type[T], update: str, name: str) -> T | None:
    """What the update had written before it broke off."""
    with suppress(MissingObject):
        return records.from_json(
            kind, registry.get_update(update, name), source=f"{registry.model}/updates/{update}/{name}"
        )
    return None


def _sentence(problem: Problem) -> str:
    place = str(problem.where)
    return f"{problem.message.rstrip('.')} ({place})" if place else problem.message.rstrip(".")
