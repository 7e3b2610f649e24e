"""The one-machine cluster with its real parts: git, the daemon, Envoy; the last test also with real model servers.

The cluster is brought up once; each test begins with v1 at 100 % beside v2 at 0 %.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.e2e.cluster_make import ROW, UPKEEP, Cluster, cluster, wait_for
from upkeep import api
from upkeep.errors import OutsideError
from upkeep.serving.cluster import Cluster as ClusterProtocol
from upkeep.serving.connect import open_cluster, open_counters
from upkeep.serving.counters import Counts
from upkeep.serving.local.folder import read_json
from upkeep.serving.local.process import started
from upkeep.serving.manifests import render_kustomization, render_route
from upkeep.serving.payload import read_events

pytestmark = pytest.mark.slow
REST = {"v1": 100, "v2": 0}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = cluster(tmp_path_factory.mktemp("cluster"))
    found.apply(REST)
    found.up(fake=True)
    try:
        yield found
    finally:
        found.down()


@pytest.fixture
def running(made: Cluster) -> Cluster:
    commit = made.apply(REST)
    wait_for("v1 at 100 %, v2 ready beside it", lambda: made.serves(commit, REST))
    return made


@pytest.fixture
def client(running: Cluster) -> ClusterProtocol:
    return open_cluster(running.spec)


def shift(running: Cluster, weights: dict[str, int]) -> None:
    commit = running.apply(weights)
    open_cluster(running.spec).refresh(running.spec)
    wait_for(f"traffic goes {weights}", lambda: running.serves(commit, weights))


def test_weights_move_under_load_without_losing_a_request(running: Cluster) -> None:
    before = open_counters(running.spec).read(running.spec)

    def rollout() -> None:
        for weight in (10, 50, 100, 0):
            shift(running, {"v1": 100 - weight, "v2": weight})

    answers = Counter(running.load(rollout))
    assert set(answers) == {"200"}
    after = open_counters(running.spec).read(running.spec)
    assert after.epoch == before.epoch
    served = {version: counts.requests for version, counts in after.versions.items()}
    first = {version: counts.requests for version, counts in before.versions.items()}
    assert sum(served.values()) - sum(first.values()) == answers.total()
    assert served["v2"] > first.get("v2", 0)
    assert {counts.failed for counts in after.versions.values()} == {0}


def test_pinned_requests_reach_their_version_and_are_no_evidence(running: Cluster, client: ClusterProtocol) -> None:
    before = open_counters(running.spec).read(running.spec).versions
    assert [running.ask(version).headers["x-upkeep-version"] for version in ("v1", "v2")] == ["v1", "v2"]
    assert client.probe(running.spec, "v2", [ROW]).ok
    assert open_counters(running.spec).read(running.spec).versions == before


def test_what_fails_and_what_is_slow_is_counted_when_it_ends(running: Cluster) -> None:
    def counts() -> Counts:
        return open_counters(running.spec).read(running.spec).versions["v1"]

    running.ask()
    before = counts()
    codes = [running.ask(wish=wish).status_code for wish in ("fail", "refuse", "hang up", "late", "slow", "")]
    assert codes == [500, 400, 503, 504, 200, 200]
    after = counts()
    assert (after.requests - before.requests, after.failed - before.failed) == (6, 4)
    # The one in half a second, and the one that was cut off at the timeout; a busy machine may make others slow.
    assert after.slow - before.slow >= 2
    assert after.active == 0
    other = replace(running.spec, rollout=replace(running.spec.rollout, latency=0.1))
    with pytest.raises(OutsideError, match=r"does not count requests slower than 0\.1 s"):
        open_counters(other).read(other)
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(running.ask, wish="slow")
        wait_for("a request under way", lambda: counts().active == 1 or slow.done())
        assert slow.result().status_code == 200


def test_a_request_under_way_is_answered_by_the_version_that_leaves(running: Cluster) -> None:
    shift(running, {"v1": 0, "v2": 100})
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(running.ask, wish="slow")
        wait_for("it is under way", lambda: open_counters(running.spec).read(running.spec).versions["v2"].active)
        gone = running.commit(
            {
                "kustomization.yaml": render_kustomization(["v1"]),
                "route.yaml": render_route(running.spec, {"v1": 100}),
                "v2.yaml": None,
            }
        )
        open_cluster(running.spec).refresh(running.spec)
        answer = slow.result()
    assert (answer.status_code, answer.headers["x-upkeep-version"]) == (200, "v2")
    wait_for("v2 has left", lambda: running.serves(gone, {"v1": 100}) and len(running.model["services"]) == 1)


def test_a_repository_that_is_away_changes_nothing_and_is_told(running: Cluster) -> None:
    repository = Path(running.spec.rollout.repository)
    away = repository.rename(repository.with_name("away.git"))
    try:
        told = wait_for("the problem", lambda: running.model["problems"])
        assert any("there is no such repository" in line for line in told), told
        assert running.ask().status_code == 200
        assert open_cluster(running.spec).live(running.spec).weights == REST
    finally:
        away.rename(repository)
    wait_for("it can be read again", lambda: not running.model["problems"])


def test_a_killed_canary_loses_its_traffic_at_once_and_gets_it_back(running: Cluster) -> None:
    shift(running, {"v1": 50, "v2": 50})
    pid = running.service("v2")["upkeep"]["pid"]
    client = open_cluster(running.spec)

    def kill() -> None:
        running.broken("v2").touch()  # it cannot start again
        try:
            os.kill(pid, signal.SIGKILL)
            wait_for("v1 has all traffic", lambda: client.live(running.spec).weights == {"v1": 100, "v2": 0})
            # traffic moves first, and is told then
            wait_for("it is told", lambda: "v2 does not answer" in client.live(running.spec).message)
            assert not client.live(running.spec).services["v2"].ready
        finally:
            running.broken("v2").unlink()
        wait_for("v2 is back", lambda: client.live(running.spec).weights == {"v1": 50, "v2": 50})

    answers = Counter(running.load(kill))
    lost = answers.total() - answers["200"]
    assert answers["200"] > lost
    # Those in flight, and those that came before the kernel told of the end and Envoy of the new route.
    assert lost < 40, answers


def test_a_canary_that_hangs_loses_its_traffic_and_is_started_again(running: Cluster, client: ClusterProtocol) -> None:
    shift(running, {"v1": 50, "v2": 50})
    pid = running.service("v2")["upkeep"]["pid"]
    running.broken("v2").touch()  # it cannot start again
    try:
        os.kill(pid, signal.SIGSTOP)
        wait_for("v1 has all traffic", lambda: client.live(running.spec).weights == {"v1": 100, "v2": 0})
        wait_for("it is told", lambda: not client.live(running.spec).services["v2"].ready)
        wait_for("it is ended", lambda: started(pid) is None)
    finally:
        running.broken("v2").unlink()
    wait_for("v2 is back", lambda: client.live(running.spec).weights == {"v1": 50, "v2": 50})
    wait_for("it is another process", lambda: running.service("v2")["upkeep"]["pid"] not in (None, pid))


def test_killed_gateway_comes_back_on_its_port_with_another_epoch(running: Cluster) -> None:
    gateway = running.status()["gateway"]
    epoch = open_counters(running.spec).read(running.spec).epoch
    os.kill(read_json(running.folder / "gateway.json")["pid"], signal.SIGKILL)
    wait_for("another gateway", lambda: open_counters(running.spec).read(running.spec).epoch != epoch)
    wait_for("it answers", lambda: running.ask().status_code == 200)
    assert running.status()["gateway"] == gateway
    assert open_cluster(running.spec).live(running.spec).weights == REST


def test_a_killed_daemon_leaves_traffic_alone_and_takes_up_what_runs(running: Cluster) -> None:
    pids = [running.service(version)["upkeep"]["pid"] for version in ("v1", "v2")]
    epoch = open_counters(running.spec).read(running.spec).epoch
    client = open_cluster(running.spec)
    client.brake(running.spec, {"v1": 90, "v2": 10})

    def crash() -> None:
        running.daemons[-1].kill()
        running.daemons[-1].wait()
        with pytest.raises(OutsideError, match=r"it left .*tiny-v1"):
            running.status()
        with pytest.raises(OutsideError, match="no cluster runs here"):
            client.live(running.spec)
        commit = running.apply({"v1": 80, "v2": 20})
        running.up(fake=True)
        wait_for("the newest commit", lambda: running.model["commit"] == commit)

    answers = Counter(running.load(crash))
    assert set(answers) == {"200"}
    live = client.live(running.spec)
    assert live.braked
    assert live.weights == {"v1": 90, "v2": 10}
    client.release(running.spec)
    assert client.live(running.spec).weights == {"v1": 80, "v2": 20}
    assert [running.service(version)["upkeep"]["pid"] for version in ("v1", "v2")] == pids
    assert open_counters(running.spec).read(running.spec).epoch == epoch


def test_a_version_leaves_after_its_requests_and_a_revert_brings_it_back(running: Cluster) -> None:
    pid = running.service("v2")["upkeep"]["pid"]

    def remove_and_revert() -> None:
        gone = running.commit(
            {
                "kustomization.yaml": render_kustomization(["v1"]),
                "route.yaml": render_route(running.spec, {"v1": 100}),
                "v2.yaml": None,
            }
        )
        wait_for("v2 has left", lambda: running.serves(gone, {"v1": 100}) and len(running.model["services"]) == 1)
        shift(running, {"v1": 0, "v2": 100})

    assert set(running.load(remove_and_revert)) == {"200"}
    assert running.service("v2")["upkeep"]["pid"] != pid
    assert started(pid) is None
    assert running.ask().headers["x-upkeep-version"] == "v2"


def test_a_manifest_that_makes_no_sense_changes_nothing_and_is_told_with_its_line(running: Cluster) -> None:
    route = render_route(running.spec, {"v1": 60, "v2": 40}).replace(b"weight: 60", b"weight: 61")
    before = running.model["commit"]
    running.commit({"route.yaml": route})
    told = wait_for("the problem", lambda: running.model["problems"])
    assert any("route.yaml:" in line and "the weights sum to 101" in line for line in told), told
    assert running.model["commit"] == before
    assert running.ask().status_code == 200
    live = open_cluster(running.spec).live(running.spec)
    assert live.weights == REST
    assert "the weights sum to 101" in live.message


def test_a_second_up_says_that_one_runs(running: Cluster) -> None:
    for more in ([], ["--detach"]):
        command = [UPKEEP, "up", "--spec", str(running.spec_file), *more]
        second = subprocess.run(command, env=running.environ, capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert "a cluster runs in this folder already" in second.stderr
    assert running.ask().status_code == 200


def test_real_servers_beside_another_cluster_and_down_leaves_nothing(running: Cluster, tmp_path: Path) -> None:
    other = cluster(tmp_path)
    other.apply({"v1": 100})

    def upkeep(*words: str) -> str:
        command = [UPKEEP, *words, "--spec", str(other.spec_file)]
        done = subprocess.run(command, env=other.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert upkeep("down") == "nothing runs here\n"
    try:
        assert "v1" in upkeep("up", "--detach")
        pids = [
            other.status()["pid"],
            other.service("v1")["upkeep"]["pid"],
            read_json(other.folder / "gateway.json")["pid"],
        ]
        assert other.status()["gateway"] != running.status()["gateway"]
        assert running.ask().status_code == 200

        answer = other.ask()
        assert answer.json()["predictions"][0]["label"] is True
        folder, wanted = Path(other.spec.monitoring.payloads.source), answer.headers["x-request-id"]
        events = wait_for("the payload log", lambda: [e for e in read_events(folder) if e.id == wanted][1:])
        assert (events[0].service, events[0].version) == ("tiny-v1", "v1")
        metrics = httpx.get(f"{other.status()['gateway']}/metrics", trust_env=False).text
        assert 'envoy_upkeep_requests{cluster="tiny-v1-predictor"} 1' in metrics
    finally:
        assert upkeep("down") == "stopped the cluster\n"
    assert [pid for pid in pids if started(pid)] == []
    assert running.ask().status_code == 200
    with pytest.raises(OutsideError, match="no cluster runs here"):
        api.cluster_status(other.spec_file)
