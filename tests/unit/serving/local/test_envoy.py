"""Envoy's configuration, held to Envoy itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from upkeep.serving.local import envoy
from upkeep.serving.local.gateway import program

MODEL = envoy.ModelRoute(model="m-x", hosts=("m.models.example",), weights={"v1": 95, "v2": 5}, timeout=2.5)


def test_envoy_accepts_the_bootstrap_with_clusters_and_routes_in_it(tmp_path: Path) -> None:
    names = [envoy.cluster_name("m-x", version, pinned=pinned) for version in ("v1", "v2") for pinned in (False, True)]
    bootstrap = envoy.bootstrap(
        port=8080, admin_port=9901, folder=str(tmp_path), access_log=str(tmp_path / "log"), latencies=[0.25, 1.0]
    )
    # What it would watch in files, where `validate` looks at it.
    del bootstrap["dynamic_resources"]
    clusters = envoy.clusters(dict.fromkeys(names, 7001) | {names[0]: None})["resources"]
    bootstrap["static_resources"]["clusters"] += [_untyped(cluster) for cluster in clusters]
    manager = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["rds"]
    manager["route_config"] = _untyped(envoy.routes([MODEL])["resources"][0])
    (tmp_path / "bootstrap.json").write_text(json.dumps(bootstrap))
    command = [program(), "--mode", "validate", "-c", str(tmp_path / "bootstrap.json"), "--log-level", "warning"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "deprecated" not in (said.stdout + said.stderr).lower()


def _untyped(resource: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in resource.items() if key != "@type"}


def test_a_pinned_request_goes_to_a_cluster_of_its_own_before_the_weights_are_asked() -> None:
    *pinned, last = envoy.routes([MODEL])["resources"][0]["virtual_hosts"][0]["routes"]
    assert [(r["match"]["headers"][0]["string_match"]["exact"], r["route"]["cluster"]) for r in pinned] == [
        ("v1", "m-x-v1-predictor-pinned"),
        ("v2", "m-x-v2-predictor-pinned"),
    ]
    assert [(c["name"], c["weight"]) for c in last["route"]["weighted_clusters"]["clusters"]] == [
        ("m-x-v1-predictor", 95),
        ("m-x-v2-predictor", 5),
    ]
    assert {route["route"]["timeout"] for route in (*pinned, last)} == {"2.500s"}
    assert not any("retry_policy" in route["route"] for route in (*pinned, last))


def test_weights_are_read_back_from_what_envoy_dumps() -> None:
    (configuration,) = envoy.routes([MODEL])["resources"]
    for host in configuration["virtual_hosts"]:
        for route in host["routes"]:
            for each in route.get("route", {}).get("weighted_clusters", {}).get("clusters", ()):
                if each["name"] == "m-x-v2-predictor":
                    each["weight"] = 0
    assert envoy.read_routes({"configs": [{"route_config": configuration}]}) == {"m-x": {"v1": 95, "v2": 0}}
    assert envoy.read_routes({"configs": [{"route_config": {"name": "another"}}]}) == {}
    assert envoy.read_routes({}) == {}


def test_the_version_names_the_content() -> None:
    one, same = envoy.clusters({"a": 1}), envoy.clusters({"a": 1})
    assert one == same
    assert one["version_info"] != envoy.clusters({"a": 2})["version_info"]
