"""Recurrent layers of Keras as ours.

Letters: I input, H hidden, G gates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn.checks import Array
from fastrnn.interop import layouts
from fastrnn.interop.keras_graph import Node, node_of, place_of, short
from fastrnn.interop.keras_weights import Weights
from fastrnn.layers import Recurrent
from fastrnn.reference import Parameters

Way = Sequence[tuple[str, str]]

#: Ours for the classes of layers and of cells.
LAYERS = {"SimpleRNN": "rnn", "LSTM": "lstm", "GRU": "gru", "CuDNNLSTM": "lstm", "CuDNNGRU": "gru"}
CELLS = {"SimpleRNNCell": "rnn", "LSTMCell": "lstm", "GRUCell": "gru"}

CUDNN = {"CuDNNLSTM", "CuDNNGRU"}  # kernels of cuDNN, laid out as it has them

WITH_CELL = {"RNN", *LAYERS}  # layers that run a cell, or several on top of each other

NAMES = ("kernel", "recurrent_kernel", "bias")

ACTIVATIONS = ("sigmoid", "tanh", "relu", "linear")  # called the same here

HARD = {2: "hard_sigmoid", 3: "hard_sigmoid_6"}  # by Keras's version


class Answers(NamedTuple):
    """What a file may leave open, as far as it is known."""

    version: str | None = None  # of Keras, or its first number alone
    reset_after: bool | None = None
    activation: str | None = None
    recurrent_activation: str | None = None

    def before(self, *version: int) -> bool:
        """Whether the version is known, and earlier than such a one."""
        found = re.match(r"(\d+)\.(\d+)", self.version or "")
        return found is not None and tuple(map(int, found.groups())) < version

    def hard_sigmoid(self, node: Node, key: str) -> int:
        """The version, 2 or 3, by which that function is."""
        if self.version is None:
            raise node.wrong(
                f"has {key}='hard_sigmoid', which is 0.2 x + 0.5 in Keras 2 and x / 6 + 0.5 in Keras 3: "
                "say which it was with version=2 or version=3"
            )
        return int(self.version[0])


class Cell(NamedTuple):
    """One layer in one direction."""

    kind: str  # a key of `fastrnn.layers.CELLS`
    parameters: Parameters
    options: dict[str, Any]

    def form(self) -> Any:
        """What the directions of one layer have in common."""
        shapes = [None if array is None else array.shape for array in self.parameters[:4]]
        return self.kind, shapes, self.options


class Cells(NamedTuple):
    """Makes recurrent layers of nodes."""

    weights: Weights
    answers: Answers
    dtype: str

    def layers(self, node: Node) -> list[Recurrent[Any]]:
        """Those on top of each other that a node is; for `Bidirectional` one with both directions."""
        if node.kind != "Bidirectional":
            return [self._layer([cell]) for cell in self._cells(node, node, [])]
        forward, backward = directions(node)
        both = []
        for part, direction in ((forward, "forward"), (backward, "backward")):
            cells = self._cells(node, part, [(f"{direction}_layer", f"{direction}_")])
            if len(cells) > 1:
                raise node.unsupported(f"has {len(cells)} cells on top of each other in each direction")
            both += cells
        if both[0].form() != both[1].form():
            raise node.unsupported("has a backward_layer that differs from the layer")
        return [self._layer(both)]

    def _layer(self, directions: list[Cell]) -> Recurrent[Any]:
        cell = directions[0]
        return layouts.recurrent(
            cell.kind,
            [cell.parameters for cell in directions],
            bidirectional=len(directions) > 1,
            batch_first=True,
            **cell.options,
        )

    def _cells(self, owner: Node, node: Node, way: Way) -> list[Cell]:
        """What a layer runs at each step, one after the other; its variables are the owner's."""
        if node.kind in CUDNN:
            return [self._cell(owner, node, LAYERS[node.kind], way)]
        way = [*way, ("cell", "")]
        if node.kind in LAYERS:
            return [self._cell(owner, node, LAYERS[node.kind], way)]
        cell = node.within("cell", "cell")
        if cell.own is None and cell.kind == "StackedRNNCells":
            counts: dict[str, int] = {}
            cells = []
            for config in cell.option("cells", list):
                inner = node_of(config, cell.names, ())
                place = place_of(inner.kind, counts)
                cells.append((inner, [*way, ("cells", ""), (place, inner.name)]))
        else:
            cells = [(cell, [*way])]
        for inner, _ in cells:
            if inner.own is not None or inner.kind not in CELLS:
                raise node.unsupported(f"has a cell {inner.own or inner.kind}")
        return [self._cell(owner, inner, CELLS[inner.kind], each) for inner, each in cells]

    def _cell(self, owner: Node, node: Node, kind: str, way: Way) -> Cell:
        cudnn, gates = node.kind in CUDNN, len(layouts.ORDERS["keras"][kind])
        H, biased = node.option("units", int), cudnn or node.option("use_bias", bool, True)
        arrays = [array.astype(self.dtype) for array in self.weights.of(owner, NAMES, way)]
        if len(arrays) != 2 + biased:
            raise node.wrong(f"must have {' and '.join(NAMES[: 2 + biased])}, found {len(arrays)} arrays")
        options = self._options(node, kind)
        if kind == "gru":
            options["reset_after"] = cudnn or self._reset_after(node, arrays[2:])
        I = arrays[0].shape[0] if arrays[0].ndim == 2 else 0
        halves = 2 if cudnn or options.get("reset_after") else 1  # of the bias
        bias = (2, gates * H) if halves == 2 and not cudnn else (halves * gates * H,)
        expected = [(I, gates * H), (H, gates * H), bias][: 2 + biased]
        shapes = [array.shape for array in arrays]
        if shapes != expected or H < 1 or I < 1:
            raise node.wrong(f"has weights of shapes {shapes}, which do not fit units={H} or another option")
        kernel, recurrent = arrays[:2]
        if cudnn:  # each gate's are as PyTorch has them, whatever their shapes say
            w_ih = np.concatenate([block.reshape(H, I) for block in np.split(kernel, gates, axis=1)])
            w_hh = np.concatenate(np.split(recurrent, gates, axis=1))
        else:
            w_ih, w_hh = kernel.T, recurrent.T
        found: list[Any] = [w_ih, w_hh]
        if biased:
            b_ih, *rest = arrays[2].reshape(halves, gates * H)
            found += [b_ih, rest[0] if rest else np.zeros_like(b_ih)]
        found = [layouts.reordered(each, kind, "keras", "pytorch") for each in found]
        return Cell(kind, Parameters(*found), options)

    def _options(self, node: Node, kind: str) -> dict[str, Any]:
        if node.kind in CUDNN:
            return {}
        function = self._activation(node, "activation")
        if kind == "rnn":
            return {"nonlinearity": function}
        options = {"gate_activation": self._activation(node, "recurrent_activation"), "activation": function}
        return options | ({"output_activation": function} if kind == "lstm" else {})

    def _activation(self, node: Node, key: str) -> str:
        name = node.options.get(key, "linear")
        if key not in node.options:
            name = getattr(self.answers, key)
            if name is None:
                raise node.wrong(f"does not say its {key}: say it by {key}=")
        if name is None:
            return "linear"
        if name == "hard_sigmoid":
            return HARD[self.answers.hard_sigmoid(node, key)]
        if name not in ACTIVATIONS:
            raise node.unsupported(f"has {key}={short(name)}")
        return str(name)

    def _reset_after(self, node: Node, bias: list[Array]) -> bool:
        if "reset_after" in node.options:
            return node.option("reset_after", bool)
        if bias:
            return bias[0].ndim == 2
        if self.answers.reset_after is None:
            raise node.wrong("has no bias, which would tell its form: say it by reset_after=True or False")
        return self.answers.reset_after


def directions(node: Node) -> tuple[Node, Node]:
    """The two layers of a `Bidirectional`, of which Keras 2 describes the first alone where the other is its
    mirror."""
    forward = node.within("layer", "forward_layer")
    given = node.options.get("backward_layer") is not None
    backward = node.within("backward_layer", "backward_layer") if given else forward
    for each in (forward, backward):
        if each.own is not None or each.kind not in WITH_CELL:
            raise node.unsupported(f"wraps a {each.own or each.kind}")
    for key in ("return_sequences", "return_state", "stateful"):
        if forward.option(key, bool, False) != backward.option(key, bool, False):
            raise node.wrong(f"has a backward_layer with another {key}")
    if forward.option("go_backwards", bool, False) or (
        given and not backward.option("go_backwards", bool, False)
    ):
        raise node.unsupported("has a layer with go_backwards=True, or a backward_layer without")
    return forward, backward


def variables(node: Node) -> Iterator[dict[str, Any]]:
    """The options of a layer and of all that is in it."""
    yield node.options
    for key in ("layer", "backward_layer", "cell"):
        if isinstance(node.options.get(key), dict):
            yield from variables(node_of(node.options[key], (), ()))
    cells = node.options.get("cells")
    for cell in cells if isinstance(cells, list) else []:
        yield from variables(node_of(cell, (), ()))
