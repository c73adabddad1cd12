"""What puts the steps of sequences in another order, and which of them there are.

Letters: T time, B batch, F features, S steps that are valid.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.layers.layer import Layer, floats

OrderT = TypeVar("OrderT", bound="_Order")


class _Order(Layer):
    """What `Reverse` and `Masking` share: alone they have time first, and in a row the axes of the row."""

    _takes_lengths = True

    _batch_first = False

    def __init__(self) -> None:
        super().__init__()

    def _with_batch_first(self: OrderT) -> OrderT:
        other = copy.copy(self)
        other._batch_first = True
        return other

    def _given(self, x: npt.ArrayLike, lengths: npt.ArrayLike | None) -> tuple[Array, Array]:
        """Floats with features, or tokens, and which steps are within the lengths, (T, B)."""
        axes = ("B", "T") if self._batch_first else ("T", "B")
        expected = f"floats of shape ({', '.join(axes)}, F), or integers ({', '.join(axes)})"
        array = checks.array("x", x, expected)
        if array.ndim == 3:
            array = checks.float_array("x", array, (*axes, "F"))
        elif array.ndim != 2 or array.dtype.kind not in "iu":
            raise ValueError(f"x must be {expected}, got {checks.came(array)}")
        T, B = self._swap(array).shape[:2]
        valid = np.full(B, T) if lengths is None else checks.int_array("lengths", lengths, (B,), 0, T, "0..T")
        return array, np.arange(T)[:, None] < valid

    def _swap(self, array: Array) -> Array:
        """From the order of the axes to time first, or back."""
        return array.swapaxes(0, 1) if self._batch_first else array

    def _moved(self, x: Array, places: Array) -> Array:
        """Other steps of x: `places` (S, B) say which comes where; -1 is none, and 0."""
        x = self._swap(x)
        y: Array = x[np.maximum(places, 0), np.arange(places.shape[1])]
        y[places < 0] = 0
        return self._swap(y)

    def _moved_back(self, dy: Array, places: Array, steps: int) -> Array:
        """The gradient of so many steps, from that of what has come of them."""
        dy = self._swap(dy)
        dx = np.zeros((steps, *dy.shape[1:]), dy.dtype)
        for moved, place in zip(dy, places, strict=True):
            rows = np.flatnonzero(place >= 0)
            dx[place[rows], rows] += moved[rows]
        return self._swap(dx)


class Reverse(_Order):
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

    _needs_whole = _mixes = True

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
        array, valid = self._given(x, lengths)
        places = np.where(valid, valid.sum(axis=0) - 1 - np.arange(len(valid))[:, None], -1)
        shape, dtype = array.shape, array.dtype

        def back(dy: Any) -> Array | None:
            """dx of dy."""
            if dtype.kind != "f":
                return None
            return self._moved_back(floats("dy", dy, dtype, shape), places, len(places))

        return self._moved(array, places), back

    def _stages(self, batch: int) -> list[Any]:
        raise ValueError("Reverse has no stream: it starts at the end of a sequence")


class Masking(_Order):
    """First in a `Sequential`: the network skips steps that are masked, wherever they are, as in Keras.

    Its recurrent layers and its pooling get the other steps one after the other, as if there were none
    between, and after the last of these layers each step is where it was. A sequence without any other step
    gives 0 there, and counts as one step in a pooling.

    Parameters
    ----------
    value : float
        A step is masked whose token is this, or whose features all are: before an `Embedding` what Keras's
        ``mask_zero`` does, else its ``Masking``.
    fill : {"hold", "zeros"}
        What stands at a masked step after those layers: what they gave for the step before, and 0 if there
        was none, or always 0, as with Keras's ``Bidirectional``.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range.

    Examples
    --------
    >>> from fastrnn.layers import GRU, Embedding, Last, Sequential
    >>> network = Sequential(Masking(), Embedding(10, 4, seed=0), GRU(4, 3, seed=0), Last())
    >>> with_padding, without = np.array([[0], [7], [0], [5], [0]]), np.array([[7], [5]])  # (T, B)
    >>> bool((network(with_padding) == network(without)).all())
    True

    By itself it finds the steps, and how many they are:

    >>> x, lengths = Masking()(with_padding)
    >>> x.tolist(), lengths.tolist()
    ([[7], [5]], [2])
    """

    def __init__(self, value: float = 0.0, *, fill: str = "hold") -> None:
        super().__init__()
        self.value = checks.finite_float("value", value)
        self.fill = checks.one_of("fill", fill, ("hold", "zeros"))

    def __call__(self, x: npt.ArrayLike, lengths: npt.ArrayLike | None = None) -> tuple[Array, Array]:
        """Inference.

        Parameters
        ----------
        x : array_like, (T, B, F) float32 or float64, or (T, B) integers
        lengths : array_like of integers, (B,), optional
            How many steps of each sequence there are, 0 to T: those beyond are masked too.

        Returns
        -------
        y : ndarray, (S, B, F) or (S, B)
            The steps that are not masked, and 0 behind them: S is the most that a sequence has, at least 1.
        lengths : ndarray of int64, (B,)
            How many they are.

        Raises
        ------
        TypeError, ValueError
            If an argument has another shape or dtype, or a length is out of range.
        """
        return self.forward(x, lengths)[:2]

    def forward(
        self, x: npt.ArrayLike, lengths: npt.ArrayLike | None = None
    ) -> tuple[Array, Array, Callable[[Any], Array | None]]:
        """The same as a call, and ``back(dy)``, which returns dx: 0 where a step is masked, and None for
        tokens."""
        kept = self._kept(x, lengths)
        return kept.x, kept.lengths, kept.back

    def _kept(self, x: npt.ArrayLike, lengths: npt.ArrayLike | None) -> Kept:
        array, valid = self._given(x, lengths)
        valid &= ~self._masked(self._swap(array))
        counts, place = valid.sum(axis=0), valid.cumsum(axis=0) - 1
        order = np.argsort(~valid, axis=0, kind="stable")[: max(1, counts.max(initial=0))]
        places = np.where(np.arange(len(order))[:, None] < counts, order, -1)
        shown = place if self.fill == "hold" else np.where(valid, place, -1)
        return Kept(self, self._moved(array, places), counts, places, shown)

    def _masked(self, x: Array) -> Array:
        """Which steps are, (T, B)."""
        masked = np.equal(x, self.value)
        return masked if x.ndim == 2 else np.all(masked, axis=-1)

    def _stages(self, batch: int) -> list[Any]:
        return [Unmasked(self)]


class Kept(NamedTuple):
    """The steps that a `Masking` has left, and where they were."""

    masking: Masking
    x: Array
    lengths: Array
    places: Array  # (S, B), where each of them was
    shown: Array  # (T, B), which of them is shown at each step: -1 is none

    def back(self, dy: Any) -> Array | None:
        """The gradient of all steps, of that of x."""
        if self.x.dtype.kind != "f":
            return None
        dy = floats("dy", dy, self.x.dtype, self.x.shape)
        return self.masking._moved_back(dy, self.places, len(self.shown))

    def restored(self, y: Array) -> tuple[Array, Callable[[Array], Array]]:
        """What comes of x with all steps where they were, and the way back."""
        steps = self.masking._swap(y).shape[0]
        back = partial(self.masking._moved_back, places=self.shown, steps=steps)
        return self.masking._moved(y, self.shown), back


class Unmasked(Layer):
    """A `Masking` in a stream, which has no step to skip."""

    def __init__(self, masking: Masking) -> None:
        super().__init__()
        self.masking = masking

    def __call__(self, x: Array) -> Array:
        """x, if no step is masked."""
        if self.masking._masked(x).any():
            what = "a token" if x.ndim == 2 else "features that are all"
            raise ValueError(
                f"x must have no masked step, as a stream cannot skip one: got {what} {self.masking.value:g}"
            )
        return x
