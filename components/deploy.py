"""Verify the chosen model's bytes, register them, and propose them through Git. Never cached: it acts."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Markdown, Output
from upkeep.components.image import component


@component
def deploy(
    spec: str,
    spec_digest: str,
    dataset_digest: str,
    champion: str,
    candidates: dict,  # type: ignore[type-arg]
    verdict: str,
    supersede: bool,
    dataset: Input[Dataset],
    prepared: Input[Dataset],
    drift: Input[Artifact],
    evaluation: Input[Artifact],
    page: Output[HTML],
    summary: Output[Markdown],
) -> str:
    """Verify, register and propose what passed; write the update's record and page; the outcome."""
    from upkeep.update.deploy import deploy

    return deploy(
        spec=spec,
        spec_digest=spec_digest,
        champion=champion,
        candidates=candidates,
        verdict=verdict,
        supersede=supersede,
        dataset=dataset,
        prepared=prepared,
        drift=drift,
        evaluation=evaluation,
        page=page,
        summary=summary,
    )
