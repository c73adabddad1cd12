"""The one loop over time, for all cells.

Letters: T time, B batch, I input, H hidden, G gates, V vocabulary. Everything is computed in the dtype given,
and little is checked; `fastrnn.functional` has the checked door.

References
----------
Werbos, "Backpropagation through time: what it does and how to do it", Proceedings of the IEEE 78 (1990).
Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", NIPS
(2016).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastrnn.checks import Array
from fastrnn.reference.cells import CELLS, Arrays, Cell
from fastrnn.reference.formats import product
from fastrnn.reference.products import Affine, Products
from fastrnn.reference.records import Call, Gradients, Parameters


class Step(NamedTuple):
    """One step of the loop, as BPTT will want to find it: R rows of the batch, each at a time of its own."""

    rows: Array  # (R,) the rows that have not ended
    times: Array  # (R,) the position that each of them reads and writes
    previous: Arrays  # states before, each (R, H), but h (R, P) where it is projected
    following: Arrays  # states after, each (R, H)
    kept: Arrays  # what the cell kept
    products: Products
    begun: Array  # of the rows, those that have started anew


class Reserve(NamedTuple):
    """What `forward` leaves for `backward`; the call's arrays are no copies, so do not write to them."""

    call: Call
    steps: list[Step]


@np.errstate(all="ignore")  # infinities and NaN flow through without a word, as in the kernels
def forward(call: Call) -> tuple[Array, tuple[Array, ...], Reserve | None]:
    """Run a cell over time.

    `recompute` makes no difference here: it changes memory and time, never results, which is what this
    specifies. A mask with zeros, and 1 / (1 - p) elsewhere, is the recurrent dropout of Gal and
    Ghahramani (2016); all else that a cell does with h_{t-1} is without it.

    Where `starts` say so, a row starts anew before a step: what it was has no part in what follows. In
    reverse it comes to the last step of such a part first, and starts anew there: so each part is computed as
    it would be alone.

    Parameters
    ----------
    call : Call
        Its arrays must not change until `backward` has run.

    Returns
    -------
    y : ndarray, (T, B, H)
        The first state after each step, zero where a row is padded.
    states : tuple of ndarray, (B, H)
        Every state after each row's last step.
    reserve : Reserve or None
        For `backward`, if `training`.
    """
    x, w_hr, format = call.x, call.parameters.w_hr, call.parameters.format
    cell = CELLS[call.cell](call.parameters.vectors, call.options)
    of_x, of_h = _affines(cell, call.parameters)
    shapes = [(x.shape[1], width) for width in cell.widths(call.parameters)]
    y = np.zeros((len(x), *shapes[0]), of_h.w.dtype)
    current, start = (
        tuple(map(partial(_zeros_or_copy, dtype=y.dtype), states, shapes))
        for states in (call.states, call.start_states or [None] * len(shapes))
    )
    steps = []
    for rows, times in _walk(len(x), x.shape[1], call.lengths, call.reverse):
        begun = rows[_begin(call, rows, times)]
        for state, first in zip(current, start, strict=True):
            state[begun] = first[begun]
        previous = [state[rows] for state in current]
        products = Products(cell.gates, of_h, None if call.mask is None else call.mask[rows], {})
        x_gates = np.split(of_x.of(x[times, rows]), len(cell.gates), axis=1)
        following, kept = cell.forward(products.multiply, x_gates, previous)
        h = following[0] if w_hr is None else product(following[0], w_hr, None, format)
        for state, value in zip(current, [h, *following[1:]], strict=True):
            state[rows] = value
        y[times, rows] = h
        if call.all_c is not None and "c" in cell.states:
            call.all_c[times, rows] = following[1]
        if call.training:
            steps.append(Step(rows, times, previous, following, kept, products, begun))
    return y, current, Reserve(call, steps) if call.training else None


@np.errstate(all="ignore")
def backward(
    reserve: Reserve,
    dy: Array | None,
    dstates: Sequence[Array | None],
    input_gradient: bool = True,
    dhidden: Array | None = None,
) -> Gradients:
    """Undo `forward`, last step first (Werbos 1990).

    Parameters
    ----------
    reserve : Reserve
        What `forward` left.
    dy : ndarray, (T, B, H), or None
        The gradient with respect to `y`; padded positions are not looked at. None is zeros.
    dstates : sequence of ndarray, (B, H), or None
        The gradient with respect to every final state. None is zeros.
    input_gradient : bool
        Whether the gradient of `x` is wanted.
    dhidden : ndarray, (T, B, H), optional
        Written to: the whole gradient with respect to every h, what comes from `y` and what flows back
        through time. Padded positions stay as they are.

    Returns
    -------
    Gradients
    """
    call, steps = reserve
    x, w_hr = call.x, call.parameters.w_hr
    cell = CELLS[call.cell](call.parameters.vectors, call.options)
    gradients = _zeros(call.parameters)
    (of_x, of_h), (dof_x, dof_h) = (_affines(cell, each) for each in (call.parameters, gradients))
    own = dict(zip(cell.vectors, gradients.vectors, strict=False))
    dx = np.zeros_like(x) if input_gradient and x.ndim == 3 else None
    shapes = [(x.shape[1], width) for width in cell.widths(call.parameters)]
    dcurrent = tuple(map(partial(_zeros_or_copy, dtype=of_h.w.dtype), dstates, shapes))
    dstart = tuple(map(np.zeros_like, dcurrent))
    for rows, times, previous, following, kept, products, begun in reversed(steps):
        dh, *others = (dstate[rows] for dstate in dcurrent)
        if dy is not None:
            dh = dh + dy[times, rows]
        if dhidden is not None:
            dhidden[times, rows] = dh
        if w_hr is not None and gradients.w_hr is not None:
            gradients.w_hr[...] += dh.T @ following[0]
            dh = dh @ w_hr
        undo = partial(products.undo, dof_h)
        dx_split, dprevious, dvectors = cell.backward(undo, kept, previous, following, [dh, *others])
        for dstate, value in zip(dcurrent, dprevious, strict=True):
            dstate[rows] = value
        for dstate, dfirst in zip(dcurrent, dstart, strict=True):
            dfirst[begun] += dstate[begun]
            dstate[begun] = 0
        for name, dvector in dvectors.items():
            own[name][...] += dvector.sum(axis=0)
        dproduct = of_x.undo(x[times, rows], np.concatenate(dx_split, axis=1), dof_x)
        if dx is not None:
            dx[times, rows] = dproduct @ of_x.w
    return Gradients(dx, gradients, dcurrent, None if call.starts is None else dstart)


def forward_all(calls: Sequence[Call]) -> list[tuple[Array, tuple[Array, ...], Reserve | None]]:
    """`forward` for each direction of a layer."""
    return [forward(call) for call in calls]


def backward_all(calls: Sequence[tuple[Any, ...]]) -> list[Gradients]:
    """`backward` for each direction of a layer; the arguments of one are a tuple."""
    return [backward(*arguments) for arguments in calls]


def _walk(T: int, B: int, lengths: Array | None, reverse: bool) -> Iterator[tuple[Array, Array]]:
    """For every step, the rows that have not ended, and the position at which each of them is."""
    if lengths is None:
        lengths = np.full(B, T)
    for step in range(lengths.max(initial=0)):
        rows = np.flatnonzero(step < lengths)
        yield rows, lengths[rows] - 1 - step if reverse else np.full_like(rows, step)


def _begin(call: Call, rows: Array, times: Array) -> Array:
    """Which of these rows start anew before these steps of theirs."""
    if call.starts is None:
        return np.zeros(len(rows), bool)
    if not call.reverse:
        return np.asarray(call.starts[times, rows])
    T, B = call.starts.shape
    ends = np.full(B, T) if call.lengths is None else call.lengths
    return np.asarray((times + 1 < ends[rows]) & call.starts[np.minimum(times + 1, T - 1), rows])


def _affines(cell: Cell, parameters: Parameters) -> tuple[Affine, Affine]:
    """What is done to x and to h."""
    w_ih, w_hh, b_ih, b_hh, *_, format = parameters
    own = dict(zip(cell.vectors, parameters.vectors, strict=False))
    gamma_ih, gamma_hh = own.get("gamma_ih"), own.get("gamma_hh")
    return Affine(w_ih, b_ih, gamma_ih, format), Affine(w_hh, b_hh, gamma_hh, format)


def _zeros(parameters: Parameters) -> Parameters:
    """Arrays to add gradients to, and None where there is no parameter."""
    names = [name for name in parameters._fields[:5] if getattr(parameters, name) is not None]
    zeros = {name: np.zeros_like(getattr(parameters, name)) for name in names}
    return parameters._replace(**zeros, vectors=tuple(map(np.zeros_like, parameters.vectors)))


def _zeros_or_copy(array: Array | None, shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    return np.zeros(shape, dtype) if array is None else np.array(array)
