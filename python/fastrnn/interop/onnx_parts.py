"""What rules for nodes of an ONNX graph share: layers that are not yet whole, and inputs beside the row."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastrnn.checks import Array
from fastrnn.interop.layouts import embedding, linear
from fastrnn.interop.onnx_constants import dequantized, once
from fastrnn.interop.onnx_file import Node
from fastrnn.interop.onnx_signals import Axis, Link, Signal, Spread, size_of
from fastrnn.layers import Embedding, Layer


class Pending(NamedTuple):
    """What is no layer by itself, but means something to the node that comes next."""

    what: str
    number: float = 0


class Weights(NamedTuple):
    """A `Linear` or an `Embedding` to be: what belongs to it comes in several nodes."""

    kind: type[Layer]
    weight: Array
    bias: Array | None = None
    alpha: float = 1.0  # what the weight is multiplied by,
    beta: float = 1.0  # and the bias
    zero: Array | None = None  # of a weight of integers, which is (weight - zero) * scale
    scale: Array | None = None

    @property
    def quantized(self) -> bool:
        """Whether it is of integers, and their scale is not yet known."""
        return self.weight.dtype.kind != "f" and self.scale is None

    @property
    def nbytes(self) -> int:
        """Of its arrays, as they are stored."""
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def layer(self) -> Layer:
        """It."""
        weight = self.weight
        if self.scale is not None and self.zero is not None:
            weight = dequantized(weight, self.scale, self.zero)
        if self.kind is Embedding:
            return embedding(weight)
        scaled = self.alpha * weight if self.alpha != 1 else weight
        bias = self.beta * self.bias if self.bias is not None and self.beta != 1 else self.bias
        return linear(scaled, bias, weight.dtype)


def lengths_of(node: Node, value: Any, time: Axis, link: Link) -> str | None:
    """The input of the graph that has the lengths, None if all steps are valid.

    Raises
    ------
    Refusal
        If they are something else, or others than those of the layers before.
    """
    found = None
    if is_other_input(value, link) and len(value.axes) == 1:
        found = value.link.source.name
    elif isinstance(value, (Spread, np.ndarray)):
        array = once(value.array if isinstance(value, Spread) else value)
        if not np.all(array == np.array(size_of([time]), object)):
            raise node.refuse("lengths that are constant, or computed, are not supported: make them an input")
    elif value is not None:
        raise node.refuse("lengths are supported that are an input of the graph, not others")
    if link.time is not None and link.lengths != found:
        raise node.refuse(f"the lengths are {found or 'those of all steps'}, before it {link.lengths}")
    return found


def is_other_input(value: Any, link: Link) -> bool:
    """Whether it is an input of the graph besides that of the layers."""
    return isinstance(value, Signal) and value.raw and value.link.source is not link.source


def signal(node: Node, place: int = 0) -> Signal:
    """An input that is what the layers give."""
    x = node.get(place)
    if not isinstance(x, Signal):
        raise node.refuse("it works on what is not in the row of layers")
    return x
