"""Is a registered version whole, and does it load?"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from upkeep.errors import Problem, UpkeepError
from upkeep.registry.registry import Registry
from upkeep.spec.model import ModelSpec
from upkeep.update import trained


def verify_version(spec: ModelSpec, registry: Registry, version: str) -> Sequence[Problem]:
    """What is wrong with the version's bytes, card and records; empty when it is whole and loads.

    Raises :class:`~upkeep.errors.InputError` when there is no such version.
    """
    problems = registry.verify(version)
    if problems:
        return problems
    with tempfile.TemporaryDirectory(prefix="upkeep-verify-") as folder:
        try:
            trained.predictor(registry, registry.card(version).digest, Path(folder), spec.estimators)
        except UpkeepError as error:
            return error.problems
    return ()
