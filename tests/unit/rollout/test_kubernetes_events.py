"""What `kubectl describe` tells of a rollout."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from tests.unit.rollout.world import World, quick
from tests.unit.serving.kubernetes.test_cluster import SPEC
from upkeep.errors import AccessError
from upkeep.rollout import events as rollout_events
from upkeep.rollout.connect import noter
from upkeep.serving.kubernetes import paths
from upkeep.serving.kubernetes.api import Api
from upkeep.serving.kubernetes.brake import braked_path
from upkeep.serving.kubernetes.cluster import KubernetesCluster
from upkeep.serving.kubernetes.events import LONGEST, REASONS, WARNINGS, Happening, event
from upkeep.serving.kubernetes.fake import FakeKubernetes, refusal
from upkeep.serving.manifests import service_name
from upkeep.spec.model import ModelSpec

ALL = paths.path(paths.EVENTS, SPEC.serving.namespace)
NEWS = Happening(kind="moved", message="v2 gets 25 %", key="a/b", at="2026-03-01T12:00:00Z", version="v2")


def cluster(server: FakeKubernetes) -> KubernetesCluster:
    api = Api(server.client(), sleep=lambda _: None)
    route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"namespace": "models"}}
    api.apply(braked_path(SPEC), route, "test")
    service = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {}}
    api.apply(paths.path(paths.SERVICES, "models", service_name(SPEC.name, "v2")), service, "test")
    return KubernetesCluster(api)


def told(server: FakeKubernetes) -> list[dict[str, Any]]:
    return [each for where, each in server.objects.items() if where.startswith(ALL)]


def test_the_route_and_the_canarys_service_tell_it() -> None:
    server = FakeKubernetes()
    cluster(server).record(SPEC, NEWS)
    about = {each["involvedObject"]["kind"]: each for each in told(server)}
    assert {*about} == {"HTTPRoute", "InferenceService"}
    route = about["HTTPRoute"]
    assert route["involvedObject"]["uid"] == server.objects[braked_path(SPEC)]["metadata"]["uid"]
    assert (route["reason"], route["type"], route["message"]) == ("CanaryMoved", "Normal", "v2 gets 25 %")
    assert route["firstTimestamp"] == route["lastTimestamp"] == "2026-03-01T12:00:00Z"


def test_the_same_news_is_there_once_and_other_news_beside_it() -> None:
    server = FakeKubernetes()
    kubernetes = cluster(server)
    for _ in range(3):
        kubernetes.record(SPEC, NEWS)
    assert len(told(server)) == 2
    kubernetes.record(SPEC, replace(NEWS, key="a/c"))
    assert len(told(server)) == 4


def test_what_is_not_there_has_no_events() -> None:
    server = FakeKubernetes()
    kubernetes = cluster(server)
    kubernetes.record(SPEC, replace(NEWS, version="v9"))
    assert len(told(server)) == 1
    server.objects.clear()
    kubernetes.record(SPEC, NEWS)
    assert told(server) == []


def test_every_kind_of_news_has_a_reason() -> None:
    assert {*REASONS} == {*get_args(rollout_events.Kind)}
    assert {*WARNINGS} < {*REASONS}
    standing = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"}}
    for kind in REASONS:
        made = event(standing, replace(NEWS, kind=kind, message="m" * 2000))
        assert made["reason"].isalnum()
        assert made["type"] == ("Warning" if kind in WARNINGS else "Normal")
        assert len(made["message"]) == LONGEST


@pytest.fixture
def world(spec: ModelSpec) -> World:
    made = World(quick(spec, steps=(0.5,), bake=5.0, timeout=1.0), rate=400)
    made.propose(1, None)
    made.wait(30)
    made.propose(2, "v1")
    return made


def test_a_rollout_tells_each_of_its_steps(world: World) -> None:
    heard: list[str] = []
    world.model = replace(world.model, note=lambda event: heard.append(event.kind))
    world.run()
    assert heard == [each.kind for each in world.posted]
    assert heard == ["proposed", "moved", "moved", "promoted"]


@pytest.mark.parametrize("status", [403, 409, 422, 429, 500])
def test_what_the_server_refuses_does_not_stop_the_rollout(world: World, status: int) -> None:
    server = FakeKubernetes()
    kubernetes = cluster(server)

    def refuse(method: str, path: str) -> None:
        raise refusal(status)

    server.before = refuse
    world.model = replace(world.model, note=noter(world.spec, kubernetes))
    troubles: set[str] = set()

    def until(told: Any) -> bool:
        troubles.update(told.troubles)
        return bool(told.rests)

    world.run(until=until)
    assert world.state.phase == "succeeded"
    assert troubles == (set() if status == 409 else {"events"})


def test_elsewhere_than_on_kubernetes_nothing_is_written(world: World) -> None:
    assert noter(world.spec, world) is None


def test_without_the_right_to_it_that_is_said() -> None:
    server = FakeKubernetes()
    kubernetes = cluster(server)

    def refuse(method: str, path: str) -> None:
        if method == "POST":
            raise refusal(403, "events is forbidden")

    server.before = refuse
    with pytest.raises(AccessError, match="rbac"):
        kubernetes.record(SPEC, NEWS)
