"""What puts the steps of sequences in another order.

Letters: T time, B batch, F features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.layers.layer import Layer, floats


class Reverse(Layer):
    """Each sequence's valid steps from the last to the first; padding stays behind them, and is 0.

    A layer that runs backwards alone is ``Reverse(), LSTM(…), Reverse()``, where each step keeps its place,
    or ``Reverse(), LSTM(…)``, where what the layer gives last, for the first step, comes last. A
    `Sequential` knows the order of the axes and the lengths.

    Examples
    --------
    >>> x = np.arange(6.0).reshape(3, 2, 1)  # 0 2 4 and 1 3 5
    >>> Reverse()(x, lengths=[3, 2])[:, :, 0].T.tolist()
    [[4.0, 2.0, 0.0], [3.0, 1.0, 0.0]]
    """

    _takes_lengths = _needs_whole = _mixes = True

    _batch_first = False

    def __call__(self, x: npt.ArrayLike, lengths: npt.ArrayLike | None = None) -> Array:
        """Inference.

        Parameters
        ----------
        x : array_like, (T, B, F) float32 or float64, or (T, B) integers
        lengths : array_like of integers, (B,), optional
            How many steps of each sequence are valid, 0 to T; all T if left out.

        Returns
        -------
        y : ndarray
            Of the shape and dtype of x.

        Raises
        ------
        TypeError, ValueError
            If an argument has another shape or dtype, or a length is out of range.
        """
        return self.forward(x, lengths)[0]

    def forward(
        self, x: npt.ArrayLike, lengths: npt.ArrayLike | None = None
    ) -> tuple[Array, Callable[[Any], Array | None]]:
        """The same as a call, and ``back(dy)``, which returns dx: 0 where a sequence is padded, and None for
        tokens."""
        array = _steps(x, self._batch_first)
        T, B = self._swap(array).shape[:2]
        valid = np.full(B, T) if lengths is None else checks.int_array("lengths", lengths, (B,), 0, T, "0..T")
        places = np.maximum(valid - 1 - np.arange(T)[:, None], -1)
        shape, dtype = array.shape, array.dtype

        def back(dy: Any) -> Array | None:
            """dx of dy."""
            if dtype.kind != "f":
                return None
            dy = floats("dy", dy, dtype, shape)
            return self._swap(_moved(self._swap(dy), places))  # once more is back

        return self._swap(_moved(self._swap(array), places)), back

    def _placed(self, batch_first: bool) -> Reverse:
        other = copy.copy(self)
        other._batch_first = batch_first
        return other

    def _stages(self, batch: int) -> list[Any]:
        raise ValueError("Reverse has no stream: it starts at the end of a sequence")

    def _swap(self, array: Array) -> Array:
        """From the order of a `Sequential` to time first, or back."""
        return array.swapaxes(0, 1) if self._batch_first else array


def _steps(x: npt.ArrayLike, batch_first: bool) -> Array:
    """Floats with features, or tokens."""
    axes = ("B", "T") if batch_first else ("T", "B")
    array = checks.array("x", x, f"an array of shape ({', '.join(axes)}, F)")
    if array.dtype.kind in "iu" and array.ndim == 2:
        return array
    return checks.float_array("x", array, (*axes, "F"))


def _moved(x: Array, places: Array) -> Array:
    """(S, B, ...) of steps (T, B, ...), where (S, B) `places` say which comes where: -1 is none, and 0."""
    y: Array = x[np.maximum(places, 0), np.arange(places.shape[1])]
    y[places < 0] = 0
    return y
