"""The controller as a pod has it: its probes answer, and SIGTERM ends it in good order."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from upkeep.registry.lock import holder_of
from upkeep.store import open_store

SPEC = """
apiVersion: upkeep.dev/v1alpha1
kind: Model
metadata: {name: flight-delays}
store: store
data:
  source: data
  target: {column: delayed}
  features: {numeric: [distance]}
candidates:
  - {name: tree, strategy: retrain, estimator: sklearn.tree.DecisionTreeClassifier}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answer(url: str, process: subprocess.Popen[str]) -> httpx.Response:
    for _ in range(1200):
        assert process.poll() is None, process.communicate()
        try:
            found = httpx.get(url)
            if found.status_code == 200:
                return found
        except httpx.TransportError:
            pass
        threading.Event().wait(0.05)
    raise AssertionError(f"{url} does not answer")


@pytest.mark.parametrize("signalled", [signal.SIGTERM])
def test_it_is_ready_and_ends_at_sigterm_with_its_lock_given_back(tmp_path: Path, signalled: int) -> None:
    (tmp_path / "upkeep.yaml").write_text(SPEC)
    port = free_port()
    command = [sys.executable, "-c", "from upkeep.cli import main; main()", "rollout", "watch", "--log", "json"]
    command += ["--metrics-address", "127.0.0.1", "--metrics-port", str(port)]
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONWARNINGS": "error"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            ready = answer(f"http://127.0.0.1:{port}/readyz", process)
            assert ready.text == "flight-delays: nothing is released yet\n"
            assert answer(f"http://127.0.0.1:{port}/healthz", process).text == "ok\n"
            assert "upkeep_rollout_looks_total" in answer(f"http://127.0.0.1:{port}/metrics", process).text
            store = open_store(str(tmp_path / "store"))
            _, held = holder_of(store, "flight-delays/lock/rollout")
            assert held is not None
            process.send_signal(signalled)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 128 + signalled
    looks = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert looks[0]["message"] == "nothing is released yet"
    assert "Traceback" not in said
    _, held = holder_of(store, "flight-delays/lock/rollout")
    assert held is None
