"""Recurrent layers on top of each other, in one direction or two, as a function of their weights.

Letters: T time, B batch, I input, H hidden, P projection (H without one), L layers, D directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastrnn import reference, states
from fastrnn.backend import kernels
from fastrnn.checks import (
    Array,
    array,
    bool_array,
    boolean,
    came,
    float_array,
    int_array,
    one_of,
    require_shape,
    same_dtype,
)
from fastrnn.functional.door import parameters_of, start_state_of, states_of, unchanged
from fastrnn.functional.variants import told
from fastrnn.reference import Options, Parameters

USUAL = Options()


class StackGradients(NamedTuple):
    """The gradient of a loss with respect to each argument of `stack`, in that argument's shape."""

    x: Array | None  # None where the input was tokens or its gradient is not wanted
    parameters: list[Parameters]  # with None for what was not there
    state: Any  # also if the initial state was left out
    start_state: Any = None  # likewise; None where there were no starts


class StackReserve:
    """What `stack.forward` leaves for `stack.backward`: opaque.

    It refers to the arrays of floats given to forward: do not write to them before the last backward call.
    """

    __slots__ = ("_cell", "_kept", "_options", "_parameters", "_reusable", "_shapes", "_stack", "_y")

    def __init__(
        self,
        cell: str,
        stack: Any,
        kept: tuple[Any, ...],
        parameters: Sequence[Parameters],
        shapes: list[tuple[int, ...]],
        options: dict[str, Any],
        reusable: bool,
    ) -> None:
        self._cell, self._stack, self._parameters, self._shapes = cell, stack, parameters, shapes
        self._kept = [kept]  # the first arguments of the stack's `back`, until they are taken
        self._y: Array = kept[1]
        self._options, self._reusable = options, reusable

    def _back(self, *gradients: Any) -> Any:
        """The stack's `back`. What it uses up is taken in one step, since two threads may want it."""
        try:
            kept = self._kept[0] if self._reusable else self._kept.pop()
        except IndexError:
            raise RuntimeError("reserve was used before, and is not reusable: run forward again") from None
        return self._stack.back(*kept, *gradients, self._reusable, **self._options)

    def __repr__(self) -> str:
        return f"<StackReserve of {len(self._parameters)} layers and directions, y {self._y.shape}>"


class Stack:
    """Recurrent layers on top of each other as a function of their weights: `stack`."""

    __name__ = "stack"

    def __call__(
        self,
        cell: str,
        x: npt.ArrayLike,
        parameters: Sequence[Parameters],
        state: Any = None,
        *,
        lengths: npt.ArrayLike | None = None,
        batch_sizes: npt.ArrayLike | None = None,
        bidirectional: bool = False,
        batch_first: bool = False,
        options: Options = USUAL,
        starts: npt.ArrayLike | None = None,
        start_state: Any = None,
    ) -> tuple[Array, Any]:
        """Stacked recurrent layers as a function of their weights: inference.

        ``stack.forward`` and ``stack.backward`` are for training.

        Parameters
        ----------
        cell : str
            A key of `fastrnn.reference.CELLS`: "lstm", "gru", "rnn_tanh", ...
        x : array_like, (T, B, I) float32 or float64, or (T, B) integers
            The input. Integers are tokens, 0 to I-1: columns of the first ``w_ih``. With `batch_first`
            (B, T, ...), with `batch_sizes` (N, ...). An array with its features side by side is not copied.
        parameters : sequence of Parameters
            Those of each layer and direction, in PyTorch's order: the first layer, its second direction, the
            next layer, ... Layers above the first take D*P features. None of their arrays is copied if it is
            C-contiguous.
        state : array_like, (L*D, B, P), or for an LSTM a pair (h, c) of them, c (L*D, B, H), optional
            The initial states. Zeros if left out, and so is a member of a pair that is None.
        lengths : array_like of integers, (B,), optional
            How many steps of each row are valid, 0 to T, in any order; all T if left out.
        batch_sizes : array_like of integers, (T,), optional
            Of packed sequences, how many have each step: 1 to B, never more than the step before, N in all.
            The rows of x, y and their gradients are then those of the first step, of the second, ..., the
            longest sequence first, and none is padded: PyTorch's ``PackedSequence``. Instead of `lengths` and
            `batch_first`.
        bidirectional : bool
            Whether there are two directions (D = 2).
        batch_first : bool
            Whether x, y and their gradients are (B, T, ...).
        options : Options
            What the cells are told whose names end in ``_any``.
        starts : array_like of booleans, (T, B), optional
            Before which steps a row starts anew, in all layers and directions, as if what follows were a
            sequence of its own; with `batch_first` (B, T), with `batch_sizes` (N,). What it holds where a row
            is padded does not matter.
        start_state : as `state`, optional
            Where rows start anew from; zeros if left out.

        Returns
        -------
        y : ndarray, (T, B, D*P), or (B, T, D*P) with `batch_first`, (N, D*P) with `batch_sizes`
            The last layer's h after each step; 0 where a row is padded.
        state_n : as `state`
            After the last valid step of each layer and direction.

        Raises
        ------
        TypeError, ValueError
            As of `fastrnn.lstm`; or if the parameters of a layer do not fit those of the one below it.

        Examples
        --------
        >>> layer = fastrnn.LSTM(3, 5, num_layers=2, seed=0)
        >>> names = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
        >>> weights = [Parameters(*(layer.parameters[f"{name}_l{k}"] for name in names)) for k in range(2)]
        >>> x = np.ones((7, 4, 3), "float32")
        >>> y, (h, c) = stack("lstm", x, weights)
        >>> bool((y == layer(x)[0]).all())
        True
        """
        inner, _, arguments, anew = _checked(
            cell,
            x,
            parameters,
            state,
            lengths,
            batch_sizes,
            bidirectional,
            batch_first,
            options,
            starts,
            start_state,
        )
        y, state_n = unchanged(inner.run(*arguments, **anew))
        return y, state_n

    def forward(
        self,
        cell: str,
        x: npt.ArrayLike,
        parameters: Sequence[Parameters],
        state: Any = None,
        *,
        lengths: npt.ArrayLike | None = None,
        batch_sizes: npt.ArrayLike | None = None,
        bidirectional: bool = False,
        batch_first: bool = False,
        options: Options = USUAL,
        starts: npt.ArrayLike | None = None,
        start_state: Any = None,
        recompute: bool = False,
        reusable: bool = False,
    ) -> tuple[Array, Any, StackReserve]:
        """Training: the same as a call, and what `backward` needs.

        Parameters
        ----------
        cell, x, parameters, state, lengths, batch_sizes, bidirectional, batch_first, options
        starts, start_state
            As of a call. Do not write to those of floats before the last backward call.
        recompute : bool
            Keep little and compute the gates again in the backward call: the same bits, in less memory.
        reusable : bool
            Whether `backward` can be called more than once. Each call then copies the gates of all steps
            first, which is as much memory again as the reserve has, for its time; with `recompute` it costs
            nothing.

        Returns
        -------
        y, state_n
            As of a call, but y is read-only, because `backward` reads it.
        reserve : StackReserve

        Raises
        ------
        TypeError, ValueError
            As of a call.
        """
        recompute, reusable = boolean("recompute", recompute), boolean("reusable", reusable)
        inner, checked, arguments, anew = _checked(
            cell,
            x,
            parameters,
            state,
            lengths,
            batch_sizes,
            bidirectional,
            batch_first,
            options,
            starts,
            start_state,
        )
        told = {"recompute": recompute, **anew}
        y, state_n, memory = unchanged(inner.train(*arguments, **told))
        shapes = [member.shape for member in states.members(state_n)]
        y.flags.writeable = False
        kept = memory, y, *arguments
        return y, state_n, StackReserve(cell, inner, kept, checked, shapes, told, reusable)

    def backward(
        self,
        reserve: StackReserve,
        dy: npt.ArrayLike | None = None,
        dstate_n: Any = None,
        *,
        input_gradient: bool = True,
    ) -> StackGradients:
        """Backpropagation through time and layers.

        Parameters
        ----------
        reserve : StackReserve
            It serves one call, or any number if it was made `reusable`.
        dy : array_like, like y, optional
            The gradient of a loss with respect to y; zeros if left out.
        dstate_n : as `state`, optional
            That with respect to state_n; zeros if left out, and so is a member of a pair that is None.
        input_gradient : bool
            Whether the gradient of x is wanted.

        Returns
        -------
        StackGradients

        Raises
        ------
        TypeError, ValueError
            If the reserve is none, or a gradient has another dtype or shape than what it is the gradient of.
        RuntimeError
            If the reserve was used before and is not reusable.
        """
        if not isinstance(reserve, StackReserve):
            raise TypeError(f"reserve must come from stack.forward, got {reserve!r}")
        y = reserve._y
        dy = None if dy is None else _rows("dy", dy, y.shape)
        dstates = states_of("dstate_n", dstate_n, reserve._cell, reserve._shapes)
        same_dtype(y=y, dy=dy, **dstates)
        ends = states.joined(list(dstates.values()))
        input_gradient = boolean("input_gradient", input_gradient)
        dx, arrays, *dstates = unchanged(reserve._back(dy, ends, input_gradient))
        left = iter(arrays)
        return StackGradients(dx, [_like(each, left) for each in reserve._parameters], *dstates)

    def __repr__(self) -> str:
        return "<function fastrnn.functional.stack>"

    def __reduce__(self) -> str:
        return "stack"


def _checked(
    cell: str,
    x: Any,
    parameters: Sequence[Parameters],
    state: Any,
    lengths: Any,
    batch_sizes: Any,
    bidirectional: bool,
    batch_first: bool,
    options: Options,
    starts: Any,
    start_state: Any,
) -> tuple[Any, list[Parameters], tuple[Any, ...], dict[str, Any]]:
    """A backend's `Stack`, the parameters, and the arguments of its calls, the first ones and named ones."""
    one_of("cell", cell, tuple(reference.CELLS))
    directions = 2 if boolean("bidirectional", bidirectional) else 1
    checked = list[Parameters]()
    if not isinstance(parameters, (list, tuple)) or isinstance(parameters, Parameters):
        raise TypeError(f"parameters must be a list of records Parameters, got {came(parameters)}")
    for k, each in enumerate(parameters):
        if not isinstance(each, Parameters):
            raise TypeError(f"parameters[{k}] must be a record Parameters, got {each!r}")
        try:
            checked.append(parameters_of(cell, each))
            first, width = checked[0], directions * checked[0].w_hh.shape[1]
            columns = first.w_ih.shape[1] if k < directions else width
            require_shape("w_ih", checked[k].w_ih, (len(first.w_ih), columns))
            require_shape("w_hh", checked[k].w_hh, first.w_hh.shape)
        except (TypeError, ValueError) as error:
            raise type(error)(f"parameters[{k}].{error}") from None
    if not checked or len(checked) % directions:
        raise ValueError(
            f"parameters must be those of each layer and direction, of which there are {directions}, "
            f"got {len(checked)}"
        )
    axes: tuple[str, ...] = ("B", "T") if boolean("batch_first", batch_first) else ("T", "B")
    if batch_sizes is not None:
        if lengths is not None or batch_first:
            other = "lengths" if lengths is not None else "batch_first"
            raise ValueError(f"batch_sizes must be left out with {other}: packed rows are not padded")
        axes = ("N",)
    columns = checked[0].w_ih.shape[1]
    x = array("x", x, f"a float array of shape ({', '.join((*axes, 'I'))}) or an integer array without I")
    if x.dtype.kind in "iu" and x.ndim != len(axes) + 1:
        x = int_array("x", x, axes, 0, columns - 1, "0..V-1")
    else:
        x = _rows("x", x, (*axes, columns))
    if batch_sizes is not None:
        batch_sizes = _batch_sizes(batch_sizes, len(x))
        B, T = int(batch_sizes.max(initial=0)), len(batch_sizes)
    else:
        B, T = x.shape[:2] if batch_first else x.shape[1::-1]
    shapes = [(len(checked), B, width) for width in reference.CELLS[cell].widths(checked[0])]
    given = states_of("state", state, cell, shapes)
    if lengths is not None:
        lengths = int_array("lengths", lengths, (B,), 0, T, "0..T")
    weights = {f"parameters[{k}].{name}": a for k, each in enumerate(checked) for name, a in _named(each)}
    if starts is not None:
        starts = bool_array("starts", starts, x.shape[: len(axes)])
    start = start_state_of(start_state, starts, cell, shapes)
    same_dtype(x=None if x.ndim == len(axes) else x, **weights, **given, **start)
    inner = kernels().Stack(None, cell, checked, directions, told(cell, options))
    arguments = x, states.joined(list(given.values())), lengths, batch_sizes, batch_first
    anew = {"starts": starts, "start_state": None if starts is None else states.joined(list(start.values()))}
    return inner, checked, arguments, anew


def _batch_sizes(value: Any, rows: int) -> Array:
    """Those of so many packed rows."""
    sizes = int_array("batch_sizes", value, ("T",), 1, max(1, rows), "1..N")
    grown = np.flatnonzero(np.diff(sizes) > 0)
    if grown.size:
        t = int(grown[0]) + 1
        raise ValueError(f"batch_sizes must not increase, got {sizes[t - 1]} and then {sizes[t]} at step {t}")
    if sizes.sum() != rows:
        raise ValueError(f"batch_sizes must add up to the rows of x, N = {rows}, got {sizes.sum()}")
    return sizes


def _rows(name: str, value: Any, shape: Sequence[int | str]) -> Array:
    """A float array of a shape, copied only where the features of a row are not side by side."""
    if type(value) is np.ndarray and value.dtype in (np.float32, np.float64) and value.dtype.isnative:
        if value.ndim == len(shape) and value.flags.aligned and value.strides[-1] == value.itemsize:
            require_shape(name, value, shape)
            return value
    return float_array(name, value, shape)


def _named(record: Parameters) -> list[tuple[str, Array | None]]:
    """All arrays of a record, with what errors call them in it."""
    vectors = [(f"vectors[{k}]", each) for k, each in enumerate(record.vectors)]
    return [*zip(record._fields, record[:5], strict=False), *vectors]


def _like(record: Parameters, arrays: Iterator[Array]) -> Parameters:
    """A record with the next arrays in the places where this one has some."""
    matrices: list[Any] = [None if each is None else next(arrays) for each in record[:5]]
    w_ih, w_hh, b_ih, b_hh, w_hr = matrices
    vectors = tuple(next(arrays) for _ in record.vectors)
    return record._replace(w_ih=w_ih, w_hh=w_hh, b_ih=b_ih, b_hh=b_hh, w_hr=w_hr, vectors=vectors)


stack = Stack()
