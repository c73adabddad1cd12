"""Functions of each element, for what stands between linear layers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.layers.layer import Back, Layer


class Activation(Layer):
    """A function of each element; its derivative is computed from its value, which is all that is kept."""

    def __call__(self, x: npt.ArrayLike) -> Array:
        """Inference: y, of the shape and dtype of x, float32 or float64."""
        array = checks.array("x", x, "a float32 or float64 array")
        with np.errstate(all="ignore"):
            return self._value(checks.float_array("x", array, array.shape))

    def forward(self, x: npt.ArrayLike) -> tuple[Array, Back]:
        """The same as a call, and ``back(dy)``, which returns dx. It reads y: do not write to it before."""
        y = self(x)

        def back(dy: npt.ArrayLike) -> Array:
            """dx of dy."""
            dy = checks.float_array("dy", dy, y.shape)
            checks.same_dtype(y=y, dy=dy)
            with np.errstate(all="ignore"):
                return dy * self._slope(y)

        return y, back

    def _value(self, x: Array) -> Array:
        raise NotImplementedError

    def _slope(self, y: Array) -> Array:
        """The derivative where the value is y."""
        raise NotImplementedError


class ReLU(Activation):
    """max(0, x); its derivative at 0 is 0.

    Examples
    --------
    >>> ReLU()(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def _value(self, x: Array) -> Array:
        return np.maximum(x, 0)

    def _slope(self, y: Array) -> Array:
        return (y > 0).astype(y.dtype)


class Tanh(Activation):
    """tanh(x); dx = dy (1 - y^2).

    Examples
    --------
    >>> Tanh()(np.zeros(2)).tolist()
    [0.0, 0.0]
    """

    def _value(self, x: Array) -> Array:
        value: Array = np.tanh(x)
        return value

    def _slope(self, y: Array) -> Array:
        return 1 - y * y


class Sigmoid(Activation):
    """1 / (1 + exp(-x)); dx = dy y (1 - y).

    Examples
    --------
    >>> Sigmoid()(np.zeros(2)).tolist()
    [0.5, 0.5]
    """

    def _value(self, x: Array) -> Array:
        decay = np.exp(-np.abs(x))  # never above 1: no overflow
        value: Array = np.where(x < 0, decay, 1) / (1 + decay)
        return value.astype(x.dtype, copy=False)

    def _slope(self, y: Array) -> Array:
        slope: Array = y * (1 - y)
        return slope
