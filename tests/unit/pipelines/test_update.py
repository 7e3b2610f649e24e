"""The composed pipeline: what feeds what, and the same bytes for the same spec."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from upkeep.pipelines.compile import compile_pipeline

from upkeep.spec.load import load

ROOT = Path(__file__).parents[3]
EXAMPLES = ("flights", "basics")


def compiled(example: str, tmp_path: Path) -> str:
    return compile_pipeline(load(ROOT / "examples" / example / "upkeep.yaml"), tmp_path / "update.yaml").read_text()


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_compiled_pipeline_is_the_golden_file(example: str, tmp_path: Path) -> None:
    golden = ROOT / "tests/golden" / f"{example}.yaml"
    text = compiled(example, tmp_path)
    if os.environ.get("UPKEEP_WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text(), "if the change is meant: UPKEEP_WRITE_GOLDEN=1 make test"


def test_one_train_task_a_candidate_with_its_name(tmp_path: Path) -> None:
    root = yaml.safe_load(compiled("flights", tmp_path))["root"]["dag"]["tasks"]
    names = {task["taskInfo"]["name"] for task in root.values()}
    assert names == {
        "collect", "preprocess", "drift", "train boosting", "train linear", "evaluate", "deploy",
    }  # fmt: skip


def test_digests_are_parameters_of_every_step_that_caches(tmp_path: Path) -> None:
    root = yaml.safe_load(compiled("flights", tmp_path))["root"]["dag"]["tasks"]
    for name, task in root.items():
        inputs = task["inputs"]["parameters"]
        assert "spec_digest" in inputs
        if name != "collect":
            assert inputs["dataset_digest"]["taskOutputParameter"]["producerTask"] == "collect"
        if name not in ("collect", "deploy"):  # rows held out earlier decide what the prepared rows are
            assert inputs["seen"]["taskOutputParameter"]["producerTask"] == "collect"


def test_what_finds_the_data_and_what_acts_is_never_cached(tmp_path: Path) -> None:
    root = yaml.safe_load(compiled("basics", tmp_path))["root"]["dag"]["tasks"]
    cached = {name for name, task in root.items() if task.get("cachingOptions", {}).get("enableCache")}
    assert cached == {"preprocess", "drift", "train", "evaluate"}


def test_drift_stands_beside_training_not_before_it(tmp_path: Path) -> None:
    root = yaml.safe_load(compiled("basics", tmp_path))["root"]["dag"]["tasks"]
    assert "drift" not in root["train"]["dependentTasks"]
    assert set(root["deploy"]["dependentTasks"]) >= {"drift", "evaluate"}
