"""Networks as ONNX models."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastrnn import checkpoint, checks
from fastrnn.interop.onnx_graph import OPSET, Graph
from fastrnn.interop.onnx_layers import RULES
from fastrnn.interop.onnx_recurrent import write_recurrent
from fastrnn.interop.rows import of_halves, refuse, row_of
from fastrnn.layers import CELLS, GELU, Dropout, Embedding, Last, Layer, Pooling, Recurrent, Reverse


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
    same network again, to the bit. But for one with a projection, which ONNX has not: W_hr is multiplied into
    the recurrent weights, and what the node gives by it; such a layer has no states.

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
        Of opset 17, or with `GELU` 20, in the network's dtype; numbers among a layer's options are float32.
        ONNX Runtime has recurrent layers of float32 only.

    Raises
    ------
    ImportError
        If the package onnx is not there: the extra ``fastrnn[onnx]``.
    TypeError, ValueError
        If an argument is of another type; if nothing takes the lengths, states or tokens; or if ONNX has not
        what a layer does: the error names it. These are layer normalisation, states of a projection, and
        layers of one's own.
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
    row = {name: layer for name, layer in row_of(network).items() if type(layer) is not Dropout}
    layers = list(row.values())
    lengths, states = checks.boolean("lengths", lengths), checks.boolean("states", states)
    recurrent = [layer for layer in layers if isinstance(layer, Recurrent)]
    if lengths and not any(layer._takes_lengths for layer in layers):
        raise ValueError("lengths must be False: there is no recurrent layer or pooling to take them")
    if states and not recurrent:
        raise ValueError("states must be False: there is no recurrent layer to have one")
    if checks.boolean("tokens", tokens) and not (layers and isinstance(layers[0], Recurrent)):
        raise ValueError(
            "tokens must be False: the first layer is not recurrent (an Embedding always has them)"
        )

    dtypes = [layer.dtype for layer in layers if hasattr(layer, "dtype")]
    dtype, batch_first = dtypes[0] if dtypes else np.dtype("float32"), any(l.batch_first for l in recurrent)
    graph = Graph(dtype, batch_first, 20 if any(isinstance(layer, GELU) for layer in layers) else OPSET)
    axes = ["time"] if any(layer._takes_lengths for layer in layers) else []
    axes.insert(0 if graph.batch_first else len(axes), "batch")
    takes, gives = (size or "features" for size in network._features)
    if tokens or (layers and isinstance(layers[0], Embedding)):
        graph.input("x", "int64", axes)
    else:
        graph.input("x", graph.dtype, [*axes, takes])
    if lengths:
        graph.lengths = graph.input("lengths", "int32", ["batch"])
    if tokens:
        values = graph.constant("off_on", np.array([0, 1], graph.dtype))
        graph.x = graph.node("OneHot", "x", graph.constant("tokens", takes), values)
    for graph.part, layer, how, before in _written_together(row):
        if type(layer) in CELLS.values():
            prefix = "" if layer is network else f"{graph.part}."
            forms = {"ends": how == "ends", "reverse": how == "reverse"}
            write_recurrent(graph, layer, **forms, states=states, prefix=prefix)
        elif type(layer) in RULES:
            RULES[type(layer)](graph, layer, before)
        else:
            known = ["RNN", "LSTM", "GRU", *(each.__name__ for each in RULES), "Dropout"]
            refuse(graph.part, layer, f"ONNX has no such layer; known are {', '.join(known)}")
    graph.part = ""
    if any(isinstance(layer, Pooling) for layer in layers):
        axes = ["batch"]
    elif graph.time_first == graph.batch_first:
        graph.swap()
    if graph.x == "x":  # there is no node
        graph.x = graph.node("Identity", "x")
    graph.output(graph.x, "y", [*axes, gives])
    graph.outputs.insert(0, graph.outputs.pop())
    model = graph.model()
    if path is not None:
        checkpoint.write(path, model.SerializeToString())
    return model


def _written_together(row: Mapping[str, Layer]) -> Iterator[tuple[str, Layer, str, list[Layer]]]:
    """The layers by name, each with those before it; a recurrent one that "ends" with the last h of each
    sequence or runs in "reverse" stands for the `Last` after it or the `Reverse` on its both sides too."""
    names, place = list(row), 0
    layers: list[Any] = list(row.values())
    while place < len(layers):
        first, second, third = [*layers[place : place + 3], None, None][:3]
        how, count = "", 1
        if type(first) in CELLS.values() and type(second) is Last:
            if of_halves(second, [first]) == first.bidirectional:
                how, count = "ends", 2
        elif type(first) is Reverse and type(second) in CELLS.values() and type(third) is Reverse:
            if not second.bidirectional:
                how, count = "reverse", 3
        own = place + (how == "reverse")
        yield names[own], layers[own], how, layers[:place]
        place += count
