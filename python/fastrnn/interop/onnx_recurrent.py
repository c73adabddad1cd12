"""Recurrent layers as nodes of an ONNX graph: one for each layer of a stack.

Letters: T time, B batch, H hidden, L layers, D directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn.checks import Array
from fastrnn.interop.layouts import ACTIVATIONS, places, reordered
from fastrnn.interop.onnx_graph import Graph
from fastrnn.interop.rows import refuse
from fastrnn.reference import CELLS, Parameters

#: Functions in a cell: ONNX's name, and alpha and beta where they are not as usual, by ours.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "sigmoid": ("Sigmoid",),
    "hard_sigmoid": ("HardSigmoid", 0.2, 0.5),
    "hard_sigmoid_6": ("HardSigmoid", 1 / 6, 0.5),
    "tanh": ("Tanh",),
    "relu": ("Relu",),
    "linear": ("Affine", 1.0, 0.0),
}


def write_recurrent(
    graph: Graph, layer: Any, *, ends: bool, reverse: bool, states: bool, prefix: str
) -> None:
    """Put a layer into the graph.

    Parameters
    ----------
    graph : Graph
    layer : Recurrent
    ends : bool
        Whether what goes on is the last h of each sequence instead of all.
    reverse : bool
        Whether the layer, which has one direction, runs backwards.
    states : bool
        Whether the states are inputs and outputs of the graph.
    prefix : str
        What stands before their names.

    Raises
    ------
    ValueError
        If ONNX has no such layer.
    """
    if getattr(layer, "layer_norm", False):
        refuse(graph.part, layer, f"ONNX's {layer._kind.upper()} has no layer normalisation")
    if layer.proj_size and (states or layer.learned_state):
        refuse(graph.part, layer, "with proj_size it has no state in ONNX to be given, or learned")
    letters, L = CELLS[layer._cell].states, layer.num_layers
    D = 2 if layer.bidirectional else 1
    x, initial, last = graph.steps(), [_initial(graph, layer, each, states, prefix) for each in letters], []
    attributes, weights = _attributes(layer, reverse), places(layer)
    for level in range(L):
        all_steps = not ends or level + 1 < L
        arrays = _arrays(layer._kind, weights[level * D : (level + 1) * D])
        found = {key: graph.constant(f"{key}_l{level}", array) for key, array in arrays.items()}
        W, R, B, P, projection = (found.get(key, "") for key in ("W", "R", "B", "P", "projection"))
        inputs = [x, W, R, B, graph.lengths, *[each[level] for each in initial], P]
        outputs = ["Y" if all_steps else "", *(f"Y_{letter}" for letter in (letters if states else "h"))]
        Y, *final = graph.nodes_of(layer._kind.upper(), _without_empty_end(inputs), outputs, **attributes)
        last.append(final)
        x = Y if all_steps else final[0]
        x = graph.node("MatMul", x, projection) if projection else x  # of each direction its own
        x = _side_by_side(graph, x, layer, 1 if all_steps else 0)
    graph.x = x
    if states:
        for letter, members in zip(letters, zip(*last, strict=True), strict=True):
            whole = graph.node("Concat", *members, axis=0) if L > 1 else members[0]
            graph.output(whole, f"{prefix}{letter}_n", [L * D, "batch", layer.hidden_size])


def _arrays(kind: str, directions: Sequence[Parameters]) -> dict[str, Array]:
    """The operator's inputs of weights that there are, with an axis for the directions in front."""

    def both(arrays: Sequence[Any], kind: str = kind) -> Array:
        return np.stack([reordered(array, kind, "pytorch", "onnx") for array in arrays])

    arrays = {"W": both([each.w_ih for each in directions]), "R": both([each.w_hh for each in directions])}
    if directions[0].b_ih is not None:
        halves = both([each.b_ih for each in directions]), both([each.b_hh for each in directions])
        arrays["B"] = np.concatenate(halves, axis=1)
    projections = [each.w_hr for each in directions if each.w_hr is not None]
    if projections:  # in the recurrence a part of R, and at last a product
        pairs = zip(directions, projections, strict=True)
        products = [each.w_hh.astype("float64") @ w_hr for each, w_hr in pairs]
        arrays["R"] = both(products).astype(arrays["W"].dtype)
        arrays["projection"] = np.stack([w_hr.T for w_hr in projections])
    if directions[0].vectors:
        arrays["P"] = both([each.vectors[0] for each in directions], "peephole")
    return arrays


def _attributes(layer: Any, reverse: bool) -> dict[str, Any]:
    """Those of the operator that are not as usual."""
    found: dict[str, Any] = {"hidden_size": layer.hidden_size}
    if reverse or layer.bidirectional:
        found["direction"] = "reverse" if reverse else "bidirectional"
    usual = ACTIVATIONS[layer._kind]
    names = {option: getattr(layer, option) for option in usual}
    if names != usual:
        functions = [FUNCTIONS[name] for name in names.values()] * (2 if layer.bidirectional else 1)
        found["activations"] = [function[0] for function in functions]
        numbers = [function[1:] for function in functions if function[1:]]
        if numbers:
            found["activation_alpha"], found["activation_beta"] = zip(*numbers, strict=True)
    if layer.clip is not None:
        found["clip"] = layer.clip
    if getattr(layer, "reset_after", False):
        found["linear_before_reset"] = 1
    if getattr(layer, "coupled", False):
        found["input_forget"] = 1
    return found


def _initial(graph: Graph, layer: Any, letter: str, states: bool, prefix: str) -> list[str]:
    """What each layer of the stack begins with: an input's part, what is learned, or "" for zeros."""
    L, H, D = layer.num_layers, layer.hidden_size, 2 if layer.bidirectional else 1
    levels = [f"{letter}_l{level}" for level in range(L)]
    if states:
        name = graph.input(f"{prefix}{letter}_0", layer.dtype, [L * D, "batch", H])
        return graph.nodes_of("Split", [name], levels, axis=0) if L > 1 else [name]
    if not layer.learned_state:
        return [""] * L
    first, last = graph.constant("size", [D]), graph.constant("size", [H])
    shape = graph.node("Concat", first, graph.batch(), last, axis=0)
    arrays = layer.parameters[f"initial_{letter}"].reshape(L, D, 1, H)
    constants = [graph.constant(f"initial_{name}", array) for name, array in zip(levels, arrays, strict=True)]
    return [graph.node("Expand", each, shape) for each in constants]


def _side_by_side(graph: Graph, Y: str, layer: Any, axis: int) -> str:
    """(T, D, B, H) or (D, B, H), with its directions in that axis, as (T, B, D*H) or (B, D*H)."""
    if not layer.bidirectional:
        return graph.node("Squeeze", Y, graph.constant("axis", [axis]))
    turned = graph.node("Transpose", Y, perm=[0, 2, 1, 3] if axis else [1, 0, 2])
    shape = [0] * (1 + axis) + [layer.output_size]
    return graph.node("Reshape", turned, graph.constant("shape", shape))


def _without_empty_end(names: list[str]) -> list[str]:
    while not names[-1]:
        names.pop()
    return names
