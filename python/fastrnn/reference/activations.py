"""Functions of one number, by name: what gates and states are passed through."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastrnn.checks import Array


class Activation(NamedTuple):
    """A function, and what is to know of it."""

    of: Callable[[Array], Array]
    slope: Callable[[Array], Array]  # its derivative, as a function of its value
    low: float  # its values are from here
    high: float  # to here


def sigmoid(a: Array) -> Array:
    """1 / (1 + exp(-a)), written so that no exponent is positive and nothing overflows."""
    result: Array = np.exp(np.minimum(a, 0)) / (1 + np.exp(-np.abs(a)))
    return result


def _hard_sigmoid(width: int) -> Activation:
    """A line through (0, 1/2) with slope 1 / width between 0 and 1."""

    def of(a: Array) -> Array:
        y: Array = np.clip(a / width + 0.5, 0, 1)
        return y

    return Activation(of, lambda y: ((y > 0) & (y < 1)).astype(y.dtype) / width, 0, 1)


#: By the names that `Options` has for them. ``hard_sigmoid`` is ONNX's by default, ``hard_sigmoid_6`` that of
#: Keras 3 and PyTorch; at a kink the slope is taken as 0.
ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": Activation(sigmoid, lambda y: y * (1 - y), 0, 1),
    "hard_sigmoid": _hard_sigmoid(5),
    "hard_sigmoid_6": _hard_sigmoid(6),
    "tanh": Activation(np.tanh, lambda y: 1 - y * y, -1, 1),
    "relu": Activation(lambda a: np.maximum(a, 0), lambda y: (y > 0).astype(y.dtype), 0, np.inf),
    "linear": Activation(lambda a: a, np.ones_like, -np.inf, np.inf),
}
