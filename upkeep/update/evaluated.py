"""The files in which ``evaluate`` leaves its findings for ``deploy``, which needs nothing else of it."""

from __future__ import annotations

EVALUATION = "evaluation.json"
ROWS = "verify-rows.arrow"
ANSWERS = "verify-answers.npy"
