"""Compare the best candidate with the champion on the same held-out rows, and decide."""

from kfp.dsl import Artifact, ClassificationMetrics, Dataset, Input, Metrics, Output, SlicedClassificationMetrics
from upkeep.components.image import component


@component
def evaluate(
    spec: str,
    spec_digest: str,
    dataset_digest: str,
    seen: str,
    champion: str,
    candidates: dict,  # type: ignore[type-arg]
    rounds: dict,  # type: ignore[type-arg]
    prepared: Input[Dataset],
    evaluation: Output[Artifact],
    metrics: Output[Metrics],
    confusion: Output[ClassificationMetrics],
    by_slice: Output[SlicedClassificationMetrics],
) -> str:
    """Choose, compare and decide; the verdict."""
    from upkeep.update.evaluate import evaluate

    return evaluate(
        spec=spec,
        spec_digest=spec_digest,
        champion=champion,
        candidates=candidates,
        rounds=rounds,
        prepared=prepared,
        evaluation=evaluation,
        metrics=metrics,
        confusion=confusion,
        by_slice=by_slice,
    )
