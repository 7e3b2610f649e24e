"""A network as it is trained: it takes places of texts in its vocabularies, where it would look each text up itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from upkeep.models.keras_runtime import keras


class Learner:
    """The network itself, from behind its lookups on.

    An input of text that goes into one ``StringLookup`` and nothing else is taken as places, int64 of shape (rows, 1):
    a text is then looked up once for many rows, and no row's text goes into TensorFlow. Other inputs stay as they are.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.lookups = _lookups(model)
        """Input name → its ``StringLookup``."""
        self._skipped = {id(layer) for layer in self.lookups.values()}

    def __call__(self, given: Mapping[str, Any], *, training: bool) -> Any:
        """Inputs by name → answers, as the network's own; runs inside a graph as well."""
        if not self.lookups:
            return self._model(given, training=training)

        def operation(layer: Any) -> Any:
            if id(layer) in self._skipped:
                return lambda places: places
            told = {"training": training} if "training" in getattr(layer, "_call_context_args", ()) else {}
            return lambda *args, **kwargs: layer(*args, **{**kwargs, **told})

        inputs = [
            given[tensor.name] if tensor.name in self.lookups else keras().ops.cast(given[tensor.name], tensor.dtype)
            for tensor in self._model.inputs
        ]
        return self._model._run_through_graph(inputs, operation)


def _lookups(model: Any) -> dict[str, Any]:
    K = keras()
    nodes = [node for depth in getattr(model, "_nodes_by_depth", {}).values() for node in depth]
    found = {}
    for tensor in model.inputs if hasattr(model, "_run_through_graph") else ():
        takers = [node.operation for node in nodes if any(given is tensor for given in node.input_tensors)]
        times = [node for node in nodes if takers and node.operation is takers[0]]  # a lookup that two inputs share
        if len(takers) == 1 and len(times) == 1 and type(takers[0]) is K.layers.StringLookup:
            layer = takers[0]
            if layer.output_mode == "int" and not layer.invert:
                found[tensor.name] = layer
    return found
