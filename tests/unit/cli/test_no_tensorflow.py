"""TensorFlow is an extra that takes seconds to import: nothing loads it that needs no network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.data import make

HEAVY = ("tensorflow", "keras", "keras_hub", "h5py")
BLOCK = (
    "import sys\n"
    "class Refuse:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    f"        if name.partition('.')[0] in {HEAVY!r}:\n"
    "            raise AssertionError(f'{name} is imported')\n"
    "sys.meta_path.insert(0, Refuse())\n"
)
"""Whoever imports one of them, by whatever way, fails, whether it is installed or not."""
LOOK = f"\nprint([name for name in {HEAVY!r} if name in sys.modules])"


def said(code: str, *words: str | Path) -> str:
    done = subprocess.run([sys.executable, "-c", BLOCK + code + LOOK, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


HELP = (
    "import contextlib, io\nfrom upkeep.cli import main\n"
    "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
    "    main(sys.argv[1:]) if sys.argv[1:] else main(['--help'])\n"
)
TRAIN = (
    "import pathlib\nfrom tests.unit.data import make\nfrom upkeep.training.task import TrainingTask\n"
    "from upkeep.training.train import train\nfrom upkeep.models.folder import load\n"
    "import upkeep.update.train, upkeep.update.evaluate, upkeep.update.deploy\n"
    "root = pathlib.Path(sys.argv[1])\nspec = make.spec(root / 'data')\n"
    "task = TrainingTask(candidate=spec.candidates[0], spec=spec, prepared=make.Prepared(root / 'prepared'), seed=1)\n"
    "train(task, root / 'model', root / 'state')\n"
    "load(root / 'model', allowed=()).predict_proba(task.prepared.table(parts=('held_out',)))\n"
)


def test_what_refuses_refuses() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCK + "import tensorflow"], capture_output=True, text=True)
    assert "AssertionError: tensorflow is imported" in done.stderr


@pytest.mark.parametrize("words", [[], ["run", "--help"], ["spec", "schema"]])
def test_the_command_line_imports_none(words: list[str]) -> None:
    assert said(HELP, *words) == "[]"


def test_a_training_of_scikit_learn_and_what_comes_after_it_import_none(tmp_path: Path) -> None:
    source = tmp_path / "data"
    make.months(source, rows=60)
    make.prepared(tmp_path, make.spec(source), out=tmp_path / "prepared")
    assert said(TRAIN, tmp_path) == "[]"
