"""``upkeep submit`` whole: over HTTP to a KFP of our own, whose pods are processes that see S3 and Git."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from upkeep.pipelines import submit

import upkeep
from tests.contract.conftest import KEY, SECRET, moto  # noqa: F401 - a fixture
from tests.contract.test_git import SECRET as TOKEN
from tests.contract.test_git import Remote, guarded, home  # noqa: F401
from tests.e2e.test_update import month
from tests.kfp_server import KfpServer
from upkeep import api
from upkeep.errors import DataError
from upkeep.registry.server import ensure_bucket
from upkeep.spec.check import STEPS
from upkeep.spec.model import ObjectStore
from upkeep.store import open_store

ROOT = Path(__file__).parents[2]
SPEC = """\
metadata: {{name: churn}}
store: s3://kubeflow/upkeep
object_store: {{endpoint: "{s3}", region: us-east-1}}
data:
  source: s3://kubeflow/data
  period: month
  id: id
  target: {{column: left, positive: true}}
  features: {{numeric: [age, spend], categorical: [plan]}}
drift: {{classifier_rows: 0}}
candidates: [{{name: logistic, strategy: retrain, estimator: sklearn.linear_model.LogisticRegression}}]
gate: {{resamples: 200}}
rollout: {{repository: "{git}"}}
kubeflow:
  endpoint: "{kfp}"
  secrets:
    - {{name: s3, env: {{AWS_ACCESS_KEY_ID: key, AWS_SECRET_ACCESS_KEY: secret}}}}
    - {{name: git, env: {{UPKEEP_GIT_TOKEN: token}}}}
"""
SECRETS = {("s3", "key"): KEY, ("s3", "secret"): SECRET, ("git", "token"): TOKEN}


class Cluster:
    """Runs each run of the server's as KFP does, one process a pod, in the environment that its platform spec says."""

    def __init__(self, server: KfpServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.ran: dict[str, list[str]] = {}
        self.threads: list[threading.Thread] = []
        server.on_run = self.start

    def start(self, run: Any) -> None:
        self.threads.append(threading.Thread(target=self._run, args=(run,)))
        self.threads[-1].start()

    def _run(self, run: Any) -> None:
        spec = self.server.versions[run.pipeline_version_reference.pipeline_version_id].pipeline_spec
        package = self.folder / f"{run.run_id}.yaml"
        package.write_text(yaml.safe_dump_all([spec["pipeline_spec"], spec["platform_spec"]]))
        wanted = spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]
        secrets = {
            pair["envVar"]: SECRETS[each["secretName"], pair["secretKey"]]
            for each in wanted["secretAsEnv"]
            for pair in each["keyToEnv"]
        }
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "GIT_CONFIG_GLOBAL") if name in os.environ}
        words = [str(package), yaml.safe_dump(run.runtime_config.parameters), str(self.folder), run.run_id]
        done = subprocess.run(
            [sys.executable, "-m", "tests.e2e.kfp_pods", *words],
            cwd=ROOT, env=inherited | secrets, capture_output=True, text=True, check=False,
        )  # fmt: skip
        (self.folder / f"{run.run_id}.log").write_text(done.stdout + done.stderr)
        ran = self.ran[run.run_id] = [line for line in done.stderr.splitlines() if line in STEPS]
        ended = dict.fromkeys(ran, "SUCCEEDED")
        if done.returncode:
            ended[ran[-1]] = "FAILED"
        else:
            ended = dict.fromkeys(STEPS, "SKIPPED") | ended
        self.server.set_state(run.run_id, "FAILED" if done.returncode else "SUCCEEDED", ended)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    server = KfpServer()
    with server.serving():
        made = Cluster(server, tmp_path)
        yield made
        for thread in made.threads:
            thread.join()
    assert server.surprises == []


def put_month(folder: Path, s3: str, seed: int) -> None:
    path = month(folder, "2026-01", slope=1.0, seed=seed, rows=1500)
    open_store("s3://kubeflow/data", ObjectStore(endpoint=s3)).put("period=2026-01/rows.parquet", path)


@pytest.mark.slow
def test_an_unchanged_update_costs_two_pods_and_new_bytes_are_seen(
    cluster: Cluster,
    moto: str,  # noqa: F811
    guarded: Remote,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("UPKEEP_GIT_TOKEN", TOKEN)
    monkeypatch.delenv("UPKEEP_KUBE_CONTEXT", raising=False)
    monkeypatch.setattr(submit, "EVERY", 0.2)
    ensure_bucket("s3://kubeflow", ObjectStore(endpoint=moto))
    put_month(tmp_path, moto, seed=1)
    path = tmp_path / "upkeep.yaml"
    path.write_text(SPEC.format(s3=moto, git=guarded.url, kfp=cluster.server.url))

    def run() -> tuple[list[str], str, str | None]:
        record = upkeep.submit(path)
        assert api.registry(path).holder() is None, "the last step gives the lock back"
        return sorted(cluster.ran[record.update]), record.outcome, record.champion

    assert run() == (sorted(STEPS), "first", None)
    assert upkeep.versions(path).champion == "v1"
    assert run() == (sorted(STEPS), "not_registered", "v1")  # there is a champion now
    assert run() == (["collect", "deploy"], "not_registered", "v1")
    put_month(tmp_path, moto, seed=2)  # other rows under the old name
    with pytest.raises(DataError, match=r"rows\.parquet"):
        upkeep.submit(path)
    assert [len(each) for each in (cluster.server.versions, cluster.server.runs)] == [1, 4]
    assert api.registry(path).holder() is None, "who follows a run that failed frees its lock"
