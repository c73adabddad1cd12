"""Layers that go on as they were when the scale of what they take or give becomes another."""

from __future__ import annotations

from fastrnn.checks import Array
from fastrnn.data import Scaling


def keep_outputs(weight: Array, bias: Array, before: Scaling, after: Scaling) -> None:
    """Change weights so that with another scaling of what they predict they predict the same: van Hasselt et
    al., Learning values across many orders of magnitude, 2016, equations 3 and 4.
    """
    weight *= (before.deviation * after.inverse)[:, None]
    bias[...] = after.apply(before.undo(bias))


def keep_inputs(weight: Array, bias: Array, before: Scaling, after: Scaling) -> None:
    """Change weights so that of inputs in another scaling they make the same."""
    bias += weight @ before.apply(after.mean)
    weight *= after.deviation * before.inverse
