"""Functions by name: those of one number that gates and states are passed through, and those of layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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


def _elu(x: Array, alpha: float, scale: float) -> Array:
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _gelu(x: Array) -> Array:
    y: Array = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return y


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True, initial=-np.inf))
    y: Array = e / e.sum(axis=-1, keepdims=True)
    return y


#: What layers apply, of x and of numbers: the slope, or alpha and scale. ``gelu`` is the one with tanh;
#: ``softmax`` is of the last axis; ``exp`` of numbers up to 0, for it.
FUNCTIONS: dict[str, Callable[..., Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x, slope: np.where(x > 0, x, slope * x),
    "elu": _elu,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda x, slope: np.clip(slope * x + 0.5, 0, 1),
    "silu": lambda x: x * sigmoid(x),
    "gelu": _gelu,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "softmax": _softmax,
    "exp": np.exp,
}


@np.errstate(all="ignore")  # infinities and NaN flow through without a word, as in the kernels
def activation(name: str, x: Array, numbers: Sequence[float] = ()) -> Array:
    """A function of `FUNCTIONS`.

    Parameters
    ----------
    name : str
    x : ndarray, (...) float32 or float64; for ``"softmax"`` with at least one axis
    numbers : sequence of float
        What it takes besides: ``"leaky_relu"`` and ``"hard_sigmoid"`` a slope, ``"elu"`` alpha and scale.

    Returns
    -------
    y : ndarray
        Of the shape and dtype of x.
    """
    return np.asarray(FUNCTIONS[name](x, *numbers), x.dtype)
