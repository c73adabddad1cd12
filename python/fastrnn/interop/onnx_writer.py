"""Networks as ONNX models: the row of layers, and how each is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastrnn import checkpoint, checks
from fastrnn.interop.onnx_graph import Graph
from fastrnn.interop.onnx_recurrent import write_recurrent
from fastrnn.interop.rows import of_halves, refuse, row_of
from fastrnn.layers import (
    CELLS,
    Embedding,
    Last,
    Layer,
    Linear,
    Max,
    Mean,
    Pooling,
    Recurrent,
    ReLU,
    Sigmoid,
    Tanh,
)


def to_onnx(
    network: Layer,
    path: str | os.PathLike[str] | None = None,
    *,
    lengths: bool = False,
    states: bool = False,
    tokens: bool = False,
) -> Any:
    """A recurrent layer or a `Sequential` as an ONNX model, which computes what a call of it does.

    Batch and time may have any size. The input ``x`` and the output ``y`` lie as the network has them, time
    first or batch first; within the graph time is first, as ONNX Runtime wants it. Each layer of a stack is
    one node ``LSTM``, ``GRU`` or ``RNN`` with the same numbers in ONNX's order, so that `from_onnx` gives the
    same network again, to the bit.

    Parameters
    ----------
    network : Layer
        A recurrent layer, of which ``y`` is written, or a `Sequential`.
    path : str or path-like, optional
        A file to write the model to as well, in one step.
    lengths : bool
        Whether there is an input ``lengths``, (B,) int32, to be given at each run: how many steps of each
        sequence are valid, at least 1. What ``y`` holds beyond means nothing.
    states : bool
        Whether the states are inputs and outputs: ``h_0`` and ``h_n``, (L*D, B, H), and for an LSTM ``c_0``
        and ``c_n``; in a `Sequential` with the layer's name before them, as ``1.h_0``. They are to be given
        at each run: zeros where a sequence begins, or what the layer has learned, repeated for the batch.
    tokens : bool
        Whether a first layer that is recurrent gets tokens, (T, B) int64, instead of floats. The graph makes
        one-hot vectors of them, whose products with the weights are columns of these, exactly.

    Returns
    -------
    onnx.ModelProto
        Of opset 17, in the network's dtype. ONNX Runtime has recurrent layers of float32 only.

    Raises
    ------
    ImportError
        If the package onnx is not there: the extra ``fastrnn[onnx]``.
    TypeError, ValueError
        If an argument is of another type; if nothing takes the lengths, states or tokens; or if ONNX has not
        what a layer does: the error names it. These are layer normalisation, projections, and layers of one's
        own.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> from fastrnn.layers import LSTM, Last, Linear, Sequential
    >>> network = Sequential(LSTM(3, 5, seed=0), Last(), Linear(5, 2, seed=0))
    >>> model = fastrnn.interop.to_onnx(network, lengths=True)
    >>> [each.name for each in model.graph.input], [node.op_type for node in model.graph.node]
    (['x', 'lengths'], ['LSTM', 'Squeeze', 'MatMul', 'Add'])
    """
    with checks.package("onnx", "onnx", "an ONNX model"):
        import onnx  # noqa: F401, what the graph is made with
    row = row_of(network)
    layers = list(row.values())
    lengths, states = checks.boolean("lengths", lengths), checks.boolean("states", states)
    recurrent = [layer for layer in layers if isinstance(layer, Recurrent)]
    if lengths and not (recurrent or any(isinstance(layer, Pooling) for layer in layers)):
        raise ValueError("lengths must be False: there is no recurrent layer or pooling to take them")
    if states and not recurrent:
        raise ValueError("states must be False: there is no recurrent layer to have one")
    if checks.boolean("tokens", tokens) and not (layers and isinstance(layers[0], Recurrent)):
        raise ValueError(
            "tokens must be False: the first layer is not recurrent (an Embedding always has them)"
        )

    dtypes = [layer.dtype for layer in layers if hasattr(layer, "dtype")]
    graph = Graph(dtypes[0] if dtypes else np.dtype("float32"), any(layer.batch_first for layer in recurrent))
    _inputs(graph, layers, tokens, lengths)
    ended = False
    for place, (graph.part, layer) in enumerate(row.items()):
        if type(layer) in CELLS.values():
            following = layers[place + 1 :][:1]
            ended = bool(following) and _takes_final_states(following[0], layer)
            prefix = "" if layer is network else f"{graph.part}."
            write_recurrent(graph, layer, ends=ended, states=states, prefix=prefix)
        elif ended:  # what there is to do has been done
            ended = False
        elif type(layer) in _RULES:
            _RULES[type(layer)](graph, layer, layers[:place])
        else:
            refuse(graph.part, layer, f"ONNX has no such layer; known are {_known()}")
    _output(graph, layers)
    model = graph.model()
    if path is not None:
        checkpoint.write(path, model.SerializeToString())
    return model


def _inputs(graph: Graph, layers: Sequence[Any], tokens: bool, lengths: bool) -> None:
    features = [layer._features[0] for layer in layers if layer._features != (None, None)] or ["features"]
    axes = _axes(graph, layers)
    if tokens or (layers and isinstance(layers[0], Embedding)):
        graph.input("x", "int64", axes)
    else:
        graph.input("x", graph.dtype, [*axes, features[0]])
    if lengths:
        graph.lengths = graph.input("lengths", "int32", ["batch"])
    if tokens:
        values = graph.constant("off_on", np.array([0, 1], graph.dtype))
        graph.x = graph.node("OneHot", "x", graph.constant("tokens", features[0]), values)


def _output(graph: Graph, layers: Sequence[Any]) -> None:
    features = [layer._features[1] for layer in layers if layer._features[1] is not None] or ["features"]
    graph.part = ""
    pooled = any(isinstance(layer, Pooling) for layer in layers)
    if not pooled and graph.time_first == graph.batch_first:
        graph.swap()
    if graph.x == "x":  # there is no node
        graph.x = graph.node("Identity", "x")
    graph.output(graph.x, "y", [*(["batch"] if pooled else _axes(graph, layers)), features[-1]])
    graph.outputs.insert(0, graph.outputs.pop())


def _axes(graph: Graph, layers: Sequence[Any]) -> list[str]:
    """Those before the features."""
    if not any(isinstance(layer, (Recurrent, Pooling)) for layer in layers):
        return ["batch"]
    return ["batch", "time"] if graph.batch_first else ["time", "batch"]


def _takes_final_states(layer: Layer, recurrent: Any) -> bool:
    """Whether what it takes of a recurrent layer's steps is the last h of each direction."""
    return type(layer) is Last and of_halves(layer, [recurrent]) == recurrent.bidirectional


def _embedding(graph: Graph, layer: Any, before: Sequence[Layer]) -> None:
    graph.x = graph.node("Gather", graph.constant("weight", layer.parameters["weight"]), graph.x)


def _linear(graph: Graph, layer: Any, before: Sequence[Layer]) -> None:
    weight, *bias = layer.parameters.values()
    graph.x = graph.node("MatMul", graph.x, graph.constant("weight", weight.T))
    if bias:
        graph.x = graph.node("Add", graph.x, graph.constant("bias", bias[0]))


def _last(graph: Graph, layer: Last, before: Sequence[Layer]) -> None:
    x, backwards = graph.steps(), ""
    if of_halves(layer, before):
        x, backwards = graph.nodes_of("Split", [x], ["forwards", "backwards"], axis=2)
    if graph.lengths:  # the first step of what is turned round
        last = _at(graph, _reversed(graph, x), 0)
    else:
        last = _at(graph, x, -1)
    graph.x = graph.node("Concat", last, _at(graph, backwards, 0), axis=1) if backwards else last


def _at(graph: Graph, x: str, step: int) -> str:
    return graph.node("Gather", x, graph.constant("step", step), axis=0)


def _reversed(graph: Graph, x: str) -> str:
    """The valid steps of each sequence in reverse order."""
    return graph.node("ReverseSequence", x, graph.cast(graph.lengths, "int64"), time_axis=0, batch_axis=1)


def _mean(graph: Graph, layer: Layer, before: Sequence[Layer]) -> None:
    x = graph.steps()
    if graph.lengths:
        total = graph.node("ReduceSum", _masked(graph, x, 0), graph.constant("axis", [0]), keepdims=0)
        count = graph.node("Unsqueeze", graph.cast(graph.lengths, graph.dtype), graph.constant("axis", [1]))
        graph.x = graph.node("Div", total, count)
    else:
        graph.x = graph.node("ReduceMean", x, axes=[0], keepdims=0)


def _max(graph: Graph, layer: Layer, before: Sequence[Layer]) -> None:
    x = graph.steps()
    graph.x = graph.node(
        "ReduceMax", _masked(graph, x, -np.inf) if graph.lengths else x, axes=[0], keepdims=0
    )


def _masked(graph: Graph, x: str, value: float) -> str:
    """x with a value where a sequence is padded."""
    zero, one = graph.constant("start", 0), graph.constant("delta", 1)
    count = graph.node("Squeeze", graph.node("Shape", x, start=0, end=1), graph.constant("axis", [0]))
    step = graph.node("Unsqueeze", graph.node("Range", zero, count, one), graph.constant("axes", [1, 2]))
    length = graph.node("Unsqueeze", graph.cast(graph.lengths, "int64"), graph.constant("axes", [0, 2]))
    padding = graph.constant("padding", np.array(value, graph.dtype))
    return graph.node("Where", graph.node("Less", step, length), x, padding)


def _function(op: str, **attributes: Any) -> Callable[[Graph, Any, Sequence[Layer]], None]:
    """How a layer is written that ONNX has as one operator."""

    def write(graph: Graph, layer: Layer, before: Sequence[Layer]) -> None:
        graph.x = graph.node(op, graph.x, **attributes)

    return write


#: How layers are written, given those before.
_RULES: dict[type[Layer], Callable[[Graph, Any, Sequence[Layer]], None]] = {
    Embedding: _embedding,
    Linear: _linear,
    Last: _last,
    Mean: _mean,
    Max: _max,
    ReLU: _function("Relu"),
    Sigmoid: _function("Sigmoid"),
    Tanh: _function("Tanh"),
}


def _known() -> str:
    return ", ".join(["RNN", "LSTM", "GRU", *(each.__name__ for each in _RULES), "Dropout"])
