"""Verify: what is stored, loaded in a fresh process as the server does it, answers as the pipeline's own model did."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """Whether the stored model answers as it should. Anything but a full, equal answer is not ``ok``."""

    ok: bool
    message: str
    """One plain sentence."""
    rows: int
    """Rows that were asked."""
    largest_difference: float | None
    """Between any two probabilities; None: there was nothing to compare."""


def verify_served(
    folder: Path,
    rows: pa.Table,
    expected: npt.NDArray[np.float64],
    *,
    tolerance: float = 1e-9,
    allowed: Sequence[str] = (),
    python: str = sys.executable,
    seconds: float = SECONDS,
) -> VerifyResult:
    """Load ``folder`` in a new process by :func:`upkeep.models.folder.load` and ask it the raw ``rows``.

    ``expected``: probabilities, shape (rows, classes), as the pipeline's model gave them. ``allowed``: see ``load``.
    A crash, no answer in ``seconds``, another shape, NaN, or a difference above ``tolerance`` is a failed result with
    its reason; so is having no rows to ask. Raises nothing for a bad model.
    """

    def failed(message: str, difference: float | None = None) -> VerifyResult:
        return VerifyResult(ok=False, message=message, rows=rows.num_rows, largest_difference=difference)

    if rows.num_rows == 0:
        return failed("there were no rows to ask the stored model, so nothing was compared")
    if expected.ndim != 2 or len(expected) != rows.num_rows or not np.isfinite(expected).all():
        return failed(
            f"the pipeline's own answers are none: shape {expected.shape} for {rows.num_rows} rows, or not finite"
        )
    with tempfile.TemporaryDirectory(prefix="upkeep-verify-") as name:
        work = Path(name)
        with pa.OSFile(str(work / "rows.arrow"), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows)
        (work / "allowed.json").write_text(json.dumps(list(allowed)), encoding="utf-8")
        command = [python, "-m", "upkeep.registry.answer", str(folder.absolute()), str(work)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return failed(f"the stored model gave no answer to {rows.num_rows} rows in {seconds:g} seconds")
        except OSError as error:
            return failed(f"the process that should load the stored model did not start: {error.strerror}")
        if done.returncode:
            return failed(f"the stored model could not answer: {_last_words(done)}")
        try:
            answers = np.load(work / "answers.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            return failed(f"the stored model's answer could not be read: {error}")
    if answers.shape != expected.shape or answers.dtype != np.float64:
        return failed(f"the stored model answered with shape {answers.shape}, the pipeline's own with {expected.shape}")
    if not np.isfinite(answers).all():
        return failed("the stored model answered with numbers that are none (NaN or infinity)")
    differences = np.abs(answers - expected).max(axis=1)
    largest = float(differences.max())
    if not largest <= tolerance:
        wrong = int((differences > tolerance).sum())
        return failed(
            f"the stored model answers {wrong} of {rows.num_rows} rows otherwise than the pipeline's own, "
            f"by up to {largest:.3g}",
            largest,
        )
    return VerifyResult(
        ok=True,
        message=f"loaded anew, the stored model answers {rows.num_rows} rows as the pipeline's own did",
        rows=rows.num_rows,
        largest_difference=largest,
    )


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"its process was killed by signal {-done.returncode}"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"its process ended with code {done.returncode} and said nothing"
