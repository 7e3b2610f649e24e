"""A real API server for custom resources, from outside the repository.

``UPKEEP_KUBE_API`` names a folder with ``crds/*.yaml`` (KServe's and Gateway API's, as published) and a program
``kube-api`` that starts an API server with them; the default is ``../shared/kube-api``. The server, which takes a while
to start, is asked only when the variable is set.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

KUBE_API = Path(os.environ.get("UPKEEP_KUBE_API", Path(__file__).parents[2] / "shared" / "kube-api"))
CACHE = Path(os.environ.get("UPKEEP_KUBE_API_CACHE", Path.home() / ".cache" / "kube-api"))
TRAINING_OPERATOR = "github.com/kubeflow/training-operator@v1.8.1"
CRDS = {
    "InferenceService": "inferenceservices",
    "HTTPRoute": "httproutes",
    "ServingRuntime": "servingruntimes",
    "Gateway": "gateways",
}


@contextmanager
def running_api_server(folder: Path) -> Iterator[Path]:
    """The kubeconfig of one that runs meanwhile. Skips, and says why, where there is none to start."""
    program = KUBE_API / "kube-api"
    if "UPKEEP_KUBE_API" not in os.environ or not program.exists():
        pytest.skip("no API server to start: set UPKEEP_KUBE_API to the folder of the program `kube-api`")
    if shutil.which("etcd") is None or not (CACHE / "apiextensions-apiserver").exists():
        pytest.skip(f"the API server is not built yet: run `{program} start FOLDER` once")
    # The server keeps the pipes of whoever starts it: files, so that nobody waits for their end.
    with (folder / "out").open("wb") as out:
        subprocess.run(["bash", str(program), "start", str(folder)], stdout=out, stderr=out, check=True, timeout=120)
    try:
        yield folder / "kubeconfig"
    finally:
        subprocess.run(["bash", str(program), "stop", str(folder)], check=True, timeout=60)


@functools.cache
def validator(kind: str, api_version: str) -> Any:
    """A strict validator of the published CRD. The schema itself is not checked: it is large, and not ours."""
    jsonschema = pytest.importorskip("jsonschema")
    crd = tfjobs() if kind == "TFJob" else _in_folder(kind)
    group, version = api_version.split("/")
    assert crd["spec"]["group"] == group
    served = {each["name"]: each for each in crd["spec"]["versions"] if each["served"]}
    return jsonschema.Draft7Validator(strict(served[version]["schema"]["openAPIV3Schema"]))


def _in_folder(kind: str) -> Any:
    files = sorted((KUBE_API / "crds").glob(f"*-{CRDS[kind]}.yaml"))
    if not files:
        pytest.skip(f"no CustomResourceDefinition of {kind} in {KUBE_API}: set UPKEEP_KUBE_API")
    return _read(files[-1])


@functools.cache
def tfjobs() -> Any:
    """The CustomResourceDefinition of TFJob, from the Training Operator's Go module. Skips where that cannot be had."""
    go = shutil.which("go")
    if go is None:
        pytest.skip(f"no CustomResourceDefinition of TFJob: go, which fetches {TRAINING_OPERATOR}, is not installed")
    command = [go, "mod", "download", "-json", TRAINING_OPERATOR]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        pytest.skip(f"no CustomResourceDefinition of TFJob: {TRAINING_OPERATOR} cannot be fetched")
    return _read(Path(json.loads(done.stdout)["Dir"]) / "manifests/base/crds/kubeflow.org_tfjobs.yaml")


def _read(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def strict(schema: Any) -> Any:
    """An openAPIV3Schema as JSON Schema that knows no other fields than those it names."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: {name: strict(each) for name, each in value.items()} if key == "properties" else strict(value)
        for key, value in schema.items()
        if not key.startswith("x-") and key not in ("default", "example", "description", "format")
    }
    closed = "properties" in schema and "additionalProperties" not in schema
    if closed and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    return made
