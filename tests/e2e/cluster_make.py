"""A release repository with tiny models, and the one-machine cluster that serves it, for tests."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from upkeep import api
from upkeep.data.kinds import Column
from upkeep.models.digest import folder_digest
from upkeep.models.folder import save_sklearn
from upkeep.models.manifest import Manifest
from upkeep.rollout.git import GitRepository
from upkeep.serving.manifests import (
    ServedVersion,
    render_kustomization,
    render_route,
    render_version,
    version_file,
)
from upkeep.spec.model import ModelSpec

UPKEEP = Path(sys.executable).parent / "upkeep"
ROW = {"a": 1.0, "b": -1.0}
SECONDS = 60.0

SPEC = """\
metadata: {name: tiny}
store: store
data:
  source: data.csv
  target: {column: y, positive: true}
  features: {numeric: [a, b]}
candidates:
  - {name: logistic, strategy: retrain, estimator: sklearn.linear_model.LogisticRegression}
rollout: {timeout: 1.5s, latency: 250ms}
"""


def wait_for(what: str, happens: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """What ``happens`` returns, once it is true."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found := happens():
                return found
        except (httpx.HTTPError, api.UpkeepError):
            pass
        if time.monotonic() > end:
            raise AssertionError(f"this did not happen within {seconds:g} s: {what}")
        time.sleep(0.05)


def tiny_model(store: Path, seed: int) -> str:
    """A model in the store; its digest. Each seed gives other bytes."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"a": rng.normal(size=200), "b": rng.normal(size=200)})
    pipeline = make_pipeline(LogisticRegression()).fit(rows, rows["a"] + 0.1 * rng.normal(size=200) > 0)
    columns = (Column(name="a", kind="numeric"), Column(name="b", kind="numeric"))
    models = store / "tiny" / "models"
    folder = models / "new"
    manifest = Manifest(format="sklearn", columns=columns, classes=(False, True), positive=True, libraries={})
    save_sklearn(folder, pipeline, manifest)
    digest = folder_digest(folder)
    folder.rename(models / digest)
    return digest


@dataclass
class Cluster:
    """A model ``tiny``, its releases, and the cluster that serves them."""

    root: Path
    environ: dict[str, str]
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def spec_file(self) -> Path:
        return self.root / "upkeep.yaml"

    @property
    def spec(self) -> ModelSpec:
        return api.load_spec(self.spec_file)

    @property
    def folder(self) -> Path:
        return self.root / "store" / "cluster"

    # --- Git -------------------------------------------------------------------------------------------------------

    def apply(self, weights: Mapping[str, int], **more: bytes | None) -> str:
        """Commit a route with these weights, and the services of its versions alone; the commit."""
        spec = self.spec
        files: dict[str, bytes | None] = {
            "kustomization.yaml": render_kustomization(weights),
            "route.yaml": render_route(spec, weights),
        }
        for version in weights:
            served = ServedVersion(version=version, digest=self.digest(version), update="u")
            files[version_file(version)] = render_version(spec, served)
        return self.commit({**files, **{f"{name}.yaml": content for name, content in more.items()}})

    def commit(self, files: Mapping[str, bytes | None]) -> str:
        with GitRepository(self.spec.rollout.repository, environ=self.environ) as repository:
            base = repository.head("main")
            changes = {f"models/tiny/{name}": content for name, content in files.items()}
            return repository.commit_and_push("main", base, changes, "apply\n", datetime.now(UTC))

    def digest(self, version: str) -> str:
        """The digest of a version's model; it is made when it is not there."""
        known = self.root / f"{version}.digest"
        if not known.exists():
            known.write_text(tiny_model(self.root / "store", int(version[1:])))
        return known.read_text()

    def broken(self, version: str) -> Path:
        """While this file is there, the version's (fake) server does not start."""
        return self.root / "store" / "tiny" / "models" / self.digest(version) / "broken"

    # --- processes -------------------------------------------------------------------------------------------------

    def up(self, *, fake: bool = False) -> subprocess.Popen[bytes]:
        """``upkeep up``, as a user runs it; ``fake``: with model servers that start in a moment."""
        command: list[Path | str] = [UPKEEP, "up", "--spec", str(self.spec_file)]
        if fake:
            command = [sys.executable, "-m", "tests.e2e.fake_up", str(self.spec_file)]
        with (self.root / "up.log").open("ab") as log:
            daemon = subprocess.Popen(command, env=self.environ, stdout=log, stderr=log, cwd=Path(__file__).parents[2])
        self.daemons.append(daemon)
        return daemon

    def down(self) -> None:
        command = [UPKEEP, "down", "--folder", str(self.folder)]
        subprocess.run(command, env=self.environ, stdout=subprocess.DEVNULL, check=False, timeout=60)
        for daemon in self.daemons:
            daemon.wait(30)

    def status(self) -> dict[str, Any]:
        return api.cluster_status(self.spec_file, folder=self.folder)

    @property
    def model(self) -> dict[str, Any]:
        found: dict[str, Any] = self.status()["models"]["tiny"]
        return found

    def service(self, version: str) -> dict[str, Any]:
        return next(s for s in self.model["services"] if s["metadata"]["name"] == f"tiny-{version}")

    def serves(self, commit: str, weights: Mapping[str, int]) -> dict[str, Any] | None:
        """The model's status, if the commit is applied and all that it names is ready."""
        model = self.model
        ready = {
            service["metadata"]["annotations"]["upkeep.dev/version"]
            for service in model["services"]
            if service["status"]["conditions"][-1]["status"] == "True"
        }
        same = model["commit"] == commit and model["weights"] == dict(weights) and not model["problems"]
        return model if same and {*weights} <= ready else None

    # --- clients ---------------------------------------------------------------------------------------------------

    def ask(self, version: str = "", wish: str = "") -> httpx.Response:
        headers = {"host": "tiny.models.example"} | ({"x-upkeep-version": version} if version else {})
        return httpx.post(
            f"{self.status()['gateway']}/v1/models/tiny:predict",
            json={"instances": [ROW | ({"wish": wish} if wish else {})]},
            headers=headers,
            timeout=10,
            trust_env=False,
            verify=False,  # to read certificates takes 20 ms, and there are none here
        )

    def load(self, meanwhile: Callable[[], None], per_second: int = 200, after: float = 0.5) -> list[str]:
        """Requests at a steady rate while ``meanwhile`` runs, and ``after`` seconds more: how each one ended."""
        gateway = self.status()["gateway"]

        async def run() -> list[str]:
            answers: list[str] = []

            async def one(client: httpx.AsyncClient) -> None:
                try:
                    answer = await client.post(f"{gateway}/v1/models/tiny:predict", json={"instances": [ROW]})
                    answers.append(str(answer.status_code))
                except httpx.HTTPError as error:
                    answers.append(type(error).__name__)

            limits = httpx.Limits(max_connections=50, max_keepalive_connections=50)
            headers = {"host": "tiny.models.example"}
            async with httpx.AsyncClient(trust_env=False, timeout=10, limits=limits, headers=headers) as client:
                working = asyncio.create_task(asyncio.to_thread(meanwhile))
                loop = asyncio.get_running_loop()
                end, requests = None, []
                while end is None or loop.time() < end:
                    if working.done() and end is None:
                        end = loop.time() + after
                    if len(requests) - len(answers) < 200:
                        requests.append(asyncio.create_task(one(client)))
                    await asyncio.sleep(1 / per_second)
                await asyncio.gather(*requests)
                await working
            return answers

        return asyncio.run(run())


def cluster(root: Path) -> Cluster:
    (root / "upkeep.yaml").write_text(SPEC)
    (root / "data.csv").write_text("a,b,y\n")
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "PYTHONUNBUFFERED": "1"}
    environ.pop("UPKEEP_CLUSTER", None)
    made = Cluster(root, environ)
    from upkeep.rollout.git import create_bare

    create_bare(Path(made.spec.rollout.repository), "main", environ)
    return made
