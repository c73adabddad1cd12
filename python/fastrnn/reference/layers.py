"""Layers made once of their parameters and then called: what inference is.

Letters: T time, B batch, I input, O output, H hidden, P projection (H without one), L layers, D directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn.checks import Array, is_plain
from fastrnn.reference.cells import CELLS
from fastrnn.reference.feedforward import linear
from fastrnn.reference.loop import forward
from fastrnn.reference.records import Call, Options, Parameters


class Stack:
    """Layers of one cell on top of each other, in one direction or two.

    Parameters
    ----------
    owner : fastrnn.arrays.Arrays or None
        Who has the parameters: then a backend may keep something between calls, and looks there whether they
        may have changed. This one keeps nothing.
    cell : str
        A key of `CELLS`.
    parameters : sequence of Parameters
        By layer and direction. Their values may change between calls, nothing else.
    directions : int
        D, 1 or 2.
    options : Options
    """

    def __init__(
        self, owner: Any, cell: str, parameters: Sequence[Parameters], directions: int, options: Options
    ) -> None:
        self._cell, self._parameters, self._directions = cell, parameters, directions
        self._options = options

    def run(self, x: Any, state: Any, lengths: Any, batch_first: bool, all_states: bool) -> Any:
        """A call.

        Parameters
        ----------
        x : ndarray, (T, B, I) floats or (T, B) int64
            With features side by side; with `batch_first` (B, T, ...).
        state : ndarray, (L*D, B, P), or a pair of them, (h, c), with c (L*D, B, H), or None
            None is zeros, also in a pair.
        lengths : ndarray of int64, (B,), or None
        batch_first, all_states : bool

        Returns
        -------
        y, state_n, or y, state_n, states, or None
            As of a recurrent layer. None, and nothing done, if an argument is not just what it must be.
        """
        call = self._call(x, state, lengths, batch_first)
        if call is None:
            return None
        x, states, places = call.x, call.states, range(len(self._parameters))
        finals: list[Any] = []
        every: list[Any] = []
        for first in places[:: self._directions]:
            outputs = []
            for place in places[first : first + self._directions]:
                all_c = np.zeros((*x.shape[:2], self._units), self._dtype)
                y, reached, _ = forward(
                    call._replace(
                        x=x,
                        parameters=self._parameters[place],
                        states=[None if member is None else member[place] for member in states],
                        reverse=place > first,
                        all_c=all_c,
                    )
                )
                outputs.append(y)
                finals.append(reached)
                every.append((y, all_c)[: len(states)])
            x = np.concatenate(outputs, axis=-1)
        y = np.ascontiguousarray(x.swapaxes(0, 1)) if batch_first else x
        whole = [_stacked(finals), _stacked(every)]
        return y, *whole[: 1 + all_states]

    def _call(self, x: Any, state: Any, lengths: Any, batch_first: bool) -> Call | None:
        """The arguments, or None if one is not just what it must be."""
        first, index = self._parameters[0], np.dtype(np.int64)
        columns = first.w_ih.shape[1]
        if type(x) is not np.ndarray or x.ndim not in (2, 3):
            return None
        tokens = x.ndim == 2
        if x.dtype != (index if tokens else self._dtype) or not (tokens or x.shape[2] == columns):
            return None
        if tokens and not _within(x, 0, columns - 1):
            return None
        x = x.swapaxes(0, 1) if batch_first else x
        T, B = x.shape[:2]
        if lengths is not None:
            if not is_plain(lengths, index) or lengths.shape != (B,) or not _within(lengths, 0, T):
                return None
        widths = CELLS[self._cell].widths(first)
        count = len(widths)
        states: Any = (state,) if count == 1 else (None,) * count if state is None else state
        if type(states) is not tuple or len(states) != count:
            return None
        for member, width in zip(states, widths, strict=True):
            shape = (len(self._parameters), B, width)
            if member is not None and not (is_plain(member, self._dtype) and member.shape == shape):
                return None
        return Call(self._cell, x, first, states, lengths, options=self._options)

    @property
    def _dtype(self) -> np.dtype[Any]:
        return self._parameters[0].w_ih.dtype

    @property
    def _units(self) -> int:
        """H."""
        return len(self._parameters[0].w_ih) // len(CELLS[self._cell].gates)


class Linear:
    """y = x W^T + b.

    Parameters
    ----------
    owner : fastrnn.arrays.Arrays or None
        As of a `Stack`.
    parameters : Parameters
        `w_ih`, which is W (O, I), and perhaps `b_ih`.
    """

    def __init__(self, owner: Any, parameters: Parameters) -> None:
        self._parameters = parameters

    def run(self, x: Any) -> Array | None:
        """x (..., I) to y (..., O); None if x is not a plain array of this dtype and width."""
        weight, bias = self._parameters.w_ih, self._parameters.b_ih
        if not is_plain(x, weight.dtype) or x.shape[-1:] != weight.shape[1:]:
            return None
        y: Array = linear(x.reshape(-1, x.shape[-1]), weight, bias)
        return y.reshape(*x.shape[:-1], len(weight))


def _within(indices: Array, low: int, high: int) -> bool:
    return bool(np.all((indices >= low) & (indices <= high)))


def _stacked(states: Sequence[Sequence[Array]]) -> Any:
    """Of each place its members: each member of all places, a pair or one alone."""
    members = tuple(np.stack(each) for each in zip(*states, strict=True))
    return members if len(members) > 1 else members[0]
