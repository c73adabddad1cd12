"""What all writers ask of a network first: its layers in a row, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from fastrnn import checks
from fastrnn.layers import Last, Layer, Sequential
from fastrnn.layers.sequential import _halves, _row


def row_of(network: Any) -> dict[str, Layer]:
    """The layers that x goes through, by name, those of a `Sequential` within it one by one; a layer by
    itself goes by the name of its class.

    Raises
    ------
    TypeError
        If it is no layer.
    """
    if not isinstance(network, Layer):
        hint = "; of an estimator give its network_" if hasattr(network, "network_") else ""
        raise TypeError(f"network must be a layer or a Sequential, got {checks.came(network)}{hint}")
    if type(network) is not Sequential:
        return {type(network).__name__.lower(): network}
    return dict(_row(network.parts))


def warn_of_network_alone(model: Any) -> None:
    """What is left behind where a fitted model's network is written."""
    what = "its network is written, but no vocabulary, classes or scaling"
    checks.warn(f"of the {type(model).__name__} {what}")


def of_halves(last: Last, before: Sequence[Layer]) -> bool:
    """Whether the second half of the features that `last` takes is of a direction that runs backwards."""
    return _halves(before) if last.bidirectional is None else last.bidirectional


def refuse(name: str, layer: Layer, why: str) -> NoReturn:
    """One error for all that a format has not."""
    raise ValueError(f"layer {name}, {layer!r}: {why}")
