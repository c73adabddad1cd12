"""The layers without memory."""

from __future__ import annotations

import numpy as np

from fastrnn.checks import Array
from fastrnn.reference.formats import product


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """y = x W^T + b.

    Parameters
    ----------
    x : ndarray, (N, I) float32 or float64
    weight : ndarray, (O, I)
    bias : ndarray, (O,), optional

    Returns
    -------
    y : ndarray, (N, O)
    """
    return product(x, weight, bias)


@np.errstate(all="ignore")  # infinities and NaN flow through without a word, as in the kernels
def linear_backward(x: Array, weight: Array, dy: Array) -> tuple[Array, Array, Array]:
    """The gradients of `linear` with respect to x, weight and bias, given that with respect to y.

    Parameters
    ----------
    x : ndarray, (N, I)
    weight : ndarray, (O, I)
    dy : ndarray, (N, O)

    Returns
    -------
    dx, dweight, dbias : ndarray, (N, I), (O, I) and (O,)
    """
    return dy @ weight, dy.T @ x, dy.sum(axis=0)


@np.errstate(all="ignore")
def drop(x: Array, random: Array, threshold: int, scale: float) -> Array:
    """Dropout: x times `scale` where the random number is not below the threshold, and times 0 elsewhere.

    Parameters
    ----------
    x : ndarray, (...) float32 or float64
    random : ndarray of uint16, (N,)
        One number for each element of x, in C order.
    threshold : int
        0 to 65536: how many of the 65536 numbers drop an element.
    scale : float

    Returns
    -------
    y : ndarray, (...)
    """
    factors = np.where(random >= threshold, x.dtype.type(scale), x.dtype.type(0))
    y: Array = x * factors.reshape(x.shape)
    return y
