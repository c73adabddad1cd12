"""Nodes of an ONNX graph that are layers, in a row from its input to its output.

Letters: T time, B batch, F features, D directions, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn.checks import Array
from fastrnn.interop.onnx_axes import AXES, ended, halves, parts_of, reversed_
from fastrnn.interop.onnx_cells import INPUTS, Cell, cell, initial
from fastrnn.interop.onnx_constants import axis_of
from fastrnn.interop.onnx_file import Node
from fastrnn.interop.onnx_lengths import LENGTHS, mean, over_valid
from fastrnn.interop.onnx_parts import Pending, Weights, lengths_of, signal
from fastrnn.interop.onnx_quantized import QUANTIZED, scaled
from fastrnn.interop.onnx_signals import Aside, Axis, Link, Part, Signal, Spread, size_of
from fastrnn.layers import (
    ELU,
    GELU,
    SELU,
    Dropout,
    Embedding,
    HardSigmoid,
    Layer,
    LeakyReLU,
    Linear,
    LogSoftmax,
    Max,
    Mean,
    Merge,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)


def recurrent(node: Node) -> list[Any]:
    """Y, Y_h and Y_c of a recurrent node."""
    x, this = node.inputs[0], cell(node)
    if not isinstance(x, Signal) or x.half is not None or len(x.axes) != 3:
        raise node.refuse("X must be what the layers before it give, with 3 axes")
    link, (first, second, features) = x.link, x.axes
    time, batch = (second, first) if this.batch_first else (first, second)
    if len(time) != 1 or len(batch) != 1 or features != link.features or link.pooled:
        raise node.refuse("X must have time, batch and features as its axes")
    if {*time, *batch} != set(link.source.axes[:2]):
        raise node.refuse(f"time and batch must be the first two axes of the input {link.source.name!r}")
    if (link.time or time[0]) is not time[0] or (link.batch or batch[0]) is not batch[0]:
        raise node.refuse("time is another axis of X than in the layers before it")
    tokens = isinstance(link.layer, Pending) and link.layer.what == "one-hot"
    size = size_of(features)
    if isinstance(size, int) and size != this.places[0].w_ih.shape[1]:
        raise node.refuse(f"X has {size} features, W is for {this.places[0].w_ih.shape[1]}")
    if link.dtype != this.places[0].w_ih.dtype:
        raise node.refuse(f"X is of {link.dtype}, W of {this.places[0].w_ih.dtype}")
    lengths = lengths_of(node, node.get(4), time[0], link)
    start, states = _start(node, this, link)
    layer = this.layer(time[0] is link.source.axes[1], start)
    if tokens and link.before is not None:  # a recurrent layer takes them as they are
        link = link.before

    known = {"time": time[0], "batch": batch[0], "lengths": lengths}
    backwards, both = this.direction == "reverse", this.direction == "bidirectional"
    if backwards:
        link = reversed_(link, f"{node.name}_before", **known)
    units = Axis("the units", this.hidden_size)
    made = (Axis("the directions", 2), units) if both else (units,)
    link = link.then(node.name, layer, made, dtype=layer.dtype, states=states, **known)
    ends = ended(link, f"{node.name}_last", both)
    steps = reversed_(link, f"{node.name}_after") if backwards else link
    directions, rest = made[:-1], made[-1:]
    state: tuple[Any, ...] = (directions, batch, rest)
    Y: tuple[Any, ...] = (time, directions, batch, rest)
    if this.batch_first:
        state, Y = (batch, directions, rest), (batch, time, directions, rest)
    return [Signal(steps, Y), Signal(ends, state), Aside("c")][: len(node.outputs)]


def _start(node: Node, this: Cell, link: Link) -> tuple[list[Array], tuple[Part, ...]]:
    """The learned state, none if it is zeros or given at each call; and what of the graph's inputs that is,
    which must go to the layers in their order."""
    found: list[Any] = []
    states: list[Part] = []
    taken = {part.source: part.stop for each in link.row() for part in each.states}
    for place in (5, 6)[: 2 if node.op == "LSTM" else 1]:
        value = node.get(place)
        if isinstance(value, Spread):
            value = value.array
        if isinstance(value, np.ndarray):
            constant = node._replace(inputs=[*node.inputs[:place], value])
            found.append(initial(constant, this, place))
        else:
            parts = parts_of(value)
            if value is not None and not (parts and all(part.source is not link.source for part in parts)):
                raise node.refuse(f"{INPUTS[place]} must be constant or an input of the graph as it comes in")
            for part in parts:
                if part.start != taken.get(part.source, 0):
                    name = part.source.name
                    raise node.refuse(f"{INPUTS[place]} is not what comes next of {name!r}, layer by layer")
                taken[part.source] = part.stop
            states += parts
            found.append(None)
    if all(each is None for each in found):
        return [], tuple(states)
    zeros = np.zeros((this.directions, this.hidden_size), this.places[0].w_ih.dtype)
    return [zeros if each is None else each for each in found], tuple(states)


def _embedding_or_part(node: Node) -> Any:
    weight, tokens = node.inputs[0], node.inputs[1]
    if not isinstance(weight, np.ndarray) or not isinstance(tokens, Signal):
        return AXES["Gather"](node)
    if not tokens.raw or tokens.link.dtype.kind not in "iu" or node.option("axis", 0) or weight.ndim != 2:
        raise node.refuse("it must take rows of a matrix by tokens, which are the graph's input")
    axis = Axis("the features", weight.shape[1])
    link = tokens.link.then(node.name, Weights(Embedding, weight), (axis,), dtype=weight.dtype)
    return Signal(link, (*tokens.axes, (axis,)))


def _one_hot(node: Node) -> Any:
    tokens, depth, values = signal(node), node.inputs[1], node.inputs[2]
    plain = isinstance(values, np.ndarray) and values.tolist() == [0, 1] and isinstance(depth, np.ndarray)
    last = node.option("axis", -1) in (-1, len(tokens.axes))
    if not tokens.raw or tokens.link.dtype.kind not in "iu" or not last:
        raise node.refuse("it must be of tokens, which are the graph's input, with the vectors last")
    if not plain or depth.size != 1:
        raise node.refuse("it must have a constant depth, and 0 and 1 as values")
    axis = Axis("the features", int(depth.item()))
    link = tokens.link.then(node.name, Pending("one-hot", int(depth.item())), (axis,), dtype=values.dtype)
    return Signal(link, (*tokens.axes, (axis,)))


def _linear(node: Node, x: Any, weight: Any, alpha: float = 1.0) -> Signal:
    """A layer of weights (O, I)."""
    if not isinstance(x, Signal) or not isinstance(weight, np.ndarray) or weight.ndim != 2:
        raise node.refuse("it must multiply what the layers give by a constant matrix")
    if x.half is not None or not x.axes or x.axes[-1] != x.link.features or not weight.size:
        raise node.refuse("it must multiply all features, which must be in the last axis")
    size = size_of(x.axes[-1])
    if (isinstance(size, int) and size != weight.shape[1]) or x.link.dtype != weight.dtype:
        shown = f"weights of {weight.shape} and {weight.dtype}"
        raise node.refuse(f"{shown} do not fit {size} features of {x.link.dtype}")
    axis = Axis("the features", len(weight))
    link = x.link.then(node.name, Weights(Linear, weight, alpha=alpha), (axis,))
    return Signal(link, (*x.axes[:-1], (axis,)))


def _matmul(node: Node) -> Any:
    x, weight = node.inputs[:2]
    return _linear(node, x, weight.T if isinstance(weight, np.ndarray) else weight)


def _gemm(node: Node) -> Any:
    x, weight, bias = node.inputs[0], node.inputs[1], node.get(2)
    if node.option("transA", 0) or not isinstance(x, Signal) or len(x.axes) != 2:
        raise node.refuse("A must be what the layers give, a matrix that is not transposed")
    alpha, beta = node.option("alpha", 1.0), node.option("beta", 1.0)
    if isinstance(weight, np.ndarray):
        weight = weight if node.option("transB", 0) else weight.T
    y = _linear(node, x, weight, alpha)
    return y if bias is None or beta == 0 else _biased(node, y, bias, beta)


def _biased(node: Node, y: Signal, bias: Any, beta: float = 1.0) -> Signal:
    """A `Linear` that had no bias, with one."""
    link = y.link
    layer = link.layer
    open_ = isinstance(layer, Weights) and layer.kind is Linear and layer.bias is None and not layer.quantized
    if not open_ or y.axes[-1:] != (link.features,):
        raise node.refuse("a constant can be added to what a multiplication by weights gives, nowhere else")
    if not isinstance(bias, np.ndarray) or bias.dtype != link.dtype:
        raise node.refuse("the bias is not constant, or of another type than what it is added to")
    if bias.ndim > len(y.axes) or bias.size != max(bias.shape[-1:], default=1):
        raise node.refuse(f"a bias of shape {bias.shape} is not one number for each feature")
    if bias.size not in (1, len(layer.weight)):
        raise node.refuse(f"a bias of shape {bias.shape} is none of {len(layer.weight)} features")
    whole = np.broadcast_to(bias.reshape(-1), len(layer.weight))
    assert link.before is not None
    made = link.before.then(link.name, layer._replace(bias=whole, beta=beta), link.features)
    return y.after(made)


def _merge(mode: str) -> Callable[[Node], Any]:
    """The rule of an operator on two directions, or on one and a constant."""

    def rule(node: Node) -> Any:
        first, second = node.inputs[0], node.get(1)
        whole = scaled(node) if node.op == "Mul" else None
        if whole is not None:
            return whole
        signals = [each for each in (first, second) if isinstance(each, Signal)]
        if len(signals) == 2 and len(node.inputs) == 2:
            return _merged(node, signals[0], signals[1], mode)
        constants = [each for each in (first, second) if isinstance(each, np.ndarray)]
        if len(signals) != 1 or len(constants) != 1 or len(node.inputs) != 2:
            raise node.refuse("it joins what is not two directions of one layer")
        if node.op in ("Add", "Sum"):
            return _biased(node, signals[0], constants[0])
        if node.op != "Mul":
            raise node.refuse("it is of what layers give and a constant")
        return _halved(node, signals[0], constants[0], 0.5)

    return rule


def _merged(node: Node, first: Signal, second: Signal, mode: str) -> Signal:
    """Both directions as one."""
    link = first.link
    if node.op == "Mul" and first.axes == second.axes and first.half == second.half:
        for x, gate in ((first, second), (second, first)):
            if isinstance(gate.link.layer, Sigmoid) and gate.link.before is x.link:
                return x.after(x.link.then(node.name, SiLU(), key="silu"))
    if {first.half, second.half} != {0, 1} or link is not second.link or first.axes != second.axes:
        raise node.refuse("it joins what is not two directions of one layer")
    return Signal(link.then(node.name, Merge(mode), link.features[1:]), first.axes)


def _halved(node: Node, x: Signal, number: Array, wanted: float) -> Signal:
    """The mean of both directions, of their sum."""
    link = x.link
    merged = isinstance(link.layer, Merge) and link.layer.mode == "sum"
    if number.size != 1 or number.ndim > len(x.axes) or number.item() != wanted or not merged:
        raise node.refuse(
            "a product with a constant is supported for the mean of two directions, nowhere else"
        )
    assert link.before is not None
    return x.after(link.before.then(link.name, Merge("ave"), link.features))


def _div(node: Node) -> Any:
    x, number = node.inputs[:2]
    pooled = mean(node)
    if pooled is not None:
        return pooled
    if not isinstance(x, Signal) or not isinstance(number, np.ndarray):
        raise node.refuse("it divides by what is not constant")
    return _halved(node, x, number, 2.0)


def _reduce(pooling: type[Layer] | None, mode: str | None) -> Callable[[Node], Any]:
    """The rule of an operator over the steps, or over the directions."""

    def rule(node: Node) -> Any:
        x, axes, keep = signal(node), node.integers("axes", 1), bool(node.option("keepdims", 1))
        places = sorted({axis_of(node, axis, len(x.axes)) for axis in axes or ()})
        real = [place for place in places if x.axes[place]]
        if len(real) != 1:
            raise node.refuse(f"it must be over one axis, got {axes}")
        y = over_valid(node, x, real[0]) or pooled(node, x, real[0], pooling, mode)
        return (
            y if keep else y.with_axes([group for place, group in enumerate(y.axes) if place not in places])
        )

    return rule


def pooled(node: Node, x: Signal, place: int, pooling: type[Layer] | None, mode: str | None) -> Signal:
    """One out of all along an axis, which has nothing left."""
    group, link = x.axes[place], x.link
    axes = [*x.axes[:place], (), *x.axes[place + 1 :]]
    if mode is not None and halves(node, x, place) and len(group) == 1:
        return Signal(link.then(node.name, Merge(mode), link.features[1:]), tuple(axes))
    if pooling is None or group != (link.time,) or link.pooled:
        raise node.refuse("it is not over time, nor over directions")
    if link.lengths is not None:
        raise node.refuse(f"it is over all steps, also those beyond the lengths {link.lengths!r}")
    key = pooling.__name__
    return Signal(link.then(node.name, pooling(), key=key, pooled=True), tuple(axes), x.half)


def _global(pooling: type[Layer]) -> Callable[[Node], Any]:
    def rule(node: Node) -> Any:
        x = signal(node)
        if len(x.axes) != 3:
            raise node.refuse("it is over more than time")
        return pooled(node, x, 2, pooling, None)

    return rule


def _reverse_sequence(node: Node) -> Any:
    x = signal(node)
    given = node.option("time_axis", 0), node.option("batch_axis", 1)
    places = [axis_of(node, axis, len(x.axes)) for axis in given]
    groups = [x.axes[place] for place in places]
    if any(len(group) != 1 or group[0] not in x.link.source.axes[:2] for group in groups) or x.link.pooled:
        raise node.refuse("it must be along time")
    (time,), (batch,) = groups
    if (x.link.time or time) is not time or (x.link.batch or batch) is not batch:
        raise node.refuse("it must be along time, the same as in the layers before it")
    lengths = lengths_of(node, node.inputs[1], time, x.link)
    return x.after(reversed_(x.link, node.name, time=time, batch=batch, lengths=lengths))


def _softmax(kind: type[Layer]) -> Callable[[Node], Any]:
    def rule(node: Node) -> Any:
        x = signal(node)
        axis = axis_of(node, node.option("axis", -1 if node.opset >= 13 else 1), len(x.axes))
        last = all(not group for group in x.axes[axis + 1 :])
        if x.half is not None or x.axes[axis] != x.link.features or (node.opset < 13 and not last):
            raise node.refuse(f"axis={node.option('axis', None)} is supported only where it is the features")
        return x.after(x.link.then(node.name, kind()))

    return rule


def _function(make: Callable[[Node], Layer]) -> Callable[[Node], Any]:
    """The rule of a function of each element."""

    def rule(node: Node) -> Any:
        x = signal(node)
        if x.link.dtype.kind != "f":
            raise node.refuse(f"it is of {x.link.dtype}")
        key = node.op, str(sorted(node.attributes.items()))
        return x.after(x.link.then(node.name, make(node), key=key))

    return rule


def _hard_sigmoid(node: Node) -> Layer:
    alpha, beta = node.option("alpha", 0.2), node.option("beta", 0.5)
    if beta != 0.5 or not alpha > 0:
        raise node.refuse(f"alpha={alpha}, beta={beta} are not supported: beta must be 0.5, alpha positive")
    return HardSigmoid() if np.float32(alpha) == np.float32(1 / 6) else HardSigmoid(slope=alpha)


def _selu(node: Node) -> Layer:
    usual = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}
    for name, value in usual.items():
        if not np.isclose(node.option(name, value), value, rtol=1e-6):
            raise node.refuse(f"{name}={node.attributes[name]} is not supported")
    return SELU()


def _gelu(node: Node) -> Layer:
    return GELU(node.option("approximate", "none"))


def _dropout(node: Node) -> Any:
    x, ratio, training = signal(node), node.get(1), node.get(2)
    trains = training is not None and not (isinstance(training, np.ndarray) and not training.any())
    if trains or (node.opset < 7 and not node.option("is_test", 0)):
        raise node.refuse("it drops at random: the graph is one for training")
    ratio = node.option("ratio", 0.5) if ratio is None else ratio
    p = float(ratio.item()) if isinstance(ratio, np.ndarray) and ratio.size == 1 else ratio
    if not isinstance(p, float) or not 0 <= p < 1 or x.link.dtype.kind != "f":
        return [x, None][: len(node.outputs)]
    return [x.after(x.link.then(node.name, Dropout(p), key=("dropout", p))), None][: len(node.outputs)]


#: How each operator is read that works on what layers give.
RULES: dict[str, Callable[[Node], Any]] = {
    **AXES,
    **LENGTHS,
    **QUANTIZED,
    "Gather": _embedding_or_part,
    "OneHot": _one_hot,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Add": _merge("sum"),
    "Sum": _merge("sum"),
    "Mul": _merge("mul"),
    "Mean": _merge("ave"),
    "Div": _div,
    "ReduceMean": _reduce(Mean, "ave"),
    "ReduceMax": _reduce(Max, None),
    "ReduceSum": _reduce(None, "sum"),
    "GlobalAveragePool": _global(Mean),
    "GlobalMaxPool": _global(Max),
    "ReverseSequence": _reverse_sequence,
    "Softmax": _softmax(Softmax),
    "LogSoftmax": _softmax(LogSoftmax),
    "Relu": _function(lambda node: ReLU()),
    "Tanh": _function(lambda node: Tanh()),
    "Sigmoid": _function(lambda node: Sigmoid()),
    "LeakyRelu": _function(lambda node: LeakyReLU(node.option("alpha", 0.01))),
    "Elu": _function(lambda node: ELU(node.option("alpha", 1.0))),
    "Selu": _function(_selu),
    "Softplus": _function(lambda node: Softplus()),
    "Softsign": _function(lambda node: Softsign()),
    "HardSigmoid": _function(_hard_sigmoid),
    "Gelu": _function(_gelu),
    "Dropout": _dropout,
}
