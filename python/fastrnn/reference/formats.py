"""Weights of fewer bits, and the products of those of 8 bits: what a compressed layer computes.

A compressed layer has float32 arrays whose values are already rounded, so that nothing here needs more than
them. In 16 bits they are numbers like all others. In 8 bits they are multiples q s of a scale for each row,
|q| <= 127, and what they are multiplied by is rounded, too, row by row, to multiples of a scale of its own:
then sums are of integers, and exact.

Letters: R rows of the batch, I input, K rows of weights.
"""

from __future__ import annotations

import numpy as np

from fastrnn.checks import Array

#: What weights may be: "int8x8" is "int8" with activations of 8 bits instead of 16.
FORMATS = ("float32", "float16", "bfloat16", "int8", "int8x8")

BLOCK = 512  # products whose exact sum 32 bits hold
LEAST_SCALE = 2.0**-110  # with less, multiples of it would be no exact float32
LEAST_ACTIVATION = 1e-30  # with less in a row, it counts as zeros


def rounded(weights: Array, format: str) -> Array:
    """Weights in a format, as float32 again.

    Parameters
    ----------
    weights : ndarray, (K, I) float32
        Finite.
    format : str
        Of `FORMATS`.

    Returns
    -------
    ndarray, (K, I) float32
        Infinite where a number is beyond the format's range. Rounding them again changes nothing.
    """
    return widened(*narrowed(weights, format), format)


@np.errstate(all="ignore")
def narrowed(weights: Array, format: str) -> tuple[Array, Array | None]:
    """Weights as a format has them, rounded to the nearest, of two that are equally near to the even one.

    Parameters
    ----------
    weights, format
        As of `rounded`.

    Returns
    -------
    numbers : ndarray, (K, I) float32, float16, uint16 or int8
        Of bfloat16 the upper 16 bits of the float32; of int8 q.
    scales : ndarray, (K,) float32, or None
        Of int8 s: a row's largest number is 127 s, but for the rounding of s to 16 bits, up, with which each
        q s is a float32. A row of zeros has s = 0.
    """
    if format == "float32":
        return weights, None
    if format == "float16":
        return weights.astype(np.float16), None
    if format == "bfloat16":
        bits = weights.view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16), None
    scales = np.abs(weights).max(axis=1) / np.float32(127)
    scales[scales < LEAST_SCALE] = 0
    scales = (scales.view(np.uint32) + 0xFF & 0xFFFFFF00).view(np.float32)
    multiples = np.rint(weights / scales[:, None])
    return np.where(scales[:, None] > 0, multiples, 0).astype(np.int8), scales


@np.errstate(all="ignore")
def widened(numbers: Array, scales: Array | None, format: str) -> Array:
    """The float32 of what `narrowed` has returned, (K, I)."""
    if format == "bfloat16":
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    wide = numbers.astype(np.float32)
    return wide if scales is None else wide * scales[:, None]


@np.errstate(all="ignore")  # infinities and NaN flow through without a word, as in the kernels
def product(x: Array, weights: Array, start: Array | None = None, format: str = "float32") -> Array:
    """start + x W^T, of weights that are rounded to a format.

    Parameters
    ----------
    x : ndarray, (R, I) float32 or float64
    weights : ndarray, (K, I)
    start : ndarray, (K,), optional
        What the sums begin with.
    format : str
        With int8 each row of x is rounded to multiples of its largest number's 32767th part (127th with 8
        bits), and a row with an infinity or NaN gives NaN alone.

    Returns
    -------
    ndarray, (R, K)
    """
    if not format.startswith("int8"):
        y: Array = x @ weights.T
        return y if start is None else y + start
    multiples, scales = narrowed(weights, format)
    most = np.float32(127 if format == "int8x8" else 32767)
    largest = np.abs(x).max(axis=1, keepdims=True)
    rows = np.where(largest < LEAST_ACTIVATION, 0, np.rint(x * (most / largest)))
    factors = largest / most * scales
    z = np.zeros(factors.shape, np.float32) if start is None else np.broadcast_to(start, factors.shape)
    for first in range(0, x.shape[1], BLOCK):
        block = slice(first, first + BLOCK)
        sums = rows[:, block].astype(np.float64) @ multiples[:, block].T.astype(np.float64)  # integers
        # float64 has the product of two float32, and so all but never rounds before the sum is rounded
        z = (sums.astype(np.float32).astype(np.float64) * factors + z).astype(np.float32)
    return np.where(np.isfinite(largest), z, np.float32(np.nan))
