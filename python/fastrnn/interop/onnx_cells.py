"""Nodes RNN, LSTM and GRU of ONNX, and the layers that compute the same.

Letters: B batch, I input, H hidden, G gates, D directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn.checks import Array
from fastrnn.interop import layouts
from fastrnn.interop.onnx_constants import once
from fastrnn.interop.onnx_file import Node, unknown
from fastrnn.layers import Recurrent
from fastrnn.reference import Parameters

KINDS = {"RNN": "rnn", "LSTM": "lstm", "GRU": "gru"}

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")

_DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}

_COMMON = {"hidden_size", "direction", "layout", "clip", "activations", "activation_alpha", "activation_beta"}
_ATTRIBUTES = {
    "RNN": _COMMON,
    "GRU": _COMMON | {"linear_before_reset"},
    "LSTM": _COMMON | {"input_forget"},
}

# Ours by what is ONNX's; alpha and beta as they are where they are left out. Of those with None the text of
# ONNX has other defaults than ONNX Runtime: they must be given.
_PARAMETERS: dict[str, tuple[float | None, ...]] = {
    "relu": (),
    "tanh": (),
    "sigmoid": (),
    "softsign": (),
    "softplus": (),
    "leakyrelu": (0.01,),
    "elu": (1.0,),
    "thresholdedrelu": (None,),
    "affine": (None, None),
    "scaledtanh": (None, None),
    "hardsigmoid": (0.2, 0.5),
}
_EQUALS: dict[tuple[str, tuple[float, ...]], str] = {
    ("relu", ()): "relu",
    ("tanh", ()): "tanh",
    ("sigmoid", ()): "sigmoid",
    ("hardsigmoid", (0.2, 0.5)): "hard_sigmoid",
    ("hardsigmoid", (1 / 6, 0.5)): "hard_sigmoid_6",
    ("affine", (1.0, 0.0)): "linear",
    ("scaledtanh", (1.0, 1.0)): "tanh",
    ("leakyrelu", (0.0,)): "relu",
    ("leakyrelu", (1.0,)): "linear",
    ("thresholdedrelu", (0.0,)): "relu",
    ("elu", (0.0,)): "relu",
}


class Cell(NamedTuple):
    """What a recurrent node is."""

    kind: str  # "rnn", "lstm" or "gru"
    direction: str
    batch_first: bool  # layout=1
    places: Sequence[Parameters]  # one for each direction, in our layout
    options: Mapping[str, Any]  # of the layer

    @property
    def directions(self) -> int:
        """D."""
        return len(self.places)

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.places[0].w_hh.shape[1])

    def layer(self, batch_first: bool, initial: Sequence[Array] = ()) -> Recurrent[Any]:
        """The layer; of a node that runs backwards alone, one that runs forwards."""
        return layouts.recurrent(
            self.kind,
            self.places,
            bidirectional=self.direction == "bidirectional",
            batch_first=batch_first,
            initial=initial,
            **self.options,
        )


def cell(node: Node) -> Cell:
    """What a node says.

    Raises
    ------
    Refusal
        If it has attributes that no layer of ours has, or its weights do not fit.
    """
    direction = node.option("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional"):
        raise node.refuse(f"direction {direction!r} is not supported")
    layout = node.option("layout", 0)
    if layout not in (0, 1):
        raise node.refuse(f"layout {layout!r} is not supported")
    for name in unknown(node.attributes, _ATTRIBUTES[node.op]):
        raise node.refuse(f"attribute {name}={node.attributes[name]!r} is not supported")
    options: dict[str, Any] = dict(_activations(node, 2 if direction == "bidirectional" else 1))
    if "clip" in node.attributes:
        if not (node.attributes["clip"] > 0 and np.isfinite(node.attributes["clip"])):
            raise node.refuse(f"clip={node.attributes['clip']} is not supported: it must be positive")
        options["clip"] = node.attributes["clip"]
    if node.op == "GRU":
        options["reset_after"] = _flag(node, "linear_before_reset")
    if node.op == "LSTM":
        options["coupled"] = _flag(node, "input_forget")
        options["peephole"] = node.get(7) is not None
    return Cell(KINDS[node.op], direction, bool(layout), _places(node, direction), options)


def initial(node: Node, cell: Cell, place: int) -> Array | None:
    """The state, (D, H), from which all sequences start by a constant input, None for zeros.

    Raises
    ------
    Refusal
        If sequences differ in it, or it has another shape.
    """
    array = node.inputs[place]
    array = array.swapaxes(0, 1) if cell.batch_first and array.ndim == 3 else array
    D, H = cell.directions, cell.hidden_size
    if array.ndim != 3 or array.shape[0] != D or array.shape[2] != H or array.dtype.kind != "f":
        raise node.refuse(f"{INPUTS[place]} must have shape ({D}, B, {H}), got {array.shape}")
    first: Array = array[:, 0]
    numbers = once(array)
    if not numbers.any():
        return None
    if not (numbers == numbers[:, :1]).all():
        raise node.refuse(f"{INPUTS[place]} is constant, and not the same for all sequences")
    return first


def _flag(node: Node, name: str) -> bool:
    value = node.option(name, 0)
    if value not in (0, 1):
        raise node.refuse(f"{name}={value!r} is not supported")
    return bool(value)


def _places(node: Node, direction: str) -> list[Parameters]:
    """The weights of each direction."""
    kind, D = KINDS[node.op], 2 if direction == "bidirectional" else 1
    G = len(layouts.ORDERS["onnx"][kind])
    W, R = _constant(node, 1), _constant(node, 2)
    if W.ndim != 3 or R.ndim != 3:
        raise node.refuse(f"W and R must have 3 axes, got {W.shape} and {R.shape}")
    I, H = W.shape[2], R.shape[2]
    expected = {1: (D, G * H, I), 2: (D, G * H, H), 3: (D, 2 * G * H), 7: (D, 3 * H)}
    for place, shape in expected.items():
        if node.get(place) is not None and _constant(node, place).shape != shape:
            raise node.refuse(f"{INPUTS[place]} must have shape {shape}, got {node.inputs[place].shape}")
    if node.option("hidden_size", H) != H or not (H and I):
        raise node.refuse(f"hidden_size={node.option('hidden_size', H)} and R of shape {R.shape} do not fit")
    B, P = (None if node.get(place) is None else node.inputs[place] for place in (3, 7))
    found = []
    for k in range(D):
        halves = (None, None) if B is None else np.split(B[k], 2)
        b_ih, b_hh = (None if b is None else layouts.reordered(b, kind, "onnx", "pytorch") for b in halves)
        w_ih, w_hh = (layouts.reordered(w[k], kind, "onnx", "pytorch") for w in (W, R))
        vectors = () if P is None else (layouts.reordered(P[k], "peephole", "onnx", "pytorch"),)
        found.append(Parameters(w_ih, w_hh, b_ih, b_hh, None, vectors))
    return found


def _constant(node: Node, place: int) -> Array:
    array = node.get(place)
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise node.refuse(f"{INPUTS[place]} is not constant, or not of floats")
    return array


def _activations(node: Node, directions: int) -> list[tuple[str, str]]:
    """Our options of them."""
    given = node.option("activations", _DEFAULTS[node.op] * directions)
    options = layouts.ACTIVATIONS[KINDS[node.op]]
    count = len(options)
    shown = f"activations {given}"
    if len(given) != count * directions:
        raise node.refuse(f"{shown} are not supported: there must be {count * directions}")
    names = [name.lower() for name in given]
    if not all(name in _PARAMETERS for name in names):
        raise node.refuse(f"{shown} are not supported")
    alphas = _parameters(node, names, "activation_alpha", 0)
    betas = _parameters(node, names, "activation_beta", 1)
    ours = []
    for name, *values in zip(names, alphas, betas, strict=True):
        numbers = tuple(value for value in values if value is not None)
        found = [to for (of, like), to in _EQUALS.items() if of == name and _close(numbers, like)]
        if not found:
            told = {key: node.option(key, None) for key in ("activation_alpha", "activation_beta")}
            more = [f" with {key} {value}" for key, value in told.items() if key in node.attributes]
            raise node.refuse(f"{shown}{''.join(more)} are not supported")
        ours.append(found[0])
    if ours[:count] * directions != ours:
        raise node.refuse(f"{shown} are not supported: those of both directions must be the same")
    return list(zip(options, ours, strict=False))


def _parameters(node: Node, names: list[str], key: str, place: int) -> list[float | None]:
    """Alpha or beta of each activation: those that have one take the next that is given."""
    wanting = [name for name in names if len(_PARAMETERS[name]) > place]
    given = node.option(key, None)
    if not given:
        given = [_PARAMETERS[name][place] for name in wanting]
        if None in given:
            name = node.option("activations", [])[names.index(wanting[given.index(None)])]
            raise node.refuse(
                f"activation {name!r} needs its {key}: ONNX and ONNX Runtime have other values for it"
            )
    elif len(given) != len(wanting):
        raise node.refuse(f"{key} {given} has {len(given)} numbers, its activations take {len(wanting)}")
    rest = iter(given)
    return [next(rest) if len(_PARAMETERS[name]) > place else None for name in names]


def _close(numbers: tuple[float, ...], like: tuple[float, ...]) -> bool:
    """Whether they are the same as float32."""
    return len(numbers) == len(like) and all(
        np.float32(a) == np.float32(b) for a, b in zip(numbers, like, strict=True)
    )
