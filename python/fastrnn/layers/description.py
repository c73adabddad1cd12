"""What a layer is, in JSON: its class and its options, and the layers that it is made of.

With its weights that is all of a layer: `Layer.save` writes both, and `fastrnn.load` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.layers.activations import (
    ELU,
    GELU,
    SELU,
    HardSigmoid,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)
from fastrnn.layers.attention import Attention
from fastrnn.layers.cells import GRU, LSTM, RNN
from fastrnn.layers.feedforward import Dropout, Embedding, Linear, Merge
from fastrnn.layers.layer import Composite, Layer
from fastrnn.layers.parallel import Parallel
from fastrnn.layers.pooling import Last, Max, Mean
from fastrnn.layers.sequential import Sequential
from fastrnn.layers.steps import Masking, Reverse

#: The classes that a description may name, by their names.
CLASSES: dict[str, type[Layer]] = {
    each.__name__: each
    for each in (
        *(RNN, LSTM, GRU, Linear, Embedding, Attention, Dropout, Merge, Reverse, Masking, Last, Mean, Max),
        *(ReLU, LeakyReLU, ELU, SELU, Tanh, Sigmoid, HardSigmoid, SiLU, GELU, Softplus, Softsign, Softmax),
        *(LogSoftmax, Sequential, Parallel, Composite),
    )
}


def describe(layer: Layer) -> dict[str, Any]:
    """What a layer is: its ``class``, its ``options`` by the names of its arguments, and its ``parts``.

    A seed and what has been drawn from it, and the weights, compressed or not, are no part of it.

    Parameters
    ----------
    layer : Layer
        Of `CLASSES`, as its parts.

    Returns
    -------
    dict
        Of strings, numbers, bools, None and dicts.

    Raises
    ------
    TypeError
        If it or a part is of a class of one's own.
    ValueError
        If a part comes twice: a file would hold two.

    Examples
    --------
    >>> describe(Sequential(Linear(3, 2, bias=False), act=ELU(0.5)))["parts"]["act"]
    {'class': 'ELU', 'options': {'alpha': 0.5}}
    """
    return _described(layer, "", {})


def build(description: Mapping[str, Any], arrays: Mapping[str, Array] | None = None) -> Layer:
    """The layer that such a dict describes.

    Parameters
    ----------
    description : mapping
        What `describe` has returned, or what somebody has written into a file: anything.
    arrays : mapping of str to ndarray, optional
        Its weights. Nothing larger than they are is made on the way. Without them it is a new layer.

    Returns
    -------
    Layer

    Raises
    ------
    ValueError
        If it describes no layer, or the arrays are not the weights of such a layer: it says which.

    Examples
    --------
    >>> layer = Linear(3, 2)
    >>> build(describe(layer), layer.parameters)
    Linear(3, 2)
    """
    try:
        layer = _built(description, "", None if arrays is None else Blank(list(arrays.values())))
    except RecursionError:
        raise ValueError("a description of a layer must not be nested so deeply") from None
    if arrays is not None:
        layer.load_state_dict(arrays)
    return layer


def _described(layer: Layer, path: str, seen: dict[int, str]) -> dict[str, Any]:
    here = f"layer {path}" if path else "the layer"
    if CLASSES.get(type(layer).__name__) is not type(layer):
        raise TypeError(
            f"{here} must be one of fastrnn's own to be described in a file, got the class "
            f"{type(layer).__name__}; state_dict has its weights"
        )
    if id(layer) in seen:
        raise ValueError(f"{here} is layer {seen[id(layer)]} once more: a file would hold two, copy it first")
    seen[id(layer)] = path
    names = [name for name in checks.options_of(type(layer)) if name in vars(layer)]
    options = {name: _plain(getattr(layer, name)) for name in names if name != "parts"}
    found: dict[str, Any] = {"class": type(layer).__name__, "options": options}
    if isinstance(layer, Composite):
        parts = layer.parts.items()
        found["parts"] = {name: _described(part, _joined(path, name), seen) for name, part in parts}
    return found


def _plain(value: Any) -> Any:
    return value.name if isinstance(value, np.dtype) else value


def _built(description: Any, path: str, blank: Blank | None) -> Layer:
    here = f"the description of layer {path}" if path else "the description of a layer"
    given = dict(description) if isinstance(description, Mapping) else {}
    kind, options, parts = given.pop("class", None), given.pop("options", {}), given.pop("parts", {})
    if not isinstance(kind, str) or not all(isinstance(each, Mapping) for each in (options, parts)) or given:
        raise ValueError(f"{here} must have a class, options and parts, got {checks.came(description)}")
    if kind not in CLASSES:
        raise ValueError(f"{here} must be of a class of fastrnn's layers, got {checks.came(kind)}")
    made: dict[str, Any] = {name: _built(part, _joined(path, name), blank) for name, part in parts.items()}
    if blank is not None and "seed" in checks.options_of(CLASSES[kind]):
        blank.require_layers(options.get("num_layers", 0))
        made["seed"] = blank
    try:
        return CLASSES[kind](**options, **made)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{here}, {kind}, describes none: {error}") from None


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


class Blank(np.random.Generator):
    """In the place of initial values zeros, about as many as there are weights to take their places:
    whatever a description says, no memory is taken for what a file does not hold. Dropout draws from it."""

    SPARE = 1 << 10  # so that, where one is missing, the error can name it

    def __init__(self, arrays: Sequence[Array]) -> None:
        super().__init__(np.random.PCG64())
        self._arrays, self._numbers = len(arrays), self.SPARE + sum(array.size for array in arrays)

    def require_layers(self, count: Any) -> None:
        if isinstance(count, int) and count > self._arrays:
            raise ValueError(f"the description has num_layers={count}, and there are {self._arrays} arrays")

    def uniform(self, low: Any, high: Any, size: Any) -> Any:  # type: ignore[override]
        return self.standard_normal(size)

    def standard_normal(self, size: Any) -> Any:  # type: ignore[override]
        self._numbers -= math.prod(size)
        if self._numbers < 0:
            raise ValueError(f"it has more weights than there are: one is of shape {tuple(size)}")
        return np.zeros(size, np.float32)
