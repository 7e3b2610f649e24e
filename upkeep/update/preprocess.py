"""preprocess: validate, clean and split the rows."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from upkeep import records
from upkeep.data.dataset import Dataset
from upkeep.data.prepare import prepare
from upkeep.data.prepared import QUARANTINE
from upkeep.errors import DataError, Problem
from upkeep.update.context import ArtifactLike, Context, step


@step
def preprocess(
    context: Context,
    *,
    dataset: ArtifactLike,
    prepared: ArtifactLike,
    quarantine: ArtifactLike,
    metrics: ArtifactLike,
) -> None:
    pinned = records.read(Dataset, Path(dataset.path))
    out = Path(prepared.path)
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = out / QUARANTINE
    try:
        summary = prepare(
            context.spec,
            pinned,
            out,
            held_out_before=context.registry.held_out_before(),
            environ=os.environ,
            progress=context.progress,
        )
    except DataError as error:
        if not kept.exists():
            raise
        # too many of them to go on: they are kept where the step's own folder is not, and their problem names the place
        place = context.registry.put_update(context.update, QUARANTINE, kept)
        raise DataError(problems=tuple(_moved(problem, kept, place) for problem in error.problems)) from error
    shutil.copyfile(kept, quarantine.path)
    context.registry.put_held_out(pinned.digest, out / "heldout.parquet")
    totals = {
        name: sum(getattr(period, name) for period in summary.periods)
        for name in ("read", "quarantined", "duplicates", "train", "validation", "held_out", "kept_out")
    }
    metrics.metadata.update({name: float(value) for name, value in totals.items()})
    prepared.metadata.update(rows=totals["read"] - totals["quarantined"], periods=len(summary.periods))
    quarantine.metadata.update(rows=totals["quarantined"])


def _moved(problem: Problem, kept: Path, place: str) -> Problem:
    """The problem, whose file is now at ``place``."""
    return replace(problem, where=replace(problem.where, file=place)) if problem.where.file == str(kept) else problem
