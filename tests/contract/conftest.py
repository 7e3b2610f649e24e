"""Real stores to hold to the contract: a folder, moto's S3 server (always), versitygw (where there is one).

versitygw is taken from PATH, or from UPKEEP_TEST_S3, which may also be the http:// address of any S3 server whose
credentials stand in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
"""

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from upkeep.registry.server import ensure_bucket
from upkeep.spec.model import ObjectStore
from upkeep.store import Store, open_store

KEY, SECRET = "testing", "testing-secret"


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The address of an S3 server in this process. One request at a time: that makes its conditional writes atomic."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None: ...

    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of another S3 server, in Go, that keeps its objects on disk."""
    given = os.environ.get("UPKEEP_TEST_S3", "")
    if given.startswith("http"):
        yield given
        return
    program = given or shutil.which("versitygw")
    if not program:
        pytest.skip("no versitygw on PATH and UPKEEP_TEST_S3 is not set: S3 was tested against moto only")
    root = tmp_path_factory.mktemp("versitygw")
    (root / "objects").mkdir()
    (root / "versions").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "--access", KEY, "--secret", SECRET, "--port", f"127.0.0.1:{port}", "--quiet"]
    command += ["posix", "--versioning-dir", str(root / "versions"), str(root / "objects")]
    with (root / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait(port, process, root / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            pytest.fail(f"versitygw ended: {log.read_text()[-500:]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("versitygw did not start within 30 seconds")


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.environ.get("UPKEEP_TEST_S3", "").startswith("http"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["moto", "versitygw"])
def endpoint(request: pytest.FixtureRequest, credentials: None) -> str:
    """The address of each S3 server."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture(params=["folder", "moto", "versitygw"])
def place(request: pytest.FixtureRequest, tmp_path: Path, credentials: None) -> tuple[str, ObjectStore]:
    """The uri of an empty store of each kind, and where it is."""
    if request.param == "folder":
        return str(tmp_path / "store"), ObjectStore()
    settings = ObjectStore(endpoint=str(request.getfixturevalue(request.param)))
    ensure_bucket("s3://contract", settings)
    return f"s3://contract/{uuid4().hex}", settings


@pytest.fixture
def store(place: tuple[str, ObjectStore]) -> Store:
    """An empty store of each kind."""
    return open_store(*place)
