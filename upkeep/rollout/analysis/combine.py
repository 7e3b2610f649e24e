"""Many metrics and slices, one verdict.

To pass, everything required must pass: no correction is needed, as a bad canary must get past each. To take the canary
back, the chance α to err is shared out among the metrics when the rollout begins, and their e-values are averaged with
these weights: a weighted mean of e-processes is one, however they depend on each other, and it is never weaker than
Bonferroni, since one metric reaching 1 over its part suffices (Vovk & Wang, Ann. Stat. 49, 2021). Which slices are
worse, e-BH says, with at most a share α of those named in error (Wang & Ramdas, J. R. Stat. Soc. B 84, 2022).
"""

from __future__ import annotations

from collections.abc import Sequence

from upkeep.evaluation.result import VerdictName
from upkeep.rollout.analysis.predictions import UNIT
from upkeep.rollout.analysis.result import Analysis, MetricEvidence


def combine(metrics: Sequence[MetricEvidence], *, rollback: float) -> Analysis:
    """The verdict of all metrics together; ``rollback`` is how likely it may take a good canary back.

    ``fail``: the weighted mean of the e-values reached 1/``rollback``, or a metric failed (by its own part of it, or by
    a fixed limit). ``pass``: something is required, and everything required passed. Else ``insufficient``.
    Raises ``ValueError`` where the metrics' parts sum to more than ``rollback``.
    """
    tested = [(each, each.e_fail, each.fail_at) for each in metrics if each.e_fail is not None and each.fail_at]
    if sum(1 / fail_at for _, _, fail_at in tested) > rollback * (1 + 1e-9):
        raise ValueError(f"the metrics' parts of the chance to roll back sum to more than {rollback}")
    share = sum(e / fail_at for _, e, fail_at in tested)
    failed = [each for each in metrics if each.verdict == "fail"]
    required = [each for each in metrics if each.required]
    waiting = [each for each in required if each.verdict != "pass"]
    guilty = _guilty(metrics, rollback)
    verdict: VerdictName
    if failed or share >= 1:
        verdict = "fail"
        decided = failed or sorted((each for each, _, _ in tested), key=_share, reverse=True)[:3]
        said: dict[str, list[MetricEvidence]] = {}
        for each in decided:
            said.setdefault(_how(each), []).append(each)
        summary = "; ".join(f"{words}: {_names(said[words])}" for words in sorted(said, key=_HOW.index))
    elif waiting or not required:
        verdict = "insufficient"
        decided = waiting
        summary = f"not enough evidence yet on {_names(waiting)}" if waiting else "nothing is required, nothing passes"
    else:
        verdict = "pass"
        decided = required
        summary = "not worse than the champion by more than the margin: " + _names(required)
    return Analysis(
        verdict=verdict,
        summary=summary + (f"; worse in {', '.join(guilty)}" if guilty and verdict == "fail" else ""),
        reasons=tuple(each.text for each in decided),
        metrics=tuple(metrics),
        e_rollback=min(share, 1e290) / rollback if tested else None,
        rollback_at=1 / rollback,
        guilty=guilty,
    )


def e_bh(e_values: Sequence[float], alpha: float) -> tuple[int, ...]:
    """Positions of the hypotheses that e-BH rejects: those with the k largest e-values, for the largest k at which
    the k-th is at least n/(α·k). The share of true ones among them is at most α in the mean, however they depend."""
    order = sorted(range(len(e_values)), key=lambda at: e_values[at], reverse=True)
    most = max((k for k, at in enumerate(order, 1) if e_values[at] * k * alpha >= len(e_values)), default=0)
    return tuple(sorted(order[:most]))


def _guilty(metrics: Sequence[MetricEvidence], alpha: float) -> tuple[str, ...]:
    sliced = [each for each in metrics if each.slice]
    worse = e_bh([each.e_fail or 0.0 for each in sliced], alpha)
    return tuple(f"{sliced[at].metric} {sliced[at].slice}" for at in worse)


_HOW = ("worse than the champion", "other answers than the champion's", "a fixed limit was missed")


def _how(each: MetricEvidence) -> str:
    return _HOW[2 if each.fail_at is None else 1 if each.unit == UNIT else 0]


def _share(each: MetricEvidence) -> float:
    return (each.e_fail or 0.0) / (each.fail_at or 1.0)


def _names(metrics: Sequence[MetricEvidence]) -> str:
    return ", ".join(f"{each.metric} {each.slice}".strip() for each in metrics)
