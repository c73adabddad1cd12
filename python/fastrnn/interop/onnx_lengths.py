"""Nodes of an ONNX graph that ask which steps are valid: the mean and the maximum over these, as `to_onnx`
writes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastrnn.interop.onnx_file import Node
from fastrnn.interop.onnx_parts import Pending
from fastrnn.interop.onnx_signals import Signal, Steps, size_of
from fastrnn.layers import Max, Mean

TOTAL = Pending("the sum of all valid steps")


class Valid(NamedTuple):
    """Which steps are within the lengths."""

    lengths: str
    time: int  # the place of each axis
    batch: int
    rank: int
    steps: Any  # how many there are


def _less(node: Node) -> Any:
    steps, lengths = _steps(node.inputs[0]), node.inputs[1]
    if steps is None or not isinstance(lengths, Signal) or not lengths.raw or len(lengths.axes) != steps.rank:
        raise node.refuse("it compares something else than the numbers of steps with lengths")
    places = [place for place, group in enumerate(lengths.axes) if group]
    if len(places) != 1 or len(lengths.link.source.axes) != 1:
        raise node.refuse("it compares something else than the numbers of steps with lengths")
    return Valid(lengths.link.source.name, steps.place, places[0], steps.rank, steps.size)


def _steps(value: Any) -> Steps | None:
    """0, 1, … along an axis."""
    if isinstance(value, np.ndarray) and value.size == max(value.shape, default=0) > 1:
        if (value.reshape(-1) == np.arange(value.size)).all():
            return Steps(value.size, value.shape.index(value.size), value.ndim)
    return value if isinstance(value, Steps) else None


def _where(node: Node) -> Any:
    valid, x, number = node.inputs
    if not isinstance(valid, Valid) or not isinstance(x, Signal) or not isinstance(number, np.ndarray):
        raise node.refuse("it chooses between other things than a valid step and a number for padding")
    link = x.link
    if link.lengths != valid.lengths or link.pooled:
        raise node.refuse(f"its lengths are {valid.lengths!r}, before it they are {link.lengths!r}")
    fits = len(x.axes) == valid.rank and x.axes[valid.time] == (link.time,)
    if not fits or x.axes[valid.batch] != (link.batch,) or size_of(x.axes[valid.time]) != valid.steps:
        raise node.refuse("time and batch are other axes of what it works on")
    if number.size != 1 or number.ndim > len(x.axes):
        raise node.refuse("what it puts into padding is not one number")
    return x.after(
        link.then(node.name, Pending("padding", float(number.item())), key=("padding", number.item()))
    )


def over_valid(node: Node, x: Signal, place: int) -> Signal | None:
    """The sum or the maximum over valid steps along an axis, which has nothing left; None if padding has not
    been replaced before."""
    link, before = x.link, x.link.before
    replaced = isinstance(link.layer, Pending) and link.layer.what == "padding"
    if before is None or not replaced or x.axes[place] != (link.time,):
        return None
    if node.op == "ReduceSum" and link.layer.number == 0:
        link = link.then(node.name, TOTAL, key="total", pooled=True)
    elif node.op == "ReduceMax" and link.layer.number == -np.inf:
        link = before.then(node.name, Max(), key="Max", pooled=True)
    else:
        raise node.refuse(
            f"padding is {link.layer.number} before it: it must be 0 for a sum, -inf for a maximum"
        )
    return Signal(link, (*x.axes[:place], (), *x.axes[place + 1 :]), x.half)


def mean(node: Node) -> Signal | None:
    """A sum over valid steps divided by their number, None if it is none."""
    x, count = node.inputs
    if not isinstance(x, Signal) or x.link.layer != TOTAL or not isinstance(count, Signal):
        return None
    given = [group if group == () else (x.link.batch,) for group in count.axes]
    batch = [group if group == (x.link.batch,) else () for group in x.axes]
    if not count.raw or count.link.source.name != x.link.lengths or given != batch:
        raise node.refuse("it divides a sum over valid steps by something else than their number")
    assert x.link.before is not None and x.link.before.before is not None
    return x.after(x.link.before.before.then(node.name, Mean(), key="Mean", pooled=True))


#: How each operator is read.
LENGTHS: dict[str, Callable[[Node], Any]] = {"Less": _less, "Where": _where}
