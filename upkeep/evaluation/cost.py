"""What a model costs to ask: latency, throughput, size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from upkeep.evaluation.result import Cost

SINGLES = 200
BATCH = 1000
BATCHES = 5
WARM_UP = 5
SECONDS = 5.0


def folder_bytes(folder: Path | None) -> int:
    """Bytes of all files below ``folder``; 0 when it is not known."""
    if folder is None:
        return 0
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def measure_cost(
    ask: Callable[[pa.Table], object], rows: pa.Table, size_bytes: int, *, clock: Callable[[], float]
) -> Cost | None:
    """Time ``ask`` on single rows of ``rows`` and on batches of 1,000; ten seconds or so at most.

    ``clock``: seconds, monotonic. None without rows. At least 20 single rows are timed, however slow the model.
    """
    if not rows.num_rows:
        return None
    for position in range(WARM_UP):
        ask(rows.slice(position % rows.num_rows, 1))
    singles: list[float] = []
    begun = clock()
    for position in range(SINGLES):
        one = rows.slice(position % rows.num_rows, 1)
        start = clock()
        ask(one)
        end = clock()
        singles.append(end - start)
        if end - begun > SECONDS and len(singles) >= 20:
            break
    batch = rows.take(pa.array(np.arange(BATCH) % rows.num_rows))
    begun = clock()
    done = 0
    elapsed = 0.0
    while done < BATCHES and (not done or elapsed < SECONDS):
        ask(batch)
        done += 1
        elapsed = clock() - begun
    p50, p95 = np.quantile(singles, (0.5, 0.95))
    return Cost(
        latency_ms_p50=float(p50) * 1000,
        latency_ms_p95=float(p95) * 1000,
        rows_per_second=done * BATCH / elapsed if elapsed > 0 else 0.0,
        size_bytes=size_bytes,
    )
