"""Layers without memory as nodes of an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from fastrnn.interop.onnx_graph import Graph
from fastrnn.interop.rows import of_halves
from fastrnn.layers import (
    ELU,
    GELU,
    SELU,
    Embedding,
    HardSigmoid,
    Last,
    Layer,
    LeakyReLU,
    Linear,
    LogSoftmax,
    Max,
    Mean,
    Merge,
    ReLU,
    Reverse,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)

Rule: TypeAlias = Callable[[Graph, Any, Sequence[Layer]], None]  # the layer's, and those before


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
    last = _at(graph, _reversed(graph, x), 0) if graph.lengths else _at(graph, x, -1)
    graph.x = graph.node("Concat", last, _at(graph, backwards, 0), axis=1) if backwards else last


def _at(graph: Graph, x: str, step: int) -> str:
    return graph.node("Gather", x, graph.constant("step", step), axis=0)


def _reversed(graph: Graph, x: str) -> str:
    """The valid steps of each sequence in reverse order."""
    if graph.lengths:
        return graph.node("ReverseSequence", x, graph.cast(graph.lengths, "int64"), time_axis=0, batch_axis=1)
    numbers = {"starts": [-1], "ends": [np.iinfo("int64").min], "axes": [0], "steps": [-1]}
    return graph.node("Slice", x, *(graph.constant(name, number) for name, number in numbers.items()))


def _reverse(graph: Graph, layer: Layer, before: Sequence[Layer]) -> None:
    graph.x = _reversed(graph, graph.steps())


def _merge(graph: Graph, layer: Merge, before: Sequence[Layer]) -> None:
    halves = graph.nodes_of("Split", [graph.x], ["first", "second"], axis=-1)
    graph.x = graph.node({"sum": "Add", "mul": "Mul", "ave": "Mean"}[layer.mode], *halves)


def _mean(graph: Graph, layer: Layer, before: Sequence[Layer]) -> None:
    x = graph.steps()
    if graph.lengths:
        total = graph.node("ReduceSum", _masked(graph, x, 0), graph.constant("axis", [0]), keepdims=0)
        count = graph.node("Unsqueeze", graph.cast(graph.lengths, graph.dtype), graph.constant("axis", [1]))
        graph.x = graph.node("Div", total, count)
    else:
        graph.x = graph.reduced("ReduceMean", x)


def _max(graph: Graph, layer: Layer, before: Sequence[Layer]) -> None:
    x = graph.steps()
    graph.x = graph.reduced("ReduceMax", _masked(graph, x, -np.inf) if graph.lengths else x)


def _masked(graph: Graph, x: str, value: float) -> str:
    """x with a value where a sequence is padded."""
    zero, one = graph.constant("start", 0), graph.constant("delta", 1)
    count = graph.node("Squeeze", graph.node("Shape", x, start=0, end=1), graph.constant("axis", [0]))
    step = graph.node("Unsqueeze", graph.node("Range", zero, count, one), graph.constant("axes", [1, 2]))
    length = graph.node("Unsqueeze", graph.cast(graph.lengths, "int64"), graph.constant("axes", [0, 2]))
    padding = graph.constant("padding", np.array(value, graph.dtype))
    return graph.node("Where", graph.node("Less", step, length), x, padding)


def _silu(graph: Graph, layer: Layer, before: Sequence[Layer]) -> None:
    graph.x = graph.node("Mul", graph.x, graph.node("Sigmoid", graph.x))


def _function(op: str, **attributes: Any) -> Rule:
    """How a layer is written that ONNX has as one operator: its attributes, or the layer's that they are."""

    def write(graph: Graph, layer: Layer, before: Sequence[Layer]) -> None:
        own = {
            name: getattr(layer, value) if isinstance(value, str) else value
            for name, value in attributes.items()
        }
        graph.x = graph.node(op, graph.x, **own)

    return write


#: How layers are written, given those before.
RULES: dict[type[Layer], Rule] = {
    Embedding: _embedding,
    Linear: _linear,
    Reverse: _reverse,
    Merge: _merge,
    Last: _last,
    Mean: _mean,
    Max: _max,
    ReLU: _function("Relu"),
    LeakyReLU: _function("LeakyRelu", alpha="negative_slope"),
    ELU: _function("Elu", alpha="alpha"),
    SELU: _function("Selu"),
    GELU: _function("Gelu", approximate="approximate"),
    SiLU: _silu,
    Sigmoid: _function("Sigmoid"),
    HardSigmoid: _function("HardSigmoid", alpha="slope", beta=0.5),
    Tanh: _function("Tanh"),
    Softplus: _function("Softplus"),
    Softsign: _function("Softsign"),
    Softmax: _function("Softmax", axis=-1),
    LogSoftmax: _function("LogSoftmax", axis=-1),
}
