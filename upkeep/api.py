"""Everything the command line does, a function call away: ``import upkeep; upkeep.run("upkeep.yaml")``.

Functions that take a ``spec`` accept a path to ``upkeep.yaml`` or a :class:`~upkeep.spec.model.ModelSpec`. They raise
the errors of :mod:`upkeep.errors` and print nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upkeep.errors import DataError, InputError, Problem, UpkeepError, Where

if TYPE_CHECKING:
    from upkeep.data.infer import Inferred
    from upkeep.drift.result import DriftReport
    from upkeep.monitor.outcomes import ProductionReport
    from upkeep.monitor.traffic import Traffic
    from upkeep.pipelines.run import Listener
    from upkeep.pipelines.schedule import Scheduled
    from upkeep.pipelines.submit import Place, Started
    from upkeep.registry.card import Card
    from upkeep.registry.lock import Epoch
    from upkeep.registry.registry import Registry
    from upkeep.rollout.analysis.result import Analysis
    from upkeep.rollout.by_hand import Done
    from upkeep.rollout.finding import Finding
    from upkeep.rollout.history import Entry
    from upkeep.rollout.lead import Turn
    from upkeep.rollout.metrics import Update
    from upkeep.rollout.state import State
    from upkeep.rollout.watch import Report
    from upkeep.spec.model import ModelSpec
    from upkeep.update.adopt import Adopted
    from upkeep.update.outcome import Outcome
    from upkeep.update.record import UpdateRecord


def load_spec(spec: str | Path | ModelSpec) -> ModelSpec:
    """The model spec, checked, its relative paths resolved against its folder. Raises :class:`SpecError`."""
    if not isinstance(spec, str | Path):
        return spec
    from upkeep.spec.check import load_checked

    return load_checked(spec, os.environ)


def init(
    data: str,
    *,
    target: str,
    name: str | None = None,
    positive: str | None = None,
    path: str | Path = "upkeep.yaml",
    force: bool = False,
) -> Inferred:
    """Write a spec for ``data`` (a file, folder or s3:// address) to ``path``; what was guessed.

    A relative ``data`` starts from the working folder; the spec says it relative to its own.

    Raises :class:`InputError` where ``path`` exists and ``force`` is not given; :class:`DataError` for unreadable data.
    """
    from upkeep.data.infer import infer
    from upkeep.data.tidy_yaml import render
    from upkeep.records import write_whole

    path = Path(path)
    if path.exists() and not force:
        raise InputError(
            "the file is there already", where=Where(file=str(path)), fix="name another with --to, or use --force"
        )
    made = infer(data, target=target, name=name, positive=positive)
    made = replace(made, spec={**made.spec, "data": {**made.spec["data"], "source": _seen_from(path.parent, data)}})
    write_whole(path, render(made).encode())
    return made


def _seen_from(folder: Path, data: str) -> str:
    """``data``, a path relative to the working folder, as the specs in ``folder`` say it; the rest stays as it is."""
    if "://" in data or Path(data).is_absolute() or folder.absolute() == Path.cwd():
        return data
    return os.path.relpath(Path(data).absolute(), folder.absolute())


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What :func:`check` found."""

    problems: tuple[Problem, ...]
    """Errors and warnings, in the order of the file."""
    rows: dict[str, int]
    """What would become of the rows: read, quarantined, train, …; empty where the data was not read."""
    summary: str = ""

    @property
    def ok(self) -> bool:
        """Nothing but warnings."""
        return all(problem.severity == "warning" for problem in self.problems)


def check(spec: str | Path, *, data: bool = True) -> Checked:
    """Every problem of the spec and, with ``data``, of the data it names; nothing is written."""
    from upkeep.spec.check import load_with_warnings

    try:
        loaded, warnings = load_with_warnings(spec, os.environ)
    except UpkeepError as error:
        return Checked(problems=error.problems, rows={})
    if not data:
        return Checked(problems=tuple(warnings), rows={})
    try:
        rows, notes = _check_data(loaded)
    except DataError as error:
        return Checked(problems=(*warnings, *error.problems), rows={})
    summary = f"{rows['read']:,} rows: {rows['quarantined']:,} refused, {rows['held_out']:,} held out"
    told = [*warnings, *(Problem(note, severity="warning") for note in notes)]
    if 0 < rows["held_out"] < loaded.gate.min_rows:
        told.append(
            Problem(
                f"{rows['held_out']:,} rows are held out, and the gate asks for {loaded.gate.min_rows:,}: so far no "
                "verdict can be a pass",
                Where(field="gate.min_rows"),
                "deliver more rows, hold out a larger share of them (data.split.held_out), or ask for fewer",
                severity="warning",
            )
        )
    return Checked(problems=tuple(told), rows=rows, summary=summary)


def _check_data(spec: ModelSpec) -> tuple[dict[str, int], tuple[str, ...]]:
    """Prepare the rows in a folder that is thrown away: the counts, and what to look at."""
    import tempfile

    from upkeep.data.collect import collect
    from upkeep.data.prepare import prepare

    with tempfile.TemporaryDirectory(prefix="upkeep-check-") as folder:
        try:
            summary = prepare(
                spec,
                collect(spec, until=None, previous=()),
                Path(folder) / "prepared",
                held_out_before=None,
                environ=os.environ,
                progress=lambda *_: None,
            )
        except DataError as error:
            source = Where(file=spec.data.source)
            raise DataError(problems=tuple(_without(folder, problem, source) for problem in error.problems)) from error
    counts = ("read", "quarantined", "duplicates", "train", "validation", "held_out", "kept_out")
    return {name: sum(getattr(p, name) for p in summary.periods) for name in counts}, summary.warnings


def _without(folder: str, problem: Problem, source: Where) -> Problem:
    """The problem, where it names a file of the folder that is thrown away: the refused rows."""
    if not problem.where.file.startswith(folder):
        return problem
    fix = (
        "repair them at their origin, or raise data.limits.bad_rows; `upkeep run` keeps each with its reason in a file"
    )
    return replace(problem, where=source, fix=fix)


def run(
    spec: str | Path | ModelSpec,
    *,
    until: str = "",
    supersede: bool = False,
    accept_changed: bool = False,
    keep: bool = False,
    containers: bool = False,
    listen: Listener = lambda _: None,
) -> UpdateRecord:
    """Run one update on this machine, through kfp.local; its record. See :func:`upkeep.pipelines.run.run_here`."""
    from upkeep.pipelines.run import run_here

    return run_here(
        load_spec(spec),
        until=until,
        supersede=supersede,
        accept_changed=accept_changed,
        keep=keep,
        containers=containers,
        listen=listen,
    )


def submit(
    spec: str | Path | ModelSpec,
    *,
    until: str = "",
    supersede: bool = False,
    accept_changed: bool = False,
    listen: Listener = lambda _: None,
) -> UpdateRecord:
    """Run one update on Kubeflow Pipelines, and follow it to its end; its record, as :func:`run` gives it."""
    loaded = load_spec(spec)
    asked = {"until": until, "supersede": supersede, "accept_changed": accept_changed}
    started = submit_detached(loaded, **asked, listen=listen)  # type: ignore[arg-type]
    return follow(loaded, started.run, listen=listen)


def submit_detached(
    spec: str | Path | ModelSpec,
    *,
    until: str = "",
    supersede: bool = False,
    accept_changed: bool = False,
    listen: Listener = lambda _: None,
) -> Started:
    """Start one update on Kubeflow Pipelines, and leave it to itself. See :func:`upkeep.pipelines.submit.start`."""
    from upkeep.pipelines.run import Progress
    from upkeep.pipelines.submit import start

    loaded = load_spec(spec)
    with _kubeflow(loaded) as place:
        started = start(loaded, place, until=until, supersede=supersede, accept_changed=accept_changed)
        listen(Progress("kubeflow", f"run {started.run}: {started.page}"))
        return started


def follow(spec: str | Path | ModelSpec, run: str, *, listen: Listener = lambda _: None) -> UpdateRecord:
    """Follow a run on Kubeflow Pipelines to its end; its record. See :func:`upkeep.pipelines.submit.follow`."""
    from upkeep.pipelines.submit import follow as to_the_end

    loaded = load_spec(spec)
    with _kubeflow(loaded, listen) as place:
        return to_the_end(loaded, place, run)


def summary(spec: str | Path | ModelSpec, update: str) -> str:
    """The update in a few lines of Markdown, as a pull request's comment takes it."""
    from upkeep.registry.registry import Registry
    from upkeep.store import open_store
    from upkeep.update.record import SUMMARY

    loaded = load_spec(spec)
    registry = Registry(open_store(loaded.store, loaded.object_store), loaded.name)
    return registry.get_update(update, SUMMARY).decode()


def schedule(spec: str | Path | ModelSpec, *, delete: bool = False) -> Scheduled:
    """Make Kubeflow Pipelines run an update whenever the spec's schedule says so; ``delete``: no more.

    See :func:`upkeep.pipelines.schedule.apply`.
    """
    from upkeep.pipelines.schedule import apply, remove

    loaded = load_spec(spec)
    with _kubeflow(loaded) as place:
        return remove(loaded, place) if delete else apply(loaded, place)


@contextmanager
def _kubeflow(spec: ModelSpec, listen: Listener = lambda _: None) -> Iterator[Place]:
    from upkeep.pipelines.submit import open_place

    place = open_place(spec, os.environ, listen=listen)
    try:
        yield place
    finally:
        place.kubeflow.close()


def drift(spec: str | Path | ModelSpec, *, period: str = "") -> DriftReport:
    """The drift report of ``period`` (the newest, without one) against what the champion learned from.

    Raises :class:`InputError` when nothing serves yet, or when the period is not in the data.
    """
    from upkeep.update.drift import drift_of_period

    return drift_of_period(load_spec(spec), period=period, environ=os.environ)


def drift_files(reference: str, current: str) -> DriftReport:
    """The drift report of any two files of the same columns; no spec is needed."""
    from upkeep.drift.files import compare

    return compare(reference, current)


def write_drift_page(report: DriftReport, path: str | Path) -> Path:
    """Write the report as one self-contained HTML page."""
    from upkeep.report.drift_page import drift_page

    path = Path(path)
    path.write_text(drift_page(report), encoding="utf-8")
    return path


def compile(spec: str | Path | ModelSpec, out: str | Path = "update.yaml") -> Path:
    """Write the update pipeline as KFP IR YAML; the path."""
    from upkeep.pipelines.compile import compile_pipeline

    return compile_pipeline(load_spec(spec), Path(out))


def registry(spec: str | Path | ModelSpec) -> Registry:
    """The model's registry."""
    from upkeep.registry.registry import Registry
    from upkeep.store import open_store

    loaded = load_spec(spec)
    return Registry(open_store(loaded.store, loaded.object_store), loaded.name)


@dataclass(frozen=True, kw_only=True)
class Versions:
    """All versions, and which of them Git says should serve."""

    cards: tuple[Card, ...]
    """Newest first."""
    champion: str | None
    canary: str | None
    barred: tuple[str, ...] = ()
    """Those whose bytes were taken back once."""

    def role(self, version: str) -> str:
        """``champion``, ``canary``, ``barred`` or nothing."""
        roles: dict[str | None, str] = {
            **dict.fromkeys(self.barred, "barred"),
            self.champion: "champion",
            self.canary: "canary",
        }
        return roles.get(version, "")


def versions(spec: str | Path | ModelSpec) -> Versions:
    """The registered versions and what serves."""
    from upkeep.rollout.release import serving_now

    loaded = load_spec(spec)
    serving = serving_now(loaded)
    cards = tuple(reversed(registry(loaded).cards()))
    taken_back = {barred.digest for barred in serving.barred}
    return Versions(
        cards=cards,
        champion=serving.champion.version if serving.champion else None,
        canary=serving.canary.version if serving.canary else None,
        barred=tuple(card.version for card in cards if card.digest in taken_back),
    )


def version(spec: str | Path | ModelSpec, name: str) -> Card:
    """One version's card. Raises :class:`InputError` when there is no such version."""
    return registry(spec).card(name)


def newest_update(spec: str | Path | ModelSpec) -> UpdateRecord | None:
    """What the newest update that has ended left behind, whatever its verdict; None: none has ended yet."""
    from upkeep.update.record import newest_record

    return newest_record(registry(spec))


def outcome(spec: str | Path | ModelSpec, name: str) -> Outcome:
    """What came of a version: its card was written before its update ended, and never changes.

    Raises :class:`InputError` when there is no such version.
    """
    from upkeep.update.outcome import outcome_of

    loaded = load_spec(spec)
    return outcome_of(loaded, registry(loaded), name)


def verify(spec: str | Path | ModelSpec, name: str) -> Sequence[Problem]:
    """What is wrong with a version's bytes and records; empty: it is whole, and loads."""
    from upkeep.update.verify import verify_version

    loaded = load_spec(spec)
    return verify_version(loaded, registry(loaded), name)


def export(spec: str | Path | ModelSpec, name: str, out: str | Path, *, kind: str = "saved_model") -> Path:
    """Write a version that is a network for other programs: as ``kind`` ``saved_model``, a folder, or ``keras``, one
    file. A version's number is the last part of the path, as TensorFlow Serving looks for it; the path.

    Raises :class:`InputError` when there is no such version or something is there already, :class:`ModelError` when it
    is no network.
    """
    from upkeep.update.export import export_version

    loaded = load_spec(spec)
    return export_version(loaded, registry(loaded), name, Path(out), kind=kind)


def diff(spec: str | Path | ModelSpec, one: str, other: str) -> Sequence[tuple[str, Any, Any]]:
    """What differs between two versions: (field, its value in one, in the other)."""
    return [(d.field, d.a, d.b) for d in registry(spec).diff(one, other)]


def adopt(spec: str | Path | ModelSpec, model: str | Path, *, trained_until: str = "") -> Adopted:
    """Register the model that already serves (a skops file) as version 1, and say in Git that it serves."""
    from upkeep.update.adopt import adopt_model

    return adopt_model(load_spec(spec), Path(model), trained_until=trained_until)


def store_init(spec: str | Path | ModelSpec) -> Sequence[str]:
    """Make the store's bucket or folder; what was done, a sentence each."""
    from upkeep.registry.server import ensure_bucket

    loaded = load_spec(spec)
    return ensure_bucket(loaded.store, loaded.object_store)


def sweep(
    spec: str | Path | ModelSpec,
    *,
    grace_hours: float = 24.0,
    dry_run: bool = False,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Sequence[str]:
    """Delete what no version names and is older than the grace time, and the payload log's hours that are older than
    ``monitoring.payloads.keep``; the keys."""
    from upkeep.monitor.payloads import log_store
    from upkeep.monitor.payloads import sweep as sweep_payloads

    loaded = load_spec(spec)
    gone = registry(loaded).sweep(now=now(), grace=timedelta(hours=grace_hours), dry_run=dry_run)
    log = log_store(loaded)
    if log is None:
        return gone
    keep = timedelta(seconds=loaded.monitoring.payloads.keep)
    return (*gone, *(f"payloads/{key}" for key in sweep_payloads(log, now(), keep, dry_run=dry_run)))


def unlock(spec: str | Path | ModelSpec, *, reason: str, of: str = "update") -> Epoch | None:
    """End the lock of the model's updates (``of``: or of what else is done by one at a time); who held it, if any.

    A holder that is alive stops before its next step.
    """
    return registry(spec).unlock(reason, of=of)


def metrics(
    spec: str | Path | ModelSpec,
    *,
    window: float | None = 86400.0,
    by: Sequence[str] = ("version", "window"),
    since: float | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    tick: Callable[[int], None] | None = None,
) -> ProductionReport:
    """Quality in production, from the payload log and the labels.

    ``window``: seconds of a window. ``by``: some of ``version``, ``window``, ``slice``. ``since``: only requests of the
    last so many seconds. ``tick`` is told the lines of the log that were read.
    """
    from upkeep.monitor.report import report

    loaded = load_spec(spec)
    return report(
        loaded,
        registry(loaded),
        by_version="version" in by,
        window=timedelta(seconds=window) if window and "window" in by else None,
        slices=loaded.data.slices if "slice" in by else (),
        since=None if since is None else now() - timedelta(seconds=since),
        now=now(),
        tick=tick,
    )


def replay(
    spec: str | Path | ModelSpec,
    data: str,
    *,
    url: str = "",
    rate: float = 50.0,
    seconds: float = 60.0,
    rows: int | None = None,
    label_delay: float = 30.0,
    label_share: float = 1.0,
    tick: Callable[[Traffic], None] | None = None,
) -> Traffic:
    """Send rows of ``data`` as live requests, with labels that come later; what came back.

    ``data``: a file, a folder, an s3:// address, or a period of ``data.source``. Without ``url`` they go to the
    one-machine cluster. See :func:`upkeep.monitor.traffic.send`.
    """
    from upkeep.monitor.traffic import gateway_url, rows_of, send

    loaded = load_spec(spec)
    return send(
        loaded,
        rows_of(loaded, data, os.environ),
        url=url or gateway_url(loaded),
        rate=rate,
        most_seconds=seconds,
        most_rows=rows,
        label_delay=label_delay,
        label_share=label_share,
        tick=tick,
    )


def spec_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of ``upkeep.yaml``."""
    from upkeep.spec.schema import json_schema

    return json_schema()


def spec_reference() -> str:
    """Every key of ``upkeep.yaml``, as Markdown."""
    from upkeep.spec.schema import reference

    return reference()


def up(
    specs: Sequence[str | Path | ModelSpec],
    *,
    folder: str | Path | None = None,
    port: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve on this machine what Git says of these models, until SIGINT or SIGTERM; ``tell`` hears of each event.

    Raises :class:`RefusedError` when a cluster runs in the folder already.
    """
    import asyncio

    from upkeep.rollout.source import ReleaseSource
    from upkeep.serving.local.daemon import Daemon
    from upkeep.serving.local.folder import Folder

    loaded = [load_spec(spec) for spec in specs]
    place = Folder(cluster_folder(loaded, folder))

    async def serve() -> None:
        await Daemon([ReleaseSource(spec) for spec in loaded], place, port=port, tell=tell).run()

    asyncio.run(serve())


def up_detached(
    specs: Sequence[str | Path | ModelSpec], *, folder: str | Path | None = None, port: int | None = None
) -> dict[str, Any]:
    """Like :func:`up`, in a process of its own that goes on; its status, once everything that Git names is ready.

    ``specs`` are paths. Raises :class:`OutsideError` when it does not come up.
    """
    from upkeep.serving.local.control import start_detached
    from upkeep.serving.local.folder import Folder

    loaded = [load_spec(spec) for spec in specs]
    return start_detached(Folder(cluster_folder(loaded, folder)), [str(spec) for spec in specs], port)


def cluster_folder(specs: Sequence[ModelSpec], folder: str | Path | None = None) -> Path:
    """The folder of the one-machine cluster that serves these models. Raises :class:`InputError` when they have
    different ones."""
    from upkeep.serving.local.folder import VARIABLE, default_folder

    if folder is not None:
        return Path(folder).expanduser().absolute()
    folders = {default_folder(spec) for spec in specs}
    if len(folders) > 1:
        raise InputError(
            "these models have different stores, and so no common default folder for the cluster",
            fix=f"name one with --folder, and in {VARIABLE} for `upkeep rollout`",
        )
    return folders.pop()


def cluster_status(spec: str | Path | ModelSpec, *, folder: str | Path | None = None) -> dict[str, Any]:
    """What the one-machine cluster runs and serves. Raises :class:`OutsideError` when none runs."""
    from upkeep.serving.local.ask import read_status
    from upkeep.serving.local.folder import Folder

    return read_status(Folder(_cluster_of(spec, folder)))


def down(spec: str | Path | ModelSpec, *, folder: str | Path | None = None) -> Sequence[str]:
    """Stop the one-machine cluster and all that it runs; what was stopped, a sentence each."""
    from upkeep.serving.local.control import stop
    from upkeep.serving.local.folder import Folder

    return stop(Folder(_cluster_of(spec, folder)))


def _cluster_of(spec: str | Path | ModelSpec, folder: str | Path | None) -> Path:
    return Path(folder).expanduser().absolute() if folder is not None else cluster_folder([load_spec(spec)])


@dataclass(frozen=True, kw_only=True)
class RolloutStatus:
    """Where a rollout is, and what it waits for."""

    state: State
    """What Git says (with an edit: what Upkeep committed last)."""
    steps: int
    """How many steps the plan has."""
    live: dict[str, int] | None
    """Version → per cent of the traffic now; None: not known."""
    braked: bool
    waits_for: str
    """In a few words; empty: nothing is under way."""
    until: str | None
    """UTC, ISO 8601: when the waiting ends at the latest, or a window opens; None: no limit."""
    analysis: Analysis | None
    """The evidence that the controller has stored so far."""
    troubles: dict[str, str]
    """Kind → what could not be read, in one line."""


def rollout_status(spec: str | Path | ModelSpec) -> RolloutStatus:
    """Where the rollout is, the evidence so far, what it waits for. Raises :class:`InputError` before any release."""
    from upkeep.rollout.connect import connect
    from upkeep.rollout.controller import see, waits_for_merge

    loaded = load_spec(spec)
    with connect(loaded) as model:
        seen = see(model, datetime.now(UTC))
    look, decision, proposed = seen.observation, seen.decision, seen.ledger.proposed
    troubles = dict(seen.ledger.troubles) | dict(seen.troubles)
    if look.edit is not None:
        troubles["edit"] = look.edit.message
    return RolloutStatus(
        state=seen.state,
        steps=len(loaded.rollout.steps),
        live=dict(look.live.weights) if look.live and look.live.weights else None,
        braked=bool(look.live and look.live.braked),
        waits_for=f"a merge: {waits_for_merge(proposed)}" if proposed else decision.waits_for,
        until=decision.until.astimezone(UTC).isoformat(timespec="seconds") if decision.until else None,
        analysis=look.shadow if seen.state.phase == "shadow" else look.analysis,
        troubles=troubles,
    )


def rollout_page(spec: str | Path | ModelSpec, path: str | Path = "rollouts.html") -> Path:
    """Write the page of the model's rollouts to ``path``, whole or not at all."""
    from upkeep.records import write_whole
    from upkeep.report.rollout_page import rollout_page as page
    from upkeep.report.rollouts import rollouts_of
    from upkeep.rollout.connect import connect
    from upkeep.rollout.history import history as read

    loaded, path, now = load_spec(spec), Path(path), datetime.now(UTC)
    with connect(loaded) as model:
        entries = read(loaded, model.repository)
        view = rollouts_of(loaded, entries, model.store, now, repository=model.repository.url)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page(view).encode())
    return path


def doctor(spec: str | Path | ModelSpec) -> Sequence[Finding]:
    """Look at what a rollout of this model would need, before anything moves."""
    from upkeep.rollout.connect import connect
    from upkeep.rollout.doctor import examine

    with connect(load_spec(spec)) as model:
        return examine(model, datetime.now(UTC))


def watch(
    specs: Sequence[str | Path | ModelSpec],
    *,
    once: bool = False,
    until_rest: bool = False,
    lease: str = "",
    metrics: tuple[str, int] | None = None,
    tell: Callable[[Report | Turn], None] = lambda _: None,
) -> dict[str, str]:
    """Drive the rollouts of these models: model → how it ended (``rests``, ``waits`` for a person, ``stopped``).

    With ``once`` an error of a look is raised, the first model's; else it is told, and tried again. ``lease``
    (``<namespace>/<name>``): only while this process holds that Lease. ``metrics``: an IP address and a port, to answer
    at ``/metrics``, ``/healthz`` and ``/readyz``.
    """
    from upkeep.rollout.connect import connect
    from upkeep.rollout.watch import Watch
    from upkeep.serving.connect import open_election

    loaded = [load_spec(spec) for spec in specs]
    names = [spec.name for spec in loaded]
    if len(set(names)) < len(names):
        raise InputError("two of the specs are of one model", fix="name each model once")
    election = open_election(lease) if lease else None
    with ExitStack() as stack:
        hear: list[Callable[[Report | Turn], None]] = [tell]
        if metrics is not None:
            from upkeep.rollout.health import Health
            from upkeep.rollout.metrics import Metrics, served

            own, health = Metrics(), Health(names)
            by_name = dict(zip(names, loaded, strict=True))
            own.follow_updates(loaded, lambda model: _shown_update(by_name[model]))
            stack.enter_context(served(own, health, *metrics))
            hear += [own.observe, health.observe]

        def heard(report: Report | Turn) -> None:
            for each in hear:
                each(report)

        def make() -> Watch:
            leads = election.leads if election else lambda: True
            return Watch(loaded, connect=connect, tell=heard, once=once, until_rest=until_rest, leads=leads)

        if election is None:
            watching = make()
            watching.run()
        else:
            from upkeep.rollout.lead import in_turn

            hear[0] = _only_news(tell)
            watching = in_turn(election, make, heard)
    for name in names:
        if name in watching.errors:
            raise watching.errors[name]
    return {name: watching.ended[name] for name in names}


def _shown_update(spec: ModelSpec) -> Update | None:
    """The model's newest update, as the controller's metrics show it."""
    from upkeep.rollout.metrics import Update

    record = newest_update(spec)
    if record is None:
        return None
    return Update(
        update=record.update,
        finished=datetime.fromisoformat(record.finished),
        verdict=record.verdict.verdict,
        outcome=record.outcome,
        drift=(record.drift or "").partition(":")[0],
    )


def _only_news(tell: Callable[[Report | Turn], None]) -> Callable[[Report | Turn], None]:
    """``tell``, which hears of the election only where something changed: it is tried every few seconds."""
    from upkeep.rollout.lead import Turn

    last = ""

    def told(report: Report | Turn) -> None:
        nonlocal last
        if not isinstance(report, Turn):
            tell(report)
        elif report.line() != last:
            last = report.line()
            tell(report)

    return told


def pause(spec: str | Path | ModelSpec, *, reason: str) -> Done:
    """Stop the rollout where it is. Raises :class:`RefusedError` where that makes no sense; so do the next four."""
    return _order(spec, name="pause", reason=reason)


def resume(spec: str | Path | ModelSpec, *, reason: str = "") -> Done:
    """Go on from where it was paused or held."""
    return _order(spec, name="resume", reason=reason)


def promote(spec: str | Path | ModelSpec, *, full: bool = False, reason: str = "") -> Done:
    """Move one step on, or to all traffic, without the evidence."""
    return _order(spec, name="promote", full=full, reason=reason)


def abort(spec: str | Path | ModelSpec, *, reason: str) -> Done:
    """Take the canary back, and bar its bytes."""
    return _order(spec, name="abort", reason=reason)


def rollback(spec: str | Path | ModelSpec, *, to: str | None = None, reason: str = "") -> Done:
    """Go back to an earlier champion; during a rollout, :func:`abort`."""
    return _order(spec, name="rollback", to=to, reason=reason)


def _order(spec: str | Path | ModelSpec, **order: Any) -> Done:
    from upkeep.rollout.by_hand import Order, carry_out, person
    from upkeep.rollout.connect import connect

    by, environ = person()
    with connect(load_spec(spec), git=environ) as model:
        return carry_out(model, Order(**order), by=by, now=lambda: datetime.now(UTC))


def history(spec: str | Path | ModelSpec, *, at: str = "") -> Sequence[Entry]:
    """Every commit that changed what should serve, newest first; ``at`` (a date, or a time; UTC unless it says its
    zone): only the one that counted then, at a date's end; more than one where Git cannot tell which of them did."""
    from upkeep.rollout.history import at as counted_at
    from upkeep.rollout.history import history as read

    if not at:
        return read(load_spec(spec))
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise InputError(
            f"{at!r} is no date", where=Where(field="--at"), fix="write 2026-03-01 or 2026-03-01T14:30"
        ) from None
    if len(at) <= len("2026-03-01"):
        moment = moment.replace(hour=23, minute=59, second=59)
    return counted_at(read(load_spec(spec)), moment if moment.tzinfo else moment.replace(tzinfo=UTC))
