"""The images as they run: read-only, as nobody, with what their lists say; an update in them; answers from one of them.

``make test-images`` builds them first and says by ``UPKEEP_TEST_IMAGES`` where they are; else this is skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

import upkeep
from upkeep.models.folder import load

ROOT = Path(__file__).parents[2]
UPKEEP = Path(sys.executable).parent / "upkeep"
PREFIX = os.environ.get("UPKEEP_TEST_IMAGES", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PREFIX, reason="the images are not built: make test-images builds and runs them"),
]

TARGETS = ("sklearn", "server", "controller")
ON_A_CLUSTER = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]


def image(target: str) -> str:
    return f"{PREFIX}/{target}:{upkeep.__version__}"


def in_container(target: str, *words: str, entrypoint: str = "", flags: tuple[str, ...] = ()) -> str:
    """What the image says when it runs as a restricted pod does."""
    command = ["podman", "run", "--rm", *ON_A_CLUSTER, "--network", "none", *flags]
    command += [f"--entrypoint={entrypoint}"] * bool(entrypoint)
    done = subprocess.run([*command, image(target), *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


each_target = pytest.mark.parametrize("target", TARGETS)


@each_target
def test_it_runs_as_nobody_and_writes_nowhere_but_in_tmp(target: str) -> None:
    script = 'id -u; touch /opt/x /home/x /etc/x 2>&1 | grep -c "Read-only"; touch /tmp/x && echo "$HOME"; ls -A /tmp'
    assert in_container(target, "-c", script, entrypoint="sh").split() == ["65532", "3", "/tmp", "x"]


@each_target
def test_it_has_neither_tools_that_build_nor_secrets_nor_this_machines_settings(target: str) -> None:
    script = "command -v pip gcc make cc apt-key; ls /root/.cache /opt/upkeep/bin/pip* /etc/pip.conf 2>/dev/null; true"
    assert in_container(target, "-c", script, entrypoint="sh") == ""
    (config,) = json.loads(subprocess.check_output(["podman", "image", "inspect", image(target)]))
    told = json.dumps([config["Config"], config["History"]])
    assert not re.search(r"pip\.conf.*index|token|password", told, re.I)
    assert config["Config"]["User"] == "65532:65532"
    labels = config["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == upkeep.__version__
    assert labels["org.opencontainers.image.title"] == f"upkeep/{target}"
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", labels["org.opencontainers.image.revision"])


@each_target
def test_its_bill_of_materials_is_what_is_installed(target: str) -> None:
    bill = json.loads((ROOT / f"build/images/{target}.cdx.json").read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "upkeep")
    listed = {each["name"].lower().replace("_", "-"): each["version"] for each in bill["components"]}
    script = (
        "import importlib.metadata as m, json; "
        "print(json.dumps({d.name.lower().replace('_', '-'): d.version for d in m.distributions()}))"
    )
    there = json.loads(in_container(target, "-c", script, entrypoint="python"))
    assert there.pop("upkeep") == bill["metadata"]["component"]["version"] == upkeep.__version__
    assert listed == there
    assert listed["scikit-learn"] == installed("scikit-learn")


@each_target
def test_every_module_is_compiled_and_holds_no_time(target: str) -> None:
    script = (
        "import pathlib, sys\n"
        "site = pathlib.Path(sys.prefix, 'lib', 'python%d.%d' % sys.version_info[:2], 'site-packages', 'upkeep')\n"
        "sources = [p for p in site.rglob('*.py')]\n"
        "compiled = [p.parent / '__pycache__' / f'{p.stem}.cpython-311.pyc' for p in sources]\n"
        "print(len(sources), {p.read_bytes()[4:8].hex() for p in compiled})"
    )
    count, flags = in_container(target, "-c", script, entrypoint="python").split(maxsplit=1)
    assert int(count) > 200
    assert flags.strip() == "{'01000000'}"  # by content, and not looked at again (PEP 552)


def test_what_an_image_leaves_out_is_not_there() -> None:
    script = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    for target, names in {
        "sklearn": ["envoy"],
        "server": ["envoy", "kfp", "duckdb", "matplotlib", "minio", "optuna"],
        "controller": ["envoy", "kserve", "optuna"],
    }.items():
        assert in_container(target, "-c", script, *names, entrypoint="python").strip() == "[]"


# --- an update, every step in a container of its own ------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Podman's API, as Docker's client finds it."""
    address = f"unix://{tmp_path_factory.mktemp('podman')}/podman.sock"
    with subprocess.Popen(["podman", "system", "service", "--time", "0", address]) as service:
        try:
            for _ in range(200):
                if Path(address.removeprefix("unix://")).exists():
                    break
                time.sleep(0.1)
            yield address
        finally:
            service.terminate()


GATE = """
  better: {metric: roc_auc, by: 0.001, confidence: 60%}
  old: {worse_by_at_most: 0.2}
  slices: {worse_by_at_most: 0.6}
"""


def flights(place: Path) -> None:
    """Three months, every third flight; a gate that so few days can pass."""
    sys.path.insert(0, str(ROOT / "examples/flights"))
    try:
        import make_data
    finally:
        sys.path.pop(0)
    table = make_data.flights()
    table = table[table["month"] <= "2013-03"].iloc[::3]
    make_data.write(place / "work/data", table=table)
    text = (ROOT / "examples/flights/upkeep.yaml").read_text()
    loose, times = re.subn(r"(?m)^gate:\n(?:  .*\n)+", f"gate:{GATE}", text)
    assert times == 1
    (place / "upkeep.yaml").write_text(loose)


def update(place: Path, *words: str, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [UPKEEP, "run", "--output", "json", *words],
        cwd=place, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


@pytest.fixture(scope="module")
def both(engine: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], Path]]:
    """After a first version by processes: the next update by processes and, from the same state, in containers."""
    place = tmp_path_factory.mktemp("flights") / "place"
    place.mkdir()
    flights(place)
    assert update(place, "--until", "2013-02")["version"] == "v1"
    before = place.with_name("before")
    shutil.copytree(place, before, symlinks=True)
    found = {}
    ways = {
        "processes": ((), {}),
        "containers": (("--containers",), {"DOCKER_HOST": engine, "UPKEEP_IMAGE": image("sklearn")}),
    }
    for way, (words, environment) in ways.items():
        record = update(place, *words, **environment)
        found[way] = record, place.rename(place.with_name(way))
        shutil.copytree(before, place, symlinks=True)  # records hold paths: the same ones both times
    return found


def test_an_update_in_containers_comes_to_what_one_in_processes_does(
    both: dict[str, tuple[dict[str, Any], Path]],
) -> None:
    records = [
        {key: value for key, value in record.items() if key not in ("update", "finished", "page", "commit")}
        for record, _ in both.values()
    ]
    assert records[0] == records[1]
    assert (records[0]["verdict"]["verdict"], records[0]["champion"], records[0]["version"]) == ("pass", "v1", "v2")
    cards = [json.loads(next(place.rglob("versions/v2.json")).read_text()) for _, place in both.values()]
    trained = [
        (place / "work/store/flight-delays/models" / card["digest"])
        for card, (_, place) in zip(cards, both.values(), strict=True)
    ]
    assert trained[0].joinpath("model.skops").read_bytes() == trained[1].joinpath("model.skops").read_bytes()
    # all else there is of a model is its manifest: it names the Python that wrote it, which is the image's own
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in trained]
    assert _but(manifests[0], "python") == _but(manifests[1], "python")


def _but(node: Any, key: str) -> Any:
    if isinstance(node, dict):
        return {name: _but(value, key) for name, value in node.items() if name != key}
    return node


def test_no_container_is_left(both: dict[str, tuple[dict[str, Any], Path]]) -> None:
    left = subprocess.check_output(
        ["podman", "ps", "--all", "--quiet", "--filter", f"ancestor={image('sklearn')}"], text=True
    )
    assert left == ""


# --- and what became of it, by the other images -----------------------------------------------------------------------


def test_the_controller_looks_at_it_and_reads_its_history(both: dict[str, tuple[dict[str, Any], Path]]) -> None:
    _, place = both["containers"]
    whose = (f"--user={os.getuid()}:{os.getgid()}", f"--volume={place}:{place}", f"--workdir={place}")
    # the spec's places are beside it, wherever that is
    looked = in_container("controller", "history", "--output", "json", flags=whose)
    assert json.loads(looked)
    in_container("controller", "rollout", "watch", "--once", flags=whose)


def test_the_server_answers_as_the_pipeline_does(both: dict[str, tuple[dict[str, Any], Path]]) -> None:
    _, place = both["containers"]
    card = json.loads(next(place.rglob("versions/v2.json")).read_text())
    folder = place / "work/store/flight-delays/models" / card["digest"]
    rows = pq.read_table(next((place / "work/data/period=2013-03").glob("*.parquet"))).slice(0, 8)
    model = load(folder)
    expected = [
        {str(label): float(share) for label, share in zip(model.manifest.classes, shares, strict=True)}
        for shares in model.predict_proba(rows)
    ]
    columns = [column.name for column in model.manifest.columns]
    with served(folder, card["digest"]) as url:
        asked = {"instances": rows.select(columns).to_pylist()}
        answer = httpx.post(f"{url}/v1/models/flight-delays:predict", json=asked, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model_version"] == "v2"
    assert [each["probabilities"] for each in answer.json()["predictions"]] == expected


@contextlib.contextmanager
def served(folder: Path, digest: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    name = f"upkeep-test-{port}"
    command = ["podman", "run", "--rm", "--name", name, *ON_A_CLUSTER, "--network", "host"]
    command += ["--env", "UPKEEP_VERSION=v2", "--env", f"UPKEEP_DIGEST={digest}", f"--volume={folder}:/mnt/models:ro"]
    arguments = ["--model-name=flight-delays", "--host=127.0.0.1", f"--http-port={port}"]
    with subprocess.Popen([*command, image("server"), *arguments], stderr=subprocess.PIPE, text=True) as server:
        try:
            for _ in range(240):
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5).status_code == 200:
                        break
                assert server.poll() is None, server.stderr and server.stderr.read()
                time.sleep(0.25)
            yield f"http://127.0.0.1:{port}"
        finally:
            subprocess.run(["podman", "stop", "--time", "10", name], capture_output=True, check=False)
