"""preprocess: validate, clean and split the rows."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from upkeep import records
from upkeep.data.dataset import Dataset
from upkeep.data.prepare import prepare
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
    try:
        summary = prepare(
            context.spec,
            pinned,
            out,
            held_out_before=context.registry.held_out_before(),
            environ=os.environ,
            progress=context.progress,
        )
    finally:
        # refused rows are kept even where there are too many of them to go on
        if (out / "quarantine.parquet").exists():
            shutil.copyfile(out / "quarantine.parquet", quarantine.path)
    context.registry.put_held_out(pinned.digest, out / "heldout.parquet")
    totals = {
        name: sum(getattr(period, name) for period in summary.periods)
        for name in ("read", "quarantined", "duplicates", "train", "validation", "held_out", "kept_out")
    }
    metrics.metadata.update({name: float(value) for name, value in totals.items()})
    prepared.metadata.update(rows=totals["read"] - totals["quarantined"], periods=len(summary.periods))
    quarantine.metadata.update(rows=totals["quarantined"])
