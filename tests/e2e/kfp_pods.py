"""Run a compiled pipeline as KFP does: each step a process that knows its run's id, cached by KFP's own rule.

``python -m tests.e2e.kfp_pods PACKAGE PARAMETERS ROOT RUN`` prints the steps that ran, one a line.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import yaml


def by_names(value: Any) -> Any:
    """What of a step's inputs its cache entry is found by: of an artifact its name, never what it holds."""
    from kfp import dsl

    if isinstance(value, dsl.Artifact):
        return value.name.rpartition("/")[2]
    if isinstance(value, dict):
        return {name: by_names(each) for name, each in value.items()}
    return value


def main(package: str, parameters: str, root: str, run: str) -> None:
    from kfp import components, local
    from kfp.local import cache, subprocess_task_handler
    from kfp.local.cache import LocalCache

    warnings.simplefilter("ignore")
    os.environ["UPKEEP_RUN"] = run
    LocalCache._serialize_value_for_key = staticmethod(by_names)
    cache._is_remote_uri = lambda _: True  # else metrics, which have no file, are never found again
    pod = subprocess_task_handler.run_local_subprocess

    def start(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        name = full_command[full_command.index("--function_to_execute") + 1]
        sys.stderr.write(f"{name}\n")
        return int(pod(full_command, env_vars))

    subprocess_task_handler.run_local_subprocess = start
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(Path(root) / run),
        enable_caching=True,
        cache_root=str(Path(root) / "cache"),
    )
    components.load_component_from_file(package)(**yaml.safe_load(parameters))


if __name__ == "__main__":
    main(*sys.argv[1:])
