"""Find the new data and pin it by digest. Never cached: it is what finds the digests that caching goes by."""

from typing import NamedTuple

from kfp.dsl import Dataset, Output
from upkeep.components.image import component


@component
def collect(
    spec: str,
    spec_digest: str,
    until: str,
    accept_changed: bool,
    dataset: Output[Dataset],
) -> NamedTuple(  # type: ignore[valid-type]
    "Collected",
    [
        ("dataset_digest", str),
        ("champion", str),
        ("states", dict),
        ("seen", str),
        ("swept", str),
        ("rounds", dict),
    ],
):
    """Pin the data files by digest; read what serves and where each candidate last stood."""
    from upkeep.update.collect import collect

    return collect(
        spec=spec,
        spec_digest=spec_digest,
        until=until,
        accept_changed=accept_changed,
        dataset=dataset,
    )
