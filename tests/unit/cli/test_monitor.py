"""``upkeep metrics`` and ``replay``, as a person calls them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.unit.monitor.monitor_make import NOON, lines, make_spec, row, write_labels, write_log
from upkeep import api
from upkeep.cli.main import upkeep
from upkeep.spec.model import ModelSpec


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    made = make_spec(tmp_path)
    keep = replace(made.monitoring.payloads, keep=1e9)
    made = replace(made, monitoring=replace(made.monitoring, payloads=keep))
    monkeypatch.setattr(api, "load_spec", lambda _: made)
    return made


def rest(path: Path) -> None:
    """A file that was written long ago."""
    os.utime(path, (NOON.timestamp(), NOON.timestamp()))


def call(*words: str) -> Any:
    return CliRunner().invoke(upkeep, words, catch_exceptions=False)


def test_metrics_are_a_table_and_json(spec: ModelSpec, tmp_path: Path) -> None:
    some: list[bytes] = []
    for number in range(40):
        some += lines(f"r{number}", [row(str(number))], [number % 2 == 0])
    write_log(tmp_path, some)
    rest(write_labels(tmp_path, [(str(number), str(number % 4 == 0), NOON) for number in range(20)]))
    shown = call("metrics", "--by", "version,window,slice")
    assert shown.exit_code == 0
    assert "v1" in shown.stdout and "2026-03-01" in shown.stdout and "region=north" in shown.stdout
    found = json.loads(call("metrics", "--output", "json").stdout)
    (only,) = found["rows"]
    assert (only["answered"], only["labelled"], only["coverage"]) == (40, 20, 0.5)
    assert only["metrics"]["recall"] == 1.0 and only["metrics"]["precision"] == 0.5
    assert found["counts"]["labels"] == 20 and found["refused"] == {}


def test_metrics_say_what_is_missing(spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = call("metrics")
    assert shown.exit_code == 0 and "no answered request" in shown.stdout
    write_log(tmp_path, lines("r1", [row("a")], [True]))
    rest(write_labels(tmp_path, [("z", "true", NOON), ("y", "maybe", NOON)]))
    shown = call("metrics")
    assert "no label's id is that of a logged row" in shown.stderr
    bare = replace(spec, monitoring=replace(spec.monitoring, labels=""))
    monkeypatch.setattr(api, "load_spec", lambda _: bare)
    assert "does not say where labels arrive" in call("metrics").stderr


@pytest.mark.parametrize(
    "words",
    [("metrics", "--window", "long"), ("metrics", "--window", "0s"), ("metrics", "--by", "colour"),
     ("metrics", "--since", "-1d"), ("replay", "x", "--label-share", "130%"), ("replay", "x", "--rate", "0"),
     ("replay", "x", "--seconds", "nan"), ("replay",)],
)  # fmt: skip
def test_words_that_make_no_sense_are_refused(words: tuple[str, ...]) -> None:
    assert call(*words).exit_code == 2


def test_replay_tells_lost_requests(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    from upkeep.monitor.traffic import Traffic

    done = Traffic(sent=3, seconds=1.0, milliseconds=[1.0, 2.0])
    done.statuses.update({"200": 2, "503": 1})
    done.versions.update({"v1": 2})
    asked: dict[str, Any] = {}

    def replay(*_: Any, **options: Any) -> Traffic:
        asked.update(options)
        options["tick"](done)
        return done

    monkeypatch.setattr(api, "replay", replay)
    shown = call("replay", "2026-01", "--label-share", "30%", "--labels-delay", "1m", "--rows", "3")
    assert shown.exit_code == 1 and "answered by v1" in shown.stdout and "1 lost" in shown.stderr
    assert (asked["label_share"], asked["label_delay"], asked["rows"], asked["seconds"]) == (0.3, 60.0, 3, 60.0)
    done.statuses.pop("503")
    found = call("replay", "2026-01", "--output", "json")
    assert found.exit_code == 0 and json.loads(found.stdout)["lost"] == 0


def test_sweep_takes_old_hours_of_the_log(spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    young = replace(spec, monitoring=replace(spec.monitoring, payloads=replace(spec.monitoring.payloads, keep=60.0)))
    monkeypatch.setattr(api, "load_spec", lambda _: young)
    path = write_log(tmp_path, lines("r1", [row("a")], [True]))
    assert "payloads/date=2026-03-01/hour=12/one.jsonl" in api.sweep("upkeep.yaml", dry_run=True)
    assert path.exists()
    assert api.sweep("upkeep.yaml") and not path.exists()
