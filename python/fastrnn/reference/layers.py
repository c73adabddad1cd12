"""Layers made once of their parameters and then called: what inference is.

Letters: T time, B batch, I input, O output, H hidden, P projection (H without one), L layers, D directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn.checks import Array, is_plain
from fastrnn.reference.cells import CELLS
from fastrnn.reference.formats import product
from fastrnn.reference.loop import backward, forward
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

    def run(
        self,
        x: Any,
        state: Any,
        lengths: Any,
        batch_sizes: Any,
        batch_first: bool,
        all_states: bool = False,
        starts: Any = None,
        start_state: Any = None,
    ) -> Any:
        """A call.

        Parameters
        ----------
        x : ndarray, (T, B, I) floats or (T, B) int64
            With features side by side; with `batch_first` (B, T, ...), packed (N, ...).
        state : ndarray, (L*D, B, P), or a pair of them, (h, c), with c (L*D, B, H), or None
            None is zeros, also in a pair.
        lengths : ndarray of int64, (B,), or None
        batch_sizes : ndarray of int64, (T,), or None
            Of packed rows, how many have each step: positive and not increasing, N in all. Then the rows of a
            step follow those of the step before, longest first, in x, y and their gradients; there are no
            lengths, and `batch_first` makes no difference.
        batch_first, all_states : bool
        starts : ndarray of bool, in the shape of tokens, or None
            Before which steps a sequence starts anew, from the next one. What it holds where a sequence is
            padded does not matter.
        start_state : like state
            Of no use without `starts`.

        Returns
        -------
        y, state_n, or y, state_n, states, or None
            As of a recurrent layer. None, and nothing done, if an argument is not just what it must be.
        """
        found = self._call(x, state, lengths, batch_sizes, batch_first, self._parameters, starts, start_state)
        if found is None:
            return None
        call, rows = found
        every = [
            np.zeros((*call.x.shape[:2], self._units), self._dtype) if all_states else None
            for _ in self._parameters
        ]
        y, outputs, finals, _ = self._run(call, self._parameters, [{"all_c": all_c} for all_c in every])
        if not all_states:
            return rows.given(y), _stacked(finals)
        states = [(h, c)[: len(call.states)] for h, c in zip(outputs, every, strict=True)]
        return rows.given(y), _stacked(finals), _stacked(states)

    def train(
        self,
        x: Any,
        state: Any,
        lengths: Any,
        batch_sizes: Any,
        batch_first: bool,
        recompute: bool = False,
        mask: Any = None,
        first: int = 0,
        count: int | None = None,
        starts: Any = None,
        start_state: Any = None,
    ) -> Any:
        """A call in training, of `count` layers from the one at `first` on, or of all that follow.

        Parameters
        ----------
        x, state, lengths, batch_sizes, batch_first, starts, start_state
            As of `run`; the states are those of these layers.
        recompute : bool
            See `Call`.
        mask : ndarray, (count*D, B, P), or None
            See `Call`.
        first : int
        count : int or None

        Returns
        -------
        y, state_n, memory, or None
            The memory, (n,) of the dtype of the parameters, has all that `back` needs besides the arguments
            and y: numbers, which may be copied meanwhile, the same ones for the same arguments. Its size is
            that of `train_memory`, but with `recompute` or a mask.
        """
        parameters = self._of(first, count)
        found = self._call(x, state, lengths, batch_sizes, batch_first, parameters, starts, start_state)
        if found is None:
            return None
        call, rows = found
        y, _, finals, _ = self._run(call, parameters, _masks(mask, parameters))
        return rows.given(y), _stacked(finals), np.empty(0, self._dtype)

    @np.errstate(all="ignore")
    def back(
        self,
        memory: Array,
        y: Array,
        x: Any,
        state: Any,
        lengths: Any,
        batch_sizes: Any,
        batch_first: bool,
        dy: Any,
        dstate: Any,
        input_gradient: bool,
        again: bool,
        recompute: bool = False,
        mask: Any = None,
        first: int = 0,
        count: int | None = None,
        hidden: Array | None = None,
        starts: Any = None,
        start_state: Any = None,
    ) -> Any:
        """The way back of `train`.

        Parameters
        ----------
        memory, y
            What `train` returned. A memory serves once, but any number of times, and in many threads, if it
            is to be possible `again`. This backend needs neither, and goes forward again.
        x, state, lengths, batch_sizes, batch_first, recompute, mask, first, count, starts, start_state
            What `train` was given.
        dy : ndarray, like y, or None
            The gradient of a loss with respect to it; None is zeros, as below.
        dstate : like state_n, or None
        input_gradient : bool
            Whether that of x is wanted.
        again : bool
        hidden : ndarray, (count*D, T, B, P), or None
            Zeros; written to: the whole gradient with respect to every h.

        Returns
        -------
        dx, gradients of all arrays of the parameters in their order, dstate_0; or None
            As of `run`. With `starts` a fourth, that of `start_state`.
        """
        parameters = self._of(first, count)
        found = self._call(x, state, lengths, batch_sizes, batch_first, parameters, starts, start_state)
        if found is None:
            return None
        call, rows = found
        *_, reserves = self._run(call._replace(training=True), parameters, _masks(mask, parameters))
        B, D = call.x.shape[1], self._directions
        widths = CELLS[self._cell].widths(parameters[0])
        states = _members(dstate, [(len(parameters), B, width) for width in widths], self._dtype)
        if states is None:
            return None
        if dy is not None:
            if dy.dtype != self._dtype or dy.shape != y.shape:
                return None
            dy = rows.time_first(dy)
        gradients: list[Gradients] = []
        for lowest in reversed(range(0, len(reserves), D)):
            places = range(lowest, lowest + D)
            parts = [None] * D if dy is None else np.split(dy, D, axis=-1)
            layer = []
            for place, part in zip(places, parts, strict=True):
                ends = [None if member is None else member[place] for member in states]
                every = None if hidden is None else hidden[place]
                layer.append(backward(reserves[place], part, ends, lowest > 0 or input_gradient, every))
            dy, *others = (each.x for each in layer)
            for other in others:
                dy = None if dy is None else dy + other
            gradients = layer + gradients
        dx = rows.given(dy) if input_gradient and dy is not None else None
        arrays = [array for each in gradients for array in each.parameters.arrays()]
        dstates = [[each.state for each in gradients]]
        if starts is not None:
            dstates.append([each.start_state for each in gradients])
        return dx, arrays, *map(_stacked, dstates)

    def prepare(self, name: str, arguments: tuple[Any, ...]) -> Later | None:
        """A call that is still to be computed.

        Parameters
        ----------
        name : {"run", "train", "back"}
        arguments : tuple
            All of them, in their order.

        Returns
        -------
        Later or None
            For `compute`; None if an argument is not just what it must be.
        """
        found = getattr(self, name)(*arguments)
        return None if found is None else Later(found)

    takes_tensors = False

    def take_tensors(self, tensor: type, parameter: type) -> bool:
        """From now on also take, and then return, tensors of another library for arrays, but tokens.

        Parameters
        ----------
        tensor, parameter : type
            The classes of tensors, just these, of which the first offers DLPack's C exchange API.

        Returns
        -------
        bool
            As `takes_tensors` says from then on: this backend never does. Then ``lies_in(tensors)`` tells
            whether these are the parameters, where they lay when the stack was made.
        """
        return self.takes_tensors

    def _of(self, first: int, count: int | None) -> Sequence[Parameters]:
        """The parameters of some layers."""
        end = len(self._parameters) if count is None else (first + count) * self._directions
        return self._parameters[first * self._directions : end]

    def _run(
        self, call: Call, parameters: Sequence[Parameters], options: Sequence[dict[str, Any]]
    ) -> tuple[Any, ...]:
        """The last y; and by layer and direction y, the states that it has come to, and the reserve."""
        x, results = call.x, list[Any]()
        for first in range(0, len(parameters), self._directions):
            for place in range(first, first + self._directions):
                states, start_states = (
                    [None if member is None else member[place] for member in state]
                    for state in (call.states, call.start_states or ())
                )
                one = call._replace(x=x, parameters=parameters[place], states=states, reverse=place > first)
                one = one._replace(start_states=start_states)
                results.append(forward(one._replace(**options[place])))
            x = np.concatenate([y for y, *_ in results[first:]], axis=-1)
        return x, *zip(*results, strict=True)

    def _call(
        self,
        x: Any,
        state: Any,
        lengths: Any,
        batch_sizes: Any,
        batch_first: bool,
        parameters: Sequence[Parameters],
        starts: Any,
        start_state: Any,
    ) -> tuple[Call, _Rows] | None:
        """The arguments and the order of their rows, or None if one is not just what it must be."""
        first, index = parameters[0], np.dtype(np.int64)
        columns, axes = first.w_ih.shape[1], 2 if batch_sizes is None else 1
        if type(x) is not np.ndarray or x.ndim not in (axes, axes + 1):
            return None
        tokens = x.ndim == axes
        if x.dtype != (index if tokens else self._dtype) or not (tokens or x.shape[-1] == columns):
            return None
        if tokens and not _within(x, 0, columns - 1):
            return None
        rows = _Rows(batch_first, None)
        if batch_sizes is not None:
            if lengths is not None or not is_plain(batch_sizes, index) or not _packs(batch_sizes, len(x)):
                return None
            rows, lengths = _Rows(batch_first, batch_sizes), lengths_of(batch_sizes)
        given, x = x.shape[:axes], rows.time_first(x)
        T, B = x.shape[:2]
        if lengths is not None:
            if not is_plain(lengths, index) or lengths.shape != (B,) or not _within(lengths, 0, T):
                return None
        shapes = [(len(parameters), B, width) for width in CELLS[self._cell].widths(first)]
        states, start_states = (_members(each, shapes, self._dtype) for each in (state, start_state))
        if states is None or start_states is None:
            return None
        if starts is None:
            if start_state is not None:
                return None
        else:
            if type(starts) is not np.ndarray or starts.dtype != bool or starts.shape != given:
                return None
            starts = rows.time_first(starts)
        call = Call(self._cell, x, first, states, lengths, options=self._options)
        return call._replace(starts=starts, start_states=start_states), rows

    @property
    def _dtype(self) -> np.dtype[Any]:
        return self._parameters[0].w_ih.dtype

    @property
    def _units(self) -> int:
        """H."""
        return len(self._parameters[0].w_ih) // len(CELLS[self._cell].gates)


class Later:
    """A call of a stack that is still to be computed, with others, and has its `results` then. Here it has
    been computed."""

    def __init__(self, found: Any) -> None:
        self._found = found

    def results(self) -> Any:
        """What the call returns."""
        return self._found


def compute(calls: Iterator[Later], most: int) -> None:
    """Compute calls that have nothing to do with each other.

    Parameters
    ----------
    calls : iterator of Later
        Some may be computed before the next one is there.
    most : int
        There are no more than so many.
    """
    for _ in calls:
        pass


def train_memory(
    cell: str, dtype: np.dtype[Any], hidden: int, projection: int, layers: int, directions: int
) -> tuple[int, int]:
    """How large the memory is that `Stack.train` returns.

    Parameters
    ----------
    cell : str
        A key of `CELLS`.
    dtype : dtype
        float32 or float64.
    hidden, projection, layers, directions : int
        H, P or 0 without a projection, L and D.

    Returns
    -------
    per_row, per_sequence : int
        ``memory.size == per_row * N + per_sequence * B``, of B sequences with N steps in all.
    """
    return 0, 0


class _Rows(NamedTuple):
    """How rows over time and batch are given, and how the loop takes them: (T, B, ...)."""

    batch_first: bool
    batch_sizes: Array | None

    def time_first(self, array: Array) -> Array:
        if self.batch_sizes is None:
            return array.swapaxes(0, 1) if self.batch_first else array
        T, B = len(self.batch_sizes), self.batch_sizes.max(initial=0)
        padded = np.zeros((T, B, *array.shape[1:]), array.dtype)
        padded[self._places] = array
        return padded

    def given(self, array: Array) -> Array:
        if self.batch_sizes is not None:
            array = array[self._places]
        elif self.batch_first:
            array = np.ascontiguousarray(array.swapaxes(0, 1))
        return array

    @property
    def _places(self) -> tuple[Array, Array]:
        """The step and the sequence of each packed row."""
        sizes: Any = self.batch_sizes
        starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
        return np.repeat(np.arange(len(sizes)), sizes), np.arange(len(starts)) - starts


def lengths_of(batch_sizes: Array) -> Array:
    """The lengths of packed sequences, longest first."""
    every = np.arange(batch_sizes.max(initial=0))
    lengths: Array = np.count_nonzero(batch_sizes[:, np.newaxis] > every, axis=0).astype(np.int64)
    return lengths


def _packs(batch_sizes: Array, rows: int) -> bool:
    """Whether so many rows can be those of sequences that are packed."""
    if batch_sizes.ndim != 1 or not _within(batch_sizes, 1, rows):
        return False
    return bool(np.all(np.diff(batch_sizes) <= 0)) and int(batch_sizes.sum()) == rows


def _masks(mask: Array | None, parameters: Sequence[Parameters]) -> list[dict[str, Any]]:
    return [{"mask": None if mask is None else mask[place]} for place in range(len(parameters))]


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
        y = product(x.reshape(-1, x.shape[-1]), weight, bias, self._parameters.format)
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
