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
from typing import Any, NamedTuple

import numpy as np

from fastrnn.reference.cells import CELLS, Array, Arrays
from fastrnn.reference.records import Call, Gradients, Parameters


class Step(NamedTuple):
    """One step of the loop, as BPTT will want to find it: R rows of the batch, each at a time of its own."""

    rows: Array  # (R,) the rows that have not ended
    times: Array  # (R,) the position that each of them reads and writes
    previous: Arrays  # states before, each (R, H)
    following: Arrays  # states after
    kept: Arrays  # what the cell kept
    multiplied: Array  # (R, H) what W_hh multiplied: h before, under the mask if there is one


class Reserve(NamedTuple):
    """What `forward` leaves for `backward`; the call's arrays are no copies, so do not write to them."""

    call: Call
    steps: list[Step]


@np.errstate(all="ignore")  # infinities and NaN flow through without a word, as in the kernels
def forward(call: Call) -> tuple[Array, tuple[Array, ...], Reserve | None]:
    """Run a cell over time.

    `recompute` and `packed` make no difference here: they change memory and time, never results, which is
    what this specifies. A mask with zeros, and 1 / (1 - p) elsewhere, is the recurrent dropout of Gal and
    Ghahramani (2016); all else that a cell does with h_{t-1} is without it.

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
    x, mask = call.x, call.mask
    w_ih, w_hh, b_ih, b_hh = call.parameters[:4]
    step = CELLS[call.cell]
    T, B = x.shape[:2]
    H = w_hh.shape[1]
    y = np.zeros((T, B, H), w_hh.dtype)
    current = tuple(_zeros_or_copy(state, (B, H), w_hh.dtype) for state in call.states)
    steps = []
    for rows, times in _walk(T, B, call.lengths, call.reverse):
        previous = [state[rows] for state in current]
        x_gates = _affine(x[times, rows], w_ih, b_ih)
        multiplied = previous[0] if mask is None else previous[0] * mask[rows]
        h_gates = _affine(multiplied, w_hh, b_hh)
        x_split, h_split = (np.split(gates, len(step.gates), axis=1) for gates in (x_gates, h_gates))
        following, kept = step.forward(x_split, h_split, previous)
        for state, value in zip(current, following, strict=True):
            state[rows] = value
        y[times, rows] = following[0]
        if call.all_c is not None and "c" in step.states:
            call.all_c[times, rows] = following[1]
        if call.training:
            steps.append(Step(rows, times, previous, following, kept, multiplied))
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
    x, mask = call.x, call.mask
    w_ih, w_hh, b_ih, b_hh = call.parameters[:4]
    B = x.shape[1]
    H = w_hh.shape[1]
    tokens = x.ndim == 2
    dx = np.zeros_like(x) if input_gradient and not tokens else None
    dw_ih, dw_hh = np.zeros_like(w_ih), np.zeros_like(w_hh)
    db_ih, db_hh = (None if b is None else np.zeros_like(b) for b in (b_ih, b_hh))
    dcurrent = tuple(_zeros_or_copy(dstate, (B, H), w_hh.dtype) for dstate in dstates)
    for rows, times, previous, following, kept, multiplied in reversed(steps):
        dfollowing = [dstate[rows] for dstate in dcurrent]
        if dy is not None:
            dfollowing[0] = dfollowing[0] + dy[times, rows]
        if dhidden is not None:
            dhidden[times, rows] = dfollowing[0]
        dx_split, dh_split, dprevious = CELLS[call.cell].backward(kept, previous, following, dfollowing)
        dx_gates, dh_gates = np.concatenate(dx_split, axis=1), np.concatenate(dh_split, axis=1)

        for dstate, value in zip(dcurrent, dprevious, strict=True):
            dstate[rows] = value
        dmultiplied = dh_gates @ w_hh
        dcurrent[0][rows] += dmultiplied if mask is None else dmultiplied * mask[rows]
        dw_hh += dh_gates.T @ multiplied
        if db_hh is not None:
            db_hh += dh_gates.sum(axis=0)

        if tokens:
            np.add.at(dw_ih.T, x[times, rows], dx_gates)  # unlike +=, adds again where a token repeats
        else:
            dw_ih += dx_gates.T @ x[times, rows]
        if dx is not None:
            dx[times, rows] = dx_gates @ w_ih
        if db_ih is not None:
            db_ih += dx_gates.sum(axis=0)
    return Gradients(dx, Parameters(dw_ih, dw_hh, db_ih, db_hh), dcurrent)


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


def _affine(x: Array, w: Array, b: Array | None) -> Array:
    """W x + b for (R, I) floats, or for (R,) tokens, which stand for columns of W."""
    product: Array = x @ w.T if x.ndim == 2 else w.T[x]
    return product if b is None else product + b


def _zeros_or_copy(array: Array | None, shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    return np.zeros(shape, dtype) if array is None else np.array(array)
