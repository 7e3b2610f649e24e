"""What kustomize makes of manifests/."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2] / "manifests"

Object = dict[str, Any]


@functools.cache
def _text(folder: Path) -> str:
    program = shutil.which("kustomize") or shutil.which("kubectl")
    if program is None:
        pytest.skip("neither kustomize nor kubectl is installed")
    verb = "build" if program.endswith("kustomize") else "kustomize"
    done = subprocess.run([program, verb, str(folder)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def built(folder: Path) -> list[Object]:
    """Every object of the folder's kustomization, fresh."""
    return list(yaml.load_all(_text(folder), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def with_component(component: Path, folder: Path, bases: Iterable[str] = ("infrastructure", "apps")) -> Path:
    """A kustomization in ``folder`` that adds one component to the bases."""
    made = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(ROOT / base, folder) for base in bases],
        "components": [os.path.relpath(component, folder)],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(made))
    return folder


def kustomizations() -> list[Path]:
    """Every folder of manifests/ that holds one."""
    return sorted(each.parent for each in ROOT.glob("**/kustomization.yaml"))


def is_component(folder: Path) -> bool:
    return bool(yaml.safe_load((folder / "kustomization.yaml").read_text())["kind"] == "Component")


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """(what it is, its pod's spec)"""
    for each in objects:
        name = f"{each['kind']} {each['metadata']['name']}"
        match each["kind"]:
            case "Deployment" | "StatefulSet" | "Job":
                yield name, each["spec"]["template"]["spec"]
            case "CronJob":
                yield name, each["spec"]["jobTemplate"]["spec"]["template"]["spec"]
            case "ServingRuntime":
                yield name, each["spec"]
