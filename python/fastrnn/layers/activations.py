"""Functions of each element, or of a step's features, for what stands between linear layers and after them.

Names and definitions are PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.layers.layer import Back, Layer
from fastrnn.layers.stream import Stage
from fastrnn.reference import sigmoid

Undo: TypeAlias = "Callable[[Array], Array]"  # from dy to dx, both plain arrays


class Activation(Layer):
    """A function without parameters: one that the backends have, which says so and has a way back; or
    another, which is computed here. What the way back keeps, its result or what it was made from, each
    decides."""

    def __init__(self) -> None:
        super().__init__()

    def __call__(self, x: npt.ArrayLike) -> Array:
        """Inference: y, of the shape and dtype of x, float32 or float64."""
        return self._checked(x)[0]

    def forward(self, x: npt.ArrayLike) -> tuple[Array, Back]:
        """The same as a call, and ``back(dy)``, which returns dx. It reads x or y: do not write to them
        before."""
        y, undo = self._checked(x)

        def back(dy: npt.ArrayLike) -> Array:
            """dx of dy."""
            dy = checks.float_array("dy", dy, y.shape)
            checks.same_dtype(y=y, dy=dy)
            with np.errstate(all="ignore"):
                return undo(dy)

        return y, back

    def _checked(self, x: npt.ArrayLike) -> tuple[Array, Undo]:
        array = checks.array("x", x, "a float32 or float64 array")
        array = checks.float_array("x", array, array.shape)
        if self._mixes and not array.ndim:
            raise ValueError("x must have at least one axis, got a single number")
        stage = self._stage()
        if stage is None:
            with np.errstate(all="ignore"):
                return self._run(array)
        y = stage.apply(array)
        return y, self._undo(array, y)

    def _stages(self, batch: int) -> list[Any]:
        return [self._stage() or self]

    def _stage(self) -> Stage | None:
        """The backends' function, with which a call has the bits of a stream; None if they have none."""
        return None

    def _undo(self, x: Array, y: Array) -> Undo:
        """What takes dy to dx, of a function of theirs. It keeps of x and y what it reads."""
        raise NotImplementedError

    def _run(self, x: Array) -> tuple[Array, Undo]:
        """y, and what takes dy to dx, of another function."""
        raise NotImplementedError


class ReLU(Activation):
    """max(0, x); its derivative at 0 is 0.

    Examples
    --------
    >>> ReLU()(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def _stage(self) -> Stage:
        return Stage("relu")

    def _undo(self, x: Array, y: Array) -> Undo:
        return lambda dy: dy * (y > 0)


class LeakyReLU(Activation):
    """x where it is positive, else negative_slope x.

    Parameters
    ----------
    negative_slope : float

    Examples
    --------
    >>> LeakyReLU(0.25)(np.array([-1.0, 2.0])).tolist()
    [-0.25, 2.0]
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = checks.finite_float("negative_slope", negative_slope)

    def _stage(self) -> Stage:
        return Stage("leaky_relu", numbers=(self.negative_slope,))

    def _undo(self, x: Array, y: Array) -> Undo:
        return lambda dy: np.where(x > 0, dy, self.negative_slope * dy)


class ELU(Activation):
    """x where it is positive, else alpha (exp(x) - 1) (Clevert et al. 2016).

    Parameters
    ----------
    alpha : float

    Examples
    --------
    >>> ELU()(np.array([-50.0, 2.0])).tolist()
    [-1.0, 2.0]
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = checks.finite_float("alpha", alpha)

    def _stage(self) -> Stage:
        return Stage("elu", numbers=(self.alpha, 1.0))

    def _undo(self, x: Array, y: Array) -> Undo:
        return _undo_elu(x, *self._stage().numbers)


class SELU(Activation):
    """The `ELU` that keeps mean 0 and variance 1, with alpha = 1.6733, times 1.0507 (Klambauer et al. 2017).

    Examples
    --------
    >>> SELU()(np.array([-50.0, 1.0])).round(4).tolist()
    [-1.7581, 1.0507]
    """

    def _stage(self) -> Stage:
        return Stage("elu", numbers=(1.6732632423543772, 1.0507009873554805))

    def _undo(self, x: Array, y: Array) -> Undo:
        return _undo_elu(x, *self._stage().numbers)


class Tanh(Activation):
    """tanh(x); dx = dy (1 - y^2).

    Examples
    --------
    >>> Tanh()(np.zeros(2)).tolist()
    [0.0, 0.0]
    """

    def _stage(self) -> Stage:
        return Stage("tanh")

    def _undo(self, x: Array, y: Array) -> Undo:
        return lambda dy: dy * (1 - y * y)


class Sigmoid(Activation):
    """1 / (1 + exp(-x)); dx = dy y (1 - y).

    Examples
    --------
    >>> Sigmoid()(np.zeros(2)).tolist()
    [0.5, 0.5]
    """

    def _stage(self) -> Stage:
        return Stage("sigmoid")

    def _undo(self, x: Array, y: Array) -> Undo:
        return lambda dy: dy * (y * (1 - y))


class HardSigmoid(Activation):
    """A line through 0.5 at x = 0, kept within 0 and 1.

    Parameters
    ----------
    slope : float
        Of the line: 1/6, as PyTorch and Keras 3 have it, or 0.2, as ONNX and the Keras before.

    Examples
    --------
    >>> HardSigmoid()(np.array([-4.0, 0.0, 4.0])).tolist()
    [0.0, 0.5, 1.0]
    """

    def __init__(self, slope: float = 1 / 6) -> None:
        super().__init__()
        self.slope = checks.positive_float("slope", slope)

    def _stage(self) -> Stage:
        return Stage("hard_sigmoid", numbers=(self.slope,))

    def _undo(self, x: Array, y: Array) -> Undo:
        return lambda dy: dy * ((0 < y) & (y < 1)) * self.slope


class SiLU(Activation):
    """x sigmoid(x), which is called swish too.

    Examples
    --------
    >>> SiLU()(np.array([-50.0, 0.0, 50.0])).round(4).tolist()
    [-0.0, 0.0, 50.0]
    """

    def _stage(self) -> Stage:
        return Stage("silu")

    def _undo(self, x: Array, y: Array) -> Undo:
        def undo(dy: Array) -> Array:
            gate = sigmoid(x)
            dx: Array = dy * (gate + x * gate * (1 - gate))
            return dx

        return undo


class GELU(Activation):
    """x times the probability that a standard normal number is below x (Hendrycks & Gimpel 2016).

    Parameters
    ----------
    approximate : {"none", "tanh"}
        Whether the probability is (1 + erf(x / sqrt(2))) / 2, number by number from Python's `math`, or what
        is much quicker, (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2. Take what a model was trained with.

    Examples
    --------
    >>> GELU()(np.array([-1.0, 0.0, 1.0])).round(4).tolist()
    [-0.1587, 0.0, 0.8413]
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = checks.one_of("approximate", approximate, ("none", "tanh"))

    def _stage(self) -> Stage | None:
        return Stage("gelu") if self.approximate == "tanh" else None

    def _run(self, x: Array) -> tuple[Array, Undo]:
        below = 0.5 + 0.5 * _erf(x / math.sqrt(2))
        return x * below, lambda dy: dy * (below + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi))

    def _undo(self, x: Array, y: Array) -> Undo:
        def undo(dy: Array) -> Array:
            scale, cubed = math.sqrt(2 / math.pi), 0.044715
            value = np.tanh(scale * (x + cubed * x * x * x))
            inner = scale * (1 + 3 * cubed * x * x)
            dx: Array = dy * (0.5 + 0.5 * value + 0.5 * x * (1 - value * value) * inner)
            return dx

        return undo


class Softplus(Activation):
    """log(1 + exp(x)), a smooth `ReLU`.

    Examples
    --------
    >>> Softplus()(np.array([-50.0, 0.0, 50.0])).round(4).tolist()
    [0.0, 0.6931, 50.0]
    """

    def _run(self, x: Array) -> tuple[Array, Undo]:
        return np.logaddexp(x, x.dtype.type(0)), lambda dy: dy * sigmoid(x)


class Softsign(Activation):
    """x / (1 + abs(x)).

    Examples
    --------
    >>> Softsign()(np.array([-1.0, 3.0])).tolist()
    [-0.5, 0.75]
    """

    def _stage(self) -> Stage:
        return Stage("softsign")

    def _undo(self, x: Array, y: Array) -> Undo:
        def undo(dy: Array) -> Array:
            part = 1 / (1 + np.abs(x))
            return dy * part * part

        return undo


class Softmax(Activation):
    """exp(x) divided by its sum over the last axis: probabilities of classes.

    Training takes logits and a loss that has the softmax in it: see `fastrnn.losses.softmax_cross_entropy`.

    Examples
    --------
    >>> Softmax()(np.array([[0.0, 0.0], [0.0, 99.0]])).round(4).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """

    _mixes = True

    def _stage(self) -> Stage:
        return Stage("softmax")

    def _undo(self, x: Array, y: Array) -> Undo:
        return lambda dy: y * (dy - (dy * y).sum(axis=-1, keepdims=True))


class LogSoftmax(Activation):
    """The logarithm of `Softmax`, exact also where that is 0.

    Examples
    --------
    >>> LogSoftmax()(np.array([0.0, 999.0])).tolist()
    [-999.0, 0.0]
    """

    _mixes = True

    def _run(self, x: Array) -> tuple[Array, Undo]:
        y = x - x.max(axis=-1, keepdims=True, initial=-np.inf)  # so that no exponential overflows
        y -= np.log(np.exp(y).sum(axis=-1, keepdims=True))
        return y, lambda dy: dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)


def _undo_elu(x: Array, alpha: float, scale: float) -> Undo:
    return lambda dy: scale * dy * np.where(x > 0, x.dtype.type(1), alpha * np.exp(np.minimum(x, 0)))


def _erf(x: Array) -> Array:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), x.dtype)  # NumPy has none of its own
