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
from fastrnn.reference.loop import Reserve, backward, forward
from fastrnn.reference.records import Call, Gradients, Options, Parameters


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
        call = self._call(x, state, lengths, batch_first, len(self._parameters))
        if call is None:
            return None
        every = [
            np.zeros((*call.x.shape[:2], self._units), self._dtype) if all_states else None
            for _ in self._parameters
        ]
        y, outputs, finals, _ = self._run(call, 0, [{"all_c": all_c} for all_c in every])
        y = np.ascontiguousarray(y.swapaxes(0, 1)) if batch_first else y
        if not all_states:
            return y, _stacked(finals)
        states = [(h, c)[: len(call.states)] for h, c in zip(outputs, every, strict=True)]
        return y, _stacked(finals), _stacked(states)

    def forward(
        self,
        x: Any,
        state: Any,
        lengths: Any,
        batch_first: bool,
        recompute: bool,
        reusable: bool,
        mask: Any,
        first: int,
        count: int,
    ) -> Any:
        """A call in training, of `count` layers from the one at `first` on.

        Parameters
        ----------
        x, state, lengths, batch_first
            As of `run`; the states are those of these layers.
        recompute : bool
            See `Call`.
        reusable : bool
            Whether there can be more than one way back.
        mask : ndarray, (count*D, B, P), or None
            See `Call`.
        first, count : int

        Returns
        -------
        y, state_n, StackReserve, or None
        """
        start, places = first * self._directions, count * self._directions
        call = self._call(x, state, lengths, batch_first, places, self._parameters[start])
        if call is None:
            return None
        masks = [None] * places if mask is None else list(mask)
        call = call._replace(training=True, recompute=recompute)
        y, _, finals, reserves = self._run(call, start, [{"mask": each} for each in masks])
        y = np.ascontiguousarray(y.swapaxes(0, 1)) if batch_first else y
        return y, _stacked(finals), StackReserve(reserves, self._directions, batch_first, reusable)

    def _run(self, call: Call, start: int, options: Sequence[dict[str, Any]]) -> tuple[Any, ...]:
        """The last y; and by layer and direction y, the states that it has come to, and the reserve."""
        x, results = call.x, list[Any]()
        for first in range(0, len(options), self._directions):
            for place in range(first, first + self._directions):
                states = [None if member is None else member[place] for member in call.states]
                parameters = self._parameters[start + place]
                one = call._replace(x=x, parameters=parameters, states=states, reverse=place > first)
                results.append(forward(one._replace(**options[place])))
            x = np.concatenate([y for y, *_ in results[first:]], axis=-1)
        return x, *zip(*results, strict=True)

    def _call(
        self,
        x: Any,
        state: Any,
        lengths: Any,
        batch_first: bool,
        places: int,
        first: Parameters | None = None,
    ) -> Call | None:
        """The arguments, or None if one is not just what it must be."""
        first, index = first or self._parameters[0], np.dtype(np.int64)
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
        shapes = [(places, B, width) for width in CELLS[self._cell].widths(first)]
        states = _members(state, shapes, self._dtype)
        if states is None:
            return None
        return Call(self._cell, x, first, states, lengths, options=self._options)

    @property
    def _dtype(self) -> np.dtype[Any]:
        return self._parameters[0].w_ih.dtype

    @property
    def _units(self) -> int:
        """H."""
        return len(self._parameters[0].w_ih) // len(CELLS[self._cell].gates)


class StackReserve:
    """What `Stack.forward` leaves for the way back."""

    def __init__(
        self, reserves: Sequence[Reserve], directions: int, batch_first: bool, reusable: bool
    ) -> None:
        self._reserves: Sequence[Reserve] | None = reserves
        self._directions, self._batch_first, self._reusable = directions, batch_first, reusable

    def backward(self, dy: Any, dstate: Any, input_gradient: bool, hidden: Array | None) -> Any:
        """The way back.

        Parameters
        ----------
        dy : ndarray, like y, or None
            The gradient of a loss with respect to it; None is zeros, as below.
        dstate : like state_n, or None
        input_gradient : bool
            Whether that of x is wanted.
        hidden : ndarray, (L*D, T, B, P), or None
            Zeros; written to: the whole gradient with respect to every h.

        Returns
        -------
        dx, gradients of all arrays of the parameters in their order, dstate_0; or None
            As of `Stack.run`.
        """
        reserves = self._reserves
        if reserves is None:
            raise RuntimeError("reserve was used before")
        call = reserves[0].call
        cell, (T, B), D = CELLS[call.cell], call.x.shape[:2], self._directions
        dtype, widths = call.parameters.w_ih.dtype, cell.widths(call.parameters)
        states = _members(dstate, [(len(reserves), B, width) for width in widths], dtype)
        if states is None:
            return None
        if dy is not None:
            dy = dy.swapaxes(0, 1) if self._batch_first else dy
            if dy.dtype != dtype or dy.shape != (T, B, D * widths[0]):
                return None
        if not self._reusable:
            self._reserves = None
        found: list[Gradients] = []
        for first in reversed(range(0, len(reserves), D)):
            places = range(first, first + D)
            parts = [None] * D if dy is None else np.split(dy, D, axis=-1)
            wanted = first > 0 or input_gradient
            layer = []
            for place, part in zip(places, parts, strict=True):
                ends = [None if member is None else member[place] for member in states]
                every = None if hidden is None else hidden[place]
                layer.append(backward(reserves[place], part, ends, wanted, every))
            dy, *others = (each.x for each in layer)
            for other in others:
                dy = None if dy is None else dy + other
            found = layer + found
        dx = dy if input_gradient else None
        if dx is not None and self._batch_first:
            dx = np.ascontiguousarray(dx.swapaxes(0, 1))
        arrays = [array for each in found for array in each.parameters.arrays()]
        return dx, arrays, _stacked([each.state for each in found])


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


def _members(state: Any, shapes: Sequence[tuple[int, ...]], dtype: np.dtype[Any]) -> tuple[Any, ...] | None:
    """The members of a state, each a plain array of its shape or None; or None if it is not just that."""
    states: Any = (state,) if len(shapes) == 1 else (None,) * len(shapes) if state is None else state
    if type(states) is not tuple or len(states) != len(shapes):
        return None
    for member, shape in zip(states, shapes, strict=True):
        if member is not None and not (is_plain(member, dtype) and member.shape == shape):
            return None
    return states


def _stacked(states: Sequence[Any]) -> Any:
    """Of each place its members: each member of all places, a pair or one alone."""
    members = tuple(np.stack(each) for each in zip(*states, strict=True))
    return members if len(members) > 1 else members[0]
