"""These tests need TensorFlow: ``make test-tensorflow`` sets it up."""

from __future__ import annotations

from pathlib import Path

import pytest

from upkeep.models import keras_runtime

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if keras_runtime.installed():
        return
    reason = pytest.mark.skip(reason="TensorFlow is not installed: make setup-tensorflow")
    for item in items:
        if HERE in item.path.parents and "without_tensorflow" not in item.name:
            item.add_marker(reason)
