"""Hold the new periods against what the champion learned from."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output
from upkeep.components.image import component


@component
def drift(
    spec: str,
    spec_digest: str,
    dataset_digest: str,
    seen: str,
    champion: str,
    prepared: Input[Dataset],
    report: Output[Artifact],
    page: Output[HTML],
    metrics: Output[Metrics],
) -> str:
    """Measure drift and decay; the finding."""
    from upkeep.update.drift import drift

    return drift(
        spec=spec,
        spec_digest=spec_digest,
        champion=champion,
        prepared=prepared,
        report=report,
        page=page,
        metrics=metrics,
    )
