from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from upkeep.errors import InputError, SpecError
from upkeep.serving.manifests import (
    ServedVersion,
    backend_name,
    model_uri,
    read_resources,
    read_version,
    read_weights,
    render_kustomization,
    render_route,
    render_version,
    route_name,
    service_name,
    version_number,
)
from upkeep.serving.server.__main__ import parse
from upkeep.spec.model import (
    Data,
    Features,
    Metadata,
    ModelSpec,
    Monitoring,
    ObjectStore,
    Payloads,
    Privacy,
    Retrain,
    Serving,
    Target,
)

SPEC = ModelSpec(
    metadata=Metadata(name="flight-delays"),
    store="s3://upkeep/",
    data=Data(source="x", target=Target(column="y"), features=Features()),
    candidates=(Retrain(name="a", strategy="retrain", estimator="sklearn.tree.DecisionTreeClassifier"),),
)
V13 = ServedVersion(version="v13", digest="3f" * 32, update="update-7")
NUMBERS = st.integers(1, 10**6)


def test_a_version_is_one_service_that_says_what_it_serves() -> None:
    manifest = yaml.safe_load(render_version(SPEC, V13))
    assert manifest["metadata"]["name"] == "flight-delays-v13"
    assert manifest["metadata"]["annotations"] == {
        "serving.kserve.io/deploymentMode": "Standard",
        "upkeep.dev/version": "v13",
        "upkeep.dev/digest": V13.digest,
        "upkeep.dev/update": "update-7",
        "upkeep.dev/card": "s3://upkeep/flight-delays/versions/v13.json",
    }
    model = manifest["spec"]["predictor"]["model"]
    assert model["storageUri"] == f"s3://upkeep/flight-delays/models/{V13.digest}"
    assert model["runtime"] == "upkeep-server"
    assert model["resources"]["limits"] == model["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}
    # Both versions answer to the model's name, whichever of them a request meets.
    assert model["args"][0] == "--model_name=flight-delays"


def test_a_server_logs_where_its_pod_does_not_end() -> None:
    def given(spec: ModelSpec) -> tuple[list[str], dict[str, str]]:
        model = yaml.safe_load(render_version(spec, V13))["spec"]["predictor"]["model"]
        return model["args"][1:], {each["name"]: each["value"] for each in model["env"]}

    private = replace(
        SPEC,
        data=replace(SPEC.data, privacy=Privacy(drop=("tail",), hash=("email",))),
        object_store=ObjectStore(endpoint="http://minio:9000"),
    )
    args, env = given(private)
    assert args == ["--namespace=models", "--payloads=s3://upkeep/flight-delays/payloads", "--payload-drop=tail,email"]
    assert parse(["--model_name=m", *args], env).payload_drop == ("tail", "email")
    assert env["AWS_ENDPOINT_URL"] == "http://minio:9000"
    for payloads in (Payloads(log=False), Payloads(source="/a/folder")):
        args, env = given(replace(private, monitoring=Monitoring(payloads=payloads)))
        assert args == [] and "AWS_ENDPOINT_URL" not in env


def test_the_server_of_a_delta_is_told_where_its_base_is() -> None:
    spec = replace(SPEC, object_store=ObjectStore(endpoint="http://minio:9000"))
    delta = replace(V13, format="delta")
    written = render_version(spec, delta)
    given = {each["name"]: each["value"] for each in yaml.safe_load(written)["spec"]["predictor"]["model"]["env"]}
    assert given["UPKEEP_MODELS"] == "s3://upkeep/flight-delays/models"
    assert given["AWS_ENDPOINT_URL"] == "http://minio:9000"
    assert read_version(written, "flight-delays", "v13.yaml") == delta
    assert b"UPKEEP_MODELS" not in render_version(spec, V13)


def test_the_route_pins_testers_and_weighs_everybody_else() -> None:
    route = yaml.safe_load(render_route(SPEC, {"v13": 0, "v9": 100}))
    *pinning, last = route["spec"]["rules"]
    assert [rule["matches"][0]["headers"][0]["value"] for rule in pinning] == ["v9", "v13"]
    assert [rule["backendRefs"][0]["name"] for rule in pinning] == [
        "flight-delays-v9-predictor",
        "flight-delays-v13-predictor",
    ]
    assert [(ref["name"], ref["weight"]) for ref in last["backendRefs"]] == [
        ("flight-delays-v9-predictor", 100),
        ("flight-delays-v13-predictor", 0),
    ]
    assert route["spec"]["hostnames"] == ["flight-delays.models.example"]
    assert "headers" not in last["matches"][0]


@pytest.mark.parametrize("weights", [{"v1": 99}, {"v1": 101, "v2": -1}, {"v1": 0}])
def test_weights_that_are_no_split_are_never_written(weights: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="sum to 100"):
        render_route(SPEC, weights)


def test_the_same_release_gives_the_same_bytes() -> None:
    assert render_route(SPEC, {"v2": 5, "v10": 95}) == render_route(SPEC, {"v10": 95, "v2": 5})
    assert render_kustomization(["v10", "v2"]) == render_kustomization(["v2", "v10"])
    one = replace(SPEC, serving=Serving(resources={"cpu": "1", "memory": "2Gi"}))
    two = replace(SPEC, serving=Serving(resources={"memory": "2Gi", "cpu": "1"}))
    assert render_version(one, V13) == render_version(two, V13)


@given(number=NUMBERS, other=NUMBERS, name=st.from_regex(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True))
def test_no_service_is_called_like_the_route_or_the_model(number: int, other: int, name: str) -> None:
    service = service_name(name, f"v{number}")
    taken = {name, route_name(name)}
    assert not taken & {service, backend_name(name, f"v{number}")}
    assert service_name(route_name(name), f"v{other}") not in {*taken, service}
    assert len(backend_name(name, f"v{number}")) <= 63


@settings(max_examples=50)
@given(numbers=st.lists(NUMBERS, min_size=2, max_size=2, unique=True), weight=st.integers(0, 100))
def test_what_is_written_is_read_back(numbers: list[int], weight: int) -> None:
    one, two = (f"v{number}" for number in numbers)
    weights = {one: 100 - weight, two: weight}
    assert read_weights(render_route(SPEC, weights), SPEC.name) == weights
    assert read_resources(render_kustomization(weights)) == tuple(sorted(weights, key=version_number))


@pytest.mark.parametrize("digest", ["3f" * 32, "1" * 64, "0" * 62 + "e1", "12e4" + "5" * 60])
def test_a_digest_stays_text_whatever_it_looks_like(digest: str) -> None:
    version = replace(V13, digest=digest, update="1e5")
    data = render_version(SPEC, version)
    assert read_version(data, SPEC.name, "m/v13.yaml") == version
    assert f'"{digest}"'.encode() in data


Edit = Callable[[str], str]
ROUTE_EDITS: dict[str, tuple[Edit, str]] = {
    "sum": (lambda text: text.replace("weight: 95", "weight: 94"), r"route\.yaml:52:5, .*: the weights sum to 99"),
    "text": (lambda text: text.replace("weight: 95", 'weight: "95"'), r":57:7, spec\.rules\[2\].*weight"),
    "half": (lambda text: text.replace("weight: 95", "weight: 94.5"), r"weight` cannot be 94\.5"),
    "negative": (lambda text: text.replace("weight: 95", "weight: 105").replace(" 5\n", " -5\n"), "0 to 100"),
    "service": (lambda text: text.replace("name: flight-delays-v12-p", "name: mine-p"), "mine-predictor is no version"),
    "twice": (lambda text: text.replace("-v13-", "-v12-"), "v12 is here twice|must lead to"),
    "wrong pin": (lambda text: text.replace("value: v13", "value: v12"), "must lead to the version"),
    "open pin": (lambda text: text.replace("      headers:\n      - type: Exact\n        name: x-upkeep-version\n"
                                           "        value: v13\n", ""), "without the header"),
    "filter": (lambda text: text + "    filters: []\n", r"`spec\.rules\[2\]\.filters` is nothing that Upkeep writes"),
    "timeouts": (lambda text: text.replace("hostnames:", "timeouts: {}\n  hostnames:"), "spec.timeouts"),
    "name": (lambda text: text.replace("flight-delays-route", "flight-delays"), "not flight-delays's|is not"),
    "no rules": (lambda text: text[: text.index("  rules:")], r"`spec\.rules` is missing"),
    "empty rules": (lambda text: text[: text.index("  rules:")] + "  rules: []\n", "without rules"),
    "port": (lambda text: text.replace("port: 80", "port: 8080"), r"port` cannot be 8080"),
    "merge key": (lambda text: text.replace("metadata:", "metadata:\n  <<: {name: x}"), "plain text"),
    "two documents": (lambda text: text + "---\na: b\n", "no YAML"),
    "tab": (lambda text: text.replace("  name:", "\tname:"), "no YAML"),
    "list": (lambda text: "- a\n", "no mapping"),
    "alias": (lambda text: text.replace("labels:", "labels: &a {b: *a}\n  x:"), "nested too deep|no YAML|too large"),
}  # fmt: skip


@pytest.mark.parametrize("edit", ROUTE_EDITS)
def test_a_route_that_makes_no_sense_is_refused(edit: str) -> None:
    change, message = ROUTE_EDITS[edit]
    text = render_route(SPEC, {"v12": 95, "v13": 5}).decode()
    assert change(text) != text
    with pytest.raises(InputError, match=message) as caught:
        read_weights(change(text).encode(), SPEC.name)
    assert all(problem.where.line and problem.fix for problem in caught.value.problems)


@settings(max_examples=150)
@given(data=st.data())
def test_a_route_cut_or_garbled_anywhere_gives_weights_or_words(data: st.DataObject) -> None:
    whole = render_route(SPEC, {"v12": 95, "v13": 5})
    at = data.draw(st.integers(0, len(whole)))
    middle = data.draw(st.binary(max_size=4))
    skipped = data.draw(st.integers(0, 8))
    try:
        weights = read_weights(whole[:at] + middle + whole[at + skipped :], SPEC.name)
    except InputError as error:
        assert error.problems[0].where.file == "route.yaml"
    else:
        assert sum(weights.values()) == 100


VERSION_EDITS: dict[str, tuple[Edit, str]] = {
    "bytes": (lambda text: text.replace("models/3f", "models/4f"), r"v13\.yaml:25:7, .*other bytes"),
    "digest": (lambda text: text.replace("3f" * 32, "3f" * 31), "64 hexadecimal"),
    "version": (lambda text: text.replace('version: "v13"', 'version: "v14"'), r"the file is v13\.yaml"),
    "name": (lambda text: text.replace("name: flight-delays-v13", "name: flight-delays"), "name is not"),
    "annotation": (lambda text: text.replace("upkeep.dev/update", "upkeep.dev/upd"), "upkeep.dev/update is missing"),
    "model": (lambda text: text.replace("    model:", "    sklearn:"), r"`spec\.predictor\.model` is missing"),
    "kind": (lambda text: text.replace("InferenceService", "Service"), "kind"),
}


@pytest.mark.parametrize("edit", VERSION_EDITS)
def test_a_service_that_is_not_what_it_says_is_refused(edit: str) -> None:
    change, message = VERSION_EDITS[edit]
    text = render_version(SPEC, V13).decode()
    assert change(text) != text
    with pytest.raises(InputError, match=message):
        read_version(change(text).encode(), SPEC.name, "models/flight-delays/v13.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resources: [route.yaml, v1.yaml, v1.yaml]", r":3:34, resources\[2\]: v1.yaml is no resource"),
        ("resources: [v1.yaml]", "route.yaml is not among"),
        ("resources: [route.yaml, ../other]", "overlay"),
        ("resources: [route.yaml]\npatches: []", "`patches` is nothing"),
    ],
)
def test_a_kustomization_that_is_not_upkeeps_is_refused(text: str, message: str) -> None:
    head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
    with pytest.raises(InputError, match=message):
        read_resources((head + text).encode())


def test_addresses() -> None:
    assert model_uri(replace(SPEC, store="/a b/ö"), "x") == "file:///a%20b/%C3%B6/flight-delays/x"
    assert model_uri(replace(SPEC, store="file:///a/"), "x") == "file:///a/flight-delays/x"
    with pytest.raises(SpecError, match="relative"):
        model_uri(replace(SPEC, store=".upkeep"), "x")


@pytest.mark.parametrize("version", ["13", "v0", "v01", "v-1", "v1 ", "", "v1\n"])
def test_what_is_no_version(version: str) -> None:
    with pytest.raises(ValueError, match="no version"):
        version_number(version)
