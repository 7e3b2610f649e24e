"""Small objects through the registry's store, against raw obstore: on a local folder and on an S3 server.

The S3 server is versitygw where it is found (on PATH, or its path in UPKEEP_TEST_S3), else moto's, which is slow
itself. Both contenders run in one process and take turns every few calls: otherwise a busy machine's noise is larger
than what is measured.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RUNS = 5
OBJECTS = 2000
TURN = 50
"""Calls in a row by one contender."""
LISTS = 10
"""How often all is listed, to have something to measure."""
DATA = b"x" * 1000
STEPS = ("put", "create", "get", "list")
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing-secret", "AWS_REGION": "us-east-1"}
MOTO = """
import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
class Quiet(WSGIRequestHandler):
    def log_request(self, *arguments): ...
app = DomainDispatcherApplication(create_backend_app)
make_server("127.0.0.1", int(sys.argv[1]), app, request_handler=Quiet).serve_forever()
"""

Operations = tuple[Callable[[str], Any], Callable[[str], Any], Callable[[str], Any], Callable[[], int]]


def ours(uri: str, endpoint: str) -> Operations:
    from upkeep.spec.model import ObjectStore
    from upkeep.store import open_store

    store = open_store(uri, ObjectStore(endpoint=endpoint or None))
    return (
        lambda key: store.put(f"put/{key}", DATA),
        lambda key: store.create(f"create/{key}", DATA),
        lambda key: store.get(f"put/{key}"),
        lambda: sum(1 for _ in store.list("put")),
    )


def raw(uri: str, endpoint: str) -> Operations:
    import obstore
    from obstore.store import LocalStore, S3Store

    store: Any
    if endpoint:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        store = S3Store(bucket, prefix=prefix, endpoint=endpoint, client_options={"allow_http": True})
    else:
        store = LocalStore(uri, mkdir=True)
    return (
        lambda key: obstore.put(store, f"put/{key}", DATA),
        lambda key: obstore.put(store, f"create/{key}", DATA, mode="create"),
        lambda key: bytes(obstore.get(store, f"put/{key}").bytes()),
        lambda: sum(len(chunk) for chunk in obstore.list(store, "put")),
    )


def one(uri: str, endpoint: str, objects: int) -> None:
    """All steps once, both contenders in turns of a few calls: wall and CPU seconds of each, as JSON."""
    contenders = {"obstore": raw(f"{uri}-obstore", endpoint), "upkeep": ours(f"{uri}-upkeep", endpoint)}
    found = {name: {step: [0.0, 0.0] for step in STEPS} for name in contenders}
    for put, *_ in contenders.values():
        put("warm")  # connections and threads
    keys = [f"{number:05d}" for number in range(objects)]
    for number, step in enumerate(STEPS):
        turns = [keys[start : start + TURN] for start in range(0, objects, TURN)] if step != "list" else [[""]] * LISTS
        for turn, part in enumerate(turns):
            for name in sorted(contenders, reverse=bool(turn % 2)):
                work: Any = contenders[name][number]
                wall, cpu = time.perf_counter(), _cpu()
                if step == "list":
                    assert work() == objects + 1
                else:
                    for key in part:
                        work(key)
                found[name][step][0] += time.perf_counter() - wall
                found[name][step][1] += _cpu() - cpu
    for steps in found.values():
        steps["list"] = [seconds / LISTS for seconds in steps["list"]]
    print(json.dumps(found))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextmanager
def server(work: Path) -> Iterator[tuple[str, str, int]]:
    """An S3 server's name and address, and how many objects it may be asked to take."""
    given = os.environ.get("UPKEEP_TEST_S3", "")
    if given.startswith("http"):
        yield "the S3 server at UPKEEP_TEST_S3", given, OBJECTS
        return
    program = given or shutil.which("versitygw")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if program:
        (work / "objects").mkdir()
        access = ["--access", CREDENTIALS["AWS_ACCESS_KEY_ID"], "--secret", CREDENTIALS["AWS_SECRET_ACCESS_KEY"]]
        command = [program, *access, "--port", f"127.0.0.1:{port}", "--keep-alive", "--quiet"]
        command += ["posix", str(work / "objects")]
        name, objects = "versitygw", OBJECTS // 4
    else:
        command, name, objects = [sys.executable, "-c", MOTO, str(port)], "moto", OBJECTS // 10
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(1200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield name, f"http://127.0.0.1:{port}", objects
        finally:
            process.terminate()


def measure(where: Callable[[str], str], endpoint: str, objects: int) -> dict[str, list[dict[str, list[float]]]]:
    found: dict[str, list[dict[str, list[float]]]] = {"obstore": [], "upkeep": []}
    for run in range(RUNS):
        arguments = ["--one", where(str(run)), endpoint, str(objects)]
        done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
        for name, steps in json.loads(done.stdout).items():
            found[name].append(steps)
    return found


def rows(place: str, objects: int, found: dict[str, list[dict[str, list[float]]]]) -> Iterator[str]:
    """A table row a step, and one for all steps together."""
    for step in (*STEPS, "all"):
        steps = STEPS if step == "all" else (step,)
        calls = objects * (4 if step == "all" else 1)
        cpu = {name: [sum(run[s][1] for s in steps) for run in runs] for name, runs in found.items()}
        rate = {name: [calls / sum(run[s][0] for s in steps) for run in runs] for name, runs in found.items()}
        share = [own / theirs for own, theirs in zip(rate["upkeep"], rate["obstore"], strict=True)]
        saved = [theirs / own for own, theirs in zip(cpu["upkeep"], cpu["obstore"], strict=True)]
        cells = [place, f"{step}", f"{objects:,}"]
        cells += [_spread(rate["obstore"], "{:,.0f}"), _spread(rate["upkeep"], "{:,.0f}"), _spread(share, "{:.2f}")]
        cells += [_spread(cpu["obstore"], "{:.3f}"), _spread(cpu["upkeep"], "{:.3f}"), _spread(saved, "{:.2f}")]
        yield f"| {' | '.join(cells)} |"


def _spread(values: list[float], form: str) -> str:
    low, middle, high = (form.format(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low}–{high})"


def main() -> None:
    os.environ.update({name: os.environ.get(name) or value for name, value in CREDENTIALS.items()})
    print("## Small objects through the store\n")
    print(f"Objects of 1,000 bytes, one call after another, the two in turns of {TURN} calls;")
    print(f"median (smallest–largest) of {RUNS} runs. At least 0.9 of obstore's rate was asked for.\n")
    head = ["store", "step", "objects", "obstore, 1/s", "Upkeep, 1/s", "Upkeep/obstore"]
    head += ["obstore, CPU-s", "Upkeep, CPU-s", "CPU obstore/Upkeep"]
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    with tempfile.TemporaryDirectory(prefix="upkeep-bench-") as name:
        work = Path(name)
        for line in rows("folder", OBJECTS, measure(lambda part: str(work / part), "", OBJECTS)):
            print(line, flush=True)
        with server(work) as (server_name, endpoint, objects):
            from upkeep.registry.server import ensure_bucket
            from upkeep.spec.model import ObjectStore

            ensure_bucket("s3://bench", ObjectStore(endpoint=endpoint), versioning=False)
            for line in rows(server_name, objects, measure(lambda part: f"s3://bench/{part}", endpoint, objects)):
                print(line, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
