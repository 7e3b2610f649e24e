"""Train one candidate."""

from kfp.dsl import Dataset, Input, Metrics, Model, Output
from upkeep.components.image import component


@component
def train(
    spec: str,
    spec_digest: str,
    dataset_digest: str,
    seen: str,
    champion: str,
    candidate: str,
    states: dict,  # type: ignore[type-arg]
    swept: str,
    members: dict,  # type: ignore[type-arg]
    prepared: Input[Dataset],
    model: Output[Model],
    metrics: Output[Metrics],
) -> str:
    """Train the candidate and store its bytes; the digest of its training record. ``swept`` names the newest sweep,
    so that no cached task is found whose bytes it may have taken."""
    from upkeep.update.train import train

    return train(
        spec=spec,
        spec_digest=spec_digest,
        champion=champion,
        candidate=candidate,
        states=states,
        members=members,
        prepared=prepared,
        model=model,
        metrics=metrics,
    )
