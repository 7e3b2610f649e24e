"""The laptop's S3 server, started as its Deployment says: it answers its probe, and Upkeep's store works on it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.manifests.build import ROOT, built
from upkeep.registry.server import ensure_bucket
from upkeep.spec.load import parse
from upkeep.spec.model import ObjectStore
from upkeep.store import open_store

OVERLAY = ROOT / "overlays/kind"
SECRET = {"AWS_ACCESS_KEY_ID": "laptop", "AWS_SECRET_ACCESS_KEY": "laptop-secret"}


def test_it_does_what_the_store_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = os.environ.get("UPKEEP_TEST_S3", "") or shutil.which("versitygw")
    if not program or program.startswith("http"):
        pytest.skip("no versitygw on PATH, and UPKEEP_TEST_S3 names none")
    (deployment,) = (
        each for each in built(OVERLAY) if (each["kind"], each["metadata"]["name"]) == ("Deployment", "object-store")
    )
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    here = {f":{port['containerPort']}": f"127.0.0.1:{free}", "/data": str(tmp_path / "data")}
    arguments = [here.pop(each, each) for each in container["args"]]
    assert not here, "the port and the volume are among the arguments"
    assert "/data" in [each["mountPath"] for each in container["volumeMounts"]]
    (tmp_path / "data").mkdir()
    environ = {each["name"]: SECRET[each["valueFrom"]["secretKeyRef"]["key"]] for each in container["env"]}
    path = container["readinessProbe"]["httpGet"]["path"]
    for name, value in SECRET.items():
        monkeypatch.setenv(name, value)
    with subprocess.Popen([program, *arguments], env=os.environ | environ, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(f"http://127.0.0.1:{free}{path}", process)
            server = ObjectStore(endpoint=f"http://127.0.0.1:{free}")
            ensure_bucket("s3://upkeep", server)
            store = open_store("s3://upkeep", server)
            assert store.create("m/versions/v1.json", b"one")
            assert not store.create("m/versions/v1.json", b"two")
            assert store.get("m/versions/v1.json") == b"one"
            assert [entry.key for entry in store.list("m/")] == ["m/versions/v1.json"]
        finally:
            process.terminate()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert process.poll() is None, "it ended"
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"{url} did not answer 200 within half a minute")


def test_the_overlays_spec_names_it() -> None:
    spec = parse((OVERLAY / "upkeep.yaml").read_bytes(), "upkeep.yaml").spec
    assert spec is not None
    (service,) = (each for each in built(OVERLAY) if each["kind"] == "Service")
    name, place = service["metadata"]["name"], service["metadata"]["namespace"]
    (port,) = service["spec"]["ports"]
    assert spec.object_store.endpoint == f"http://{name}.{place}.svc:{port['port']}"
