"""What holds for all tests, and what tests of several folders share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.kube_api import shared_api_server
from upkeep.serving.kubernetes.api import Api

# no test asserts a time: a busy machine is no fault
hypothesis.settings.register_profile("upkeep", deadline=None)
hypothesis.settings.load_profile("upkeep")

# what a script runs in the background ignores interrupts, and tests send some
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a real API server for custom resources, one for all workers."""
    mine = tmp_path_factory.getbasetemp()
    folder = (mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine) / "kube-api"
    folder.mkdir(exist_ok=True)
    with shared_api_server(folder) as found:
        yield found


@pytest.fixture(scope="session")
def api(kubeconfig: Path) -> Iterator[Api]:
    """A client of that server."""
    from kubernetes import client, config

    configuration: Any = client.Configuration()
    config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    used = client.ApiClient(configuration)
    try:
        yield Api(used)
    finally:
        used.close()
