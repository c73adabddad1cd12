"""Where the arrays of a layer are: by places in the files of Keras 3, by names in those before and in models.

What Keras calls them: ``kernel`` (I, G*H), ``recurrent_kernel`` (H, G*H), ``bias``, ``embeddings`` (V, E).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastrnn.checks import Array
from fastrnn.interop.hdf5 import Hdf5
from fastrnn.interop.keras_graph import Node


class Weights(Protocol):
    """The arrays of all layers of a model."""

    def of(self, node: Node, names: Sequence[str], way: Sequence[tuple[str, str]] = ()) -> list[Array]:
        """A layer's arrays in this order, as many as there are.

        Parameters
        ----------
        node : Node
        names : sequence of str
            What Keras calls them.
        way : sequence of (str, str)
            To a layer that is wrapped: the place where Keras 3 keeps it, and its name; or ``forward_`` or
            ``backward_``, with which that starts, or nothing where there is but one.
        """
        ...


class ByPlace(NamedTuple):
    """Of ``model.weights.h5``: ``layers/bidirectional/forward_layer/cell/vars/0``."""

    file: Hdf5

    def of(self, node: Node, names: Sequence[str], way: Sequence[tuple[str, str]] = ()) -> list[Array]:
        """See `Weights`."""
        place = (*node.places, *(place for place, _ in way), "vars")
        found = {path[-1] for path in self.file.shapes if path[:-1] == place}
        wanted = [str(number) for number in range(len(found))]
        if found != set(wanted) or len(found) > len(names):
            shown = ", ".join(sorted(found)) or "none"
            raise node.wrong(f"must have {' and '.join(names)} in {'/'.join(place)}, found variables {shown}")
        return [_float(node, self.file.read(*place, number)) for number in wanted]


class ByName(NamedTuple):
    """Of layers whose variables have names: ``bidirectional/forward_lstm/lstm_cell/kernel:0``."""

    layers: dict[str, list[tuple[tuple[str, ...], Callable[[], Any]]]]  # of each the names, and how to read

    def of(self, node: Node, names: Sequence[str], way: Sequence[tuple[str, str]] = ()) -> list[Array]:
        """See `Weights`."""
        variables = self.layers.get(node.names[0], [])
        for name in [*node.names[1:], *(name for _, name in way if name)]:
            variables = [each for each in variables if _is_in(each[0][:-1], name)]
        found: dict[str, Callable[[], Any]] = {}
        for path, read in variables:
            name = path[-1].partition(":")[0]
            if name.startswith("rnn_state"):  # of a stateful layer
                continue
            if name in found or name not in names:
                raise node.wrong(f"must have {' and '.join(names)}, found {'/'.join(path)!r} besides")
            found[name] = read
        if list(found) and [name for name in names if name in found] != list(names[: len(found)]):
            raise node.wrong(f"must have {' and '.join(names)}, found {' and '.join(found)}")
        return [_float(node, found[name]()) for name in names if name in found]


def in_file(file: Hdf5, *groups: str) -> ByName:
    """The arrays of a file of Keras 2, or of Keras 3 with the suffix ``.h5``, within some groups."""
    start = len(groups)
    layers: dict[str, list[tuple[tuple[str, ...], Callable[[], Any]]]] = {}
    for path in file.shapes:
        if path[:start] == groups and len(path) > start + 1:
            layers.setdefault(path[start], []).append((path[start + 1 :], partial(file.read, *path)))
    return ByName(layers)


def in_model(layers: Iterable[Any]) -> ByName:
    """The arrays of the layers of a live model."""
    found: dict[str, list[tuple[tuple[str, ...], Callable[[], Any]]]] = {}
    for layer in layers:
        names = [getattr(variable, "path", variable.name).split("/") for variable in layer.weights]
        arrays = zip(names, layer.get_weights(), strict=True)
        found[layer.name] = [(tuple(name), partial(np.asarray, array)) for name, array in arrays]
    return ByName(found)


def _is_in(path: Sequence[str], name: str) -> bool:
    """Whether a variable is of a layer: one of the names on the way to it is the layer's."""
    if name not in ("forward_", "backward_"):
        return name in path
    directions = [each for each in path if each.startswith(("forward_", "backward_"))]
    forward = bool(directions) and directions[-1].startswith("forward_")
    return forward == (name == "forward_")  # a backward_layer that was given has any name


def _float(node: Node, array: Any) -> Array:
    """float64 as it is, and other floats as float32."""
    array = np.asarray(array)
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise node.wrong(f"has weights of dtype {array.dtype}, which are no floats")
    return array.astype(np.float64 if array.dtype.itemsize == 8 else np.float32)
