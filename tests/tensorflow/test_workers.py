"""A candidate with ``devices: workers``: two processes by hand, and the train step that starts them as a TFJob."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from upkeep.pipelines.compile import compile_pipeline
from upkeep.pipelines.needs import needs_of
from upkeep.pipelines.workers import tfjob

from tests.kube_api import free_ports
from tests.tensorflow import keras_make as make
from tests.tensorflow.test_distribute import TOLERANCE
from tests.tensorflow.train_on_devices import FIELDS
from tests.training_operator import ROOT, Operator, operating
from tests.unit.update.test_steps import Artifact
from upkeep.models import keras_file
from upkeep.registry.registry import Registry
from upkeep.serving.kubernetes.api import Api
from upkeep.serving.kubernetes.fake import FakeKubernetes
from upkeep.serving.kubernetes.paths import TFJOBS, path
from upkeep.spec.load import canonical, resolve
from upkeep.spec.model import Drift, Kubeflow, ModelSpec, StepNeeds
from upkeep.store import open_store
from upkeep.training.train import train as fit
from upkeep.update import trained, workers
from upkeep.update.train import train

POD = {
    "UPKEEP_RUN": "run-1",
    "UPKEEP_POD_NAMESPACE": "team",
    "UPKEEP_POD_NAME": "churn-update-1",
    "UPKEEP_POD_UID": "5d1f",
    "UPKEEP_POD_ACCOUNT": "pipeline-runner",
}


class World:
    """A model in a store, its rows, and what one device makes of them."""

    def __init__(self, root: Path) -> None:
        candidate = make.tuned(**FIELDS, devices="workers", epochs=2)
        task = make.task(root, candidate)
        self.root, self.prepared = root, task.prepared.path
        self.spec: ModelSpec = replace(
            task.spec,
            store=str(root / "store"),
            seed=task.seed,
            kubeflow=Kubeflow(steps={"train net": StepNeeds(workers=2, timeout=600.0)}),
        )
        self.registry = Registry(open_store(self.spec.store), self.spec.name)
        self.digest = self.registry.put_spec(canonical(self.spec))
        alone = replace(task, candidate=replace(candidate, devices="one"))
        fit(alone, root / "alone", root / "alone-state")

    @property
    def given(self) -> dict[str, Any]:
        uri = f"{self.registry.store.uri}/{self.spec.name}/specs/{self.digest}.json"
        known = {"spec": uri, "spec_digest": self.digest, "champion": "", "candidate": "net"}
        return {**known, "states": {}, "members": {}}

    def is_the_same(self, model: Path) -> None:
        """The model, but for the order in which floats were added."""
        pairs = zip(weights(model), weights(self.root / "alone"), strict=True)
        for ours, alone in pairs:
            np.testing.assert_allclose(ours, alone, rtol=0, atol=TOLERANCE)


def weights(model: Path) -> list[Any]:
    return [variable.numpy() for variable in keras_file.load(model / "model.keras").variables]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("workers"))


@pytest.mark.slow
def test_two_workers_by_hand_leave_what_one_device_does(world: World, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.json"
    inputs.write_text(json.dumps({**world.given, "prepared": str(world.prepared), "model": str(tmp_path / "model")}))
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    told = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}} for index in (0, 1)]
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "upkeep.update.worker", str(inputs)],
            env={**os.environ, "TF_CONFIG": json.dumps(each)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for each in told
    ]  # fmt: skip
    said = [child.communicate(timeout=150) for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    (name,) = {line for line in said[0][0].splitlines() if not line.startswith("upkeep-progress ")}
    assert {line for line in said[1][0].splitlines() if not line.startswith("upkeep-progress ")} == set()
    assert trained.get(world.registry, name).result.candidate == "net"
    world.is_the_same(tmp_path / "model")


@pytest.mark.slow
def test_the_train_step_has_two_workers_train_and_takes_what_they_leave(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = FakeKubernetes()
    job = tfjob(world.spec, needs_of(world.spec, "train", "net"), {})
    for name, value in {**POD, "UPKEEP_TFJOB": json.dumps(job)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(workers, "open_api", lambda _: Api(server.client()))
    monkeypatch.setattr(workers, "EVERY", 0.1)
    model, metrics = Artifact(tmp_path / "model"), Artifact(tmp_path / "metrics")
    with operating(Operator(Api(server.client()), "team", tmp_path)) as operator:
        record = train(**world.given, prepared=Artifact(world.prepared), model=model, metrics=metrics)
    world.is_the_same(Path(model.path))
    found = trained.get(world.registry, record)
    assert (found.model, found.result.candidate) == (model.metadata["digest"], "net")
    assert metrics.metadata["epochs"] == 2.0
    assert [name.rsplit("-", 1)[0] for name in operator.jobs] == ["toy-net"]
    assert "looking at the training rows" in capsys.readouterr().out, "what the first worker tells"
    assert server.objects == {}
    assert list(world.registry.store.list(f"{world.spec.name}/workers")) == []


@pytest.mark.slow
def test_the_compiled_pipeline_trains_on_two_workers_by_a_real_api_server(
    world: World, tmp_path: Path, api: Api, kubeconfig: Path
) -> None:
    spec = resolve(replace(world.spec, store="store", drift=Drift(classifier_rows=0)), tmp_path)
    spec = replace(spec, data=world.spec.data)  # with the salt of its split: the rows that one device learned
    registry = Registry(open_store(spec.store), spec.name)
    digest = registry.put_spec(canonical(spec))
    package = compile_pipeline(spec, tmp_path / "update.yaml")
    address = f"{registry.store.uri}/{spec.name}/specs/{digest}.json"
    parameters = json.dumps({"spec": address, "spec_digest": digest})
    pod = {**POD, "UPKEEP_POD_NAMESPACE": "workers", "KUBECONFIG": str(kubeconfig), "UPKEEP_KUBE_CONTEXT": "local"}
    with operating(Operator(api, "workers", tmp_path, status="/status"), every=1.0) as operator:
        done = subprocess.run(
            [sys.executable, "-m", "tests.e2e.kfp_pods", str(package), parameters, str(tmp_path / "kfp"), "run-1"],
            cwd=ROOT, env={**os.environ, **pod}, capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:] + operator.logs()
        assert [name.rsplit("-", 1)[0] for name in operator.jobs] == ["toy-net"]
        operator.look()
        assert api.items(path(TFJOBS, "workers")) == []
    (name,) = (each.key.rpartition("/")[2] for each in registry.store.list("toy/trained"))
    found = trained.get(registry, name.removesuffix(".json"))
    world.is_the_same(registry.get_model(found.model, tmp_path / "model"))
    assert list(registry.store.list("toy/workers")) == []
