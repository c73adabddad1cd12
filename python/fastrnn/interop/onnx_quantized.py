"""Nodes of ONNX graphs whose weights are integers, as onnxruntime.quantization writes them: the weights
become floats again.

What layers give is rounded to integers as well by such graphs. Where the steps of that follow from what comes
in at a run, to save time, it is left out; where they are constant it is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastrnn.checks import Array
from fastrnn.interop.onnx_constants import dequantized, quantization
from fastrnn.interop.onnx_file import Budget, Node
from fastrnn.interop.onnx_parts import Pending, Weights, signal
from fastrnn.interop.onnx_signals import Axis, Link, Signal, size_of
from fastrnn.layers import Embedding, Linear

ROUNDED = "what the layers give"  # in integers, until it is multiplied


class Scale(NamedTuple):
    """That of what a layer gives, rounded at a run, times a constant."""

    link: Link
    factor: Array | None = None


class ZeroPoint(NamedTuple):
    """Of what a layer gives, rounded at a run."""

    link: Link


def lstm(node: Node, budget: Budget) -> Node:
    """A DynamicQuantizeLSTM as an LSTM."""
    inputs = list(node.inputs[:8]) + [None] * (8 - len(node.inputs))
    for place, at in ((1, 8), (2, 10)):
        array, scale, zero = inputs[place], node.get(at), node.get(at + 1)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu" or array.ndim != 3:
            raise node.refuse("its weights are not constant, or not of integers")
        if not all(isinstance(each, np.ndarray) and each.ndim < 3 for each in (scale, zero)):
            raise node.refuse("its scales and zero points are not constant")
        if scale.ndim == 2 and scale.shape[1] > 1:  # of each direction and gate
            wanted: tuple[int, ...] = (len(array), 1, array.shape[2])
        else:
            wanted = (scale.size, 1, 1)
        if scale.size != np.prod(wanted) or zero.size != scale.size or wanted[0] not in (1, len(array)):
            raise node.refuse(f"scales of {scale.shape} do not fit weights of {array.shape}")
        budget.spend(array.nbytes)
        whole = dequantized(array, scale.reshape(wanted), zero.reshape(wanted))
        inputs[place] = whole.transpose(0, 2, 1)
    return node._replace(op="LSTM", inputs=inputs)


def _round(node: Node) -> Any:
    """DynamicQuantizeLinear: integers, their scale and their zero point."""
    x = signal(node)
    if x.half is not None or x.link.dtype != np.float32:
        raise node.refuse("it rounds one direction, or what is not of float32")
    link = x.link.then(node.name, Pending(ROUNDED), dtype=np.dtype(np.int32))
    return [x.after(link), Scale(link), ZeroPoint(link)][: len(node.outputs)]


def _multiply(node: Node) -> Any:
    """MatMulInteger."""
    x, weight, zero = signal(node), node.get(1), node.get(2)
    link = x.link
    if link.layer != Pending(ROUNDED) or zero != ZeroPoint(link) or x.axes[-1:] != (link.features,):
        raise node.refuse("it must multiply what the layers give, all features, rounded in the node before")
    if not isinstance(weight, np.ndarray) or weight.ndim != 2 or weight.dtype.kind not in "iu":
        raise node.refuse("its weights are not constant")
    size = size_of(x.axes[-1])
    if isinstance(size, int) and size != len(weight):
        raise node.refuse(f"weights of {weight.shape} do not fit {size} features")
    axis = Axis("the features", weight.shape[1])
    zeros = np.zeros((), weight.dtype) if node.get(3) is None else node.get(3)
    if not isinstance(zeros, np.ndarray) or zeros.ndim > 1 or zeros.size not in (1, weight.shape[1]):
        raise node.refuse("its zero points are not constant, or not one for each column")
    made = Weights(Linear, weight.T, zero=zeros.reshape(-1, 1))
    return Signal(link.then(node.name, made, (axis,), dtype=np.dtype(np.float32)), (*x.axes[:-1], (axis,)))


def scaled(node: Node) -> Any:
    """A Mul of scales, or of a product of integers by its scale; None if it is none of these."""
    first, second = node.inputs
    for scale, other in ((first, second), (second, first)):
        if not isinstance(scale, Scale):
            continue
        if isinstance(other, np.ndarray) and scale.factor is None and other.dtype == np.float32:
            return Scale(scale.link, other)
        layer = other.link.layer if isinstance(other, Signal) else None
        if isinstance(layer, Weights) and layer.quantized and other.link.before is scale.link:
            return _whole(node, other, layer, scale)
        raise node.refuse("it multiplies by the scale of something else")
    return None


def _whole(node: Node, x: Signal, layer: Weights, scale: Scale) -> Signal:
    """A `Linear` whose weights are known now."""
    assert scale.link.before is not None and layer.zero is not None
    given = np.ones((), np.float32) if scale.factor is None else scale.factor
    apart = given.size > 1 and (given.shape[-1] != given.size or x.axes[-1] != x.link.features)
    if apart or given.ndim > len(x.axes):
        raise node.refuse(f"a scale of shape {given.shape} is not one number for all, or for each feature")
    size = max(given.size, layer.zero.size)
    scales, zeros = (np.broadcast_to(each.reshape(-1), size) for each in (given, layer.zero))
    factor, zero = quantization(node, layer.weight.shape, scales, zeros, 0)
    made = layer._replace(scale=factor, zero=zero)
    return x.after(scale.link.before.then(x.link.name, made, x.link.features))


def _vectors(node: Node) -> Any:
    """DequantizeLinear of the vectors of an `Embedding`."""
    x = signal(node)
    layer, before = x.link.layer, x.link.before
    if not isinstance(layer, Weights) or layer.kind is not Embedding or not layer.quantized or before is None:
        raise _rounds(node)
    scale = node.get(1)
    if isinstance(scale, np.ndarray) and scale.size > 1:
        raise node.refuse("several scales for the vectors of an embedding are not supported")
    factor, zero = quantization(node, layer.weight.shape, scale, node.get(2), 0)
    link = before.then(
        x.link.name, layer._replace(scale=factor, zero=zero), x.link.features, dtype=factor.dtype
    )
    return x.after(link)


def _rounds(node: Node) -> Exception:
    return node.refuse("it rounds what the layers give to integers, which changes what is computed")


def _refused(node: Node) -> Any:
    raise _rounds(node)


#: How each operator is read.
QUANTIZED: dict[str, Callable[[Node], Any]] = {
    "DynamicQuantizeLinear": _round,
    "MatMulInteger": _multiply,
    "DequantizeLinear": _vectors,
    "QuantizeLinear": _refused,
}
