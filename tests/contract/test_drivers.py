"""Every traffic driver: what it writes it reads back, KServe knows every field of it, and nonsense is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from upkeep.errors import InputError
from upkeep.serving.cluster import Facts
from upkeep.serving.drivers import DRIVERS
from upkeep.serving.drivers.driver import TrafficDriver
from upkeep.serving.manifests import KUSTOMIZATION_FILE, ServedVersion
from upkeep.spec.model import Data, Features, Metadata, ModelSpec, Retrain, Target

SPEC = ModelSpec(
    metadata=Metadata(name="flight-delays"),
    store="s3://upkeep",
    data=Data(source="x", target=Target(column="y"), features=Features()),
    candidates=(Retrain(name="a", strategy="retrain", estimator="sklearn.tree.DecisionTreeClassifier"),),
)
VERSIONS = {
    "v9": ServedVersion(version="v9", digest="1" * 64, update="2026-03-01-1", format="delta"),
    "v10": ServedVersion(version="v10", digest="0" * 58 + "123e45", update="1e5", format="ensemble"),
}
ALONE = {"v9": VERSIONS["v9"]}
drivers = pytest.mark.parametrize("driver", DRIVERS.values(), ids=list(DRIVERS))


def written(driver: TrafficDriver, weight: int = 25) -> dict[str, bytes]:
    return driver.files(SPEC, VERSIONS, "v9", {"v9": 100 - weight, "v10": weight}, {})


def objects(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    return [yaml.safe_load(data) for name, data in files.items() if name != KUSTOMIZATION_FILE]


@drivers
@given(weight=st.integers(0, 100))
def test_what_is_written_is_read_back(driver: TrafficDriver, weight: int) -> None:
    files = written(driver, weight)
    deployed = driver.read(SPEC, files)
    assert deployed.versions == VERSIONS
    assert list(deployed.versions) == ["v9", "v10"]
    assert deployed.weights == {"v9": 100 - weight, "v10": weight}
    assert written(driver, weight) == files
    assert all(driver.owns(name) for name in files)
    applied = yaml.safe_load(files[KUSTOMIZATION_FILE])["resources"]
    assert sorted(applied) == sorted(set(files) - {KUSTOMIZATION_FILE})


@drivers
def test_a_champion_alone(driver: TrafficDriver) -> None:
    deployed = driver.read(SPEC, driver.files(SPEC, ALONE, "v9", {"v9": 100}, written(driver)))
    assert (deployed.versions, deployed.weights) == (ALONE, {"v9": 100})


@drivers
def test_moving_traffic_restarts_no_server(driver: TrafficDriver) -> None:
    """Between two weights nothing differs but numbers: no pod template changes."""
    one, other = written(driver, 5), written(driver, 50)
    differ = {name for name in one if one[name] != other[name]}
    assert len(differ) == 1
    name = differ.pop()
    lines = zip(one[name].decode().splitlines(), other[name].decode().splitlines(), strict=True)
    changed = [pair for pair in lines if pair[0] != pair[1]]
    assert changed
    assert all("eight" in line or "Percent" in line for pair in changed for line in pair)


@drivers
def test_a_missing_file_is_told(driver: TrafficDriver) -> None:
    files = written(driver)
    for name in files:
        with pytest.raises(InputError):
            driver.read(SPEC, {each: data for each, data in files.items() if each != name}, "models/m/")


@drivers
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"25", b"125"),
        (b"25", b"-1"),
        (b"25", b"2.5"),
        (b"25", b"many"),
        (b"0123e45", b"0123e46"),
        (b"flight-delays", b"other"),
        (b"inference", b"{"),
    ],
)
def test_nonsense_is_told_with_its_place(driver: TrafficDriver, old: bytes, new: bytes) -> None:
    files = written(driver)
    for name, data in files.items():
        # one occurrence alone: a value that stands twice must not disagree with itself unseen
        if old not in data or (old == b"0123e45" and data.count(old) < 2):
            continue
        with pytest.raises(InputError) as caught:
            driver.read(SPEC, files | {name: data.replace(old, new, 1)}, "models/m/")
        assert str(caught.value.problems[0].where).startswith("models/m/")
        break


@drivers
def test_kserve_knows_every_field(driver: TrafficDriver) -> None:
    """KServe's own Python models, strictly: a field they do not know would be ignored on a cluster."""
    import kserve

    for manifest in objects(written(driver)):
        if manifest["kind"] == "InferenceService":
            assert unknown(manifest["spec"], kserve.V1beta1InferenceServiceSpec, "spec") == []
            wrong = manifest["spec"] | {"canaries": []}
            assert unknown(wrong, kserve.V1beta1InferenceServiceSpec, "spec") == ["spec.canaries"]


def unknown(value: Any, kind: Any, path: str) -> list[str]:
    """Paths within ``value`` that the generated model ``kind`` has no attribute for."""
    import kserve

    found = []
    names = {json: (attribute, kind.openapi_types[attribute]) for attribute, json in kind.attribute_map.items()}
    for key, item in value.items():
        if key not in names:
            found.append(f"{path}.{key}")
            continue
        wanted = names[key][1]
        inner = wanted[5:-1] if wanted.startswith("list[") else wanted
        model = getattr(kserve, inner, None)
        if model is None or not hasattr(model, "openapi_types"):
            continue
        for each in item if isinstance(item, list) else [item]:
            found += unknown(each, model, f"{path}.{key}")
    return found


# --- live ----------------------------------------------------------------------------------------------------------


READY = {"conditions": [{"type": "Ready", "status": "True"}], "modelStatus": {"transitionStatus": "UpToDate"}}


def test_route_reads_its_own_route_and_every_service() -> None:
    driver = DRIVERS["route"]
    live = objects(written(driver))
    for each in live:
        if each["kind"] == "InferenceService":
            each["status"] = READY
    live[-1]["status"] = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "modelStatus": {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": {"message": "no such digest"}},
    }
    broken = live[-1]["metadata"]["annotations"]["upkeep.dev/version"]
    found = driver.live(SPEC, live)
    assert found.weights == {"v9": 75, "v10": 25}
    assert set(found.services) == {"v9", "v10"}
    other = "v9" if broken == "v10" else "v10"
    assert found.services[other].ready
    assert found.services[other].digest == VERSIONS[other].digest
    assert not found.services[broken].ready
    assert found.services[broken].message == "no such digest"


def test_route_does_not_go_by_a_route_that_somebody_else_wrote() -> None:
    driver = DRIVERS["route"]
    live = objects(written(driver))
    route = next(each for each in live if each["kind"] == "HTTPRoute")
    route["spec"]["rules"][-1]["filters"] = [{"type": "RequestMirror"}]
    assert driver.live(SPEC, live).weights is None
    assert driver.live(SPEC, []).weights is None


def test_canary_reads_weights_where_the_gateway_is_told() -> None:
    driver = DRIVERS["canary"]
    service = next(each for each in objects(written(driver)) if each["kind"] == "InferenceService")
    service["status"] = READY | {
        "canaryStatuses": [
            {"name": "v10", "ready": True, "trafficPercent": 25, "modelStatus": {"transitionStatus": "UpToDate"}}
        ]
    }
    alone = driver.live(SPEC, [service])
    assert alone.weights is None  # the status only repeats the spec
    assert alone.services["v9"].ready
    assert alone.services["v10"].ready
    weights = {"v9": 90, "v10": 10}
    backends = [{"name": f"flight-delays-{name}-predictor", "weight": weights[name]} for name in weights]
    route = {
        "kind": "HTTPRoute",
        "metadata": {"name": "flight-delays"},
        "spec": {"rules": [{"backendRefs": backends}]},
    }
    assert driver.live(SPEC, [service, route]).weights == weights
    service["status"]["canaryStatuses"][0]["ready"] = False
    assert not driver.live(SPEC, [service, route]).services["v10"].ready


@pytest.mark.parametrize(
    ("ready", "traffic", "weights", "came_up"),
    [
        ("r2", [("r2", 25), ("r1", 75)], {"v9": 75, "v10": 25}, True),
        # The newest is not up yet: what is called latest still is the champion.
        ("r1", [("r1", 100)], {"v9": 100, "v10": 0}, False),
        ("r2", [("r2", 100)], {"v9": 0, "v10": 100}, True),
        ("r2", [], None, True),
    ],
)
def test_knative_reads_revisions(ready: str, traffic: Any, weights: Any, came_up: bool) -> None:
    driver = DRIVERS["knative"]
    (service,) = objects(written(driver))
    told = [{"revisionName": name, "percent": percent} for name, percent in traffic]
    component = {"latestCreatedRevision": "r2", "latestReadyRevision": ready, "traffic": told}
    service["status"] = READY | {"components": {"predictor": component}}
    found = driver.live(SPEC, [service])
    assert found.weights == weights
    assert found.services["v10"].ready is came_up


@pytest.mark.parametrize(
    ("traffic", "facts", "word"),
    [
        ("canary", Facts(place="x", kserve=(0, 20, 0)), "sends it no traffic"),
        ("canary", Facts(place="x", mode="Knative"), "outside Standard mode"),
        ("canary", Facts(place="x", gateway_api=False), "enableGatewayApi"),
        ("canary", Facts(place="one machine", drivers=frozenset({"route"})), "one machine does not know"),
        ("knative", Facts(place="x", knative=False), "no Knative Serving"),
        ("route", Facts(place="x", http_routes=False), "no HTTPRoute"),
    ],
)
def test_what_would_be_ignored_is_refused(traffic: str, facts: Facts, word: str) -> None:
    (problem,) = DRIVERS[traffic].refusals(SPEC, facts)
    assert word in problem.message
    assert problem.fix


@drivers
def test_a_cluster_that_has_all_is_not_refused(driver: TrafficDriver) -> None:
    good = Facts(place="x", kserve=(0, 21, 0), mode=None, gateway_api=True, http_routes=True, knative=True)
    assert driver.refusals(SPEC, good) == ()
