"""The same training on one device, on two of one machine, and on two workers of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.kube_api import free_ports
from tests.tensorflow import keras_make as make
from tests.tensorflow.train_on_devices import weights_on
from upkeep.errors import ModelError, OutsideError
from upkeep.training.keras import distribute
from upkeep.training.keras.distribute import is_chief

TOLERANCE = 1e-5
"""Of a weight after some dozen steps: floats are added in another order."""


def start(root: Path, devices: str, out: Path, epochs: int, **environ: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.tensorflow.train_on_devices", str(root), devices, str(out), str(epochs)]
    return subprocess.Popen(
        command, env={**os.environ, **environ}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def workers(root: Path, out: Path, epochs: int) -> list[subprocess.Popen[str]]:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    told = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}} for index in (0, 1)]
    return [
        start(root, "workers", out / f"worker-{index}.npz", epochs, TF_CONFIG=json.dumps(each))
        for index, each in enumerate(told)
    ]


def ended(child: subprocess.Popen[str], seconds: float = 150) -> tuple[int, str]:
    try:
        _, said = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        raise
    return child.returncode, said


def weights(path: Path) -> list[Any]:
    with np.load(path) as saved:
        return [saved[name] for name in saved.files]


def test_it_ends_with_the_same_weights_on_one_device_on_two_and_on_two_workers(tmp_path: Path) -> None:
    one = weights_on(tmp_path, "one", tmp_path / "one.npz", 2)  # makes the data, too
    children = [start(tmp_path, "all", tmp_path / "all.npz", 2), *workers(tmp_path, tmp_path, 2)]
    for child in children:
        code, said = ended(child)
        assert code == 0, said
    first, second = weights(tmp_path / "worker-0.npz"), weights(tmp_path / "worker-1.npz")
    for mine, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    moved = 0.0
    for start_to_end, mirrored, theirs in zip(one, weights(tmp_path / "all.npz"), first, strict=True):
        np.testing.assert_allclose(mirrored, start_to_end, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(theirs, start_to_end, rtol=0, atol=TOLERANCE)
        moved = max(moved, float(np.abs(start_to_end).max()))
    assert moved > 0.1
    assert {path.name for path in tmp_path.glob("*.checkpoint")} == {
        "one.checkpoint", "all.checkpoint", "worker-0.checkpoint",
    }  # fmt: skip


def test_a_worker_that_dies_is_told_by_the_other_and_a_retry_may_help(tmp_path: Path) -> None:
    make.task(tmp_path, make.tuned())
    first, second = workers(tmp_path, tmp_path, 100_000)
    ends = time.monotonic() + 120
    try:
        while not (tmp_path / "worker-0.checkpoint").exists() and time.monotonic() < ends and first.poll() is None:
            time.sleep(0.1)
        second.send_signal(signal.SIGKILL)
        code, said = ended(first, 90)
    finally:
        for child in (first, second):
            child.kill()
    second.communicate()
    assert code == 1
    assert "OutsideError, retry True: another worker of this training does not answer" in said
    assert "last checkpoint" in said


def test_a_worker_that_never_comes_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribute, "WAIT", 0.3)
    mine, gone = free_ports(2)
    cluster = {"worker": [f"127.0.0.1:{mine}", f"127.0.0.1:{gone}"]}
    with pytest.raises(OutsideError, match=f"nothing listens at 127.0.0.1:{gone}"):
        distribute._meet({"cluster": cluster, "task": {"type": "worker", "index": 0}})


def test_the_first_worker_is_the_chief_unless_one_is_named() -> None:
    def told(kind: str, index: int, **cluster: list[str]) -> dict[str, str]:
        return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}

    pair = {"worker": ["a:1", "b:1"]}
    assert [is_chief("workers", told("worker", index, **pair)) for index in (0, 1)] == [True, False]
    named = {"chief": ["c:1"], **pair}
    assert not is_chief("workers", told("worker", 0, **named))
    assert is_chief("workers", told("chief", 0, **named))
    assert is_chief("one", told("worker", 1, **pair))


@pytest.mark.parametrize("told", ["", "{}", '{"task": {"type": "worker"}}'])
def test_a_worker_that_is_not_told_which_one_it_is_says_so(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", told)
    with pytest.raises(ModelError, match="TF_CONFIG"), distribute.on_devices("workers"):
        pass
