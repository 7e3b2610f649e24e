"""Many simulations, seed by seed: what happened in them, and which broke an invariant."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NoReturn

Tally = tuple[Counter[str], list[tuple[int, str]]]
"""How often what happened, and (seed, why) of those that broke an invariant."""


def tally(simulate: Callable[[int], Counter[str]], seeds: Iterable[int]) -> Tally:
    counts: Counter[str] = Counter()
    broken = []
    for seed in seeds:
        try:
            counts += simulate(seed)
        except Exception as error:
            broken.append((seed, f"{type(error).__name__}: {error}"))
    return counts, broken


def report(found: Tally, what: str, again: str) -> NoReturn:
    """Print it and exit; ``what`` was simulated, ``again``: how to see one seed again."""
    counts, broken = found
    for name, number in sorted(counts.items()):
        print(f"{number:9,}  {name}")
    for seed, why in broken[:20]:
        print(f"  {again.format(seed=seed)}    # {why}")
    print(f"{what}, {len(broken)} broke an invariant")
    sys.exit(bool(broken))
