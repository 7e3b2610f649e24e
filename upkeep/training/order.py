"""In which order candidates are trained. Apart, so that composing a pipeline loads no training library."""

from __future__ import annotations

from upkeep.errors import ModelError, Where
from upkeep.spec.model import Candidate, Ensemble


def training_order(candidates: tuple[Candidate, ...]) -> tuple[str, ...]:
    """The names in an order in which every ensemble comes after its members; otherwise as in the spec."""
    waiting = {c.name: set(c.members) if isinstance(c, Ensemble) else set() for c in candidates}
    order: list[str] = []
    while waiting:
        ready = next((name for name, needs in waiting.items() if not needs & waiting.keys()), None)
        if ready is None:
            raise ModelError(
                f"{' and '.join(waiting)} are members of one another",
                where=Where(field="candidates"),
                fix="leave one of them out of the other's members",
            )
        order.append(ready)
        del waiting[ready]
    return tuple(order)
