"""The checked door to the kernels: one layer, one direction, as plain functions of NumPy arrays.

Every argument is checked here, before any kernel runs, and made the plain array that kernels want; an array
that is one already is not copied, and none is ever written to. Behind the door are two backends with the same
results: "native", the compiled kernels, and "reference", the NumPy specification of `fastrnn.reference`.
`use_backend` and the environment variable ``FASTRNN_BACKEND`` choose between them.

Letters: T time, B batch, I input, H hidden, V vocabulary.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import numpy.typing as npt

from fastrnn import reference
from fastrnn.checks import (
    Array,
    array,
    boolean,
    came,
    float_array,
    int_array,
    one_of,
    require_shape,
    same_dtype,
)
from fastrnn.reference import Gradients

__all__ = [
    "Gradients",
    "Reserve",
    "gru",
    "gru_backward",
    "gru_forward",
    "linear",
    "linear_backward",
    "lstm",
    "lstm_backward",
    "lstm_forward",
    "rnn",
    "rnn_backward",
    "rnn_forward",
    "use_backend",
]

ArrayPair = tuple[npt.ArrayLike | None, npt.ArrayLike | None]

BACKENDS = ("native", "reference")


# -- the backends


@functools.cache
def _module(backend: str) -> ModuleType:
    """The module with the backend's ``forward`` and ``backward``; the native one loads when first needed."""
    if backend == "reference":
        return reference
    try:
        import fastrnn._core as core
    except ModuleNotFoundError as error:
        raise ImportError(
            "the native kernels of fastrnn are not built: run `pip install .` in its source tree, or use the "
            'slower NumPy backend with fastrnn.use_backend("reference") or FASTRNN_BACKEND=reference'
        ) from error
    return core


_backend = one_of("FASTRNN_BACKEND", os.environ.get("FASTRNN_BACKEND") or "native", BACKENDS)


def backend() -> str:
    """The name of the backend in use."""
    return _backend


def kernels() -> ModuleType:
    """The module of the backend in use, for callers that have checked the arguments."""
    return _module(_backend)


def _set_backend(name: str) -> None:
    global _backend
    _backend = name


def use_backend(name: str) -> ExitStack:
    """Choose what computes from now on or, in a ``with`` block, until its end.

    Parameters
    ----------
    name : {"native", "reference"}
        The compiled kernels, or their specification in NumPy.

    Returns
    -------
    context manager
        Its exit restores the backend that was in use before. To make a lasting choice, ignore it.

    Raises
    ------
    ValueError
        If there is no such backend.
    ImportError
        If the native kernels are not built.

    Notes
    -----
    The choice holds for the whole process, all threads. A reserve goes back to the backend that made it.

    Examples
    --------
    >>> with fastrnn.use_backend("reference"):
    ...     y, state_n = fastrnn.lstm(x, w_ih, w_hh)
    """
    _module(one_of("name", name, BACKENDS))
    restore = ExitStack()
    restore.callback(_set_backend, _backend)
    _set_backend(name)
    return restore


# -- one door for all cells


class Reserve:
    """What a forward function leaves for its backward function: opaque, and good for one call.

    It refers to the arrays of floats given to the forward function: do not write to them before the backward
    call.
    """

    __slots__ = ("_backend", "_cell", "_inner", "_y")

    def __init__(self, cell: str, backend: ModuleType, inner: object, y: Array) -> None:
        self._cell = cell
        self._backend = backend
        self._inner = [inner]  # until it is taken
        self._y = y

    def _take(self) -> object:
        """What the backend left, once: in one step, since two threads may want it."""
        try:
            return self._inner.pop()
        except IndexError:
            raise self._used() from None

    def _used(self) -> RuntimeError:
        maker = _maker(self._cell)
        return RuntimeError(f"reserve was used before: each serves one backward call; call {maker} again")

    def __repr__(self) -> str:
        return f"<Reserve of {_maker(self._cell)}, y {self._y.shape} {self._y.dtype}>"


def _maker(cell: str) -> str:
    """The public function that leaves reserves of this cell."""
    return cell.partition("_")[0] + "_forward"


def _checked(
    cell: str,
    x: npt.ArrayLike,
    w_ih: npt.ArrayLike,
    w_hh: npt.ArrayLike,
    b_ih: npt.ArrayLike | None,
    b_hh: npt.ArrayLike | None,
    state: Any,
    lengths: npt.ArrayLike | None,
    reverse: bool,
    training: bool,
    recompute: bool = False,
    packed: dict[str, Any] | None = None,
    mask: Array | None = None,
    all_c: Array | None = None,
) -> tuple[Any, ...]:
    """The arguments of a backend's ``forward``."""
    w_ih, w_hh = _weights(cell, w_ih, w_hh)
    rows, H = w_hh.shape
    x = _input(x, w_ih)
    T, B = x.shape[:2]
    b_ih = _optional("b_ih", b_ih, (rows,))
    b_hh = _optional("b_hh", b_hh, (rows,))
    states = _states("state", state, cell, (B, H))
    if lengths is not None:
        lengths = int_array("lengths", lengths, (B,), 0, T, "0..T")
    reverse = boolean("reverse", reverse)
    recompute = boolean("recompute", recompute)
    tokens = x.ndim == 2
    same_dtype(x=None if tokens else x, w_ih=w_ih, w_hh=w_hh, b_ih=b_ih, b_hh=b_hh, **states)
    members = tuple(states.values())
    options = reverse, training, recompute, packed, mask, all_c
    return cell, x, w_ih, w_hh, b_ih, b_hh, members, lengths, *options


def _forward(cell: str, *arguments: Any) -> tuple[Array, Any, Any]:
    """One direction: arguments as of `_checked`."""
    return run_directions(cell, [arguments])[0]


def run_directions(cell: str, directions: Sequence[tuple[Any, ...]]) -> list[tuple[Array, Any, Any]]:
    """Forward through a layer's directions, which the kernels may take at the same time.

    Parameters
    ----------
    cell : str
        A key of `fastrnn.reference.CELLS`.
    directions : sequence of tuple
        For each x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, training, recompute, and a dict in which
        the kernels keep packed weights, or None; then, if wanted, `mask` and `all_c` of
        `fastrnn.reference.forward`, which are plain arrays of the layer's own.

    Returns
    -------
    list of (y, state_n, reserve)
        The reserve is None if not training.
    """
    calls = [_checked(cell, *arguments) for arguments in directions]
    backend = _module(_backend)
    results = []
    for y, states_n, inner in backend.forward_all(calls):
        reserve = None
        if inner is not None:
            y.flags.writeable = False  # backward will read it
            reserve = Reserve(cell, backend, inner, y)
        results.append((y, _unwrap(states_n), reserve))
    return results


def _backward(
    maker: str, reserve: Reserve, dy: npt.ArrayLike | None, dstate_n: Any, input_gradient: bool
) -> Gradients:
    if not isinstance(reserve, Reserve) or _maker(reserve._cell) != maker:
        raise TypeError(f"reserve must come from {maker}, got {reserve!r}")
    return run_directions_back([(reserve, dy, dstate_n, input_gradient, None)])[0]


def run_directions_back(
    directions: Sequence[tuple[Reserve, Any, Any, bool, Array | None]],
) -> list[Gradients]:
    """Backward through a layer's directions.

    Parameters
    ----------
    directions : sequence of tuple
        For each a reserve, dy, dstate_n, input_gradient, and zeros in the shape of y in which to write the
        whole gradient with respect to every h (what comes from y and what flows back through time), or None.

    Returns
    -------
    list of Gradients
    """
    checked = [_checked_back(*arguments) for arguments in directions]
    reserves = [reserve for reserve, *_ in directions]
    calls = [(reserve._take(), *arguments) for reserve, arguments in zip(reserves, checked, strict=True)]
    backend = reserves[0]._backend
    results = [Gradients(*found) for found in backend.backward_all(calls)]
    return [gradients._replace(state=_unwrap(gradients.state)) for gradients in results]


def _checked_back(
    reserve: Reserve,
    dy: npt.ArrayLike | None,
    dstate_n: Any,
    input_gradient: bool,
    dhidden: Array | None,
) -> tuple[Any, ...]:
    """The arguments of a backend's ``backward``, but for the first."""
    if not reserve._inner:
        raise reserve._used()
    y = reserve._y
    dy = _optional("dy", dy, y.shape)
    dstates = _states("dstate_n", dstate_n, reserve._cell, y.shape[1:])
    same_dtype(y=y, dy=dy, **dstates)
    input_gradient = boolean("input_gradient", input_gradient)
    return dy, tuple(dstates.values()), input_gradient, dhidden


def _weights(cell: str, w_ih: npt.ArrayLike, w_hh: npt.ArrayLike) -> tuple[Array, Array]:
    """w_ih and w_hh, whose sizes are everyone's; H, I and V must not be 0."""
    gates = reference.CELLS[cell].gates
    w_hh = float_array("w_hh", w_hh, (f"{gates}*H", "H"))
    H = w_hh.shape[1]
    rows = gates * H
    require_shape("w_hh", w_hh, (rows, H))
    w_ih = float_array("w_ih", w_ih, (rows, "I"))
    for name, weights in ("w_hh", w_hh), ("w_ih", w_ih):
        if weights.size == 0:
            raise ValueError(f"{name} must not be empty, got shape {weights.shape}")
    return w_ih, w_hh


def _input(x: npt.ArrayLike, w_ih: Array) -> Array:
    """x as floats (T, B, I) or as int64 tokens (T, B), whichever it is."""
    x = array("x", x, "a float array of shape (T, B, I) or an integer array of shape (T, B)")
    columns = w_ih.shape[1]
    if x.dtype.kind in "iu" and x.ndim != 3:
        return int_array("x", x, ("T", "B"), 0, columns - 1, "0..V-1")
    return float_array("x", x, ("T", "B", columns))


def _optional(name: str, value: npt.ArrayLike | None, shape: tuple[int, ...]) -> Array | None:
    return None if value is None else float_array(name, value, shape)


def _states(name: str, value: Any, cell: str, shape: tuple[int, ...]) -> Mapping[str, Array | None]:
    """The cell's states, or their gradients, by the names that errors call them."""
    if reference.CELLS[cell].states == 1:
        return {name: _optional(name, value, shape)}
    if value is None:
        value = (None, None)
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} must be a pair (h, c) of arrays of shape {shape}, got {came(value)}")
    return {f"{name}[{k}]": _optional(f"{name}[{k}]", member, shape) for k, member in enumerate(value)}


def _unwrap(states: tuple[Array, ...]) -> Any:
    """States as users see them: h alone, or the pair (h, c)."""
    return states[0] if len(states) == 1 else states


# -- the functions


def _rnn_cell(nonlinearity: str) -> str:
    return "rnn_" + one_of("nonlinearity", nonlinearity, ("tanh", "relu"))


def rnn(
    x: npt.ArrayLike,
    w_ih: npt.ArrayLike,
    w_hh: npt.ArrayLike,
    b_ih: npt.ArrayLike | None = None,
    b_hh: npt.ArrayLike | None = None,
    state: npt.ArrayLike | None = None,
    *,
    lengths: npt.ArrayLike | None = None,
    reverse: bool = False,
    nonlinearity: str = "tanh",
) -> tuple[Array, Array]:
    """A simple recurrent layer: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh) (Elman 1990).

    Parameters
    ----------
    x : array_like, (T, B, I) float32 or float64, or (T, B) integers
        The input. Integers are tokens, 0 to V-1: each stands for the column of `w_ih` that a one-hot input
        would select.
    w_ih : array_like, (H, I) or (H, V)
        The input's weights. The dtype of all floats is one.
    w_hh : array_like, (H, H)
        The recurrent weights.
    b_ih, b_hh : array_like, (H,), optional
        Biases, each of which may be left out.
    state : array_like, (B, H), optional
        The initial h. Zeros if left out.
    lengths : array_like of integers, (B,), optional
        How many steps of each row are valid, 0 to T, in any order; all T if left out. What `x` holds beyond
        does not matter, except that tokens must be within 0 to V-1 there too.
    reverse : bool, default False
        Run each row from its last valid step to its first.
    nonlinearity : {"tanh", "relu"}, default "tanh"
        What is applied to the sum; "relu" is max(0, ...).

    Returns
    -------
    y : ndarray, (T, B, H)
        h after each step, in the order of `x` also if `reverse`; 0 where a row is padded.
    state_n : ndarray, (B, H)
        h after each row's last valid step; a row of length 0 returns its initial state.

    Raises
    ------
    TypeError
        If an argument is of another dtype, masked or None, or if floats of two dtypes are mixed.
    ValueError
        If an argument has another shape, if H, I or V is 0, or if a token or a length is out of range.
    """
    y, state_n, _ = _forward(
        _rnn_cell(nonlinearity), x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, False
    )
    return y, state_n


def rnn_forward(
    x: npt.ArrayLike,
    w_ih: npt.ArrayLike,
    w_hh: npt.ArrayLike,
    b_ih: npt.ArrayLike | None = None,
    b_hh: npt.ArrayLike | None = None,
    state: npt.ArrayLike | None = None,
    *,
    lengths: npt.ArrayLike | None = None,
    reverse: bool = False,
    nonlinearity: str = "tanh",
    recompute: bool = False,
) -> tuple[Array, Array, Reserve]:
    """The same as `rnn`, and what `rnn_backward` needs.

    Parameters
    ----------
    x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, nonlinearity
        As of `rnn`. Do not write to those of floats before the backward call.
    recompute : bool, default False
        Keep little but `y` and compute the gates again in the backward call: the same bits from a small part
        of the memory, at the price of some time.

    Returns
    -------
    y : ndarray, (T, B, H)
        As of `rnn`, but read-only, because the backward call reads it.
    state_n
        As of `rnn`.
    reserve : Reserve
        For one call of `rnn_backward`.

    Raises
    ------
    TypeError, ValueError
        As of `rnn`.
    """
    return _forward(
        _rnn_cell(nonlinearity), x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, True, recompute
    )


def rnn_backward(
    reserve: Reserve,
    dy: npt.ArrayLike | None = None,
    dstate_n: npt.ArrayLike | None = None,
    *,
    input_gradient: bool = True,
) -> Gradients:
    """Backpropagation through time (Werbos 1990) for `rnn_forward`.

    Parameters
    ----------
    reserve : Reserve
        What `rnn_forward` returned; it serves one call.
    dy : array_like, (T, B, H), optional
        The gradient of a loss with respect to `y`. Zeros if left out. What it holds where a row is padded
        does not matter, `y` being constant there.
    dstate_n : array_like, (B, H), optional
        The gradient of the loss with respect to `state_n`. Zeros if left out.
    input_gradient : bool, default True
        Whether the gradient of `x` is wanted: without it a training step of a first layer is a sixth shorter.

    Returns
    -------
    Gradients
        Those of the loss with respect to `x` (None for tokens, or if not wanted), `w_ih`, `w_hh`, `b_ih` and
        `b_hh` (None where there was none) and the initial state.

    Raises
    ------
    TypeError
        If the reserve is not from `rnn_forward`, or a gradient not of the dtype of `y`.
    ValueError
        If a gradient has another shape than what it is the gradient of.
    RuntimeError
        If the reserve was used before.
    """
    return _backward("rnn_forward", reserve, dy, dstate_n, input_gradient)


def lstm(
    x: npt.ArrayLike,
    w_ih: npt.ArrayLike,
    w_hh: npt.ArrayLike,
    b_ih: npt.ArrayLike | None = None,
    b_hh: npt.ArrayLike | None = None,
    state: ArrayPair | None = None,
    *,
    lengths: npt.ArrayLike | None = None,
    reverse: bool = False,
) -> tuple[Array, tuple[Array, Array]]:
    """A long short-term memory layer (Hochreiter & Schmidhuber 1997; forget gate of Gers et al. 2000).

    ::

        i, f, o = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)     g = tanh(the same)
        c_t     = f c_{t-1} + i g                                    h_t = o tanh(c_t)

    Parameters
    ----------
    x : array_like, (T, B, I) float32 or float64, or (T, B) integers
        The input. Integers are tokens, 0 to V-1: each stands for the column of `w_ih` that a one-hot input
        would select.
    w_ih : array_like, (4*H, I) or (4*H, V)
        The input's weights, gates in the order i f g o. The dtype of all floats is one.
    w_hh : array_like, (4*H, H)
        The recurrent weights.
    b_ih, b_hh : array_like, (4*H,), optional
        Biases, each of which may be left out.
    state : pair of array_like, (B, H), optional
        The initial (h, c). Zeros if left out, and so is either member that is None.
    lengths : array_like of integers, (B,), optional
        How many steps of each row are valid, 0 to T, in any order; all T if left out. What `x` holds beyond
        does not matter, except that tokens must be within 0 to V-1 there too.
    reverse : bool, default False
        Run each row from its last valid step to its first.

    Returns
    -------
    y : ndarray, (T, B, H)
        h after each step, in the order of `x` also if `reverse`; 0 where a row is padded.
    state_n : pair of ndarray, (B, H)
        (h, c) after each row's last valid step; a row of length 0 returns its initial state.

    Raises
    ------
    TypeError
        If an argument is of another dtype, masked or None, or if floats of two dtypes are mixed.
    ValueError
        If an argument has another shape, if H, I or V is 0, or if a token or a length is out of range.
    """
    y, state_n, _ = _forward("lstm", x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, False)
    return y, state_n


def lstm_forward(
    x: npt.ArrayLike,
    w_ih: npt.ArrayLike,
    w_hh: npt.ArrayLike,
    b_ih: npt.ArrayLike | None = None,
    b_hh: npt.ArrayLike | None = None,
    state: ArrayPair | None = None,
    *,
    lengths: npt.ArrayLike | None = None,
    reverse: bool = False,
    recompute: bool = False,
) -> tuple[Array, tuple[Array, Array], Reserve]:
    """The same as `lstm`, and what `lstm_backward` needs.

    Parameters
    ----------
    x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse
        As of `lstm`. Do not write to those of floats before the backward call.
    recompute : bool, default False
        Keep little but `y` and compute the gates again in the backward call: the same bits from a small part
        of the memory, at the price of some time.

    Returns
    -------
    y : ndarray, (T, B, H)
        As of `lstm`, but read-only, because the backward call reads it.
    state_n
        As of `lstm`.
    reserve : Reserve
        For one call of `lstm_backward`.

    Raises
    ------
    TypeError, ValueError
        As of `lstm`.
    """
    return _forward("lstm", x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, True, recompute)


def lstm_backward(
    reserve: Reserve,
    dy: npt.ArrayLike | None = None,
    dstate_n: ArrayPair | None = None,
    *,
    input_gradient: bool = True,
) -> Gradients:
    """Backpropagation through time (Werbos 1990) for `lstm_forward`.

    Parameters
    ----------
    reserve : Reserve
        What `lstm_forward` returned; it serves one call.
    dy : array_like, (T, B, H), optional
        The gradient of a loss with respect to `y`. Zeros if left out. What it holds where a row is padded
        does not matter, `y` being constant there.
    dstate_n : pair of array_like, (B, H), optional
        The gradient of the loss with respect to `state_n`. Zeros if left out, and so is either member that is
        None.
    input_gradient : bool, default True
        Whether the gradient of `x` is wanted: without it a training step of a first layer is a sixth shorter.

    Returns
    -------
    Gradients
        Those of the loss with respect to `x` (None for tokens, or if not wanted), `w_ih`, `w_hh`, `b_ih` and
        `b_hh` (None where there was none) and the initial state, a pair (dh, dc).

    Raises
    ------
    TypeError
        If the reserve is not from `lstm_forward`, or a gradient not of the dtype of `y`.
    ValueError
        If a gradient has another shape than what it is the gradient of.
    RuntimeError
        If the reserve was used before.
    """
    return _backward("lstm_forward", reserve, dy, dstate_n, input_gradient)


def gru(
    x: npt.ArrayLike,
    w_ih: npt.ArrayLike,
    w_hh: npt.ArrayLike,
    b_ih: npt.ArrayLike | None = None,
    b_hh: npt.ArrayLike | None = None,
    state: npt.ArrayLike | None = None,
    *,
    lengths: npt.ArrayLike | None = None,
    reverse: bool = False,
) -> tuple[Array, Array]:
    """A gated recurrent layer (Cho et al. 2014) in cuDNN's form, with the reset gate after the product.

    ::

        r, z = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)
        n    = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn))
        h_t  = (1 - z) n + z h_{t-1}

    Parameters
    ----------
    x : array_like, (T, B, I) float32 or float64, or (T, B) integers
        The input. Integers are tokens, 0 to V-1: each stands for the column of `w_ih` that a one-hot input
        would select.
    w_ih : array_like, (3*H, I) or (3*H, V)
        The input's weights, gates in the order r z n. The dtype of all floats is one.
    w_hh : array_like, (3*H, H)
        The recurrent weights.
    b_ih, b_hh : array_like, (3*H,), optional
        Biases, each of which may be left out; the last third of `b_hh` is b_hn.
    state : array_like, (B, H), optional
        The initial h. Zeros if left out.
    lengths : array_like of integers, (B,), optional
        How many steps of each row are valid, 0 to T, in any order; all T if left out. What `x` holds beyond
        does not matter, except that tokens must be within 0 to V-1 there too.
    reverse : bool, default False
        Run each row from its last valid step to its first.

    Returns
    -------
    y : ndarray, (T, B, H)
        h after each step, in the order of `x` also if `reverse`; 0 where a row is padded.
    state_n : ndarray, (B, H)
        h after each row's last valid step; a row of length 0 returns its initial state.

    Raises
    ------
    TypeError
        If an argument is of another dtype, masked or None, or if floats of two dtypes are mixed.
    ValueError
        If an argument has another shape, if H, I or V is 0, or if a token or a length is out of range.
    """
    y, state_n, _ = _forward("gru", x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, False)
    return y, state_n


def gru_forward(
    x: npt.ArrayLike,
    w_ih: npt.ArrayLike,
    w_hh: npt.ArrayLike,
    b_ih: npt.ArrayLike | None = None,
    b_hh: npt.ArrayLike | None = None,
    state: npt.ArrayLike | None = None,
    *,
    lengths: npt.ArrayLike | None = None,
    reverse: bool = False,
    recompute: bool = False,
) -> tuple[Array, Array, Reserve]:
    """The same as `gru`, and what `gru_backward` needs.

    Parameters
    ----------
    x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse
        As of `gru`. Do not write to those of floats before the backward call.
    recompute : bool, default False
        Keep little but `y` and compute the gates again in the backward call: the same bits from a small part
        of the memory, at the price of some time.

    Returns
    -------
    y : ndarray, (T, B, H)
        As of `gru`, but read-only, because the backward call reads it.
    state_n
        As of `gru`.
    reserve : Reserve
        For one call of `gru_backward`.

    Raises
    ------
    TypeError, ValueError
        As of `gru`.
    """
    return _forward("gru", x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, True, recompute)


def gru_backward(
    reserve: Reserve,
    dy: npt.ArrayLike | None = None,
    dstate_n: npt.ArrayLike | None = None,
    *,
    input_gradient: bool = True,
) -> Gradients:
    """Backpropagation through time (Werbos 1990) for `gru_forward`.

    Parameters
    ----------
    reserve : Reserve
        What `gru_forward` returned; it serves one call.
    dy : array_like, (T, B, H), optional
        The gradient of a loss with respect to `y`. Zeros if left out. What it holds where a row is padded
        does not matter, `y` being constant there.
    dstate_n : array_like, (B, H), optional
        The gradient of the loss with respect to `state_n`. Zeros if left out.
    input_gradient : bool, default True
        Whether the gradient of `x` is wanted: without it a training step of a first layer is a sixth shorter.

    Returns
    -------
    Gradients
        Those of the loss with respect to `x` (None for tokens, or if not wanted), `w_ih`, `w_hh`, `b_ih` and
        `b_hh` (None where there was none) and the initial state.

    Raises
    ------
    TypeError
        If the reserve is not from `gru_forward`, or a gradient not of the dtype of `y`.
    ValueError
        If a gradient has another shape than what it is the gradient of.
    RuntimeError
        If the reserve was used before.
    """
    return _backward("gru_forward", reserve, dy, dstate_n, input_gradient)


# -- the layer without memory


def linear(x: npt.ArrayLike, weight: npt.ArrayLike, bias: npt.ArrayLike | None = None) -> Array:
    """y = x W^T + b on the last axis, on the same threads as the recurrent functions.

    Parameters
    ----------
    x : array_like, (..., I) float32 or float64
        The input. The dtype of all arguments is one.
    weight : array_like, (O, I)
        W.
    bias : array_like, (O,), optional
        b.

    Returns
    -------
    y : ndarray, (..., O)

    Raises
    ------
    TypeError
        If an argument is of another dtype, masked or None, or if two dtypes are mixed.
    ValueError
        If an argument has another shape, or if O or I is 0.
    """
    rows, weight = _linear_arguments(x, weight)
    bias = _optional("bias", bias, weight.shape[:1])
    same_dtype(x=rows, weight=weight, bias=bias)
    y: Array = _module(_backend).linear(rows.reshape(-1, rows.shape[-1]), weight, bias)
    return y.reshape(*rows.shape[:-1], len(weight))


def linear_backward(x: npt.ArrayLike, weight: npt.ArrayLike, dy: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """The gradients of `linear`.

    Parameters
    ----------
    x, weight
        As of `linear`.
    dy : array_like, (..., O)
        The gradient with respect to y.

    Returns
    -------
    dx, dweight, dbias : ndarray, (..., I), (O, I) and (O,)

    Raises
    ------
    TypeError, ValueError
        As of `linear`.
    """
    rows, weight = _linear_arguments(x, weight)
    outputs, inputs = weight.shape
    drows = float_array("dy", dy, (*rows.shape[:-1], outputs))
    same_dtype(x=rows, weight=weight, dy=drows)
    flat = rows.reshape(-1, inputs), weight, drows.reshape(-1, outputs)
    dx, dweight, dbias = _module(_backend).linear_backward(*flat)
    return dx.reshape(rows.shape), dweight, dbias


def _linear_arguments(x: npt.ArrayLike, weight: npt.ArrayLike) -> tuple[Array, Array]:
    weight = float_array("weight", weight, ("O", "I"))
    if weight.size == 0:
        raise ValueError(f"weight must not be empty, got shape {weight.shape}")
    x = array("x", x, f"a float array of shape (..., {weight.shape[1]})")
    return float_array("x", x, (*x.shape[:-1], weight.shape[1])), weight
