"""Where the arrays of a layer are: by places in the files of Keras 3, by names in those before and in models.

What Keras calls them: ``kernel`` (I, G*H), ``recurrent_kernel`` (H, G*H), ``bias``, ``embeddings`` (V, E).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from fastrnn.checks import Array
from fastrnn.interop.hdf5 import Hdf5
from fastrnn.interop.keras_graph import Node

BEFORE = "_layer_checkpoint_dependencies"  # what was "layers" until Keras 2.15


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


class ByPlace:
    """Of ``model.weights.h5``: ``layers/bidirectional/forward_layer/cell/vars/0``."""

    def __init__(self, file: Hdf5) -> None:
        self._file = file
        self._paths: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = {}  # by place and number
        for path in file.shapes:
            for place in {path[:-1], _of_today(path[:-1])}:
                self._paths.setdefault(place, {})[path[-1]] = path

    def of(self, node: Node, names: Sequence[str], way: Sequence[tuple[str, str]] = ()) -> list[Array]:
        """See `Weights`."""
        place = (*node.places, *(place for place, _ in way), "vars")
        found = self._paths.get(place, {})
        wanted = [str(number) for number in range(len(found))]
        if set(found) != set(wanted) or len(found) > len(names):
            shown = ", ".join(sorted(found))
            raise node.wrong(f"must have {' and '.join(names)} in {'/'.join(place)}, found variables {shown}")
        return [_float(node, self._file.read(*found[number])) for number in wanted]


def _of_today(place: tuple[str, ...]) -> tuple[str, ...]:
    """Where Keras 3 keeps what is at a place of Keras 2.12 to 2.14, which counted layers with weights twice:
    ``_layer_checkpoint_dependencies/lstm_2`` is ``layers/lstm_1``."""
    names = list(place)
    for index, name in enumerate(names):
        if name == BEFORE:
            names[index] = "layers"
        elif index and place[index - 1] == BEFORE and (counted := re.fullmatch(r"(.+)_(\d{1,4})", name)):
            names[index] = f"{counted[1]}_{int(counted[2]) // 2}"
    return tuple(names)


class ByName:
    """Of layers whose variables have names: ``bidirectional/forward_lstm/lstm_cell/kernel:0``.

    Parameters
    ----------
    variables : iterable of (str, tuple of str, callable)
        Each with the layer that it is of, its name in parts, and what reads it.
    """

    def __init__(self, variables: Iterable[tuple[str, tuple[str, ...], Callable[[], Any]]]) -> None:
        self._within: dict[tuple[str, str], list[tuple[tuple[str, ...], Callable[[], Any]]]] = {}
        for layer, path, read in variables:
            for part in {"", *path[:-1]}:  # "" is for all
                self._within.setdefault((layer, part), []).append((path, read))

    def of(self, node: Node, names: Sequence[str], way: Sequence[tuple[str, str]] = ()) -> list[Array]:
        """See `Weights`."""
        around, *inner = "/".join(node.names).split("/")
        every = self._within.get((around, ""), [])  # Keras 2 names not what TimeDistributed wraps
        variables = self._within.get((around, inner[-1]), every) if inner else every
        for name in [*inner[:-1], *(name for _, name in way if name)]:
            variables = [each for each in variables if _is_in(each[0][:-1], name, node)]
        found: dict[str, Callable[[], Any]] = {}
        for path, read in variables:
            name = path[-1].partition(":")[0]
            if name in found or name not in names:
                raise node.wrong(f"must have {' and '.join(names)}, found {'/'.join(path)!r} besides")
            found[name] = read
        if set(found) != set(names[: len(found)]):
            raise node.wrong(f"must have {' and '.join(names)}, found {' and '.join(found)}")
        return [_float(node, found[name]()) for name in names if name in found]


def in_file(file: Hdf5, *groups: str) -> ByName:
    """The arrays of a file of Keras 2, or of Keras 3 with the suffix ``.h5``, within some groups."""
    start = len(groups)
    return ByName(
        (path[start], path[start + 1 :], partial(file.read, *path))
        for path in file.shapes
        if path[:start] == groups and len(path) > start + 1
    )


def in_model(layers: Iterable[Any]) -> ByName:
    """The arrays of the layers of a live model."""
    return ByName(
        (*_divided(layer.name, getattr(variable, "path", variable.name)), partial(np.asarray, array))
        for layer in layers
        for variable, array in zip(layer.weights, layer.get_weights(), strict=True)
    )


def _divided(layer: str, variable: str) -> tuple[str, tuple[str, ...]]:
    """Names as the groups of a file have them, where what is between slashes is one."""
    first, *path = f"{layer}/{variable}".split("/")
    return first, tuple(path)


def _is_in(path: tuple[str, ...], name: str, owner: Node) -> bool:
    """Whether a variable is of a layer or cell: one of the names on the way to it is that one's."""
    if name not in ("forward_", "backward_"):
        return name in path
    given = owner.options.get("backward_layer")  # may have any name, as may the models and cells around
    named = given["config"].get("name") if given else None
    last = owner.name.rpartition("/")[2]
    start = len(path) - path[::-1].index(last) if last in path else 0
    sides = [each for each in path[start:] if each.startswith(("forward_", "backward_")) or each == named]
    forward = bool(sides) and sides[0].startswith("forward_") and sides[0] != named
    return forward == (name == "forward_")


def _float(node: Node, array: Any) -> Array:
    """float64 as it is, and other floats as float32."""
    array = np.asarray(array)
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise node.wrong(f"has weights of dtype {array.dtype}, which are no floats")
    return array.astype(np.float64 if array.dtype.itemsize == 8 else np.float32)
