"""Steps in containers: what they are given, what is left of them, what is said without an engine or an image."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import docker
import pytest
from upkeep.pipelines import containers as module
from upkeep.pipelines.containers import containers, folders
from upkeep.pipelines.run import Told

from upkeep.errors import OutsideError
from upkeep.spec.load import load, resolve
from upkeep.spec.model import FineTune, ModelSpec

ROOT = Path(__file__).parents[3]
COMMAND = ["python", "-m", "x", "--function_to_execute", "drift"]


@dataclass
class Container:
    engine: Engine
    code: int

    def start(self) -> None:
        self.engine.done.append("start")

    def logs(self, **_: Any) -> Iterator[bytes]:
        yield b"said\n"
        if self.engine.breaks:
            raise KeyboardInterrupt

    def wait(self) -> dict[str, int]:
        return {"StatusCode": self.code}

    def remove(self, *, force: bool) -> None:
        assert force
        self.engine.done.append("remove")


@dataclass
class Engine:
    """Docker's client, as far as it is used."""

    code: int = 0
    here: bool = True
    pulls: bool = False
    rootless: bool = False
    breaks: bool = False
    done: list[str] = field(default_factory=list)
    created: list[dict[str, Any]] = field(default_factory=list)

    @property
    def images(self) -> Engine:
        return self

    @property
    def containers(self) -> Engine:
        return self

    def get(self, image: str) -> None:
        if not self.here:
            raise docker.errors.ImageNotFound(image)

    def pull(self, image: str) -> None:
        self.done.append("pull")
        if not self.pulls:
            raise docker.errors.APIError("no registry")

    def info(self) -> dict[str, Any]:
        return {"SecurityOptions": ["name=rootless"] if self.rootless else None}

    def create(self, image: str, command: list[str], **wanted: Any) -> Container:
        self.created.append({"image": image, "command": command, **wanted})
        return Container(self, self.code)

    def close(self) -> None:
        self.done.append("close")


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    for name in ("work/store", "work/data"):
        (tmp_path / name).mkdir(parents=True)
    return resolve(load(ROOT / "examples/flights/upkeep.yaml"), tmp_path)


def run(engine: Engine, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, **environment: str) -> int:
    from kfp.local import docker_task_handler

    monkeypatch.setattr(module, "_client", lambda _: engine)
    told = Told([], lambda _: None)
    before = docker_task_handler.run_docker_container
    try:
        with containers(spec, environment, told):
            code: int = docker_task_handler.run_docker_container(
                client=engine, image="kfp's", command=COMMAND, volumes={"/root": {"bind": "/root", "mode": "rw"}}
            )
    finally:
        assert docker_task_handler.run_docker_container is before
        assert engine.done[-1] == "close"
    assert told.step == "drift"
    return code


@pytest.mark.parametrize("code", [0, 1, 137])
def test_the_code_is_the_containers_and_nothing_of_it_is_left(
    code: int, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Engine(code=code)
    assert run(engine, spec, monkeypatch) == code
    assert capsys.readouterr().out == "said\n"
    assert engine.done == ["start", "remove", "close"]


def test_an_interrupt_leaves_no_container(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(breaks=True)
    with pytest.raises(KeyboardInterrupt):
        run(engine, spec, monkeypatch)
    assert engine.done == ["start", "remove", "close"]


def test_a_step_has_no_more_than_it_needs(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("SOMETHING_ELSE", "private")
    engine = Engine()
    run(engine, spec, monkeypatch, TMPDIR="/root/tmp")
    (created,) = engine.created
    assert created["read_only"] is True
    assert created["cap_drop"] == ["ALL"]
    assert created["user"] != "0:0" or module.os.getuid() == 0
    environment = created["environment"]
    assert (environment["AWS_ACCESS_KEY_ID"], environment["TMPDIR"]) == ("key", "/root/tmp")
    assert not {"SOMETHING_ELSE", "PATH", "HOME"} & environment.keys()
    assert created["volumes"].keys() == {"/root", spec.store, spec.data.source}


def test_without_root_the_engines_root_is_who_runs_it(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(rootless=True)
    run(engine, spec, monkeypatch)
    assert engine.created[0]["user"] == "0:0"


def test_an_image_that_is_not_here_is_pulled_or_said(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(here=False, pulls=True)
    assert run(engine, spec, monkeypatch) == 0
    assert engine.done[0] == "pull"
    with pytest.raises(OutsideError, match=r"upkeep/sklearn.* is not here and cannot be pulled") as found:
        run(Engine(here=False), spec, monkeypatch)
    assert "make images" in found.value.problems[0].fix


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # docker's client drops its socket
def test_no_engine_is_said(spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    told = Told([], lambda _: None)
    with pytest.raises(OutsideError, match="no container engine answers"), containers(spec, {}, told):
        raise AssertionError("it went on")
    gc.collect()


def test_steps_see_the_specs_places_and_write_to_store_and_repository_alone(spec: ModelSpec, tmp_path: Path) -> None:
    base = tmp_path / "base.keras"
    base.touch()
    network = FineTune(name="network", strategy="fine_tune", base=str(base))
    spec = replace(
        spec,
        candidates=(*spec.candidates, network),
        rollout=replace(spec.rollout, repository=str(tmp_path / "repositories/new.git")),
    )
    (tmp_path / "repositories").mkdir()
    found = {path.removeprefix(f"{tmp_path}/"): each["mode"] for path, each in folders(spec).items()}
    # payloads are in the store; labels are not there yet; the repository is made in its folder
    assert found == {"work/store": "rw", "repositories": "rw", "work/data": "ro", "base.keras": "ro"}
    assert all(path == each["bind"] for path, each in folders(spec).items())


def test_places_elsewhere_are_nothing_to_lend(spec: ModelSpec) -> None:
    away = replace(
        spec,
        store="s3://upkeep",
        data=replace(spec.data, source="s3://flights/training"),
        rollout=replace(spec.rollout, repository="https://git.example.com/models.git"),
    )
    assert {path for path in folders(away) if "labels" not in path} <= {str(Path(spec.store))}
