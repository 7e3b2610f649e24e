"""A real API server for custom resources, from outside the repository.

``UPKEEP_KUBE_API`` names a folder with ``crds/*.yaml`` (KServe's and Gateway API's, as published) and a program
``kube-api`` that starts an API server with them; the default is ``../shared/kube-api``. The server, which takes a while
to start, is asked only when the variable is set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

KUBE_API = Path(os.environ.get("UPKEEP_KUBE_API", Path(__file__).parents[2] / "shared" / "kube-api"))
CACHE = Path(os.environ.get("UPKEEP_KUBE_API_CACHE", Path.home() / ".cache" / "kube-api"))


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
