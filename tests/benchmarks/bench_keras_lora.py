"""What low-rank adapters on query and value keep and train, beside whole fine-tuning: a network of BERT base's size."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

RANKS = (4, 8)


def bert() -> Any:
    """BERT base uncased's shape (Devlin et al., 2019) with random weights, and a layer that answers two classes."""
    import keras_hub

    from upkeep.models.keras_runtime import keras

    K = keras()
    K.utils.set_random_seed(1)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=30_522, num_layers=12, num_heads=12, hidden_dim=768, intermediate_dim=3072
    )
    answers = K.layers.Dense(2, activation="softmax", name="answer")(backbone.output["pooled_output"])
    return K.Model(backbone.input, answers)


def measure(kind: str) -> None:
    """Trained parameters and all, and the bytes that are kept."""
    import numpy as np

    from upkeep.models import keras_delta, keras_file
    from upkeep.models.keras_runtime import quiet
    from upkeep.spec.model import Lora, TrainedLayers
    from upkeep.training.keras.layers import open_layers

    with quiet():
        model = bert()
        parameters = int(model.count_params())
        wanted = TrainedLayers()
        if kind != "whole":
            wanted = TrainedLayers(lora=Lora(rank=int(kind), layers=("query", "value")))
        opened = open_layers(model, wanted, "train")
        trained = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
        size = len(
            keras_file.dump(model) if kind == "whole" else keras_delta.dump(keras_delta.changes(model, opened, {}))
        )
    print(json.dumps([parameters, trained, size]))


def said(kind: str) -> Any:
    done = subprocess.run([sys.executable, "-W", "ignore", __file__, kind], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, check=True)  # fmt: skip
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    print("## Adapters beside whole fine-tuning\n")
    try:
        import keras_hub  # noqa: F401
    except ImportError:
        print("Not measured: KerasHub is not installed (`make setup-tensorflow`).")
        return
    print(
        "A BERT base (12 layers of 768, random weights) that answers two classes: adapters on query and "
        "value, kept as `keep: delta` does, beside the whole network, kept as `.keras`. Sizes need no training. "
        "Keras adapts these layers along their last axis alone (64 of a head), so an adapter is about six times as "
        "large as a plain matrix' of the same rank; rank 4 is the default.\n"
    )
    whole = said("whole")
    rows = {"whole": whole, **{f"adapters, rank {rank}": said(str(rank)) for rank in RANKS}}
    print("| | parameters that learn | of all | bytes kept | of the whole |\n| --- | --- | --- | --- | --- |")
    for name, (parameters, trained, kept) in rows.items():
        print(f"| {name} | {trained:,} | {trained / parameters:.2%} | {kept:,} | {kept / whole[2]:.2%} |")


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            main()
        case [kind]:
            measure(kind)
