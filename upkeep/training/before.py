"""The model that a training went on from: what shows what it forgot."""

from __future__ import annotations

import shutil
from pathlib import Path

from upkeep import records
from upkeep.models import skops_file
from upkeep.models.folder import save_sklearn
from upkeep.models.manifest import MANIFEST
from upkeep.spec.model import FineTune, Incremental
from upkeep.training.incremental import PIPELINE
from upkeep.training.state import LEARNED, STATE, State
from upkeep.training.task import CHAMPION, TrainingResult, TrainingTask


def before(task: TrainingTask, result: TrainingResult, out: Path) -> tuple[str, ...] | None:
    """Write the model of the state that the training of ``result`` went on from to the new folder ``out``.

    The periods that it had learned; None where it did not go on from a state. Raises :class:`ModelError` where the
    state has no model in it.
    """
    if not result.warm_started or task.state is None:
        return None
    if isinstance(task.candidate, Incremental):
        pipeline = skops_file.load(task.state / PIPELINE, allowed=task.spec.estimators)
        save_sklearn(out, pipeline, task.manifest())
    elif (task.state / MANIFEST).is_file():  # a delta
        shutil.copytree(task.state, out, ignore=lambda *_: (STATE, LEARNED))
    else:
        from upkeep.models.keras_file import MODEL  # TensorFlow is an extra
        from upkeep.models.keras_folder import write_keras

        write_keras(out, (task.state / MODEL).read_bytes(), task.manifest())
    return records.read(State, task.state / STATE).periods


def base_before(task: TrainingTask, result: TrainingResult, out: Path) -> bool:
    """Write the base that the training of ``result`` started from to ``out``, where there is one that can be asked."""
    if not isinstance(task.candidate, FineTune) or result.warm_started or task.candidate.base in ("", CHAMPION):
        return False
    from upkeep.training.keras.base import write_base

    return write_base(task, out)


def from_champion(task: TrainingTask) -> bool:
    """Whether the candidate goes on from the champion, rather than from a state of its own."""
    if not isinstance(task.candidate, FineTune) or task.candidate.base != CHAMPION or CHAMPION not in task.members:
        return False
    from upkeep.training.keras.base import not_gone_on_from

    return not not_gone_on_from(task, task.members[CHAMPION])
