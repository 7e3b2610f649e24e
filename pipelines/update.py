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

from upkeep.spec.model import Ensemble, ModelSpec
from upkeep.training.order import training_order


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
        # all that the prepared rows depend on: KFP caches by parameters, not by what an artifact holds
        data = {name: collected.outputs[name] for name in ("dataset_digest", "seen")}
        pinned = {**known, **data}
        champion = collected.outputs["champion"]

        prepared = preprocess(**pinned, dataset=collected.outputs["dataset"])
        rows = prepared.outputs["prepared"]
        drifted = drift(**pinned, champion=champion, prepared=rows)

        trained: dict[str, Any] = {}
        by_name = {candidate.name: candidate for candidate in model.candidates}
        for candidate in map(by_name.__getitem__, training_order(model.candidates)):
            members = candidate.members if isinstance(candidate, Ensemble) else ()
            task = train(
                **pinned,
                champion=champion,
                candidate=candidate.name,
                states=collected.outputs["states"],
                swept=collected.outputs["swept"],
                members={name: trained[name] for name in members if name != "champion"},
                prepared=rows,
            )
            task.set_display_name(f"train {candidate.name}")
            trained[candidate.name] = task.outputs["Output"]

        evaluated = evaluate(
            **pinned, champion=champion, candidates=trained, rounds=collected.outputs["rounds"], prepared=rows
        )
        deployed = deploy(
            **known,
            dataset_digest=data["dataset_digest"],
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
