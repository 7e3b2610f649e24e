"""The update pipeline, composed from the spec: one train task a candidate.

No postponed annotations here: KFP reads the pipeline's own as types.
"""

from typing import Any

from kfp import dsl
from upkeep.components.collect import collect
from upkeep.components.deploy import deploy
from upkeep.components.drift import drift
from upkeep.components.evaluate import evaluate
from upkeep.components.image import image_of
from upkeep.components.preprocess import preprocess
from upkeep.components.train import train
from upkeep.pipelines.needs import give

from upkeep.spec.model import Ensemble, ModelSpec
from upkeep.training.order import training_order


def pipeline_name(model: str) -> str:
    """What the pipeline of a model's updates is called."""
    return f"{model}-update"


def update_pipeline(model: ModelSpec, *, cluster: bool) -> Any:
    """The KFP pipeline of one update of ``model``: for a ``cluster``, with what the pods ask for; or for kfp.local."""
    image = image_of(model)

    def placed(task: Any, step: str, candidate: str = "") -> Any:
        task.set_container_image(image)
        if cluster:
            give(task, model, step, candidate)
        return task

    @dsl.pipeline(
        name=pipeline_name(model.name),
        description=model.metadata.description or f"One update of the model {model.name}.",
    )
    def update_of(
        spec: str,
        spec_digest: str,
        until: str = "",
        accept_changed: bool = False,
        supersede: bool = False,
    ) -> None:
        known = {"spec": spec, "spec_digest": spec_digest}
        collected = placed(collect(**known, until=until, accept_changed=accept_changed), "collect")
        collected.set_caching_options(False)
        # all that the prepared rows depend on: KFP caches by parameters, not by what an artifact holds
        data = {name: collected.outputs[name] for name in ("dataset_digest", "seen")}
        pinned = {**known, **data}
        champion = collected.outputs["champion"]

        prepared = placed(preprocess(**pinned, dataset=collected.outputs["dataset"]), "preprocess")
        rows = prepared.outputs["prepared"]
        drifted = placed(drift(**pinned, champion=champion, prepared=rows), "drift")

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
            placed(task, "train", candidate.name).set_display_name(f"train {candidate.name}")
            trained[candidate.name] = task.outputs["Output"]

        rounds = collected.outputs["rounds"]
        evaluated = placed(
            evaluate(**pinned, champion=champion, candidates=trained, rounds=rounds, prepared=rows), "evaluate"
        )
        deployed = deploy(
            **known,
            dataset_digest=data["dataset_digest"],
            champion=champion,
            candidates=trained,
            verdict=evaluated.outputs["Output"],
            supersede=supersede,
            dataset=collected.outputs["dataset"],
            prepared=rows,
            drift=drifted.outputs["report"],
            evaluation=evaluated.outputs["evaluation"],
        )
        placed(deployed, "deploy").set_caching_options(False)

    return update_of
