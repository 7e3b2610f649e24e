"""The real server process, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

SECONDS = 120


@dataclass
class Running:
    process: subprocess.Popen[str]
    url: str
    grpc: str


def start(
    *arguments: str, digest: str = "", version: str = "v12", environ: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("UPKEEP_")}
    own |= {"UPKEEP_VERSION": version, "UPKEEP_DIGEST": digest, **(environ or {})}
    command = [sys.executable, "-m", "upkeep.serving.server", "--model_name=flight-delays", "--http-port", "0"]
    return subprocess.Popen([*command, *arguments], env=own, stderr=subprocess.PIPE, text=True)


@contextmanager
def running(*arguments: str, digest: str = "", environ: Mapping[str, str] | None = None) -> Iterator[Running]:
    process = start("--grpc-port", "0", *arguments, digest=digest, environ=environ)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert "listening on" in line, line + process.stderr.read()
        url, _, rest = line.split("listening on ")[1].strip().partition(" and gRPC on ")
        end = time.monotonic() + SECONDS
        while httpx.get(f"{url}/v2/health/ready", verify=False).status_code != 200:  # certificates take 20 ms
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        yield Running(process, url, f"127.0.0.1:{rest}")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()
