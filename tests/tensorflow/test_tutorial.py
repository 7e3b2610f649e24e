"""docs/tutorial/networks.md goes as it says, in small, up to the first champion; `make demo-tensorflow` goes on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import upkeep

ROOT = Path(__file__).parents[2]
SMALLER = {
    "make_data.py": ('"--rows", type=int, default=3000', '"--rows", type=int, default=300'),
    "pretrain.py": ('"--rows", type=int, default=20_000', '"--rows", type=int, default=1_200'),
    "upkeep.yaml": ("epochs: 4", "epochs: 1"),
}


@pytest.mark.slow
def test_the_tutorial_of_networks_begins_as_it_says(tmp_path: Path) -> None:
    example = tmp_path / "reviews"
    shutil.copytree(ROOT / "examples/reviews", example, ignore=shutil.ignore_patterns("work", "__pycache__"))
    for name, (whole, small) in SMALLER.items():
        text = (example / name).read_text()
        assert text.count(whole) == 1, name
        (example / name).write_text(text.replace(whole, small))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = os.environ | {"PATH": path, "COLUMNS": "80", "PYTHONPATH": str(example)}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    begin, _, _ = (ROOT / "docs/tutorial/networks.md").read_text().partition("## Other words")
    said = ""
    for block in re.findall(r"^```sh\n(.*?)^```$", begin, re.M | re.S):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], cwd=example, env=environ, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        said += done.stdout
    assert re.findall(r"^[✓✗?] (pass|fail|insufficient)", said, re.M) == ["pass"], said
    assert [card.version for card in upkeep.versions(example / "work/upkeep.yaml").cards] == ["v1"]
