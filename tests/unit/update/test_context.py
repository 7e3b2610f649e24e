"""Whose turn it is on a cluster, where nobody stands around the steps; and what a failed one leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.data import make
from upkeep import records
from upkeep.errors import ConflictError, DataError, OutsideError
from upkeep.registry.registry import Registry
from upkeep.spec.load import canonical
from upkeep.spec.model import ModelSpec
from upkeep.store import open_store
from upkeep.update.context import RUN_VARIABLE, UPDATE_VARIABLE, Context, step
from upkeep.update.record import StepError, UpdateRecord


class Cluster:
    """Steps as pods: what a pod knows is its run's id and its parameters."""

    def __init__(self, spec: ModelSpec, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        self.spec, self.registry, self._monkeypatch = spec, registry, monkeypatch
        self.parameters = {"spec_digest": registry.put_spec(canonical(spec))}
        self.parameters["spec"] = f"{registry.store.uri}/{registry.model}/specs/{self.parameters['spec_digest']}.json"

    def pod(self, run: str, name: str, work: Callable[[Context], None] = lambda _: None) -> None:
        self._monkeypatch.setenv(RUN_VARIABLE, run)

        def does(context: Context) -> None:
            assert (context.update, context.step) == (run, name)
            work(context)

        does.__name__ = name
        step(does)(**self.parameters)

    def holder(self) -> str:
        held = self.registry.holder()
        return held.holder if held else ""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    spec = make.spec(make.months(tmp_path / "data", 1), time="time")
    monkeypatch.delenv(UPDATE_VARIABLE, raising=False)
    return Cluster(spec, Registry(open_store(str(tmp_path / "store")), spec.name), monkeypatch)


def test_collect_takes_the_lock_and_deploy_gives_it_back(cluster: Cluster) -> None:
    for name in ("collect", "preprocess", "train", "deploy"):
        cluster.pod("run-1", name, lambda _: _assert(cluster.holder() == "run-1"))
        assert cluster.holder() == ("" if name == "deploy" else "run-1")


def _assert(true: bool) -> None:
    assert true


def test_of_two_runs_the_second_ends_and_names_the_first(cluster: Cluster) -> None:
    cluster.pod("run-1", "collect")
    with pytest.raises(ConflictError, match="run-1 is at work on this model"):
        cluster.pod("run-2", "collect", lambda _: pytest.fail("two updates of a model at once"))
    kept = records.from_json(StepError, cluster.registry.get_update("run-2", "errors/collect.json"))
    assert (kept.step, kept.error) == ("collect", "ConflictError")
    assert "run-1 is at work" in kept.problems[0].message
    cluster.pod("run-1", "deploy")


def test_a_step_that_kfp_may_cache_leaves_its_failure_too(cluster: Cluster) -> None:
    cluster.pod("run-1", "collect")

    def fail(_: Context) -> None:
        raise DataError("nothing but nulls")

    with pytest.raises(DataError):
        cluster.pod("run-1", "train", fail)
    record = records.from_json(UpdateRecord, cluster.registry.get_update("run-1", "record.json"))
    assert (record.update, record.outcome) == ("run-1", "failed")
    assert "nothing but nulls" in record.verdict.summary
    assert cluster.registry.get_update("run-1", "page.html")
    assert cluster.registry.get_update("run-1", "summary.md").startswith(b"### ")


def test_a_pod_without_its_runs_id_does_nothing(cluster: Cluster) -> None:
    """Without it nobody would hold the lock, and what the step leaves would lie nowhere."""
    with pytest.raises(OutsideError, match="its label `pipeline/runid` is missing"):
        cluster.pod("", "collect", lambda _: pytest.fail("it ran"))
    assert cluster.holder() == ""


def test_a_run_on_this_machine_holds_the_lock_itself(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(UPDATE_VARIABLE, "here")

    def does(context: Context) -> str:
        return context.update

    does.__name__ = "collect"
    monkeypatch.setenv(RUN_VARIABLE, "run-1")  # a run of ours inside somebody's pod
    assert step(does)(**cluster.parameters) == "here"
    assert cluster.holder() == ""
