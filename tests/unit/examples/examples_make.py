"""The examples' modules; each example has its own ``make_data``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).parents[3] / "examples"


def load(example: str, name: str) -> ModuleType:
    """``examples/<example>/<name>.py``, imported as if it were run there."""
    folder = EXAMPLES / example
    sys.path.insert(0, str(folder))
    sys.modules.pop("make_data", None)
    try:
        spec = importlib.util.spec_from_file_location(f"{example}_{name}", folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look themselves up
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("make_data", None)
