"""What the cluster's parts tell each other through files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.serving.local.test_wanted import SPEC
from upkeep.errors import RefusedError
from upkeep.serving.local.folder import Folder, default_folder, read_json, write_json


def test_one_daemon_holds_a_folder(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.make()
    assert folder.daemon() is None
    lock = folder.hold()
    assert folder.daemon() == os.getpid()
    with pytest.raises(RefusedError, match="runs in this folder already"):
        Folder(tmp_path).hold()
    os.close(lock)
    assert folder.daemon() is None
    os.close(folder.hold())


def test_the_default_folder_follows_the_store(tmp_path: Path) -> None:
    assert default_folder(SPEC, {}) == Path("/store/cluster")
    assert default_folder(replace(SPEC, store="file:///my%20store"), {}) == Path("/my store/cluster")
    s3 = replace(SPEC, store="s3://b/", rollout=replace(SPEC.rollout, repository="https://git.example/a.git"))
    other = replace(s3, rollout=replace(s3.rollout, repository="https://git.example/b.git"))
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    assert default_folder(s3, environ).parent == tmp_path / "upkeep"
    assert default_folder(s3, environ) != default_folder(other, environ)
    assert default_folder(s3, {"UPKEEP_CLUSTER": str(tmp_path / "here")}) == tmp_path / "here"


def test_brakes_are_written_read_and_taken_away(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.make()
    assert folder.read_brake("m") is None
    folder.write_brake("m", {"v1": 100, "v2": 0})
    assert folder.read_brake("m") == {"v1": 100, "v2": 0}
    folder.write_brake("m", None)
    folder.write_brake("m", None)
    assert folder.read_brake("m") is None


def test_waking_twice_tells_two_things_and_nothing_where_there_is_no_cluster(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write_wake()
    first = folder.read_wake()
    folder.write_wake()
    assert folder.read_wake() != first != b""
    Folder(tmp_path / "none").write_wake()
    assert not (tmp_path / "none").exists()


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["x.json"]
    path.write_text("{")
    assert read_json(path) is None
