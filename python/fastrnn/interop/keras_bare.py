"""Recurrent layers that weights alone show, without a configuration: those whose arrays can be nothing else.

Letters: I input, H hidden, G gates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastrnn.interop.hdf5 import Hdf5
from fastrnn.interop.keras_cells import NAMES
from fastrnn.interop.keras_graph import Node

#: The classes by G; those of cuDNN have two biases for each unit and gate, in one row.
KINDS = {1: "SimpleRNN", 3: "GRU", 4: "LSTM"}

SIDES = re.compile("(forward|backward)_")

Tuples = tuple[str, ...]


def cells_in(file: Hdf5, named: bool) -> list[Node]:
    """The recurrent layers of a file of weights.

    Parameters
    ----------
    file : Hdf5
    named : bool
        Whether arrays have names, or places as in Keras 3.

    Returns
    -------
    list of Node
        Without activations, which weights do not tell.
    """
    groups: dict[Tuples, dict[str, tuple[int, ...]]] = {}
    for path, shape in file.shapes.items():
        name = path[-1].partition(":")[0]
        if named and len(path) > 1:
            groups.setdefault(path[:-1], {})[name] = shape
        elif not named and len(path) > 2 and path[-2] == "vars" and name in ("0", "1", "2"):
            groups.setdefault(path[:-2], {})[NAMES[int(name)]] = shape
    found: dict[Tuples, dict[str, Any]] = {}
    for path, shapes in groups.items():
        config = _config(shapes)
        if config is None:
            continue
        if not named:
            if path[-2:-1] == ("cells",):
                raise ValueError(f"has cells on top of each other in {'/'.join(path)!r}: give architecture=")
            if path[-1] != "cell" and not path[-1].startswith("cu_dnn"):
                continue
            path = path[:-1] if path[-1] == "cell" else path
        found[path] = config
    sides: dict[Tuples, dict[str, Tuples]] = {}
    for path in found:
        places = [place for place, name in enumerate(path) if SIDES.match(name)]
        if places and (named or path[-1] in ("forward_layer", "backward_layer")):
            sides.setdefault(path[: places[-1]], {})[path[places[-1]].partition("_")[0]] = path
    for start, both in sides.items():
        if len(both) == 2:  # one alone is a layer that somebody has called so
            forward, backward = (found.pop(both[side]) for side in ("forward", "backward"))
            backward["config"]["go_backwards"] = True
            config = {"layer": forward, "backward_layer": backward}
            found[start] = {"class_name": "Bidirectional", "config": config}
    return [_node(path, config) for path, config in sorted(found.items())]


def _config(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """That of a layer with arrays of such shapes, if it can be but one."""
    kernel, recurrent = shapes.get("kernel", ()), shapes.get("recurrent_kernel", ())
    if not set(shapes) <= set(NAMES) or len(kernel) != 2 or len(recurrent) != 2:
        return None
    H, columns = recurrent
    if not H or columns % H or columns // H not in KINDS or kernel[1] != columns:
        return None
    kind = KINDS[columns // H]
    if shapes.get("bias") == (2 * columns,) and kind != "SimpleRNN":
        kind = f"CuDNN{kind}"
    return {"class_name": kind, "config": {"units": H, "use_bias": "bias" in shapes}}


def _node(path: Tuples, config: dict[str, Any]) -> Node:
    names = path[:1] + path[2:] if path[:1] == path[1:2] else path  # lstm/lstm/lstm_cell
    return Node(config["class_name"], names[-1] if names else "", config["config"], names, path, None)
