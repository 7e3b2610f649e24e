"""The kinds of columns, and how a column is brought to its kind: the same for data, training and serving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["numeric", "categorical", "datetime"]


@dataclass(frozen=True, kw_only=True)
class Column:
    name: str
    kind: Kind
