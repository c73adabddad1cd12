"""The products of a step: what x and h give to the gates.

Letters: R rows of the batch, I input, V vocabulary, H hidden, K rows of weights: those of some gates.

References
----------
Ba, Kiros and Hinton, "Layer normalization", arXiv:1607.06450 (2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastrnn.checks import Array
from fastrnn.reference.formats import product

EPS = 1e-5  # added to variances, as in PyTorch's LayerNorm


def layer_norm(a: Array) -> Array:
    """Rows brought to mean 0 and variance 1, but for `EPS` (Ba et al. 2016)."""
    centred = a - a.mean(axis=-1, keepdims=True)
    normal: Array = centred / _deviation(a)
    return normal


def layer_norm_backward(a: Array, d: Array) -> Array:
    """The gradient of `layer_norm`'s a, given that of its result."""
    normal = layer_norm(a)
    dmean, dscale = d.mean(axis=-1, keepdims=True), (d * normal).mean(axis=-1, keepdims=True)
    da: Array = (d - dmean - normal * dscale) / _deviation(a)
    return da


def _deviation(a: Array) -> Array:
    deviation: Array = np.sqrt(a.var(axis=-1, keepdims=True) + a.dtype.type(EPS))
    return deviation


class Affine(NamedTuple):
    """x to W x + b, or normalised to gamma LN(W x) + b. Gradients are another one, which `undo` adds to."""

    w: Array  # (K, I) or (K, V)
    b: Array | None  # (K,)
    gamma: Array | None  # (K,)
    format: str = "float32"  # of w

    def rows(self, part: slice) -> Affine:
        """That of some gates alone; views."""
        b, gamma = (None if array is None else array[part] for array in (self.b, self.gamma))
        return Affine(self.w[part], b, gamma, self.format)

    def product(self, x: Array, start: Array | None = None) -> Array:
        """start + W x, (R, K), of (R, I) floats, or of (R,) tokens, which stand for columns of W."""
        if x.ndim == 2:
            return product(x, self.w, start, self.format)
        columns: Array = self.w.T[x]
        return columns if start is None else columns + start

    def of(self, x: Array) -> Array:
        """The whole, (R, K)."""
        if self.gamma is None:
            return self.product(x, self.b)
        a: Array = layer_norm(self.product(x)) * self.gamma
        return a if self.b is None else a + self.b

    def undo(self, x: Array, da: Array, gradients: Affine) -> Array:
        """Adds the gradients of W, b and gamma, given that of `of(x)`, and returns that of `product(x)`."""
        if gradients.b is not None:
            gradients.b[...] += da.sum(axis=0)
        if self.gamma is not None and gradients.gamma is not None:
            product = self.product(x)
            gradients.gamma[...] += (da * layer_norm(product)).sum(axis=0)
            da = layer_norm_backward(product, da * self.gamma)
        if x.ndim == 2:
            gradients.w[...] += da.T @ x
        else:
            np.add.at(gradients.w.T, x, da)  # unlike +=, adds again where a token repeats
        return da


class Products(NamedTuple):
    """Those of W_hh in one step, each for some gates that stand side by side."""

    gates: str  # all that the cell has
    affine: Affine
    mask: Array | None  # what W_hh multiplies is multiplied by this before
    sources: dict[str, Array]  # by gates what it has multiplied, (R, H), under the mask

    def multiply(self, gates: str, h: Array) -> Sequence[Array]:
        """What h gives to each of some gates."""
        self.sources[gates] = h if self.mask is None else h * self.mask
        return np.split(self._of(self.affine, gates).of(self.sources[gates]), len(gates), axis=1)

    def undo(self, gradients: Affine, gates: str, da: Sequence[Array]) -> Array:
        """The gradient of that h; adds those of the weights."""
        part = self._of(self.affine, gates)
        dproduct = part.undo(self.sources[gates], np.concatenate(da, axis=1), self._of(gradients, gates))
        dh: Array = dproduct @ part.w
        return dh if self.mask is None else dh * self.mask

    def _of(self, affine: Affine, gates: str) -> Affine:
        H, first = len(affine.w) // len(self.gates), self.gates.index(gates)
        return affine.rows(slice(first * H, (first + len(gates)) * H))
