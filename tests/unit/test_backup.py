"""What docs/how-to/back-up-and-restore.md says is done to a real store and a real repository, and they come back."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

import upkeep
from tests.unit.data import make
from tests.unit.registry.registry_fakes import SPEC, card, dataset
from tests.unit.report import samples
from tests.unit.rollout.world import World, quick
from tests.unit.serving.server.server_make import flights_model
from upkeep import records
from upkeep.cli.main import main
from upkeep.registry.registry import Registry
from upkeep.rollout.release import NewVersion, propose
from upkeep.serving.manifests import ServedVersion
from upkeep.store import Store, open_store

PAGE = Path(__file__).parents[2] / "docs/how-to/back-up-and-restore.md"
SPEC_FILE = """
metadata: {name: flight-delays}
data:
  source: data
  target: {column: delayed, positive: true}
  features: {numeric: [distance], categorical: [carrier]}
candidates:
  - {name: linear, strategy: retrain, estimator: sklearn.linear_model.LogisticRegression}
"""


def said(heading: str, word: str) -> str:
    """The block below the heading that holds ``word``."""
    part = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    (block,) = (each for each in re.findall(r"^```\n(.*?)^```$", part, re.M | re.S) if word in each)
    return str(block)


def run(block: str) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


def look(capsys: pytest.CaptureFixture[str]) -> str:
    """What the page's look at the whole says, in this process."""
    for line in said("See that it is whole", "versions verify").splitlines():
        program, *words = shlex.split(line)
        assert program == "upkeep"
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0, capsys.readouterr()
    return capsys.readouterr().out


def contents(folder: Path) -> dict[str, bytes]:
    """Every object of the store; Git's own files are compared by what they say."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "releases.git" not in path.parts
    }


def test_a_store_and_a_repository_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "upkeep.yaml").write_text(SPEC_FILE)
    spec = upkeep.load_spec(tmp_path / "upkeep.yaml")
    registry = Registry(open_store(spec.store), spec.name)
    flights_model(tmp_path / "model")
    data = dataset("a.csv")
    registry.put_spec(SPEC)
    registry.put_dataset(data)
    digest = registry.put_model(tmp_path / "model")
    found = samples.passing().evaluation
    assert found is not None
    result = replace(found, champion=None, chosen_model=digest)
    registry.put_update("u1", "evaluation.json", records.to_json(result))
    made = registry.register(
        card(
            digest, model=spec.name, dataset=data.digest,
            verdict=result.verdict, scores=result.scores["candidate"],
        )
    )  # fmt: skip
    new = NewVersion(
        served=ServedVersion(version=made.version, digest=digest, update="u1"),
        verdict="pass",
        evidence=records.digest(records.to_json(result)),
    )
    propose(spec, new, expected_champion=None, now=lambda: datetime(2026, 3, 1, tzinfo=UTC))
    before, told = contents(Path(spec.store)), look(capsys)
    assert "v1" in told

    run(said("Back up, where the store is a folder", "cp -a"))
    shutil.rmtree(spec.store)

    run(said("Restore", "cp -a"))
    assert contents(Path(spec.store)) == before
    assert look(capsys) == told


@pytest.mark.parametrize(("git", "store", "phase"), [(2, 2, "succeeded"), (1, 2, "rolled_back")])
def test_a_rollout_that_was_under_way_goes_on_or_goes_back(git: int, store: int, phase: str) -> None:
    """``git``, ``store``: the step that each copy is of."""
    spec = quick(replace(make.spec("data"), store="s3://upkeep"), steps=(0.05, 0.5), timeout=1.0)
    world = World(spec, rate=400)
    world.propose(1, None)
    world.wait(30)
    world.run()
    world.propose(2, "v1")
    commits, objects = {}, {}
    for step in (1, 2):
        world.run(until=lambda told, step=step: told.state is not None and told.state.step == step)  # type: ignore[misc]
        commits[step], objects[step] = list(world.git.commits), copied(world.store)
    world.git.commits[:] = commits[git]
    for entry in list(world.store.list()):
        world.store.delete(entry.key)
    for key, data in objects[store].items():
        world.store.put(key, data)
    world.applied, world.epoch, world.counts = None, "restored", {}
    world.wait(30)
    told = world.run(most=20_000)
    assert told.state is not None
    assert told.state.phase == phase
    assert [barred.version for barred in told.state.barred] == ([] if phase == "succeeded" else ["v2"])


def copied(store: Store) -> dict[str, bytes]:
    return {entry.key: store.get(entry.key) for entry in store.list()}
