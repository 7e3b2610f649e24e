"""What the tests of pipelines and of the command line share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kfp_server import KfpServer
    from upkeep.spec.model import ModelSpec

_PACKAGES: dict[str, str] = {}


@pytest.fixture
def compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes a second, and most tests compile the same: each pipeline is compiled once."""
    from upkeep.pipelines import submit

    really = submit.compile_pipeline

    def compile_once(spec: ModelSpec, out: Path) -> Path:
        known = repr(replace(spec, kubeflow=replace(spec.kubeflow, endpoint="", namespace="", page="")))
        if known not in _PACKAGES:
            _PACKAGES[known] = really(spec, out).read_text()
        out.write_text(_PACKAGES[known])
        return out

    monkeypatch.setattr(submit, "compile_pipeline", compile_once)


@pytest.fixture
def server() -> Iterator[KfpServer]:
    """A KFP of our own; in the end it was asked nothing that KFP would not understand."""
    from tests.kfp_server import KfpServer

    made = KfpServer()
    with made.serving():
        yield made
    assert made.surprises == []
