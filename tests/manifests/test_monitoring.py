"""Alerts fire when they should and not else, and neither they nor the dashboard name a metric that nobody exports."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, get_args

import httpx
import pytest
import yaml
from prometheus_client import generate_latest, start_http_server

from tests.manifests.build import ROOT, built, with_component
from tests.unit.data import make
from tests.unit.rollout.world import World
from upkeep.evaluation.result import VerdictName
from upkeep.rollout.metrics import TROUBLES
from upkeep.rollout.metrics import Metrics as RolloutMetrics
from upkeep.rollout.state import Phase
from upkeep.rollout.watch import Report
from upkeep.serving.server.metrics import Metrics as ServerMetrics
from upkeep.update.record import UpdateRecord

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (it comes with prometheus)")

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "monitoring/rules.yaml").read_text())["spec"]["groups"]
    for rule in group["rules"]
]
ALERTS = {each["alert"]: each for each in RULES if "alert" in each}
RECORDS = {each["record"]: each["expr"] for each in RULES if "record" in each}
DASHBOARD = json.loads((ROOT / "monitoring/dashboard.json").read_text())
SCRAPED = {"instance", "job", "namespace", "pod", "container", "endpoint"}
"""Labels that Prometheus adds."""
RUNBOOKS = ROOT.parent / "docs/how-to/runbooks.md"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return built(with_component(ROOT / "monitoring", tmp_path_factory.mktemp("monitoring")))


def rules_file(folder: Path, groups: list[dict[str, Any]]) -> Path:
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": groups}))
    return path


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *words], capture_output=True, text=True, check=False, timeout=60)


# --- the metrics are there -----------------------------------------------------------------------------------------


def exported() -> dict[str, set[str]]:
    """Series → its labels, from the very registries that the processes serve."""
    server = ServerMetrics("m", "v1", "0" * 64)
    server.watch_drops(lambda: {"full": 0})
    found: dict[str, set[str]] = {}
    for registry in (server.registry, RolloutMetrics().registry):
        for collector in list(registry._collector_to_names):
            labels = set(getattr(collector, "_labelnames", ()))
            for family in collector.collect():
                names = {
                    "counter": (f"{family.name}_total",),
                    "histogram": tuple(f"{family.name}_{end}" for end in ("bucket", "count", "sum")),
                }.get(family.type, (family.name,))
                for sample in family.samples:
                    labels |= sample.labels.keys()
                for name in names:
                    found[name] = labels | ({"le"} if name.endswith("_bucket") else set()) - SCRAPED
    return found


EXPORTED = exported()


def known() -> dict[str, set[str]]:
    """Exported series and recorded ones, each with its labels."""
    found = dict(EXPORTED)
    for name, expression in RECORDS.items():
        by = re.search(r"by \(([^)]*)\)", expression)
        assert by, expression
        labels = set(re.findall(r"\w+", by[1]))
        if expression.startswith("topk"):
            (source,) = re.findall(r"\bupkeep_\w+", expression)
            labels = EXPORTED[source] | SCRAPED
        found[name] = labels - ({"le"} if expression.startswith("histogram_quantile") else set())
    return found


KNOWN = known()
VALUES: Mapping[str, set[str]] = {
    "phase": {*get_args(Phase)},
    "kind": {*TROUBLES},
    "verdict": {*get_args(VerdictName)},
    "drift": {"drift", "stable", "insufficient"},
}


def queries() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of every rule and every panel."""
    for rule in RULES:
        yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


each_query = pytest.mark.parametrize(("where", "query"), list(queries()))


def test_the_registries_were_read() -> None:
    assert EXPORTED["upkeep_server_requests_total"] == {"model", "version", "digest", "protocol", "code"}
    assert EXPORTED["upkeep_server_payload_dropped_total"] == {"model", "version", "digest", "reason"}
    assert EXPORTED["upkeep_rollout_phase"] == {"model", "phase"}
    assert "upkeep_server_request_seconds_bucket" in EXPORTED


@each_query
def test_every_metric_of_a_query_is_exported_and_has_the_labels(where: str, query: str) -> None:
    text = re.sub(r'"[^"]*"', '""', query)
    used = set(re.findall(r"\bupkeep[_:][\w:]+", text))
    assert used, query
    assert used <= KNOWN.keys()
    there = set().union(*(KNOWN[name] for name in used)) | SCRAPED
    for grouping in re.findall(r"\b(?:by|on|without|ignoring|group_left) \(([^)]*)\)", text):
        assert set(re.findall(r"\w+", grouping)) <= there, grouping
    for name, selector in re.findall(r"\b(upkeep[_:][\w:]+)\{([^}]*)\}", query):
        for label, values in re.findall(r'(\w+)\s*[=!]~?"([^"]*)"', selector):
            assert label in KNOWN[name], f"{name} has no {label}"
            if label in VALUES:
                assert {*values.split("|")} <= VALUES[label], values
            elif label == "outcome":
                documented = (UpdateRecord.__doc__ or "") + Path(_source(UpdateRecord)).read_text()
                assert all(re.search(rf"\b{value}\b", documented) for value in values.split("|"))


def _source(kind: type) -> str:
    import inspect

    return inspect.getfile(kind)


@needs_promtool
def test_prometheus_itself_has_nothing_to_say_about_the_pages() -> None:
    server = ServerMetrics("m", "v1", "0" * 64)
    server.watch_drops(lambda: {"full": 0})
    server.ready(["yes"])
    server.answered("v1", 200, 0.1)
    server.predicted(1, [1])
    for page in (server.page(), generate_latest(RolloutMetrics().registry)):
        done = subprocess.run([str(PROMTOOL), "check", "metrics"], input=page, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


REFERENCE = ROOT.parent / "docs/reference"


@pytest.mark.parametrize(("page", "prefix"), [("controller-metrics", ""), ("model-server", "upkeep_server_")])
def test_the_reference_has_every_metric_with_its_labels(page: str, prefix: str) -> None:
    rows = re.findall(r"^\| `(upkeep_\w+)` \| ([^|]*)\|", (REFERENCE / f"{page}.md").read_text(), re.M)
    said = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    there = {
        re.sub("_(bucket|count|sum)$", "", name): labels - {"model", "version", "digest", "le"}
        for name, labels in EXPORTED.items()
        if name.startswith("upkeep_") and name.startswith("upkeep_server_") == bool(prefix)
    }
    assert said == there


def test_a_query_of_what_nobody_exports_would_be_found() -> None:
    with pytest.raises(AssertionError):
        test_every_metric_of_a_query_is_exported_and_has_the_labels("", "sum(upkeep_server_wishes_total)")
    with pytest.raises(AssertionError, match="kind"):
        test_every_metric_of_a_query_is_exported_and_has_the_labels("", 'upkeep_rollout_phase{kind="step"}')
    with pytest.raises(AssertionError, match="stepp"):
        test_every_metric_of_a_query_is_exported_and_has_the_labels("", 'upkeep_rollout_phase{phase="stepp"}')
    with pytest.raises(AssertionError, match="version"):
        test_every_metric_of_a_query_is_exported_and_has_the_labels("", "sum by (version) (upkeep_rollout_phase)")


def test_every_metric_of_ours_is_shown_or_alerted_on() -> None:
    text = " ".join(query for _, query in queries())
    unused = {
        name
        for name in EXPORTED
        if name.startswith("upkeep_") and not re.search(rf"\b{name}\b", text) and not name.endswith(("_sum", "_count"))
    }
    assert unused <= {"upkeep_server_batch_requests_bucket"}


# --- the dashboard -------------------------------------------------------------------------------------------------


def test_every_panel_has_a_title_a_description_a_unit_and_its_place() -> None:
    panels = [each for each in DASHBOARD["panels"] if each["type"] != "row"]
    assert len(panels) > 10
    assert len({each["id"] for each in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({each["title"] for each in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for each in panels:
        assert each["title"]
        assert each["description"]
        assert each["fieldConfig"]["defaults"]["unit"]
        assert each["targets"]
        place = each["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{each['title']} lies on another panel"
        taken |= cells


def test_every_query_asks_the_source_and_the_models_that_are_chosen() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == "${datasource}"
            for name in re.findall(r"\bupkeep[_:][\w:]+", target["expr"]):
                chosen = target["expr"].count(f'{name}{{model=~"$model"')
                assert chosen == target["expr"].count(name) or name == "upkeep:last_look_seconds", panel["title"]


def test_grafana_finds_the_dashboard(objects: list[dict[str, Any]]) -> None:
    (config,) = (each for each in objects if each["kind"] == "ConfigMap")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config["data"]["upkeep.json"]) == DASHBOARD


@needs_promtool
def test_every_query_of_the_dashboard_parses(tmp_path: Path) -> None:
    def wrapped(query: str) -> dict[str, Any]:
        return {"record": "x:y", "expr": query.replace("$__rate_interval", "5m").replace("$model", "m")}

    rules = []
    for number, (_, query) in enumerate(queries()):
        rules.append({**wrapped(query), "record": f"x:{number}"})
    done = promtool("check", "rules", str(rules_file(tmp_path, [{"name": "wrapped", "rules": rules}])))
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = [{"name": "wrong", "rules": [wrapped("sum by (model (upkeep_rollout_phase)")]}]
    assert promtool("check", "rules", str(rules_file(tmp_path, wrong))).returncode != 0


# --- whom they are for ---------------------------------------------------------------------------------------------


def test_what_is_scraped_is_there_and_may_be(objects: list[dict[str, Any]]) -> None:
    by_name = {(each["kind"], each["metadata"]["name"]): each for each in objects}
    controller = by_name["Deployment", "upkeep-controller"]["spec"]["template"]
    monitor = by_name["PodMonitor", "upkeep-controller"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= controller["metadata"]["labels"].items()
    (port,) = controller["spec"]["containers"][0]["ports"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] == port["name"]
    policy = by_name["NetworkPolicy", "upkeep-controller-metrics"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= controller["metadata"]["labels"].items()
    assert [each["port"] for each in policy["ingress"][0]["ports"]] == [port["name"]]
    server = by_name["ServingRuntime", "upkeep-server"]["spec"]["containers"][0]["ports"][0]
    (endpoint,) = by_name["PodMonitor", "upkeep-server"]["spec"]["podMetricsEndpoints"]
    assert endpoint["portNumber"] == server["containerPort"]


# --- the alerts ----------------------------------------------------------------------------------------------------

HERE = 'model="flights", instance="10.0.0.1:9100"'
AWAY = 'model="flights", instance="10.0.0.2:9100"'
SERVER = 'model="flights", version="v2", digest="0", instance="10.0.1.1:8080"'
MINUTES = 90
LOOKS = {f"upkeep_rollout_last_look_seconds{{{HERE}}}": f"0+60x{MINUTES}"}
"""A controller that looks every minute."""
OLD = {f"upkeep_rollout_last_look_seconds{{{AWAY}}}": f"0+30x{MINUTES}"}
"""Another that led once, and shows for ever what it saw last."""


LOOKED = {f'upkeep_rollout_looks_total{{{HERE}, result="error"}}': f"0+1x{MINUTES}"}
"""It counts looks; with nothing beside it, none that succeeded, or it leads no more."""


def steady(name: str, labels: str, value: float) -> dict[str, str]:
    return {f"{name}{{{labels}}}": f"{value}+0x{MINUTES}"}


def growing(name: str, labels: str, by: float) -> dict[str, str]:
    return {f"{name}{{{labels}}}": f"0+{by}x{MINUTES}"}


def phase(name: str, value: int = 1) -> dict[str, str]:
    return LOOKS | steady("upkeep_rollout_phase", f'{HERE}, phase="{name}"', value)


def trouble(kind: str, value: int = 1) -> dict[str, str]:
    return LOOKS | steady("upkeep_rollout_troubles", f'{HERE}, kind="{kind}"', value)


def requests(code: str, by: float, protocol: str = "v1") -> dict[str, str]:
    return growing("upkeep_server_requests_total", f'{SERVER}, protocol="{protocol}", code="{code}"', by)


def update(outcome: str, drift: str = "stable", finished: float = 60) -> dict[str, str]:
    labels = f'{HERE}, update="u1", verdict="fail", outcome="{outcome}", drift="{drift}"'
    return LOOKS | steady("upkeep_update_newest_seconds", labels, finished)


def slow(fast: float, all_: float) -> dict[str, str]:
    found: dict[str, str] = {}
    for le, by in (("0.5", fast), ("1.0", fast), ("2.5", all_), ("+Inf", all_)):
        found |= growing("upkeep_server_request_seconds_bucket", f'{SERVER}, le="{le}"', by)
    return found


def failing(weight: int, verdict: str = "fail", labels: str = HERE) -> dict[str, str]:
    return (
        LOOKS
        | steady("upkeep_rollout_verdict", f'{labels}, verdict="{verdict}"', 1)
        | steady("upkeep_rollout_canary_weight", HERE, weight)
    )


DAYS = steady("upkeep_data_period_seconds", HERE, 600)


@dataclass(frozen=True)
class Case:
    """What is scraped, and who is told after so many minutes."""

    alert: str
    fires: dict[str, str]
    quiet: tuple[dict[str, str], ...]
    """Each of these tells nobody."""
    told: dict[str, str] = field(default_factory=lambda: {"model": "flights"})
    at: int = 40
    early: int | None = None
    """Minutes after which nobody is told yet."""


CASES = [
    Case(
        "UpkeepServersGone",
        LOOKS | steady("upkeep_rollout_canary_weight", HERE, 0) | steady("upkeep_server_ready", SERVER, 0),
        (LOOKS | steady("upkeep_rollout_canary_weight", HERE, 0) | steady("upkeep_server_ready", SERVER, 1), LOOKS),
        early=4,
    ),
    Case(
        "UpkeepServerErrors",
        requests("200", 600) | requests("500", 12),
        (
            requests("200", 600) | requests("500", 3),
            requests("200", 600) | requests("400", 300),
            requests("500", 1),
        ),
        {"model": "flights", "version": "v2"},
        early=4,
    ),
    Case(
        "UpkeepServerRefuses",
        requests("200", 600) | requests("400", 60) | requests("INVALID_ARGUMENT", 60, "grpc"),
        (requests("200", 600) | requests("400", 6), requests("200", 600) | requests("500", 300)),
        {"model": "flights", "version": "v2"},
        early=10,
    ),
    Case(
        "UpkeepServerSlow",
        slow(90, 100),
        (slow(99, 100),),
        {"model": "flights", "version": "v2"},
        early=8,
    ),
    Case(
        "UpkeepPayloadsLost",
        growing("upkeep_server_payload_dropped_total", f'{SERVER}, reason="disk"', 1),
        (growing("upkeep_server_payload_dropped_total", f'{SERVER}, reason="disk"', 0),),
        {"model": "flights", "version": "v2", "reason": "disk"},
    ),
    Case(
        "UpkeepControllerGone",
        steady("up", 'instance="10.0.0.1:9100"', 0),
        (LOOKS,),
        {},
        early=9,
    ),
    Case(
        "UpkeepRolloutNotWatched",
        steady("upkeep_rollout_last_look_seconds", HERE, 60),
        (LOOKS, LOOKS | steady("upkeep_rollout_last_look_seconds", AWAY, 60)),
        early=10,
    ),
    Case(
        "UpkeepRolloutNotWatched",
        LOOKED | {'upkeep_rollout_last_look_seconds{model="another", instance="10.0.0.1:9100"}': f"0+60x{MINUTES}"},
        (LOOKED | LOOKS, LOOKED | {name.replace(HERE, AWAY): values for name, values in LOOKS.items()}),
        early=4,
    ),
    Case(
        "UpkeepFailingCanaryServes",
        failing(5),
        (failing(0), failing(5, "insufficient"), OLD | failing(5, labels=AWAY)),
        {"model": "flights", "verdict": "fail"},
    ),
    Case(
        "UpkeepRollbackStuck",
        phase("rolling_back"),
        (phase("rolling_back", 0), phase("step")),
        {"model": "flights", "phase": "rolling_back"},
        early=4,
    ),
    Case(
        "UpkeepTrafficNotAsGit",
        LOOKS | steady("upkeep_rollout_traffic_agrees", HERE, 0),
        (
            LOOKS | steady("upkeep_rollout_traffic_agrees", HERE, 1),
            LOOKS
            | OLD
            | steady("upkeep_rollout_traffic_agrees", HERE, 1)
            | steady("upkeep_rollout_traffic_agrees", AWAY, 0),
        ),
        early=8,
    ),
    Case(
        "UpkeepBrakeFails",
        trouble("brake"),
        (trouble("brake", 0), trouble("store")),
        {"model": "flights", "kind": "brake"},
    ),
    Case(
        "UpkeepEvidenceMissing",
        trouble("counters"),
        (trouble("counters", 0), trouble("webhook")),
        {"model": "flights", "kind": "counters"},
        early=14,
    ),
    Case(
        "UpkeepRolloutTrouble",
        trouble("webhook"),
        (trouble("webhook", 0), trouble("labels"), trouble("brake")),
        {"model": "flights", "kind": "webhook"},
        early=14,
    ),
    Case(
        "UpkeepRolloutWaits",
        phase("held"),
        (phase("held", 0), phase("baking")),
        {"model": "flights", "phase": "held"},
        early=14,
    ),
    Case(
        "UpkeepCanaryNotReady",
        phase("pending"),
        (phase("pending", 0), phase("shadow")),
        {"model": "flights", "phase": "pending"},
        early=28,
    ),
    Case(
        "UpkeepCanaryTakenBack",
        phase("rolled_back") | steady("upkeep_rollout_since_seconds", HERE, 600),
        (
            phase("rolled_back") | steady("upkeep_rollout_since_seconds", HERE, -3000),
            phase("succeeded") | steady("upkeep_rollout_since_seconds", HERE, 600),
        ),
        {"model": "flights", "phase": "rolled_back"},
    ),
    Case("UpkeepUpdateFailed", update("failed"), (update("proposed"),), {"model": "flights", "update": "u1"}),
    Case(
        "UpkeepUpdateNotReleased",
        update("not_verified"),
        (update("proposed"), update("pending_other"), update("failed")),
        {"model": "flights", "update": "u1", "outcome": "not_verified"},
    ),
    Case(
        "UpkeepUpdatesStopped",
        update("proposed") | DAYS,
        (update("proposed"), update("proposed", finished=4800) | DAYS),
        at=85,
        early=75,
    ),
    Case("UpkeepDriftFound", update("proposed", "drift"), (update("proposed"),), {"model": "flights", "update": "u1"}),
]


def filled(text: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda match: labels.get(match[1], ""), text)


def expected(case: Case) -> dict[str, Any]:
    rule = ALERTS[case.alert]
    return {
        "exp_labels": {**case.told, **rule["labels"]},
        "exp_annotations": {name: filled(text, case.told) for name, text in rule["annotations"].items()},
    }


def trial(series: Mapping[str, str], alert: str, told: Mapping[int, list[dict[str, Any]]]) -> dict[str, Any]:
    """``told``: after so many minutes, whom."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": f"{at}m", "alertname": alert, "exp_alerts": alerts} for at, alerts in told.items()
        ],
    }


def test_every_alert_has_a_case() -> None:
    assert list(dict.fromkeys(case.alert for case in CASES)) == list(ALERTS)
    assert all(case.quiet for case in CASES)


@needs_promtool
def test_alerts_fire_when_they_should_and_not_else(tmp_path: Path, objects: list[dict[str, Any]]) -> None:
    (rule,) = (each for each in objects if each["kind"] == "PrometheusRule")
    path = rules_file(tmp_path, rule["spec"]["groups"])
    checked = promtool("check", "rules", str(path))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    trials = []
    for case in CASES:
        if not case.told:  # about no model: what is quiet is no other model beside
            trials += [trial(quiet, case.alert, {case.at: []}) for quiet in case.quiet]
        beside = case.quiet if case.told else ()
        series = dict(case.fires)
        for number, quiet in enumerate(beside):
            series |= {name.replace('"flights"', f'"quiet{number}"'): values for name, values in quiet.items()}
        early: dict[int, list[dict[str, Any]]] = {} if case.early is None else {case.early: []}
        trials.append(trial(series, case.alert, early | {case.at: [expected(case)]}))
    tests = tmp_path / "tests.yaml"
    tests.write_text(yaml.safe_dump({"rule_files": [str(path)], "evaluation_interval": "1m", "tests": trials}))
    done = promtool("test", "rules", str(tests))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_a_case_that_is_wrong_is_found(tmp_path: Path) -> None:
    groups = yaml.safe_load((ROOT / "monitoring/rules.yaml").read_text())["spec"]["groups"]
    path = rules_file(tmp_path, groups)
    tests = tmp_path / "tests.yaml"
    made = trial(phase("step"), "UpkeepRollbackStuck", {40: [{"exp_labels": {"model": "flights"}}]})
    tests.write_text(yaml.safe_dump({"rule_files": [str(path)], "evaluation_interval": "1m", "tests": [made]}))
    assert promtool("test", "rules", str(tests)).returncode != 0


def test_every_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on() -> None:
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), name
        assert {"summary", "description", "runbook_url"} == rule["annotations"].keys(), name
        used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        assert all(used <= case.told.keys() for case in CASES if case.alert == name), name


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    titles = re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), re.M)
    assert sorted(titles) == sorted(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/how-to/runbooks.md#{name.lower()}")


def test_every_runbook_says_the_same_five_things() -> None:
    parts = re.split(r"^## (\w+)$", RUNBOOKS.read_text(), flags=re.M)[1:]
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        said = re.findall(r"^\*\*([^*]+)\.\*\*", text, re.M)
        assert said == ["Means", "Users see", "Look", "Do", "Wake somebody"], name
        assert text.count("```\n") >= 2, f"{name} names no command"
        severity = ALERTS[name]["labels"]["severity"]
        woken = re.search(r"\*\*Wake somebody\.\*\* (\w+)", text)
        assert woken, name
        assert (woken[1] == "Yes") == (severity == "critical"), name


# --- and once for real ---------------------------------------------------------------------------------------------


def test_a_real_prometheus_scrapes_the_pages_and_every_rule_is_well(tmp_path: Path) -> None:
    """Two controllers, of which one led once, and a server."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    world = World(replace(make.spec("data"), store="s3://upkeep"))
    world.propose(1, None)
    leads, led = RolloutMetrics(), RolloutMetrics()
    now = datetime.now(UTC)
    led.observe(Report(model=world.spec.name, at=now - timedelta(hours=1), told=world.look(), wait=1.0))
    world.wait(30)
    world.run()
    world.propose(2, "v1")
    world.wait(30)
    leads.observe(Report(model=world.spec.name, at=now, told=world.look(), wait=1.0))
    server = ServerMetrics(world.spec.name, "v1", "0" * 64)
    server.ready(["yes"])
    with ExitStack() as stack:
        ports = []
        for registry in (led.registry, leads.registry, server.registry):
            page, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
            stack.callback(thread.join)
            stack.callback(page.server_close)
            stack.callback(page.shutdown)
            ports.append(page.server_port)
        groups = yaml.safe_load((ROOT / "monitoring/rules.yaml").read_text())["spec"]["groups"]
        settings = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules_file(tmp_path, groups))],
            "scrape_configs": [
                {"job_name": "pods", "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
            ],
        }
        (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(settings))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        command = [program, f"--config.file={tmp_path}/prometheus.yaml", f"--web.listen-address={address}"]
        command.append(f"--storage.tsdb.path={tmp_path}/data")
        with (tmp_path / "log").open("wb") as log:
            process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log))
        stack.callback(process.terminate)

        def asked(query: str) -> list[dict[str, Any]]:
            return list(httpx.get(f"http://{address}/api/v1/query", params={"query": query}).json()["data"]["result"])

        def phases() -> list[str]:
            return [each["metric"]["phase"] for each in asked("upkeep:rollout_phase == 1")]

        eventually(lambda: asked("count(up == 1) == 3"))
        eventually(lambda: phases() == ["step"])  # for good: not also what the other one saw an hour ago
        rules = eventually(lambda: evaluated(f"http://{address}/api/v1/rules"))
        assert len(rules) == len(RULES)
        assert {(each["name"], each["lastError"]) for each in rules if each.get("lastError")} == set()
        # `for` is longer than this test, so at most they wait
        assert {each["name"] for each in rules if each.get("state") == "firing"} == set()


def evaluated(url: str) -> list[dict[str, Any]]:
    """All rules, once all were looked at; empty before."""
    groups = httpx.get(url).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return rules if all(rule["health"] != "unknown" for rule in rules) else []


T = TypeVar("T")


def eventually(look: Callable[[], T]) -> T:
    """What ``look`` finds, once it finds something."""
    for _ in range(240):
        try:
            if found := look():
                return found
        except (httpx.TransportError, KeyError, ValueError):
            pass  # it is still starting
        time.sleep(0.5)
    pytest.fail("Prometheus did not come to say it")
