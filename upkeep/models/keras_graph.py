"""A TensorFlow graph as plain data: which operations it may have, and how one is taken out of a SavedModel.

Loading a SavedModel can run what it brings along, and a graph can read and write files or call back into Python. So its
protocol buffer is read first, as data, and nothing is loaded unless every operation that loading or asking could run is
on our list: arithmetic, and no state but variables. What is taken out of it is one graph with its weights as constants.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upkeep.errors import ModelError, Where
from upkeep.models.keras_runtime import quiet, tensorflow

SAVED_MODEL = "saved_model.pb"
SIGNATURE = "serving_default"
MOST_BYTES = 1 << 30

_ARITHMETIC = frozenset(
    (
        *("Abs", "Add", "AddN", "AddV2", "All", "Any", "ArgMax", "ArgMin", "AvgPool", "BatchMatMul", "BatchMatMulV2"),
        *("BiasAdd", "BroadcastTo", "Cast", "Ceil", "ClipByValue", "ConcatV2", "Const", "Conv2D", "Cos", "Cumsum"),
        *("DepthwiseConv2dNative", "DivNoNan", "Einsum", "Elu", "Equal", "Erf", "Erfc", "Exp", "ExpandDims", "Expm1"),
        *(
            "Fill",
            "Floor",
            "FloorDiv",
            "FloorMod",
            "FusedBatchNormV3",
            "GatherNd",
            "GatherV2",
            "Greater",
            "GreaterEqual",
        ),
        *("Identity", "IdentityN", "IsFinite", "IsInf", "IsNan", "LeakyRelu", "Less", "LessEqual", "Log", "Log1p"),
        *("LogSoftmax", "LogicalAnd", "LogicalNot", "LogicalOr", "MatMul", "Max", "MaxPool", "Maximum", "Mean", "Min"),
        *("Minimum", "Mul", "Neg", "NoOp", "NotEqual", "OneHot", "OnesLike", "Pack", "Pad", "PadV2", "Placeholder"),
        *("Pow", "Prod", "Range", "Rank", "RealDiv", "Reciprocal", "Relu", "Relu6", "Reshape", "Round", "Rsqrt"),
        *("Select", "SelectV2", "Selu", "Shape", "Sigmoid", "Sign", "Sin", "Size", "Slice", "Softmax", "Softplus"),
        *("Softsign", "Split", "SplitV", "Sqrt", "Square", "SquaredDifference", "Squeeze", "StopGradient"),
        *("StridedSlice", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Unpack", "Where", "ZerosLike"),
    )
)
_VARIABLES = frozenset(
    ("DisableCopyOnRead", "PartitionedCall", "ReadVariableOp", "ResourceGather", "StatefulPartitionedCall")
)


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """One graph, its weights as constants."""

    graph: str
    """A ``GraphDef``, deflated, as base64."""
    inputs: tuple[tuple[str, str, int], ...]
    """Of each: its name in the signature, its placeholder's type, and how many dimensions that has (1 or 2)."""
    output: str
    width: int
    """Numbers that it answers a row."""


def read_graph(graph: str) -> Any:
    """The ``GraphDef``. Raises :class:`ModelError` where it is none, or has an operation that is not on our list."""
    from tensorflow.core.framework import graph_pb2

    tensorflow()
    try:
        stream = zlib.decompressobj()
        data = stream.decompress(base64.b64decode(graph, validate=True), MOST_BYTES)
        if not stream.eof:
            raise ValueError("it is cut short, or too large")
        found = graph_pb2.GraphDef.FromString(data)
    except (ValueError, TypeError, binascii.Error, zlib.error, _decode_error()) as error:
        raise ModelError(f"this is no graph: {str(error)[:200]}", fix="fetch the model again") from error
    strange = {node.op for node in found.node} - _ARITHMETIC
    if strange or found.library.function or found.library.gradient:
        raise _refused(Where(), strange or {"functions of its own"})
    return found


def open_saved_model(folder: Path) -> Frozen:
    """The graph behind the signature ``serving_default``.

    Raises :class:`ModelError` where it is no SavedModel of TensorFlow 2, has files or tables beside its variables,
    operations that are not on our list, or another signature than columns in and one vector a row out; then nothing of
    it was run.
    """
    where = Where(file=str(folder))
    check_saved_model(folder)
    tf = tensorflow()
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    try:
        with quiet():
            loaded = tf.saved_model.load(str(folder))  # holds the variables until they are constants
            frozen = convert_variables_to_constants_v2(loaded.signatures[SIGNATURE])
    except KeyError as error:
        fix = f"write it with signatures={{'{SIGNATURE}': …}}"
        raise ModelError(f"it has no signature {SIGNATURE}", where=where, fix=fix) from error
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise _unreadable(where, f"{type(error).__name__}: {str(error)[:200]}") from error
    names = [name.partition(":")[0] for name in (tensor.name for tensor in frozen.inputs)]
    inputs = tuple(
        (name, tensor.dtype.name, -1 if tensor.shape.rank is None else tensor.shape.rank)
        for name, tensor in zip(names, frozen.inputs, strict=True)
    )
    outputs = list(frozen.outputs)
    shape = outputs[0].shape.as_list() if len(outputs) == 1 and outputs[0].shape.rank == 2 else [None, None]
    wrong = [name for name, _, rank in inputs if rank not in (1, 2)]
    if wrong or not inputs or shape[1] is None or not outputs[0].dtype.is_floating:
        raise ModelError(
            "its signature does not take one value a column and answer with one vector of floats",
            where=where,
            fix="write it with one input of shape (None,) or (None, 1) a column, and one output of shape (None, n)",
        )
    graph = frozen.graph.as_graph_def()
    for node in graph.node:
        for name in [name for name in node.attr if name.startswith("_")]:
            del node.attr[name]  # notes to TensorFlow, such as a gradient of the file's own
    data = graph.SerializeToString(deterministic=True)
    text = base64.b64encode(zlib.compress(data, 6)).decode()
    read_graph(text)
    return Frozen(graph=text, inputs=inputs, output=outputs[0].name, width=int(shape[1]))


def check_saved_model(folder: Path) -> None:
    """Raise :class:`ModelError` as :func:`open_saved_model` does, but for the signature; nothing is loaded."""
    from tensorflow.core.protobuf import saved_model_pb2

    where = Where(file=str(folder / SAVED_MODEL))
    tensorflow()
    try:
        found = saved_model_pb2.SavedModel.FromString((folder / SAVED_MODEL).read_bytes())
    except (OSError, _decode_error()) as error:
        raise _unreadable(where, str(error)[:200]) from error
    if len(found.meta_graphs) != 1 or not found.meta_graphs[0].HasField("object_graph_def"):
        raise _unreadable(where, "it is none of TensorFlow 2")
    (meta,) = found.meta_graphs
    kinds = {node.WhichOneof("kind") for node in meta.object_graph_def.nodes} & {"asset", "resource"}
    if kinds or meta.asset_file_def or any((folder / "assets").glob("*")):
        raise _refused(where, {"a table or a file beside its variables"})
    functions = {function.signature.name: function for function in meta.graph_def.library.function}
    waiting, seen = list(meta.object_graph_def.concrete_functions), set()
    ops: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in functions:
            ops.add(name)
            continue
        for node in functions[name].node_def:
            waiting += [node.op, *_called(node)]  # an operation may be a function's name
    if strange := ops - _ARITHMETIC - _VARIABLES:
        raise _refused(where, strange)


def _called(node: Any) -> Iterable[str]:
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (each.name for each in value.list.func)


def _decode_error() -> type[Exception]:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it has no types

    found: type[Exception] = DecodeError
    return found


def _refused(where: Where, what: Iterable[str]) -> ModelError:
    return ModelError(
        f"the graph holds what is not trusted: {', '.join(sorted(what)[:8])}",
        where=where,
        fix="load it where you trust it, and write the network that you need of it as .keras",
    )


def _unreadable(where: Where, what: str) -> ModelError:
    return ModelError(f"this is no readable SavedModel ({what})", where=where, fix="fetch it again")
