"""Run one update on this machine: the same pipeline, by kfp.local in subprocesses."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upkeep.pipelines.update import update_pipeline

from upkeep import records
from upkeep.errors import OutsideError, UpkeepError, Where
from upkeep.registry.registry import Registry
from upkeep.spec.load import canonical
from upkeep.spec.model import ModelSpec
from upkeep.store import Store, open_store
from upkeep.update.context import PROGRESS_MARK, UPDATE_VARIABLE, StepError, failure_of, update_key
from upkeep.update.record import UpdateRecord

LOCK_SECONDS = 6 * 3600
"""How long a crashed update keeps others waiting."""
LOG = "log.txt"


@dataclass(frozen=True)
class Progress:
    """One thing that happened in a run."""

    step: str
    text: str
    share: float | None = None


Listener = Callable[[Progress], None]


def run_here(
    spec: ModelSpec,
    *,
    until: str = "",
    accept_changed: bool = False,
    supersede: bool = False,
    keep: bool = False,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    listen: Listener = lambda _: None,
) -> UpdateRecord:
    """Run one update here, through kfp.local; the update's record.

    ``keep`` leaves the run's folder (prepared rows, every artifact) in place also when it succeeded. Raises what the
    failing step raised, :class:`ConflictError` where another update of the model is under way.
    """
    store = open_store(spec.store, spec.object_store)
    registry = Registry(store, spec.name)
    data = canonical(spec)
    digest = records.digest(data)
    update = update_id(now(), digest)
    with registry.lock(update, now=now, seconds=LOCK_SECONDS):
        registry.put_spec(data)
        root = Path(tempfile.mkdtemp(prefix=f"upkeep-{spec.name}-"))
        arguments = {
            "spec": f"{store.uri}/{spec.name}/specs/{digest}.json",
            "spec_digest": digest,
            "update": update,
            "until": until,
            "accept_changed": accept_changed,
            "supersede": supersede,
        }
        try:
            _run_local(update_pipeline(spec), arguments, root, _environment(spec, update), listen)
        except KeyboardInterrupt:
            shutil.rmtree(root, ignore_errors=True)
            raise
        except UpkeepError:
            raise
        except RuntimeError as error:  # kfp.local's word for a task that failed
            raise _reason(store, spec.name, update, root / LOG) from error
        if not keep:
            shutil.rmtree(root, ignore_errors=True)
    key = f"{spec.name}/{update_key(update, 'record.json')}"
    return records.from_json(UpdateRecord, store.get(key), source=key)


def update_id(now: datetime, spec_digest: str) -> str:
    """``20130401T030000Z-3f9c2a``: when, and a word that keeps two of one second apart."""
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    return f"{stamp[:15]}Z-{records.digest((stamp + spec_digest).encode())[:6]}"


def _environment(spec: ModelSpec, update: str) -> dict[str, str]:
    """What the steps find in their environment, beside what is there."""
    wanted = {
        UPDATE_VARIABLE: update,
        "AWS_ENDPOINT_URL": spec.object_store.endpoint,
        "AWS_REGION": spec.object_store.region,
    }
    return {name: value for name, value in wanted.items() if value}


def _run_local(
    pipeline: Any, arguments: dict[str, Any], root: Path, environment: dict[str, str], listen: Listener
) -> None:
    from kfp import local

    with warnings.catch_warnings(), (root / LOG).open("w") as log, _listening(log, listen), _set(environment):
        # what kfp.local has no use for (images, display names) is for a cluster
        warnings.filterwarnings("ignore", module="kfp")
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(root),
        )
        pipeline(**arguments)


@contextlib.contextmanager
def _set(environment: dict[str, str]) -> Iterator[None]:
    """These variables, for the processes that kfp.local starts; afterwards as before."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Lines(io.TextIOBase):
    """Takes what kfp.local prints: everything to the log, progress to the listener."""

    def __init__(self, log: io.TextIOBase, listen: Listener) -> None:
        self._log, self._listen, self._rest = log, listen, ""

    def write(self, text: str) -> int:
        self._log.write(text)
        self._rest += text
        *lines, self._rest = self._rest.split("\n")
        for line in lines:
            mark = line.find(PROGRESS_MARK)
            if mark >= 0:
                with contextlib.suppress(ValueError, TypeError):
                    self._listen(Progress(**json.loads(line[mark + len(PROGRESS_MARK) :])))
        return len(text)

    def flush(self) -> None:
        self._log.flush()

    def isatty(self) -> bool:
        return False


@contextlib.contextmanager
def _listening(log: Any, listen: Listener) -> Iterator[None]:
    with contextlib.redirect_stdout(_Lines(log, listen)):
        yield


def _reason(store: Store, model: str, update: str, log: Path) -> UpkeepError:
    """Why the run failed: the step's own words where it could leave them."""
    prefix = f"{model}/{update_key(update, 'errors/')}"
    for entry in store.list(prefix):
        failure = records.from_json(StepError, store.get(entry.key), source=entry.key)
        return failure_of(failure)
    return OutsideError(
        "a step of the update ended without a word (killed, or out of memory)",
        where=Where(file=str(log)),
        fix="read the end of the log, and run the update again",
    )
