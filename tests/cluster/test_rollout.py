"""A whole rollout by the real controller on a real API server, with KServe's and Gateway API's own kinds."""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.cluster import test_builtin as builtin
from tests.cluster.conftest import Place
from tests.cluster.rollout_world import Killed, RolloutWorld
from tests.cluster.test_pod import SPEC, answer, free_port
from tests.e2e.cluster_make import wait_for
from upkeep.errors import OutsideError
from upkeep.rollout.history import history
from upkeep.serving.kubernetes.api import Api, GoneError
from upkeep.serving.kubernetes.cluster import KubernetesCluster
from upkeep.serving.kubernetes.paths import LEASES, SERVICES, path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["argocd", "flux"])
def world(request: pytest.FixtureRequest, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = RolloutWorld(kubeconfig, tmp_path_factory.mktemp("world"), request.param)
    made.start()
    try:
        yield made
    finally:
        made.stop()


once = pytest.mark.parametrize("world", ["argocd"], indirect=True)
"""No syncer has a part in it."""


def test_a_good_canary_is_promoted_and_a_bad_one_taken_back_by_a_controller_that_dies_everywhere(
    world: RolloutWorld,
) -> None:
    world.propose(1, None)
    world.propose(2, "v1")
    killed = Killed(world)
    dies = world.namespace.endswith("argocd")
    world.run(killed if dies else None)
    assert world.state.phase == "succeeded"
    assert world.state.champion.version == "v2"
    assert world.subjects == [
        "serve v1 at 100 %",
        "propose v2 at 0 %",
        "v2 to 5 %",
        "v2 to 25 %",
        "v2 to 50 %",
        "v2 to 100 %",
        "v2 has all traffic, and is still judged",
        "v2 is the champion",
    ]
    assert world.cluster.live(world.spec).weights == {"v2": 100}
    everywhere = {"ledger", "evidence", "intent", "commit", "refresh", "tell", "done"}
    assert {place.partition(": ")[2] for place in killed.at} >= (everywhere if dies else set())
    # each news may come twice, as the same news
    assert len({each.id for each in world.posted if each.kind == "moved"}) == 4

    world.bad["v3"] = 0.2
    world.propose(3, "v2")
    world.run(killed if dies else None)
    assert world.state.phase == "rolled_back"
    assert [each.version for each in world.state.barred] == ["v3"]
    assert len(world.subjects) == len(set(world.subjects)), "a step was made twice"
    live = world.cluster.live(world.spec)
    assert (live.weights, live.braked, {*live.services}) == ({"v2": 100}, False, {"v2"})
    assert not dies or {"step: brake", "rolling_back: release"} <= {*killed.at}
    assert not any(each["manager"] == "upkeep-brake" for each in world.route["metadata"]["managedFields"])


def test_a_brake_counts_before_the_commit_is_applied(world: RolloutWorld) -> None:
    champion = world.state.champion.version if world.git.head("main") else None
    if champion is None:
        world.propose(1, None)
        champion = "v1"
    world.bad["v8"] = 0.3
    world.propose(8, champion)
    for _ in range(60):
        told = world.look()
        if told.state is not None and told.state.phase == "rolling_back":
            break
        world.wait(told.next_look)
    live = world.cluster.live(world.spec)
    assert (live.weights, live.braked) == ({champion: 100, "v8": 0}, True), "Git was not applied yet"
    world.run()
    assert world.state.phase == "rolled_back"
    assert not world.cluster.live(world.spec).braked


@once
def test_a_step_waits_for_its_merge_and_a_roll_back_that_main_refuses_is_braked(world: RolloutWorld) -> None:
    champion = world.state.champion.version
    world.approve(0.05)
    try:
        world.propose(10, champion)
        world.run(until=lambda told: "is merged" in told.message)
        assert world.cluster.live(world.spec).weights == {champion: 95, "v10": 5}
        branch = f"upkeep/tiny/{world.state.rollout}-step-2"
        world.merge(branch)
        world.wait(5)
        assert world.cluster.live(world.spec).weights == {champion: 75, "v10": 25}
        world.look()
        assert (world.state.phase, world.state.step) == ("step", 2)
        begins, merge = history(world.spec, world.git)[:2]
        assert (begins.by, merge.by, merge.author) == ("upkeep", "person", "Ann <ann@example.com>")
        assert merge.evidence is not None
        assert any(merge.evidence in each.key for each in world.model.store.list())

        world.bad["v10"] = 0.4
        world.protect()
        world.run(until=lambda told: "refuse to take the canary back" in told.message)
        live = world.cluster.live(world.spec)
        assert (live.weights, live.braked) == ({champion: 100, "v10": 0}, True)
        assert (world.state.phase, world.state.weight) == ("step", 25), "main did not move"
        world.merge(f"upkeep/tiny/{world.state.rollout}-back")
        world.unprotect()
        world.run()
        assert world.state.phase == "rolled_back"
        live = world.cluster.live(world.spec)
        assert (live.weights, live.braked) == ({champion: 100}, False)
        merges = [each for each in world.subjects if not each]
        assert len(merges) == 2, "the merges are people's"
    finally:
        world.approve()


@once
def test_leases_and_elections_as_a_real_storage_keeps_them(world: RolloutWorld) -> None:
    """The built-in kind is not there; one of the same name is, with the same rules for versions and conflicts."""
    world.make_leases()
    place = Place(api=world._api, namespace=world.namespace, real=False, client=world._client)
    for law in (
        builtin.test_a_name_is_made_once,
        builtin.test_a_patch_of_a_version_that_is_no_more_is_refused,
        builtin.test_elections_of_three_with_one_that_dies_and_one_that_goes,
    ):
        law(place, f"lease-{uuid4().hex[:8]}")


@once
def test_of_two_pods_one_leads_and_the_other_takes_over_when_it_ends(
    world: RolloutWorld, kubeconfig: Path, tmp_path: Path
) -> None:
    """The very commands of the Deployment, each a process."""
    world.make_leases()
    (tmp_path / "upkeep.yaml").write_text(f"{SPEC}\nmonitoring: {{prometheus: 'http://127.0.0.1:1'}}\n")
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONWARNINGS": "error"}
    environ |= {"KUBECONFIG": str(kubeconfig), "UPKEEP_KUBE_CONTEXT": "local"}
    command = [sys.executable, "-c", "from upkeep.cli import main; main()", "rollout", "watch", "--log", "json"]
    command += ["--lease", "upkeep-system/upkeep-controller", "--metrics-port"]
    ports = [free_port(), free_port()]
    where = path(LEASES, "upkeep-system", "upkeep-controller")
    with ExitStack() as stack:
        pods = []
        for port in ports:
            log = stack.enter_context((tmp_path / f"{port}.log").open("w"))
            pod = subprocess.Popen([*command, str(port)], cwd=tmp_path, env=environ, stdout=log, stderr=log, text=True)
            stack.callback(pod.wait)
            stack.callback(pod.kill)
            pods.append(pod)
        texts = [answer(f"http://127.0.0.1:{port}/readyz", pod).text for port, pod in zip(ports, pods, strict=True)]
        standby = next(at for at, text in enumerate(texts) if text.startswith("election: stands by"))
        leader = 1 - standby
        assert texts[leader] == "flight-delays: nothing is released yet\n"
        holder = world._api.get(where)["spec"]["holderIdentity"]
        assert f"{holder} leads" in texts[standby]

        pods[leader].terminate()
        assert pods[leader].wait(60) == 128 + signal.SIGTERM
        wait_for(
            "the other one leads",
            lambda: answer(f"http://127.0.0.1:{ports[standby]}/readyz", pods[standby]).text.startswith("flight-delays"),
        )
        assert world._api.get(where)["spec"]["holderIdentity"] != holder
        pods[standby].terminate()
        assert pods[standby].wait(60) == 128 + signal.SIGTERM
        assert "holderIdentity" not in world._api.get(where)["spec"]
    logs = [(tmp_path / f"{port}.log").read_text() for port in ports]
    assert all("Traceback" not in log for log in logs)
    events = [json.loads(line)["event"] for line in logs[standby].splitlines() if line.startswith("{")]
    assert events[:2] == ["stands_by", "leads"]


# --- connections and old lists ---------------------------------------------------------------------------------------


class Proxy(socketserver.ThreadingTCPServer):
    """Before the API server; of the next ``kills`` connections each is cut where its first answer begins."""

    daemon_threads = True

    def __init__(self, server: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.server_at, self.kills, self.cut = server, 0, 0


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        proxy: Any = self.server
        client: socket.socket = self.request
        answered = 0
        with socket.create_connection(("127.0.0.1", proxy.server_at)) as server:
            while True:
                for source in select.select([client, server], [], [])[0]:
                    try:
                        data = source.recv(65536)
                    except OSError:
                        return
                    answered += len(data) if source is server else 0
                    if not data:
                        return
                    if proxy.kills and answered > 3000:  # past the handshake
                        proxy.kills -= 1
                        proxy.cut += 1
                        return
                    (server if source is client else client).sendall(data)


@pytest.fixture
def proxied(kubeconfig: Path) -> Iterator[tuple[Proxy, Api]]:
    from kubernetes import client, config

    configuration: Any = client.Configuration()
    config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    configuration.retries = False
    proxy = Proxy(int(configuration.host.rpartition(":")[2]))
    configuration.host = f"https://127.0.0.1:{proxy.server_address[1]}"
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,))
    thread.start()
    used = client.ApiClient(configuration)
    try:
        yield proxy, Api(used, sleep=lambda _: None)
    finally:
        used.close()
        proxy.shutdown()
        proxy.server_close()
        thread.join()


@once
def test_reads_survive_connections_that_are_cut(world: RolloutWorld, proxied: tuple[Proxy, Api]) -> None:
    proxy, api = proxied
    cluster = KubernetesCluster(api, now=lambda: world.now)
    want = cluster.live(world.spec)
    proxy.kills = 2
    assert cluster.live(world.spec) == want
    assert proxy.cut >= 1
    proxy.kills = 100
    with pytest.raises(OutsideError, match="does not answer"):
        api.get(path(SERVICES, world.namespace))
    proxy.kills = 0
    assert cluster.live(world.spec) == want


@once
def test_a_list_whose_version_was_compacted_is_read_anew(world: RolloutWorld, kubeconfig: Path) -> None:
    everything = path(SERVICES, "compacted")
    predictor = {"model": {"modelFormat": {"name": "sklearn"}}}
    body = {"apiVersion": SERVICES[0], "kind": "InferenceService", "spec": {"predictor": predictor}}
    for name in ("a", "b", "c"):
        world._api.apply(f"{everything}/{name}", body | {"metadata": {"name": name}}, "test")
    _compact(kubeconfig.parent)
    page = world._api.get(everything, limit="1")["metadata"]["continue"]
    with pytest.raises(GoneError):
        world._api.get(everything, limit="1", **{"continue": _old(page)})

    answers: list[Any] = []
    call = world._api._call

    def late(*words: Any, **given: Any) -> Any:
        """The second page is asked for when its version is long gone."""
        answer = call(*words, **given)
        answers.append(answer)
        if len(answers) == 1:
            answer["metadata"]["continue"] = _old(answer["metadata"]["continue"])
        return answer

    world._api._call = late  # type: ignore[method-assign]
    try:
        found = world._api.items(everything, limit="1")
    finally:
        world._api._call = call  # type: ignore[method-assign]
    assert [each["metadata"]["name"] for each in found] == ["a", "b", "c"]
    assert len(answers) == 1 + 3


def _old(page: str) -> str:
    """The page as of a version that was compacted: the server's own token, of the storage's second version."""
    token = json.loads(base64.urlsafe_b64decode(page + "=" * (-len(page) % 4)))
    return base64.urlsafe_b64encode(json.dumps(token | {"rv": 2}).encode()).decode().rstrip("=")


def _compact(folder: Path) -> None:
    """Forget every version but the newest, after one more write."""
    address = (folder / "etcd.url").read_text()

    def ask(what: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(f"{address}/v3/kv/{what}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    revision = ask("put", {"key": "eA==", "value": "eA=="})["header"]["revision"]
    ask("compaction", {"revision": revision, "physical": True})
