"""Validate, clean and split the rows; refused ones go to quarantine."""

from kfp.dsl import Dataset, Input, Metrics, Output
from upkeep.components.image import component


@component
def preprocess(
    spec: str,
    spec_digest: str,
    dataset_digest: str,
    seen: str,
    dataset: Input[Dataset],
    prepared: Output[Dataset],
    quarantine: Output[Dataset],
    metrics: Output[Metrics],
) -> None:
    """Validate, clean and split the rows; ``seen`` names the held-out rows of earlier updates."""
    from upkeep.update.preprocess import preprocess

    preprocess(
        spec=spec,
        spec_digest=spec_digest,
        dataset=dataset,
        prepared=prepared,
        quarantine=quarantine,
        metrics=metrics,
    )
