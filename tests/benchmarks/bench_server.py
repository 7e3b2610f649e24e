"""The model server against a plain ``kserve.Model`` on the same pipeline, and what the payload log costs.

Real processes on loopback; 8 clients, each sends its next request (one row) when it has the answer to the last. The
contenders take turns; every turn's order is shuffled.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

CLIENTS = 8
TURNS = 5
PAIRS, PAIR_REQUESTS = 20, 1_000
"""The log's cost is small: it is measured in many short pairs, on and off, whose order flips."""
REQUESTS = {"plain": 100, "plain1": 1_000, "ours": 4_000, "log": 4_000}
TITLES = {
    "plain": "plain `kserve.Model`",
    "plain1": "plain `kserve.Model`, OMP_NUM_THREADS=1",
    "ours": "model server",
    "log": "model server, payload log on",
}
NAME = "flights"
COLUMNS = {
    **dict.fromkeys(("carrier", "origin", "dest"), "categorical"),
    **dict.fromkeys(("distance", "hour", "temp", "precip", "visib", "wind_speed"), "numeric"),
}


def rows(count: int, seed: int) -> dict[str, Any]:
    """Rows like flights: three categorical columns, six numeric ones."""
    import numpy as np

    rng = np.random.default_rng(seed)
    return {
        "carrier": rng.choice(["UA", "AA", "DL", "B6", "EV", "MQ", "US", "WN"], count).tolist(),
        "origin": rng.choice(["EWR", "JFK", "LGA"], count).tolist(),
        "dest": [f"D{number}" for number in rng.integers(0, 100, count)],
        "distance": rng.integers(80, 3_000, count).astype(float).tolist(),
        "hour": rng.integers(5, 23, count).astype(float).tolist(),
        "temp": rng.normal(55, 18, count).round(2).tolist(),
        "precip": rng.exponential(0.01, count).round(3).tolist(),
        "visib": rng.uniform(0, 10, count).round(1).tolist(),
        "wind_speed": rng.exponential(10, count).round(3).tolist(),
    }


def train(folder: str) -> None:
    """A pipeline as ``upkeep.training`` builds it, HistGradientBoosting at its defaults, 20,000 rows."""
    import numpy as np
    import pyarrow as pa
    from sklearn.ensemble import HistGradientBoostingClassifier

    from upkeep.data.kinds import Column
    from upkeep.models.folder import save_sklearn
    from upkeep.models.frame import to_frame
    from upkeep.models.manifest import Manifest
    from upkeep.spec.model import Preprocess
    from upkeep.training.preprocessing import build_pipeline

    data = rows(20_000, seed=0)
    noise = np.random.default_rng(1).normal(0, 0.5, 20_000)
    delayed = np.array(data["hour"]) / 20 + np.array(data["precip"]) * 20 + noise > 1.2
    columns = tuple(Column(name=name, kind=kind) for name, kind in COLUMNS.items())  # type: ignore[arg-type]
    pipeline = build_pipeline(columns, Preprocess(), HistGradientBoostingClassifier(random_state=0), seed=0)
    pipeline.fit(to_frame(pa.table(data), columns), delayed)
    manifest = Manifest(format="sklearn", columns=columns, classes=(False, True), positive=True, libraries={})
    save_sklearn(Path(folder), pipeline, manifest)


def plain(folder: str, port: str) -> None:
    """What one would write: a frame of the instances, the pipeline, KServe's own server (moved to loopback)."""
    sys.argv[1:] = []
    import kserve
    import pandas as pd
    from kserve.protocol.rest.server import RESTServer

    from upkeep.models.folder import load

    predictor: Any = load(Path(folder))
    names = [column.name for column in predictor.manifest.columns]

    class Plain(kserve.Model):  # type: ignore[misc]
        def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
            frame = pd.DataFrame(payload["instances"])[names]
            probabilities = predictor.estimator.predict_proba(frame)
            classes = predictor.estimator.classes_.tolist()
            return {
                "predictions": [
                    {
                        "label": classes[row.argmax()],
                        "probabilities": dict(zip(map(str, classes), row.tolist(), strict=True)),
                    }
                    for row in probabilities
                ]
            }

    own = RESTServer.__init__

    def on_loopback(self: Any, *args: Any, **kwargs: Any) -> None:
        own(self, *args, **kwargs)
        self.config.host = "127.0.0.1"

    RESTServer.__init__ = on_loopback
    model = Plain(NAME)
    model.load()
    kserve.ModelServer(http_port=int(port), enable_grpc=False).start([model])


# --- the clients ---------------------------------------------------------------------------------------------------


async def one_client(port: int, requests: list[bytes], seconds: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while requests:
        request = requests.pop()
        start = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        seconds.append(time.perf_counter() - start)
        if not head.startswith(b"HTTP/1.1 200") or b"predictions" not in body:
            raise SystemExit(f"no answer: {head!r} {body[:300]!r}")
    writer.close()


async def load(port: int, count: int, seed: int) -> tuple[float, list[float]]:
    """Seconds for all, and for each."""
    data = rows(count, seed)
    requests = []
    for place in range(count):
        body = orjson.dumps({"instances": [{name: values[place] for name, values in data.items()}]})
        head = f"POST /v1/models/{NAME}:predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        requests.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    seconds: list[float] = []
    start = time.perf_counter()
    await asyncio.gather(*(one_client(port, requests, seconds) for _ in range(CLIENTS)))
    return time.perf_counter() - start, seconds


# --- the servers ---------------------------------------------------------------------------------------------------


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    port: int
    per_second: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def turn(self, count: int, seed: int) -> None:
        before = self.cpu_seconds()
        took, seconds = asyncio.run(load(self.port, count, seed))
        self.per_second.append(count / took)
        self.p50.append(1_000 * statistics.median(seconds))
        self.p99.append(1_000 * statistics.quantiles(seconds, n=100)[98])
        self.cpu.append(1_000 * (self.cpu_seconds() - before) / count)


def start(kind: str, folder: str, port: int) -> Server:
    environ = os.environ | {"UPKEEP_VERSION": "v1"}
    if kind.startswith("plain"):
        command = [sys.executable, "-W", "ignore", __file__, "plain", f"{folder}/model", str(port)]
        if kind == "plain1":
            environ["OMP_NUM_THREADS"] = "1"
    else:
        command = [sys.executable, "-m", "upkeep.serving.server", "--model-name", NAME, "--http-port", str(port)]
        command += ["--model-dir", f"{folder}/model"]
        command += ["--payloads", f"{folder}/log"] if kind == "log" else []
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/v1/models/{NAME}"
    for _ in range(600):
        try:
            with urllib.request.urlopen(address, timeout=5):
                return Server(process, port)
        except (urllib.error.URLError, ConnectionError):
            if process.poll() is not None:
                break
            time.sleep(0.1)
    raise SystemExit(f"{kind} did not start")


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def show(values: list[float], digits: int = 1) -> str:
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def main() -> None:
    servers: dict[str, Server] = {}
    with tempfile.TemporaryDirectory() as folder:
        train(f"{folder}/model")
        try:
            for kind in REQUESTS:
                servers[kind] = start(kind, folder, free_port())
            for kind, server in servers.items():
                asyncio.run(load(server.port, REQUESTS[kind] // 10, seed=0))
            order = random.Random(0)
            for turn in range(TURNS):
                for kind in order.sample(list(servers), len(servers)):
                    servers[kind].turn(REQUESTS[kind], seed=turn + 1)
                    print(f"{kind}: {servers[kind].per_second[-1]:.0f} a second", file=sys.stderr, flush=True)
            both = {kind: Server(servers[kind].process, servers[kind].port) for kind in ("ours", "log")}
            for pair in range(PAIRS):
                for kind in sorted(both, reverse=pair % 2 == 0):
                    both[kind].turn(PAIR_REQUESTS, seed=100 + pair)
        finally:
            for server in servers.values():
                server.process.terminate()
            for server in servers.values():
                server.process.wait()
        events = sum(path.read_bytes().count(b"\n") for path in Path(folder).glob("log/*/*/*"))
    print("## The model server\n")
    print(
        f"HistGradientBoosting on 3 categorical and 6 numeric raw columns, one row a request, {CLIENTS} clients, "
        f"{TURNS} turns, each contender {', '.join(f'{count:,}' for count in REQUESTS.values())} requests.\n"
    )
    print("| server | requests a second | p50, ms | p99, ms | CPU-ms a request |")
    print("| --- | --- | --- | --- | --- |")
    for kind, server in servers.items():
        cells = (show(server.per_second, 0), show(server.p50), show(server.p99), show(server.cpu, 2))
        print(f"| {TITLES[kind]} | {' | '.join(cells)} |")
    for kind in ("plain", "plain1"):
        pairs = zip(servers["ours"].per_second, servers[kind].per_second, strict=True)
        ratios = [mine / other for mine, other in pairs]
        print(f"\n**{show(ratios)} ×** the requests a second of the {TITLES[kind]} (turn by turn; at least 1.5).")
    on, off = both["log"], both["ours"]
    costs = [100 * (1 - mine / other) for mine, other in zip(on.per_second, off.per_second, strict=True)]
    cpu = 100 * (sum(on.cpu) / sum(off.cpu) - 1)
    print(
        f"\nThe payload log costs **{show(costs)} %** of the requests a second ({PAIRS} pairs of "
        f"{PAIR_REQUESTS:,} requests, on and off; at most 10), and {cpu:.1f} % more CPU a request; "
        f"{events:,} events were kept."
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end too
    if sys.argv[1:2] == ["plain"]:
        plain(sys.argv[2], sys.argv[3])
    else:
        main()
