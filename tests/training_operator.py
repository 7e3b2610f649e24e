"""Kubeflow's Training Operator as far as the project needs it: makes of each TFJob processes on this machine.

It keeps to v1.8: ``TF_CONFIG`` in the container called ``tensorflow``, a pod that ends badly starts again up to the
job's ``backoffLimit``, worker 0's good end is the job's, and then the others are ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kube_api import free_ports
from upkeep.errors import ConflictError
from upkeep.serving.kubernetes.api import Api, MissingError
from upkeep.serving.kubernetes.paths import TFJOBS, path

ROOT = Path(__file__).parents[1]


@dataclass
class Workers:
    """The processes of one job."""

    job: Mapping[str, Any]
    folder: Path
    secrets: Mapping[tuple[str, str], str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    restarts: int = 0

    def __post_init__(self) -> None:
        worker = self.job["spec"]["tfReplicaSpecs"]["Worker"]
        (self.container,) = worker["template"]["spec"]["containers"]
        assert self.container["name"] == "tensorflow"
        self.limit = self.job["spec"]["runPolicy"]["backoffLimit"]
        self.addresses = [f"127.0.0.1:{port}" for port in free_ports(worker["replicas"])]
        self.processes = [self._start(index) for index in range(len(self.addresses))]

    def _start(self, index: int) -> subprocess.Popen[bytes]:
        told = {"cluster": {"worker": self.addresses}, "task": {"type": "worker", "index": index}}
        named = {
            each["name"]: each.get("value")
            or self.secrets[each["valueFrom"]["secretKeyRef"]["name"], each["valueFrom"]["secretKeyRef"]["key"]]
            for each in self.container["env"]
        }
        command = [*self.container["command"], *self.container["args"]]
        assert command[0] == "python"
        with (self.folder / f"{self.job['metadata']['name']}-worker-{index}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *command[1:]],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], "TF_CONFIG": json.dumps(told), **named, "HOME": str(self.folder)},
                stdout=log,
                stderr=log,
            )

    def look(self) -> dict[str, Any]:
        """Start again what ended badly; the job's status."""
        codes = [process.poll() for process in self.processes]
        if codes[0] == 0:
            return self._status(codes, "Succeeded")
        for index, code in enumerate(codes):
            if code:
                self.restarts += 1
                if self.restarts >= self.limit:
                    return self._status(codes, "Failed")
                self.processes[index] = self._start(index)
        return self._status(codes, "Running")

    def _status(self, codes: list[int | None], kind: str) -> dict[str, Any]:
        if kind != "Running":
            self.end()
        counts = {"active": codes.count(None), "succeeded": codes.count(0)}
        said = {"type": kind, "status": "True", "message": f"TFJob is {kind.lower()}."}
        return {"conditions": [said], "replicaStatuses": {"Worker": counts}}

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()


@dataclass
class Operator:
    """Looks every ``EVERY`` seconds, as long as :func:`operating` lasts."""

    api: Api
    namespace: str
    folder: Path
    """Where the workers' logs are."""
    secrets: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(Secret, key) → what is in it."""
    status: str = ""
    """Where a job's status is written, below its path: ``/status`` on a real API server."""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Every job that was seen, by name."""
    running: dict[str, Workers] = field(default_factory=dict)
    trouble: BaseException | None = None

    def look(self) -> None:
        there = {job["metadata"]["uid"]: job for job in self.api.items(path(TFJOBS, self.namespace))}
        for uid in self.running.keys() - there.keys():
            self.running.pop(uid).end()
        for uid, job in there.items():
            self.jobs[job["metadata"]["name"]] = job
            if "deletionTimestamp" in job["metadata"]:  # the cluster's garbage collector, too
                if uid in self.running:
                    self.running.pop(uid).end()
                self._write(job, "", {"metadata": {"finalizers": []}})
            elif uid not in self.running:
                self.running[uid] = Workers(job, self.folder, self.secrets)
            elif not any(each["type"] in ("Succeeded", "Failed") for each in _conditions(job)):
                self._write(job, self.status, {"status": self.running[uid].look()})

    def _write(self, job: Mapping[str, Any], below: str, change: dict[str, Any]) -> None:
        with suppress(MissingError, ConflictError):
            self.api.patch(path(TFJOBS, self.namespace, job["metadata"]["name"]) + below, change)

    def logs(self) -> str:
        return "\n".join(f"--- {each.name}\n{each.read_text()}" for each in sorted(self.folder.glob("*.log")))


def _conditions(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list((job.get("status") or {}).get("conditions") or [])


@contextmanager
def operating(operator: Operator, every: float = 0.1) -> Iterator[Operator]:
    stop = threading.Event()

    def run() -> None:
        try:
            while not stop.is_set():
                operator.look()
                time.sleep(every)
        except BaseException as error:
            operator.trouble = error

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield operator
    finally:
        stop.set()
        thread.join()
        for workers in operator.running.values():
            workers.end()
    if operator.trouble is not None:
        raise operator.trouble
