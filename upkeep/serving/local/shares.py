"""Who gets the traffic now: what Git says, but none of it to a server that is not there. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from upkeep.serving.manifests import version_number


def shares(weights: Mapping[str, int], *, ready: Collection[str], trusted: Collection[str]) -> dict[str, int]:
    """``weights`` (per cent, sum 100) with the share of versions that are not ``ready`` given to those that are.

    A share that would surely fail goes to the versions that have traffic anyway, in their proportion. Where none of
    these is ready it goes to the newest version that had traffic before (``trusted``): the old champion, while a
    promoted one bakes. A challenger that no user has met yet gets nothing this way. Where nobody may take it the
    weights stay as they are: the requests fail, and are counted as this version's.
    """
    lost = sum(weight for version, weight in weights.items() if version not in ready)
    if not lost:
        return dict(weights)
    takers = {version: weight for version, weight in weights.items() if version in ready and weight}
    if not takers:
        warm = [version for version in weights if version in ready and version in trusted]
        if not warm:
            return dict(weights)
        takers = {max(warm, key=version_number): 1}
    given = dict.fromkeys(weights, 0)
    left, parts = 100, sum(takers.values())
    for version, part in takers.items():
        given[version] = left * part // parts
        left, parts = left - given[version], parts - part
    return given
