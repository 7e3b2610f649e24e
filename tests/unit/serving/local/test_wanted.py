"""A commit read as kustomize would: what the resources name, and no more."""

from __future__ import annotations

import pytest

from upkeep.errors import InputError
from upkeep.serving.local.wanted import Manifests, Wanted, read_wanted
from upkeep.serving.manifests import (
    ServedVersion,
    render_kustomization,
    render_route,
    render_version,
)
from upkeep.spec.model import Data, Features, Metadata, ModelSpec, Retrain, Target

SPEC = ModelSpec(
    metadata=Metadata(name="tiny"),
    store="/store",
    data=Data(source="x", target=Target(column="y"), features=Features()),
    candidates=(Retrain(name="a", strategy="retrain", estimator="sklearn.tree.DecisionTreeClassifier"),),
)


def files(weights: dict[str, int], folder: str = "models/tiny") -> dict[str, bytes]:
    made = {"kustomization.yaml": render_kustomization(weights), "route.yaml": render_route(SPEC, weights)}
    for version in weights:
        served = ServedVersion(version=version, digest=f"{int(version[1:]):064x}", update="u")
        made[f"{version}.yaml"] = render_version(SPEC, served)
    return {f"{folder}/{name}" if folder else name: content for name, content in made.items()}


def read(found: dict[str, bytes], folder: str = "models/tiny", commit: str | None = "c1") -> Wanted | None:
    return read_wanted("tiny", Manifests(commit=commit, folder=folder, files=found))


@pytest.mark.parametrize("folder", ["models/tiny", ""])
def test_versions_weights_and_hosts(folder: str) -> None:
    wanted = read(files({"v1": 90, "v2": 10}, folder), folder)
    assert wanted is not None
    assert wanted.weights == {"v1": 90, "v2": 10}
    assert wanted.hosts == ("tiny.models.example",)
    assert wanted.servers["v2"].storage_uri == f"file:///store/tiny/models/{2:064x}"
    assert wanted.servers["v2"].service == "tiny-v2"


def test_a_file_that_no_resource_names_is_not_applied() -> None:
    found = files({"v1": 100}) | {"models/tiny/rollout.yaml": b"x", "models/tiny/v7.yaml": b"no manifest"}
    wanted = read(found)
    assert wanted is not None
    assert {*wanted.servers} == {"v1"}


def test_nothing_is_wanted_of_an_empty_repository_or_folder() -> None:
    assert read({}, commit=None) is None
    assert read({"README.md": b""}) is None
    assert read({"README.md": b""}, folder="") is None


def test_a_route_to_a_version_that_is_not_applied_is_refused() -> None:
    found = files({"v1": 50, "v2": 50})
    found["models/tiny/kustomization.yaml"] = render_kustomization(["v1"])
    with pytest.raises(InputError, match=r"route.yaml: the route leads to v2"):
        read(found)


@pytest.mark.parametrize("name", ["route.yaml", "kustomization.yaml", "v1.yaml"])
def test_a_missing_file_is_named(name: str) -> None:
    found = files({"v1": 100})
    del found[f"models/tiny/{name}"]
    with pytest.raises(InputError, match=rf"models/tiny/{name}: the file is missing"):
        read(found)


def test_a_route_without_a_host_is_refused_with_its_line() -> None:
    found = files({"v1": 100})
    route = found["models/tiny/route.yaml"].replace(b"  hostnames:\n  - tiny.models.example\n", b"  hostnames: []\n")
    assert route != found["models/tiny/route.yaml"]
    with pytest.raises(InputError, match=r"route.yaml:\d+"):
        read(found | {"models/tiny/route.yaml": route})
