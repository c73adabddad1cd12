"""From the steps of each sequence to one vector: what stands between recurrent layers and a head.

Letters: T time, B batch, F features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.layers.layer import Back, Layer

Lengths = npt.NDArray[np.int64]


class Pooling(Layer):
    """What `Last`, `Mean` and `Max` share.

    A subclass says how windows of steps come together one after the other, so that a `Sequential` needs no
    memory for all of them: what is gathered, which is None at first, what comes of it, and how a gradient of
    that reaches the steps of a window.
    """

    _takes_lengths = True

    def __init__(self) -> None:
        super().__init__()

    def __call__(self, x: npt.ArrayLike, lengths: npt.ArrayLike | None = None) -> Array:
        """Inference.

        Parameters
        ----------
        x : array_like, (T, B, F) float32 or float64
            At least one step.
        lengths : array_like of integers, (B,), optional
            How many steps of each sequence are valid, 1 to T; all T if left out. What `x` holds beyond does
            not matter.

        Returns
        -------
        y : ndarray, (B, F)

        Raises
        ------
        TypeError, ValueError
            If an argument has another shape or dtype, there are no steps, or a length is out of range.
        """
        x, lengths = self._given(x, lengths)
        return self._pooled(self._gather(None, x, lengths, 0), lengths)

    def forward(self, x: npt.ArrayLike, lengths: npt.ArrayLike | None = None) -> tuple[Array, Back]:
        """The same as a call, and ``back(dy)``, which returns dx, (T, B, F): 0 where a sequence is padded."""
        x, lengths = self._given(x, lengths)
        gathered = self._gather(None, x, lengths, 0)
        y, steps = self._pooled(gathered, lengths), len(x)

        def back(dy: npt.ArrayLike) -> Array:
            """dx, (T, B, F), of dy, (B, F)."""
            dy = checks.float_array("dy", dy, y.shape)
            checks.same_dtype(y=y, dy=dy)
            return self._spread(gathered, dy, lengths, 0, steps)

        return y, back

    def _stages(self, batch: int) -> list[Any]:
        raise ValueError(f"{type(self).__name__} has no stream: it is of all steps of a sequence")

    def _given(self, x: npt.ArrayLike, lengths: npt.ArrayLike | None) -> tuple[Array, Lengths]:
        x = checks.float_array("x", x, ("T", "B", "F"))
        T, B, _ = x.shape
        if T == 0:
            raise ValueError(f"x must have at least one step, got shape {x.shape}")
        if lengths is None:
            return x, np.full(B, T)
        return x, checks.int_array("lengths", lengths, (B,), 1, T, "1..T")

    def _gather(self, gathered: Any, x: Array, lengths: Lengths, start: int) -> Any:
        """What is known after the steps from `start` on, of which a sequence has `lengths`: 0 at least."""
        raise NotImplementedError

    def _pooled(self, gathered: Any, lengths: Lengths) -> Array:
        """y, from what all steps have given."""
        raise NotImplementedError

    def _spread(self, gathered: Any, dy: Array, lengths: Lengths, start: int, steps: int) -> Array:
        """The gradient of so many steps from `start` on."""
        raise NotImplementedError


class Last(Pooling):
    """What comes after the last step.

    Parameters
    ----------
    bidirectional : bool, optional
        Whether the second half of the features is of a direction that runs backwards: it ends at the first
        step, and is taken from there. None is what a `Sequential` knows by itself: whether they come from a
        bidirectional layer, and no other layer has mixed them; outside of one it is False. With False all
        features are those of the last step, as of PyTorch's ``output[:, -1]``.

    Examples
    --------
    >>> y = np.arange(6.0).reshape(3, 2, 1)  # 0 2 4 and 1 3 5
    >>> Last()(y, lengths=[3, 2]).tolist()
    [[4.0], [3.0]]
    """

    def __init__(self, *, bidirectional: bool | None = None) -> None:
        super().__init__()
        self.bidirectional = checks.optional(checks.boolean)("bidirectional", bidirectional)

    def _stages(self, batch: int) -> list[Any]:
        return []  # each step is the last one so far

    def _gives(self, taken: int | None) -> int | None:
        if self.bidirectional and taken is not None and taken % 2:
            raise ValueError(
                f"{self!r} takes an even number of features, half of each direction, got {taken}"
            )
        return taken

    def _gather(self, gathered: Any, x: Array, lengths: Lengths, start: int) -> Any:
        self._gives(x.shape[2])
        last = x[lengths - 1, np.arange(len(lengths))]
        if self.bidirectional:
            half = x.shape[2] // 2
            last[:, half:] = x[0, :, half:]
        return last if gathered is None else np.where(lengths[:, None] > 0, last, gathered)

    def _pooled(self, gathered: Any, lengths: Lengths) -> Array:
        y: Array = gathered
        return y

    def _spread(self, gathered: Any, dy: Array, lengths: Lengths, start: int, steps: int) -> Array:
        dx = np.zeros((steps, *dy.shape), dy.dtype)
        forward = dy.shape[1] // 2 if self.bidirectional else dy.shape[1]
        rows = np.flatnonzero((start < lengths) & (lengths <= start + steps))
        dx[lengths[rows] - 1 - start, rows, :forward] = dy[rows, :forward]
        if start == 0:
            dx[0, :, forward:] = dy[:, forward:]
        return dx


class Mean(Pooling):
    """The mean over the steps.

    Examples
    --------
    >>> y = np.arange(6.0).reshape(3, 2, 1)  # 0 2 4 and 1 3 5
    >>> Mean()(y, lengths=[3, 2]).tolist()
    [[2.0], [2.0]]
    """

    def _gather(self, gathered: Any, x: Array, lengths: Lengths, start: int) -> Any:
        valid: Any = True if (lengths >= len(x)).all() else _valid(lengths, 0, len(x))
        # NumPy adds up numbers side by side in another order than rows: so these are rows, of two at least.
        steps = np.ascontiguousarray(np.repeat(x, 2, axis=2) if x[0].size == 1 else x)
        with np.errstate(all="ignore"):
            total = steps.sum(axis=0, dtype=np.float64, where=valid)[:, : x.shape[2]]
            return (total if gathered is None else gathered[0] + total), x.dtype

    def _pooled(self, gathered: Any, lengths: Lengths) -> Array:
        total, dtype = gathered
        y: Array = (total / lengths[:, None]).astype(dtype)
        return y

    def _spread(self, gathered: Any, dy: Array, lengths: Lengths, start: int, steps: int) -> Array:
        share = (dy / lengths[:, None]).astype(dy.dtype)
        return np.where(_valid(lengths, start, steps), share, dy.dtype.type(0))


class Max(Pooling):
    """The greatest value over the steps, of each feature by itself; its gradient goes to the first of equals.

    Examples
    --------
    >>> y = np.array([0.0, 1, 4, 3, 2, 5]).reshape(3, 2, 1)  # 0 4 2 and 1 3 5
    >>> Max()(y, lengths=[3, 2]).tolist()
    [[4.0], [3.0]]
    """

    def _gather(self, gathered: Any, x: Array, lengths: Lengths, start: int) -> Any:
        masked = np.where(_valid(lengths, 0, len(x)), x, x.dtype.type(-np.inf))
        step = masked.argmax(axis=0)
        found = np.take_along_axis(masked, step[None], axis=0)[0]
        if gathered is None:
            return found, step
        greatest, where = gathered
        greater = ~(found <= greatest) & ~np.isnan(greatest)  # a NaN stays
        return np.where(greater, found, greatest), np.where(greater, start + step, where)

    def _pooled(self, gathered: Any, lengths: Lengths) -> Array:
        y: Array = gathered[0]
        return y

    def _spread(self, gathered: Any, dy: Array, lengths: Lengths, start: int, steps: int) -> Array:
        where = gathered[1]
        dx = np.zeros((steps, *dy.shape), dy.dtype)
        rows, features = np.nonzero((start <= where) & (where < start + steps))
        dx[where[rows, features] - start, rows, features] = dy[rows, features]
        return dx


def _valid(lengths: Lengths, start: int, steps: int) -> Array:
    """Which of so many steps from `start` on are within each sequence, (T, B, 1)."""
    return np.arange(start, start + steps)[:, None, None] < lengths[:, None]
