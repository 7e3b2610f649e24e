"""The update pipeline, composed from the spec: one train task a candidate.

No postponed annotations here: KFP reads the pipeline's own as types.
"""

from typing import Any

from kfp import dsl
from upkeep.components.collect import collect
from upkeep.components.deploy import deploy
from upkeep.components.drift import drift
from upkeep.components.evaluate import evaluate
from upkeep.components.preprocess import preprocess
from upkeep.components.train import train

from upkeep.spec.model import Candidate, Ensemble, ModelSpec


def training_order(candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """The candidates with every ensemble after its members; otherwise in the order of the spec.

    The spec's check has made sure that members exist and that there is no circle.
    """
    ordered: list[Candidate] = []
    placed: set[str] = {"champion"}
    waiting = list(candidates)
    while waiting:
        ready = [c for c in waiting if not isinstance(c, Ensemble) or placed.issuperset(c.members)]
        if not ready:
            names = ", ".join(c.name for c in waiting)
            raise ValueError(f"these ensembles wait for each other: {names}")
        ordered += ready
        placed.update(c.name for c in ready)
        waiting = [c for c in waiting if c.name not in placed]
    return tuple(ordered)


def update_pipeline(model: ModelSpec) -> Any:
    """The KFP pipeline of one update of ``model``; compile it, or call it under kfp.local."""

    @dsl.pipeline(
        name=f"{model.name}-update",
        description=model.metadata.description or f"One update of the model {model.name}.",
    )
    def update_of(
        spec: str,
        spec_digest: str,
        update: str,
        until: str = "",
        accept_changed: bool = False,
        supersede: bool = False,
    ) -> None:
        # the update's id goes only to steps that are never cached: as a parameter it would make every run differ
        known = {"spec": spec, "spec_digest": spec_digest}
        collected = collect(**known, update=update, until=until, accept_changed=accept_changed)
        collected.set_caching_options(False)
        pinned = {**known, "dataset_digest": collected.outputs["dataset_digest"]}
        champion = collected.outputs["champion"]

        prepared = preprocess(**pinned, seen=collected.outputs["seen"], dataset=collected.outputs["dataset"])
        rows = prepared.outputs["prepared"]
        drifted = drift(**pinned, champion=champion, prepared=rows)

        trained: dict[str, Any] = {}
        for candidate in training_order(model.candidates):
            members = candidate.members if isinstance(candidate, Ensemble) else ()
            task = train(
                **pinned,
                champion=champion,
                candidate=candidate.name,
                states=collected.outputs["states"],
                members={name: trained[name] for name in members if name != "champion"},
                prepared=rows,
            )
            task.set_display_name(f"train {candidate.name}")
            trained[candidate.name] = task.outputs["Output"]

        evaluated = evaluate(**pinned, champion=champion, candidates=trained, prepared=rows)
        deployed = deploy(
            **pinned,
            update=update,
            champion=champion,
            candidates=trained,
            verdict=evaluated.outputs["Output"],
            supersede=supersede,
            dataset=collected.outputs["dataset"],
            prepared=rows,
            drift=drifted.outputs["report"],
            evaluation=evaluated.outputs["evaluation"],
        )
        deployed.set_caching_options(False)

    return update_of
