"""Layers of ours for those of Keras: what is exactly the same, and what is refused by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fastrnn.interop import layouts
from fastrnn.interop.keras_cells import WITH_CELL, Answers, Cells, directions, variables
from fastrnn.interop.keras_graph import Node, short
from fastrnn.interop.keras_weights import Weights
from fastrnn.layers import Last, Layer, Linear, Recurrent, ReLU, Sequential, Sigmoid, Tanh

#: Of each element or of the last axis, by Keras's names.
ACTIVATIONS: dict[str, Callable[[], Layer]] = {"relu": ReLU, "sigmoid": Sigmoid, "tanh": Tanh}

#: Do something in training only, and something that no layer of ours does.
NOISE = {"SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization"}

RECURRENT = {"Bidirectional", *WITH_CELL}

Found = Iterator[tuple[str, Layer]]  # layers, and how their names end


class Reader:
    """Makes layers of the nodes of a model.

    Parameters
    ----------
    nodes : iterable of Node
    weights : Weights
    answers : Answers

    Attributes
    ----------
    untold : list of str
        What the layers do not have, because it is of training only, or the user's to add.
    """

    def __init__(self, nodes: Iterable[Node], weights: Weights, answers: Answers) -> None:
        self.nodes = list(nodes)
        self.weights = weights
        self.answers = answers
        self.untold: list[str] = []
        policies = [policy(node, options) for node in self.nodes for options in variables(node)]
        self.dtype = "float64" if "float64" in policies else "float32"
        self._cells = Cells(weights, answers, self.dtype)

    def recurrent(self) -> dict[str, Recurrent[Any]]:
        """All recurrent layers, by their names."""
        found: dict[str, Recurrent[Any]] = {}
        for node in self.nodes:
            if node.kind not in RECURRENT or node.own is not None:
                continue
            self._note(node)
            layers = self._cells.layers(node)
            for place, layer in enumerate(layers):
                found["/".join(node.names) + (f"/{place}" if len(layers) > 1 else "")] = layer
        return found

    def network(self) -> Sequential:
        """All layers."""
        parts: dict[str, Any] = {}
        for node in self.nodes:
            if node.own is not None:
                raise node.unsupported(f"is a class of somebody's own, {node.own}")
            self._note(node)
            for ending, layer in self._layers(node):
                parts[layouts.part_name(node.name + ending, parts)] = layer
        return Sequential(**parts)

    def _note(self, node: Node) -> None:
        for options in variables(node):
            for key, value in options.items():
                if key.endswith(("_regularizer", "_constraint")) and value is not None:
                    self.untold.append(f"{node.name}: {key}")
                elif key in ("dropout", "recurrent_dropout") and value:
                    self.untold.append(f"{node.name}: {key}={short(value)}")
                elif key == "trainable" and value is False:
                    self.untold.append(f"{node.name}: {key}={value}")

    def _layers(self, node: Node) -> Found:
        kind = node.kind
        if kind == "InputLayer":
            for key in ("sparse", "ragged"):
                if node.option(key, bool, False):
                    raise node.unsupported(f"has {key}=True")
        elif kind in RECURRENT:
            yield from self._recurrent(node)
        elif kind == "Dense":
            yield from self._dense(node, [])
        elif kind == "Activation":
            yield from self._activation(node)
        else:
            raise node.unsupported("is no layer that fastrnn has")

    def _recurrent(self, node: Node) -> Found:
        told = directions(node)[0] if node.kind == "Bidirectional" else node
        for key in ("return_state", "time_major", "go_backwards"):
            if told.option(key, bool, False):
                raise node.unsupported(f"has {key}=True")
        layers = self._cells.layers(node)
        for place, layer in enumerate(layers):
            yield (f"_{place}" if len(layers) > 1 else ""), layer
        if not told.option("return_sequences", bool, False):
            yield "_last", Last()

    def _dense(self, node: Node, way: list[tuple[str, str]]) -> Found:
        biased = node.option("use_bias", bool, True)
        units = node.option("units", int)
        arrays = self.weights.of(node, ("kernel", "bias"), way)
        shapes = [array.shape for array in arrays]
        if shapes != [(shapes[0][0] if shapes and shapes[0] else 0, units), (units,)][: 1 + biased]:
            raise node.wrong(f"has weights of shapes {shapes}, which do not fit units={units}")
        linear = Linear(*shapes[0], bias=biased, dtype=self.dtype)
        linear.load_state_dict(dict(zip(linear.parameters, (arrays[0].T, *arrays[1:]), strict=True)))
        yield "", linear
        yield from self._activation(node)

    def _activation(self, node: Node) -> Found:
        name = node.options.get("activation")
        if name in (None, "linear"):
            return
        if not isinstance(name, str) or name not in ACTIVATIONS:
            raise node.unsupported(f"has activation={short(name)}")
        yield "_activation", ACTIVATIONS[name]()


#: What computes as float32 or float64 does, but for rounding.
POLICIES = ("float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def policy(node: Node, options: dict[str, Any]) -> str:
    """The numbers with which a layer computes."""
    given = options.get("dtype", "float32")
    if isinstance(given, dict) and isinstance(given.get("config"), dict):
        given = given["config"].get("name")
    if given not in POLICIES and node.kind != "InputLayer":
        raise node.unsupported(f"has dtype {short(given)}")
    return str(given)
