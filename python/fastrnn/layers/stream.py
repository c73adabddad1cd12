"""Steps one at a time: for sensors, audio, control, and text that is written character by character.

Letters: B batch, I input, H hidden, L layers, T time.
"""

from __future__ import annotations

import copy
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.backend import kernels
from fastrnn.checks import Array
from fastrnn.layers.layer import floats

StateT = TypeVar("StateT")
StreamT = TypeVar("StreamT", bound="Stream[Any]")


class Stream(Generic[StateT]):
    """A recurrent layer's steps one at a time, its state kept in between: what `layer.stream` returns.

    It has the weights that the layer had when it was made, and gives the same bits as a call of the layer on
    the whole sequence. It is for one thread at a time; make one for each.

    Attributes
    ----------
    input_size, hidden_size, num_layers, batch : int
        I, H, L and B.
    dtype : dtype
        Of inputs and outputs.
    """

    def __init__(
        self,
        cell: str,
        weights: list[tuple[Array, Array, Array | None, Array | None]],
        start: tuple[Array, ...],
    ) -> None:
        self._weights = copy.deepcopy(weights)
        w_ih, w_hh = weights[0][:2]
        self.input_size, self.hidden_size = w_ih.shape[1], w_hh.shape[1]
        self.num_layers, self.batch, self.dtype = len(weights), start[0].shape[1], w_ih.dtype
        self._cell, self._states, self._start = cell, len(start), start
        self._inner = self._new()
        self.reset()

    def _new(self) -> Any:
        """The backend's stream."""
        return kernels().Stream(self._cell, self._weights, self.batch)

    def step(self, x: npt.ArrayLike, out: Array | None = None) -> Array:
        """One step.

        Parameters
        ----------
        x : array_like, (B, I) floats or (B,) integers
            The input. Integers are tokens, 0 to I-1.
        out : ndarray, (B, H), optional
            C-contiguous, aligned and writable: where to put the result. Without it a new array is made.

        Returns
        -------
        ndarray, (B, H)
            The last layer's h.

        Raises
        ------
        TypeError, ValueError
            If an argument is of another dtype or shape, or a token is out of range: the state has not moved.
        RuntimeError
            If another thread is in a step of this stream; the reference backend does not look.
        """
        h = self._inner.step(x, out)
        if h is None:  # something about the arguments is not just as the kernels want it
            h = self._inner.step(self._input(x, "B"), self._output(out))
        if h is None:
            raise ValueError("out was changed by another thread")
        return h  # type: ignore[no-any-return]

    def step_many(self, x: npt.ArrayLike) -> Array:
        """Many steps at once, faster than one by one, with the same bits.

        Parameters
        ----------
        x : array_like, (T, B, I) floats or (T, B) integers
            The inputs of T steps.

        Returns
        -------
        ndarray, (T, B, H)
            The last layer's h after each. If Ctrl-C ends the call, the state has not moved.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As of `step`.
        """
        y: Array = self._inner.steps(self._input(x, "T", "B"))
        return y

    @property
    def state(self) -> StateT:
        """A copy of the state: h (L, B, H), or for an LSTM the pair (h, c). Assign one to go on from it."""
        members = self._inner.state()
        return members[0] if self._states == 1 else members  # type: ignore[no-any-return]

    @state.setter
    def state(self, value: StateT) -> None:
        members: Any = (value,) if self._states == 1 else value
        if not isinstance(members, (tuple, list)) or len(members) != self._states:
            raise TypeError(f"state must be a pair (h, c), got {checks.came(value)}")
        names = ("state",) if self._states == 1 else ("state[0]", "state[1]")
        shape = (self.num_layers, self.batch, self.hidden_size)
        self._inner.set_state(
            [floats(name, array, self.dtype, shape) for name, array in zip(names, members, strict=True)]
        )

    def reset(self) -> None:
        """Go back to the beginning: a state of zeros, or the learned one that the layer had."""
        self._inner.set_state(list(self._start))

    def copy(self: StreamT) -> StreamT:
        """A second stream in the same state, which goes its own way from here; `copy.deepcopy` does the same.

        A pickled stream has its weights and its state, and goes on with the same bits.
        """
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__, _inner=self._inner.copy())
        return other

    __copy__ = copy

    def __deepcopy__(self: StreamT, memo: dict[int, Any]) -> StreamT:
        return self.copy()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_inner": self._inner.state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._inner = self._new()
        self._inner.set_state(list(state["_inner"]))

    def __repr__(self) -> str:
        return (
            f"<Stream of {self._cell}, input_size={self.input_size}, hidden_size={self.hidden_size}, "
            f"num_layers={self.num_layers}, batch={self.batch}, {self.dtype}>"
        )

    def _input(self, x: npt.ArrayLike, *axes: str) -> Array:
        sizes = [self.batch if axis == "B" else axis for axis in axes]
        array = checks.array("x", x, f"a {self.dtype} array of shape ({', '.join(axes)}, {self.input_size})")
        if array.dtype.kind in "iu" and array.ndim != len(axes) + 1:
            return checks.int_array("x", array, sizes, 0, self.input_size - 1, "0..input_size-1")
        return floats("x", array, self.dtype, (*sizes, self.input_size))

    def _output(self, out: Array | None) -> Array | None:
        if out is None:
            return None
        shape = (self.batch, self.hidden_size)
        if type(out) is not np.ndarray or out.dtype != self.dtype or out.shape != shape:
            expected = f"a {self.dtype} array of shape (B, H) = {shape}"
            raise ValueError(f"out must be {expected}, got {checks.came(out)}")
        if not out.flags.carray:
            raise ValueError("out must be C-contiguous, aligned and writable")
        return out
