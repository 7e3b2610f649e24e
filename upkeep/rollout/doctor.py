"""Look, before anything moves, at what a rollout of this model would need: what is missing, ignored or broken.

Each check asks the real thing (a conditional write, a push that is not carried out, a request through the gateway), and
each finding says what to do. A check that cannot be made is ``unknown``, never ``ok``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from upkeep.errors import UpkeepError
from upkeep.rollout.controller import Model
from upkeep.rollout.finding import MOST_SKEW, Finding
from upkeep.rollout.release import Released, read_release, release_folder
from upkeep.serving.cluster import Facts
from upkeep.serving.drivers import driver_of
from upkeep.serving.manifests import service_name
from upkeep.spec.model import ObjectStore
from upkeep.store import open_store

if TYPE_CHECKING:
    from upkeep.serving.kubernetes.cluster import KubernetesCluster

Check = Callable[["_Patient"], Iterator[Finding]]


def examine(model: Model, now: datetime, environ: Mapping[str, str] | None = None) -> tuple[Finding, ...]:
    """Every check, in order; nothing is raised for what is found, and nothing is left behind."""
    patient = _Patient(model, now, os.environ if environ is None else environ)
    found: list[Finding] = []
    for name, check in CHECKS:
        try:
            found += check(patient)
        except UpkeepError as error:
            first = error.problems[0]
            place = f"{first.where}: " if str(first.where) else ""
            found.append(Finding(check=name, state="problem", text=f"{place}{first.message}", fix=first.fix))
    return tuple(found)


class _Patient:
    def __init__(self, model: Model, now: datetime, environ: Mapping[str, str]) -> None:
        self.model, self.spec, self.now, self.environ = model, model.spec, now, environ
        self.released: Released | None = None
        self.commit: str | None = None

    @property
    def kubernetes(self) -> KubernetesCluster | None:
        """None: the one-machine cluster."""
        from upkeep.serving.kubernetes.cluster import KubernetesCluster

        cluster = self.model.cluster
        return cluster if isinstance(cluster, KubernetesCluster) else None

    def see(self, version: str) -> str:
        """The command that shows a version's service."""
        if self.kubernetes is None:
            return "see `upkeep status`"
        service = f"inferenceservice -n {self.spec.serving.namespace}"
        name = service_name(self.spec.name, version) if self.spec.serving.traffic == "route" else self.spec.name
        return f"`kubectl describe {service} {name}`"


def _store(patient: _Patient) -> Iterator[Finding]:
    """Write, read, write only if absent, delete: what versions and evidence stand on."""
    store = patient.model.store
    folder = patient.spec.name  # a folder of its own would be left behind
    key = f"{folder}/.doctor-{uuid4().hex}"  # a dot: an S3 server lists it first
    try:
        first, second = store.create(key, b"one"), store.create(key, b"two")
        stands = store.get(key)
        modified = next((each.modified for each in store.list(folder) if each.key == key), None)
    finally:
        store.delete(key)
    if not first or second or stands != b"one":
        yield Finding(
            check="store",
            state="problem",
            text=f"{store.uri} does not keep a conditional write: two could make the same version",
            fix="use an S3 server that honours If-None-Match, or a folder",
        )
        return
    yield Finding(check="store", state="ok", text=f"{store.uri}: writes, reads, and refuses to write twice")
    if modified is None:
        yield Finding(check="clock", state="unknown", text="the store does not list what was just written")
        return
    skew = abs((modified - patient.now).total_seconds())
    if skew > MOST_SKEW:
        yield Finding(
            check="clock",
            state="problem",
            text=f"this clock and the store's differ by {skew:.0f} s",
            fix="set both by NTP (`timedatectl set-ntp true`)",
        )
    else:
        yield Finding(check="clock", state="ok", text="this clock and the store's agree")


def _git(patient: _Patient) -> Iterator[Finding]:
    spec, repository = patient.spec, patient.model.repository
    folder = release_folder(spec)
    tree = repository.read(spec.rollout.branch, folder)
    patient.commit = tree.commit
    if tree.commit is None:
        yield Finding(check="git", state="ok", text=f"{repository.url} is empty: the first version begins it")
    repository.check_push(spec.rollout.branch, tree.commit, patient.now)
    yield Finding(check="git", state="ok", text=f"{repository.url}: {spec.rollout.branch} can be read and pushed to")
    patient.released = read_release(spec, tree)
    if patient.released is None:
        yield Finding(
            check="release",
            state="ok",
            text=f"{folder or 'the root'} holds no release yet",
            fix="`upkeep run` or `upkeep adopt` makes the first",
        )
        return
    state = patient.released.state
    words = ", ".join(f"{version} {weight} %" for version, weight in state.weights.items())
    yield Finding(check="release", state="ok", text=f"{folder or 'the root'} says {words} ({state.phase})")


def _registry(patient: _Patient) -> Iterator[Finding]:
    released = patient.released
    for role in (released.state.champion, released.state.canary) if released else ():
        if role is None:
            continue
        missing = patient.model.versions.missing(role.version, role.digest)
        if missing:
            yield Finding(
                check="registry",
                state="problem",
                text=f"{role.version} is not whole: {', '.join(missing)}",
                fix=f"restore it from a backup of the store, then `upkeep versions verify {role.version}`",
            )
        else:
            yield Finding(check="registry", state="ok", text=f"{role.version}: its card and its bytes are there")


def _traffic(patient: _Patient) -> Iterator[Finding]:
    """Whether the chosen way to divide traffic would be ignored where it is to work."""
    spec = patient.spec
    facts = patient.model.cluster.facts(spec)
    cluster = patient.kubernetes
    unsure = []
    if cluster is not None:
        from upkeep.rollout import doctor_kubernetes

        yield from doctor_kubernetes.kserve(cluster, facts)
        unsure = list(doctor_kubernetes.unsure_of_traffic(spec, facts, cluster.kserve_namespace))
    problems = driver_of(spec).refusals(spec, facts)
    for problem in problems:
        yield Finding(check="traffic", state="problem", text=problem.message, fix=problem.fix)
    yield from unsure
    if not problems and not unsure:
        yield Finding(check="traffic", state="ok", text=f"`traffic: {spec.serving.traffic}` works on {facts.place}")
    if facts.drivers is None:  # Kubernetes: a runtime loads the models
        yield from _runtime(patient, facts)


def _runtime(patient: _Patient, facts: Facts) -> Iterator[Finding]:
    """Whether what loads the models can load these."""
    name, formats, released = patient.spec.serving.runtime, facts.runtime_formats, patient.released
    if formats is None:
        yield Finding(
            check="runtime",
            state="unknown",
            text=f"the ServingRuntime {name} is not there, or may not be read",
            fix=f"`kubectl get servingruntime -n {patient.spec.serving.namespace}`; manifests/infrastructure has one",
        )
        return
    for role in (released.state.champion, released.state.canary) if released else ():
        if role is None:
            continue
        wanted = patient.model.versions.served(role.version).format
        if wanted not in formats:
            yield Finding(
                check="runtime",
                state="problem",
                text=f"{role.version} is of the format {wanted}, and the ServingRuntime {name} loads "
                f"{', '.join(sorted(formats)) or 'none'}",
                fix="name another in `serving.runtime`, or give it the format",
            )
        else:
            yield Finding(check="runtime", state="ok", text=f"the ServingRuntime {name} loads {role.version}")


def _cluster(patient: _Patient) -> Iterator[Finding]:
    spec, cluster, released = patient.spec, patient.model.cluster, patient.released
    live = cluster.live(spec)
    if live.message:
        fix = "see what it applies and why not, below `syncer`" if patient.kubernetes else "see `upkeep status`"
        yield Finding(check="cluster", state="problem", text=live.message, fix=fix)
    if live.commit is None:
        yield Finding(
            check="sync",
            state="unknown",
            text="nobody can say which commit is applied",
            fix="see `syncer` below" if patient.kubernetes else "`upkeep up` applies it",
        )
    elif live.commit != patient.commit:
        yield Finding(
            check="sync",
            state="problem",
            text=f"the commit {live.commit[:12]} is applied, and {(patient.commit or 'none')[:12]} is the newest",
            fix=_stuck(patient),
        )
    else:
        yield Finding(check="sync", state="ok", text=f"the newest commit, {live.commit[:12]}, is applied")
    if released is None:
        return
    wanted = {version: weight for version, weight in released.state.weights.items() if weight}
    shares = {version: weight for version, weight in (live.weights or {}).items() if weight}
    if live.weights is None:
        yield Finding(check="route", state="problem", text="there is no route of this model, or not Upkeep's")
    elif shares != wanted:
        yield Finding(check="route", state="problem", text=f"live traffic is {shares}, and Git says {wanted}")
    else:
        yield Finding(check="route", state="ok", text="live traffic is what Git says")
    for role in (released.state.champion, released.state.canary):
        if role is not None:
            yield _answers(patient, role.version, role.digest)


def _answers(patient: _Patient, version: str, digest: str) -> Finding:
    """A real prediction: readiness alone has been wrong before."""
    model, spec = patient.model, patient.spec
    service = model.cluster.live(spec).services.get(version)
    if service is None:
        return _unwell(patient, version, "has no service")
    if not service.ready:
        return _unwell(patient, version, f"is not ready: {service.message}")
    if service.digest != digest:
        return _unwell(patient, version, f"serves other bytes: {service.digest[:12]}")
    probe = model.cluster.probe(spec, version, model.versions.rows(version))
    if not probe.ok:
        return _unwell(patient, version, f"does not answer: {probe.message}")
    return Finding(check="service", state="ok", text=f"{version} answers through the gateway")


def _unwell(patient: _Patient, version: str, how: str) -> Finding:
    return Finding(check="service", state="problem", text=f"{version} {how}", fix=patient.see(version))


def _stuck(patient: _Patient) -> str:
    cluster = patient.kubernetes
    syncer = cluster.syncer(patient.spec) if cluster else None
    if syncer is None:
        return "see `syncer` below" if cluster else "see what `upkeep status` says of it"
    kind = "application" if syncer.kind == "argocd" else "kustomization"
    return f"`kubectl describe {kind} -n {syncer.namespace} {syncer.name}`"


def _counters(patient: _Patient) -> Iterator[Finding]:
    snapshot = patient.model.counters.read(patient.spec)
    released = patient.released
    serving = [released.state.champion.version] if released else []
    unseen = [version for version in serving if version not in snapshot.versions]
    if unseen:
        yield Finding(check="counters", state="unknown", text=f"no request of {', '.join(unseen)} was counted yet")
    else:
        yield Finding(check="counters", state="ok", text="requests are counted by version")


def _labels(patient: _Patient) -> Iterator[Finding]:
    spec, labels = patient.spec, patient.spec.monitoring.labels
    if not labels:
        yield Finding(
            check="labels",
            state="unknown",
            text="no labels: a canary is judged by errors and latency alone",
            fix="say in `monitoring.labels` where they arrive",
        )
        return
    yield _readable("labels", labels, spec.object_store)


def _payloads(patient: _Patient) -> Iterator[Finding]:
    yield _readable("payloads", patient.spec.monitoring.payloads.source, patient.spec.object_store)


def _readable(check: str, uri: str, settings: ObjectStore) -> Finding:
    """A folder that is not there yet is one in which nothing has arrived: it is not made here."""
    if "://" not in uri and not Path(uri).exists():
        return Finding(check=check, state="unknown", text=f"nothing has arrived yet: {uri} is not there")
    store = open_store(uri, settings, make=False)
    if next(iter(store.list()), None) is None:
        return Finding(check=check, state="unknown", text=f"nothing has arrived yet: {store.uri} is empty")
    return Finding(check=check, state="ok", text=f"{store.uri} can be read")


def _people(patient: _Patient) -> Iterator[Finding]:
    asks = patient.spec.rollout.pull_request
    if asks.host and not patient.environ.get(asks.token_env):
        yield Finding(
            check="approval",
            state="problem",
            text="the token that opens pull requests is not set: branches would be pushed, and nobody asked",
            fix=f"set {asks.token_env} where the controller runs",
        )
    for webhook in patient.spec.rollout.webhooks:
        if webhook.secret_env and not patient.environ.get(webhook.secret_env):
            yield Finding(
                check="webhook",
                state="problem",
                text=f"the key of {webhook.url} is not set: its events would not be signed",
                fix=f"set {webhook.secret_env} where the controller runs",
            )


def _on_kubernetes(name: str) -> Check:
    """A check of :mod:`upkeep.rollout.doctor_kubernetes`; on one machine it finds nothing."""

    def check(patient: _Patient) -> Iterator[Finding]:
        from upkeep.rollout import doctor_kubernetes as doctor

        cluster, spec = patient.kubernetes, patient.spec
        if cluster is None:
            return
        if name == "gateway":
            yield from doctor.edge(cluster, spec)
        elif name == "syncer":
            yield from doctor.syncing(cluster, spec, patient.model.repository.url)
        elif name == "rights":
            yield from doctor.rights(cluster, spec)
        elif name == "clock":
            yield from doctor.clock(cluster, patient.now)
        else:
            yield from doctor.pipelines(spec, patient.environ)

    return check


CHECKS: tuple[tuple[str, Check], ...] = (
    ("store", _store),
    ("git", _git),
    ("registry", _registry),
    ("traffic", _traffic),
    ("cluster", _cluster),
    *((name, _on_kubernetes(name)) for name in ("syncer", "gateway", "rights", "clock", "kfp")),
    ("counters", _counters),
    ("labels", _labels),
    ("payloads", _payloads),
    ("webhook", _people),
)
"""In order, each by what it is called where it cannot even be made."""
