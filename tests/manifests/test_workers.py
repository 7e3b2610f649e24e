"""What a train step needs for its workers is what the component gives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.manifests.build import ROOT, Object, built, with_component
from tests.unit.update.test_workers import World, all_of
from upkeep.errors import OutsideError
from upkeep.update import workers

KINDS = {"tfjobs": "kubeflow.org", "pods": ""}


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Object]:
    folder = with_component(ROOT / "components/workers", tmp_path_factory.mktemp("workers"))
    return {each["kind"]: each for each in built(folder) if each["metadata"]["name"].startswith("upkeep-worker")}


def asked(world: World) -> set[tuple[str, str]]:
    """(verb, kind) of every request of the step's; PATCH is the operator's."""
    found = set()
    for method, path in world.server.asked:
        if method == "PATCH":
            continue
        kind, name = re.fullmatch(r"/apis?/.*v1/namespaces/team/(\w+)(?:/(.+))?", path).groups()  # type: ignore[union-attr]
        verb = {"GET": "get" if name else "list", "POST": "create", "DELETE": "delete"}[method]
        found.add((verb, kind))
    return found


def test_the_role_grants_exactly_the_calls(
    objects: dict[str, Object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    monkeypatch.setattr(workers, "open_api", lambda _: world.api)
    ends = all_of(lambda: world.handover.leave("abc"), world.status("Succeeded"))
    world.train(lambda: None, ends)
    calls = asked(world)
    world = World(tmp_path / "again")
    with pytest.raises(OutsideError):  # nobody comes: pods are looked at
        world.train()
    granted = {
        (verb, resource)
        for rule in objects["Role"]["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if rule["apiGroups"] == [KINDS[resource]]
    }
    assert calls | asked(world) == granted


def test_the_policy_lets_workers_reach_each_other(objects: dict[str, Object], tmp_path: Path) -> None:
    job: dict[str, Any] = World(tmp_path).template
    template = job["spec"]["tfReplicaSpecs"]["Worker"]["template"]
    policy = objects["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (port,) = template["spec"]["containers"][0]["ports"]
    for way, others in (("ingress", "from"), ("egress", "to")):
        rule = policy[way][0]
        assert rule[others] == [{"podSelector": policy["podSelector"]}]
        assert rule["ports"] == [{"protocol": "TCP", "port": port["name"]}]
