"""Networks from ONNX models.

Letters: T time, B batch, F features, D directions, H hidden.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastrnn import checks
from fastrnn.interop import layouts
from fastrnn.interop.archive import Refusal
from fastrnn.interop.onnx_axes import Stack
from fastrnn.interop.onnx_cells import Cell, initial
from fastrnn.interop.onnx_file import Model, Node, read
from fastrnn.interop.onnx_parts import Pending, Weights
from fastrnn.interop.onnx_signals import Aside, Axis, Broken, Signal, Spread
from fastrnn.interop.onnx_walk import Scope, Walk
from fastrnn.layers import Last, Layer, Recurrent, Reverse, Sequential

ALONE = "layers=True gives the recurrent layers alone, whatever stands around them"


def from_onnx(
    model: str | os.PathLike[str] | bytes | Any, *, layers: bool = False, output: str | None = None
) -> Any:
    """The network of an ONNX model, or its recurrent layers.

    What leads from an input of the graph to its output must be a row of layers: `Embedding`, `RNN`, `LSTM`
    and `GRU`, the last step, the mean or the maximum, `Linear`, activations, as `torch.onnx.export`, tf2onnx
    and `to_onnx` write them. Weights may be computed from other constants, and be quantized: they become
    floats again. Nothing of the file is executed.

    Parameters
    ----------
    model : str, path-like, bytes or onnx.ModelProto
        A file, its content, or the model itself. Only of a path are tensors read that lie in files of their
        own: regular ones in the folder of the model.
    layers : bool
        Whether to return the recurrent layers alone, by the names of their nodes, those in subgraphs too.
        Each computes its node's Y, with the directions side by side as features; one that runs backwards is
        ``Sequential(Reverse(), layer, Reverse())``. A constant initial state is one that it has learned.
    output : str, optional
        Which output of the graph is meant, where there are several.

    Returns
    -------
    network : Sequential
        Its `x` lies as the input of the graph does, (T, B, F) or (B, T, F), or tokens (T, B) or (B, T), and
        the `lengths` are the input that is ``sequence_lens``. Initial states that are inputs of the graph are
        the `state` of a call, those that are outputs what it returns with `return_state`: one for each layer.
        What it gives is (T, B, F), (B, T, F) or (B, F), also where the graph splits or merges these axes.
    layers : dict of str to Recurrent or Sequential
        With `layers` only.

    Raises
    ------
    ImportError
        If the package onnx is not there: the extra ``fastrnn[onnx]``.
    TypeError
        If an argument is of another type.
    OSError
        If there is no such file.
    ValueError
        If it is no ONNX model, or does anything that layers of ours do not do: it names the node.

    Examples
    --------
    >>> from fastrnn.interop import from_onnx, to_onnx
    >>> from fastrnn.layers import LSTM, Last, Linear, Sequential
    >>> network = Sequential(LSTM(3, 5, seed=0), Last(), Linear(5, 2, seed=0))
    >>> again = from_onnx(to_onnx(network).SerializeToString())
    >>> again
    Sequential(
      (0_LSTM): LSTM(3, 5)
      (0_LSTM_last): Last(bidirectional=False)
      (2_MatMul): Linear(5, 2)
    )
    >>> x = np.ones((7, 4, 3), "float32")
    >>> bool((again(x) == network(x)).all())
    True
    """
    layers = checks.boolean("layers", layers)
    if output is not None and not isinstance(output, str):
        raise TypeError(f"output must be a name, got {checks.came(output)}")
    with checks.package("onnx", "onnx", "an ONNX model"):
        import onnx  # noqa: F401, what parses the file
    file = read(model)
    try:
        walk = Walk(file, layers)
        scope = walk.graph()
        if layers:
            return _layers(walk)
        return _network(walk, _wanted(file, scope, output))
    except Refusal as error:
        raise ValueError(f"{file.name!r}: {error}") from None


def _layers(walk: Walk) -> dict[str, Layer]:
    """Each recurrent node by itself."""
    if not walk.cells:
        raise Refusal("it has no recurrent nodes: RNN, LSTM or GRU")
    found: dict[str, Layer] = {}
    for name, (node, cell) in walk.cells.items():
        layer: Layer = cell.layer(cell.batch_first, _start(node, cell))
        found[name] = Sequential(Reverse(), layer, Reverse()) if cell.direction == "reverse" else layer
    return found


def _start(node: Node, cell: Cell) -> list[Any]:
    """A constant initial state; what else it is, is the user's to give."""
    values = [node.get(place) for place in (5, 6)[: 2 if node.op == "LSTM" else 1]]
    values = [value.array if isinstance(value, Spread) else value for value in values]
    places = [*node.inputs[:5], *values]
    found = [
        initial(node._replace(inputs=places), cell, 5 + k) if isinstance(value, np.ndarray) else None
        for k, value in enumerate(values)
    ]
    if all(each is None for each in found):
        return []
    zeros = np.zeros((cell.directions, cell.hidden_size), cell.places[0].w_ih.dtype)
    return [zeros if each is None else each for each in found]


def _wanted(file: Model, scope: Scope, output: str | None) -> Signal:
    """What the output that is meant has for a value."""
    names = [info.name for info in file.graph.output]
    if output is not None and output not in names:
        raise Refusal(f"output must be one of {', '.join(map(repr, names))}, got {output!r}")
    for name in names:
        if not scope.known(name):
            raise Refusal(f"its output {name!r} is given by no node")
    values = {name: scope.value(name) for name in ([output] if output is not None else names)}
    others = {name: value for name, value in values.items() if not _is_state(value)}
    chosen = others or {name: value for name, value in values.items() if isinstance(value, Signal)} or values
    if len(chosen) != 1:
        listed = ", ".join(map(repr, chosen))
        raise Refusal(f"it has several outputs: say which is meant by output=, one of {listed}")
    ((name, value),) = chosen.items()
    if isinstance(value, Broken):
        raise Refusal(f"{value.reason}. {ALONE}")
    if not isinstance(value, Signal):
        what = "a state" if isinstance(value, (Aside, Stack)) else "constant"
        raise Refusal(f"its output {name!r} is {what}, which is not what layers in a row give. {ALONE}")
    if not any(isinstance(link.layer, Recurrent) for link in value.link.row()):
        raise Refusal(f"no recurrent node leads to its output {name!r}. {ALONE}")
    _require_order(name, value)
    return value


def _is_state(value: Any) -> bool:
    """Whether it is what a call returns with `return_state`."""
    if isinstance(value, (Aside, Stack)):
        return True
    link = value.link if isinstance(value, Signal) else None
    ends = link is not None and isinstance(link.layer, Last) and link.before is not None
    return ends and isinstance(link.before.layer, Recurrent)  # type: ignore[union-attr]


def _require_order(name: str, y: Signal) -> None:
    """Refuse what lies in another way than a `Sequential` gives it."""
    link = y.link
    steps = [axis for axis in link.source.axes[:2] if not link.pooled or axis is not link.time]
    groups, wanted = [_sized(group) for group in y.axes], _sized((*steps, *link.features))
    given = [axis for group in groups for axis in group]
    if y.half is not None:
        raise Refusal(f"its output {name!r} is one direction of two. {ALONE}")
    *directions, units = link.features  # ONNX has them by themselves, before the batch
    others = [group for group in groups if group != directions]
    apart = others == [_sized([axis]) for axis in (*steps, units)] and groups[-1:] != [directions]
    if given != wanted and not apart:
        shown = ", ".join(axis.name for axis in given)
        raise Refusal(f"its output {name!r} has in another order than its input: {shown}. {ALONE}")


def _sized(axes: Iterable[Axis]) -> list[Axis]:
    """Those that are not of size 1, of which the order is nothing."""
    return [axis for axis in axes if axis.size != 1]


def _network(walk: Walk, y: Signal) -> Sequential:
    """The row of layers."""
    parts: dict[str, Layer] = {}
    for link in y.link.row():
        layer = link.layer
        if isinstance(layer, Pending) or (isinstance(layer, Weights) and layer.quantized):
            what = f", {layer.what}," if isinstance(layer, Pending) else ""
            raise Refusal(
                f"what node {link.name!r} gives{what} is no layer without other nodes after it. {ALONE}"
            )
        if isinstance(layer, Weights):
            walk.layers.spend(layer.nbytes)
            layer = layer.layer()
        parts[layouts.part_name(link.name, parts)] = layer
    return Sequential(**parts)  # type: ignore[arg-type]
