"""Nodes of an ONNX graph that leave out what is behind the ends of sequences, for a mean or a maximum of the
valid steps, as `to_onnx` writes them.

The numbers of the steps are compared with the lengths, and a number put in the place of what is behind: -inf,
of which the maximum is taken, or 0, of which the sum is, to be divided by the lengths.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastrnn.interop import onnx_chain
from fastrnn.interop.onnx_constants import axis_of
from fastrnn.interop.onnx_file import Node
from fastrnn.interop.onnx_signals import Axis, Signal, Steps
from fastrnn.layers import Max, Mean


class Valid(NamedTuple):
    """Which steps are before the ends."""

    time: Axis
    lengths: Signal
    axes: tuple[str, ...]  # "time", "batch", or "" for one of size 1


class Filled(NamedTuple):
    """A number in the place of all that is behind the ends, in a row of layers."""

    value: float


class Total(NamedTuple):
    """The sum of the valid steps, in a row of layers."""


def _unsqueeze(node: Node) -> Any:
    """Also of the numbers of the steps."""
    x, given = node.inputs[0], node.integers("axes", 1) or []
    if not isinstance(x, Steps):
        return onnx_chain.RULES["Unsqueeze"](node)
    rank = len(given) + 1
    left = set(range(rank)) - {axis_of(node, axis, rank) for axis in given}
    if x.rank != 1 or len(left) != 1:
        raise node.refuse("it does not put the numbers of the steps along one axis")
    return Steps(x.axis, rank, left.pop())


def _less(node: Node) -> Valid:
    """Which steps are valid."""
    steps, lengths = node.inputs[:2]
    if isinstance(steps, Steps) and isinstance(lengths, Signal) and lengths.raw:
        axes = ["batch" if group else "" for group in lengths.axes]
        if len(axes) == steps.rank and axes.count("batch") == 1 and not axes[steps.place]:
            axes[steps.place] = "time"
            given = lengths.with_axes([group for group in lengths.axes if group])
            return Valid(steps.axis, given, tuple(axes))
    raise node.refuse("it does not compare each step with one length for each sequence")


def _where(node: Node) -> Signal:
    """What layers give, with a number behind the ends."""
    valid, x, value = node.inputs[:3]
    if not isinstance(valid, Valid) or not isinstance(x, Signal) or not isinstance(value, np.ndarray):
        raise node.refuse("it chooses by something else than which steps are valid")
    link = x.link
    if valid.axes != _named(x) or link.time is not valid.time or link.pooled:
        raise node.refuse("which steps are valid does not fit what it chooses from")
    if value.size != 1 or value.dtype != link.dtype:
        raise node.refuse("what it puts behind the ends must be one number")
    onnx_chain.lengths_of(node, valid.lengths, valid.time, link)  # refuses others
    number = float(value.item())
    return x.after(link.then(node.name, Filled(number), key=("filled", number)))


def _reduce(node: Node) -> Any:
    """Also of what is filled."""
    x, axes = node.inputs[0], node.integers("axes", 1)
    if not isinstance(x, Signal) or not isinstance(x.link.layer, Filled) or x.link.before is None:
        return onnx_chain.RULES[node.op](node)
    value, layer = {"ReduceMax": (-np.inf, Max()), "ReduceSum": (0.0, Total())}[node.op]
    place = axis_of(node, axes[0], len(x.axes)) if axes and len(axes) == 1 else 0
    if x.link.layer.value != value or _named(x)[place] != "time" or node.option("keepdims", 1):
        raise node.refuse(f"it is of steps that have {x.link.layer.value} behind the ends of sequences")
    made = x.link.before.then(node.name, layer, key=("valid", node.op), pooled=True)
    return Signal(made, (*x.axes[:place], *x.axes[place + 1 :]), x.half)


def _div(node: Node) -> Any:
    """Also of the sum of the valid steps by their number."""
    x, count = node.inputs[:2]
    if not isinstance(x, Signal) or not isinstance(x.link.layer, Total) or x.link.before is None:
        return onnx_chain.RULES["Div"](node)
    ours = isinstance(count, Signal) and count.raw and count.link.source.name == x.link.lengths
    if not ours or tuple("batch" if group else "" for group in count.axes) != _named(x):
        raise node.refuse("it divides the sum of the valid steps by something else than the lengths")
    return x.after(x.link.before.then(node.name, Mean(), key=("valid", "mean"), pooled=True))


def _named(x: Signal) -> tuple[str, ...]:
    """What is time and batch of the axes."""
    known: dict[Any, str] = {(x.link.time,): "time", (x.link.batch,): "batch"}
    return tuple(known.get(group, "") for group in x.axes)


#: How each operator is read, these among them.
RULES: dict[str, Callable[[Node], Any]] = onnx_chain.RULES | {
    "Unsqueeze": _unsqueeze,
    "Less": _less,
    "Where": _where,
    "ReduceMax": _reduce,
    "ReduceSum": _reduce,
    "Div": _div,
}
