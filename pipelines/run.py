"""Run one update on this machine: the same pipeline, by kfp.local in subprocesses or containers."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upkeep.pipelines.containers import containers as in_containers
from upkeep.pipelines.needs import store_variables
from upkeep.pipelines.update import update_pipeline
from upkeep.pipelines.workers import on_workers

from upkeep import records
from upkeep.errors import OutsideError, UpkeepError, Where
from upkeep.registry.registry import Registry
from upkeep.spec.load import canonical
from upkeep.spec.model import ModelSpec
from upkeep.store import open_store
from upkeep.update.context import FAILURE_MARK, PROGRESS_MARK, UPDATE_VARIABLE
from upkeep.update.failure import BUG, failure_of, leave, step_error
from upkeep.update.record import StepError, UpdateRecord
from upkeep.update.workers import no_workers_here

LOG = "log.txt"
NAME = "--function_to_execute"
"""What stands before a step's name in the command that kfp.local runs."""
GRACE_SECONDS = 5.0
"""How long an interrupted step may take to stop by itself."""


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
    containers: bool = False,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    listen: Listener = lambda _: None,
) -> UpdateRecord:
    """Run one update here, through kfp.local; the update's record.

    ``keep`` leaves the run's folder (prepared rows, every artifact) in place; of a step that failed without a word the
    log stays anyway. ``containers``: each step runs in one, of its image on a cluster. Raises what the failing step
    raised, :class:`ConflictError` where another update of the model is under way, :class:`InputError` for
    ``devices: workers``, which nothing here starts.
    """
    for candidate in spec.candidates:
        if on_workers(spec, candidate.name):
            raise no_workers_here(candidate.name)
    store = open_store(spec.store, spec.object_store)
    registry = Registry(store, spec.name)
    data = canonical(spec)
    digest = records.digest(data)
    update = update_id(now(), digest)
    with registry.lock(update, now=now) as lease:
        registry.put_spec(data)
        root = Path(tempfile.mkdtemp(prefix=f"upkeep-{spec.name}-"))
        failures: list[StepError] = []
        log_stays = False
        arguments = {
            "spec": f"{store.uri}/{spec.name}/specs/{digest}.json",
            "spec_digest": digest,
            "until": until,
            "accept_changed": accept_changed,
            "supersede": supersede,
        }
        told = Told(failures, listen, lease.check)
        try:
            environment = _environment(spec, update, root)
            steps = functools.partial(in_containers, spec, environment) if containers else _processes
            _run_local(update_pipeline(spec, cluster=False), arguments, root, environment, steps, told)
        except RuntimeError as error:  # kfp.local's word for a task that failed
            log_stays = not failures or failures[0].error == BUG
            reason = _reason(failures, root / LOG)
            _leave(registry, spec, update, told, reason, now())
            raise reason from error
        except BaseException as error:
            _leave(registry, spec, update, told, error, now())
            raise
        finally:
            if not keep:
                _clear(root, but=(LOG,) if log_stays else ())
        if keep:
            listen(Progress("deploy", f"the run's folder is kept: {root}", 1.0))
    return records.from_json(UpdateRecord, registry.get_update(update, "record.json"), source=f"updates/{update}")


def _leave(registry: Registry, spec: ModelSpec, update: str, told: Told, error: BaseException, now: datetime) -> None:
    """The record and page of a run that broke off, where its step could not write them itself; tell where they are."""
    failure = told.failures[0] if told.failures else step_error(told.step, error)
    with contextlib.suppress(Exception):  # a store that is away, say: the run's own error is what must be told
        error.add_note(f"what is known stands in {leave(registry, spec, update, failure, now=now)}")


def update_id(now: datetime, spec_digest: str) -> str:
    """``20130401T030000Z-3f9c2a``: when, and a word that keeps two of one second apart."""
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    return f"{stamp[:15]}Z-{records.digest((stamp + spec_digest).encode())[:6]}"


def _environment(spec: ModelSpec, update: str, root: Path) -> dict[str, str]:
    """What the steps find in their environment, beside what is there."""
    temporary = root / "tmp"
    temporary.mkdir()
    return {
        UPDATE_VARIABLE: update,
        "TMPDIR": str(temporary),  # kfp.local and steps that are killed leave folders: they go with the run's
        **store_variables(spec),
    }


def _clear(root: Path, *, but: tuple[str, ...]) -> None:
    """Remove the run's folder, or all that is in it but the files named."""
    if not but:
        shutil.rmtree(root, ignore_errors=True)
        return
    for path in root.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in but:
            path.unlink(missing_ok=True)


def _run_local(
    pipeline: Any,
    arguments: dict[str, Any],
    root: Path,
    environment: dict[str, str],
    steps: Callable[[Told], AbstractContextManager[Any]],
    told: Told,
) -> None:
    from kfp import local

    with (
        warnings.catch_warnings(),
        (root / LOG).open("w", encoding="utf-8") as log,
        contextlib.redirect_stdout(_Lines(log, told)),
        _set(environment),
        steps(told) as runner,
        _quiet_logging(),
    ):
        # what kfp.local has no use for (images, display names) is for a cluster
        warnings.filterwarnings("ignore", module="kfp")
        local.init(runner=runner, pipeline_root=str(root))
        pipeline(**arguments)


@contextlib.contextmanager
def _quiet_logging() -> Iterator[None]:
    """A log that cannot be written (a full disk) is told by the step that meets it, not by logging's traceback."""
    before = logging.raiseExceptions
    logging.raiseExceptions = False
    try:
        yield
    finally:
        logging.raiseExceptions = before


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


@contextlib.contextmanager
def _processes(told: Told) -> Iterator[Any]:
    """kfp.local's runner, which starts the steps by :func:`_run_step`: its own way lets them go on after an
    interrupt."""
    from kfp import local
    from kfp.local import subprocess_task_handler

    def run_step(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        told.begin(full_command)
        return _run_step(full_command, env_vars)

    before = subprocess_task_handler.run_local_subprocess
    subprocess_task_handler.run_local_subprocess = run_step
    try:
        yield local.SubprocessRunner(use_venv=False)
    finally:
        subprocess_task_handler.run_local_subprocess = before


def _run_step(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
    """Run a step as a process group of its own, print what it says, and return its code.

    Where this run is interrupted the group is over before the run goes on to clean up and give the lock back.
    """
    process = subprocess.Popen(
        full_command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **(env_vars or {})},
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            sys.stdout.write(line)
        return process.wait()
    finally:
        if process.returncode is None:
            _end(process)
        process.stdout.close()


def _end(process: subprocess.Popen[str]) -> None:
    """Interrupt the process's group, and kill what is left of it after a while."""
    try:
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGINT)
            process.wait(GRACE_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@dataclass
class Told:
    """Where the steps' own words go."""

    failures: list[StepError]
    listen: Listener
    before_step: Callable[[], None] = lambda: None
    """Raises where the run may not go on."""
    step: str = "collect"
    """The one that spoke last."""

    def begin(self, command: list[str]) -> None:
        """A step is about to start by this command; raises where it may not."""
        if NAME in command[:-1]:
            self.step = command[command.index(NAME) + 1]
        self.before_step()


class _Lines(io.TextIOBase):
    """Takes what kfp.local prints: everything to the log, progress to the listener, failures to their list."""

    def __init__(self, log: io.TextIOBase, told: Told) -> None:
        self._log, self._told, self._rest = log, told, ""

    def write(self, text: str) -> int:
        self._log.write(text)
        self._rest += text
        *lines, self._rest = self._rest.split("\n")
        for line in lines:
            _, marked, said = line.partition(PROGRESS_MARK)
            if marked:
                with contextlib.suppress(ValueError, TypeError):
                    progress = Progress(**json.loads(said))
                    self._told.step = progress.step
                    self._told.listen(progress)
            _, marked, said = line.partition(FAILURE_MARK)
            if marked:
                with contextlib.suppress(UpkeepError):
                    self._told.failures.append(records.from_json(StepError, said.encode()))
        return len(text)

    def flush(self) -> None:
        self._log.flush()

    def isatty(self) -> bool:
        return False


def _reason(failures: list[StepError], log: Path) -> UpkeepError:
    """Why the run failed: the step's own words where it left any."""
    if not failures:
        return OutsideError(
            "a step of the update ended without a word (killed, or out of memory)",
            where=Where(file=str(log)),
            fix="read the end of the log, and run the update again",
        )
    first = failures[0]
    if first.error == BUG:
        told = tuple(replace(problem, where=Where(file=str(log))) for problem in first.problems)
        return UpkeepError(problems=told)
    return failure_of(first)
