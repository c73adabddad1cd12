"""The layer without memory, as a function of its weights."""

from __future__ import annotations

import numpy.typing as npt

from fastrnn.backend import kernels
from fastrnn.checks import Array, array, float_array, same_dtype


def linear(x: npt.ArrayLike, weight: npt.ArrayLike, bias: npt.ArrayLike | None = None) -> Array:
    """y = x W^T + b on the last axis, on the same threads as the recurrent functions.

    Parameters
    ----------
    x : array_like, (..., I) float32 or float64
        The input. The dtype of all arguments is one.
    weight : array_like, (O, I)
        W.
    bias : array_like, (O,), optional
        b.

    Returns
    -------
    y : ndarray, (..., O)

    Raises
    ------
    TypeError
        If an argument is of another dtype, masked or None, or if two dtypes are mixed.
    ValueError
        If an argument has another shape, or if O or I is 0.
    """
    rows, weight = _linear_arguments(x, weight)
    bias = None if bias is None else float_array("bias", bias, weight.shape[:1])
    same_dtype(x=rows, weight=weight, bias=bias)
    y: Array = kernels().linear(rows.reshape(-1, rows.shape[-1]), weight, bias)
    return y.reshape(*rows.shape[:-1], len(weight))


def linear_backward(x: npt.ArrayLike, weight: npt.ArrayLike, dy: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """The gradients of `linear`.

    Parameters
    ----------
    x, weight
        As of `linear`.
    dy : array_like, (..., O)
        The gradient with respect to y.

    Returns
    -------
    dx, dweight, dbias : ndarray, (..., I), (O, I) and (O,)

    Raises
    ------
    TypeError, ValueError
        As of `linear`.
    """
    rows, weight = _linear_arguments(x, weight)
    outputs, inputs = weight.shape
    drows = float_array("dy", dy, (*rows.shape[:-1], outputs))
    same_dtype(x=rows, weight=weight, dy=drows)
    flat = rows.reshape(-1, inputs), weight, drows.reshape(-1, outputs)
    dx, dweight, dbias = kernels().linear_backward(*flat)
    return dx.reshape(rows.shape), dweight, dbias


def _linear_arguments(x: npt.ArrayLike, weight: npt.ArrayLike) -> tuple[Array, Array]:
    weight = float_array("weight", weight, ("O", "I"))
    if weight.size == 0:
        raise ValueError(f"weight must not be empty, got shape {weight.shape}")
    x = array("x", x, f"a float array of shape (..., {weight.shape[1]})")
    return float_array("x", x, (*x.shape[:-1], weight.shape[1])), weight
