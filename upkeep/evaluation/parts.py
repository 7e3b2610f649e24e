"""What a method of attribution gives: each column's part in each row's answer."""

from __future__ import annotations

from dataclasses import dataclass

from upkeep.evaluation.metrics import Floats
from upkeep.evaluation.result import TextAttribution

OTHERS = "(several columns)"
"""Where a part cannot be told apart by column."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a method found on some rows."""

    method: str
    """integrated_gradients, shap or shap_permutation."""
    explains: str
    """What the parts add up to, in words."""
    columns: tuple[str, ...]
    values: Floats
    """Shape (rows, columns, outputs): one output, or one a class."""
    gap: float
    """The largest distance of a row's sum from answer minus baseline."""
    left_out: tuple[str, ...] = ()
    """Columns that the model takes and the method does not reach."""
    texts: tuple[TextAttribution, ...] = ()
